"""Reports on virtqueues: what real sides left in memory, and everything that nobody should.

The truth is asked of the real sides (`Pair.outstanding`), the reports see a copy of the bytes alone.

Sources: OASIS VIRTIO 1.2, sections 2.7 and 2.8; QEMU's x-query-virtio-queue-status and
x-query-virtio-queue-element for what other software tells of a queue.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.inspection.queue_dumps import BASE, HISTORY, checks, hand, heads, lengths, look, pair
from tests.virtio.by_hand import (
    AREAS,
    AVAILABLE,
    BUFFERS,
    EVENT_IDX,
    FORMATS,
    INDIRECT,
    INDIRECT_DESC,
    NEXT,
    PACKED,
    TABLES,
    USED,
    VERSION_1,
    WRITE,
    Areas,
    HandDevice,
    HandDriver,
)
from vmbus import inspection
from vmbus.errors import CallerError
from vmbus.images.findings import Severity
from vmbus.inspection import (
    QueueDumpReport,
    QueueVerdict,
    Selection,
    inspect_queue,
    queue_report_to_lines,
    queue_to_json,
)
from vmbus.inspection.split_heads import outstanding_heads
from vmbus.memory import AddressSpace, GuestMemory
from vmbus.virtio import LARGEST_QUEUE, DeviceQueue, QueueAreas, VirtqueueFault

both_formats = pytest.mark.parametrize("packed", FORMATS, ids=["split", "packed"])

IN_ORDER = 1 << 35


# -- what real sides made ------------------------------------------------------------------------


@both_formats
def test_memory_of_zeros_was_never_set_up(packed):
    report = look(hand(packed))
    assert report.verdict is QueueVerdict.NEVER_SET_UP
    assert report.waiting == 0
    assert report.chains == report.findings == []
    assert report.is_sound


@both_formats
def test_a_chain_shows_its_buffers_and_whether_the_device_writes_them(packed):
    both = pair(packed)
    request = both.add(44, 20, -30)
    report = both.look()
    (chain,) = report.chains
    place = chain.descriptors[0].address
    assert chain.head == request
    assert [(one.address, one.length) for one in chain.descriptors] == [
        (place, 44),
        (place + 44, 20),
        (place + 64, 30),
    ]
    assert [one.flags for one in chain.descriptors] == [NEXT, NEXT, WRITE]
    assert (chain.readable_bytes, chain.writable_bytes, chain.slots) == (64, 30, 3)
    assert chain.in_memory
    assert chain.broken is None
    assert report.verdict is QueueVerdict.WAITING_FOR_DEVICE
    assert report.is_sound


@both_formats
def test_an_indirect_chain_shows_the_entries_of_its_table(packed):
    both = pair(packed)
    both.add(5)
    request = both.add(44, -60, indirect=True)
    _, chain = both.look().chains
    assert chain.head == request
    assert lengths(chain) == [44, 60]
    assert [(one.table, one.number) for one in chain.descriptors] == [(1, 0), (1, 1)]
    assert chain.slots == 1


@both_formats
def test_a_chain_that_the_device_has_begun_with_still_waits(packed):
    both = pair(packed)
    both.add(8)
    both.device.pop_descriptor_chain()
    assert heads(both.look()) == [0]


@both_formats
def test_a_queue_of_which_all_was_used_is_idle_whether_the_driver_knows_or_not(packed):
    both = pair(packed)
    both.add(8)
    both.add(8)
    for chain in both.device:
        both.device.add_used(chain.head_index)
    before = both.look()
    list(both.driver.completions())
    for report in (before, both.look()):
        assert report.verdict is QueueVerdict.IDLE
        assert report.chains == []


def test_the_limit_shows_the_first_chains_and_all_findings():
    driver = hand()
    for _ in range(3):
        driver.offer((BUFFERS, 8, 0x10))
    report = look(driver, selection=Selection(limit=1))
    assert heads(report) == [0]
    assert report.waiting == 3
    assert checks(report) == ["descriptor-flags"] * 3


@both_formats
def test_used_elements_are_shown_only_on_request_and_oldest_first(packed):
    both = pair(packed)
    for length in (8, 16, 24):
        both.add(-length)
    for chain in both.device:
        both.device.add_used(chain.head_index, chain.writable_bytes)
    assert both.look().history == []
    report = both.look(selection=HISTORY)
    assert [(one.id, one.length) for one in report.history] == [(0, 8), (1, 16), (2, 24)]
    last = both.look(selection=Selection(history=True, limit=1))
    assert [one.id for one in last.history] == [2]
    assert last.recovered == 3


def test_a_used_chain_is_followed_only_while_its_descriptors_are_nobody_elses():
    both = pair()
    both.add(-8, -8)
    both.add(-16)
    for chain in both.device:
        both.device.add_used(chain.head_index)
    list(both.driver.completions())
    assert [one.chain is not None for one in both.look(selection=HISTORY).history] == [True, True]
    both.add(8, 8)  # takes the descriptors given back last: those of the second chain, and one of the first
    found = both.look(selection=HISTORY)
    assert [one.chain for one in found.history] == [None, None]


# -- the truth, whatever came before ---------------------------------------------------------------


#: (what to do, which one or how many)
STEPS = st.lists(st.tuples(st.sampled_from("aaapuuc"), st.integers(0, 7)), max_size=60)


def play(both, steps, *, in_order):
    """Do what the steps say; the real queue is asked for the truth, and must agree, after each."""
    held = []
    for what, number in steps:
        count = 1 + number % 3
        if what == "a" and both.driver.free >= count:
            both.add(*[-4] * count, indirect=number == 7)
        elif what == "p" and (chain := both.device.pop_descriptor_chain()) is not None:
            held.append(chain)
        elif what == "u" and held:
            chain = held.pop(0 if in_order else number % len(held))
            both.device.add_used(chain.head_index, chain.writable_bytes)
        elif what == "c":
            list(both.driver.completions())
        yield both.look(), both.outstanding()


@settings(max_examples=120, deadline=None)
@given(
    steps=STEPS,
    size=st.sampled_from([1, 2, 4, 8]),
    start=st.sampled_from([0, 5, 0x7FFD, 0xFFFD]),
    event_idx=st.booleans(),
)
def test_a_split_queue_used_in_order_names_exactly_the_chains_that_wait(steps, size, start, event_idx):
    features = VERSION_1 | INDIRECT_DESC | (EVENT_IDX if event_idx else 0)
    for report, truth in play(pair(False, size, features, start=start), steps, in_order=True):
        assert set(heads(report)) == truth
        assert report.waiting == len(truth)
        assert report.missing == 0
        assert report.in_order
        assert not any(chain.perhaps_used for chain in report.chains)
        assert report.is_sound


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, size=st.sampled_from([2, 4, 8]), start=st.sampled_from([0, 5, 0xFFFD]))
def test_a_split_queue_used_out_of_order_claims_nothing_that_is_not_so(steps, size, start):
    for report, truth in play(pair(False, size, start=start), steps, in_order=False):
        certain = {chain.head for chain in report.chains if not chain.perhaps_used}
        perhaps = {chain.head for chain in report.chains if chain.perhaps_used}
        assert certain <= truth
        assert report.waiting == len(truth)
        if truth - certain - perhaps:  # then it says that there is more than it can name
            assert report.missing or perhaps
            assert "out-of-order" in checks(report)
        assert report.is_sound


@settings(max_examples=100, deadline=None)
@given(steps=STEPS.filter(lambda steps: sum(what == "a" for what, _ in steps) <= 8))
def test_a_split_queue_in_its_first_round_names_exactly_the_chains_that_wait(steps):
    for report, truth in play(pair(False, 8), steps, in_order=False):
        assert set(heads(report)) == truth
        assert report.missing == 0
        assert not any(chain.perhaps_used for chain in report.chains)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, size=st.sampled_from([1, 2, 3, 4, 7, 8]), event_idx=st.booleans())
def test_a_packed_queue_used_in_order_shows_every_chain_that_waits(steps, size, event_idx):
    features = VERSION_1 | INDIRECT_DESC | (EVENT_IDX if event_idx else 0)
    for report, truth in play(pair(True, size, features), steps, in_order=True):
        certain = {chain.head for chain in report.chains if not chain.perhaps_used}
        perhaps = {chain.head for chain in report.chains if chain.perhaps_used}
        assert certain <= truth <= certain | perhaps
        if not perhaps:
            assert report.verdict in (
                QueueVerdict.NEVER_SET_UP,
                QueueVerdict.IDLE if not truth else QueueVerdict.WAITING_FOR_DEVICE,
            )
        elif not certain:
            assert report.verdict is QueueVerdict.UNCLEAR
        assert report.is_sound


@settings(max_examples=60, deadline=None)
@given(steps=STEPS, size=st.sampled_from([3, 4, 8]))
def test_the_places_of_a_packed_queue_are_those_of_its_sides(steps, size):
    both = pair(True, size)
    for report, _ in play(both, steps, in_order=True):
        state = both.device.state()
        beyond = DeviceQueue.from_state(both.memory, state)
        while beyond.pop_descriptor_chain() is not None:
            pass
        assert report.next_available == place(beyond.next_avail)
        if not any(chain.perhaps_used for chain in report.chains):
            assert report.next_used == place(state.next_used)


def place(position):
    """A packed position as slot and wrap counter."""
    return position & 0x7FFF, position >> 15


def test_with_event_idx_a_packed_queue_knows_the_rest_of_a_list_by_the_drivers_event():
    """Two lists of one id and two slots: used, used, and nothing waits; without the event nobody knows."""
    verdicts = {}
    for event_idx in (0, EVENT_IDX):
        both = pair(True, 8, VERSION_1 | event_idx)
        both.driver.set_used_notif_enabled(True)
        both.add(8, -8)
        chain = both.device.pop_descriptor_chain()
        both.device.add_used(chain.head_index, 8)
        list(both.driver.completions())
        report = both.look()
        verdicts[event_idx] = (report.verdict, [one.perhaps_used for one in report.chains], checks(report))
    assert verdicts[0] == (QueueVerdict.UNCLEAR, [True], ["list-or-rest"])
    assert verdicts[EVENT_IDX] == (QueueVerdict.IDLE, [], [])


def test_a_packed_queue_that_was_used_out_of_order_says_so():
    """The first slot of one list was written over with another's id: what follows it does not fit."""
    both = pair(True)
    both.add(8, 8)
    both.add(8, 8)
    waits = both.add(8)
    chains = [both.device.pop_descriptor_chain() for _ in range(2)]
    before = both.look()
    for chain in reversed(chains):
        both.device.add_used(chain.head_index)
    report = both.look(selection=HISTORY)
    assert (before.in_order, report.in_order) == (True, False)
    assert [(chain.head, chain.perhaps_used) for chain in report.chains] == [(1, True), (waits, False)]
    assert [one.id for one in report.history] == [1, 0]


