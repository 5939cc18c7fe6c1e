"""What a driver must not write, rule by rule, and how a device meets it.

Each rule is broken behind one chain that is right and that the device has taken.  The error names
the rule and the descriptor; nothing is taken; every later pop says the same; the chain that was
taken before can still be given back; and a queue that is set up anew works.  What stands before the
broken descriptor can be read by whoever walks the chain.

Other devices: rust-vmm's virtio-queue ends such a chain without a word, QEMU marks the device
broken, OpenVMM surfaces one error and then yields nothing more.

Seen to fail with: checks of walking.py, chains.py and the device rings left out or off by one; a
table's length taken for the queue's size and the other way round; a fault that is not kept, or that
moves the position; the blame put on the wrong descriptor or on the queue's in place of the table's.

Sources: OASIS VIRTIO 1.2, sections 2.7.4 to 2.7.6 and 2.8.5 to 2.8.8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from tests.known_bugs import KNOWN_BUGS, known_bug
from tests.virtio.by_hand import (
    AREAS,
    AVAILABLE,
    BUFFERS,
    FORMATS,
    INDIRECT,
    INDIRECT_DESC,
    MEMORY_SIZE,
    NEXT,
    PACKED,
    TABLES,
    VERSION_1,
    WRITE,
    Areas,
    HandDriver,
    device_by_hand,
    facts,
    new_memory,
)
from vmbus.errors import CallerError, PeerError
from vmbus.memory import GuestMemory
from vmbus.virtio import (
    PACKED_DESCRIPTOR,
    SPLIT_DESCRIPTOR,
    ChainRules,
    DescriptorChain,
    DeviceQueue,
    QueueAreas,
    QueueState,
    VirtqueueFault,
    walk_packed_chain,
    walk_split_chain,
)

both_formats = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])

#: Queues of the table below, and what the chain before each broken one is: descriptor, slot, id 0.
SIZE = 16
FIRST = (BUFFERS, 8, WRITE)
END = MEMORY_SIZE


class Broken(NamedTuple):
    """A rule that is broken from descriptor, or slot, 1 on.

    name         the rule
    write        writes it, given the driver, and makes it available
    kind         the fault
    descriptor   to blame, and `entry` of its table
    found        the wrong value
    before       (table, number) of the descriptors before it
    indirect     whether the feature was negotiated
    longest      the device's own limit
    bugs         of the catalogue, that this keeps out
    """

    name: str
    write: Callable[[HandDriver], object]
    kind: VirtqueueFault
    descriptor: int | None
    found: object
    entry: int | None = None
    before: tuple[tuple[int | None, int], ...] | None = ()
    indirect: bool = True
    longest: int | None = None
    bugs: tuple[str, ...] = ()


def head(value: int) -> Callable[[HandDriver], object]:
    """A head as it is."""
    return lambda driver: driver.push(value)


def linked(*descriptors: tuple[int, int, int, int]) -> Callable[[HandDriver], object]:
    """Split: descriptors (address, length, flags, next) from 1 on, flags as they are, and head 1."""

    def write(driver: HandDriver) -> None:
        for index, fields in enumerate(descriptors, 1):
            driver.descriptor(index, *fields)
        driver.push(1)

    return write


def offered(*buffers: tuple[int, int, int]) -> Callable[[HandDriver], object]:
    """A chain whose descriptors are right as a list."""
    return lambda driver: driver.offer(*buffers)


def table(*entries: tuple[int, int, int, int], at: int = TABLES) -> Callable[[HandDriver], object]:
    """A chain that is one table of entries (address, length, flags, next)."""
    return lambda driver: driver.offer_table(at, driver.table(at, *entries))


def table_of(length: int, at: int = TABLES, flags: int = 0) -> Callable[[HandDriver], object]:
    """A chain that is one INDIRECT descriptor of so many bytes."""
    return lambda driver: driver.offer_table(at, length, flags)


def circle(*indices: int) -> Callable[[HandDriver], object]:
    """Split: descriptors that follow each other and then the first of them again."""

    def write(driver: HandDriver) -> None:
        for index, following in zip(indices, (*indices[1:], indices[0]), strict=True):
            driver.descriptor(index, BUFFERS, 1, NEXT, following)
        driver.push(indices[0])

    return write


def endless_list(driver: HandDriver) -> None:
    """Packed: every slot says that another follows, round and round."""
    driver.memory.write(AREAS.table + 16, driver.memory.read(AREAS.table, 16))
    for slot in [*range(1, SIZE), 0]:
        driver.slot(slot, BUFFERS, 1, NEXT | (AVAILABLE if slot else 0x8000), 0)


def nested(number: int) -> Callable[[HandDriver], object]:
    """A table whose entry `number` points to another."""
    entries = [(BUFFERS, 8, NEXT, entry + 1) for entry in range(number)]
    return lambda driver: driver.offer_table(
        TABLES,
        driver.table(TABLES, *plain(driver, entries), (TABLES + 0x400, 16, INDIRECT, 0)),
    )


def plain(driver: HandDriver, entries: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Entries without NEXT where the table is packed: nothing links them there."""
    if not driver.packed:
        return entries
    return [(address, length, flags & ~NEXT, 0) for address, length, flags, _ in entries]


