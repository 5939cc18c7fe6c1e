"""In which order both sides of a queue load, store and fence, compared with the stated order.

The order is the whole of what keeps two processors from losing a chain or a notification, and no
test that runs both sides on one thread would notice a step out of place.  So every access is
recorded at the memory seam and the record compared with a table.

Sources: OASIS VIRTIO 1.2, sections 2.7.7, 2.7.8, 2.7.13, 2.7.14 (split) and 2.8.1, 2.8.6, 2.8.10,
2.8.21, 2.8.22 (packed).
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from re import sub
from typing import NamedTuple

import pytest

from tests.known_bugs import known_bug
from tests.virtio.watched_memory import Access, Areas, WatchedMemory, steps, watched_pair
from vmbus.memory import GuestMemory
from vmbus.virtio import DeviceQueue, VirtioFeatures, Virtqueue, VirtqueueLayout

SIZE = 8
REQUEST_SIZE = 16
TABLE_ENTRIES = 4
START = 0x10000
BUFFERS = 0x40000

PLAIN = int(VirtioFeatures.VERSION_1)
EVENT_IDX = int(VirtioFeatures.RING_EVENT_IDX)
PACKED = int(VirtioFeatures.RING_PACKED)
INDIRECT = int(VirtioFeatures.RING_INDIRECT_DESC)

#: The four kinds of queue, for tests whose table is the same for all.
KINDS = {
    "split": 0,
    "split event idx": EVENT_IDX,
    "packed": PACKED,
    "packed event idx": PACKED | EVENT_IDX,
}


class Watched(NamedTuple):
    """Both sides of one queue, and what each does to the memory."""

    driver: Virtqueue
    driver_memory: WatchedMemory
    device: DeviceQueue
    device_memory: WatchedMemory

    def forget(self) -> None:
        """Start both records again."""
        self.driver_memory.take()
        self.device_memory.take()

    def add(self, *buffers: int, indirect: bool = False) -> int:
        """Add a request: a readable buffer of so many bytes each, negative for a writable one."""

        def prepare(place, add_descriptor):
            for number, length in enumerate(buffers):
                add_descriptor(BUFFERS + 64 * number, abs(length), from_dev=length < 0)

        return self.driver.add_request(prepare, indirect=indirect)

    def serve(self, count: int = 1) -> None:
        """Let the device take so many chains and give them back."""
        for _ in range(count):
            chain = self.device.pop_descriptor_chain()
            assert chain is not None
            self.device.add_used(chain.head_index, 0)


def watched(features: int = 0, *, start: int | None = None) -> Watched:
    features |= PLAIN | INDIRECT
    packed = bool(features & PACKED)
    layout = VirtqueueLayout.new(1, SIZE, features, request_size=REQUEST_SIZE, indirect_size=TABLE_ENTRIES)
    inside = GuestMemory([(START, bytearray(layout.end_offset)), (BUFFERS, bytearray(4096))])
    areas = Areas(*layout.areas(START))
    memories = watched_pair(inside, areas, SIZE, packed=packed)
    for memory in memories:
        for number in range(SIZE):
            request = START + layout.request_offset + number * REQUEST_SIZE
            table = START + layout.indirect_offset + number * TABLE_ENTRIES * 16
            memory.name(request, REQUEST_SIZE, f"request {number}")
            memory.name(table, TABLE_ENTRIES * 16, f"table {number}")
        memory.name(BUFFERS, 4096, "buffer")
    driver = Virtqueue(
        memories[0],
        SIZE,
        features,
        address=START,
        request_size=REQUEST_SIZE,
        indirect_size=TABLE_ENTRIES,
        start=start,
    )
    device = DeviceQueue(memories[1], SIZE, features)
    device.set_up(driver.areas, start=start)
    both = Watched(driver, memories[0], device, memories[1])
    both.forget()
    return both


def steps_of_the_queue(memory: WatchedMemory) -> list[str]:
    """The steps of the driver but those to the data of requests."""
    return [word for word in steps(memory.take()) if "request" not in word]


# -- the driver: publishing ------------------------------------------------------------------------

PUBLISH = {
    "split, one descriptor": (
        0,
        (4,),
        ["write descriptor 0", "store avail slot 0", "release", "store avail idx"],
    ),
    "split, three descriptors": (
        0,
        (4, 4, -4),
        [
            *("write descriptor 0", "write descriptor 1", "write descriptor 2"),
            *("store avail slot 0", "release", "store avail idx"),
        ],
    ),
    "packed, one descriptor": (PACKED, (4,), ["write slot 0", "release", "store slot 0 flags"]),
    "packed, three descriptors": (
        PACKED,
        (4, 4, -4),
        [
            *("write slot 0", "write slot 1", "store slot 1 flags", "write slot 2", "store slot 2 flags"),
            *("release", "store slot 0 flags"),
        ],
    ),
}


@pytest.mark.parametrize("event_idx", [0, EVENT_IDX], ids=["", "event idx"])
@pytest.mark.parametrize("features, buffers, order", PUBLISH.values(), ids=PUBLISH)
def test_a_request_is_published_by_the_store_behind_the_release(features, buffers, order, event_idx):
    queue = watched(features | event_idx)
    queue.add(*buffers)
    recorded = steps(queue.driver_memory.take())
    # What lies before the release is private: only which accesses they are matters.
    release = order.index("release")
    assert recorded[release:] == order[release:]
    assert Counter(recorded[:release]) == Counter(order[:release])


@pytest.mark.parametrize("features", [0, PACKED], ids=["split", "packed"])
def test_an_indirect_table_is_written_before_the_release(features):
    queue = watched(features)
    queue.add(4, 4, -4, indirect=True)
    recorded = steps(queue.driver_memory.take())
    assert recorded[0] == "write table 0"
    assert recorded[-2:] == ["release", "store slot 0 flags" if features else "store avail idx"]
    assert Counter(recorded)["release"] == 1


@pytest.mark.parametrize("features", KINDS.values(), ids=KINDS)
def test_publishing_loads_nothing(features):
    queue = watched(features)
    queue.add(4, -4)
    queue.add(4, 4, -4, indirect=True)
    assert {access.what for access in queue.driver_memory.take()} == {"write", "store", "release"}


# -- the driver: deciding on a notification ----------------------------------------------------------

KICK = {
    "split": (0, ["fence", "load used flags"]),
    "split event idx": (EVENT_IDX, ["fence", "load avail_event"]),
    "packed": (PACKED, ["fence", "load device event flags", "acquire", "load device event"]),
    "packed event idx": (
        PACKED | EVENT_IDX,
        ["fence", "load device event flags", "acquire", "load device event"],
    ),
}


@known_bug("V12")
@pytest.mark.parametrize("features, order", KICK.values(), ids=KICK)
def test_the_driver_fences_before_it_looks_whether_the_device_sleeps(features, order):
    queue = watched(features)
    queue.add(4)
    queue.driver_memory.take()
    queue.driver.avail_notif_needed()
    assert steps(queue.driver_memory.take()) == order


# -- the driver: taking ------------------------------------------------------------------------------

# The bytes of a request come through a view, and no access to them is recorded; that they are
# copied behind the acquire follows from the id, which says whose they are.
# Behind the last completion that is known of the event is published: whoever takes no further look
# is told of the next one all the same.

PUBLISH_USED_EVENT = ["store used_event", "fence"]
PUBLISH_DRIVER_EVENT = ["store driver event", "release", "store driver event flags", "fence"]

TAKE = {
    "split": (0, ["load used idx", "acquire", "read used elem 0"]),
    "split event idx": (
        EVENT_IDX,
        ["load used idx", "acquire", "read used elem 0", *PUBLISH_USED_EVENT],
    ),
    "packed": (PACKED, ["load slot 0 flags", "acquire", "read slot 0"]),
    "packed event idx": (
        PACKED | EVENT_IDX,
        ["load slot 0 flags", "acquire", "read slot 0", "load slot 3 flags", *PUBLISH_DRIVER_EVENT],
    ),
}


@pytest.mark.parametrize("features, order", TAKE.values(), ids=TAKE)
def test_a_completion_is_read_behind_the_acquire(features, order):
    queue = watched(features)
    queue.add(4, 4, 4)
    queue.add(4)  # which the device still has
    queue.serve()
    queue.forget()
    next(queue.driver.completions())
    assert steps_of_the_queue(queue.driver_memory) == order


class WatchedView:
    """The bytes of a request, whose copying is an access as well."""

    def __init__(self, view: memoryview, memory: WatchedMemory, address: int) -> None:
        self.view = view
        self.memory = memory
        self.address = address

    def tobytes(self) -> bytes:
        data = self.view.tobytes()
        self.memory._note("copy", self.address, len(data), data)
        return data


COPY = {
    "split": (0, ["load used idx", "acquire", "read used elem 0", "copy request 0"]),
    "split event idx": (
        EVENT_IDX,
        ["load used idx", "acquire", "read used elem 0", "copy request 0", *PUBLISH_USED_EVENT],
    ),
    "packed": (PACKED, ["load slot 0 flags", "acquire", "read slot 0", "copy request 0"]),
    "packed event idx": (
        PACKED | EVENT_IDX,
        [
            *("load slot 0 flags", "acquire", "read slot 0", "copy request 0", "load slot 3 flags"),
            *PUBLISH_DRIVER_EVENT,
        ],
    ),
}


@pytest.mark.parametrize("features, order", COPY.values(), ids=COPY)
def test_the_bytes_of_a_request_are_copied_behind_the_acquire_and_before_anything_is_asked_for(
    features, order, monkeypatch
):
    plain_view = WatchedMemory.view
    monkeypatch.setattr(
        WatchedMemory,
        "view",
        lambda memory, address, length: WatchedView(plain_view(memory, address, length), memory, address),
    )
    queue = watched(features)
    queue.add(4, 4, 4)
    queue.add(4)  # which the device still has
    queue.serve()
    queue.forget()
    next(queue.driver.completions())
    assert steps(queue.driver_memory.take()) == order


@pytest.mark.parametrize("features", [0, EVENT_IDX], ids=["split", "split event idx"])
def test_the_used_index_is_loaded_once_for_all_that_it_announces(features):
    queue = watched(features)
    for _ in range(3):
        queue.add(4)
    queue.serve(3)
    queue.forget()
    completions = queue.driver.completions()
    for _ in range(3):
        next(completions)
    assert steps_of_the_queue(queue.driver_memory) == [
        *("load used idx", "acquire"),
        *("read used elem 0", "read used elem 1", "read used elem 2"),
        *(PUBLISH_USED_EVENT if features else ()),
    ]


NOTHING_THERE = {
    "split": (0, ["load used idx"]),
    "split event idx": (EVENT_IDX, ["load used idx"]),
    "packed": (PACKED, ["load slot 0 flags"]),
}


@known_bug("V15")
@pytest.mark.parametrize("features, order", NOTHING_THERE.values(), ids=NOTHING_THERE)
def test_a_look_that_finds_nothing_new_stores_nothing(features, order):
    queue = watched(features)
    queue.add(4)
    queue.driver_memory.take()
    for _ in range(3):
        assert not list(queue.driver.completions())
        assert steps(queue.driver_memory.take()) == order


RE_ENABLE = {
    "split": (0, ["load used idx"]),
    "split event idx": (EVENT_IDX, ["load used idx"]),
    "packed": (PACKED, ["load slot 1 flags"]),
    "packed event idx": (PACKED | EVENT_IDX, ["load slot 1 flags"]),
}


@known_bug("V12", "V15")
@pytest.mark.parametrize("features, order", RE_ENABLE.values(), ids=RE_ENABLE)
def test_where_completions_end_there_is_one_more_look_behind_the_fence_and_nothing_to_publish(
    features, order
):
    queue = watched(features)
    queue.add(4)
    queue.add(4)
    queue.serve()
    completions = queue.driver.completions()
    next(completions)
    queue.forget()
    assert list(completions) == []
    assert steps(queue.driver_memory.take()) == order
    assert list(queue.driver.completions()) == []
    assert steps(queue.driver_memory.take()) == order


ENABLE = {
    "split": (0, ["store avail flags", "fence", "load used idx"]),
    "split event idx": (EVENT_IDX, ["store used_event", "fence", "load used idx"]),
    "packed": (PACKED, ["store driver event flags", "fence", "load slot 0 flags"]),
    "packed event idx": (
        PACKED | EVENT_IDX,
        ["store driver event", "release", "store driver event flags", "fence", "load slot 0 flags"],
    ),
}


@known_bug("V12")
@pytest.mark.parametrize("features, order", ENABLE.values(), ids=ENABLE)
def test_the_driver_asks_for_notifications_then_fences_then_looks_again(features, order):
    queue = watched(features)
    queue.add(4)
    queue.driver_memory.take()
    queue.driver.set_used_notif_enabled(True)
    assert steps(queue.driver_memory.take()) == order


@known_bug("V12")
@pytest.mark.parametrize("features", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("how", ["completions", "set_used_notif_enabled"])
def test_a_chain_used_just_before_the_driver_asks_to_be_told_is_not_lost(features, how):
    """The device gives back between the driver's look, which found nothing, and its wish to be told."""
    queue = watched(features)
    queue.add(4)
    queue.add(4)
    queue.serve()
    next(queue.driver.completions())
    queue.forget()
    looks: list[Access] = []

    def device_acts_after_the_first_look(access: Access) -> None:
        looks.append(access)
        if len(looks) == 1:
            queue.serve()

    queue.driver_memory.after = device_acts_after_the_first_look
    if how == "completions":
        found = len(list(queue.driver.completions())) == 1
    else:
        found = queue.driver.set_used_notif_enabled(True)
    assert found or queue.device.needs_notification()


