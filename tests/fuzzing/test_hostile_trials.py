"""The trials with a hostile peer: fixed random cases find nothing wrong and meet every corner, and see what is.

tests/planted_hostile_faults.py has the faults that these cases were seen to find.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from vmbus.errors import PeerError, RingEmpty
from vmbus.fuzzing import (
    Access,
    Case,
    HostileChannelTrial,
    HostileQueueTrial,
    HostileRingTrial,
    Step,
    Trial,
    Wrong,
)
from vmbus.fuzzing.one_look import Looks
from vmbus.ring import IncomingPacketType, Packet, RingFault
from vmbus.virtio import VirtqueueFault

#: The trials, and how many cases of each.
TRIALS: dict[str, tuple[type[Trial], int]] = {
    "hostile-ring": (HostileRingTrial, 60),
    "hostile-channel": (HostileChannelTrial, 150),
    "hostile-queue": (HostileQueueTrial, 150),
}

SEED = 7


def random_cases(trial: type[Trial], count: int) -> list[Case]:
    random = Random(SEED)
    return [Case.from_bytes(trial, random.randbytes(random.choice((100, 300, 500)))) for _ in range(count)]


@pytest.mark.parametrize("name", TRIALS)
def test_a_victim_keeps_the_law_whatever_is_struck_and_every_corner_is_met(name):
    trial, count = TRIALS[name]
    met: Counter[str] = Counter()
    for case in random_cases(trial, count):
        try:
            met += case.perform()
        except Wrong as error:
            pytest.fail(f"{error}\n\nfound by this case:\n{case}", pytrace=False)
    assert set(trial.CORNERS) - set(met) == set()


@pytest.mark.parametrize("trial", [trial for trial, _ in TRIALS.values()], ids=TRIALS)
def test_a_case_is_the_same_case_again_behind_bytes_and_json(trial):
    for case in random_cases(trial, 3):
        again = Case.from_bytes(trial, case.to_bytes())
        assert again == case
        assert Case.from_json(trial, case.to_json()) == case
        assert again.perform() == case.perform()


# -- cases that go where random ones seldom come ---------------------------------------------------

RING = {"pages": 1, "start": 0}
SPLIT_DEVICE = {"victim": "device", "format": "split", "size": 4, "start": 0}
PACKED_DRIVER = {"victim": "driver", "format": "packed", "size": 4, "start": 0x8000}


def honest(length: int) -> Step:
    return Step("honest_packet", {"kind": "in-band", "length": length})


def word(word: str, value: int, after: int = 0) -> Step:
    return Step("strike_word", {"victim": "reader", "after": after, "word": word, "value": value})


def request(room: int) -> Step:
    return Step("add", {"readable": 8, "room": room, "parts": 1, "indirect": False})


def answer(name: int, length: int) -> Step:
    return Step("strike_answer", {"after": 0, "ahead": 0, "name": name, "length": length, "flags": 2})


RECEIVE, READ, COMMIT, POP = (Step(name, {}) for name in ("receive", "read", "commit_read", "pop"))
RECEIVE_MANY, COMPLETE = Step("receive_many", {"limit": 4}), Step("complete", {"limit": 1})

#: Name: the trial, its settings, its steps, and the fault that its victim must have met.
DEEP: dict[str, tuple[type[Trial], dict[str, Any], list[Step], Any]] = {
    "in that is no multiple of 8": (
        HostileRingTrial,
        RING,
        [honest(16), word("in", 36), RECEIVE],
        RingFault.INVALID_RING_POINTER,
    ),
    "footer that is not published": (
        HostileRingTrial,
        RING,
        [honest(16), word("in", 32), RECEIVE],
        RingFault.FOOTER_NOT_PUBLISHED,
    ),
    "second error behind the first": (
        HostileRingTrial,
        RING,
        [honest(16), READ, word("in", 4), RECEIVE_MANY, word("pending", 8), word("in", 12), COMMIT, RECEIVE],
        RingFault.INVALID_RING_POINTER,
    ),
    "head that the device has already": (
        HostileQueueTrial,
        SPLIT_DEVICE,
        [request(8), POP, answer(0, 0), POP, POP],
        VirtqueueFault.HEAD_IN_FLIGHT,
    ),
    "used length that has no room": (
        HostileQueueTrial,
        PACKED_DRIVER,
        [request(8), answer(0, 64), COMPLETE, COMPLETE],
        VirtqueueFault.USED_LENGTH_TOO_LARGE,
    ),
}


@pytest.mark.parametrize("name", DEEP)
def test_a_victim_keeps_the_law_where_random_cases_seldom_come(name):
    kind, settings, steps, fault = DEEP[name]
    trial = kind(**settings)
    for step in steps:
        trial.perform(step.name, step.arguments)
    trial.finish()
    victim = trial.reader if isinstance(trial, HostileRingTrial) else trial.victim
    assert victim.fault is not None and victim.fault[1] is fault
    assert Case.from_bytes(kind, Case(kind, settings, tuple(steps)).to_bytes()).steps == tuple(steps)


# -- liars -----------------------------------------------------------------------------------------


def new_ring_trial() -> HostileRingTrial:
    trial = HostileRingTrial(pages=1, start=511)
    trial.perform("honest_packet", {"kind": "in-band", "length": 16})
    return trial


def lie(trial: HostileRingTrial, answer: Callable[[], Any]) -> None:
    """Put a receiver in place of the victim's that only returns or raises what it is told."""
    trial.reader.ring.receive = answer  # type: ignore[method-assign]


