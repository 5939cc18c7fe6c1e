"""The control words that mean something, by the short names that this part has for them.

Source: Linux include/linux/hyperv.h, struct hv_ring_buffer.
"""

from __future__ import annotations

from vmbus.layout import FEATURE_BITS_WORD, IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD

__all__ = ["WORDS", "WORD_NAMES"]

#: The number of each word.
WORDS = {
    "in": IN_WORD,
    "out": OUT_WORD,
    "mask": INTERRUPT_MASK_WORD,
    "pending": PENDING_SEND_SIZE_WORD,
    "features": FEATURE_BITS_WORD,
}

#: The name of each.
WORD_NAMES = {word: name for name, word in WORDS.items()}
