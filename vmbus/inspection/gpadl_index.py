"""Which pages the rings of a channel are on, put together from messages found in memory.

    offer            says which device a channel, by its relid, belongs to
    open channel     says which GPADL holds the channel's two rings, and at which page the second begins
    GPADL header     lists the first 26 pages, and says how many there are
    GPADL bodies     list the others, 28 each

Memory keeps messages of long ago beside those of today, and of some nothing is left.  What cannot be
known is left out, and what speaks against a result stands in its doubts: nothing is guessed.  How bodies
find their places is in join_page_list.py.

Memory full of lookalikes cannot make this grow without bound: of everything only so much is kept, and
`left_out` counts the rest.

Sources: Linux drivers/hv/channel.c, create_gpadl_header() and __vmbus_open(); OpenVMM
vmbus_ring/src/gpadl_ring.rs for where the second ring starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from vmbus.layout import PAGE_NUMBER_SIZE, Guid
from vmbus.protocols import GpadlBody, GpadlHeader, Offer, OpenChannel

from .join_page_list import BODY_PAGES, Pages, joined
from .message_finder import FoundMessage

__all__ = ["ChannelRings", "PageList", "RingPages", "channel_rings"]

#: What is kept: different offers and openings of a relid, headers of a GPADL, bodies of a GPADL.
MOST_OF_A_KIND = 4
MOST_BODIES_OF_A_GPADL = 512

#: And in all: a relid has 11 bits, GPADL numbers have 32.
MOST_HEADERS_IN_ALL = 16_384
MOST_BODIES_IN_ALL = 32_768

Key = TypeVar("Key")
Value = TypeVar("Value")


class PageList(NamedTuple):
    """The pages of a GPADL.

    relid, gpadl   the channel it was made for, and its number
    pages          page numbers (an address divided by 4096) in their order; None where one is not known
    doubts         what speaks against it, one sentence each
    address        of the header message
    """

    relid: int
    gpadl: int
    pages: Pages
    doubts: tuple[str, ...]
    address: int


class ChannelRings(NamedTuple):
    """The two rings of a channel.

    relid               the channel
    class_id            of its device, and
    instance_id         which one it is; None where that is not known
    outbound_pages      page numbers of the ring from guest to host, the control page first; none where
                        one of them is not known
    inbound_pages       the same of the ring from host to guest
    doubts              what speaks against this, one sentence each
    gpadl               the GPADL that holds both; None where it is not known
    subchannel_index    0 for the first channel of a device; None where not known
    control_pages       page numbers of the two control pages, as far as they are known
    """

    relid: int
    class_id: Guid | None
    instance_id: Guid | None
    outbound_pages: tuple[int, ...]
    inbound_pages: tuple[int, ...]
    doubts: tuple[str, ...]
    gpadl: int | None = None
    subchannel_index: int | None = None
    control_pages: tuple[int | None, int | None] = (None, None)


def channel_rings(messages: Iterable[FoundMessage]) -> list[ChannelRings]:
    """The rings of every channel that these messages tell of, by ascending relid."""
    return list(RingPages(messages).channels())


class RingPages:
    """Gathers messages, and puts them together.

    left_out   messages that were not kept because there were too many
    """

    def __init__(self, messages: Iterable[FoundMessage] = ()) -> None:
        self.left_out = 0
        self._offers: dict[int, dict[tuple[bytes, bytes, int], Offer]] = {}
        self._openings: dict[int, dict[tuple[int, int], OpenChannel]] = {}
        self._headers: dict[tuple[int, int], dict[bytes, FoundMessage]] = {}
        self._bodies: dict[int, dict[tuple[int, bytes], None]] = {}
        self._header_count = self._body_count = 0
        self.add(messages)

    def add(self, messages: Iterable[FoundMessage]) -> None:
        """Take more messages, in any order; the same again changes nothing."""
        for found in messages:
            message = found.message
            if isinstance(message, Offer):
                device = (message.class_bytes, message.instance_bytes, message.subchannel_index)
                self._keep(self._offers.setdefault(message.relid, {}), device, message)
            elif isinstance(message, OpenChannel):
                rings = (message.ring_gpadl, message.downstream_page_offset)
                self._keep(self._openings.setdefault(message.relid, {}), rings, message)
            elif isinstance(message, GpadlHeader):
                self._add_header(message, found)
            else:
                self._add_body(message, found.rest)

    def _keep(self, kept: dict[Key, Value], key: Key, value: Value) -> bool:
        """Whether this is the first of its kind and there was room."""
        if key in kept:
            return False
        if len(kept) >= MOST_OF_A_KIND:
            self.left_out += 1
            return False
        kept[key] = value
        return True

    def _add_header(self, header: GpadlHeader, found: FoundMessage) -> None:
        if header.range_count != 1:
            return  # of no ring
        if self._header_count >= MOST_HEADERS_IN_ALL:
            self.left_out += 1
            return
        kept = self._headers.setdefault((header.relid, header.gpadl), {})
        if self._keep(kept, found.rest, found):
            self._header_count += 1

    def _add_body(self, body: GpadlBody, pages: bytes) -> None:
        kept = self._bodies.get(body.gpadl, {})
        key = (body.message_number, pages[: BODY_PAGES * PAGE_NUMBER_SIZE])
        if key in kept:
            return
        if self._body_count >= MOST_BODIES_IN_ALL or len(kept) >= MOST_BODIES_OF_A_GPADL:
            self.left_out += 1
            return
        self._bodies.setdefault(body.gpadl, kept)[key] = None
        self._body_count += 1

    # -- what they say together --------------------------------------------------------------------

    def channels(self) -> Iterator[ChannelRings]:
        """The rings of every channel that an open channel message is left of, by ascending relid.

        A channel that was opened in several ways comes several times, with a doubt each time.
        """
        for relid in sorted(self._openings):
            openings = [self._openings[relid][key] for key in sorted(self._openings[relid])]
            for opening in openings:
                doubts: tuple[str, ...] = ()
                if len(openings) > 1:
                    doubts = (f"relid {relid} was opened in {len(openings)} ways, this is one of them",)
                yield from self._rings(opening, doubts)

    def _rings(self, opening: OpenChannel, doubts: tuple[str, ...]) -> Iterator[ChannelRings]:
        relid, gpadl, offset = opening.relid, opening.ring_gpadl, opening.downstream_page_offset
        class_id, instance_id, subchannel, unsure = self._device(relid)
        bare = ChannelRings(
            relid, class_id, instance_id, (), (), doubts + unsure, gpadl=gpadl, subchannel_index=subchannel
        )
        lists = list(self.page_lists(relid, gpadl))
        if not lists:
            yield doubted(bare, f"no header of GPADL {gpadl:#x} was found: the pages are not known")
        for one in lists:
            rings = bare._replace(doubts=bare.doubts + one.doubts)
            if offset > len(one.pages) - 2:
                yield doubted(rings, f"the second ring would start at page {offset} of {len(one.pages)}")
            else:
                yield rings._replace(
                    outbound_pages=all_known(one.pages[:offset]),
                    inbound_pages=all_known(one.pages[offset:]),
                    control_pages=(one.pages[0], one.pages[offset]),
                )

    def _device(self, relid: int) -> tuple[Guid | None, Guid | None, int | None, tuple[str, ...]]:
        """Class, instance and subchannel of a channel, as far as its offers agree."""
        offers = list(self._offers.get(relid, {}).values())
        if not offers:
            return None, None, None, (f"no offer of relid {relid} was found: the device is not known",)
        doubts: tuple[str, ...] = ()
        if len(offers) > 1:
            doubts = (f"{len(offers)} devices were offered as relid {relid}",)
        class_id = only({offer.class_id for offer in offers})
        instance_id = only({offer.instance_id for offer in offers})
        return class_id, instance_id, only({offer.subchannel_index for offer in offers}), doubts

    def page_lists(self, relid: int, gpadl: int) -> Iterator[PageList]:
        """The pages of a GPADL with one range, as each of its headers has them."""
        headers = self._headers.get((relid, gpadl), {})
        for ranges, found in headers.items():
            pages, doubts = joined(ranges, self._bodies.get(gpadl, {}))
            if len(headers) > 1:
                doubts += (f"{len(headers)} different headers of GPADL {gpadl:#x} were found",)
            known = [page for page in pages if page is not None]
            if len(set(known)) < len(known):
                doubts += (f"a page is listed twice in GPADL {gpadl:#x}",)
            yield PageList(relid, gpadl, pages, doubts, found.address)


def doubted(rings: ChannelRings, doubt: str) -> ChannelRings:
    return rings._replace(doubts=(*rings.doubts, doubt))


def all_known(pages: Pages) -> tuple[int, ...]:
    """The pages, or none where one of them is not known."""
    known = tuple(page for page in pages if page is not None)
    return known if len(known) == len(pages) else ()


def only(values: set[Value]) -> Value | None:
    """The one value, or None where they differ."""
    return next(iter(values)) if len(values) == 1 else None
