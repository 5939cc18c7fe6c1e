"""A file without a name that takes room only for what is not zero.

It lies where TMPDIR says, and is gone when it is closed.  Pages of zeros are not written but stepped over,
which most file systems remember as holes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from typing import BinaryIO, cast

from vmbus.errors import DumpError

from .sparse import stretches

__all__ = ["temporary_file", "write_sparse"]


def temporary_file(path: str) -> BinaryIO:
    try:
        return cast(BinaryIO, tempfile.TemporaryFile(buffering=0))
    except OSError as error:
        raise no_room(error, path) from error


def write_sparse(pieces: Iterable[bytes], file: BinaryIO, path: str) -> int:
    """Write pieces one behind the other, without pages of zeros; how many bytes they are.

    path   the file that the pieces are of, for messages
    """
    size = 0
    for piece in pieces:
        try:
            for start, end in stretches(piece, size):
                file.seek(size + start)
                write_all(file, memoryview(piece)[start:end])
        except OSError as error:
            raise no_room(error, path) from error
        size += len(piece)
    file.truncate(size)
    return size


def write_all(file: BinaryIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


def no_room(error: OSError, path: str) -> DumpError:
    """Why the temporary file could not be written."""
    why = os.strerror(error.errno) if error.errno else error
    where = tempfile.tempdir or "a temporary directory"
    return DumpError(f"cannot be unpacked into {where}: {why}; TMPDIR names another directory", path=path)