# -- the device --------------------------------------------------------------------------------------

DEVICE_TAKE = {
    "split": (
        0,
        ["load avail idx", "acquire", "load avail slot 0", "read descriptor 0", "read descriptor 1"],
    ),
    "packed": (PACKED, ["load slot 0 flags", "acquire", "read slot 0", "read slot 1"]),
}


@pytest.mark.parametrize("event_idx", [0, EVENT_IDX], ids=["", "event idx"])
@pytest.mark.parametrize("features, order", DEVICE_TAKE.values(), ids=DEVICE_TAKE)
def test_the_device_reads_a_chain_behind_the_acquire(features, order, event_idx):
    queue = watched(features | event_idx)
    queue.add(4, -4)
    queue.forget()
    queue.device.pop_descriptor_chain()
    # One read may take the flags of a slot along: those of the first were loaded before.
    recorded = [sub(r" and slot \d flags", "", word) for word in steps(queue.device_memory.take())]
    assert recorded == order


GIVE_BACK = {
    "split": (0, ["write used elem 0", "release", "store used idx"]),
    "packed": (PACKED, ["write slot 0", "release", "store slot 0 flags"]),
}


@pytest.mark.parametrize("event_idx", [0, EVENT_IDX], ids=["", "event idx"])
@pytest.mark.parametrize("features, order", GIVE_BACK.values(), ids=GIVE_BACK)
def test_the_device_gives_back_by_the_store_behind_the_release(features, order, event_idx):
    queue = watched(features | event_idx)
    queue.add(4, -4)
    chain = queue.device.pop_descriptor_chain()
    queue.device_memory.take()
    queue.device.add_used(chain.head_index, 4)
    assert steps(queue.device_memory.take()) == order


