"""The monitor page has every field where the hypervisor looks for it, and every channel its bits."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmbus.errors import CallerError
from vmbus.layout import (
    MONITOR_COUNT,
    MONITOR_PAGE,
    MONITOR_PARAMETER,
    RELID_COUNT,
    MonitorParameter,
    TriggerGroup,
    TriggerState,
    interrupt_place,
    monitor_place,
)

OFFSETS = {
    "trigger_state": 0x000,
    "reserved": 0x004,
    "trigger_groups": 0x008,
    "reserved_after_groups": 0x028,
    "next_check_times": 0x040,
    "latencies": 0x240,
    "reserved_after_latencies": 0x340,
    "parameters": 0x440,
    "reserved_at_end": 0x840,
}


def test_every_field_stands_where_the_hypervisor_has_it():
    assert MONITOR_PAGE.offsets == OFFSETS
    assert MONITOR_PAGE.size == 4096
    assert MONITOR_PARAMETER.offsets == {"connection_id": 0, "flag_number": 4, "reserved": 6}


def test_the_words_of_a_page_are_read_as_what_they_are():
    page = bytearray(4096)
    page[0] = 0b1010
    page[0x18:0x20] = bytes([1, 0, 0, 0, 2, 0, 0, 0])
    page[0x242:0x244] = (1000).to_bytes(2, "little")
    page[0x440 + 8 * 127 : 0x440 + 8 * 128] = bytes([7, 0, 1, 0, 9, 0, 5, 0])
    found = MONITOR_PAGE.unpack(page)
    assert found.trigger_state == TriggerState.GROUP_1 | TriggerState.GROUP_3
    assert [found.group(number) for number in range(4)] == [(0, 0), (0, 0), TriggerGroup(1, 2), (0, 0)]
    assert [found.latency(one) for one in (0, 1, 2)] == [0, 1000, 0]
    assert found.parameter(127) == MonitorParameter(connection_id=0x10007, flag_number=9, reserved=5)
    assert MONITOR_PAGE.pack(found) == page


def test_every_monitor_has_a_pending_bit_of_its_own():
    seen = set()
    for monitor in range(MONITOR_COUNT):
        offset, bit = place = monitor_place(monitor)
        assert place == (8 + 8 * (monitor // 32), monitor % 32)
        page = bytearray(4096)
        page[offset : offset + 4] = (1 << bit).to_bytes(4, "little")
        found = MONITOR_PAGE.unpack(page)
        assert [one for one in range(MONITOR_COUNT) if found.is_pending(one)] == [monitor]
        seen.add(place)
    assert len(seen) == 128


@settings(max_examples=100, deadline=None)
@given(st.integers(0, RELID_COUNT - 1) | st.sampled_from([0, 31, 32, RELID_COUNT - 1]))
def test_the_bit_for_the_host_is_the_relid_counted_from_the_middle_of_the_page(relid):
    offset, bit = interrupt_place(relid)
    page = bytearray(4096)
    page[offset : offset + 4] = (1 << bit).to_bytes(4, "little")
    assert page[:2048] == bytes(2048)
    assert int.from_bytes(page[2048:], "little") == 1 << relid


@pytest.mark.parametrize("monitor", [-1, 128, 2**32 - 1])
def test_a_monitor_that_no_channel_has_is_refused(monitor):
    page = MONITOR_PAGE.unpack(bytes(4096))
    for use in (monitor_place, page.is_pending, page.latency, page.parameter):
        with pytest.raises(CallerError, match=f"from 0 to 127, and not {monitor}") as caught:
            use(monitor)
        assert (caught.value.argument, caught.value.limit) == ("monitor_id", 127)


@pytest.mark.parametrize("relid", [-1, 16384, 2**32 - 1])
def test_a_relid_without_a_bit_is_refused(relid):
    with pytest.raises(CallerError, match=f"from 0 to 16383, and not {relid}"):
        interrupt_place(relid)


@pytest.mark.parametrize("number", [-1, 4])
def test_there_are_four_trigger_groups(number):
    with pytest.raises(CallerError, match="from 0 to 3"):
        MONITOR_PAGE.unpack(bytes(4096)).group(number)
