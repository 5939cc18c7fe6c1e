"""What differs, in few words: two stretches of bytes, or two packets.

The trials compare thousands of bytes at once; to print them all would hide the one that is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmbus.ring import Packet

from .trial import Wrong, brief

__all__ = ["demand_bytes", "demand_packets"]

#: So many bytes are shown of what differs.
SHOWN = 16


def demand_bytes(found: bytes, expected: bytes, what: str) -> None:
    """Raise Wrong, with the first place that differs, unless both are the same.

    >>> demand_bytes(b"hello, ring", b"hello, rung", "a greeting")
    Traceback (most recent call last):
    vmbus.fuzzing.trial.Wrong: a greeting: from byte 8 of 11 on 696e67 instead of 756e67
    """
    if found == expected:
        return
    if len(found) != len(expected):
        raise Wrong(f"{what}: {len(found)} bytes instead of {len(expected)}")
    at = next(at for at, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other)
    shown = slice(at, at + SHOWN)
    raise Wrong(
        f"{what}: from byte {at} of {len(found)} on {found[shown].hex()} instead of {expected[shown].hex()}"
    )


def demand_packets(found: Sequence[Packet], expected: Sequence[Packet], what: str) -> None:
    """Raise Wrong, with the first packet and the field of it that differ, unless all are the same."""
    if list(found) == list(expected):
        return
    if len(found) != len(expected):
        raise Wrong(f"{what}: {len(found)} packets instead of {len(expected)}")
    for number, (one, other) in enumerate(zip(found, expected, strict=True), start=1):
        place = f"{what}, number {number} of {len(found)}" if len(found) > 1 else what
        for field in Packet._fields:
            values = getattr(one, field), getattr(other, field)
            if field == "payload":
                demand_bytes(one.payload, other.payload, f"{place}: payload")
            elif values[0] != values[1]:
                raise Wrong(f"{place}: {field} {brief(values[0])} instead of {brief(values[1])}")
    raise Wrong(f"{what}: {brief(found)} instead of {brief(expected)}")