def many_entries(count: int) -> Callable[[HandDriver], object]:
    """A table of so many entries, all of the chain."""

    def write(driver: HandDriver) -> None:
        entries = [(BUFFERS, 1, NEXT if entry < count - 1 else 0, entry + 1) for entry in range(count)]
        driver.offer_table(TABLES, driver.table(TABLES, *plain(driver, entries)))

    return write


def buffers_and_table(buffers: int, entries: int) -> Callable[[HandDriver], object]:
    """Plain descriptors, and then one that points to a table."""

    def write(driver: HandDriver) -> None:
        listed = [(BUFFERS, 1, NEXT if entry < entries - 1 else 0, entry + 1) for entry in range(entries)]
        length = driver.table(TABLES, *plain(driver, listed))
        driver.offer(*[(BUFFERS, 1, 0)] * buffers, (TABLES, length, INDIRECT))

    return write


def table_across_the_end(driver: HandDriver) -> None:
    """The third entry of the table is not all in memory."""
    start = END - 40
    entries = plain(driver, [(BUFFERS, 8, NEXT, 1), (BUFFERS, 8, NEXT, 2)])
    driver.table(start, *entries)
    driver.offer_table(start, 48)


KIND = VirtqueueFault


def of_ring(*numbers: int) -> tuple[tuple[int | None, int], ...]:
    """Descriptors of the queue itself."""
    return tuple((None, number) for number in numbers)


def of_table(holder: int, *numbers: int) -> tuple[tuple[int | None, int], ...]:
    """Entries of the table of a descriptor."""
    return tuple((holder, number) for number in numbers)