def test_the_rest_of_a_list_whose_beginning_was_written_over_is_no_list():
    """N = 2: a list of both slots was used, and one of the first slot waits under the same id."""
    both = pair(True, 2)
    both.add(8, 8)
    both.device.add_used(both.device.pop_descriptor_chain().head_index)
    list(both.driver.completions())
    both.add(-3)
    report = both.look()
    assert [(chain.head, lengths(chain)) for chain in report.chains] == [(0, [3])]
    assert report.verdict is QueueVerdict.WAITING_FOR_DEVICE
    assert report.is_sound


def test_a_chain_used_before_an_earlier_one_does_not_hide_that_one():
    both = pair()
    first, second = both.add(8), both.add(8)
    both.device.pop_descriptor_chain()
    both.device.add_used(both.device.pop_descriptor_chain().head_index)
    report = both.look()
    assert heads(report) == [first] != [second]
    assert report.in_order is False
    assert not report.chains[0].perhaps_used


def test_a_chain_that_the_device_keeps_for_more_than_a_round_is_missing_and_counted():
    """N = 2; head 0 is kept, and head 1 has come and gone until head 0 is in neither ring."""
    both = pair(size=2)
    both.add(8)
    both.device.pop_descriptor_chain()
    for _ in range(5):
        both.add(8)
        both.device.add_used(both.device.pop_descriptor_chain().head_index)
        list(both.driver.completions())
    both.add(8)
    report = both.look()
    assert both.outstanding() == {0, 1}
    assert report.waiting == 2
    assert report.missing + len(report.chains) == 2


