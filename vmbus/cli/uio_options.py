"""The options that name a live device of a Linux guest in place of a dump, for commands that look at rings.

add_uio_options(parser)      adds them, in a group of their own
asks_for_uio(arguments)      whether a device is named
check_uio_usage(arguments)   refuses what contradicts it, and what goes with nothing else

What looks at devices is in uio_input, which is imported when one is named.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from .output import UsageError, number
from .ring_options import asks_for_ring

__all__ = ["add_uio_options", "asks_for_uio", "check_uio_usage"]

#: Options that are nothing without --uio.
ONLY_WITH_UIO = ("channel", "open", "root", "save")


def add_uio_options(parser: ArgumentParser, *, with_save: bool = False) -> None:
    live = parser.add_argument_group("the rings of a live device, on a Linux guest")
    live.add_argument(
        "--uio",
        metavar="N",
        help="in place of a FILE: the device at /dev/uioN, by this number, its instance or its kind, such as "
        "file-copy; its rings are copied, and nothing is stored in them",
    )
    live.add_argument("--channel", type=number, metavar="RELID", help="one of its subchannels")
    live.add_argument(
        "--open",
        action="store_true",
        help="also a device that nobody has open: that opens its channel, and zeroes both control pages",
    )
    live.add_argument(
        "--root",
        metavar="DIR",
        help="look at a copy of another machine's /sys, /proc and /dev (default /)",
    )
    if with_save:
        live.add_argument(
            "--save", metavar="OUT", help="also write the copy to OUT, a raw file of both rings"
        )


def asks_for_uio(arguments: Namespace) -> bool:
    """Whether the command line names a device."""
    return arguments.uio is not None


def check_uio_usage(arguments: Namespace, files: list[str]) -> None:
    """Raise UsageError for options that contradict --uio, and for those that go with nothing else.

    files   the dumps that the command line names
    """
    if not asks_for_uio(arguments):
        for name in ONLY_WITH_UIO:
            if getattr(arguments, name, None) not in (None, False):
                raise UsageError(f"--{name} goes with --uio N, the device that is meant")
        return
    if not arguments.uio.strip():
        raise UsageError("--uio is followed by nothing: which device? (`vmbus devices` lists them)")
    if arguments.sample or files:
        raise UsageError(
            f"--uio {arguments.uio} is what is looked at; leave out {'--sample' if arguments.sample else files[0]}"
        )
    if asks_for_ring(arguments) or arguments.map is not None:
        raise UsageError(
            "--uio knows where the rings are and how long; leave out --offset, --address, --pages, --data-size, "
            "--header-size and --map"
        )
