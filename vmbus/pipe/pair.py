"""Two pipes that face each other, for tests, examples and measurements."""

from __future__ import annotations

from vmbus.ring import connected_rings

from .byte_stream import BytePipe
from .message import MessagePipe

__all__ = ["connected_byte_pipes", "connected_message_pipes"]


def connected_message_pipes(size: int = 16384, *, raw: bool = False) -> tuple[MessagePipe, MessagePipe]:
    """Two message pipes over two rings of `size` bytes: what one writes the other reads."""
    to_far, at_far = connected_rings(size)
    to_near, at_near = connected_rings(size)
    return MessagePipe(at_near, to_far, raw=raw), MessagePipe(at_far, to_near, raw=raw)


def connected_byte_pipes(size: int = 16384) -> tuple[BytePipe, BytePipe]:
    """Two byte pipes over two rings of `size` bytes: what one writes the other reads."""
    to_far, at_far = connected_rings(size)
    to_near, at_near = connected_rings(size)
    return BytePipe(at_near, to_far), BytePipe(at_far, to_near)
