"""Faults in virtqueues that the trials of vmbus.fuzzing find: see planted_faults.py.

As tests/planted_trial_faults.py, whose list this one goes on with.  A number such as V04 is the line of the catalogue
of bugs that virtqueues have had (tests/known_bugs.py).
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_QUEUE_TRIAL_FAULTS"]

FINDS = "fuzzing/test_trials_find_faults.py::test_a_target_finds_nothing_wrong"
SPLIT = f"{FINDS}[virtqueue-split]"
PACKED = f"{FINDS}[virtqueue-packed]"

PLANTED_QUEUE_TRIAL_FAULTS = [
    # -- what goes round -------------------------------------------------------------------------
    PlantedFault(
        "V11: index of completions counted past 65535",
        "virtio/split_driver.py",
        "        next_index = (taken_index + 1) & 0xFFFF",
        "        next_index = taken_index + 1",
        SPLIT,
    ),
    PlantedFault(
        "V11: a step back from index 0 leaves 16 bits",
        "virtio/split_device.py",
        "        self._taken_index = (self._taken_index - slots) & 0xFFFF",
        "        self._taken_index = self._taken_index - slots",
        SPLIT,
    ),
    PlantedFault(
        "V11: distance to the available index without its wrap",
        "virtio/split_device.py",
        "        ahead = (index - self._taken_index) & 0xFFFF",
        "        ahead = max(index - self._taken_index, 0)",
        SPLIT,
    ),
    PlantedFault(
        "V04: slots behind the end of the ring made available in the old round",
        "virtio/packed_driver.py",
        "                slot, wrap = advance(slot - 1, wrap, 1, size)",
        "                slot = 0",
        PACKED,
    ),
    PlantedFault(
        "V04: a list as long as the ring does not turn the device's wrap counter over",
        "virtio/packed_device.py",
        "        next_slot, next_wrap = advance(slot, wrap, held.slots, self._size)",
        "        next_slot, next_wrap = advance(slot, wrap, held.slots % self._size, self._size)",
        PACKED,
    ),
    PlantedFault(
        "V04: a step back to slot 0 goes a round too far",
        "virtio/packed_ring.py",
        "    return (slot, wrap) if slot >= 0 else (slot + size, wrap ^ 1)",
        "    return (slot, wrap) if slot > 0 else (slot + size, wrap ^ 1)",
        PACKED,
    ),
    # -- what fits -------------------------------------------------------------------------------
    PlantedFault(
        "V03: a list counted as one descriptor",
        "virtio/packed_driver.py",
        "        self.free -= count",
        "        self.free -= 1",
        PACKED,
    ),
    PlantedFault(
        "V03: descriptors of a request left among the free ones",
        "virtio/split_driver.py",
        "        del free[-count:]",
        "        del free[:count]",
        SPLIT,
    ),
    PlantedFault(
        "V01: a full available ring taken for an index that has jumped",
        "virtio/split_device.py",
        "        if ahead > self._size:",
        "        if ahead >= self._size:",
        SPLIT,
    ),
    PlantedFault(
        "V03: the last entry of a packed ring never taken",
        "virtio/packed_device.py",
        "        if buffer_id in self.held or self._entries + slots > self._size:",
        "        if buffer_id in self.held or self._entries + slots >= self._size:",
        PACKED,
    ),
    # -- indirect tables -------------------------------------------------------------------------
    PlantedFault(
        "V05: the last descriptor of a table says that another follows",
        "virtio/split_driver.py",
        "            pack(address, length, flags | NEXT if entry < last else flags, entry + 1 if entry < last else 0)",
        "            pack(address, length, flags | NEXT, entry + 1)",
        SPLIT,
    ),
    PlantedFault(
        "V06: a request's table as long as the queue",
        "virtio/queue.py",
        "        return min(self._indirect_size, self._queue_size)",
        "        return self._queue_size",
        PACKED,
    ),
    PlantedFault(
        "table named by the driver's own address",
        "virtio/queue.py",
        "        return seen_at, length, INDIRECT",
        "        return address, length, INDIRECT",
        SPLIT,
    ),
    # -- notifications ---------------------------------------------------------------------------
    PlantedFault(
        "V12: a driver that has seen the last completion not told of the next",
        "virtio/split_driver.py",
        "        if self._wants_event and next_index == self._used_index:",
        "        if self._wants_event and next_index == self._used_index and len(self.outstanding) == 1:",
        SPLIT,
    ),
    PlantedFault(
        "V12: only the last chain looked at for an event",
        "virtio/split_driver.py",
        "            needed = event_reached(event, self._available_index, self._uncounted)",
        "            needed = event_reached(event, self._available_index, 1)",
        SPLIT,
    ),
    PlantedFault(
        "V12: completions of a packed queue counted as one slot each",
        "virtio/packed_device.py",
        "        self._uncounted += held.slots",
        "        self._uncounted += 1",
        PACKED,
    ),
    PlantedFault(
        "V15: silence asked for and not kept",
        "virtio/notification.py",
        "    if not count or wish == DISABLE:",
        "    if not count:",
        PACKED,
    ),
    # -- stopping, stepping back, going on -------------------------------------------------------
    PlantedFault(
        "V08: a queue that was stopped goes on working",
        "virtio/device_queue.py",
        "            self._ring = None",
        "            pass",
        SPLIT,
    ),
    PlantedFault(
        "V13: the place where chains are given back lost over a migration",
        "virtio/device_queue.py",
        '        queue._next_used = check_position("next_used", state.next_used)',
        '        queue._next_used = check_position("next_avail", state.next_avail)',
        SPLIT,
    ),
    PlantedFault(
        "V13: notifications owed before a migration forgotten",
        "virtio/device_ring.py",
        "        self._uncounted = WHOLE_ROUND",
        "        self._uncounted = 0",
        PACKED,
    ),
    PlantedFault(
        "steps back counted as one",
        "virtio/device_ring.py",
        "        self._taken_before -= held.slots",
        "        pass",
        SPLIT,
    ),
    PlantedFault(
        "a step back that leaves its entries in flight",
        "virtio/packed_device.py",
        "        self._entries -= slots",
        "        pass",
        PACKED,
    ),
    # -- bytes -----------------------------------------------------------------------------------
    PlantedFault(
        "a reader split off begins where its chain does",
        "virtio/cursors.py",
        "                self._parts.append((address + count, length - count))",
        "                self._parts.append((address, length - count))",
        PACKED,
    ),
    PlantedFault(
        "a writer says less than it wrote",
        "virtio/cursors.py",
        "        self._done += count",
        "        self._done = count",
        SPLIT,
    ),
    PlantedFault(
        "a request that failed leaves its id taken",
        "virtio/queue.py",
        "            self._room = 0",
        "            self._room = 0 if buffers else self._room",
        SPLIT,
    ),
    PlantedFault(
        "requests that go round without end",
        "fuzzing/queue_trial.py",
        "            self.rounds_left -= 1",
        "            pass",
        "fuzzing/test_queue_trial.py::test_requests_that_go_round_by_the_dozen_end_after_some_hundreds",
    ),
]
