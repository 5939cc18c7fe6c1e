"""Zeros are told from bytes of which one is none, wherever that one is, a piece at a time."""

from __future__ import annotations

import pytest

from vmbus.inspection import zeros
from vmbus.inspection.zeros import is_zero, reads_zero


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(zeros, "ZEROS", bytes(16))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 32, 40])
def test_bytes_are_zero_when_each_of_them_is(size):
    assert is_zero(bytes(size))
    assert is_zero(memoryview(bytearray(size)))
    for at in range(size):
        data = bytes(at) + b"\x80" + bytes(size - at - 1)
        assert not is_zero(data)
        assert not is_zero(memoryview(data))
        assert is_zero(memoryview(data)[:at])


def test_each_piece_is_read_once_up_to_the_first_that_is_not_zero():
    pieces = []

    def read_at(at, length):
        pieces.append((at, length))
        return bytes(length) if at < 32 else b"\1" * length

    assert not reads_zero(read_at, 100)
    assert pieces == [(0, 16), (16, 16), (32, 16)]
    pieces.clear()
    assert reads_zero(read_at, 24)
    assert pieces == [(0, 16), (16, 8)]
