"""A bit of a shared word is set by itself: nothing that another does to the same word is lost."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from collections.abc import Callable
from time import monotonic
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory.children import PATIENCE, exit_status, fork_child, in_child
from vmbus.errors import CallerError, DeviceError
from vmbus.memory import AtomicBit, SharedMemory, atomic_words
from vmbus.memory.atomic_words import FUTEX_CALL, futex_call
from vmbus.memory.barrier import machine_name

#: Not found out by trying: where it is known and does not work, these tests are to fail.
WORKS_HERE = sys.platform == "linux" and machine_name() in FUTEX_CALL and sys.maxsize > 2**32

needs_futex = pytest.mark.skipif(not WORKS_HERE, reason="no atomic operation is known for this system")

WORDS = 4

#: An odd number of 32 bits: its multiples differ in all of their bits.
SPREAD = 0x9E37_79B1

#: Words for two processes each: how often one has seen the other's bit change, and whether it has ended.
SEEN, ENDED = 4, 6

#: Changes that each must have seen.  One is seen wherever the other runs in the middle of things: on one processor a
#: time slice, on two a microsecond.
MEETINGS = 30


@needs_futex
@settings(max_examples=60, deadline=None)
@given(
    page=st.binary(min_size=4 * WORDS, max_size=4 * WORDS),
    word=st.integers(0, WORDS - 1),
    bit=st.integers(0, 31),
)
def test_one_bit_is_set_and_cleared_and_every_other_stays(page, word, bit):
    buffer = bytearray(page)
    before = int.from_bytes(page, "little")
    this = 1 << 32 * word + bit
    one = AtomicBit(buffer, 4 * word, bit)
    one.set()
    assert int.from_bytes(buffer, "little") == before | this
    one.clear()
    assert int.from_bytes(buffer, "little") == before & ~this
    one.set()
    one.set()
    assert int.from_bytes(buffer, "little") == before | this


@needs_futex
@pytest.mark.parametrize("operation", ["set", "clear"])
def test_what_another_stores_between_any_two_steps_of_an_operation_stays(operation):
    """Before each step of the interpreter the other 31 bits change: who loads, and stores later, puts old ones back."""
    this = 1 << 5
    word = memoryview(bytearray(4)).cast("I")
    bit = AtomicBit(word.cast("B"), 0, 5)
    stored = word[0] = 0 if operation == "set" else this
    steps = 0

    def before_step(frame: FrameType, event: str, argument: object) -> Callable[..., object]:
        nonlocal stored, steps
        frame.f_trace_opcodes = True
        assert word[0] & ~this == stored & ~this, f"another's bits were lost in {frame.f_code.co_name}()"
        steps += event == "opcode"
        stored = word[0] = steps * SPREAD & 0xFFFF_FFFF & ~this | word[0] & this
        return before_step

    change = getattr(bit, operation)
    traced_before = sys.gettrace()
    # Python 3.12 tells of steps only where one frame had asked for them before settrace().
    sys._getframe().f_trace_opcodes = True
    sys.settrace(before_step)
    try:
        change()
    finally:
        sys.settrace(traced_before)
    assert steps > 3, "nothing was looked at"
    assert word[0] == (stored | this if operation == "set" else stored & ~this)


@needs_futex
def test_what_two_processes_do_to_bits_of_one_word_is_never_lost():
    """Each keeps one bit as it wants it, which the other must not touch while it sets and clears another of its own.

    They go on until each has often seen the other's bit change: only then have they really met.
    """
    with SharedMemory.create(4096) as shared, shared.map() as view, view.cast("I") as words:

        def toggle(number: int) -> None:
            this, others = 1 << number, 1 << 1 - number
            kept, busy = AtomicBit(view, 8, number), AtomicBit(view, 8, 2 + number)
            before = 0
            deadline = monotonic() + PATIENCE / 2
            try:
                while min(words[SEEN], words[SEEN + 1]) < MEETINGS and not words[ENDED + 1 - number]:
                    for change, wanted in ((kept.set, this), (kept.clear, 0)):
                        change()
                        for _ in range(5):
                            busy.set()
                            busy.clear()
                        now = words[2]
                        assert now & this == wanted, f"bit {number} was {'lost' if wanted else 'put back'}"
                        words[SEEN + number] += (now ^ before) & others != 0
                        before = now
                    assert monotonic() < deadline, "the other side stands still: nothing is shown"
                kept.set()
            finally:
                words[ENDED + number] = 1
            kept.release()
            busy.release()

        child = fork_child(lambda: toggle(0))
        try:
            toggle(1)
        finally:
            status = exit_status(child)
        assert status == 0
        assert words[2] == 0b11


def cut_off_mapping() -> mmap.mmap:
    """A mapping whose memory is gone: whoever touches it is ended by a signal."""
    descriptor = os.memfd_create("gone")
    try:
        os.truncate(descriptor, 4096)
        mapping = mmap.mmap(descriptor, 4096)
        os.truncate(descriptor, 0)
        return mapping
    finally:
        os.close(descriptor)


@needs_futex
def test_memory_that_is_gone_is_an_error_and_does_not_end_the_process():
    """The kernel stores, and not this process: which is also what makes it one operation."""

    def change() -> None:
        bit = AtomicBit(cut_off_mapping(), 8, 5)
        for operation in (bit.set, bit.clear):
            with pytest.raises(DeviceError, match="bit 5 of the word at 0x8 cannot be changed") as caught:
                operation()
            assert caught.value.errno == errno.EFAULT

    assert in_child(change) == 0


@needs_futex
def test_a_bit_keeps_its_mapping_open_until_it_is_released():
    mapping = mmap.mmap(-1, 4096)
    bit = AtomicBit(mapping, 0, 0)
    with pytest.raises(BufferError):
        mapping.close()
    bit.set()
    bit.release()
    bit.release()
    mapping.close()
    for operation in (bit.set, bit.clear):
        with pytest.raises(CallerError, match="released"):
            operation()


@needs_futex
def test_a_bit_that_is_dropped_lets_go_of_its_mapping():
    mapping = mmap.mmap(-1, 4096)
    AtomicBit(mapping, 0, 0).set()
    mapping.close()


@needs_futex
def test_a_bit_shows_where_it_is():
    bit = AtomicBit(bytearray(16), 12, 31)
    assert repr(bit) == "<AtomicBit: bit 31 of the word at 0xc>"
    bit.release()
    assert repr(bit) == "<AtomicBit: bit 31 of the word at 0xc, released>"


@needs_futex
@pytest.mark.parametrize(
    ("offset", "bit", "argument"),
    [
        (-4, 0, "offset"),
        (2, 0, "offset"),
        (16, 0, "offset"),
        (14, 0, "offset"),
        (0, -1, "bit"),
        (0, 32, "bit"),
    ],
)
def test_a_bit_that_is_not_in_the_buffer_is_refused(offset, bit, argument):
    with pytest.raises(CallerError) as caught:
        AtomicBit(bytearray(16), offset, bit)
    assert caught.value.argument == argument
    assert str(caught.value.value) in str(caught.value) or hex(offset) in str(caught.value)


@needs_futex
def test_a_word_across_two_addresses_is_refused():
    with pytest.raises(CallerError, match="multiple of 4"):
        AtomicBit(memoryview(bytearray(16))[1:], 0, 0)


@needs_futex
def test_bytes_that_can_only_be_read_are_refused():
    with pytest.raises(CallerError, match="can only be read"):
        AtomicBit(bytes(8), 0, 0)


def test_a_machine_without_a_known_operation_is_refused_when_the_bit_is_made(monkeypatch):
    monkeypatch.setattr(atomic_words, "machine_name", lambda: "mips64")
    monkeypatch.setattr(atomic_words, "futex_call", futex_call.__wrapped__)
    with pytest.raises(DeviceError, match=f"{sys.platform} on mips64 .* x86_64, aarch64"):
        AtomicBit(bytearray(8), 0, 0)


@needs_futex
def test_a_system_that_forbids_the_call_is_refused_when_the_bit_is_made(monkeypatch):
    monkeypatch.setattr(atomic_words, "FUTEX_CALL", dict.fromkeys(atomic_words.FUTEX_CALL, 99_999))
    monkeypatch.setattr(atomic_words, "futex_call", futex_call.__wrapped__)
    with pytest.raises(DeviceError, match="does not work here") as caught:
        AtomicBit(bytearray(8), 0, 0)
    assert caught.value.errno == errno.ENOSYS
