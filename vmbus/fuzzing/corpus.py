"""Folders of cases, as libFuzzer has them.

    corpus/TARGET/SHA1               cases that are worth starting from
    corpus/images/SHA1               ring images, for programs that read rings
    artifacts/TARGET/crash-SHA1      cases that failed

A file's name is the SHA-1 of its bytes.  A case enters a corpus only after it was performed without a failure, and
only where it met a corner that none before it had met.

Sources: libFuzzer's documentation on corpora and on -artifact_prefix, https://llvm.org/docs/LibFuzzer.html.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random
from typing import NamedTuple

from .case import Case
from .disagreement import expected_of
from .images_for_readers import ReaderImage, reader_images
from .trial import Trial

__all__ = [
    "IMAGES_FOLDER",
    "Kept",
    "corpus_of",
    "crash_path",
    "file_name",
    "random_case",
    "write_corpus",
    "write_images",
]

IMAGES_FOLDER = "images"

#: Cases that are tried for each one that is kept, at most, before a corpus is taken for complete.
TRIES = 400

LONGEST_CASE = 400  # bytes


def file_name(data: bytes) -> str:
    """The name of a file with these bytes."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def crash_path(directory: Path, target: str, data: bytes) -> Path:
    """Where a case that failed is kept."""
    return directory / target / f"crash-{file_name(data)}"


def random_case(trial: type[Trial], random: Random) -> Case:
    """A case of random bytes."""
    return Case.from_bytes(trial, random.randbytes(random.randint(1, LONGEST_CASE)))


class Kept(NamedTuple):
    """A case of a corpus.

    new   the corners that it was the first to meet
    """

    case: Case
    new: tuple[str, ...]


def corpus_of(trial: type[Trial], seed: int = 0) -> Iterator[Kept]:
    """Cases that together meet the corners of a trial, each performed; the same for the same seed.

    Raises Wrong where one fails: a corpus begins with cases that do not.
    """
    random = Random(f"{trial.name} {seed}")
    met: Counter[str] = Counter()
    tries = 0
    while tries < TRIES and set(trial.CORNERS) - met.keys():
        case = random_case(trial, random)
        corners = case.perform()
        new = tuple(sorted(corners.keys() - met.keys()))
        tries = 0 if new else tries + 1
        if new:
            met += corners
            yield Kept(case, new)


def write_corpus(directory: Path, trial: type[Trial], seed: int = 0) -> Iterator[tuple[Path, Kept]]:
    """Write the corpus of a trial below a directory; each file as it is written."""
    folder = directory / trial.name
    folder.mkdir(parents=True, exist_ok=True)
    for kept in corpus_of(trial, seed):
        data = kept.case.to_bytes()
        path = folder / file_name(data)
        path.write_bytes(data)
        yield path, kept


def write_images(directory: Path, seed: int = 0, count: int = 100) -> Iterator[tuple[Path, ReaderImage]]:
    """Write so many ring images below a directory, each once the strict reader has read it."""
    folder = directory / IMAGES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for image in islice(reader_images(seed), count):
        expected_of(image.data)
        path = folder / file_name(image.data)
        path.write_bytes(image.data)
        yield path, image
