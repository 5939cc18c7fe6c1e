"""Take a VMBus device back from uio_hv_generic, and give it to the driver that knows it.

Without --driver the bus looks for one, as it does with a new device.  A device that a program holds open is
refused, unless forced: that program would lose its rings.

When a step fails, or Ctrl-C comes, everything is put back as it was.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vmbus.errors import CallerError
from vmbus.uio import NO_DRIVER, UIO_DRIVER, GuestDevice, System, refuse_open, unbind, unbind_plan

from .driver_options import (
    add_driver_options,
    check_rights,
    device_of,
    label_of,
    print_plan,
    undisturbed,
)
from .output import print_lines

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  sudo vmbus unbind uio0
  sudo vmbus unbind file-copy --driver none        and leave it without a driver
  vmbus unbind uio0 --driver hv_netvsc --dry-run   what would be written

exit status: 0 done, or it was not bound to uio_hv_generic; 1 done, and uio_hv_generic has taken it again, as it
knows its class; 2 could not be done: then all is as it was before, or the message says what is not.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_driver_options(parser, force_help="even a device that a program holds open: its rings are gone then")
    parser.add_argument(
        "--driver",
        metavar="NAME",
        help=f"who gets it, such as hv_netvsc; {NO_DRIVER}: nobody (by default whoever knows its class)",
    )
    parser.add_argument(
        "--remove-id",
        action="store_true",
        help="also have uio_hv_generic leave the device's class, where it was told to take it (kernels without "
        "driver_override need that)",
    )


def execute(arguments: Namespace) -> int:
    """Give it back, or print how."""
    system = System(arguments.root)
    device = device_of(arguments, system)
    steps = unbind_plan(device, system, driver=arguments.driver, remove_id=arguments.remove_id)
    if arguments.dry_run:
        notes = [] if arguments.force else refusals(device)
        print_plan(steps, otherwise=nothing_to_do(device), notes=notes)
        return 0
    if not steps:
        print_lines([nothing_to_do(device)])
        return 0
    if not arguments.force:
        refuse_open(device)
    check_rights("unbind")
    now = undisturbed(
        lambda: unbind(
            device,
            system,
            driver=arguments.driver,
            remove_id=arguments.remove_id,
            force=arguments.force,
        )
    )
    print_lines([outcome(device, now)])
    return 1 if now == UIO_DRIVER else 0


def refusals(device: GuestDevice) -> list[str]:
    """Why it would be refused without --force."""
    try:
        refuse_open(device)
    except CallerError as error:
        return [str(error)]
    return []


def nothing_to_do(device: GuestDevice) -> str:
    return f"{label_of(device)}: {device.driver or 'no driver'} has it: there is nothing to take back"


def outcome(device: GuestDevice, now: str | None) -> str:
    if now == UIO_DRIVER:
        return (
            f"{label_of(device)}: uio_hv_generic has taken it again, as it knows its class: --driver names another "
            f"driver or {NO_DRIVER}, --remove-id has it forget the class"
        )
    return f"{label_of(device)}: {now or 'no driver'} has it now"
