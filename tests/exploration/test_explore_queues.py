"""Virtqueues under every schedule: as they are nothing goes wrong, and with any one line less it does.

Expected texts are tests/expected_output/explore-queue*.txt: what each complete exploration counted, and
the stories of some changes.  After a wanted change of the queues write them anew, and read each before it
is kept:

    python -m tests.exploration.test_explore_queues
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import vmbus.exploration.explored_guest_memory
import vmbus.exploration.queue_explorer
import vmbus.exploration.request_sides
import vmbus.virtio
from tests.exploration.changed_package import Change, changed_package
from tests.helpers import pattern
from tests.known_bugs import known_bug
from vmbus.errors import CallerError
from vmbus.exploration import ViolationKind, WrongRequest, explore_queue, queue_sides
from vmbus.memory import AddressError

EXPECTED = Path(__file__).parent.parent / "expected_output"
COMPLETE = EXPECTED / "explore-queues-complete.txt"

#: What is imported anew to explore changed queues: what has no part in it stays as it is.
QUEUES = (
    *("vmbus.virtio.split_driver", "vmbus.virtio.split_device", "vmbus.virtio.packed_driver"),
    *("vmbus.virtio.packed_device", "vmbus.virtio.packed_events", "vmbus.virtio.notification"),
    *("vmbus.virtio.driver_ring", "vmbus.virtio.device_ring", "vmbus.virtio.queue"),
    *("vmbus.virtio.device_queue", "vmbus.virtio", "vmbus.exploration.queue_plan"),
    *(
        "vmbus.exploration.explored_guest_memory",
        "vmbus.exploration.queue_explorer",
        "vmbus.exploration.request_sides",
    ),
)

SLEEPS, NEEDLESS, FAILED = (
    ViolationKind.SLEEPS_FOREVER,
    ViolationKind.NEEDLESS_SIGNAL,
    ViolationKind.FAILED,
)

PACKED, EVENT_IDX = {"format": "packed"}, {"event_idx": True}

#: The four kinds of queue.
KINDS: dict[str, dict[str, Any]] = {
    "split": {},
    "split, event idx": EVENT_IDX,
    "packed": PACKED,
    "packed, event idx": PACKED | EVENT_IDX,
}


class Exploration(NamedTuple):
    """What is explored: how many requests, whether the sides ask for silence, and the options."""

    count: int
    silent: bool
    options: dict[str, Any]

    def run(self, explorer=vmbus.exploration.queue_explorer, sides=vmbus.exploration.request_sides):
        return explorer.explore_queue(*sides.queue_sides(self.count, silent=self.silent), **self.options)


# -- complete explorations -------------------------------------------------------------------------

#: What is explored to the end.
EXPLORATIONS = {
    **{f"{kind}, a silent request": Exploration(1, True, options) for kind, options in KINDS.items()},
    "split, two requests": Exploration(2, False, {}),
    "split, event idx, two requests from 65535 on": Exploration(2, False, EVENT_IDX | {"start": 0xFFFF}),
    "packed, two requests around the end": Exploration(2, False, PACKED | {"start": 0x8001}),
    "packed, event idx, two requests in turn": Exploration(2, False, PACKED | EVENT_IDX | {"queue_size": 1}),
    "split, one descriptor for two requests": Exploration(2, False, {"queue_size": 1}),
    "split, event idx, a wake for nothing": Exploration(1, False, EVENT_IDX | {"spurious_wakes": 1}),
}

#: A fault that makes explorations endless is to fail soon.
MOST_STATES = 100_000


@cache
def explored(name: str):
    one = EXPLORATIONS[name]
    return one._replace(options=one.options | {"maximum_states": MOST_STATES}).run()


@known_bug("V11", "V12", "V15")
@pytest.mark.parametrize("name", EXPLORATIONS)
def test_no_schedule_loses_a_request_or_a_wake_or_signals_needlessly(name):
    result = explored(name)
    assert result.violation is None, result.story()
    assert result.complete
    assert line_of(name) in COMPLETE.read_text(encoding="utf-8").splitlines()


def line_of(name: str) -> str:
    result = explored(name)
    driver, device = result.histories
    return f"{name}: {result.summary()}; {driver} and {device} histories"


def test_the_expected_counts_are_those_of_these_explorations_and_no_others():
    lines = COMPLETE.read_text(encoding="utf-8").splitlines()
    assert [line.rpartition(": nothing")[0].rpartition(": ")[0] for line in lines] == list(EXPLORATIONS)


# -- one line less ---------------------------------------------------------------------------------


class Removal(NamedTuple):
    """Something that the queues need, and what happens without it.

    change   of the shipped source
    runs     what is explored with that change; something must be found in each
    kind     of violation
    """

    change: Change
    runs: Sequence[Exploration]
    kind: ViolationKind = SLEEPS


SPLIT_DRIVER, SPLIT_DEVICE = "virtio/split_driver.py", "virtio/split_device.py"
PACKED_DRIVER, PACKED_DEVICE = "virtio/packed_driver.py", "virtio/packed_device.py"
FENCE = "        self._fence()\n"

DRIVER_EVENT = "            event = self._used[self._available_event_word]"
DEVICE_EVENT = "            event = self._available[self._used_event_word]"
OF_BOTH_KINDS = "        if self._event_idx:\n"
ASKS_FOR_USED = "            self._available[FLAGS_WORD] = 0 if enabled else NO_INTERRUPT"
ASKS_FOR_AVAILABLE = "            self._used[FLAGS_WORD] = 0"
KICKS = "        needed = self._events.wanted(self._next_slot, self._next_wrap, self._uncounted)"
INTERRUPTS = "        needed = self._events.wanted(self._used_slot, self._used_wrap, self._uncounted)"
ASKS_AT_DRIVER = "        self._events.ask(position)"
ASKS_AT_DEVICE = "        self._events.ask(self.next_avail)"


def unfenced(file: str, line: str) -> Change:
    """That call of PackedEvents without its fence."""
    return Change(
        file, line, f"        self._events._fence = bool\n{line}\n        self._events._fence = self._fence"
    )


def runs(count: int = 1, silent: bool = False, **options: Any) -> list[Exploration]:
    """The same exploration with RING_EVENT_IDX and without."""
    return [Exploration(count, silent, options | {"event_idx": event_idx}) for event_idx in (False, True)]


PLAIN = [Exploration(1, False, {})]
WITH_EVENT = [Exploration(1, False, EVENT_IDX)]
FORMATS = [Exploration(1, False, {"format": format} | EVENT_IDX) for format in ("split", "packed")]

REMOVALS = {
    "split-no-fence-before-the-kick": Removal(
        Change(
            SPLIT_DRIVER,
            f"{FENCE}{OF_BOTH_KINDS}{DRIVER_EVENT}",
            f"{OF_BOTH_KINDS}{DRIVER_EVENT}",
        ),
        runs(),
    ),
    "split-no-fence-before-the-interrupt": Removal(
        Change(
            SPLIT_DEVICE,
            f"{FENCE}{OF_BOTH_KINDS}{DEVICE_EVENT}",
            f"{OF_BOTH_KINDS}{DEVICE_EVENT}",
        ),
        [*runs(2)[1:], *runs(1, silent=True)[:1]],
    ),
    "split-no-fence-after-the-drivers-flags": Removal(
        Change(SPLIT_DRIVER, f"{ASKS_FOR_USED}\n    {FENCE[:-1]}", ASKS_FOR_USED),
        runs(silent=True)[:1],
    ),
    "split-no-fence-after-the-drivers-event": Removal(
        Change(
            SPLIT_DRIVER,
            f"        self._event_index = index\n{FENCE[:-1]}",
            "        self._event_index = index",
        ),
        runs(2)[1:],
    ),
    "split-no-fence-after-the-device-has-asked": Removal(
        Change(
            SPLIT_DEVICE,
            f"{FENCE}        return self._available[INDEX_WORD] != self._taken_index",
            "        return self._available[INDEX_WORD] != self._taken_index",
        ),
        [*runs(silent=True)[:1], *runs(2)[1:]],
    ),
    "packed-no-fence-before-the-kick": Removal(unfenced(PACKED_DRIVER, KICKS), runs(silent=True, **PACKED)),
    "packed-no-fence-before-the-interrupt": Removal(
        unfenced(PACKED_DEVICE, INTERRUPTS), runs(silent=True, **PACKED)
    ),
    "packed-no-fence-after-the-driver-has-asked": Removal(
        Change(
            PACKED_DRIVER,
            f"        position = joined(slot, wrap)\n{ASKS_AT_DRIVER}",
            "        position = joined(slot, wrap)\n        self._events._fence = bool\n"
            f"{ASKS_AT_DRIVER}\n        self._events._fence = self._fence",
        ),
        runs(silent=True, **PACKED),
    ),
    "packed-no-fence-after-the-device-has-asked": Removal(
        unfenced(PACKED_DEVICE, ASKS_AT_DEVICE), runs(silent=True, **PACKED)
    ),
    "no-look-after-the-device-has-asked": Removal(
        Change(
            SPLIT_DEVICE,
            "        return self._available[INDEX_WORD] != self._taken_index",
            "        return False",
        ),
        [*runs(silent=True)[:1], *runs(2)[1:]],
    ),
    "event-compared-without-going-round": Removal(
        Change(
            "virtio/notification.py",
            "    return (new - event - 1) & 0xFFFF < count",
            "    return event < new <= event + count",
        ),
        [Exploration(1, False, EVENT_IDX | {"start": 0xFFFF})],
    ),
    "kick-for-every-request": Removal(
        Change(
            SPLIT_DRIVER,
            "            needed = event_reached(event, self._available_index, self._uncounted)",
            "            needed = True",
        ),
        runs(2)[1:],
        NEEDLESS,
    ),
    "interrupt-for-every-request": Removal(
        Change(
            SPLIT_DEVICE,
            "            needed = event_reached(event, self._used_index, self._uncounted)",
            "            needed = True",
        ),
        runs(2)[1:],
        NEEDLESS,
    ),
    "packed-interrupt-for-every-request": Removal(
        Change(PACKED_DEVICE, INTERRUPTS, f"{INTERRUPTS}\n        needed = True"),
        runs(silent=True, **PACKED),
        NEEDLESS,
    ),
    "packed-kick-although-silent": Removal(
        Change(PACKED_DRIVER, KICKS, f"{KICKS}\n        needed = True"),
        runs(silent=True, **PACKED),
        NEEDLESS,
    ),
    "kick-although-silent": Removal(
        Change(
            SPLIT_DRIVER,
            "            needed = not_suppressed(self._used[FLAGS_WORD], self._uncounted)",
            "            needed = self._used[FLAGS_WORD] >= 0",
        ),
        runs(silent=True)[:1],
        NEEDLESS,
    ),
    "available-index-before-its-descriptor": Removal(
        Change(
            SPLIT_DRIVER,
            "        index = self._available_index\n"
            "        self._available[FIRST_SLOT_WORD + (index & self._mask)] = head",
            "        index = self._available_index\n"
            "        self._available[INDEX_WORD] = (index + 1) & 0xFFFF\n"
            "        self._available[FIRST_SLOT_WORD + (index & self._mask)] = head",
        ),
        runs(2)[:1],
        FAILED,
    ),
    "used-index-before-its-element": Removal(
        Change(
            SPLIT_DEVICE,
            "        self._pack_used((index & self._mask) * USED_ELEMENT_SIZE, head, length)",
            "        self._used[INDEX_WORD] = (index + 1) & 0xFFFF\n"
            "        self._pack_used((index & self._mask) * USED_ELEMENT_SIZE, head, length)",
        ),
        runs(1)[:1],
        FAILED,
    ),
}

#: Those whose stories are kept word for word.
STORIES = (
    "split-no-fence-before-the-kick",
    "split-no-fence-after-the-drivers-event",
    "packed-no-fence-before-the-interrupt",
    "packed-no-fence-after-the-device-has-asked",
    "kick-for-every-request",
)


@cache
def found_without(name: str) -> tuple[tuple[str, str, int, str], ...]:
    """What each run of a removal finds: the kind, the summary, the states, and the story."""
    removal = REMOVALS[name]
    with changed_package([removal.change], anew=QUEUES):
        explorer = import_module("vmbus.exploration.queue_explorer")
        sides = import_module("vmbus.exploration.request_sides")
        results = [one.run(explorer, sides) for one in removal.runs]
        return tuple(
            (getattr(result.violation, "kind", None), result.summary(), result.states, result.story())
            for result in results
        )


@known_bug("V11", "V12", "V15")
@pytest.mark.parametrize("name", REMOVALS)
def test_a_story_tells_what_goes_wrong_without_it(name):
    for kind, summary, states, story in found_without(name):
        assert kind is REMOVALS[name].kind, f"{summary}\n{story}"
        assert states < 7000
        assert story.startswith(f"{'driver':44}device\n")
        assert "All can see: " in story


@known_bug("V12", "V15")
@pytest.mark.parametrize("name", STORIES)
def test_the_story_is_the_one_that_was_read(name):
    assert story_of(name) == (EXPECTED / f"explore-queue-{name}.txt").read_text(encoding="utf-8")


def story_of(name: str) -> str:
    return found_without(name)[-1][3]


# -- sides and memory by themselves ----------------------------------------------------------------


def one_driver(memory, signal):
    """Adds a request of 4 bytes and sleeps until it has it back."""
    queue = memory.virtqueue()
    yield
    queue.add_place(4, from_dev=True)
    if queue.avail_notif_needed():
        signal.notify()
    while True:
        for completion in queue.completions():
            return completion.request[: completion.length]
        signal.wait(None)


def device_that(work):
    """A device that takes a request, does `work` with queue, chain and signal, and ends."""

    def device(memory, signal):
        queue = memory.device_queue()
        yield
        while (chain := queue.pop_descriptor_chain()) is None:
            if not queue.enable_notification():
                signal.wait(None)
        work(queue, chain, signal)

    return device


def complete(queue, chain, signal, answer=b"done"):
    queue.add_used(chain.head_index, chain.write_all(answer))
    if queue.needs_notification():
        signal.notify()


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_keeps_a_request_leaves_the_driver_asleep(kind):
    result = explore_queue(one_driver, device_that(lambda *_: None), **KINDS[kind])
    assert result.violation == (SLEEPS, 0)
    assert (
        "The one_driver sleeps for ever: no signal is on its way, and the device has ended." in result.story()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_completes_and_does_not_signal_leaves_the_driver_asleep(kind):
    def silently(queue, chain, signal):
        queue.add_used(chain.head_index, chain.write_all(b"done"))

    assert explore_queue(one_driver, device_that(silently), **KINDS[kind]).violation == (SLEEPS, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_signals_twice_for_one_completion_signals_needlessly(kind):
    def twice(queue, chain, signal):
        complete(queue, chain, signal)
        signal.notify()

    result = explore_queue(one_driver, device_that(twice), **KINDS[kind])
    assert result.violation == (NEEDLESS, 1)
    assert " signals, and it has" in result.story()


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_signals_before_it_has_looked_signals_needlessly(kind):
    def blindly(queue, chain, signal):
        queue.add_used(chain.head_index, chain.write_all(b"done"))
        signal.notify()

    result = explore_queue(one_driver, device_that(blindly), **KINDS[kind])
    assert result.violation == (NEEDLESS, 1)
    assert "it has not loaded" in result.story()


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_sides_return_is_counted(kind):
    result = explore_queue(one_driver, device_that(complete), **KINDS[kind])
    assert result.complete, result.story()
    assert result.outcomes == {(b"done", None): result.schedules}


def test_the_ready_made_driver_finds_an_answer_that_is_not_for_its_request():
    def wrong(queue, chain, signal):
        complete(queue, chain, signal, b"\x77")

    driver, _ = queue_sides(1)
    result = explore_queue(driver, device_that(wrong))
    assert result.violation == (FAILED, 0)
    assert "The driver failed: WrongRequest: request 1 came back with 77\n" in result.story()


class TakingTwice:
    """A device queue whose first chain comes a second time."""

    def __init__(self, queue):
        self.queue = queue
        self.taken = []

    def __iter__(self):
        for chain in self.queue:
            self.taken.append(chain)
            yield chain
            yield chain

    def __getattr__(self, name):
        return getattr(self.queue, name)


def test_the_ready_made_device_finds_a_request_that_came_twice(monkeypatch):
    driver, device = queue_sides(2)
    make = vmbus.exploration.explored_guest_memory.ExploredGuestMemory.device_queue
    monkeypatch.setattr(
        vmbus.exploration.explored_guest_memory.ExploredGuestMemory,
        "device_queue",
        lambda memory: TakingTwice(make(memory)),
    )
    result = explore_queue(driver, device)
    assert result.violation == (FAILED, 1)
    assert f"{WrongRequest.__name__}: request 2 has room for 1 bytes" in result.story()


def test_requests_with_places_and_tables_of_their_own_are_explored_too():
    """The driver fills its place through the view that it is given; the device reads it along a table."""

    def driver(memory, signal):
        queue = memory.virtqueue()
        yield

        def prepare(place, add_descriptor):
            assert len(place.data) == place.data.nbytes == 8
            place.data[:4] = b"ping"
            place.data[3] = ord("G")
            add_descriptor(place.address, 4)
            add_descriptor(place.address + 4, 4, from_dev=True)

        queue.add_request(prepare, indirect=True)
        if queue.avail_notif_needed():
            signal.notify()
        while True:
            for completion in queue.completions():
                return completion.request
            signal.wait(None)

    def device(memory, signal):
        def echo(queue, chain, signal):
            complete(queue, chain, signal, chain.read_all().upper())

        return device_that(echo)(memory, signal)

    for format in ("split", "packed"):
        result = explore_queue(driver, device, format=format, request_size=8, indirect_size=2)
        assert result.complete, result.story()
        assert result.outcomes == {(b"pinGPING", None): result.schedules}


def on_the_drivers_memory(work, **options):
    """What `work` returns, done alone by the driver, with the memory and what it made."""

    def driver(memory, signal):
        return work(memory, memory.virtqueue())

    result = explore_queue(driver, lambda memory, signal: None, **options)
    assert result.complete, result.story()
    ((found, _),) = result.outcomes
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_an_explored_memory_holds_each_byte_of_the_block_once(kind):
    def work(memory, queue):
        length = queue.layout.end_offset
        start = memory.plan.queue_areas.descriptor_table
        memory.write(start, pattern(length))
        assert memory.read(start, length) == pattern(length)
        view = memory.view(start, length)
        assert bytes(view) == view.tobytes() == view[:].tobytes() == pattern(length)
        words = memory.halfwords(start, length // 2)
        assert bytes(view[2:4]) == pattern(length)[2:4]
        assert [words[word].to_bytes(2, "little") for word in range(length // 2)] == [
            pattern(length)[at : at + 2] for at in range(0, length - 1, 2)
        ]
        return True

    assert on_the_drivers_memory(work, **KINDS[kind])


@pytest.mark.parametrize(
    ("offset", "length", "error", "message"),
    [
        (-1, 1, AddressError, "1 bytes at 0xfff are not in the queue's block"),
        (0, 10_000, AddressError, "10000 bytes at 0x1000 are not in the queue's block"),
        (0, -1, AddressError, "-1 bytes at 0x1000 are not in the queue's block"),
        (33, 1, CallerError, "1 bytes at 0x1021 have half of a word that both sides poll"),
        (30, 3, CallerError, "3 bytes at 0x101e have half of a word that both sides poll"),
    ],
)
def test_an_access_outside_the_block_or_to_half_a_word_is_refused(offset, length, error, message):
    def work(memory, queue):
        with pytest.raises(error, match=f"^{message}") as caught:
            memory.read(0x1000 + offset, length)
        return type(caught.value)

    assert on_the_drivers_memory(work) is error


@pytest.mark.parametrize(
    ("options", "argument", "value"),
    [
        ({"format": "folded"}, "format", "folded"),
        ({"queue_size": 3}, "size", 3),
        ({"queue_size": 0, "format": "packed"}, "size", 0),
        ({"request_size": -1}, "request_size", -1),
    ],
)
def test_what_no_queue_can_be_is_refused(options, argument, value):
    with pytest.raises(CallerError) as caught:
        explore_queue(*queue_sides(1), **options)
    assert (caught.value.argument, caught.value.value) == (argument, value)


def test_a_queue_that_is_made_over_half_its_package_leaves_nothing_behind():
    before = {name: module for name, module in sys.modules.items() if name.startswith("vmbus")}
    with changed_package([REMOVALS["kick-for-every-request"].change], anew=QUEUES):
        assert import_module("vmbus.virtio") is not before["vmbus.virtio"]
        assert import_module("vmbus.virtio.layout") is before["vmbus.virtio.layout"]
    assert {name: module for name, module in sys.modules.items() if name.startswith("vmbus")} == before
    assert vmbus.exploration.request_sides is before["vmbus.exploration.request_sides"]
    assert vmbus.virtio is before["vmbus.virtio"]


def main() -> None:
    """Write every expected text anew."""
    COMPLETE.write_text("\n".join(map(line_of, EXPLORATIONS)) + "\n", encoding="utf-8")
    for name in REMOVALS:
        for _, summary, _, _ in found_without(name):
            print(f"{name}: {summary}", file=sys.stderr)
        if name in STORIES:
            (EXPECTED / f"explore-queue-{name}.txt").write_text(story_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