#: Rules that are broken the same way in both formats.
IN_BOTH = [
    Broken(
        "bytes",
        offered((BUFFERS, 0xFFFF_FFFF, 0), (BUFFERS, 1, WRITE)),
        KIND.CHAIN_TOO_LARGE,
        2,
        1 << 32,
        before=of_ring(1),
        bugs=("V08",),
    ),
    Broken(
        "bytes of a table",
        lambda driver: table(*plain(driver, [(BUFFERS, 0x8000_0000, NEXT, 1), (BUFFERS, 0x8000_0000, 0, 0)]))(
            driver
        ),
        KIND.CHAIN_TOO_LARGE,
        1,
        1 << 32,
        entry=1,
        before=of_table(1, 0),
        bugs=("V08",),
    ),
    Broken(
        "indirect, not negotiated",
        table((BUFFERS, 8, 0, 0)),
        KIND.INDIRECT_NOT_NEGOTIATED,
        1,
        "indirect",
        indirect=False,
    ),
    Broken("nested at once", nested(0), KIND.NESTED_INDIRECT, 1, "indirect", entry=0, bugs=("V02",)),
    Broken(
        "nested",
        nested(2),
        KIND.NESTED_INDIRECT,
        1,
        "indirect",
        entry=2,
        before=of_table(1, 0, 1),
        bugs=("V02",),
    ),
    Broken(
        "indirect with next",
        table_of(16, flags=NEXT),
        KIND.INDIRECT_WITH_NEXT,
        1,
        "indirect, with another behind it",
    ),
    Broken("table of 17 bytes", table_of(17), KIND.INDIRECT_LENGTH, 1, 17, bugs=("V06",)),
    Broken("table of 15 bytes", table_of(15), KIND.INDIRECT_LENGTH, 1, 15),
    Broken("table of 0 bytes", table_of(0), KIND.INDIRECT_LENGTH, 1, 0),
    Broken(
        "table of 65536 entries",
        table_of(16 * 65536),
        KIND.INDIRECT_TOO_LONG,
        1,
        16 * 65536,
        bugs=("V06",),
    ),
    Broken(
        "table longer than the queue",
        many_entries(17),
        KIND.CHAIN_TOO_LONG,
        1,
        17,
        entry=16,
        before=of_table(1, *range(16)),
        bugs=("V06",),
    ),
    Broken(
        "buffers and a table, together longer than the queue",
        buffers_and_table(3, 14),
        KIND.CHAIN_TOO_LONG,
        4,
        17,
        entry=13,
        before=of_ring(1, 2, 3) + of_table(4, *range(13)),
        bugs=("V06",),
    ),
    Broken(
        "table outside the memory",
        table_of(16, at=END),
        KIND.INDIRECT_OUTSIDE_MEMORY,
        1,
        END,
        entry=0,
    ),
    Broken(
        "table partly outside the memory",
        table_across_the_end,
        KIND.INDIRECT_OUTSIDE_MEMORY,
        1,
        END,
        entry=2,
        before=of_table(1, 0, 1),
    ),
    Broken(
        "table past the top",
        table_of(32, at=2**64 - 8),
        KIND.INDIRECT_OUTSIDE_MEMORY,
        1,
        2**64 - 8,
        entry=0,
        bugs=("V07",),
    ),
    Broken(
        "readable after writable",
        offered((BUFFERS, 8, 0), (BUFFERS, 8, WRITE), (BUFFERS, 8, 0)),
        KIND.READABLE_AFTER_WRITABLE,
        3,
        "readable",
        before=of_ring(1, 2),
    ),
    Broken(
        "readable after writable in a table",
        lambda driver: driver.offer(
            (BUFFERS, 8, WRITE), (TABLES, driver.table(TABLES, (BUFFERS, 8, 0, 0)), INDIRECT)
        ),
        KIND.READABLE_AFTER_WRITABLE,
        2,
        "readable",
        entry=0,
        before=of_ring(1),
    ),
    Broken(
        "more buffers than the device allows",
        offered(*[(BUFFERS, 1, 0)] * 5),
        KIND.CHAIN_TOO_LONG,
        5,
        5,
        before=of_ring(1, 2, 3, 4),
        longest=4,
    ),
]

#: Rules of split queues alone; `before` is None where there is no chain.
IN_SPLIT = [
    Broken("head 16", head(16), KIND.HEAD_OUT_OF_RANGE, 16, 16),
    Broken("head 65535", head(65535), KIND.HEAD_OUT_OF_RANGE, 65535, 65535),
    Broken("next 16", linked((BUFFERS, 8, NEXT, 16)), KIND.NEXT_OUT_OF_RANGE, 1, 16, before=of_ring(1)),
    Broken(
        "next 65535",
        linked((BUFFERS, 8, NEXT, 2), (BUFFERS, 8, NEXT, 65535)),
        KIND.NEXT_OUT_OF_RANGE,
        2,
        65535,
        before=of_ring(1, 2),
    ),
    Broken(
        "next outside the table, and inside the queue",
        table((BUFFERS, 8, NEXT, 1), (BUFFERS, 8, NEXT, 2)),
        KIND.NEXT_OUT_OF_RANGE,
        1,
        2,
        entry=1,
        before=of_table(1, 0, 1),
        bugs=("V05", "V06"),
    ),
    Broken(
        "circle of one",
        circle(1),
        KIND.CHAIN_TOO_LONG,
        1,
        17,
        before=of_ring(*[1] * 16),
        bugs=("V02",),
    ),
    Broken(
        "circle of three",
        circle(1, 9, 4),
        KIND.CHAIN_TOO_LONG,
        9,
        17,
        before=of_ring(*[1, 9, 4] * 5, 1),
        bugs=("V02",),
    ),
    Broken(
        "circle in a table",
        table((BUFFERS, 8, NEXT, 1), (BUFFERS, 8, NEXT, 0)),
        KIND.CHAIN_TOO_LONG,
        1,
        17,
        entry=0,
        before=of_table(1, *[0, 1] * 8),
        bugs=("V02",),
    ),
    Broken("head in flight", head(0), KIND.HEAD_IN_FLIGHT, 0, 0, before=None, bugs=("V03",)),
    Broken(
        "index 17 ahead",
        lambda driver: driver.set_avail_idx(1 + 17),
        KIND.AVAILABLE_INDEX_JUMP,
        None,
        17,
        before=None,
        bugs=("V01",),
    ),
    Broken(
        "index one back",
        lambda driver: driver.set_avail_idx(0),
        KIND.AVAILABLE_INDEX_JUMP,
        None,
        0xFFFF,
        before=None,
        bugs=("V01", "V11"),
    ),
    Broken(
        "index far ahead",
        lambda driver: driver.set_avail_idx(0x8001),
        KIND.AVAILABLE_INDEX_JUMP,
        None,
        0x8000,
        before=None,
        bugs=("V01",),
    ),
]

