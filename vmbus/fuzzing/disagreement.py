"""What our strict reader makes of a ring image, and where somebody else's answer differs.

An answer is a list of JSON objects: one for each packet, as `vmbus inspect --json` has it, then {"error": "..."}
where the ring is broken.  Of a packet only "type" or "type_value", and "payload" or "payload_length", must be
there; every other key of ours that is there is compared.

    error         why the reader takes nothing more; it comes last.  Alone, it refuses the ring as a whole, and the
                  packets before the broken one need not be listed
    signal        in an object of its own: whether the sender must be signaled once all these packets have been
                  given back at once

Sources: the rules are those of vmbus.ring, descriptor_fault() and parse_extension().
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Any, NamedTuple

from vmbus.errors import PeerError, RingEmpty
from vmbus.inspection import PacketReport, packet_to_json
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingPacket, IncomingRing

__all__ = ["Disagreement", "DisagreementKind", "Expected", "compare", "expected_of"]


class DisagreementKind(Enum):
    """How an answer can be wrong; the values are names for reports."""

    ACCEPTED_BROKEN = "accepted-what-is-broken"
    REFUSED_GOOD = "refused-what-is-good"
    MISSING_PACKET = "missing-packet"
    EXTRA_PACKET = "extra-packet"
    ORDER = "order"
    TYPE = "type"
    LENGTH = "length"
    PAYLOAD = "payload"
    TRANSACTION_ID = "transaction-id"
    FLAGS = "flags"
    RANGES = "ranges"
    PLACE = "place"
    SIGNAL = "signal"
    NOT_JSON = "not-json"
    CRASH = "crash"
    TIMEOUT = "timeout"
    TOO_MUCH_OUTPUT = "too-much-output"


#: The keys of a packet that are compared, in this order; of several that differ the first is reported.
KEYS = {
    "type": DisagreementKind.TYPE,
    "type_value": DisagreementKind.TYPE,
    "length": DisagreementKind.LENGTH,
    "bytes": DisagreementKind.LENGTH,
    "payload_length": DisagreementKind.LENGTH,
    "payload": DisagreementKind.PAYLOAD,
    "header": DisagreementKind.PAYLOAD,
    "transaction_id": DisagreementKind.TRANSACTION_ID,
    "transaction_id_hex": DisagreementKind.TRANSACTION_ID,
    "flags": DisagreementKind.FLAGS,
    "flags_value": DisagreementKind.FLAGS,
    "ranges": DisagreementKind.RANGES,
    "transfer_page_set_id": DisagreementKind.RANGES,
    "offset": DisagreementKind.PLACE,
    "data_offset": DisagreementKind.PLACE,
}


class Disagreement(NamedTuple):
    """One difference: what our reader says, and what came."""

    kind: DisagreementKind
    expected: str
    came: str


class Expected(NamedTuple):
    """What our strict reader makes of an image.

    packets   as JSON has them; those before the broken one where one is broken
    error     why it takes nothing more, or None
    fault     the name of the rule that was broken, or None
    signal    whether the sender must be signaled once they are all given back; None behind an error
    """

    packets: tuple[dict[str, Any], ...]
    error: str | None
    fault: str | None
    signal: bool | None

    def to_json(self) -> list[dict[str, Any]]:
        """The answer that agrees."""
        end: dict[str, Any] = {"signal": self.signal} if self.error is None else {"error": self.error}
        return [*self.packets, end]


def expected_of(image: bytes) -> Expected:
    """What our strict reader makes of an image.

    image   control page and data area

    >>> expected_of(bytes(8192))
    Expected(packets=(), error=None, fault=None, signal=False)
    """
    ring = IncomingRing(FlatRingMem.over(bytearray(image)))
    packets: list[dict[str, Any]] = []
    try:
        offset = ring.incoming()
        while True:
            start = offset.next_out
            packets.append(packet_json(ring, start, ring.read(offset)))
    except RingEmpty:
        return Expected(tuple(packets), None, None, ring.commit_read(offset))
    except PeerError as error:
        fault = None if error.kind is None else str(error.kind.value)
        return Expected(tuple(packets), str(error), fault, None)


def packet_json(ring: IncomingRing, start: int, packet: IncomingPacket) -> dict[str, Any]:
    report = PacketReport(
        offset=start,
        available=packet.descriptor.packet_size,
        descriptor=packet.descriptor,
        header=packet.extension.reader(ring).read_all(),
        payload=packet.payload.reader(ring).read_all(),
        ranges=packet.ranges,
        transfer_page_set_id=packet.transfer_page_set_id,
    )
    document = packet_to_json(report)
    return {key: document[key] for key in KEYS if key in document}


# -- comparing -------------------------------------------------------------------------------------


def compare(expected: Expected, answer: Sequence[object]) -> Disagreement | None:
    """The first difference between what our reader says and an answer; None where they agree.

    >>> nothing = expected_of(bytes(8192))
    >>> compare(nothing, [{"error": "a ring of zeros"}])
    Disagreement(kind=<DisagreementKind.REFUSED_GOOD: 'refused-what-is-good'>, expected='0 packets', came='error: a ring of zeros')
    """
    malformed = malformed_in(answer)
    if malformed is not None:
        return malformed
    objects: list[dict[str, Any]] = [entry for entry in answer if isinstance(entry, dict)]
    packets = [entry for entry in objects if is_packet(entry)]
    error = objects[-1].get("error") if objects else None
    if error is not None and expected.error is not None and not packets:
        return None
    return (
        difference_of_packets(expected, packets, error)
        or difference_of_ends(expected, packets, error)
        or difference_of_signals(expected, objects)
    )


def is_packet(entry: dict[str, Any]) -> bool:
    return "type" in entry or "type_value" in entry


def malformed_in(answer: Sequence[object]) -> Disagreement | None:
    """What in an answer is not of the protocol."""
    for number, entry in enumerate(answer):
        wanted = problem_of(entry, number == len(answer) - 1)
        if wanted is not None:
            return Disagreement(DisagreementKind.NOT_JSON, wanted, brief(entry))
    return None


def problem_of(entry: object, is_last: bool) -> str | None:
    if not isinstance(entry, dict):
        return "a JSON object"
    if "error" in entry:
        return None if is_last and isinstance(entry["error"], str) else "an error, as text, in the last line"
    if is_packet(entry):
        has_payload = isinstance(entry.get("payload"), str) or isinstance(entry.get("payload_length"), int)
        return None if has_payload else 'a packet with its "payload" in hex'
    return None if isinstance(entry.get("signal"), bool) else 'an object with "type", "error" or "signal"'


def difference_of_packets(
    expected: Expected, packets: Sequence[dict[str, Any]], error: str | None
) -> Disagreement | None:
    """What differs in the packets that both have."""
    for number, (ours, theirs) in enumerate(zip(expected.packets, packets, strict=False)):
        difference = difference_of_packet(ours, theirs, number)
        if difference is not None:
            whole = len(packets) == len(expected.packets) and error is None and expected.error is None
            told_apart = difference.kind is not DisagreementKind.PLACE
            if whole and told_apart and is_another_order(expected.packets, packets):
                return difference._replace(kind=DisagreementKind.ORDER)
            return difference
    return None


def difference_of_packet(ours: dict[str, Any], theirs: dict[str, Any], number: int) -> Disagreement | None:
    payload = theirs.get("payload")
    found = {**theirs, "payload": payload.lower()} if isinstance(payload, str) else dict(theirs)
    if isinstance(payload, str):
        found.setdefault("payload_length", len(payload) // 2)
    if "flags" in found and isinstance(found["flags"], int):
        found["flags_value"] = found.pop("flags")
    for key, kind in KEYS.items():
        if key in found and key in ours and not is_same(ours[key], found[key]):
            return Disagreement(
                kind,
                f"packet {number}: {key} {brief(ours[key])}",
                f"{key} {brief(found[key])}",
            )
    return None


def is_same(ours: Any, theirs: Any) -> bool:
    """Whether two values agree; of ranges, in the keys that both have."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return all(is_same(ours[key], theirs[key]) for key in ours.keys() & theirs.keys())
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(is_same, ours, theirs))
    return bool(ours == theirs)


