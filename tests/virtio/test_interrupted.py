"""A call that a signal handler ends in the middle loses nothing, and asked again goes on.

Python looks for signals where a function is entered and where a call into C returns.  A profile
function that raises at the n-th of these stands for it, for every n.
"""

from __future__ import annotations

import gc
import io
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import islice
from types import FrameType

import pytest

from vmbus.errors import CallerError
from vmbus.memory import Fences, GuestMemory
from vmbus.virtio import (
    BlockDevice,
    BlockDriver,
    DeviceQueue,
    NetworkBackend,
    NetworkDriver,
    NetworkFeatures,
    NetworkFrameQueues,
    VirtioFeatures,
    Virtqueue,
    connected_virtqueues,
)

PLAIN = VirtioFeatures.VERSION_1
FORMATS = {
    "split": PLAIN,
    "split-event": PLAIN | VirtioFeatures.RING_EVENT_IDX,
    "packed": PLAIN | VirtioFeatures.RING_PACKED,
    "packed-event": PLAIN | VirtioFeatures.RING_PACKED | VirtioFeatures.RING_EVENT_IDX,
}
every_format = pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS)

#: More places than any of these calls has.
MOST = 400


class Interrupted(BaseException):
    """What a signal handler raises."""


def interrupted(place: int, action: Callable[[], object]) -> bool:
    """Run `action`, and end it at that place; False when it has fewer."""
    left = place

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal left
        if event in ("call", "c_return") and argument is not sys.setprofile:
            left -= 1
            if left == -1:
                raise Interrupted

    gc.disable()  # what it calls is none of the places
    try:
        sys.setprofile(count)
        action()
    except Interrupted:
        return True
    finally:
        sys.setprofile(None)
        gc.enable()
    return left < 0


def at_every_place(trial: Callable[[int], bool]) -> None:
    """Try it at one place after the other, until there are no more."""
    places = next(place for place in range(MOST) if not trial(place))
    assert places > 3, "nothing was interrupted"


def fence() -> None:
    """A function of Python's, which is a place; those of the machine would be none here."""


FENCES = Fences(fence, fence, fence, "nothing: there is one thread")


def two_buffers(place, add_descriptor):
    place.data[:4] = b"some"
    add_descriptor(place.address, 4)
    add_descriptor(place.address + 4, 4, from_dev=True)


def new_sides(features: int) -> tuple[Virtqueue, DeviceQueue]:
    """Both sides of a queue that has been round, with a request that the device has had all the while."""
    memory = GuestMemory([(0, bytearray(4096))], fences=FENCES)
    driver, device = connected_virtqueues(8, features, memory=memory)
    for _ in range(5):
        driver.add_request(two_buffers)
        chain = device.pop_descriptor_chain()
        assert chain is not None
        device.add_used(chain.head_index, 4)
        assert len(list(driver.completions())) == 1
    device.needs_notification()
    driver.avail_notif_needed()
    return driver, device


def serve_the_rest(driver: Virtqueue, device: DeviceQueue) -> list[int]:
    """Let the device give back all that it can get, and return what the driver completes."""
    driver.avail_notif_needed()
    for chain in device:
        assert chain.read_all() == b"some"
        device.add_used(chain.head_index, chain.write_all(b"done"))
    device.needs_notification()
    return [completion.id for completion in driver.completions()]


@every_format
def test_a_request_whose_adding_was_interrupted_is_there_whole_or_not_at_all(features):
    def trial(place: int) -> bool:
        driver, device = new_sides(features)
        ended = interrupted(place, lambda: driver.add_request(two_buffers))
        outstanding = driver.outstanding
        assert len(serve_the_rest(driver, device)) == outstanding
        request_id = driver.add_request(two_buffers)
        assert serve_the_rest(driver, device) == [request_id]
        assert (driver.free, driver.outstanding) == (8, 0)
        return ended

    at_every_place(trial)


@every_format
def test_a_chain_whose_popping_was_interrupted_comes_again(features):
    def trial(place: int) -> bool:
        driver, device = new_sides(features)
        ids = [driver.add_request(two_buffers) for _ in range(2)]
        ended = interrupted(place, device.pop_descriptor_chain)
        with suppress(CallerError):
            device.go_to_previous_position()
        assert serve_the_rest(driver, device) == ids
        return ended

    at_every_place(trial)


@every_format
@pytest.mark.parametrize("more", [False, True], ids=["the last", "one more behind it"])
def test_a_chain_whose_giving_back_was_interrupted_is_completed_once(features, more):
    def trial(place: int) -> bool:
        driver, device = new_sides(features)
        ids = [driver.add_request(two_buffers) for _ in range(1 + more)]
        chains = list(device)
        ended = interrupted(place, lambda: device.add_used(chains[0].head_index, 4))
        with suppress(CallerError):
            device.add_used(chains[0].head_index, 4)
        for chain in chains[1:]:
            device.add_used(chain.head_index, 4)
        assert device.needs_notification() or features & VirtioFeatures.RING_EVENT_IDX
        assert [completion.id for completion in driver.completions()] == ids
        return ended

    at_every_place(trial)