#: Rules of packed queues alone.
IN_PACKED = [
    Broken(
        "list without an end",
        endless_list,
        KIND.CHAIN_TOO_LONG,
        1,
        17,
        before=of_ring(*range(1, 16), 0),
        bugs=("V02",),
    ),
    Broken(
        "id in flight",
        lambda driver: driver.offer(FIRST, buffer_id=0),
        KIND.HEAD_IN_FLIGHT,
        1,  # the slot; the id is what was found there
        0,
        before=None,
        bugs=("V03",),
    ),
    Broken(
        "more slots than are free",
        lambda driver: driver.offer(*[(BUFFERS, 1, 0)] * 16, buffer_id=9),
        KIND.TOO_MANY_IN_FLIGHT,
        1,
        17,
        before=None,
        bugs=("V03", "V04"),
    ),
]

CASES = [
    *((False, broken) for broken in (*IN_BOTH, *IN_SPLIT)),
    *((True, broken) for broken in (*IN_BOTH, *IN_PACKED)),
]
WALKED = [(packed, broken) for packed, broken in CASES if broken.before is not None]


def case_id(value: object) -> str | None:
    if isinstance(value, bool):
        return "packed" if value else "split"
    return value.name.replace(" ", "-") if isinstance(value, Broken) else None


every_case = pytest.mark.parametrize(("packed", "broken"), CASES, ids=case_id)


def broken_queue(packed: bool, broken: Broken) -> tuple[HandDriver, DeviceQueue]:
    """A queue whose first chain the device has taken, and behind it the broken one."""
    driver, device = device_by_hand(
        packed, SIZE, INDIRECT_DESC if broken.indirect else 0, longest_chain=broken.longest
    )
    assert driver.offer(FIRST, buffer_id=0 if packed else None) == 0
    assert device.pop_descriptor_chain().writable_bytes == 8
    broken.write(driver)
    return driver, device


def refusal(device: DeviceQueue) -> PeerError:
    with pytest.raises(PeerError) as caught:
        device.pop_descriptor_chain()
    return caught.value


@known_bug("V01", "V02", "V03", "V05", "V06", "V07", "V08")
@every_case
def test_a_broken_rule_ends_in_an_error_that_names_it_and_the_descriptor(packed, broken):
    _, device = broken_queue(packed, broken)
    error = refusal(device)
    assert error.kind is broken.kind
    assert (error.descriptor, error.entry) == (broken.descriptor, broken.entry)
    assert error.found == broken.found
    assert error.allowed is not None
    assert str(error)


@known_bug("V02")
@every_case
def test_nothing_is_taken_and_every_later_pop_says_the_same(packed, broken):
    driver, device = broken_queue(packed, broken)
    place, held = device.next_avail, device.state().held
    before = driver.memory.read(0, MEMORY_SIZE)
    first = facts(refusal(device))
    driver.memory.write(TABLES, bytes(0x100))  # what is there afterwards does not matter
    driver.set_avail_idx(2)
    for _ in range(2):
        assert facts(refusal(device)) == first
        with pytest.raises(PeerError):
            next(iter(device))
    assert (device.next_avail, device.state().held) == (place, held)
    assert [chain for chain, _ in held] == [0]
    driver.memory.write(TABLES, before[TABLES : TABLES + 0x100])
    driver.set_avail_idx(int.from_bytes(before[AREAS.driver + 2 : AREAS.driver + 4], "little"))
    assert driver.memory.read(0, MEMORY_SIZE) == before


@every_case
def test_a_chain_that_was_taken_before_can_still_be_given_back(packed, broken):
    driver, device = broken_queue(packed, broken)
    refusal(device)
    device.add_used(0, 8)
    assert driver.used() == [(0, 8)]
    assert device.needs_notification() is True
    refusal(device)