def is_another_order(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> bool:
    """Whether each packet of theirs is one of ours, at another place."""
    left = list(ours)
    for entry in theirs:
        for candidate in left:
            if difference_of_packet(candidate, entry, 0) is None:
                left.remove(candidate)
                break
        else:
            return False
    return True


def difference_of_ends(
    expected: Expected, packets: Sequence[dict[str, Any]], error: str | None
) -> Disagreement | None:
    """What differs in where the two stop, behind packets that are the same in both."""
    ours, theirs = len(expected.packets), len(packets)
    saying = counted(ours) + ("" if expected.error is None else f", then {expected.error}")
    came = counted(theirs) if theirs or error is None else ""
    came = ", then ".join(part for part in (came, "" if error is None else f"error: {brief(error)}") if part)
    if expected.error is not None and (theirs > ours or error is None):
        return Disagreement(DisagreementKind.ACCEPTED_BROKEN, saying, came)
    if error is not None and (expected.error is None or theirs < ours):
        return Disagreement(DisagreementKind.REFUSED_GOOD, saying, came)
    if theirs != ours:
        fewer = theirs < ours
        kind = DisagreementKind.MISSING_PACKET if fewer else DisagreementKind.EXTRA_PACKET
        return Disagreement(kind, saying, came)
    return None


def counted(packets: int) -> str:
    return f"{packets} packet{'' if packets == 1 else 's'}"


def difference_of_signals(expected: Expected, objects: Sequence[dict[str, Any]]) -> Disagreement | None:
    for entry in signals_in(objects):
        if expected.signal is not None and entry != expected.signal:
            return Disagreement(
                DisagreementKind.SIGNAL, f"signal {expected.signal}".lower(), f"signal {entry}".lower()
            )
    return None


def signals_in(objects: Sequence[dict[str, Any]]) -> Iterator[bool]:
    return (entry["signal"] for entry in objects if not is_packet(entry) and "signal" in entry)


def brief(value: object, longest: int = 120) -> str:
    """A value for a message; the end of a long one left out."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= longest else f"{text[:longest]}..."