def test_in_order_one_used_element_stands_for_many_chains():
    driver = hand()
    for _ in range(4):
        driver.offer((BUFFERS, 8, 0))
    device = HandDevice(driver.memory, AREAS, 16)
    device.put_used(0, 2, 0)  # the last of three, where the first would be
    device.set_used_idx(3)
    report = look(driver, IN_ORDER)
    assert heads(report) == [3]
    assert report.is_sound


@pytest.mark.parametrize(
    ("heads_made_available", "used", "index", "waiting", "certain", "perhaps"),
    [
        ([0, 1, 2, 3], [9, 9, 9, 9], 4, 4, [0, 1, 2, 3], []),
        ([0, 1, 2, 3], [1, 3, 0, 0], 4, 2, [0, 2], []),  # first round: exact
        ([1, 1, 1, 1], [1, 1, 1, 1], 101, 1, [1], []),  # one at a time
        ([1, 1, 1, 1], [1, 1, 1, 1], 100, 0, [], []),
        ([4, 0, 1, 1], [1, 1, 0, 0], 100, 2, [], [0]),  # 4 is no head; 0 may be of an earlier round
    ],
)
def test_the_heads_that_wait_are_counted_over_both_rings(
    heads_made_available, used, index, waiting, certain, perhaps
):
    found = outstanding_heads(heads_made_available, used, index, waiting)
    assert [one.head for one in found.outstanding if not one.perhaps_used] == certain
    if perhaps:
        assert set(perhaps) <= {one.head for one in found.outstanding if one.perhaps_used}


