"""Questions and answers between a test and the process of its kernel.

One message each way, over a pair of sockets that keeps messages apart; an answer may bring descriptors, or be
the error that is to be raised where the question was asked.
"""

from __future__ import annotations

import pickle
import socket
import threading
from typing import Any

__all__ = ["LONGEST", "PATIENCE", "Caller", "answer", "call_pair", "question"]

#: Seconds after which an answer that does not come fails the test.
PATIENCE = 20

#: Bytes of the longest message, and the most descriptors with one.
LONGEST = 1 << 17
MOST_DESCRIPTORS = 2


def call_pair() -> tuple[socket.socket, socket.socket]:
    """The test's end and the kernel's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Caller:
    """Who asks; several threads may.  Every question but an order to wait is answered at once."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(PATIENCE)
        self._end = end
        self._lock = threading.Lock()

    def ask(self, name: str, *arguments: Any, **named: Any) -> Any:
        """What the kernel's function of that name returns; what it raises is raised here."""
        return self.ask_for_descriptors(name, *arguments, **named)[0]

    def ask_for_descriptors(self, name: str, *arguments: Any, **named: Any) -> tuple[Any, list[int]]:
        message = pickle.dumps((name, arguments, named))
        with self._lock:
            self._end.send(message)
            data, descriptors, _, _ = socket.recv_fds(self._end, LONGEST, MOST_DESCRIPTORS)
        assert data, "the process of the kernel has ended"
        error, value = pickle.loads(data)
        if error is not None:
            raise error
        return value, descriptors

    def close(self) -> None:
        self._end.close()


def question(end: socket.socket) -> tuple[str, tuple[Any, ...], dict[str, Any]] | None:
    """The next one, on the kernel's side; None when the test has closed its end."""
    try:
        data = end.recv(LONGEST)
    except OSError:
        return None
    return pickle.loads(data) if data else None


def answer(
    end: socket.socket,
    value: object = None,
    *,
    error: Exception | None = None,
    descriptors: list[int] | None = None,
) -> None:
    """Answer the question that has come last."""
    socket.send_fds(end, [pickle.dumps((error, value))], descriptors or [])
