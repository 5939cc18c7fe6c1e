"""`vmbus convert --to raw-image`: the memory of an image as a sparse raw file, and what is missing in it."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from vmbus.errors import CallerError
from vmbus.inspection import Dump, Run, Severity, State

from .dump_input import refuse_capture
from .output import UsageError, number, report
from .output_file import write_output
from .progress import Progress

__all__ = ["IMAGE_FORM", "add_image_options", "check_image_usage", "execute_raw_image"]

#: The form that is not one of packets.
IMAGE_FORM = "raw-image"


def add_image_options(parser: ArgumentParser) -> None:
    which = parser.add_argument_group(f"which memory, with --to {IMAGE_FORM}")
    which.add_argument("--start", type=number, metavar="N", help="only from this guest-physical address on")
    which.add_argument("--end", type=number, metavar="N", help="only up to, and without, this one")


def check_image_usage(arguments: Namespace) -> None:
    """Raise UsageError for options that do not go with the form, or with any other."""
    if arguments.to != IMAGE_FORM:
        for name in ("start", "end"):
            if getattr(arguments, name) is not None:
                raise UsageError(f"--{name} goes with --to {IMAGE_FORM}")
        return
    if arguments.output in (None, "-"):
        raise UsageError(f"--to {IMAGE_FORM} writes a file with holes, and standard output has none: -o FILE")
    for name in ("history", "limit"):
        if getattr(arguments, name) not in (None, False):
            raise UsageError(f"--{name} is for packets, and --to {IMAGE_FORM} takes memory as it is")
    if arguments.end is not None and arguments.end <= (arguments.start or 0):
        raise UsageError("--end is not behind --start")


def execute_raw_image(arguments: Namespace, dump: Dump) -> int:
    """Write the image's memory; 1 when some of it is missing, which lines on standard error then say."""
    from vmbus.images import write_raw_image

    refuse_capture(dump)
    made: Any = None
    limits = {
        name: getattr(arguments, name) for name in ("start", "end") if getattr(arguments, name) is not None
    }

    def produce(stream: BinaryIO) -> None:
        nonlocal made
        try:
            made = write_raw_image(dump, stream, progress=progress.show, **limits)
        except CallerError as error:
            raise UsageError(f"-o {arguments.output}: {error}") from error

    with Progress(f"{dump.path}: ") as progress:
        write_output(arguments.output, produce)
    assert made is not None
    lines = [*findings_of(dump), *missing_of(made.listed, made.places, made.missing)]
    for line in lines:
        report(f"{dump.path}: {line}")
    return 1 if lines else 0


def findings_of(dump: Dump) -> Iterator[str]:
    """What is wrong with the image as a file."""
    for finding in dump.findings:
        if finding.severity is not Severity.NOTE:
            yield f"{finding.check}: {finding.message}"


def missing_of(listed: Sequence[Run], places: int, missing: Mapping[State, int]) -> Iterator[str]:
    """Where memory is missing, the first places of it, and how much in all."""
    for run in listed:
        yield f"{run.start:#x} to {run.end - 1:#x} {run.state.value}{f': {run.why}' if run.why else ''}"
    if places > len(listed):
        yield f"and {places - len(listed)} more places"
    if places:
        counts = " and ".join(f"{count} bytes {state.value}" for state, count in missing.items())
        yield f"{counts}, which read as zeros in the raw image"
