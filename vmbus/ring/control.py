"""What a bare control page says, without a ring over it.

Sources: OpenVMM vmbus_ring/src/lib.rs, inspect_ring(), reader_needs_signal() and
writer_needs_signal().
"""

from __future__ import annotations

from vmbus.errors import CallerError
from vmbus.layout import OUT_WORD, ControlPage, control_page_of
from vmbus.memory import Buffer, ControlWords, control_words, view_bytes
from vmbus.sizes import CONTROL_SIZE, CONTROL_WORD_COUNT

from .offsets import free_bytes, is_offset
from .signaling import reader_is_owed_a_signal, writer_is_owed_a_signal

__all__ = ["inspect_ring", "load_control", "reader_needs_signal", "writer_needs_signal"]


#: All words but out, which is loaded first.
OTHER_WORDS = [word for word in range(CONTROL_WORD_COUNT) if word != OUT_WORD]


def load_control(words: ControlWords) -> ControlPage:
    """The control words of a memory, each loaded once and whole, also while the ring is in use.

    out is loaded before in: both may move meanwhile, and a stale out with a fresh in shows packets
    that were read already, where a stale in with a fresh out would show a ring that is nearly full.

    >>> load_control(memoryview(bytes([64]) + bytes(127)).cast("I")).in_offset
    64
    """
    loaded = {word: words[word] for word in (OUT_WORD, *OTHER_WORDS)}
    return control_page_of([loaded[word] for word in range(CONTROL_WORD_COUNT)])


def inspect_ring(control_page: Buffer) -> ControlPage:
    """The control words in any buffer that begins with them; nothing is judged.

    Raises CallerError when the buffer is shorter than the 128 bytes of control words.

    >>> inspect_ring(bytes([64, 0, 0, 0]) + bytes(124)).in_offset
    64
    """
    page = view_bytes(control_page, "control_page")
    if len(page) < CONTROL_SIZE:
        raise CallerError(
            f"a control page has at least {CONTROL_SIZE} bytes, not {len(page)}",
            argument="control_page",
            value=len(page),
            limit=CONTROL_SIZE,
        )
    return load_control(control_words(page))


def reader_needs_signal(control_page: Buffer) -> bool:
    """True when the receiving end might wait for a signal: packets are there, interrupts are on."""
    page = inspect_ring(control_page)
    return reader_is_owed_a_signal(
        interrupt_mask=page.interrupt_mask, in_offset=page.in_offset, out_offset=page.out_offset
    )


def writer_needs_signal(control_page: Buffer, ring_size: int) -> bool:
    """True when the sending end might wait for a signal: there is the room it asked for.

    ring_size   bytes of the data area

    False where an index is out of range: how much is free is then unknown.
    """
    page = inspect_ring(control_page)
    if not (is_offset(ring_size, page.in_offset) and is_offset(ring_size, page.out_offset)):
        return False
    free = free_bytes(ring_size, page.in_offset, page.out_offset)
    return writer_is_owed_a_signal(pending_send_size=page.pending_send_size, free=free)
