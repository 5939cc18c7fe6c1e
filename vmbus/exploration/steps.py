"""The words in which all parts of an exploration speak of what a side does.

A Question is a step: the other side can notice it, or it depends on the other side, and its answer says
how the side goes on.  An Act is what a side does on its own between two of them; it needs no answer.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = [
    "BEGIN",
    "CLOSE",
    "END",
    "FAILED",
    "FENCE",
    "NOTIFY",
    "POLL",
    "WAIT",
    "Act",
    "ActKind",
    "Question",
    "StepKind",
]


class StepKind(Enum):
    """What a side is about to do."""

    LOAD = "load"
    READ = "read"
    FENCE = "fence"
    NOTIFY = "signal"
    WAIT = "wait"
    POLL = "poll"
    CLOSE = "close"
    BEGIN = "begin"
    END = "end"
    FAILED = "failed"

    # Each is itself only: much faster than the hash of the name, which Enum takes.
    __hash__ = object.__hash__


class Question(NamedTuple):
    """A step of one side, and where.

    place    the name of a word or an area
    offset   bytes from the start of an area
    length   bytes
    """

    kind: StepKind
    place: str = ""
    offset: int = 0
    length: int = 0

    def __str__(self) -> str:
        return f"{self.kind.value} {self.place}".rstrip()


FENCE = Question(StepKind.FENCE)
NOTIFY = Question(StepKind.NOTIFY)
WAIT = Question(StepKind.WAIT)
POLL = Question(StepKind.POLL)
CLOSE = Question(StepKind.CLOSE)
BEGIN = Question(StepKind.BEGIN)
END = Question(StepKind.END)
FAILED = Question(StepKind.FAILED)


class ActKind(Enum):
    """What a side does on its own."""

    STORE = "store a word"
    WRITE = "write bytes"
    RELEASE = "keep later stores behind earlier ones"
    WAKE = "keep itself from sleeping"
    NOTE = "say something in the story"

    __hash__ = object.__hash__


class Act(NamedTuple):
    """Something that a side does on its own, and where.

    place    the name of the word that is stored, or of the area that is written
    value    what is stored
    offset   bytes from the start of the area
    data     what is written
    text     of a note
    """

    kind: ActKind
    place: str = ""
    value: int = 0
    offset: int = 0
    data: bytes = b""
    text: str = ""
