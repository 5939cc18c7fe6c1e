"""The dump that a command line names: a file of any format, standard input, or the one in the package."""

from __future__ import annotations

import sys
from argparse import Namespace

from vmbus.errors import DumpError
from vmbus.inspection import Dump, RawDump, open_dump, read_stream, sample_path

from .progress import Progress

__all__ = ["dump_of", "dump_on_stdin", "refuse_capture"]

#: So many bytes of a file show whether it is a capture.
FIRST_BYTES = 4096


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


def refuse_capture(image: Dump | str) -> None:
    """Raise DumpError that names the other command where an image, or the file of this name, is a capture."""
    from vmbus.inspection import is_capture  # takes a while, and is asked where nothing was found

    if isinstance(image, str):
        try:
            with open(image, "rb") as file:
                image = RawDump(image, memoryview(file.read(FIRST_BYTES)))
        except (OSError, ValueError):  # what is wrong with it has been told
            return
    if is_capture(image):
        raise DumpError(
            "is a capture, not a dump: `vmbus convert` reads it, with --to jsonl for its packets as text",
            path=image.path,
        )
