"""Where a command's bytes go: standard output, or a file that is there whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from .output import UsageError

__all__ = ["check_output", "write_output"]


class Nowhere(io.RawIOBase):
    """Takes bytes and forgets them."""

    def writable(self) -> bool:
        return True

    def write(self, data: object, /) -> int:
        return len(data)  # type: ignore[arg-type]


def check_output(path: str | None, *, binary: bool) -> None:
    """Raise UsageError for bytes that would go to a terminal; `path` None or - is standard output."""
    if binary and path in (None, "-") and sys.stdout is not None and sys.stdout.isatty():
        raise UsageError("this would write binary data to the terminal: use -o FILE, or a pipe")


def write_output(path: str | None, produce: Callable[[BinaryIO], object]) -> None:
    """Have `produce` write to a file, or to standard output.

    A file appears, or is replaced, when all of it is written.  What went to standard output cannot be
    taken back: `produce` runs once for nothing, so that what it raises is raised before.  Named pipes
    and devices are written to as they are.

    Raises what `produce` raises, and OSError, with the name of the file.
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
    part = f"{target}.{os.getpid()}.part"
    stream = open(part, "xb")  # noqa: SIM115 - its end is below, with what happens to the file
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
