"""Give a VMBus device to uio_hv_generic, so that programs can open it as /dev/uioN.

Its own driver loses it: a network card is then no interface any more, and a disk no disk.  So a device that
holds a mounted file system or active swap, or carries the default route, is refused; so is one of which that
cannot be told.  --force takes it all the same.

It needs the rights of root, but for --dry-run, and takes one device at a time.

When a step fails, or Ctrl-C comes, everything is put back as it was.  It does not last over a reboot;
`vmbus unbind DEVICE` gives the device back before.  Hyper-V sockets need none of this: they are AF_VSOCK.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vmbus.uio import PATIENCE, AddId, GuestDevice, Step, System, bind, bind_plan, refuse_in_use

from .driver_options import (
    add_driver_options,
    check_rights,
    device_of,
    label_of,
    print_plan,
    seconds,
    undisturbed,
)
from .option_names import options_named
from .output import print_lines

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  sudo vmbus bind file-copy
  vmbus bind network --dry-run                     what would be written
  sudo vmbus bind 5620e0c7-8062-4dce-aeb7-520c7ef76171 --timeout 20
  vmbus bind 14 --dry-run --root sosreport-guest7  what would be written on another machine

exit status: 0 done, or uio_hv_generic had it already; 2 could not be done: then all is as it was before, or the
message says what is not.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    add_driver_options(parser, force_help="even a device that the system needs: what stands on it fails")
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=PATIENCE,
        metavar="SECONDS",
        help=f"how long to wait for the node of the device (default {PATIENCE:.0f})",
    )


def execute(arguments: Namespace) -> int:
    """Bind it, or print how."""
    system = System(arguments.root)
    device = device_of(arguments, system)
    steps = bind_plan(device, system, timeout=arguments.timeout)
    with options_named(force="--force"):
        if steps and not arguments.force:
            refuse_in_use(device, system)
        if arguments.dry_run:
            print_plan(steps, otherwise=f"{label_of(device)}: uio_hv_generic has it already")
            return 0
        if steps:
            check_rights("bind")
        uio = undisturbed(lambda: bind(device, system, force=arguments.force, timeout=arguments.timeout))
    print_lines(outcome(device, uio, steps))
    return 0


def outcome(device: GuestDevice, uio: str, steps: list[Step]) -> list[str]:
    if not steps:
        return [f"{label_of(device)}: uio_hv_generic has it already, as /dev/{uio}"]
    before = "no driver had it" if device.driver is None else f"{device.driver} had it before"
    lines = [f"{label_of(device)}: uio_hv_generic has it, as /dev/{uio}; {before}"]
    if any(isinstance(step, AddId) for step in steps):
        lines.append(
            f"this kernel has no driver_override: uio_hv_generic now takes every new device of class "
            f"{device.class_id}, until `vmbus unbind {device.instance_id} --remove-id`"
        )
    return lines