@pytest.mark.parametrize(
    ("heads_made_available", "used", "index", "waiting", "doubts"),
    [
        ([0, 0, 0, 0], [0, 0, 0, 0], 2, 2, [(VirtqueueFault.HEAD_IN_FLIGHT, 0, 1)]),
        # used only after it had come for the second time
        ([0, 0, 1, 0], [1, 0, 0, 0], 3, 1, [(VirtqueueFault.HEAD_IN_FLIGHT, 0, 1)]),
        ([0, 1, 0, 0], [0, 1, 0, 0], 3, 1, []),
        # three times, and used once
        ([0, 0, 0, 0], [0, 0, 0, 0], 3, 2, [(VirtqueueFault.HEAD_IN_FLIGHT, 0, 2)]),
        # used at 99 and 100, and made available at 99
        ([0, 1, 2, 3], [3, 1, 2, 3], 102, 1, [(VirtqueueFault.USED_ID_NOT_OUTSTANDING, 3, 100)]),
        ([1, 2, 0, 0], [1, 1, 0, 0], 2, 0, [(VirtqueueFault.USED_ID_NOT_OUTSTANDING, 1, 1)]),
        ([1, 2, 3, 0], [1, 2, 3, 7], 100, 1, [(VirtqueueFault.USED_ID_OUT_OF_RANGE, 7, 95)]),
        ([3, 2, 9, 0], [1, 1, 3, 2], 103, 3, [(VirtqueueFault.HEAD_OUT_OF_RANGE, 9, 102)]),
        # later rounds: at entry 0 the oldest use that can follow is the one at 0xFFFD, in slot 1
        ([2, 2, 0, 1], [3, 2, 0, 1], 2, 2, []),
        ([2, 2, 0, 1], [2, 3, 0, 1], 2, 2, [(VirtqueueFault.HEAD_IN_FLIGHT, 2, 1)]),
    ],
)
def test_what_no_correct_side_puts_into_the_rings_is_doubted(
    heads_made_available, used, index, waiting, doubts
):
    assert outstanding_heads(heads_made_available, used, index, waiting).doubts == doubts


# -- what nobody should leave --------------------------------------------------------------------


def out_of_range_head(driver):
    driver.push(driver.size)


def offered_twice(driver):
    driver.offer((BUFFERS, 8, 0))
    driver.push(0)


def circle(driver):
    driver.descriptor(0, BUFFERS, 1, NEXT, 1)
    driver.descriptor(1, BUFFERS, 1, NEXT, 0)
    driver.push(0)


def next_too_far(driver):
    driver.descriptor(0, BUFFERS, 1, NEXT, driver.size)
    driver.push(0)


def too_far_ahead(driver):
    driver.set_avail_idx(driver.size + 1)


def used_too_far(driver):
    driver.set_word(AREAS.device + 2, 1)


def used_unknown(driver):
    driver.offer((BUFFERS, 8, 0))
    device = HandDevice(driver.memory, driver.areas, driver.size)
    device.give_back(driver.size, 0)


def used_twice(driver):
    driver.offer((BUFFERS, 8, 0))
    driver.offer((BUFFERS, 8, 0))
    device = HandDevice(driver.memory, driver.areas, driver.size)
    device.give_back(0)
    device.give_back(0)


SPLIT_ROWS = {
    "head-out-of-range": out_of_range_head,
    "head-in-flight": offered_twice,
    "chain-too-long": circle,
    "next-out-of-range": next_too_far,
    "available-index-jump": too_far_ahead,
    "available-index-jump, used ahead": used_too_far,
    "used-id-out-of-range": used_unknown,
    "used-id-not-outstanding": used_twice,
}