INTERRUPT = {
    "split": (0, ["fence", "load avail flags"]),
    "split event idx": (EVENT_IDX, ["fence", "load used_event"]),
    "packed": (PACKED, ["fence", "load driver event flags", "acquire", "load driver event"]),
    "packed event idx": (
        PACKED | EVENT_IDX,
        ["fence", "load driver event flags", "acquire", "load driver event"],
    ),
}


@known_bug("V12")
@pytest.mark.parametrize("features, order", INTERRUPT.values(), ids=INTERRUPT)
def test_the_device_fences_before_it_looks_whether_the_driver_sleeps(features, order):
    queue = watched(features)
    queue.add(4)
    queue.serve()
    queue.device_memory.take()
    queue.device.needs_notification()
    assert steps(queue.device_memory.take()) == order


DEVICE_ENABLE = {
    "split": (0, ["store used flags", "fence", "load avail idx"]),
    "split event idx": (EVENT_IDX, ["store avail_event", "fence", "load avail idx"]),
    "packed": (PACKED, ["store device event flags", "fence", "load slot 0 flags"]),
    "packed event idx": (
        PACKED | EVENT_IDX,
        ["store device event", "release", "store device event flags", "fence", "load slot 0 flags"],
    ),
}


@known_bug("V12")
@pytest.mark.parametrize("features, order", DEVICE_ENABLE.values(), ids=DEVICE_ENABLE)
def test_the_device_asks_for_notifications_then_fences_then_looks_again(features, order):
    queue = watched(features)
    queue.device.enable_notification()
    assert steps(queue.device_memory.take()) == order


