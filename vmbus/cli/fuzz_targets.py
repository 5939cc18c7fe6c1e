"""What the commands about targets share: which target is meant, and which case a file is."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from vmbus.errors import CallerError, DumpError
from vmbus.fuzzing import CASE_SCHEMA, Case, Trial, target_named, targets

from .output import UsageError

__all__ = ["case_in", "chosen", "without_hypothesis"]

#: A file of a case; one that is longer is none.
LARGEST_CASE = 1 << 20


def chosen(name: str) -> type[Trial]:
    """The target of that name; UsageError names those there are."""
    try:
        return target_named(name)
    except CallerError as error:
        raise UsageError(str(error)) from error


def case_in(arguments: Namespace) -> Case:
    """The case in a file: JSON, or bytes whose target the option or the file's folder names."""
    path = Path(arguments.file)
    if path.is_fifo():
        raise DumpError("a pipe is no file of a case: write it to a file first", path=str(path))
    with path.open("rb") as file:
        data = file.read(LARGEST_CASE + 1)
    if len(data) > LARGEST_CASE:
        raise DumpError(f"a case has {LARGEST_CASE} bytes at most, and this file has more", path=str(path))
    document = json_in(path, data)
    if document is not None:
        return case_of_json(path, document, arguments.target)
    return Case.from_bytes(target_of(path, arguments.target), data)


def json_in(path: Path, data: bytes) -> dict[str, Any] | None:
    """The object that these bytes are as JSON; None where they are none, and so a case in bytes.

    Raises DumpError where the file's name says that they are.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        if path.suffix == ".json" or (data.lstrip().startswith(b"{") and CASE_SCHEMA.encode() in data):
            raise DumpError(f"this is no JSON: {error}", path=str(path)) from error
        return None
    return document if isinstance(document, dict) and "schema" in document else None


def case_of_json(path: Path, document: dict[str, Any], target: str | None) -> Case:
    name = target or document.get("target")
    if not isinstance(name, str):
        raise UsageError(f"{path} does not name its target; say which with --target")
    try:
        return Case.from_json(chosen(name), document)
    except CallerError as error:
        raise DumpError(str(error), path=str(path)) from error


def target_of(path: Path, target: str | None) -> type[Trial]:
    """The target of a case in bytes: what was asked for, or the folder that it lies in."""
    if target is not None:
        return chosen(target)
    folder = path.resolve().parent.name
    if folder in targets():
        return target_named(folder)
    raise UsageError(f"{path} does not say what it is a case of; say --target, one of {', '.join(targets())}")


def without_hypothesis(command: str, error: ModuleNotFoundError) -> UsageError:
    """What to say where hypothesis is not installed."""
    if error.name != "hypothesis":
        raise error
    return UsageError(f"{command} needs hypothesis: pip install 'vmbus[fuzzing]'")