@known_bug("V13")
@every_case
def test_a_queue_that_is_reset_and_set_up_anew_works(packed, broken):
    driver, device = broken_queue(packed, broken)
    refusal(device)
    device.reset()
    device.features = VERSION_1 | (PACKED if packed else 0)
    driver.memory.write(0, bytes(MEMORY_SIZE))
    driver = HandDriver(driver.memory, AREAS, SIZE, packed)
    driver.offer(FIRST)
    device.set_up(QueueAreas(*AREAS))
    device.add_used(device.pop_descriptor_chain().head_index, 8)
    assert driver.used() == [(0, 8)]


@pytest.mark.parametrize(("packed", "broken"), WALKED, ids=case_id)
def test_the_descriptors_before_the_broken_one_stand_in_the_chain(packed, broken):
    driver, device = broken_queue(packed, broken)
    from_device = refusal(device)
    rules = ChainRules(SIZE, broken.longest or SIZE, broken.indirect, 0)
    first = 1 if packed else driver.avail_ring(1)
    chain = DescriptorChain(driver.memory, first, rules)
    record = (PACKED_DESCRIPTOR if packed else SPLIT_DESCRIPTOR).struct
    fetch = driver.memory.unpacker(record, AREAS.table, 16 * SIZE)
    with pytest.raises(PeerError) as caught:
        if packed:
            walk_packed_chain(chain, fetch, first, SIZE)
        else:
            walk_split_chain(chain, fetch, SIZE)
    assert facts(caught.value) == facts(from_device)
    assert tuple((one.table, one.number) for one in chain.descriptors) == broken.before
    assert [*chain.readable, *chain.writable] == chain.descriptors
    assert chain.readable_bytes + chain.writable_bytes == sum(one.length for one in chain.descriptors)


def test_every_fault_of_a_driver_is_met_here():
    """All but those of the areas and of buffers, which have tests of their own below."""
    met = {broken.kind for _, broken in CASES}
    elsewhere = {KIND.AREA_OUTSIDE_MEMORY, KIND.BUFFER_OUTSIDE_MEMORY, KIND.CHAIN_TOO_SHORT}
    assert {kind for kind in KIND if not kind.name.startswith("USED_")} - elsewhere == met


def test_the_bugs_that_cases_name_are_in_the_catalogue():
    assert {bug for _, broken in CASES for bug in broken.bugs} <= set(KNOWN_BUGS)


def test_the_message_names_the_entry_and_the_table():
    _, device = broken_queue(False, next(broken for broken in IN_BOTH if broken.name == "nested"))
    assert str(refusal(device)) == (
        "entry 2 of the table of descriptor 1, in the chain from 1, is indirect, inside an indirect table"
    )


# -- rows that are right -----------------------------------------------------------------------------


def test_an_index_as_far_ahead_as_the_queue_is_long_is_fine():
    driver, device = device_by_hand()
    for index in range(SIZE):
        driver.descriptor(index, *FIRST)
        driver.put_head(index, index)
    driver.set_avail_idx(SIZE)
    assert [chain.head_index for chain in device] == list(range(SIZE))


@both_formats
def test_buffers_may_come_before_an_indirect_descriptor(packed):
    driver, device = device_by_hand(packed, features=INDIRECT_DESC)
    buffers_and_table(3, 13)(driver)
    chain = device.pop_descriptor_chain()
    assert [(one.table, one.number) for one in chain.descriptors] == [
        *of_ring(0, 1, 2),
        *of_table(3, *range(13)),
    ]


@known_bug("V05")
def test_next_on_entries_of_a_packed_table_means_nothing():
    driver, device = device_by_hand(packed=True, features=INDIRECT_DESC)
    driver.offer_table(TABLES, driver.table(TABLES, *[(BUFFERS, 8, NEXT | WRITE, 77)] * 3))
    chain = device.pop_descriptor_chain()
    assert [one.number for one in chain.descriptors] == [0, 1, 2]
    assert chain.writable_bytes == 24


def test_a_device_may_allow_fewer_buffers_than_the_queue_has():
    driver, device = device_by_hand(longest_chain=4)
    driver.offer(*[FIRST] * 4)
    assert len(device.pop_descriptor_chain().descriptors) == 4


def test_a_largest_chain_beyond_the_queue_is_the_queue():
    driver, device = device_by_hand(longest_chain=1024, features=INDIRECT_DESC)
    many_entries(17)(driver)
    assert refusal(device).allowed == 16


# -- in flight -----------------------------------------------------------------------------------------


