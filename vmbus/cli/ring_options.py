"""The options that say where a ring lies in a dump, for commands that look at rings.

add_ring_options(parser)     adds them, in a group of their own
asks_for_ring(arguments)     whether any of them was given
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from vmbus.sizes import PAGE_SIZE, check_data_size, check_header_size

from .output import checked, number

__all__ = ["add_ring_options", "asks_for_ring"]


def add_ring_options(parser: ArgumentParser) -> None:
    where = parser.add_argument_group("where the ring is")
    place = where.add_mutually_exclusive_group()
    place.add_argument("--offset", type=number, metavar="N", help="of its control page in the file, in bytes")
    place.add_argument(
        "--address",
        type=number,
        metavar="N",
        help="the same as a guest-physical address, on a page boundary",
    )
    where.add_argument(
        "--data-size",
        type=checked(check_data_size),
        metavar="N",
        help="bytes of data behind the control page",
    )
    where.add_argument(
        "--header-size",
        type=checked(check_header_size),
        metavar="N",
        default=PAGE_SIZE,
        help="bytes from the control page to the data: 4K, 16K or 64K (default 4K)",
    )


def asks_for_ring(arguments: Namespace) -> bool:
    """Whether the command line says where a ring is."""
    given = (arguments.offset, arguments.address, arguments.data_size)
    return arguments.header_size != PAGE_SIZE or any(value is not None for value in given)
