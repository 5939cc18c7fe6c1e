"""A bit of a shared word is set by itself: nothing that another does to the same word is lost."""

from __future__ import annotations

import errno
import mmap
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.memory.children import exit_status, fork_child, in_child
from vmbus.errors import CallerError, DeviceError
from vmbus.memory import AtomicBit, SharedMemory, atomic_words
from vmbus.memory.atomic_words import FUTEX_CALL, futex_call
from vmbus.memory.barrier import machine_name

#: Not found out by trying: where it is known and does not work, these tests are to fail.
WORKS_HERE = sys.platform == "linux" and machine_name() in FUTEX_CALL and sys.maxsize > 2**32

needs_futex = pytest.mark.skipif(not WORKS_HERE, reason="no atomic operation is known for this system")

WORDS = 4
ROUNDS = 20_000


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
def test_what_two_processes_do_to_bits_of_one_word_is_never_lost():
    """Each sets and clears a bit of its own, and looks every time whether the other has put it back."""
    with SharedMemory.create(4096) as shared, shared.map() as view, view.cast("I") as words:

        def toggle(number: int) -> None:
            this = 1 << number
            words[4 + number] = 1
            bit = AtomicBit(view, 8, number)
            while not (words[4] and words[5]):
                pass  # until the other is there too
            for _ in range(ROUNDS):
                bit.set()
                assert words[2] & this, f"bit {number} was lost"
                bit.clear()
                assert not words[2] & this, f"bit {number} came back"
            bit.set()
            bit.release()

        child = fork_child(lambda: toggle(0))
        try:
            toggle(1)
        finally:
            assert exit_status(child) == 0
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
