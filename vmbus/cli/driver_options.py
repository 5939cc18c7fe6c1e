"""What `vmbus bind` and `vmbus unbind` share: their options, and what is checked before anything is changed."""

from __future__ import annotations

import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable
from typing import TypeVar

from vmbus.errors import CallerError
from vmbus.uio import GuestDevice, System, find_device

from .output import UsageError, print_lines, report
from .output_file import signals_as_exits

__all__ = [
    "add_driver_options",
    "check_rights",
    "device_of",
    "label_of",
    "print_plan",
    "seconds",
    "undisturbed",
]

Result = TypeVar("Result")

#: Nobody waits longer for a node.
MOST_SECONDS = 3600.0


def add_driver_options(parser: ArgumentParser, *, force_help: str) -> None:
    parser.add_argument(
        "device",
        metavar="DEVICE",
        help="its instance, relid, uio node, class, driver, network interface or disk; `vmbus devices` lists them",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be written, as lines of shell; change nothing (what is refused without --force is "
        "refused here too)",
    )
    parser.add_argument("--force", action="store_true", help=force_help)
    parser.add_argument(
        "--root",
        default="/",
        metavar="DIR",
        help="with --dry-run: look at a copy of another machine's /sys and /proc, such as a support archive "
        "(default /)",
    )


def seconds(text: str) -> float:
    """A time to wait."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= MOST_SECONDS:
        raise ArgumentTypeError(f"{text}: seconds, from 0 to {MOST_SECONDS:.0f}")
    return found


def device_of(arguments: Namespace, system: System) -> GuestDevice:
    """The device that is meant.

    Raises UsageError for a copy in which something is to be changed, and where no device is named.
    """
    if not arguments.device.strip():
        raise UsageError("DEVICE is empty: which device? (`vmbus devices` lists them)")
    if not arguments.dry_run and not system.is_this_machine:
        raise UsageError(f"--root {arguments.root} is a copy, whose drivers nobody can change; add --dry-run")
    return find_device(arguments.device, system)


def label_of(device: GuestDevice) -> str:
    return f"{device.name} {device.instance_id}"


def check_rights(what: str) -> None:
    """Raise CallerError for those who are not root."""
    geteuid = getattr(os, "geteuid", None)
    if geteuid is not None and geteuid() != 0:
        raise CallerError(
            f"{what} needs the rights of root: try `sudo vmbus {what} ...` (--dry-run needs none)",
            argument="user",
            value=geteuid(),
            limit=0,
        )


def print_plan(steps: Iterable[object], *, otherwise: str) -> None:
    """Lines of shell: the steps, or `otherwise` as a comment where there is nothing to do."""
    print_lines([str(step) for step in steps] or [f"# {otherwise}"])


def undisturbed(change: Callable[[], Result]) -> Result:
    """Have drivers changed; whatever ends the program then has all of it put back first, and says so."""
    try:
        with signals_as_exits():
            return change()
    except (KeyboardInterrupt, SystemExit) as end:
        if end.args and isinstance(end.args[0], str):
            report(f"interrupted; {end.args[0]}")
        raise
