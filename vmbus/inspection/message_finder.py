"""Messages about channels that lie somewhere in memory.

Copies of them stay where they were made: in the slabs of a Linux guest, in the pages through which host
and guest pass them, in tables of the host.  Four types tell where rings are: offers, open channel
messages, GPADL headers and GPADL bodies.  They start at multiples of 8 bytes; an offer also halfway
between two, for Linux keeps each channel's offer behind two pointers and two 32-bit numbers.

Any memory has numbers that look like a type.  A message is believed only when all its fields agree with
each other and with what guests and hosts write; a body, which has few fields, is often still a chance
find: it means something only together with a header of the same GPADL.

The work is bounded for each page, however its bytes were chosen: of the places in it that pass a first
look, MOST_PLACES_A_PAGE are looked at closely, and it is counted where there were more.

Sources: Linux drivers/hv/channel.c, create_gpadl_header() and __vmbus_open(), and
include/linux/hyperv.h, struct vmbus_channel and struct vmbus_channel_msginfo; OpenVMM
vmbus_server/src/channels.rs for the rules that a host holds guests to; QEMU hw/hyperv/vmbus.c.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vmbus.errors import PeerError
from vmbus.layout import GPA_RANGE, PAGE_NUMBER_SIZE, page_count, unpack_words
from vmbus.protocols import (
    HEADER_PAGES,
    LARGEST_MESSAGE,
    LARGEST_RELID,
    GpadlBody,
    GpadlHeader,
    MessageType,
    Offer,
    OfferFlags,
    OpenChannel,
    device_class,
    parse_gpadl_body,
    parse_gpadl_header,
    parse_offer,
    parse_open_channel,
)
from vmbus.sizes import PAGE_SIZE

from .message_places import LARGEST_BODY_NUMBER, LARGEST_PAGE, WORD, message_places

__all__ = ["MOST_PLACES_A_PAGE", "FoundMessage", "MessageFinder", "message_at"]

#: So many places of a page are looked at closely; the fullest real page has 17 messages.
MOST_PLACES_A_PAGE = 32

#: Processors that a channel's interrupts may go to, and the number for none.
LARGEST_PROCESSOR = 2**16
NO_PROCESSOR = 2**32 - 1

#: The rings of a channel have less than this many pages: a GPADL with one range lists no more.
MOST_PAGES_OF_A_GPADL = 8190

KNOWN_FLAGS = sum(OfferFlags)

Message = Offer | OpenChannel | GpadlHeader | GpadlBody


class FoundMessage(NamedTuple):
    """A message, and where it starts.

    address   of its first byte
    message   its fixed fields
    rest      of a GPADL header the ranges that follow, of a body all bytes that may belong to it
    """

    address: int
    message: Message
    rest: bytes = b""


class MessageFinder:
    """Finds messages in memory that is fed to it piece after piece, by ascending addresses.

    A message may lie in two pieces that follow each other: the end of a piece is kept until the next
    one comes, and what starts there is reported then.  `finish` reports what starts at the very end.
    No message is reported twice.

    pages_cut     pages of which not all was looked at, for they have too many lookalikes
    first_cut     the address of the first of them, or None

    >>> from vmbus.protocols import OPEN_CHANNEL
    >>> opening = OPEN_CHANNEL.pack(OpenChannel(5, 0, 3, 3, 0xE1E10, 0, 4, bytes(120)))
    >>> finder = MessageFinder()
    >>> finder.feed(0x1000, opening[:100]), finder.feed(0x1064, opening[100:])
    ([], [])
    >>> hex(finder.finish()[0].address)
    '0x1000'
    """

    def __init__(self) -> None:
        self.pages_cut = 0
        self.first_cut: int | None = None
        self._kept = b""  # its address is a multiple of 8
        self._end = 0
        self._last_page = -1
        self._last_count = 0

    def feed(self, address: int, piece: bytes | memoryview) -> list[FoundMessage]:
        """What starts before the last bytes of this piece and was not reported yet."""
        found = self.finish() if address != self._end else []
        data = b"".join((self._kept, piece))
        self._end = address + len(piece)
        start = self._end - len(data)
        skipped = -start % WORD
        if skipped:
            start, data = start + skipped, data[skipped:]
        # Up to here, whatever starts is here with all the bytes a message may have.
        whole = max(0, len(data) - LARGEST_MESSAGE + WORD) & -WORD
        if whole:
            found += self._found(start, data, whole)
        self._kept = data[whole:]
        return found

    def finish(self) -> list[FoundMessage]:
        """What starts in the last bytes; then the finder can be fed from any address on."""
        data, self._kept = self._kept, b""
        return self._found(self._end - len(data), data, len(data)) if data else []

    def _found(self, start: int, data: bytes, end: int) -> list[FoundMessage]:
        """What starts in data[:end], which starts at address `start`, a multiple of 8."""
        found = []
        for place in self._few(start, message_places(data, end)):
            message = message_at(start + place, data[place : place + LARGEST_MESSAGE])
            if message is not None:
                found.append(message)
        return found

    def _few(self, start: int, suspects: list[int]) -> Iterator[int]:
        """The places, but of each page only the first ones."""
        for place in suspects:
            page = (start + place) // PAGE_SIZE
            if page != self._last_page:
                self._last_page, self._last_count = page, 0
            self._last_count += 1
            if self._last_count <= MOST_PLACES_A_PAGE:
                yield place
            elif self._last_count == MOST_PLACES_A_PAGE + 1:
                self.pages_cut += 1
                if self.first_cut is None:
                    self.first_cut = page * PAGE_SIZE


def message_at(address: int, data: bytes) -> FoundMessage | None:
    """The message that starts with `data`, or None where there is none worth believing.

    data   up to 240 bytes; fewer where memory ends, and then a message may be too long for it
    """
    try:
        if data[0] == MessageType.OFFER:
            offer = parse_offer(data)
            return FoundMessage(address, offer) if is_offer(offer) else None
        if data[0] == MessageType.OPEN_CHANNEL:
            opening = parse_open_channel(data)
            return FoundMessage(address, opening) if is_opening(opening) else None
        if data[0] == MessageType.GPADL_HEADER:
            header, ranges = parse_gpadl_header(data)
            return FoundMessage(address, header, ranges) if is_gpadl_header(header, ranges) else None
        body, rest = parse_gpadl_body(data)
        pages = page_numbers(body, rest)
        return FoundMessage(address, body, pages) if pages else None
    except PeerError:
        return None


def is_offer(offer: Offer) -> bool:
    """Whether a host may have written this offer."""
    class_id = offer.class_id
    return (
        offer.padding == 0
        and 0 < offer.relid <= LARGEST_RELID
        and not offer.flags & ~KNOWN_FLAGS
        and offer.monitor_allocated <= 1
        and offer.dedicated_interrupt <= 1
        and any(offer.instance_bytes)
        and ((class_id.is_usual and class_id.version == 4) or device_class(class_id) is not None)
    )


def is_opening(opening: OpenChannel) -> bool:
    """Whether a guest may have written this open channel message."""
    return (
        opening.padding == 0
        and 0 < opening.relid <= LARGEST_RELID
        and opening.ring_gpadl != 0
        and (opening.target_vp < LARGEST_PROCESSOR or opening.target_vp == NO_PROCESSOR)
        # Before the second ring there is a control page and at least a page of data.
        and 2 <= opening.downstream_page_offset < MOST_PAGES_OF_A_GPADL
        # Small numbers in a row look like the rest of it: one thing more must be as drivers have it.
        and (opening.open_id == opening.relid or not any(opening.user_data))
    )


def is_gpadl_header(header: GpadlHeader, ranges: bytes) -> bool:
    """Whether a guest may have written this GPADL header: its lengths agree, its pages may be there."""
    if header.padding or not 0 < header.relid <= LARGEST_RELID or not header.gpadl:
        return False
    pages_size = header.range_buflen - header.range_count * GPA_RANGE.size
    if not header.range_count or pages_size < header.range_count * PAGE_NUMBER_SIZE or pages_size % 8:
        return False
    if len(ranges) < GPA_RANGE.size + PAGE_NUMBER_SIZE:
        return False
    first = GPA_RANGE.unpack(ranges)
    if first.byte_offset >= PAGE_SIZE or not first.byte_count:
        return False
    pages = page_count(first.byte_offset, first.byte_count)
    listed = pages_size // PAGE_NUMBER_SIZE
    if pages > listed - (header.range_count - 1):
        return False
    # One range has all the pages, and is of whole pages; whoever writes several is not so plain.
    if header.range_count == 1 and (first.byte_offset or first.byte_count != listed * PAGE_SIZE):
        return False
    in_message = min(pages, HEADER_PAGES)
    numbers = unpack_words(ranges[GPA_RANGE.size :])[:in_message]
    return len(numbers) == in_message and all(0 < number < LARGEST_PAGE for number in numbers)


def page_numbers(body: GpadlBody, rest: bytes) -> bytes:
    """The page numbers at the start of a body, up to the first that can be none; b"" where none is."""
    if body.padding or not body.gpadl or body.message_number > LARGEST_BODY_NUMBER:
        return b""
    count = 0
    for number in unpack_words(rest):
        if not 0 < number < LARGEST_PAGE:
            break
        count += 1
    return rest[: count * PAGE_NUMBER_SIZE]
