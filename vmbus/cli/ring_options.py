"""The options that say where a ring lies in a dump, for commands that look at rings.

add_ring_options(parser)     adds them, in a group of their own
asks_for_ring(arguments)     whether any of them was given
rings_of(arguments, dump)    the rings that they describe, in a dump: a Report
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace

from vmbus.errors import DumpError
from vmbus.inspection import Dump, RawDump, Report, Selection, inspect_dump
from vmbus.sizes import PAGE_SIZE, check_data_size, check_header_size

from .output import UsageError, checked, number
from .progress import Progress

__all__ = ["MOST_PAGES_OF_A_RING", "add_ring_options", "asks_for_ring", "page_list", "rings_of"]

#: A file that lists pages is no longer than this.
LARGEST_LIST = 16 << 20

#: A ring has fewer pages than this.
MOST_PAGES_OF_A_RING = 1 << 19


def add_ring_options(parser: ArgumentParser) -> None:
    where = parser.add_argument_group("where the ring is")
    place = where.add_mutually_exclusive_group()
    place.add_argument(
        "--offset", type=number, metavar="N", help="of its control page in a raw file, in bytes"
    )
    place.add_argument(
        "--address",
        type=number,
        metavar="N",
        help="of its control page in the guest's memory, on a page boundary",
    )
    place.add_argument(
        "--pages",
        type=page_list,
        metavar="LIST",
        help="addresses of its control page and of all data pages in order, as 0x5000,0x8000*4 (4 pages from "
        "0x8000 on), or @FILE with such a list",
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
    where.add_argument(
        "--map",
        metavar="FILE",
        help="where the parts of a raw file belong in memory: a copy of /proc/iomem, or lines of address, length "
        "and offset, such as `0x1000 0x9f000 0x0`",
    )


def asks_for_ring(arguments: Namespace) -> bool:
    """Whether the command line says where a ring is."""
    given = (arguments.offset, arguments.address, arguments.data_size, arguments.pages)
    return arguments.header_size != PAGE_SIZE or any(value is not None for value in given)


def rings_of(arguments: Namespace, dump: Dump, selection: Selection | None = None) -> Report:
    """The rings that the command line describes; DumpError when there is none."""
    if arguments.pages is not None and arguments.data_size is not None:
        raise UsageError("--pages says how much data there is; leave out --data-size")
    with Progress(f"{dump.path}: ") as progress:
        return inspect_dump(
            dump,
            address=address_of(arguments, dump),
            header_size=arguments.header_size,
            data_size=arguments.data_size,
            pages=arguments.pages,
            selection=selection,
            progress=progress.show,
        )


def address_of(arguments: Namespace, dump: Dump) -> int | None:
    """Where the caller says that a ring is, or None."""
    address: int | None = arguments.offset if arguments.address is None else arguments.address
    if arguments.offset is not None and not isinstance(dump, RawDump):
        raise UsageError(
            f"--offset is for raw files, and {dump.path} is not one ({dump.format}): --address says where in the "
            "guest's memory a ring is"
        )
    if arguments.address is not None and arguments.address % PAGE_SIZE:
        below = arguments.address // PAGE_SIZE * PAGE_SIZE
        raise DumpError(
            f"no ring at {arguments.address:#x}: a ring starts on a {PAGE_SIZE}-byte boundary "
            f"({below:#x} is the one below)",
            path=dump.path,
            place=arguments.address,
        )
    if address is not None and isinstance(dump, RawDump) and address >= dump.size:
        raise DumpError(
            f"has {dump.size} bytes, and no ring can be at {address:#x}", path=dump.path, place=address
        )
    return address


def page_list(text: str) -> tuple[int, ...]:
    """The addresses of pages, from a list on the command line or in a file.

    >>> [hex(page) for page in page_list("0x5000,0x8000*2")]
    ['0x5000', '0x8000', '0x9000']
    """
    if text.startswith("@"):
        try:
            with open(text[1:], "rb") as file:
                data = file.read(LARGEST_LIST + 1)
        except (OSError, ValueError) as error:
            raise ArgumentTypeError(f"{text[1:]}: {getattr(error, 'strerror', None) or error}") from error
        if len(data) > LARGEST_LIST or not data.isascii():
            raise ArgumentTypeError(
                f"{text[1:]} is no list of pages: that is text, of {LARGEST_LIST} bytes at most"
            )
        text = data.decode("ascii")
    pages: list[int] = []
    for item in text.replace(",", " ").split():
        first, _, count = item.partition("*")
        start, times = number(first), number(count or "1")
        if start % PAGE_SIZE:
            raise ArgumentTypeError(f"{first} is no page: pages begin on multiples of {PAGE_SIZE}")
        if len(pages) + times > MOST_PAGES_OF_A_RING:
            raise ArgumentTypeError(f"a ring has fewer than {MOST_PAGES_OF_A_RING} pages")
        pages += range(start, start + times * PAGE_SIZE, PAGE_SIZE)
    if len(pages) < 2:
        raise ArgumentTypeError("a ring has a control page and at least one data page")
    return tuple(pages)
