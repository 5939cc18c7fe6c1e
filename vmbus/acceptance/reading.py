"""One model followed through a ring: what it does there as the receiving end, whom it wakes, and what it writes.

Whatever the bytes are there is an end: a model is followed for at most 4096 packets, and once it has gone past what
is published, for 64 more or until it is where it was.

Offsets and sizes are in bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from vmbus.images import MissingMemory

from .model import Answer, Model, RingView, Signal, Step, Write

__all__ = ["MOST_PACKETS", "MOST_STALE", "Reading", "read_through", "reading_by"]

#: A model is followed for so many packets, and for so many that nobody published.
MOST_PACKETS = 4096
MOST_STALE = 64


class Reading(NamedTuple):
    """All that one implementation does with a ring.

    steps          what it does as the receiving end, packet after packet; the last one takes none
    after_first    whether it wakes the sender when it gives back the first packet alone; None where it takes none
                   that is published, or an index is out of range
    after_all      the same, when it gives back at once all that is published; None where it does not take it all
    write          what it does as the sending end
    """

    model: Model
    steps: tuple[Step, ...]
    after_first: Signal | None
    after_all: Signal | None
    write: Write

    @property
    def packets(self) -> tuple[Step, ...]:
        """The steps that take a packet."""
        return self.steps[:-1]

    @property
    def end(self) -> Step:
        """The step that ends it."""
        return self.steps[-1]

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.model.name,
            "title": self.model.title,
            "source": self.model.source,
            "unverified": list(self.model.unverified),
            "packets": [step_to_json(step) for step in self.packets],
            "end": step_to_json(self.end),
            "signal_after_first": signal_to_json(self.after_first),
            "signal_after_all": signal_to_json(self.after_all),
            "write": {
                "answer": self.write.answer.value,
                "signals": self.write.signals,
                "why": self.write.why,
                "verified": self.write.verified,
            },
        }


def reading_by(model: Model, ring: RingView, write_size: int) -> Reading:
    """All that one model does with a ring."""
    steps = read_through(model, ring)
    first = last = None
    if ring.in_offset < ring.size and ring.out_offset < ring.size:
        published = [step for step in steps[:-1] if step.next_offset is not None]
        if steps[-1].answer is Answer.PAST_IN:
            published.pop()  # of the last one a part only
        if published:
            first = signal_to(model, ring, published[0])
        if steps[-1].answer is Answer.EMPTY and published:
            last = signal_to(model, ring, published[-1])
    return Reading(model, steps, first, last, model.write(ring, write_size))


def signal_to(model: Model, ring: RingView, step: Step) -> Signal:
    """Whether a model wakes the sender that has read up to the end of a step at once."""
    assert step.next_offset is not None
    return model.signal_after_read(ring, ring.out_offset, step.next_offset)


def read_through(model: Model, ring: RingView) -> tuple[Step, ...]:
    """What a model does as the receiving end, from out on until it ends."""
    refusal = model.opens(ring)
    if refusal is not None:
        return (refusal,)
    steps: list[Step] = []
    out = ring.out_offset
    left = (ring.in_offset - out) % ring.size if ring.in_offset < ring.size else 0
    while len(steps) < MOST_PACKETS:
        step = attempt(model, ring, out)
        steps.append(step)
        if step.next_offset is None:
            return tuple(steps)
        if step.taken > left:
            return (*steps, past_in(model, ring, step, step.taken - left))
        left -= step.taken
        out = step.next_offset
    return (*steps, Step(out, Answer.CUT, f"it was followed for {MOST_PACKETS} packets"))


def attempt(model: Model, ring: RingView, out: int) -> Step:
    """What a model does at one offset, in an image that may lack bytes."""
    try:
        return model.take(ring, out)
    except MissingMemory as error:
        return Step(out, Answer.MISSING, f"address {error.address:#x} is not in the image").inferred()


def past_in(model: Model, ring: RingView, step: Step, by: int) -> Step:
    """The end of a model that has taken more than is published, and what it makes of the bytes there."""
    assert step.next_offset is not None
    out, seen, end = step.next_offset, set[int](), ""
    while not end:
        if out in seen or len(seen) == MOST_STALE:
            end = "and no end of it" if out in seen else "and more"
            break
        following = attempt(model, ring, out)
        if following.next_offset is None:
            end = f"and then {following.answer.value}"
            break
        seen.add(out)
        out = following.next_offset
    gone = (
        f"it goes {by} bytes past in" if ring.in_offset < ring.size else "it goes on although in is no offset"
    )
    count = len(seen)
    stale = f": {count} packet{'' if count == 1 else 's'} that nobody published, {end}"
    return Step(step.next_offset, Answer.PAST_IN, gone + stale).inferred()


def step_to_json(step: Step) -> dict[str, Any]:
    return {
        "offset": step.offset,
        "answer": step.answer.value,
        "why": step.why,
        "verified": step.verified,
        "length": step.length if step.next_offset is not None else None,
        "payload_offset": step.payload_offset,
        "payload_length": step.payload_length,
        "next": step.next_offset,
    }


def signal_to_json(signal: Signal | None) -> dict[str, Any] | None:
    if signal is None:
        return None
    return {"signals": signal.signals, "why": signal.why, "verified": signal.verified}