@known_bug("V15")
@pytest.mark.parametrize("features", KINDS.values(), ids=KINDS)
def test_a_device_that_polls_an_empty_queue_loads_one_word_and_stores_none(features):
    queue = watched(features)
    for _ in range(3):
        assert queue.device.pop_descriptor_chain() is None
    looks = Counter(str(access) for access in queue.device_memory.take() if access.what != "acquire")
    assert looks == {"load slot 0 flags" if features & PACKED else "load avail idx": 3}


# -- over a whole working life -----------------------------------------------------------------------


def work(queue: Watched) -> None:
    """Five rounds and more: direct, indirect, long and short requests, given back out of order."""
    for turn in range(3 * SIZE):
        ids = [queue.add(4, -8), queue.add(4, 4, -4, indirect=True), queue.add(4)]
        queue.driver.avail_notif_needed()
        chains = list(queue.device)
        assert len(chains) == 3
        for chain in chains[:: -1 if turn % 2 else 1]:
            queue.device.add_used(chain.head_index, min(chain.writable_bytes, 2))
            queue.device.needs_notification()
        queue.device.disable_notification()
        queue.device.enable_notification()
        assert sorted(done.id for done in queue.driver.completions()) == sorted(ids)
        queue.driver.set_used_notif_enabled(turn % 3 == 0)