@every_format
def test_a_queue_that_goes_on_elsewhere_has_given_back_what_was_interrupted(features):
    def trial(place: int) -> bool:
        driver, device = new_sides(features)
        request_id = driver.add_request(two_buffers)
        (chain,) = device
        ended = interrupted(place, lambda: device.add_used(chain.head_index, 4))
        other = DeviceQueue.from_state(device.memory, device.state())
        with suppress(CallerError):
            other.add_used(chain.head_index, 4)
        assert [completion.id for completion in driver.completions()] == [request_id]
        return ended

    at_every_place(trial)


@every_format
def test_a_completion_whose_taking_was_interrupted_is_taken_the_next_time(features):
    def trial(place: int) -> bool:
        driver, device = new_sides(features)
        ids = [driver.add_request(two_buffers) for _ in range(2)]
        for chain in device:
            device.add_used(chain.head_index, 4)
        seen: list[int] = []

        def take() -> None:
            nonlocal seen
            for completion in driver.completions():
                seen += (completion.id,)  # without a call: it is taken as soon as the loop has it

        ended = interrupted(place, take)
        seen += [completion.id for completion in driver.completions()]
        assert seen == ids
        assert (driver.free, driver.outstanding) == (8, 0)
        return ended

    at_every_place(trial)


@every_format
@pytest.mark.parametrize("side", ["driver", "device"])
def test_who_was_interrupted_while_asking_whether_to_notify_asks_again(features, side):
    def trial(place: int) -> bool:
        driver, device = new_sides(features)
        driver.set_used_notif_enabled(True)
        device.enable_notification()
        driver.add_request(two_buffers)
        ask = driver.avail_notif_needed
        if side == "device":
            (chain,) = device
            device.add_used(chain.head_index, 4)
            ask = device.needs_notification
        ended = interrupted(place, ask)
        assert not ended or ask()
        return ended

    at_every_place(trial)


# -- a disk --------------------------------------------------------------------------------------


def new_disk() -> tuple[BlockDriver, BlockDevice]:
    memory = GuestMemory.from_ranges([(0, 65536)])
    driver, device = connected_virtqueues(8, memory=memory)
    return BlockDriver(driver), BlockDevice(device, io.BytesIO(bytes(4096)))


def test_a_request_to_a_disk_comes_back_with_its_context_or_was_never_made():
    def trial(place: int) -> bool:
        driver, device = new_disk()
        ended = interrupted(place, lambda: driver.read(0, 0x8000, 512, context="it"))
        made = driver.queue.outstanding
        driver.queue.avail_notif_needed()
        device.process_all()
        assert [done.context for done in driver.completions()] == ["it"] * made
        return ended

    at_every_place(trial)


def test_a_disks_completion_whose_taking_was_interrupted_is_taken_the_next_time():
    def trial(place: int) -> bool:
        driver, device = new_disk()
        for number in range(2):
            driver.read(0, 0x8000, 512, context=number)
        device.process_all()
        seen: list[object] = []

        def take() -> None:
            nonlocal seen
            for done in driver.completions():
                seen += (done.context,)

        ended = interrupted(place, take)
        seen += [done.context for done in driver.completions()]
        assert seen == [0, 1]
        return ended

    at_every_place(trial)


def test_a_disk_serves_again_what_it_was_interrupted_in():
    def trial(place: int) -> bool:
        driver, device = new_disk()
        for number in range(2):
            driver.write(512 * number, 0x8000, 512, context=number)
        ended = interrupted(place, device.process_all)
        device.process_all()
        device.queue.needs_notification()
        assert [done.context for done in driver.completions()] == [0, 1]
        return ended

    at_every_place(trial)


# -- a network ---------------------------------------------------------------------------------

#: Of these the second takes three buffers where frames are merged.
FRAMES = [b"first" * 3, bytes(range(100)), b"last" * 4]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("merging", [False, True], ids=["whole", "merged"])
def test_a_frame_whose_receiving_was_interrupted_comes_with_the_next_call(form, merging):
    features = FORMATS[form] | (NetworkFeatures.MRG_RXBUF if merging else 0)

    def trial(place: int) -> bool:
        rx = connected_virtqueues(8, features, request_size=48 if merging else 1526)
        tx = connected_virtqueues(2, features, request_size=1526)
        driver = NetworkDriver(rx[0], tx[0])
        queues = NetworkFrameQueues(4)
        for frame in FRAMES:
            queues.host_to_guest.push(frame)
        assert NetworkBackend(rx[1], tx[1], queues).process_receive() == len(FRAMES)
        (lost,) = islice(rx[1], 1)
        rx[1].add_used(lost.head_index, 0)
        seen: list[bytes] = []

        def take() -> None:
            nonlocal seen
            for frame in driver.received():
                seen += (frame,)

        ended = interrupted(place, take)
        seen += driver.received()
        assert seen == FRAMES
        assert (driver.lost_buffers, rx[0].outstanding, rx[0].free) == (1, 8, 0)
        return ended

    at_every_place(trial)
