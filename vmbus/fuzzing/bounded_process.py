"""One process: what is given to it, and what it prints, within bounds of time and size.

A process that takes too long, or prints too much, is ended.  Whatever of its process group is still there when it
has ended, by itself or not, is ended with it; who has left that group is not found.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from time import monotonic, sleep
from typing import IO, NamedTuple

from .bounded import in_seconds

__all__ = ["Answer", "Ending", "Run"]

MOST_OUTPUT = 1 << 22  # bytes that are read of one answer
MOST_COMPLAINT = 2000  # bytes that are kept of standard error, the last ones

LONGEST_FAREWELL = 0.5  # seconds to wait for pipes of a process that has ended
FIRST_LOOK, LONGEST_LOOK = 0.0005, 0.05  # seconds between two looks whether a process has ended


class Ending(Enum):
    """How a process ended."""

    DONE = "done"
    CRASH = "crash"
    TIMEOUT = "timeout"
    TOO_MUCH_OUTPUT = "too-much-output"
    MORE_THAN_ONE_LINE = "more-than-one-line"  # of a process that answers all images, each in one line


class Answer(NamedTuple):
    """What a process said to one image.

    output      what it printed; of one that printed too much, the start
    how         of one that crashed or was ended, in words, with the end of what it complained of
    """

    ending: Ending
    output: bytes = b""
    how: str = ""


class Run:
    """One process, and the threads that give to it and take from it.

    `_changed` guards what they have taken: output, complaint, whether the output has ended.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=os.name == "posix",  # a process group of its own, to be ended as a whole
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin: IO[bytes] = self._process.stdin
        self._changed = threading.Condition()
        self._output = bytearray()
        self._complaint = bytearray()
        self._output_ended = False
        self._ended = False
        self._readers = [
            start_thread(self._take_output, self._process.stdout),
            start_thread(self._take_complaint, self._process.stderr),
        ]
        self._writer: threading.Thread | None = None

    # -- what the threads do ---------------------------------------------------------------------

    def _take_output(self, stream: IO[bytes]) -> None:
        while data := read_some(stream):
            with self._changed:
                self._output += data
                self._changed.notify_all()
                if len(self._output) > MOST_OUTPUT:
                    break
        with self._changed:
            self._output_ended = True
            self._changed.notify_all()

    def _take_complaint(self, stream: IO[bytes]) -> None:
        while data := read_some(stream):
            with self._changed:
                self._complaint += data
                del self._complaint[:-MOST_COMPLAINT]

    def _put(self, before: threading.Thread | None, data: bytes, last: bool) -> None:
        if before is not None:
            before.join()
        with suppress(OSError, ValueError):  # it does not read, or has ended
            self._stdin.write(data)
            self._stdin.flush()
        if last:
            with suppress(OSError):
                self._stdin.close()

    # -- for whoever asks ------------------------------------------------------------------------

    def give(self, data: bytes, last: bool = False) -> None:
        """Write to its standard input, and close that behind the last."""
        self._writer = start_thread(self._put, self._writer, data, last)

    def all(self, timeout: float) -> Answer:
        """All that it prints until it ends."""
        deadline = monotonic() + timeout
        self._wait(lambda: self._output_ended, deadline)
        if len(self._output) > MOST_OUTPUT:
            return self._too_much()
        if not self._output_ended or not self._ends_within(max(deadline - monotonic(), 0.01)):
            return self._too_late(timeout)
        self.end()
        crash = self._crash(said_no_error=b'"error"' not in self._output)
        return crash or Answer(Ending.DONE, bytes(self._output))

    def line(self, timeout: float) -> Answer:
        """The next line that it prints."""
        self._wait(lambda: b"\n" in self._output or self._output_ended, monotonic() + timeout)
        with self._changed:
            line, newline, rest = bytes(self._output).partition(b"\n")
            if newline:
                self._output[:] = rest
                return Answer(Ending.DONE, line)
        if len(self._output) > MOST_OUTPUT:
            return self._too_much()
        if not self._output_ended or not self._ends_within(timeout):
            return self._too_late(timeout)
        self.end()
        ended = f"it ended, with status {self._process.returncode}, before it answered"
        return self._crash(said_no_error=True) or Answer(
            Ending.CRASH, bytes(self._output), self._with_complaint(ended)
        )

    def unasked(self, when: str, before: bytes = b"") -> Answer | None:
        """What it has printed that nobody asked for, and it is ended; None where there is nothing so far."""
        with self._changed:
            output = bytes(self._output[:MOST_COMPLAINT])
        if not output:
            return None
        self.end()
        how = f"more than one line: {output[:80].decode('utf-8', 'replace')!r} was {when}"
        return Answer(Ending.MORE_THAN_ONE_LINE, before + output, how)

    def end(self) -> None:
        """End it, and all processes of its group; where it has ended already, those that are left of the group."""
        if not self._ended:
            self._ended = True
            with suppress(ProcessLookupError, PermissionError):
                # A process that nobody has waited for keeps its number, and so the group is still its own.
                if os.name == "posix":
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            self._process.wait()
        self._let_go()

    # -- inside ----------------------------------------------------------------------------------

    def _wait(self, holds: Callable[[], bool], deadline: float) -> None:
        with self._changed:
            self._changed.wait_for(holds, max(deadline - monotonic(), 0))

    def _ends_within(self, seconds: float) -> bool:
        """Whether it ends by itself in that time; `end` comes behind it, and is who waits for it."""
        if not hasattr(os, "waitid"):  # no POSIX, or macOS before Python 3.13
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
            return self._process.returncode is not None
        deadline, pause = monotonic() + seconds, FIRST_LOOK
        while os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            left = deadline - monotonic()
            if left <= 0:
                return False
            sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_LOOK)
        return True

    def _let_go(self) -> None:
        """Close the pipes, as soon as no thread uses them any more; somebody else may hold their other ends."""
        threads = [thread for thread in (*self._readers, self._writer) if thread is not None]
        deadline = monotonic() + LONGEST_FAREWELL
        for thread in threads:
            thread.join(max(deadline - monotonic(), 0))
        if not any(thread.is_alive() for thread in threads):
            with suppress(OSError):
                self._stdin.close()
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()

    def _too_much(self) -> Answer:
        self.end()
        start = bytes(self._output[:MOST_COMPLAINT])
        return Answer(Ending.TOO_MUCH_OUTPUT, start, f"more than {MOST_OUTPUT} bytes printed; it was ended")

    def _too_late(self, timeout: float) -> Answer:
        self.end()
        how = self._with_complaint(f"no answer after {in_seconds(timeout)}; it was ended")
        return Answer(Ending.TIMEOUT, bytes(self._output), how)

    def _crash(self, *, said_no_error: bool) -> Answer | None:
        """The answer of a process that was ended by a signal, or failed without saying why."""
        status = self._process.returncode
        if status < 0:
            how = f"ended by {signal_name(-status)}"
        elif status and said_no_error:
            how = f"ended with status {status}, and printed no error"
        else:
            return None
        return Answer(Ending.CRASH, bytes(self._output), self._with_complaint(how))

    def _with_complaint(self, how: str) -> str:
        with self._changed:
            lines = bytes(self._complaint).decode("utf-8", "replace").strip().splitlines()
        return f"{how}: {lines[-1]}" if lines else how


def read_some(stream: IO[bytes]) -> bytes:
    """What there is to be read, waiting for the first of it; nothing at the end."""
    try:
        return os.read(stream.fileno(), 65536)
    except (OSError, ValueError):
        return b""


def start_thread(function: Callable[..., object], *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def signal_name(number: int) -> str:
    """The name of a signal.

    >>> signal_name(9), signal_name(99)
    ('SIGKILL', 'signal 99')
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