#: Words that both sides look at while the other works: each is loaded and stored by one access.
SPLIT_WORDS = {"avail flags", "avail idx", "used_event", "used flags", "used idx", "avail_event"}


@pytest.mark.parametrize("features", [0, EVENT_IDX], ids=["plain", "event idx"])
def test_words_that_the_other_side_polls_are_only_loaded_and_stored_singly(features):
    queue = watched(features)
    work(queue)
    for access in queue.driver_memory.take() + queue.device_memory.take():
        named = {name for name in SPLIT_WORDS if name in access.place.split(" and ")}
        assert not named or access.what in ("load", "store"), str(access)


#: What each side publishes with in a split queue, looks at for work, and looks at before it notifies.
SPLIT_LOOKS = {
    "driver": ("avail idx", "used idx", {"used flags", "avail_event"}),
    "device": ("used idx", "avail idx", {"avail flags", "used_event"}),
}


@known_bug("V12")
@pytest.mark.parametrize("event_idx", [0, EVENT_IDX], ids=["plain", "event idx"])
@pytest.mark.parametrize("side", SPLIT_LOOKS)
def test_over_a_whole_life_no_index_is_stored_or_believed_without_its_fence(side, event_idx):
    """In a split queue: a release right before each store of the index, which keeps loads before it too; an
    acquire right behind each look that found work; a fence between each store of it and the next look at
    whether to notify."""
    published, polled, asked = SPLIT_LOOKS[side]
    queue = watched(event_idx)
    work(queue)
    accesses = (queue.driver_memory if side == "driver" else queue.device_memory).take()
    recorded = steps(accesses)
    stores = [at for at, step in enumerate(recorded) if step == f"store {published}"]
    assert len(stores) >= 3 * 3 * SIZE
    assert {recorded[at - 1] for at in stores} == {"release"}
    looks = [at for at, access in enumerate(accesses) if access.what == "load" and access.place in asked]
    assert len(looks) >= 3 * SIZE
    for at in looks:
        last_store = max((one for one in stores if one < at), default=0)
        assert "fence" in recorded[last_store:at]
    since_look = "acquire"
    for step in recorded:
        if step in (f"load {polled}", "acquire"):
            since_look = step
        elif step.startswith(("read used", "read descriptor", "load avail slot")):
            assert since_look == "acquire", step


@known_bug("V12")
@pytest.mark.parametrize("event_idx", [0, EVENT_IDX], ids=["plain", "event idx"])
@pytest.mark.parametrize("side", ["driver", "device"])
def test_over_a_whole_life_no_slot_is_stored_or_believed_without_its_fence(side, event_idx):
    """The same of a packed queue, where what publishes is the store of flags that follows a release."""
    queue = watched(PACKED | event_idx)
    work(queue)
    accesses = (queue.driver_memory if side == "driver" else queue.device_memory).take()
    other = "device event" if side == "driver" else "driver event"
    unfenced = unreleased = False
    loaded = published = ""
    releases = 0
    for access in accesses:
        step = str(access)
        if access.what == "write" and access.place.startswith("slot"):
            unreleased = True  # the body of a slot, which some flags will publish
        elif access.what == "release":
            unreleased = False
            releases += 1
        elif access.what == "store" and access.place.startswith("slot"):
            published, unfenced = step, True
        elif access.what == "fence":
            assert not unreleased, f"{published} was the last store, and bodies of slots came behind it"
            unfenced = False
        elif access.what == "load" and access.place.startswith(other):
            assert not unfenced, f"{step} without a fence behind {published}"
        if access.what == "load" and access.place.endswith("flags"):
            loaded = access.place
        elif access.what == "acquire":
            loaded = ""
        elif access.what == "read" and access.place.startswith("slot"):
            assert not loaded, f"{step} without an acquire behind the load of {loaded}"
    assert releases >= 3 * 3 * SIZE


