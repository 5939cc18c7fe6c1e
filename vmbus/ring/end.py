"""What both ends of a ring share: the memory, prepared, and what stops an end.

An end keeps its own index privately.  It reads that word of shared memory once, when it is made
or reset, and never again: the other side could have changed it.

A commit moves the private index first and the shared word second.  An interrupt between the two
(Ctrl-C, a signal handler that raises) then leaves a packet that the next commit publishes; the
other way round the next packet would overwrite one that is published already.
"""

from __future__ import annotations

from copy import copy
from typing import NoReturn

from vmbus.errors import CallerError, PeerError, VmbusError
from vmbus.layout import IN_WORD
from vmbus.memory import RingMem
from vmbus.sizes import SLOT, check_data_size

from .offsets import advance, is_offset
from .parsing import RingFault

__all__ = ["RingEnd"]


class RingEnd:
    """One end of a ring, before it is known which.

    memory   the RingMem
    gap      bytes from the own index to where the other side's is assumed until it is loaded: with
             0 a receiver has nothing to read, with SLOT a sender has nothing free

    `_refusal` is what stops every commit: the error that the other side caused, or, for good, that
    the memory cannot be written.  `_fault` is the first of the two alone; it stops reading too.
    """

    def __init__(self, memory: RingMem, own_word: int, peer_word: int, gap: int) -> None:
        if not hasattr(memory, "control"):
            raise CallerError(
                f"a ring needs a RingMem, not {type(memory).__name__}; FlatRingMem.over(buffer) makes one",
                argument="memory",
                value=type(memory).__name__,
                limit="RingMem",
            )
        self.memory = memory
        self._size = check_data_size(memory.size)
        self._control = memory.control
        self._acquire = memory.acquire
        self._release = memory.release
        self._fence = memory.fence
        self._own_word = own_word
        self._peer_word = peer_word
        self._gap = gap
        self._own_index = 0
        self._published = 0  # the own index that the last signal was decided for
        self._peer_index = 0
        self._commits = 0
        self._fault: PeerError | None = None
        self._refusal: VmbusError | None = None
        self.reset()

    @property
    def size(self) -> int:
        """Bytes of the data area."""
        return self._size

    def reset(self) -> None:
        """Trust the ring again, from the indices as they now stand in memory.

        For use after a PeerError, when somebody has put the ring right.
        """
        self._fault = None
        self._refusal = None
        if self._control.readonly:
            self._refusal = CallerError(
                "this ring is in read-only memory: it can be read and inspected, and nothing committed",
                argument="memory",
                value="read-only",
                limit="writable",
            )
        self._commits += 1
        own = self._control[self._own_word]
        if is_offset(self._size, own):
            self._own_index = self._published = own
            self._peer_index = advance(self._size, own, self._gap)
        else:
            self._remember(self._index_error(self._own_word, own))

    def peer_has_moved(self) -> bool:
        """True when the other side's index is not the one that was loaded last.

        A hint for whoever waits: nothing is checked and nothing kept.
        """
        return self._control[self._peer_word] != self._peer_index

    def _load_peer_index(self) -> int:
        """The other side's index, loaded, checked and kept; PeerError when it is out of range."""
        index = self._control[self._peer_word]
        self._acquire()
        if not is_offset(self._size, index):
            self._fail(self._index_error(self._peer_word, index))
        self._peer_index = index
        return index

    def _index_error(self, word: int, value: int) -> PeerError:
        name = "in" if word == IN_WORD else "out"
        return PeerError(
            f"{name} is {value:#06x}: in a ring of {self._size} bytes it is a multiple of {SLOT} up to "
            f"{self._size - SLOT:#06x}",
            kind=RingFault.INVALID_RING_POINTER,
            found=value,
            allowed=self._size - SLOT,
        )

    def _remember(self, error: PeerError) -> None:
        """Let every later call raise `error`, or the earlier one that it raises already.

        A copy is kept: the error itself holds on to the frames that it went through.  Memory that
        cannot be written goes on refusing commits.
        """
        if self._fault is None:
            self._fault = copy(error)
            if not self._control.readonly:
                self._refusal = self._fault

    def _fail(self, error: PeerError) -> NoReturn:
        self._remember(error)
        self._check_fault()
        raise AssertionError("a fault that was just remembered stops every call")

    def _refuse(self) -> NoReturn:
        """Raise what stops this end."""
        assert self._refusal is not None
        raise copy(self._refusal) from None

    def _check_fault(self) -> None:
        """Raise again what the other side did wrong."""
        if self._fault is not None:
            raise copy(self._fault) from None

    def _check_current(self, ring: RingEnd, commits: int) -> None:
        """Raise CallerError for an offset of another ring, or from before another commit."""
        if ring is not self:
            self._refuse_offset("belongs to another end of a ring", "of this end")
        if commits != self._commits:
            self._refuse_offset("was made before another commit or reset of this end", "made after it")

    def _refuse_offset(self, what: str, limit: str) -> NoReturn:
        raise CallerError(f"this offset {what}: make a new one", argument="offset", value=what, limit=limit)

    def __repr__(self) -> str:
        own = "in" if self._own_word == IN_WORD else "out"
        stopped = ", stopped" if self._fault else ""
        return f"<{type(self).__name__}: {own} {self._own_index:#06x}, {self._size} bytes{stopped}>"
