"""Where a command's bytes go: standard output, or a file that is there whole or not at all.

A file is written under another name beside it, which also SIGTERM and SIGHUP do not leave behind.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from .output import UsageError

__all__ = ["check_not_input", "check_output", "signals_as_exits", "write_output"]

#: The signals whose default is to end a process at once: what it was writing would stay there.
ENDING_SIGNALS = ("SIGTERM", "SIGHUP")

#: So many names of half files are tried; others may have been left by a machine that went down.
MOST_NAMES = 1000


class Nowhere(io.RawIOBase):
    """Takes bytes and forgets them."""

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        return len(data)  # type: ignore[arg-type]


def check_output(path: str | None, *, binary: bool, option: str = "-o") -> None:
    """Raise UsageError for bytes that would go to a terminal; `path` None or - is standard output.

    option   the one that names the file
    """
    if path == "":
        stdout = "- or no -o" if option == "-o" else "-"
        raise UsageError(f"{option} is followed by nothing: which file? ({stdout} for standard output)")
    if binary and path in (None, "-") and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError(f"this would write binary data to the terminal: use {option} FILE, or a pipe")


def check_not_input(path: str | None, given: str, *, option: str = "-o") -> None:
    """Raise UsageError when the output is the very file that is read: it would be gone.

    given    the name of the input; - is standard input
    option   the one that names the output
    """
    if path is None or path == "-":
        return
    try:
        read = os.fstat(sys.stdin.fileno()) if given == "-" else os.stat(given)
        written = os.stat(path)
    except (AttributeError, OSError, ValueError):
        return  # there is no such file yet, or none to read: that is told where it is opened
    if stat.S_ISREG(written.st_mode) and os.path.samestat(read, written):
        raise UsageError(
            f"{path} is the input itself, and would be overwritten: give {option} another name, and rename it then"
        )


def write_output(path: str | None, produce: Callable[[BinaryIO], object]) -> None:
    """Have `produce` write to a file, or to standard output.

    A file appears, or is replaced, when all of it is written.  What went to standard output cannot be
    taken back: `produce` runs once for nothing, so that what it raises is raised before.  Named pipes
    and devices are written to as they are.

    Raises what `produce` raises, and OSError, with the name of the file; SystemExit with 128 and its number
    for a signal that ends the process while it writes a file.
    """
    if path is None or path == "-":
        produce(io.BufferedWriter(Nowhere()))
        write_to_stdout(produce)
        return
    target = os.path.realpath(path)  # behind a link the file itself is replaced
    try:
        if is_special(target):
            with open(target, "wb") as stream:
                produce(stream)
        else:
            write_whole(target, produce)
    except OSError as error:
        # The name that was asked for: not that of the half file, and writes have none.
        number = error.errno or errno.EIO
        raise OSError(number, error.strerror or str(error), path) from error


def write_whole(target: str, produce: Callable[[BinaryIO], object]) -> None:
    with signals_as_exits():
        stream = open_part(target)
        part = stream.name
        try:
            with stream:
                produce(stream)
            with suppress(OSError):
                shutil.copymode(target, part)  # of the file that it replaces, if there is one
            os.replace(part, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(part)
            raise


def open_part(target: str) -> Any:
    """A new file beside the target, whose name nothing has."""
    for number in range(MOST_NAMES):
        more = f".{number}" if number else ""
        with suppress(FileExistsError):
            return open(f"{target}.{os.getpid()}{more}.part", "xb")  # its end is the caller's
    raise FileExistsError(errno.EEXIST, "every name for a half file beside it is taken", target)


@contextmanager
def signals_as_exits() -> Iterator[None]:
    """Have signals that would end the process raise SystemExit, with the status that a shell shows for them.

    Those that somebody handles or ignores already (nohup) stay as they are, and all of them in threads.
    """
    before: dict[int, Any] = {}

    def leave(number: int, frame: object) -> None:
        for name in before:
            signal.signal(name, signal.SIG_IGN)  # the next one does not disturb what is cleaned up
        raise SystemExit(128 + number)

    try:
        for name in ENDING_SIGNALS:
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                with suppress(ValueError):  # not the main thread
                    before[number] = signal.signal(number, leave)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_special(target: str) -> bool:
    """Whether something is there that is no file: a named pipe, a device."""
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
    return not stat.S_ISREG(mode)


def write_to_stdout(produce: Callable[[BinaryIO], object]) -> None:
    """Write behind whatever was printed; a text stream without bytes below gets the text."""
    sys.stdout.flush()
    below = getattr(sys.stdout, "buffer", None)
    if below is not None:
        produce(below)
        below.flush()
        return
    stream = io.BytesIO()
    produce(stream)
    sys.stdout.write(stream.getvalue().decode("utf-8", "replace"))