@pytest.mark.parametrize("features", [PACKED, PACKED | EVENT_IDX], ids=["plain", "event idx"])
def test_no_packer_ever_covers_the_flags_of_a_slot(features):
    """Bytes 14 and 15: a packer clears them first, and a peer would see a slot with flags of 0."""
    queue = watched(features, start=5 | 0x8000)
    work(queue)
    accesses = queue.driver_memory.take() + queue.device_memory.take()
    flag_stores = 0
    for access in accesses:
        if "flags" in access.place and access.what in ("store", "write"):
            assert access.what == "store" and access.length == 2, str(access)
            flag_stores += 1
        if access.what in ("store", "write") and "event" in access.place:
            assert access.what == "store", str(access)
    assert flag_stores >= 2 * 3 * 3 * SIZE


@pytest.mark.parametrize("features", KINDS.values(), ids=KINDS)
def test_the_driver_never_reads_a_descriptor_back(features):
    queue = watched(features)
    work(queue)
    reads = [one for one in queue.driver_memory.take() if one.what in ("read", "load")]
    assert not [str(one) for one in reads if "descriptor" in one.place or "table" in one.place]
    if features & PACKED:
        # A slot is read only where the flags just loaded say that the device has used it.
        for before, after in pairwise(reads):
            if after.what == "read" and after.place.startswith("slot"):
                assert str(before) == f"load {after.place} flags"


@pytest.mark.parametrize("features", KINDS.values(), ids=KINDS)
def test_each_side_stores_only_where_it_may(features):
    queue = watched(features)
    work(queue)
    driver = {one.place.rstrip("01234567") for one in stores(queue.driver_memory)}
    device = {one.place.rstrip("01234567") for one in stores(queue.device_memory)}
    if features & PACKED:
        assert {name.split(" ")[0] for name in driver} == {"slot", "driver", "table"}
        assert {name.split(" ")[0] for name in device} == {"slot", "device"}
        assert not any("driver event" in name for name in device)
    else:
        assert driver <= {"descriptor ", "avail slot ", "avail idx", "avail flags", "used_event", "table "}
        assert device <= {"used elem ", "used idx", "used flags", "avail_event"}


@pytest.mark.parametrize("event_idx", [0, EVENT_IDX], ids=["plain", "event idx"])
def test_the_device_leaves_the_address_in_a_packed_slot_alone(event_idx):
    queue = watched(PACKED | event_idx)
    work(queue)
    for access in stores(queue.device_memory):
        if access.place.startswith("slot") and access.what == "write":
            assert (access.address - START) % 16 == 8 and access.length == 6, str(access)


def stores(memory: WatchedMemory) -> list[Access]:
    return [one for one in memory.accesses if one.what in ("write", "store")]


@pytest.mark.parametrize("features", [0, PACKED], ids=["split", "packed"])
def test_the_device_fetches_each_descriptor_once(features):
    queue = watched(features)
    queue.add(4, 4, -4)
    queue.add(4, 4, 4, -4, indirect=True)
    queue.forget()
    chains = list(queue.device)
    for chain in chains:
        chain.read_all()
        chain.write_all(b"done")
        queue.device.add_used(chain.head_index, 4)
    reads = Counter(
        (one.address, one.length)
        for one in queue.device_memory.take()
        if one.what == "read" and "buffer" not in one.place
    )
    assert len(reads) == 4 + 4  # three descriptors, the indirect one, and the four of its table
    assert set(reads.values()) == {1}


@pytest.mark.parametrize("features", KINDS.values(), ids=KINDS)
def test_no_chain_is_lost_when_the_device_takes_what_it_sees_after_every_access_of_the_driver(features):
    """What the device finds while the driver publishes is always a whole chain."""
    queue = watched(features)
    seen: list[tuple[int, ...]] = []

    def device_looks(access: Access) -> None:
        for chain in queue.device:
            seen.append(tuple(descriptor.length for descriptor in chain.descriptors))
            queue.device.add_used(chain.head_index, 0)

    queue.driver_memory.after = device_looks
    sent = []
    for number in range(3 * SIZE):
        lengths = tuple(range(number + 1, number + 2 + number % 3))
        queue.add(*lengths, indirect=number % 4 == 3)
        sent.append(lengths)
        assert seen == sent
        assert len(list(queue.driver.completions())) == 1
