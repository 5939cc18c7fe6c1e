"""The control page in front of every ring.

Two parties write it: the sender owns `in`, the pending send size and the feature bits; the
receiver owns `out` and the interrupt mask.  Only the first 128 bytes have, or may get, a meaning.

Sources: Linux include/linux/hyperv.h, struct hv_ring_buffer; OpenVMM vmbus_ring/src/lib.rs,
Control; Microsoft mu_msvm MsvmPkg VmbusPacketFormat.h (asserts the feature word at byte 64).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from struct import Struct as Struct32
from typing import NamedTuple

from construct import Bytes, Int32ul, Struct

from vmbus.sizes import CONTROL_SIZE, CONTROL_WORD_COUNT

from .codec import EnumField, FixedCodec

__all__ = [
    "CONTROL_PAGE",
    "CONTROL_PAGE_SCHEMA",
    "FEATURE_BITS_WORD",
    "INTERRUPT_MASK_WORD",
    "IN_WORD",
    "OUT_WORD",
    "PENDING_SEND_SIZE_WORD",
    "ControlPage",
    "FeatureBits",
    "control_page_of",
]


class FeatureBits(IntFlag):
    """What the sender of a ring promises."""

    SUPPORTS_PENDING_SEND_SIZE = 1


CONTROL_PAGE_SCHEMA = Struct(
    "in_offset" / Int32ul,  # u32 write_index: where the next packet will start
    "out_offset" / Int32ul,  # u32 read_index: where the next unread packet starts
    "interrupt_mask" / Int32ul,  # u32 interrupt_mask: nonzero, do not signal new packets
    "pending_send_size" / Int32ul,  # u32 pending_send_sz: bytes the sender waits for, 0 when it does not
    "reserved" / Bytes(48),  # u32 reserved1[12]
    "feature_bits" / EnumField(Int32ul, FeatureBits),  # u32 feature_bits
    "reserved_after_features" / Bytes(60),
)


class ControlPage(NamedTuple):
    """The control words as they were at one moment; offsets and sizes in bytes."""

    in_offset: int
    out_offset: int
    interrupt_mask: int
    pending_send_size: int
    reserved: bytes
    feature_bits: int
    reserved_after_features: bytes

    @property
    def other_words(self) -> dict[int, int]:
        """The words without a name that are not zero, by their number."""
        words = {}
        for name in ("reserved", "reserved_after_features"):
            data: bytes = getattr(self, name)
            first = CONTROL_PAGE.offsets[name] // 4
            for word in range(len(data) // 4):
                value = int.from_bytes(data[4 * word : 4 * word + 4], "little")
                if value:
                    words[first + word] = value
        return words


CONTROL_PAGE = FixedCodec(CONTROL_PAGE_SCHEMA, ControlPage)
assert CONTROL_PAGE.size == CONTROL_SIZE

_WORDS = Struct32(f"<{CONTROL_WORD_COUNT}I")


def control_page_of(words: Sequence[int]) -> ControlPage:
    """The control page whose 32 words were loaded one by one.

    >>> control_page_of([64] + 31 * [0]).in_offset
    64
    """
    return CONTROL_PAGE.unpack(_WORDS.pack(*words))


#: Which of a ring memory's control words is which.
IN_WORD = CONTROL_PAGE.offsets["in_offset"] // 4
OUT_WORD = CONTROL_PAGE.offsets["out_offset"] // 4
INTERRUPT_MASK_WORD = CONTROL_PAGE.offsets["interrupt_mask"] // 4
PENDING_SEND_SIZE_WORD = CONTROL_PAGE.offsets["pending_send_size"] // 4
FEATURE_BITS_WORD = CONTROL_PAGE.offsets["feature_bits"] // 4
