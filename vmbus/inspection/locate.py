"""Which rings a dump holds.  Of a raw file: one, a pair, or none; of a memory image those that a scan finds.

A file that nobody has said anything about is one ring when it looks like one.  A second ring in it
is believed only where everything agrees: then both are shown, the first as outbound (a channel's
memory begins with the ring from guest to host).

Sources: Linux drivers/hv/channel.c lays out both rings of a channel one behind the other; Linux
drivers/hv/ring_buffer.c writes feature bits 1 into both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vmbus.errors import CallerError, DumpError
from vmbus.images import Dump, Finding, RawDump, Severity, dump_over
from vmbus.layout import CONTROL_PAGE, ControlPage, FeatureBits
from vmbus.memory import AddressSpace
from vmbus.ring import inspect_ring, is_offset
from vmbus.sizes import MAXIMUM_DATA_SIZE, PAGE_SIZE, check_data_size, check_header_size

from .ring_in_dump import check_pages, memory_of
from .ring_place import RingPlace
from .walk import walk
from .zeros import is_zero

__all__ = ["find_rings"]

#: So many suspects are walked before a file counts as one ring: each may cost a walk of it all.
MOST_SUSPECTS = 16

#: So many packets of a suspected pair are walked: 2 MiB of the smallest ones, twice.
MOST_WALKED = 175_000


def find_rings(
    dump: Dump | AddressSpace,
    *,
    address: int | None = None,
    header_size: int = PAGE_SIZE,
    data_size: int | None = None,
    pages: Sequence[int] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> list[RingPlace]:
    """The ring, or the two rings of a channel, in a raw dump; every ring that is found in a memory image.

    address      of the control page; None where the dump should begin with it
    header_size  bytes from there to the data area
    data_size    bytes of the data area; None where the dump's end says it, or in an image the packets do
    pages        addresses of the control page and of all data pages, where they lie anywhere
    progress     told, while an image is looked through, how many bytes of how many are done

    A raw file that does not look like a ring is looked through for rings, as an image is; and so is one for the
    ring at `address`, of which it then need not be all the rest.

    Raises DumpError with what speaks against a ring; CallerError for an address outside the dump and for sizes
    no ring can have.

    >>> find_rings(RawDump("zeros", memoryview(bytes(8192))), address=0)[0].data_size
    4096
    """
    check_header_size(header_size)
    dump = dump_over(dump)
    if pages is not None:
        listed = check_pages(pages, dump.path)
        return [RingPlace(listed[0], PAGE_SIZE, (len(listed) - 1) * PAGE_SIZE, pages=listed)]
    if not isinstance(dump, RawDump):
        from .image_places import places_in_image  # slow to import, and most dumps are raw

        return places_in_image(
            dump, address=address, header_size=header_size, data_size=data_size, progress=progress
        )
    start = address or 0
    if start < 0 or start >= dump.size:
        raise CallerError(
            f"{start:#x} is not inside a file of {dump.size} bytes",
            argument="address",
            value=start,
            limit=dump.size,
        )
    if data_size is not None:
        return [ring_at(dump, start, header_size, check_data_size(data_size))]
    try:
        places = rings_in(dump, start, header_size, said=address is not None)
    except DumpError:
        found = rings_somewhere(dump, address, progress)
        if not found or (address is None and found[0].address == 0):
            raise  # a ring of which the file has a part, perhaps, and no memory
        return found
    if address is None and not is_blank(dump, places[0]):
        return places
    found = rings_somewhere(dump, address, progress)
    return found if found and found[0].data_size != places[0].data_size else places


def rings_somewhere(
    dump: RawDump, address: int | None, progress: Callable[[int, int], object] | None
) -> list[RingPlace]:
    """The rings that a scan finds in a raw file, or the one at an address where it knows its size."""
    from .image_places import rings_in_memory  # slow to import, and most files are a ring

    return rings_in_memory(dump, address, progress)


def is_blank(dump: RawDump, place: RingPlace) -> bool:
    """Whether a control page has nothing but zeros, as the first page of memory often has."""
    return is_zero(dump.read(place.address, CONTROL_PAGE.size))


def ring_at(dump: RawDump, address: int, header_size: int, data_size: int) -> RingPlace:
    """The ring that the caller says is there; DumpError when the dump ends before it does."""
    place = RingPlace(address, header_size, data_size)
    if place.end > dump.size:
        raise DumpError(
            f"a ring of {data_size} bytes at {address:#x} ends at {place.end:#x}, and the file has "
            f"{dump.size} bytes{advice(dump.size - address - header_size)}",
            path=dump.path,
            place=dump.size,
        )
    return place


def rings_in(dump: RawDump, address: int, header_size: int, *, said: bool) -> list[RingPlace]:
    """The ring or the pair that fills the dump from `address` on.

    said   whether the caller says that there is a ring: then any control words and all zeros do

    Raises DumpError with what speaks against a ring.
    """
    data_size = dump.size - address - header_size
    left_over = data_size % PAGE_SIZE
    if data_size < PAGE_SIZE or data_size > MAXIMUM_DATA_SIZE or (left_over and not said):
        raise DumpError(
            f"the {dump.size - address} bytes from {address:#x} on are no ring: it is a control page of "
            f"{header_size} bytes and then a multiple of {PAGE_SIZE}, up to {MAXIMUM_DATA_SIZE}{advice(data_size)}",
            path=dump.path,
            place=address,
        )
    place = RingPlace(address, header_size, data_size - left_over)
    if left_over:
        place = place._replace(findings=(size_assumed(place, left_over),), data_size_known=False)
    if not said:
        check_looks_like_a_ring(dump, place)
    return with_second_ring(dump, place)


def size_assumed(place: RingPlace, left_over: int) -> Finding:
    message = (
        f"{left_over} bytes are left over behind the {place.data_size} bytes of whole pages that are taken "
        "for the data area; --data-size says how large it is"
    )
    return Finding("size-assumed", Severity.NOTE, None, message)


def advice(data_size: int) -> str:
    """What to say to the reader of a dump whose size fits no ring."""
    whole = min(data_size // PAGE_SIZE * PAGE_SIZE, MAXIMUM_DATA_SIZE)
    return f"; --data-size {whole} takes what would fit" if whole > 0 else ""


def check_looks_like_a_ring(dump: RawDump, place: RingPlace) -> None:
    """Raise DumpError when a file that nobody vouches for shows no ring at its start."""
    wrong = control_words_wrong(control_page(dump, place.address), place.data_size)
    if wrong is None and all(is_zero(piece) for _, piece in dump.pieces(place.address)):
        wrong = "all bytes are zero"
    if wrong is not None:
        raise DumpError(
            f"no ring at {place.address:#x}: {wrong}; --offset {place.address:#x} shows it as one all the same",
            path=dump.path,
            place=place.address,
        )


def control_page(dump: RawDump, address: int) -> ControlPage:
    return inspect_ring(dump.read(address, CONTROL_PAGE.size))


def control_words_wrong(control: ControlPage, data_size: int) -> str | None:
    """What keeps control words from being those of a ring of `data_size` bytes, or None."""
    for name, value in (("in", control.in_offset), ("out", control.out_offset)):
        if not is_offset(data_size, value):
            return f"{name} is {value:#x}, which is no multiple of 8 below {data_size:#x}"
    if control.interrupt_mask > 1:
        return f"the interrupt mask is {control.interrupt_mask:#x}, and only 0 and 1 are written there"
    return None


def with_second_ring(dump: RawDump, first: RingPlace) -> list[RingPlace]:
    """The pair of which `first` is the start, or `first` alone."""
    suspects = list(second_control_pages(dump, first))
    for address in suspects:
        outbound = RingPlace(first.address, first.header_size, size_before(first, address), "outbound")
        inbound = first._replace(
            address=address, data_size=first.end - address - first.header_size, role="inbound"
        )
        if ends_at_in(dump, outbound) and ends_at_in(dump, inbound):
            return [outbound._replace(pair=inbound.address), inbound._replace(pair=outbound.address)]
    if suspects:
        findings = (*first.findings, maybe_a_pair(first, suspects[0]))
        return [first._replace(findings=findings, data_size_known=False)]
    return [first]


def size_before(first: RingPlace, address: int) -> int:
    """Bytes of data of a ring that ends where another one begins."""
    return address - first.address - first.header_size


def maybe_a_pair(first: RingPlace, address: int) -> Finding:
    message = (
        f"the page at {address:#x} looks like the control page of a second ring, but indices and packets "
        f"do not bear it out; --data-size {size_before(first, address)} shows the first ring alone, "
        f"--offset {address:#x} the second"
    )
    return Finding("maybe-a-pair", Severity.NOTE, None, message)


def second_control_pages(dump: RawDump, first: RingPlace) -> Iterator[int]:
    """Addresses behind the first ring's control page where a page has the shape of another.

    The middle comes first: the two rings of a channel are mostly of one size.
    """
    low = first.address + first.header_size + PAGE_SIZE
    high = first.end - first.header_size - PAGE_SIZE
    middle = (first.address + first.end) // 2
    addresses = [at for at in range(low, high + 1, PAGE_SIZE) if has_control_shape(dump, at, first)]
    yield from sorted(addresses, key=lambda at: at != middle)[:MOST_SUSPECTS]


def has_control_shape(dump: RawDump, address: int, first: RingPlace) -> bool:
    """True when a page behind a first ring could be the control page of a second.

    Where the feature word is set the indices may be wrong: a broken ring is worth a note.
    """
    control = control_page(dump, address)
    if control.other_words or control.feature_bits > FeatureBits.SUPPORTS_PENDING_SEND_SIZE:
        return False
    if not control.feature_bits and (
        control.in_offset == control.out_offset == 0
        or control_words_wrong(control, first.end - address - first.header_size) is not None
    ):
        return False
    return is_zero(dump.read(address + CONTROL_PAGE.size, PAGE_SIZE - CONTROL_PAGE.size))


def ends_at_in(dump: RawDump, place: RingPlace) -> bool:
    """True when indices and packets of a ring fit its size, packet after packet up to in.

    Gives up where more packets wait than a ring of a channel holds: each suspect is walked.
    """
    control = control_page(dump, place.address)
    if control_words_wrong(control, place.data_size) is not None:
        return False
    packets = walk(memory_of(dump, place), control.out_offset, control.in_offset)
    return all(packet.whole and count < MOST_WALKED for count, packet in enumerate(packets))
