"""Somebody else's reader as a process: what it is given, and what it prints, within bounds of time and size.

One process an image, on its standard input or in a file; or one process for all of them, which is given each
image behind its length in 4 bytes, little-endian, and answers each with one line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from vmbus.errors import CallerError

from .bounded_process import Answer, Ending, Run

__all__ = ["BatchReader", "PathReader", "ReaderProgram", "StdinReader"]

PLACEHOLDER = "{}"  # stands for the path of the image


class ReaderProgram:
    """A command that is asked about images; a context manager that ends what still runs.

    command          the program and its arguments
    timeout          seconds for one answer
    gives_up_after   so many images in a row, from the first on, that it crashed or said nothing at: it then
                     does not know what it is asked

    Raises OSError when it cannot be started.
    """

    gives_up_after = 10

    def __init__(self, command: Sequence[str], timeout: float = 10.0) -> None:
        if not command:
            raise CallerError(
                "a reader is a command, and this one has no words",
                argument="command",
                value=tuple(command),
                limit="a program",
            )
        self.command = tuple(command)
        self.timeout = timeout

    def ask(self, image: bytes) -> Answer:
        """What it says to one image."""
        raise NotImplementedError

    def close(self) -> None:
        """End what still runs."""

    def __enter__(self) -> ReaderProgram:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class StdinReader(ReaderProgram):
    """One process an image, which reads it from its standard input until that ends."""

    def ask(self, image: bytes) -> Answer:
        return ask_once(self.command, image, self.timeout)


class PathReader(ReaderProgram):
    """One process an image, which finds it in a file: at `{}` in the arguments, or behind the last of them."""

    def __init__(self, command: Sequence[str], timeout: float = 10.0) -> None:
        super().__init__(command, timeout)
        self._directory = tempfile.TemporaryDirectory(prefix="vmbus-reader-")
        self._path = Path(self._directory.name) / "ring.bin"
        words = [word.replace(PLACEHOLDER, str(self._path)) for word in self.command]
        if words == list(self.command):
            words.append(str(self._path))
        self._words = words

    def ask(self, image: bytes) -> Answer:
        self._path.write_bytes(image)
        return ask_once(self._words, b"", self.timeout)

    def close(self) -> None:
        self._directory.cleanup()


class BatchReader(ReaderProgram):
    """One process for all images; after a crash, or when it was ended, a new one.

    A process that prints more than one line for an image is ended too: nobody could tell whose answer comes next.
    """

    gives_up_after = (
        3  # one that expects another form of input waits for more of it, each time until its time is over
    )

    def __init__(self, command: Sequence[str], timeout: float = 10.0) -> None:
        super().__init__(command, timeout)
        self._run: Run | None = None

    def ask(self, image: bytes) -> Answer:
        run = self._run = self._run or Run(self.command)
        answer = run.unasked("printed before it was given the image")
        if answer is None:
            run.give(len(image).to_bytes(4, "little") + image)
            answer = run.line(self.timeout)
            if answer.ending is Ending.DONE:
                answer = run.unasked("printed behind the answer", answer.output + b"\n") or answer
        if answer.ending is not Ending.DONE:
            self._run = None
        return answer

    def close(self) -> None:
        if self._run is not None:
            self._run.end()
            self._run = None


def ask_once(command: Sequence[str], image: bytes, timeout: float) -> Answer:
    """What a process that is given one image says to it."""
    run = Run(command)
    try:
        run.give(image, last=True)
        return run.all(timeout)
    finally:
        run.end()  # also behind an interrupt, which a process group of its own does not get