@known_bug("V03")
def test_a_list_longer_than_what_is_free_is_refused_whole():
    driver, device = device_by_hand(packed=True, size=4)
    driver.offer(FIRST, FIRST)
    assert len(device.pop_descriptor_chain().descriptors) == 2
    driver.offer(FIRST, FIRST, FIRST, buffer_id=1)
    error = refusal(device)
    assert (error.kind, error.found, error.allowed) == (KIND.TOO_MANY_IN_FLIGHT, 5, 4)
    assert device.next_avail == 0x8002


@known_bug("V03", "V13")
def test_chains_of_an_earlier_owner_count_as_in_flight():
    """Between the indices 1 and 3 two chains are the device's: two more fit into a queue of 4."""
    memory = new_memory()
    driver = HandDriver(memory, AREAS, 4)
    for index in range(4):
        driver.descriptor(index, *FIRST)
        driver.put_head(index, index)
    state = QueueState(4, 4, True, VERSION_1, *AREAS, 3, 1)
    device = DeviceQueue.from_state(memory, state)
    driver.put_head(4, 0)
    driver.put_head(5, 1)
    driver.set_avail_idx(6)
    assert [device.pop_descriptor_chain().head_index for _ in range(2)] == [3, 0]
    error = refusal(device)
    assert (error.kind, error.descriptor, error.found, error.allowed) == (KIND.TOO_MANY_IN_FLIGHT, 1, 5, 4)


# -- areas ---------------------------------------------------------------------------------------------


OUTSIDE = [
    Areas(END - 0xF0, 0x2000, 0x3000),
    Areas(0x1000, END - 4, 0x3000),
    Areas(0x1000, 0x2000, END - 4),
    Areas(END, 0x2000, 0x3000),
    Areas(2**64 - 16, 0x2000, 0x3000),
    Areas(0x1000, 2**64 - 4, 0x3000),
    Areas(0x1000, 0x2000, 2**64 - 4),
]


@known_bug("V07")
@both_formats
@pytest.mark.parametrize("areas", OUTSIDE, ids=lambda areas: "-".join(f"{area:x}" for area in areas))
def test_an_area_that_is_not_all_in_memory_is_refused_with_each_use(packed, areas):
    if packed and END - 4 in areas:
        areas = areas._replace(**{name: END for name in areas._fields if getattr(areas, name) == END - 4})
    _, device = device_by_hand(packed, areas=areas)
    assert device.ready and not device.is_valid()
    uses: list[Callable[[], object]] = [
        device.pop_descriptor_chain,
        lambda: device.add_used(0, 0),
        device.needs_notification,
        device.enable_notification,
        device.disable_notification,
        device.go_to_previous_position,
    ]
    for use in uses:
        with pytest.raises(PeerError) as caught:
            use()
        assert caught.value.kind is KIND.AREA_OUTSIDE_MEMORY
        assert caught.value.found == tuple(areas)


