"""Somebody else's reader beside ours: it is asked about one image after the other, and every difference is counted.

    with StdinReader(["./my-reader"]) as reader:
        report = try_reader(reader, cases=1000)
    print(report.counts)

The same seed gives the same images.

The keys of the document "vmbus.fuzz-target/1":

    schema             this name
    cases, broken      images that were tried; of them, those that the strict reader refuses
    seconds            how long it took
    disagreements      one for each kind, the most frequent first: kind, count (images), and first, the first image
                       of that kind, a "vmbus.disagreement/1"
    accepted_faults    of the images that were accepted although they are broken: how many, by the name of the rule
    gave_up            whether it ended early, as the program answered none of the first images
    command, saved     of `vmbus fuzz target`: the words of COMMAND, and the paths of the images that were written

Those of "vmbus.disagreement/1", which is also KIND.json beside a saved KIND.bin:

    schema             this name
    kind               how the answer is wrong, a value of DisagreementKind
    image              seed, number and made (right, damaged, or the name of a break): reader_image(seed, number)
                       makes it again
    expected, came     the first difference, in words: what the strict reader says, and the program
    fault              the rule that the image breaks, a value of RingFault; null where it breaks none
    right_answer       the answer that agrees: objects as COMMAND is to print them, one a line
    output             what the program printed, its first 64 KiB as UTF-8
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from .bounded_process import Answer, Ending
from .disagreement import Disagreement, DisagreementKind, Expected, compare, expected_of
from .disagreement_script import script_of
from .images_for_readers import ReaderImage, reader_images
from .reader_process import ReaderProgram

__all__ = ["DISAGREEMENT_SCHEMA", "TARGET_SCHEMA", "Found", "ReaderReport", "save_found", "try_reader"]

TARGET_SCHEMA = "vmbus.fuzz-target/1"
DISAGREEMENT_SCHEMA = "vmbus.disagreement/1"

#: The kinds of disagreement that say how a process ended.
ENDED = {
    Ending.CRASH: DisagreementKind.CRASH,
    Ending.TIMEOUT: DisagreementKind.TIMEOUT,
    Ending.TOO_MUCH_OUTPUT: DisagreementKind.TOO_MUCH_OUTPUT,
    Ending.MORE_THAN_ONE_LINE: DisagreementKind.NOT_JSON,
}


class Found(NamedTuple):
    """The first image of a kind of disagreement."""

    image: ReaderImage
    expected: Expected
    answer: Answer
    disagreement: Disagreement

    def to_json(self) -> dict[str, Any]:
        """All that is known of it, but for the image: the document "vmbus.disagreement/1"."""
        return {
            "schema": DISAGREEMENT_SCHEMA,
            "kind": self.disagreement.kind.value,
            "image": {"seed": self.image.seed, "number": self.image.number, "made": self.image.made},
            "expected": self.disagreement.expected,
            "came": self.disagreement.came,
            "fault": self.expected.fault,
            "right_answer": self.expected.to_json(),
            "output": self.answer.output[:65536].decode("utf-8", "replace"),
        }

    def to_script(self) -> str:
        """A Python program that rebuilds the image and asserts what the strict reader says, with nothing but vmbus."""
        return script_of(str(self.image), self.image.data, self.expected, self.disagreement)


class ReaderReport(NamedTuple):
    """What came of all images.

    cases    images that were tried
    broken   of them, those that our reader refuses
    counts   disagreements by kind, the most frequent first
    faults   of those that were accepted although they are broken: by the name of the rule
    first    of each kind the first
    gave_up  whether the run ended early: the program answered none of the first images
    """

    cases: int
    broken: int
    seconds: float
    counts: dict[DisagreementKind, int]
    faults: dict[str, int]
    first: dict[DisagreementKind, Found]
    gave_up: bool = False

    @property
    def agrees(self) -> bool:
        return not self.counts

    def to_json(self) -> dict[str, Any]:
        """The document "vmbus.fuzz-target/1", as `vmbus fuzz target --json` prints it but for two keys of its own."""
        return {
            "schema": TARGET_SCHEMA,
            "cases": self.cases,
            "broken": self.broken,
            "seconds": round(self.seconds, 3),
            "disagreements": [
                {"kind": kind.value, "count": count, "first": self.first[kind].to_json()}
                for kind, count in self.counts.items()
            ],
            "accepted_faults": self.faults,
            "gave_up": self.gave_up,
        }


def try_reader(
    reader: ReaderProgram,
    *,
    images: Iterable[ReaderImage] | None = None,
    cases: int | None = 1000,
    seconds: float | None = None,
    seed: int = 0,
    clock: Callable[[], float] = monotonic,
    progress: Callable[[int], object] | None = None,
) -> ReaderReport:
    """Ask a reader about images until `cases` were tried, the time is over, or it has answered none of the first.

    images     without them, those of the seed
    seconds    None: as long as it takes
    progress   called with the number of images tried, behind each
    """
    started = clock()
    counts: Counter[DisagreementKind] = Counter()
    faults: Counter[str] = Counter()
    first: dict[DisagreementKind, Found] = {}
    tried = broken = unanswered = 0
    gave_up = False
    for image in islice(reader_images(seed) if images is None else images, cases):
        if seconds is not None and clock() - started >= seconds:
            break
        expected = expected_of(image.data)
        answer = reader.ask(image.data)
        tried += 1
        broken += expected.error is not None
        difference = judge(expected, answer)
        if difference is not None:
            counts[difference.kind] += 1
            first.setdefault(difference.kind, Found(image, expected, answer, difference))
            if difference.kind is DisagreementKind.ACCEPTED_BROKEN and expected.fault is not None:
                faults[expected.fault] += 1
        if progress is not None:
            progress(tried)
        unanswered += answer.ending in (Ending.CRASH, Ending.TIMEOUT)
        gave_up = unanswered == tried == reader.gives_up_after
        if gave_up:
            break
    ordered = dict(counts.most_common())
    return ReaderReport(tried, broken, clock() - started, ordered, dict(faults.most_common()), first, gave_up)


def judge(expected: Expected, answer: Answer) -> Disagreement | None:
    """The first difference between what our reader says and what a process did."""
    if answer.ending is not Ending.DONE:
        wanted = "one line" if answer.ending is Ending.MORE_THAN_ONE_LINE else "an answer"
        return Disagreement(ENDED[answer.ending], wanted, answer.how)
    try:
        objects = objects_in(answer.output)
    except (ValueError, RecursionError) as error:
        shown = answer.output[:80].decode("utf-8", "replace")
        return Disagreement(DisagreementKind.NOT_JSON, "lines of JSON", f"{shown!r}: {error}")
    return compare(expected, objects)


def objects_in(output: bytes) -> list[object]:
    """The objects of an answer: one a line, or lists of them; ValueError for what is no JSON."""
    objects: list[object] = []
    for line in output.splitlines():
        if line.strip():
            document = json.loads(line)
            objects += document if isinstance(document, list) else [document]
    return objects


def save_found(report: ReaderReport, directory: Path) -> list[Path]:
    """Write the first image of each kind, KIND.bin, and return the paths.

    Beside it stand KIND.json, what was expected and what came, and KIND.py, a program that proves the first.
    """
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind, found in report.first.items():
        path = directory / f"{kind.value}.bin"
        path.write_bytes(found.image.data)
        path.with_suffix(".json").write_text(json.dumps(found.to_json(), indent=2) + "\n", encoding="utf-8")
        path.with_suffix(".py").write_text(found.to_script(), encoding="utf-8")
        paths.append(path)
    return paths