@pytest.mark.parametrize("name", SPLIT_ROWS)
def test_a_split_queue_that_a_side_would_refuse_is_corrupt(name):
    driver = hand()
    SPLIT_ROWS[name](driver)
    report = look(driver, INDIRECT_DESC)
    assert checks(report) == [name.partition(",")[0]]
    assert report.findings[0].severity is Severity.ERROR
    assert report.verdict is QueueVerdict.CORRUPT
    assert not report.is_sound


TABLE = [(BUFFERS, 8, NEXT, 1), (BUFFERS, 8, 0, 0)]

#: Check, features, table entries, and (address, length, flags) of the chain's buffers.
CHAIN_ROWS = [
    ("readable-after-writable", 0, [], [(BUFFERS, 8, WRITE), (BUFFERS, 8, 0)]),
    ("chain-too-large", 0, [], [(0, 0xFFFFFFFF, 0), (0, 1, 0)]),
    ("indirect-not-negotiated", 0, TABLE, [(TABLES, 32, INDIRECT)]),
    ("indirect-with-next", INDIRECT_DESC, TABLE, [(TABLES, 32, INDIRECT), (BUFFERS, 8, 0)]),
    ("indirect-length", INDIRECT_DESC, TABLE, [(TABLES, 0, INDIRECT)]),
    ("indirect-length", INDIRECT_DESC, TABLE, [(TABLES, 33, INDIRECT)]),
    ("indirect-too-long", INDIRECT_DESC, TABLE, [(TABLES, 16 * 65536, INDIRECT)]),
    ("indirect-outside-memory", INDIRECT_DESC, TABLE, [(0x7_0000, 32, INDIRECT)]),
    ("nested-indirect", INDIRECT_DESC, [(BUFFERS, 8, INDIRECT, 0)], [(TABLES, 16, INDIRECT)]),
    ("buffer-outside-memory", 0, [], [(2**64 - 8, 9, 0)]),
]


@both_formats
@pytest.mark.parametrize(("check", "features", "table", "buffers"), CHAIN_ROWS)
def test_a_chain_that_a_device_would_refuse_is_shown_with_the_fault(packed, check, features, table, buffers):
    driver = hand(packed)
    driver.table(TABLES, *table)
    driver.offer((BUFFERS, 4, 0))
    driver.offer(*buffers)
    report = look(driver, features)
    whole, broken = report.chains
    assert whole.broken is None
    assert broken.broken == check
    found = next(one for one in report.findings if one.check == check)
    outside = check == "indirect-outside-memory"  # which may be in memory, and only not in the dump
    assert found.severity is (Severity.WARNING if outside else Severity.ERROR)
    assert found.offset == (2 if check in ("readable-after-writable", "chain-too-large") else 1)
    assert not report.is_sound


@both_formats
@pytest.mark.parametrize(
    ("features", "buffers", "shown"),
    [
        (0, [(BUFFERS, 9, WRITE), (BUFFERS, 8, 0)], [9, 8]),
        (0, [(TABLES, 32, INDIRECT)], [8, 8]),
        (INDIRECT_DESC, [(TABLES, 32, INDIRECT), (BUFFERS, 8, 0)], [8, 8]),
        (INDIRECT_DESC, [(BUFFERS, 7, 0), (TABLES, 33, INDIRECT)], [7]),
    ],
    ids=["readable after writable", "not negotiated", "with next", "a wrong table behind a buffer"],
)
def test_of_a_broken_chain_is_shown_what_a_lenient_device_would_follow(packed, features, buffers, shown):
    driver = hand(packed)
    driver.table(TABLES, *TABLE)
    driver.offer(*buffers)
    (chain,) = look(driver, features).chains
    assert chain.broken is not None
    assert lengths(chain) == shown


@both_formats
def test_buffers_that_the_dump_does_not_have_are_one_note(packed):
    driver = hand(packed)
    for _ in range(3):
        driver.offer((0x5_0000, 4096, 0))
    report = look(driver)
    assert [(one.check, one.severity) for one in report.findings] == [("buffer-not-there", Severity.NOTE)]
    assert not any(chain.in_memory for chain in report.chains)
    assert report.is_sound


@both_formats
def test_descriptor_flags_without_a_meaning_are_a_warning(packed):
    driver = hand(packed)
    driver.offer((BUFFERS, 8, 0x10))
    report = look(driver)
    assert [(one.check, one.severity) for one in report.findings] == [("descriptor-flags", Severity.WARNING)]


