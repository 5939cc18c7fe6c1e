"""The trials of virtqueues: the corners that their cases meet, and what they say of memories and ends that are wrong."""

from __future__ import annotations

import pytest

from tests.fuzzing.corners import SEEDS, corners_not_met
from vmbus.errors import CallerError, RingFull
from vmbus.fuzzing.queue_model import Asking, QueueModel
from vmbus.fuzzing.queue_trial import PackedQueueTrial, SplitQueueTrial
from vmbus.fuzzing.trial import Wrong
from vmbus.memory import GuestMemory
from vmbus.virtio import DeviceQueue, Virtqueue

BOTH = pytest.mark.parametrize("trial", [SplitQueueTrial, PackedQueueTrial], ids=["split", "packed"])

ADD = ("add_some", {"lengths": (7, 16), "writable": 1, "in_place": False, "count": 1})
SERVE = ("serve_some", {"length": 16, "cut": 7, "count": 1})
POP = ("pop_some", {"count": 1, "cut": 7})
TAKE = ("take_some", {"count": 1})
MIGRATE = ("migrate", {"more": 0, "forget": False, "stop": True, "then_ask": False})
STEP_BACK = ("step_back", {"more": 0, "use_last": False, "steps": 1})
DEVICE_ASKS = ("device_asks_whether_to_notify", {})


@pytest.mark.parametrize("seed", SEEDS)
@BOTH
def test_a_few_hundred_cases_of_random_bytes_meet_every_corner_of_a_virtqueue(trial, seed):
    assert corners_not_met(trial, seed) == set()


def new_trial(trial, **options):
    return trial(size=4, start=0x8003, event_idx=True, indirect_size=2, translated=True, **options)


@BOTH
def test_requests_that_go_round_by_the_dozen_end_after_some_hundreds(trial):
    """Or a case of 800 bytes would take a second."""
    made = new_trial(trial)
    for _ in range(12):
        made.perform("many_go_round", {"rounds": 30})
    assert made.requests_made == 300
    made.close()


class Counting(GuestMemory):
    reads = 0

    def read(self, address, length):
        type(self).reads += 1
        return super().read(address, length)


@BOTH
def test_a_memory_and_ends_of_the_users_own_are_those_that_are_used(trial):
    class MyDriver(Virtqueue):
        pass

    class MyDevice(DeviceQueue):
        pass

    made = new_trial(trial, make_memory=Counting, make_driver=MyDriver, make_device=MyDevice)
    Counting.reads = 0
    for step in (ADD, POP, MIGRATE, STEP_BACK, SERVE, TAKE):
        made.perform(*step)
    made.finish()
    made.close()
    assert (type(made.driver), type(made.device)) == (MyDriver, MyDevice)
    assert Counting.reads > 0


class LosesThePartInTheNextRegion(GuestMemory):
    def write(self, address, data):
        super().write(address, data[: 50 - address % 50] if address >= 0x40_0000 else data)


class SaysNothing(DeviceQueue):
    def needs_notification(self):
        super().needs_notification()
        return False


class ForgetsWhatItHolds(DeviceQueue):
    @classmethod
    def from_state(cls, memory, state, **options):
        return super().from_state(memory, state._replace(next_avail=state.next_used, held=()), **options)


class GivesBackTheOldest(DeviceQueue):
    def add_used(self, head_index, length=0):
        heads = [head for head, _ in self.state().held]
        super().add_used(heads[0] if head_index in heads else head_index, length)


class IsFullTooSoon(Virtqueue):
    def add_request(self, prepare, *, indirect=False):
        raise RingFull("full", needed=1, free=0)


class LosesThePlace(Virtqueue):
    def completions(self):
        for completion in super().completions():
            yield completion._replace(request=bytes(len(completion.request)))


@pytest.mark.parametrize(
    ("options", "steps", "sentence"),
    [
        (
            {"make_memory": LosesThePartInTheNextRegion},
            [("add_some", {"lengths": (40, 40), "writable": 0, "in_place": False, "count": 1})],
            "read_all of a chain: from byte ",
        ),
        ({"make_device": SaysNothing}, [ADD, SERVE, DEVICE_ASKS], "needs_notification of entries 0 to "),
        ({"make_device": ForgetsWhatItHolds}, [ADD, POP, MIGRATE], "the state of a queue made from a state"),
        (
            {"make_device": GivesBackTheOldest},
            [
                ADD,
                ADD,
                ("give_one_back", {"more": 2, "which": 1, "length": 1, "understated": False, "cut": 0}),
            ],
            "id and length of a completion",
        ),
        ({"make_driver": IsFullTooSoon}, [ADD], "a request of 2 buffers, 4 descriptors free: RingFull where"),
        (
            {"make_driver": LosesThePlace},
            [ADD, SERVE],
            "the place of a request in its completion: from byte",
        ),
    ],
    ids=["loses-bytes", "says-nothing", "forgets", "wrong-chain", "full-too-soon", "loses-the-place"],
)
@BOTH
def test_a_memory_or_an_end_that_is_wrong_is_found_and_named(trial, options, steps, sentence):
    made = new_trial(trial, **options)
    with pytest.raises(Wrong, match=sentence):
        for step in (*steps, *2 * [POP], TAKE, TAKE):
            made.perform(*step)


def test_an_index_in_memory_that_changes_by_itself_is_found():
    trial = new_trial(SplitQueueTrial)
    trial.device_memory.write(trial.device.areas.driver_area + 2, b"\0\0")
    with pytest.raises(Wrong, match="available and used index in memory"):
        trial.check()


def test_a_request_that_never_fits_is_told_from_one_that_must_wait():
    model = QueueModel(4, 0, packed=False, event_idx=False, indirect_size=2)
    assert [model.refusal(count, False) for count in (1, 4)] == [None, None]
    assert (model.refusal(5, False).never, model.refusal(3, True).never) == (True, True)
    model.free = 3
    assert model.refusal(4, False) == (False, 4, True)
    assert model.refusal(0, False).never
    model.free = 0
    assert model.refusal(1, True) == (False, 1, False)


@pytest.mark.parametrize(
    ("start", "entries", "position"),
    [(0x8003, 1, 0), (3, 1, 0x8000), (0x8000, 4, 0), (0x8000, 8, 0x8000), (0, 7, 0x8003)],
)
def test_the_wrap_counter_of_the_model_turns_over_with_each_round(start, entries, position):
    model = QueueModel(4, start, packed=True, event_idx=True, indirect_size=0)
    assert model.position(entries) == position


def test_after_a_migration_one_notification_too_many_is_no_error_and_one_too_few_is():
    asking = Asking("never")
    asking.forgotten = True
    assert [asking.accepts(answer, 4) for answer in (True, False)] == [True, True]
    asking.wish, asking.published = "always", 1
    assert [asking.accepts(answer, 4) for answer in (True, False)] == [True, False]


@BOTH
def test_a_step_back_that_is_refused_without_a_migration_is_found(trial):
    class NeverBack(DeviceQueue):
        def go_to_previous_position(self):
            raise CallerError("no", argument="self", value=0, limit=0)

    made = new_trial(trial, make_device=NeverBack)
    made.perform(*ADD)
    made.perform(*POP)
    with pytest.raises(Wrong, match="a step back is refused"):
        made.perform(*STEP_BACK)
