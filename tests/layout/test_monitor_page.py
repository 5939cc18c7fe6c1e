"""Every monitor and every channel has the bit where the hypervisor looks for it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmbus.errors import CallerError
from vmbus.layout import MONITOR_COUNT, RELID_COUNT, interrupt_place, monitor_place


def test_every_monitor_has_a_pending_bit_of_its_own():
    seen = set()
    for monitor in range(MONITOR_COUNT):
        offset, bit = place = monitor_place(monitor)
        assert place == (8 + 8 * (monitor // 32), monitor % 32)
        assert offset % 4 == 0 and 0 <= bit < 32
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
    with pytest.raises(CallerError, match=f"from 0 to 127, and not {monitor}") as caught:
        monitor_place(monitor)
    assert (caught.value.argument, caught.value.limit) == ("monitor_id", 127)


@pytest.mark.parametrize("relid", [-1, 16384, 2**32 - 1])
def test_a_relid_without_a_bit_is_refused(relid):
    with pytest.raises(CallerError, match=f"from 0 to 16383, and not {relid}"):
        interrupt_place(relid)