@pytest.mark.parametrize(
    ("features", "driver_flags", "device_flags", "found"),
    [
        (0, 0, 0, []),
        (0, 1, 1, []),
        (0, 2, 0, ["ring-flags"]),
        (0, 0, 3, ["ring-flags"]),
        (EVENT_IDX, 1, 0, ["ring-flags"]),
        (EVENT_IDX, 0, 1, ["ring-flags"]),
    ],
)
def test_flags_of_the_rings_are_0_or_1_and_0_with_event_idx(features, driver_flags, device_flags, found):
    driver = hand()
    driver.offer((BUFFERS, 8, 0))
    driver.set_avail_flags(driver_flags)
    driver.set_word(AREAS.device, device_flags)
    assert checks(look(driver, features)) == found


@pytest.mark.parametrize(
    ("features", "position", "flags", "found"),
    [
        (0, 0, 0, []),
        (0, 0, 1, []),
        (0, 0, 2, ["event-flags"]),
        (EVENT_IDX, 0x8000 | 15, 2, []),
        (EVENT_IDX, 16, 2, ["event-position"]),
        (EVENT_IDX, 0, 3, ["event-flags"]),
        (EVENT_IDX, 0, 0x100, ["event-flags"]),
    ],
)
@pytest.mark.parametrize("area", [AREAS.driver, AREAS.device])
def test_event_suppression_is_0_1_or_2_at_a_slot_that_there_is(area, features, position, flags, found):
    driver = hand(packed=True)
    driver.offer((BUFFERS, 8, 0))
    driver.set_word(area, position)
    driver.set_word(area + 2, flags)
    assert checks(look(driver, features)) == found


def test_a_packed_list_that_nobody_ended_is_an_error():
    driver = hand(packed=True)
    driver.offer((BUFFERS, 8, 0), last_flags=NEXT)
    assert "list-unfinished" in checks(look(driver))


def test_two_packed_lists_of_one_id_are_an_error():
    driver = hand(packed=True)
    driver.offer((BUFFERS, 8, 0), buffer_id=3)
    driver.offer((BUFFERS, 8, 0), buffer_id=3)
    assert checks(look(driver)) == ["head-in-flight"]


def test_a_ring_whose_rounds_change_too_often_is_no_packed_ring():
    driver = hand(packed=True)
    for slot in range(0, 16, 2):
        driver.slot(slot, BUFFERS, 8, AVAILABLE, slot)
    assert "wrap-pattern" in checks(look(driver))


def test_the_round_of_a_packed_queue_is_told_by_its_flags_after_any_number_of_rounds():
    driver = hand(packed=True, size=3, start=0x8000)
    device = HandDevice(driver.memory, AREAS, 3, True)
    for number in range(7):
        driver.offer((BUFFERS, number, 0), buffer_id=number)
        device.slots[number] = 1
        device.give_back(number)
    driver.offer((BUFFERS, 99, 0), buffer_id=50)
    report = look(driver)
    assert [(chain.head, lengths(chain)) for chain in report.chains] == [(50, [99])]
    assert report.next_available == (2, 1)
    assert report.next_used == (1, 1)
    assert driver.flags_of_slot(1) == AVAILABLE != USED


def test_a_used_length_beyond_the_chain_is_a_warning_while_the_chain_is_still_there():
    driver = hand()
    driver.offer((BUFFERS, 8, WRITE))
    HandDevice(driver.memory, AREAS, 16).give_back(0, 9)
    assert checks(look(driver)) == []
    report = look(driver, selection=HISTORY)
    assert [(one.check, one.severity) for one in report.findings] == [
        ("used-length-too-large", Severity.WARNING)
    ]


# -- areas and arguments ---------------------------------------------------------------------------


@both_formats
@pytest.mark.parametrize("name", QueueAreas._fields)
def test_an_area_that_is_not_all_there_is_an_error_and_the_rest_is_shown(packed, name):
    driver = hand(packed)
    driver.offer((BUFFERS, 8, 0))
    areas = QueueAreas(*AREAS)._replace(**{name: 0x10000 - 4 - 4 * packed * (name == "table")})
    if packed and name != "descriptor_table":
        areas = areas._replace(**{name: 0x10000 - 2})
    report = look(driver, areas=areas)
    assert "area-outside-memory" in checks(report)
    assert report.verdict is QueueVerdict.NOT_IN_MEMORY
    assert queue_to_json(report)["verdict"] == "not-in-memory"
    if packed:
        assert (report.waiting is None) == (name == "descriptor_table")
    else:
        assert (report.waiting is None) == (name != "descriptor_table")


