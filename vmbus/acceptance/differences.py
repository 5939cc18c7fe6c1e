"""Where models of ring code part, and in what: answers of the same kind, grouped by who gives them.

Only verified answers count.  Who never comes to a place does not differ there: it parted earlier.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from .model import Answer, Step

__all__ = ["Difference", "Group", "Kind", "answers_at", "differing", "listed"]


class Kind(Enum):
    """In what models part; the values stand in reports."""

    ACCEPTANCE = "acceptance"  # one takes a packet and another does not
    LENGTH = "length"  # both take it, with another payload
    NEXT = "next"  # and go on at another offset
    ENDING = "ending"  # neither takes it, in different ways
    SIGNAL = "signal"  # one wakes the other side
    ROOM = "room"  # one writes a packet


class Group(NamedTuple):
    """Models that answer alike for the same reason."""

    models: tuple[str, ...]
    answer: str
    why: str


class Difference(NamedTuple):
    """A place where models part.

    offset   of the packet; None for the control page
    groups   who answers what, and why; at least two of the answers differ
    """

    kind: Kind
    offset: int | None
    groups: tuple[Group, ...]

    @property
    def message(self) -> str:
        """Who does what, and why, in one sentence."""
        return "; ".join(
            f"{listed(group.models)}: {group.answer}{f' ({group.why})' if group.why else ''}"
            for group in self.groups
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind.value,
            "offset": self.offset,
            "groups": [
                {"models": list(group.models), "answer": group.answer, "why": group.why}
                for group in self.groups
            ],
            "message": self.message,
        }


def listed(names: Sequence[str]) -> str:
    """Names in a sentence.

    >>> listed(["linux"]), listed(["linux", "dpdk", "freebsd"])
    ('linux', 'linux, dpdk and freebsd')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def differing(
    kind: Kind, offset: int | None, answers: Sequence[tuple[str, str, str]]
) -> Iterator[Difference]:
    """The difference between answers (model, answer, why), where there is one.

    >>> [one.message for one in differing(Kind.ROOM, None, [("a", "no", "full"), ("b", "yes", ""), ("c", "yes", "")])]
    ['a: no (full); b and c: yes']
    """
    if len({answer for _, answer, _ in answers}) < 2:
        return
    groups: dict[tuple[str, str], list[str]] = {}
    for model, answer, why in answers:
        groups.setdefault((answer, why), []).append(model)
    yield Difference(
        kind, offset, tuple(Group(tuple(models), answer, why) for (answer, why), models in groups.items())
    )


def answers_at(offset: int, steps: Sequence[tuple[str, Step]]) -> Iterator[Difference]:
    """Where models part that have all come to the same offset."""
    sure = [(model, step) for model, step in steps if step.verified]
    taking = [(model, step) for model, step in sure if step.answer is Answer.TAKES]
    if not taking or len(taking) < len(sure):
        kind = Kind.ACCEPTANCE if taking else Kind.ENDING
        yield from differing(kind, offset, [(model, in_words(step), step.why) for model, step in sure])
    # Those whose payload is not for the ring's code to find say nothing of its length.
    yield from differing(
        Kind.LENGTH,
        offset,
        [
            (model, f"{step.payload_length} bytes of payload from byte {step.payload_offset}", step.why)
            for model, step in taking
            if step.payload_length is not None
        ],
    )
    yield from differing(
        Kind.NEXT,
        offset,
        [(model, f"goes on at {step.next_offset:#06x}", step.why) for model, step in taking],
    )


def in_words(step: Step) -> str:
    """What a model does, in words."""
    took = step.answer is Answer.TAKES
    return f"takes a packet of {step.length} bytes" if took else str(step.answer.value)