@pytest.mark.parametrize(("packed", "sizes"), [(False, (256, 38, 134)), (True, (256, 4, 4))])
@pytest.mark.parametrize("area", [0, 1, 2])
def test_an_area_may_end_with_the_memory(packed, sizes, area):
    """To the byte: one alignment further up it is outside."""
    alignment = QueueAreas.alignments(packed=packed)[area]
    memory_end = 0x8000 + -(-sizes[area] // alignment) * alignment
    for shift, fine in ((0, True), (alignment, False)):
        memory = new_memory(memory_end)
        start = (memory_end - sizes[area]) // alignment * alignment + shift
        areas = Areas(*(start if number == area else place for number, place in enumerate(AREAS)))
        assert device_by_hand(packed, memory=memory, areas=areas)[1].is_valid() is fine


def test_an_area_across_two_regions_is_refused_and_buffers_there_are_not():
    memory = GuestMemory([(0, bytearray(0x2010)), (0x2010, bytearray(0xE000))])
    _, device = device_by_hand(memory=memory)
    assert not device.is_valid()
    driver, device = device_by_hand(memory=memory, areas=Areas(0x1000, 0x3000, 0x4000))
    driver.memory.write(0x2008, b"across the border")
    driver.offer((0x2008, 17, 0), (0x2008, 17, WRITE))
    chain = device.pop_descriptor_chain()
    assert chain.read_all() == b"across the border"
    assert chain.write_all(b"ACROSS THE BORDER") == 17
    assert memory.read(0x2008, 17) == b"ACROSS THE BORDER"


# -- buffers -------------------------------------------------------------------------------------------


class Outside(NamedTuple):
    """A buffer that is not all in memory, and the first address that is not."""

    address: int
    length: int
    hole: int


NOT_IN_MEMORY = [
    Outside(END, 1, END),
    Outside(END - 4, 5, END),
    Outside(2**64 - 1 - 0x800, 0x900, 2**64 - 1 - 0x800),
    Outside(2**64 - 1, 0xFFFF_FFFF, 2**64 - 1),
    Outside(0, 0xFFFF_FFFF, END),
]

#: Everything that a device can do with a chain's buffers, by the flags of the buffer.
ACCESSES: list[tuple[int, Callable[[DescriptorChain], object]]] = [
    (0, lambda chain: chain.reader()),
    (0, lambda chain: chain.read_all()),
    (WRITE, lambda chain: chain.writer()),
    (WRITE, lambda chain: chain.write_all(bytes(0x100000)[: chain.writable_bytes])),
]


@known_bug("V07")
@both_formats
@pytest.mark.parametrize("where", ["alone", "second", "in a table"])
@pytest.mark.parametrize("outside", NOT_IN_MEMORY, ids=lambda outside: f"{outside[0]:x}+{outside[1]:x}")
def test_a_buffer_that_is_not_in_memory_is_refused_when_it_is_used(packed, where, outside):
    # As in virtio-queue and OpenVMM the chain itself is taken: nobody has looked at the bytes yet.
    for flags, access in ACCESSES:
        driver, device = device_by_hand(packed, features=INDIRECT_DESC)
        bad = (outside.address, outside.length, flags)
        good = (BUFFERS, 0, flags)
        if where == "alone":
            driver.offer(bad)
        elif where == "second":
            driver.offer(good, bad)
        else:
            driver.offer_table(
                TABLES, driver.table(TABLES, *plain(driver, [(*good[:2], flags | NEXT, 1), (*bad, 0)]))
            )
        chain = device.pop_descriptor_chain()
        before = driver.memory.read(0, MEMORY_SIZE)
        with pytest.raises(PeerError) as caught:
            access(chain)
        error = caught.value
        assert error.kind is KIND.BUFFER_OUTSIDE_MEMORY
        assert error.found == outside.hole
        blamed = {"alone": (0, None), "second": (1, None), "in a table": (0, 1)}[where]
        assert (error.descriptor, error.entry) == blamed
        assert driver.memory.read(0, MEMORY_SIZE) == before
        device.add_used(chain.head_index, 0)
        assert driver.used() == [(chain.head_index, 0)]


# -- set-up --------------------------------------------------------------------------------------------


@known_bug("V05", "V08")
@pytest.mark.parametrize(
    ("packed", "size"),
    [
        *((False, size) for size in (0, 3, 12, 32769, 65536, -1)),
        *((True, size) for size in (0, 32769, 65536, -1)),
    ],
    ids=case_id,
)
def test_a_queue_size_that_cannot_be_is_refused(packed, size):
    features: Any = VERSION_1 | (PACKED if packed else 0)
    with pytest.raises(CallerError):
        DeviceQueue(new_memory(), size, features)
    device = DeviceQueue(new_memory(), 32768, features)
    with pytest.raises(CallerError):
        device.set_size(size)
    assert device.size == 32768


@pytest.mark.parametrize(
    ("packed", "areas"),
    [
        (False, QueueAreas(0x1008, 0x2000, 0x3000)),
        (False, QueueAreas(0x1000, 0x2001, 0x3000)),
        (False, QueueAreas(0x1000, 0x2000, 0x3002)),
        (False, QueueAreas(2**64, 0x2000, 0x3000)),
        (False, QueueAreas(-16, 0x2000, 0x3000)),
        (True, QueueAreas(0x1004, 0x2000, 0x3000)),
        (True, QueueAreas(0x1000, 0x2002, 0x3000)),
        (True, QueueAreas(0x1000, 0x2000, 0x3001)),
    ],
    ids=case_id,
)
def test_areas_that_are_not_aligned_are_refused(packed, areas):
    device = DeviceQueue(new_memory(), 16, VERSION_1 | (PACKED if packed else 0))
    with pytest.raises(CallerError):
        device.set_up(areas)
    assert not device.ready
    assert device.areas == QueueAreas(0, 0, 0)
