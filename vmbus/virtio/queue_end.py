"""What every end of a queue has: fences, a count of what nobody was told of, and what stops it.

Source: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

from copy import copy
from typing import NoReturn

from vmbus.errors import PeerError
from vmbus.memory import QueueMemory

__all__ = ["QueueEnd"]


class QueueEnd:
    """One side of one ring, before it is known which.

    memory      what driver and device share, by the addresses of this side
    size        descriptors
    event_idx   whether RING_EVENT_IDX was negotiated

    `fault` is what the other side did wrong, for good.
    """

    def __init__(self, memory: QueueMemory, size: int, event_idx: bool) -> None:
        self._size = size
        self._event_idx = event_idx
        self._acquire = memory.acquire
        self._release = memory.release
        self._fence = memory.fence
        self._uncounted = 0  # entries published since a notification was last decided on
        self.fault: PeerError | None = None

    def check_fault(self) -> None:
        """Raise again what the other side did wrong."""
        if self.fault is not None:
            raise copy(self.fault) from None

    def _fail(self, error: PeerError) -> NoReturn:
        # A copy is kept: the error itself holds on to the frames that it went through.
        self.fault = copy(error)
        raise error