@both_formats
def test_areas_that_are_not_aligned_or_overlap_are_said_to_be(packed):
    report = look(hand(packed), areas=QueueAreas(0x1008, 0x1010, 0x3000))
    assert checks(report) == ["area-alignment", "areas-overlap"]
    assert report.verdict is QueueVerdict.CORRUPT


@pytest.mark.parametrize(
    ("argument", "options"),
    [
        ("size", {"size": 0}),
        ("size", {"size": 12}),
        ("size", {"size": 2 * LARGEST_QUEUE}),
        ("size", {"size": LARGEST_QUEUE + 1, "features": PACKED}),
        ("driver_area", {"areas": QueueAreas(0, -1, 0)}),
        ("device_area", {"areas": QueueAreas(0, 0, 2**64)}),
        ("vsock", {"vsock": "ctrl"}),
    ],
)
def test_arguments_that_no_queue_has_are_the_callers_error(argument, options):
    asked = {"areas": QueueAreas(0, 0, 0), "size": 4, **options}
    with pytest.raises(CallerError) as caught:
        inspect_queue(AddressSpace([(0, bytes(64))]), **asked)
    assert caught.value.argument == argument


def test_a_queue_that_moves_while_it_is_looked_at_is_a_note_and_no_error():
    driver = hand()
    driver.push(99)

    class Moving(GuestMemory):
        """Somebody moves the used index before each read of the device's area."""

        def read(self, address, length):
            if address == AREAS.device:
                driver.set_word(AREAS.device, driver.word(AREAS.device) ^ 1)
            return super().read(address, length)

    moving = Moving([(region.start, region.view) for region in driver.memory.regions])
    report = inspect_queue(moving, QueueAreas(*AREAS), 16)
    assert [(one.check, one.severity) for one in report.findings] == [
        ("head-out-of-range", Severity.NOTE),
        ("queue-moved", Severity.NOTE),
    ]


# -- what other software tells -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "table", "driver_offset", "device_offset"),
    [(128, 5217370112, 2048, 320), (1024, 5217370112, 16384, 2112)],
    ids=["QEMU's example with 128", "QEMU's example with 1024"],
)
def test_a_linux_queue_is_found_where_qemu_says_and_shows_what_qemu_shows(
    size, table, driver_offset, device_offset
):
    """queue-status: vring-num, vring-desc, vring-avail, vring-used, used-idx; queue-element: index, descs.

    QEMU lists the descriptors of an element from the last to the first.
    """
    areas = QueueAreas(table, table + driver_offset, table + driver_offset + device_offset)
    memory = GuestMemory([(table, bytearray(0x10000))])
    driver = HandDriver(memory, Areas(*areas), size)
    buffers = table + 0x8000
    driver.offer((buffers, 44, 0), (buffers + 64, 100, 0), (buffers + 256, 1, WRITE))
    shown = queue_to_json(inspect_queue(memory, areas, size))
    status = {
        "vring-num": shown["size"],
        "vring-desc": shown["descriptor_table"],
        "vring-avail": shown["driver_area"],
        "vring-used": shown["device_area"],
        "used-idx": shown["used"]["index"],
    }
    assert status == {
        "vring-num": size,
        "vring-desc": table,
        "vring-avail": table + driver_offset,
        "vring-used": table + driver_offset + device_offset,
        "used-idx": 0,
    }
    (chain,) = shown["chains"]
    element = {
        "index": chain["head"],
        "descs": [
            {"addr": one["address"], "len": one["length"], "flags": one["flags"][::-1]}
            for one in chain["descriptors"]
        ][::-1],
    }
    assert element == {
        "index": 0,
        "descs": [
            {"addr": buffers + 256, "len": 1, "flags": ["write"]},
            {"addr": buffers + 64, "len": 100, "flags": ["next"]},
            {"addr": buffers, "len": 44, "flags": ["next"]},
        ],
    }


def test_a_receive_queue_just_filled_has_a_writable_buffer_in_every_element():
    areas = QueueAreas(0x1000, 0x2000, 0x3000)
    driver = HandDriver(GuestMemory([(0, bytearray(0x4000))]), Areas(*areas), 256)
    for number in range(256):
        driver.offer((0x1_0000 + 4096 * number, 1536, WRITE))
    report = inspect_queue(driver.memory, areas, 256)
    assert report.available.next_index == 256
    assert [lengths(chain) for chain in report.chains] == [[1536]] * 256
    assert {chain.writable_bytes for chain in report.chains} == {1536}
    assert checks(report) == ["buffer-not-there"]


