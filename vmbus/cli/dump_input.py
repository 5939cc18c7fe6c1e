"""The dump that a command line names: a file of any format, standard input, or the one in the package."""

from __future__ import annotations

import sys
from argparse import Namespace

from vmbus.errors import DumpError
from vmbus.inspection import Dump, open_dump, read_stream, sample_path

from .progress import Progress

__all__ = ["dump_of", "dump_on_stdin"]


def dump_of(arguments: Namespace) -> Dump:
    """The dump that the command line names."""
    if arguments.sample:
        return open_dump(sample_path())
    if arguments.file == "-":
        return dump_on_stdin(memory_map=arguments.map)
    with Progress(f"{arguments.file}: unpacking ") as progress:
        return open_dump(arguments.file, memory_map=arguments.map, progress=progress.show)


def dump_on_stdin(*, memory_map: str | None = None) -> Dump:
    """What comes from standard input."""
    if sys.stdin is None:
        raise DumpError("is closed", path="standard input")
    try:
        return read_stream(sys.stdin.buffer, "standard input", memory_map=memory_map)
    except OSError as error:
        raise DumpError(f"cannot be read: {error.strerror or error}", path="standard input") from error
