"""Faults to plant in virtqueues and the memory they lie in: each a line of the shipped source, a wrong
one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.  Of the tests that notice a fault the
quickest is named, or the one that is about it; most of these faults the trials of
tests/virtio/test_queue_model.py find as well.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_QUEUE_FAULTS"]

ORDER = "virtio/test_queue_access_order.py::test_"
REQUESTS = "virtio/test_queue_requests.py::test_"
COMPLETIONS = "virtio/test_queue_completions.py::test_"
DEVICE = "virtio/test_device_queue.py::test_"
PACKED = "virtio/test_packed_device.py::test_"
MALFORMED = (
    "virtio/test_malformed_chains.py::test_a_broken_rule_ends_in_an_error_that_names_it_and_the_descriptor"
)
HOSTILE_DRIVER = "virtio/test_hostile_driver.py::test_"
HOSTILE_DEVICE = "virtio/test_hostile_device.py::test_"
MEMORY = "memory/test_guest_memory.py::test_"
SPACE = "memory/test_address_space.py::test_"
INTERRUPTED = "virtio/test_interrupted.py::test_"
MODEL = "virtio/test_queue_model.py::test_random_cases_come_to_full_queues_wraps_migrations_and_sleepers"
SPLIT_MODEL = f"{MODEL}[split]"
PACKED_MODEL = f"{MODEL}[packed]"

PLANTED_QUEUE_FAULTS = [
    # -- wrapping ------------------------------------------------------------------------------
    PlantedFault(
        "available index that does not wrap",
        "virtio/split_driver.py",
        "        self._available_index = index = (index + 1) & 0xFFFF",
        "        self._available_index = index = index + 1",
        SPLIT_MODEL,
    ),
    PlantedFault(
        "used index that does not wrap",
        "virtio/split_device.py",
        "        self._used_index = index = (index + 1) & 0xFFFF",
        "        self._used_index = index = index + 1",
        DEVICE + "the_counters_go_round[1-split]",
    ),
    PlantedFault(
        "index of popped chains that does not wrap",
        "virtio/split_device.py",
        "        self._taken_index = (index + 1) & 0xFFFF",
        "        self._taken_index = index + 1",
        DEVICE + "the_counters_go_round[1-split]",
    ),
    PlantedFault(
        "index of completions that does not wrap",
        "virtio/split_driver.py",
        "        next_index = (taken_index + 1) & 0xFFFF",
        "        next_index = taken_index + 1",
        COMPLETIONS + "the_indices_of_a_split_queue_wrap_from_65535_to_0[65534]",
    ),
    PlantedFault(
        "half of the used ring used",
        "virtio/split_device.py",
        "        self._pack_used((index & self._mask) * USED_ELEMENT_SIZE, head, length)",
        "        self._pack_used((index & self._mask >> 1) * USED_ELEMENT_SIZE, head, length)",
        ORDER + "the_driver_never_reads_a_descriptor_back[split]",
    ),
    PlantedFault(
        "packed place that goes round one slot late",
        "virtio/packed_ring.py",
        "    return (slot, wrap) if slot < size else (slot - size, wrap ^ 1)",
        "    return (slot, wrap) if slot <= size else (slot - size, wrap ^ 1)",
        PACKED_MODEL,
    ),
    PlantedFault(
        "packed place that goes round without its wrap counter",
        "virtio/packed_ring.py",
        "    return (slot, wrap) if slot < size else (slot - size, wrap ^ 1)",
        "    return (slot, wrap) if slot < size else (slot - size, wrap)",
        PACKED_MODEL,
    ),
    PlantedFault(
        "wrap counter not turned over: driver, completions",
        "virtio/packed_driver.py",
        "        self._used_wrap = next_wrap",
        "        self._used_wrap = self._used_wrap",
        REQUESTS + "a_packed_request_as_long_as_the_ring_turns_both_wrap_counters_over[1]",
    ),
    PlantedFault(
        "wrap counter not turned over: driver, requests",
        "virtio/packed_driver.py",
        "        self._next_wrap = next_wrap",
        "        self._next_wrap = self._next_wrap",
        REQUESTS + "a_packed_request_as_long_as_the_ring_turns_both_wrap_counters_over[1]",
    ),
    PlantedFault(
        "wrap counter not turned over: device, chains",
        "virtio/packed_device.py",
        "        self._next_wrap = next_wrap",
        "        self._next_wrap = self._next_wrap",
        PACKED + "a_list_goes_on_at_slot_0[32768-4-2-slots0]",
    ),
    PlantedFault(
        "wrap counter not turned over: device, completions",
        "virtio/packed_device.py",
        "        self._used_wrap = next_wrap",
        "        self._used_wrap = self._used_wrap",
        PACKED_MODEL,
    ),
    PlantedFault(
        "list over the end of the ring that does not go on at its start",
        "virtio/walking.py",
        "            slot = 0",
        "            slot -= 1",
        PACKED + "a_list_goes_on_at_slot_0[32768-4-2-slots0]",
    ),
    # -- what a driver may not do ----------------------------------------------------------------
    PlantedFault(
        "available index that jumps",
        "virtio/split_device.py",
        "        if ahead > self._size:",
        "        if ahead > 0xFFFF:",
        HOSTILE_DRIVER + "a_device_takes_chains_or_refuses_them_whatever_the_driver_changes[before-split]",
    ),
    PlantedFault(
        "available index one too far ahead",
        "virtio/split_device.py",
        "        if ahead > self._size:",
        "        if ahead > self._size + 1:",
        DEVICE + "an_index_is_as_far_ahead_as_the_queue_is_long_at_most[3-False]",
    ),
    PlantedFault(
        "full available ring refused",
        "virtio/split_device.py",
        "        if ahead > self._size:",
        "        if ahead >= self._size:",
        DEVICE + "an_index_is_as_far_ahead_as_the_queue_is_long_at_most[2-True]",
    ),
    PlantedFault(
        "head that is no descriptor",
        "virtio/walking.py",
        "        if index >= size:",
        "        if index > size:",
        DEVICE + "a_head_that_is_no_descriptor_is_refused",
    ),
    PlantedFault(
        "link behind the end of a table",
        "virtio/walking.py",
        "        if entry >= entries:",
        "        if entry > entries:",
        MALFORMED + "[split-next-outside-the-table,-and-inside-the-queue]",
    ),
    PlantedFault(
        "chain one descriptor longer than the queue",
        "virtio/chains.py",
        "        if bytes_left < 0 or len(descriptors) >= self.rules.longest:",
        "        if bytes_left < 0 or len(descriptors) > self.rules.longest:",
        MALFORMED + "[packed-list-without-an-end]",
    ),
    PlantedFault(
        "chain of more bytes than 32 bits count",
        "virtio/chains.py",
        "        if bytes_left < 0 or len(descriptors) >= self.rules.longest:",
        "        if len(descriptors) >= self.rules.longest:",
        DEVICE + "a_chain_of_more_bytes_than_32_bits_count_is_refused[split]",
    ),
    PlantedFault(
        "readable behind writable",
        "virtio/chains.py",
        "        if self.rules.tolerated & Tolerance.READABLE_AFTER_WRITABLE:",
        "        if True:",
        DEVICE + "a_readable_buffer_behind_a_writable_one_is_refused_unless_tolerated",
    ),
    PlantedFault(
        "packed list of more slots than are free",
        "virtio/packed_device.py",
        "        if buffer_id in self.held or self._entries + slots > self._size:",
        "        if buffer_id in self.held:",
        MALFORMED + "[packed-more-slots-than-are-free]",
    ),
    PlantedFault(
        "chain that the device has already",
        "virtio/split_device.py",
        "        if head in held or len(held) + self.unknown >= self._size:",
        "        if len(held) + self.unknown >= self._size:",
        HOSTILE_DRIVER
        + "a_device_takes_chains_or_refuses_them_whatever_the_driver_changes[before-split-direct]",
    ),
    PlantedFault(
        "full packed ring read once more",
        "virtio/packed_device.py",
        "        if self._entries >= self._size:",
        "        if self._entries > self._size:",
        DEVICE + "no_more_is_in_flight_than_the_queue_has_entries[packed]",
    ),
    PlantedFault(
        "indirect table of a broken length",
        "virtio/walking.py",
        "    elif part or not entries:",
        "    elif not entries:",
        MALFORMED + "[split-table-of-17-bytes]",
    ),
    PlantedFault(
        "indirect without the feature",
        "virtio/walking.py",
        "    if not rules.indirect:",
        "    if False:",
        HOSTILE_DRIVER + "a_device_reads_a_chain_as_a_slow_reader_of_the_standard_does[split-direct]",
    ),
    PlantedFault(
        "nested table blamed on another rule",
        "virtio/walking.py",
        "        VirtqueueFault.NESTED_INDIRECT,",
        "        VirtqueueFault.INDIRECT_WITH_NEXT,",
        MALFORMED + "[packed-nested-at-once]",
    ),
    PlantedFault(
        "driver's first fault forgotten",
        "virtio/queue_end.py",
        "        self.fault = copy(error)",
        "        self.fault = None",
        HOSTILE_DRIVER
        + "a_device_takes_chains_or_refuses_them_whatever_the_driver_changes[between-accesses-split]",
    ),
    # -- what a device may not do ----------------------------------------------------------------
    PlantedFault(
        "used index that jumps",
        "virtio/split_driver.py",
        "        if ahead > len(self.outstanding):",
        "        if ahead > 0xFFFF:",
        HOSTILE_DEVICE
        + "a_driver_completes_each_request_once_or_refuses_whatever_the_device_writes[between-calls-split]",
    ),
    PlantedFault(
        "used length of any size",
        "virtio/split_driver.py",
        "        if chain is None or length > chain[1]:",
        "        if chain is None:",
        COMPLETIONS + "more_used_bytes_than_the_writable_ones_are_refused[lengths0-1-split]",
    ),
    PlantedFault(
        "request that is completed twice",
        "virtio/split_driver.py",
        "        del self.outstanding[used_id]",
        "        pass",
        HOSTILE_DEVICE + "a_request_that_the_device_completed_twice_ends_the_queue_and_comes_once[split]",
    ),
    PlantedFault(
        "device's first fault forgotten",
        "virtio/queue_end.py",
        "        self.fault = copy(error)",
        "        self.fault = None",
        COMPLETIONS + "a_queue_stays_broken_after_a_peer_error[packed]",
    ),
    PlantedFault(
        "more bytes given back than there is room for",
        "virtio/split_device.py",
        "        elif not 0 <= length <= known[1]:",
        "        elif not 0 <= length:",
        DEVICE + "no_more_bytes_are_given_back_than_the_chain_has_to_write[13-split]",
    ),
    # -- publishing --------------------------------------------------------------------------------
    PlantedFault(
        "NEXT on the last descriptor",
        "virtio/split_driver.py",
        "        link = head = 0",
        "        link, head = NEXT, 0",
        ORDER + "a_completion_is_read_behind_the_acquire[split event idx]",
    ),
    PlantedFault(
        "NEXT on the last slot of a list",
        "virtio/packed_driver.py",
        "            flags |= available if position == last else available | NEXT",
        "            flags |= available | NEXT",
        PACKED_MODEL,
    ),
    PlantedFault(
        "flags of the first slot stored first",
        "virtio/packed_driver.py",
        "            if position:",
        "            if True:",
        ORDER + "a_request_is_published_by_the_store_behind_the_release[packed, three descriptors-]",
    ),
    PlantedFault(
        "WRITE lost",
        "virtio/queue.py",
        "        buffers.append((address, length, WRITE if from_dev else 0))",
        "        buffers.append((address, length, 0))",
        ORDER + "the_device_gives_back_by_the_store_behind_the_release[packed-]",
    ),
    PlantedFault(
        "available index before its slot",
        "virtio/split_driver.py",
        "        self._available[FIRST_SLOT_WORD + (index & self._mask)] = head",
        "        self._available[1], self._available[FIRST_SLOT_WORD + (index & self._mask)] = index + 1, head",
        ORDER + "a_request_is_published_by_the_store_behind_the_release[split, one descriptor-]",
    ),
    PlantedFault(
        "used index before its element",
        "virtio/split_device.py",
        "        self._pack_used((index & self._mask) * USED_ELEMENT_SIZE, head, length)",
        "        self._used[1] = index + 1; self._pack_used((index & self._mask) * USED_ELEMENT_SIZE, head, length)",
        ORDER + "the_device_gives_back_by_the_store_behind_the_release[split-]",
    ),
    PlantedFault(
        "driver's release removed",
        "virtio/queue_end.py",
        "        self._release = memory.release",
        "        self._release = bool",
        ORDER + "a_request_is_published_by_the_store_behind_the_release[split, one descriptor-]",
    ),
    PlantedFault(
        "device's release removed",
        "virtio/queue_end.py",
        "        self._release = memory.release",
        "        self._release = bool",
        ORDER + "the_device_gives_back_by_the_store_behind_the_release[packed-]",
    ),
    PlantedFault(
        "acquire behind the available index removed",
        "virtio/split_device.py",
        "        self._acquire()",
        "        pass",
        ORDER + "the_device_reads_a_chain_behind_the_acquire[split-]",
    ),
    PlantedFault(
        "descriptors of a completion lost",
        "virtio/split_driver.py",
        "        self.ids += entries",
        "        self.ids += entries[-1:]",
        SPLIT_MODEL,
    ),
    PlantedFault(
        "slots of a completion lost",
        "virtio/packed_driver.py",
        "        self.free += chain[0]",
        "        self.free += 1",
        PACKED_MODEL,
    ),
    PlantedFault(
        "failed prepare leaves a request half made",
        "virtio/queue.py",
        "            self._room = 0",
        "            pass",
        SPLIT_MODEL,
    ),
    PlantedFault(
        "buffer not translated",
        "virtio/queue.py",
        "            address = self._translate(address, length)",
        "            self._translate(address, length)",
        REQUESTS + "buffers_areas_and_tables_get_the_devices_addresses[packed]",
    ),
    PlantedFault(
        "request that never fits told to wait",
        "virtio/queue.py",
        "        if self._indirect or count >= self._queue_size:",
        "        if count >= self._queue_size:",
        REQUESTS
        + "an_indirect_request_has_at_most_a_table_and_never_more_than_the_queue[empty queue-3-3-packed]",
    ),
    # -- notifications -----------------------------------------------------------------------------
    PlantedFault(
        "event reached one entry late",
        "virtio/notification.py",
        "    return (new - event - 1) & 0xFFFF < count",
        "    return (new - event) & 0xFFFF < count",
        "virtio/test_notification.py::test_an_event_is_reached_when_its_entry_is_among_the_new_ones",
    ),
    PlantedFault(
        "event of the round before looked for in this one",
        "virtio/notification.py",
        "        event -= size  # the slot lies in the round before",
        "        pass",
        PACKED + "the_driver_is_notified_as_it_asked[True-32771-2-3-1-True]",
    ),
    PlantedFault(
        "wish for silence ignored",
        "virtio/notification.py",
        "    return count > 0 and not flags & 1",
        "    return count > 0",
        DEVICE + "a_driver_that_asked_for_silence_is_not_notified[split]",
    ),
    PlantedFault(
        "event not published where completions end",
        "virtio/split_driver.py",
        "        if self._wants_event and next_index == self._used_index:",
        "        if False:",
        COMPLETIONS + "a_driver_that_takes_one_completion_and_sleeps_is_told_of_the_next[split]",
    ),
    PlantedFault(
        "packed event not published where completions end",
        "virtio/packed_driver.py",
        "        if self._wants_event and (last or self._flags_if_used(next_slot, next_wrap) is None):",
        "        if False:",
        COMPLETIONS + "a_driver_that_takes_one_completion_and_sleeps_is_told_of_the_next[packed]",
    ),
    PlantedFault(
        "event of the chain before the next",
        "virtio/split_device.py",
        "            self._used[self._available_event_word] = self._taken_index",
        "            self._used[self._available_event_word] = self._taken_index - 1 & 0xFFFF",
        DEVICE + "the_event_is_the_next_chain_to_take_though_more_are_known[split]",
    ),
    PlantedFault(
        "count of used chains not begun anew",
        "virtio/split_device.py",
        "        self._uncounted = 0  # last: whoever is interrupted asks again",
        "        self._uncounted = self._uncounted",
        DEVICE + "without_event_indices_each_used_chain_calls_for_a_notification[split]",
    ),
    PlantedFault(
        "notification lost over a migration",
        "virtio/device_ring.py",
        "        self._uncounted = WHOLE_ROUND",
        "        self._uncounted = 0",
        "virtio/test_device_state.py::test_a_notification_that_is_owed_is_still_owed_after_a_stop[stopped--flags-split]",
    ),
    PlantedFault(
        "device's full fence removed",
        "virtio/packed_events.py",
        "        self._fence = memory.fence",
        "        self._fence = bool",
        ORDER + "the_device_fences_before_it_looks_whether_the_driver_sleeps[packed]",
    ),
    PlantedFault(
        "driver's full fence removed",
        "virtio/packed_events.py",
        "        self._fence = memory.fence",
        "        self._fence = bool",
        ORDER + "the_driver_fences_before_it_looks_whether_the_device_sleeps[packed]",
    ),
    # -- memory ------------------------------------------------------------------------------------
    PlantedFault(
        "second part of a range lost",
        "memory/address_space.py",
        "            address = stop",
        "            break",
        MEMORY + "a_write_crosses_into_the_region_that_touches[4096]",
    ),
    PlantedFault(
        "hole overlooked by one byte",
        "memory/address_space.py",
        "            address = region.end",
        "            address = region.end + 1",
        SPACE + "a_range_is_inside_crosses_or_has_a_first_hole[0x101 at 0xffffffffffffff00-AddressSpace]",
    ),
    PlantedFault(
        "range past the top of memory goes on at 0",
        "memory/address_space.py",
        "        if region is not None and address + length <= region.end:",
        "        if region is not None and (address + length) % TOP_OF_MEMORY <= region.end:",
        SPACE + "a_range_is_inside_crosses_or_has_a_first_hole[0x101 at 0xffffffffffffff00-AddressSpace]",
    ),
    PlantedFault(
        "rest of a cut buffer lost",
        "virtio/cursors.py",
        "                self._parts.append((address + count, length - count))",
        "                pass",
        SPLIT_MODEL,
    ),
    # -- interrupts ----------------------------------------------------------------------------
    PlantedFault(
        "used index that an interrupt held back is forgotten",
        "virtio/split_device.py",
        "        if self._stored_index != self._used_index:",
        "        if False:",
        INTERRUPTED + "a_chain_whose_giving_back_was_interrupted_is_completed_once[the last-split]",
    ),
    PlantedFault(
        "used flags that an interrupt held back are forgotten",
        "virtio/packed_device.py",
        "        if self._owed is None:",
        "        if True:",
        INTERRUPTED + "a_chain_whose_giving_back_was_interrupted_is_completed_once[the last-packed]",
    ),
    PlantedFault(
        "packed length without the flag that makes it one is an error",
        "virtio/packed_driver.py",
        "            if chain is None or flags & WRITE:",
        "            if True:",
        COMPLETIONS + "without_the_write_flag_a_length_that_cannot_be_is_none[without WRITE]",
    ),
]