GOOD = Packet(IncomingPacketType.IN_BAND, 1, b"", (), 0, None)


def raises(error: Exception) -> Callable[[], Any]:
    def answer() -> Any:
        raise error

    return answer


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (raises(IndexError("out of range")), "raised IndexError"),
        (raises(ValueError("bad")), "raised ValueError"),
        (raises(RingEmpty()), "1 packets were put in"),
        (lambda: (GOOD, False), "a packet of an honest sender"),
    ],
)
def test_a_receiver_that_lies_about_an_honest_ring_is_found(answer, sentence):
    trial = new_ring_trial()
    lie(trial, answer)
    with pytest.raises(Wrong, match=sentence):
        trial.receive()


def test_a_receiver_that_never_ends_is_found_by_its_accesses_and_not_by_time():
    trial = new_ring_trial()

    def forever() -> Any:
        while True:
            trial.reader.memory.acquire()

    lie(trial, forever)
    with pytest.raises(Wrong, match="goes on after 16 accesses: the next is"):
        trial.receive()


def test_a_receiver_that_goes_on_behind_an_error_is_found():
    trial = new_ring_trial()
    trial.strike_word("reader", 0, "in", 4)
    trial.receive()
    assert trial.reader.fault is not None
    lie(trial, lambda: (GOOD, False))
    with pytest.raises(
        Wrong, match=r"receive of the reader returned .* it had raised PeerError: in is 0x0004"
    ):
        trial.receive()
    lie(trial, raises(PeerError("another")))
    with pytest.raises(Wrong, match="behind a PeerError"):
        trial.receive()


def test_a_receiver_that_stores_a_word_of_the_sender_is_found():
    trial = new_ring_trial()
    receive = trial.reader.ring.receive

    def meddle() -> Any:
        trial.reader.memory.control[3] = 0
        return receive()

    lie(trial, meddle)
    with pytest.raises(Wrong, match="the reader stored word 3: not its own"):
        trial.receive()


def test_a_receiver_that_looks_twice_is_found_once_the_descriptor_changes_in_between():
    trial = new_ring_trial()
    for length in (8, 16):
        trial.honest_packet("in-band", length)
    receive = trial.reader.ring.receive

    def look_twice() -> Any:
        memory = trial.reader.memory
        length = 8 * int.from_bytes(memory.read_at(trial.reader.out + 4, 2), "little") - 16
        packet, signal = receive()
        return packet._replace(payload=packet.payload[:length]), signal

    lie(trial, look_twice)
    trial.receive()  # as long as nothing changes nobody can tell
    trial.strike_descriptor(1, "next", 6, 2, 4, 0)
    with pytest.raises(Wrong, match="put together from two looks"):
        trial.receive()


def test_a_receiver_that_moves_out_too_far_is_found():
    trial = new_ring_trial()
    receive = trial.reader.ring.receive

    def too_far() -> Any:
        result = receive()
        trial.reader.accesses = [
            access._replace(value=8) if access[:2] == ("store", 1) else access
            for access in trial.reader.accesses
        ]
        return result

    lie(trial, too_far)
    with pytest.raises(Wrong, match="out is 0x8 now; the packets end at 0x20"):
        trial.receive()


# -- one look --------------------------------------------------------------------------------------

HEAD = bytes.fromhex("0600 0200 0300 0000 0700000000000000".replace(" ", ""))


def reads(*pairs: tuple[int, bytes]) -> list[Access]:
    return [Access("read", place, len(data), data, True) for place, data in pairs]


def test_a_packet_is_explained_by_the_reads_of_its_descriptor_and_payload_also_across_the_end():
    packet = Packet(IncomingPacketType.IN_BAND, 7, b"payload!", (), 0, None)
    looks = Looks(reads((4088, HEAD), (8, b"payload!")), 4096)
    assert looks.ends_of(packet, 4088, known_in=24) == {24}
    assert looks.ends_of(packet, 4088, known_in=16) == set()
    assert looks.ends_of(packet._replace(flags=1), 4088, 24) == set()
    assert looks.ends_of(packet._replace(payload=b"another!"), 4088, 24) == set()
    assert looks.reachable(4088, {24}) == {4088, 24}


def test_reads_compose_bytes_in_their_order_alone():
    looks = Looks(reads((0, b"ab"), (2, b"x"), (8, b"cd")), 4096)
    assert [looks.compose(data) for data in (b"abcd", b"abxcd", b"cd", b"", b"cdab", b"abc")] == [
        *(True, True, True, True),
        *(False, False),
    ]