# -- anything at all -----------------------------------------------------------------------------


def show_all(report):
    """Every form of a report: none may fail."""
    json.dumps(queue_to_json(report))
    dump = QueueDumpReport("any", "raw", 0, [report])
    assert all("\n" not in line for line in queue_report_to_lines(dump, with_hexdump=True))
    assert dump.is_sound is report.is_sound
    errors = [one for one in report.findings if one.severity is Severity.ERROR]
    assert not (errors and report.is_sound)


FEATURES = st.sampled_from([0, EVENT_IDX, INDIRECT_DESC, EVENT_IDX | INDIRECT_DESC, IN_ORDER])
QUEUES = st.sampled_from([None, "rx", "tx", "event"])


@settings(max_examples=250, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=700),
    fill=st.sampled_from([b"\0", b"\xff", b"\x80", b"\1"]),
    places=st.tuples(*[st.sampled_from([0, 16, 64, 128, 300, 600, 1000, 2**64 - 16])] * 3),
    size=st.sampled_from([1, 2, 4, 16]),
    packed=st.booleans(),
    features=FEATURES,
    vsock=QUEUES,
)
def test_any_bytes_at_any_address_give_a_report(data, fill, places, size, packed, features, vsock):
    memory = AddressSpace([(0, data.ljust(1024, fill))])
    features |= PACKED if packed else 0
    show_all(inspect_queue(memory, QueueAreas(*places), size, features, vsock=vsock, selection=HISTORY))


@settings(max_examples=200, deadline=None)
@given(
    steps=STEPS,
    packed=st.booleans(),
    changes=st.lists(
        st.tuples(st.integers(0, 400), st.sampled_from([0, 1, 2, 4, 7, 0x80, 0xFF])), max_size=6
    ),
    vsock=QUEUES,
)
def test_a_good_queue_with_some_bytes_changed_gives_a_report(steps, packed, changes, vsock):
    both = pair(packed, 8)
    for _ in play(both, steps[:30], in_order=False):
        pass
    for at, byte in changes:
        both.memory.write(BASE + at, bytes([byte]))
    show_all(both.look(vsock=vsock, selection=HISTORY))


def test_a_hostile_queue_of_the_largest_size_is_looked_at_in_bounded_time():
    """Every head is available, and every chain goes through all descriptors in a circle."""
    size = 1024
    areas = QueueAreas(0, 0x10000, 0x14000)
    driver = HandDriver(GuestMemory([(0, bytearray(0x20000))]), Areas(*areas), size)
    for number in range(size):
        driver.descriptor(number, BUFFERS, 1, NEXT, (number + 1) % size)
        driver.put_head(number, number)
    driver.set_avail_idx(size)
    report = inspect_queue(driver.memory, areas, size, selection=Selection(limit=1))
    assert "too-many-descriptors" in checks(report)
    assert report.verdict is QueueVerdict.CORRUPT


def test_nothing_is_stored_in_the_memory_that_is_looked_at():
    both = pair()
    both.add(8, -8)
    before = bytes(both.memory.read(BASE, 0x8000))
    inspect_queue(both.memory, both.driver.areas, 8, both.features, vsock="tx", selection=HISTORY)
    assert both.memory.read(BASE, 0x8000) == before


def test_every_fault_of_a_driver_that_a_snapshot_can_show_has_a_row_here():
    rows = {name.partition(",")[0] for name in SPLIT_ROWS} | {row[0] for row in CHAIN_ROWS}
    rows |= {"area-outside-memory", "used-length-too-large"}
    snapshot = {fault.name.lower().replace("_", "-") for fault in VirtqueueFault}
    # Two are of a device's own count, and one is AVAILABLE_INDEX_JUMP seen from the driver.
    assert snapshot - rows == {"too-many-in-flight", "chain-too-short", "used-index-jump"}


def test_the_front_door_has_every_name_about_queues_and_none_that_there_is_not():
    from vmbus.inspection import _QUEUES, queues

    assert sorted(_QUEUES) == sorted(queues.__all__)
    assert all(getattr(inspection, name) is getattr(queues, name) for name in _QUEUES)
    assert not hasattr(inspection, "inspect_queues")
