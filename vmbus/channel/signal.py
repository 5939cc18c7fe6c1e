"""How the two ends of a channel wake each other.

A signal says only "look again": what there is to see stands in the rings.  So it may come for
nothing and any number of them may melt into one, but none may be lost: a side that sleeps has
published that it does, and nobody else will wake it.

Sources: OpenVMM vmbus_channel/src/lib.rs, trait SignalVmbusChannel; eventfd(2).
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Signal"]


class Signal(Protocol):
    """One end of the signals between two sides.

    `notify` and `wake` may be called by any thread at any time; `wait` by one thread at a time.

    Implementations: LocalSignal between threads, DescriptorSignal between processes.
    """

    @property
    def peer_closed(self) -> bool:
        """True once `wait` has seen that the other side has closed its end or is gone.

        All that it committed before is then in the rings.
        """
        ...

    def notify(self) -> None:
        """Tell the other side to look again.  Never waits, and does nothing when it is gone."""
        ...

    def wait(self, timeout: float | None) -> bool:
        """Sleep until there is a reason to look again; False when `timeout` seconds passed without one.

        timeout   seconds; 0 only looks whether there is a reason, None waits for ever

        A reason is a `notify` of the other side, also one from before this call; the other side's
        closing or death; or a `wake`.  It may return True for nothing.  It must not miss a reason.
        """
        ...

    def wake(self) -> None:
        """End this side's own wait, from another thread; the next one when nobody waits now."""
        ...

    def fileno(self) -> int:
        """A descriptor that is readable while `wait` would return at once.

        Raises CallerError where there is none.
        """
        ...

    def close(self) -> None:
        """Tell the other side that this one is closed, and let go of everything; again is harmless.

        Nobody waits any more when this is called.
        """
        ...
