"""Whether many bytes are nothing but zeros."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["is_zero", "reads_zero"]

#: What is compared at a time: the bytes may be many, and each piece is copied.
ZEROS = bytes(1 << 20)


def is_zero(data: bytes | memoryview) -> bool:
    """True when the bytes are all zero.

    >>> is_zero(bytes(9)), is_zero(b"\\0\\1")
    (True, False)
    """
    view = memoryview(data)
    return reads_zero(lambda at, length: view[at : at + length].tobytes(), len(view))


def reads_zero(read_at: Callable[[int, int], bytes], size: int) -> bool:
    """True when the first `size` bytes that `read_at(offset, length)` gives are all zero."""
    for at in range(0, size, len(ZEROS)):
        length = min(len(ZEROS), size - at)
        if read_at(at, length) != ZEROS[:length]:
            return False
    return True
