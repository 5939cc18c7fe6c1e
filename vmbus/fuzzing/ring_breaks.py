"""Ways to break a ring, each by one rule alone, and what a strict reader must then say.

`BREAKS` has them by name.  A break takes any image that is right, and a number that chooses among the ways it can be
done: which packet, by how much.  Where the image has no packet that can be broken so, one is put at its end.

The packets before the broken one are still right, and a strict reader delivers them first.  Not here:
kinds of RingFault that stand for the caller's mistakes, and the interrupt mask that somebody sets while a
ring is in use, which no image can show.

Sources: OpenVMM vmbus_ring/src/lib.rs, parse_packet() and validate(), and gparange.rs; the rule of the
footer is our own: Linux and OpenVMM step over one that was not published.
"""

from __future__ import annotations

from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

from vmbus.errors import CallerError
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.ring import GpaRangeFault, RingFault
from vmbus.sizes import PAGE_SIZE, SLOT

from .break_changes import (
    GPA_DIRECT,
    HALF,
    TRANSFER_PAGES,
    WORD,
    Change,
    Picks,
    data_offsets_behind,
    gpa_with_a_range_missing,
    gpa_with_too_few_pages,
    gpa_without_ranges,
    has_header,
    is_more_than_the_least,
    is_short,
    is_transfer,
    lengths_beyond,
    lengths_too_short,
    lists_gpa_ranges,
    numbered,
    of_gpa_range,
    of_packet,
    of_word,
    transfer_ranges_beyond,
)
from .ring_images import Broken, RingImage

__all__ = ["BREAKS", "RingBreak"]

#: Types that have a name and are not carried by rings, and some without a name.
UNCARRIED = (*range(6), 8, 10, 12, 13, 14, 16, 0x106, HALF)


class RingBreak(NamedTuple):
    """One way to break a ring.

    sentence   what is wrong then
    fault      the `kind` of the PeerError that a strict reader raises
    change     makes of an image, and choices, the broken one and the number of packets before

    >>> from vmbus.fuzzing import PacketImage
    >>> broken = BREAKS["type-unknown"].apply(RingImage(waiting=2 * (PacketImage.in_band(),)), choice=1)
    >>> broken.waiting[1].type, len(broken.packets()), broken.fault
    (0, 1, <RingFault.INVALID_DESCRIPTOR_TYPE: 'descriptor-type'>)
    """

    name: str
    sentence: str
    fault: Enum
    change: Change

    def apply(self, image: RingImage, choice: int = 0) -> RingImage:
        """The image broken in this way.

        choice   which of the ways; any number from 0 on

        Raises CallerError for an image that is broken already.
        """
        if image.broken is not None or choice < 0:
            raise CallerError(
                f"an image is broken once, by a choice from 0 on: this one is {image.broken}, the choice {choice}",
                argument="image",
                value=image.broken,
                limit="an image that is right",
            )
        changed, before = self.change(image, Picks(choice))
        return changed.changed(broken=Broken(self.name, self.fault, before))


POINTER = RingFault.INVALID_RING_POINTER
LENGTHS = RingFault.INVALID_DESCRIPTOR_LENGTHS

