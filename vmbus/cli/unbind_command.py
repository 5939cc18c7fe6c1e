"""Take a VMBus device back from uio_hv_generic, and give it to the driver that knows it.

Without --driver the bus looks for one, as it does with a new device; so a device without a driver gets one too.
What another driver has stays there.  A device that a program holds open is refused, as that program would lose its
rings; --force takes it all the same.

It needs the rights of root, but for --dry-run, and takes one device at a time.

When a step fails, or Ctrl-C comes, everything is put back as it was.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vmbus.uio import NO_DRIVER, GuestDevice, System, refuse_open, unbind, unbind_plan

from .driver_options import (
    add_driver_options,
    check_rights,
    device_of,
    label_of,
    print_plan,
    undisturbed,
)
from .option_names import options_named
from .output import print_lines

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  sudo vmbus unbind uio0
  sudo vmbus unbind file-copy --driver none        and leave it without a driver
  vmbus unbind uio0 --driver hv_netvsc --dry-run   what would be written

exit status: 0 done, or it was not bound to uio_hv_generic; 2 could not be done, as where uio_hv_generic would take
it again: then all is as it was before, or the message says what is not.
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
    with options_named(force="--force"):
        if steps and not arguments.force:
            refuse_open(device)
        if arguments.dry_run:
            print_plan(steps, otherwise=nothing_to_do(device))
            return 0
        if not steps:
            print_lines([nothing_to_do(device)])
            return 0
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
    print_lines([f"{label_of(device)}: {now or 'no driver'} has it now"])
    return 0


def nothing_to_do(device: GuestDevice) -> str:
    return f"{label_of(device)}: {device.driver or 'no driver'} has it: there is nothing to take back"
