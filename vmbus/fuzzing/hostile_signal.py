"""The end of a signal whose other side lies, and on which nothing ever sleeps."""

from __future__ import annotations

from vmbus.errors import CallerError

from .trial import Wrong

__all__ = ["HostileSignal"]

#: Looks at the signal in one call.
MOST_WAITS = 8


class HostileSignal:
    """An end of a signal whose other side lies about it: it has come, or has not, as `comes` says.

    Nothing ever sleeps on it; whoever would is Wrong.
    """

    def __init__(self) -> None:
        self.comes = True
        self.peer_closed = False
        self.waits = 0

    def notify(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def wait(self, timeout: float | None) -> bool:
        self.waits += 1
        if timeout != 0 or self.waits > MOST_WAITS:
            raise Wrong(
                f"a call without time waits {timeout} seconds for the signal, {self.waits} times by now"
            )
        return self.comes

    def fileno(self) -> int:
        raise CallerError(
            "this signal has no descriptor", argument="self", value="none", limit="a descriptor"
        )

    def close(self) -> None:
        self.peer_closed = True