LISTED = (
    RingBreak(
        "in-at-end",
        "in is the data's size, or a little more",
        POINTER,
        of_word(
            IN_WORD, lambda image: (image.data_size, image.data_size + SLOT, image.data_size + PAGE_SIZE)
        ),
    ),
    RingBreak(
        "in-misaligned",
        "in is no multiple of 8",
        POINTER,
        of_word(IN_WORD, lambda image: [image.in_offset + low for low in (4, 1, 2, 7)]),
    ),
    RingBreak(
        "in-negative",
        "in would be negative if it had a sign",
        POINTER,
        of_word(IN_WORD, lambda image: (WORD - 7, 1 << 31, WORD)),
    ),
    RingBreak(
        "out-at-end",
        "out is the data's size, or a little more",
        POINTER,
        of_word(
            OUT_WORD, lambda image: (image.data_size, image.data_size + SLOT, image.data_size + PAGE_SIZE)
        ),
    ),
    RingBreak(
        "out-misaligned",
        "out is no multiple of 8",
        POINTER,
        of_word(OUT_WORD, lambda image: [image.out_offset + low for low in (4, 1, 2, 7)]),
    ),
    RingBreak(
        "out-negative",
        "out would be negative if it had a sign",
        POINTER,
        of_word(OUT_WORD, lambda image: (WORD - 7, 1 << 31, WORD)),
    ),
    RingBreak(
        "too-little-published",
        "in is 8 or 16 bytes behind a packet's start, and no packet is so short",
        RingFault.INVALID_DATA_AVAILABLE,
        of_packet(lambda victim, picks: victim.published_up_to(picks.one_of((8, 16)))),
    ),
    RingBreak(
        "length-too-short",
        "a packet's length ends before its payload begins",
        LENGTHS,
        of_packet(numbered("length8", lengths_too_short)),
    ),
    RingBreak(
        "length-beyond-in",
        "a packet's length goes beyond what is published",
        LENGTHS,
        of_packet(numbered("length8", lengths_beyond), is_short),
    ),
    RingBreak(
        "length-takes-the-footer",
        "a packet's length ends at in, so that no footer is published",
        RingFault.FOOTER_NOT_PUBLISHED,
        of_packet(numbered("length8", lambda victim: (victim.available8,)), is_short),
    ),
    RingBreak(
        "footer-not-published",
        "in is where a packet's footer starts",
        RingFault.FOOTER_NOT_PUBLISHED,
        of_packet(lambda victim, picks: victim.published_up_to(victim.packet.length), is_more_than_the_least),
    ),
    RingBreak(
        "payload-in-descriptor",
        "a packet's payload begins within its descriptor",
        LENGTHS,
        of_packet(numbered("data_offset8", lambda victim: (1, 0))),
    ),
    RingBreak(
        "payload-in-header",
        "a packet's payload begins where its header with ranges must be",
        LENGTHS,
        of_packet(numbered("data_offset8", lambda victim: (2,)), has_header, TRANSFER_PAGES),
    ),
    RingBreak(
        "payload-behind-end",
        "a packet's payload begins behind its end",
        LENGTHS,
        of_packet(
            numbered("data_offset8", data_offsets_behind), lambda victim: victim.packet.length // SLOT < HALF
        ),
    ),
    RingBreak(
        "flags-unknown",
        "a packet has a flag that nobody knows",
        RingFault.INVALID_DESCRIPTOR_FLAGS,
        of_packet(
            numbered("flags", lambda victim: [victim.packet.flags | 1 << bit for bit in (1, 2, 8, 15)])
        ),
    ),
    RingBreak(
        "type-unknown",
        "a packet has a type that rings do not carry",
        RingFault.INVALID_DESCRIPTOR_TYPE,
        of_packet(numbered("type", lambda victim: UNCARRIED)),
    ),
    RingBreak(
        "gpa-no-ranges",
        "a GPA-direct packet lists no ranges",
        RingFault.INVALID_DESCRIPTOR_GPA_DIRECT_RANGE_COUNT,
        of_packet(gpa_without_ranges, lists_gpa_ranges, GPA_DIRECT),
    ),
    RingBreak(
        "gpa-range-missing",
        "a GPA-direct packet lists more ranges than it has",
        GpaRangeFault.EMPTY_RANGE,
        of_packet(gpa_with_a_range_missing, lists_gpa_ranges, GPA_DIRECT),
    ),
    RingBreak(
        "gpa-range-empty",
        "a GPA range has no bytes",
        GpaRangeFault.EMPTY_BYTE_COUNT,
        of_gpa_range(lambda count, offset: ((0, offset),)),
    ),
    RingBreak(
        "gpa-range-offset",
        "a GPA range starts behind its first page",
        GpaRangeFault.OFFSET_TOO_LARGE,
        of_gpa_range(lambda count, offset: ((count, PAGE_SIZE), (count, PAGE_SIZE + offset), (count, WORD))),
    ),
    RingBreak(
        "gpa-range-overflow",
        "a GPA range is so long that its end has more than 32 bits",
        GpaRangeFault.OVERFLOW,
        of_gpa_range(lambda count, offset: ((WORD, offset), (WORD - PAGE_SIZE + 2, offset))),
    ),
    RingBreak(
        "gpa-range-too-few-pages",
        "a GPA range lists fewer pages than its bytes need",
        GpaRangeFault.RANGE_TOO_SMALL,
        of_packet(gpa_with_too_few_pages, lists_gpa_ranges, GPA_DIRECT),
    ),
    RingBreak(
        "transfer-page-range-missing",
        "a transfer-page packet lists more ranges than it has",
        RingFault.INVALID_TRANSFER_PAGE_RANGE_COUNT,
        of_packet(transfer_ranges_beyond, is_transfer, TRANSFER_PAGES),
    ),
)

#: Every break by its name.
BREAKS = MappingProxyType({one.name: one for one in LISTED})
