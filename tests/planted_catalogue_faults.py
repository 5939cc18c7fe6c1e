"""Faults to plant that are bugs of the catalogue themselves: each a line of the shipped source, a wrong one,
and who must notice.

As tests/planted_faults.py, whose list this one goes on with.  The number before each is that of the bug in
tests/known_bugs.py that it brings back; tests/bug_coverage.py says which other faults, of the other lists,
bring back which.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_CATALOGUE_FAULTS"]

GAPS_OF_RINGS = "ring/test_catalogue_rings.py::test_"
GAPS_OF_CHANNELS = "channel/test_catalogue_channels.py::test_"
GAPS_OF_VIRTIO = "virtio/test_catalogue_virtio.py::test_"
PACKETS = "channel/test_packet_channel.py::test_"
SHARED = "channel/test_shared.py::test_"
SIGNALS = "ring/test_signaling.py::test_"
ORDER = "ring/test_access_order.py::test_"
POSITIONS = "ring/test_every_position.py::test_"
RANGES = "ring/test_gparange.py::test_"
INCOMING = "ring/test_incoming.py::test_"
SIZES = "test_sizes.py::test_"
DEVICE = "virtio/test_device_queue.py::test_"

PLANTED_CATALOGUE_FAULTS = [
    # -- signals -----------------------------------------------------------------------------------
    PlantedFault(  # B02
        "room no longer asked for once somebody waits for a packet",
        "channel/blocking.py",
        "                self.readiness.begin()",
        "                self.readiness.begin(), self.other.readiness.begin()",
        PACKETS + "who_waits_for_a_packet_does_not_erase_what_the_sender_asked_for",
    ),
    PlantedFault(  # B03
        "signal for a sender that asks for no room",
        "ring/incoming.py",
        "        signal = pending != 0 and self._ends_a_wait(pending, end)",
        "        signal = pending == 0 or self._ends_a_wait(pending, end)",
        PACKETS + "a_reader_never_signals_a_sender_that_waits_for_nothing",
    ),
    PlantedFault(  # B05
        "signal although there was room enough before the read",
        "ring/signaling.py",
        "    return free_before < wanted_space(pending_send_size) <= free_after",
        "    return wanted_space(pending_send_size) <= free_after",
        SIGNALS + "a_sender_is_signaled_once_for_a_wait_although_its_wish_still_stands",
    ),
    PlantedFault(  # B06
        "decision to signal by an out from before the commit",
        "ring/outgoing.py",
        "            out_offset = control[OUT_WORD]",
        "            out_offset = self._peer_index",
        "ring/test_outgoing.py::test_"
        "a_receiver_that_reads_between_the_index_and_the_check_gets_no_signal_it_does_not_need",
    ),
    PlantedFault(  # B07
        "signal while the reader has packets left",
        "ring/signaling.py",
        "    return interrupt_mask == 0 and out_offset == in_before",
        "    return interrupt_mask == 0 and out_offset <= in_before",
        SIGNALS + "a_write_signals_only_where_it_ends_an_emptiness",
    ),
    PlantedFault(  # B09
        "mask loaded behind out",
        "ring/outgoing.py",
        "            out_offset = control[OUT_WORD]",
        "            out_offset, mask = control[OUT_WORD], control[INTERRUPT_MASK_WORD]",
        ORDER + "a_write_goes_in_the_stated_order",
    ),
    PlantedFault(  # B12, B16
        "asleep as soon as it is unmasked",
        "channel/readiness.py",
        "            if row.action is Action.SLEEP:",
        "            if row.action in (Action.SLEEP, Action.UNMASK):",
        GAPS_OF_CHANNELS + "what_comes_before_its_receiver_can_be_woken_does_not_wait_for_the_next_signal",
    ),
    PlantedFault(  # B13
        "no signal for packets that came before this side was there",
        "channel/shared.py",
        "        return reader_needs_signal(written) or writer_needs_signal(read, incoming[1] - PAGE_SIZE)",
        "        return writer_needs_signal(read, incoming[1] - PAGE_SIZE)",
        SHARED + "a_reader_that_is_owed_a_signal_by_one_that_was_killed_gets_it",
    ),
    PlantedFault(  # B14
        "no signal for a side that is not there yet",
        "channel/descriptor_signal.py",
        "            self._ring()",
        "            self._link.peer and self._ring()",
        "channel/test_descriptor_signal.py::test_signals_from_before_this_side_was_there_are_kept_for_it",
    ),
    PlantedFault(  # B18, B19
        "one packet for each call",
        "channel/works.py",
        "        taken, must_signal = self.incoming.receive_many(limit)",
        "        taken, must_signal = self.incoming.receive_many(1 if limit is None else limit)",
        GAPS_OF_CHANNELS + "all_that_came_with_one_signal_is_taken_in_one_call_with_the_newest_last",
    ),
    PlantedFault(  # B20
        "no end while packets keep coming",
        "ring/incoming.py",
        "        while available and (limit is None or len(packets) < limit):",
        "        while (available := used_bytes(self._size, self._load_peer_index(), out)) and len(packets) < 9:",
        PACKETS + "receive_many_ends_with_what_was_published_although_packets_keep_coming",
    ),
    PlantedFault(  # B21
        "no look for the completion while other packets are kept",
        "channel/works.py",
        "        limit = KEPT_RINGS * self.incoming.size",
        "        limit = SLOT",
        PACKETS + "packets_that_answer_no_request_are_kept_in_order_for_receive",
    ),
    PlantedFault(  # B23
        "own bell rung instead of the other's",
        "channel/descriptor_signal.py",
        "        self._ring: Callable[[], object] = partial(os.eventfd_write, peer, 1)",
        "        self._ring: Callable[[], object] = partial(os.eventfd_write, own, 1)",
        GAPS_OF_CHANNELS + "whatever_a_signal_is_made_of_it_tells_the_other_side_and_not_its_own",
    ),
    PlantedFault(  # B24
        "mask left as it was found",
        "ring/incoming.py",
        "            self._control[INTERRUPT_MASK_WORD] = 1",
        "            pass",
        GAPS_OF_CHANNELS + "each_channel_of_a_device_has_a_mask_of_its_own_and_none_is_left_as_it_was_found",
    ),
    # -- sizes -------------------------------------------------------------------------------------
    PlantedFault(  # B25
        "last slot used by a packet written in steps",
        "ring/outgoing.py",
        "        return self._room(offset.next_in, length) >= length",
        "        return self._room(offset.next_in, length) + SLOT >= length",
        POSITIONS + "one_slot_too_many_is_ring_full_and_changes_nothing",
    ),
    PlantedFault(  # B30
        "quick way behind the end of the ring one that reads too much",
        "memory/flat.py",
        "            return self._data[offset - size : end - size].tobytes()",
        "            return self._data[offset - size : end].tobytes()",
        "ring/test_ranges.py::test_reading_in_place_and_copying_out_give_the_same_bytes_wherever_a_packet_is_split",
    ),
    PlantedFault(  # B34
        "rings of whole large pages only",
        "sizes.py",
        "    if size < PAGE_SIZE or size % PAGE_SIZE or size > MAXIMUM_DATA_SIZE:",
        "    if size < PAGE_SIZE or size % (HEADER_SIZES[1] if size > HEADER_SIZES[1] else PAGE_SIZE):",
        GAPS_OF_RINGS + "a_ring_is_as_long_as_4096_divides_it_and_need_not_fill_large_pages",
    ),
    PlantedFault(  # B35
        "pages of the machine taken for the host's",
        "memory/flat.py",
        "        self._data = memoryview(mapping)[PAGE_SIZE:]",
        "        self._data = memoryview(mapping)[mmap.PAGESIZE :]",
        GAPS_OF_RINGS + "pages_are_those_of_the_host_whatever_pages_the_machine_has",
    ),
    PlantedFault(  # B36
        "data always 4 KiB behind the control page",
        "memory/flat.py",
        "        self._data = view[header_size:]",
        "        self._data = view[PAGE_SIZE : PAGE_SIZE + len(view) - header_size]",
        SIZES + "data_starts_behind_a_header_of_any_page_size",
    ),
    PlantedFault(  # B37
        "sizes taken for powers of two",
        "ring/offsets.py",
        "    return min(size - SLOT, LARGEST_PACKET)",
        "    return min((1 << size.bit_length() - 1) - SLOT, LARGEST_PACKET)",
        SIZES + "a_ring_of_any_number_of_pages_is_used_to_its_last_byte_and_wraps_there",
    ),
    PlantedFault(  # B38
        "every ring taken to be 16 KiB",
        "inspection/locate.py",
        "    data_size = dump.size - address - header_size",
        "    data_size = 16384",
        GAPS_OF_RINGS + "the_ring_of_a_file_is_as_long_as_the_file_says",
    ),
    PlantedFault(  # B39
        "second ring mapped over the first",
        "memory/shared.py",
        "        return memoryview(self._mapping)[offset:end]",
        "        return memoryview(self._mapping)[: end - offset]",
        GAPS_OF_RINGS + "two_rings_lie_behind_each_other_for_whoever_maps_them_and_wherever",
    ),
    PlantedFault(  # B40
        "index with a sign",
        "layout/control_page.py",
        "from construct import Bytes, Int32ul, Struct",
        "from construct import Bytes, Int32sl as Int32ul, Struct",
        "inspection/test_to_json.py::test_what_cannot_be_known_is_null_and_indices_have_no_sign",
    ),
    PlantedFault(  # B41
        "a slot of nothing behind each payload",
        "ring/outgoing.py",
        "LARGEST_OVERHEAD = SMALLEST_PACKET + SLOT - 1",
        "LARGEST_OVERHEAD = SMALLEST_PACKET + SLOT",
        GAPS_OF_CHANNELS + "requests_have_no_useless_bytes_and_those_beyond_the_ring_wait_for_room",
    ),
    PlantedFault(  # B42
        "full ring logged as an error",
        "channel/works.py",
        "            self.send(payloads[0], 0, False)  # raises RingFull, or fits by now",
        '            log.error("the ring is full"); self.send(payloads[0], 0, False)',
        PACKETS + "a_full_ring_and_an_empty_one_are_logged_by_nobody",
    ),
    # -- packets -----------------------------------------------------------------------------------
    PlantedFault(  # B43
        "descriptor counted as a part of 4096 bytes",
        "ring/incoming.py",
        "            payload = self._read_at(out + DESCRIPTOR_SIZE, taken - SMALLEST_PACKET)",
        "            payload = self._read_at(out + DESCRIPTOR_SIZE, min(taken, 4096) - SMALLEST_PACKET)",
        INCOMING + "a_message_of_4096_bytes_comes_whole_and_the_next_one_follows_it",
    ),
    PlantedFault(  # B44
        "a limit of 4 KiB for messages",
        "layout/pipe_header.py",
        "MAXIMUM_PIPE_PACKET_SIZE = 16384",
        "MAXIMUM_PIPE_PACKET_SIZE = 4096",
        GAPS_OF_RINGS + "a_message_of_6304_bytes_comes_whole_through_a_pipe_and_a_channel",
    ),
    PlantedFault(  # B46
        "in loaded again for the packet itself",
        "ring/incoming.py",
        "            packet, taken = read_packet(self.memory, out, used_bytes(self._size, self._peer_index, out))",
        "            packet, taken = read_packet(self.memory, out, used_bytes(self._size, self._control[IN_WORD], out))",
        GAPS_OF_RINGS + "an_in_that_moves_back_after_the_look_publishes_nothing_more",
    ),
    PlantedFault(  # B48
        "upper half of a transaction id lost in a copy",
        "ring/incoming.py",
        "            append(new_tuple(Packet, (plain_type, transaction_id, payload, (), flags, None)))",
        "            append(new_tuple(Packet, (plain_type, transaction_id & 0xFFFFFFFF, payload, (), flags, None)))",
        GAPS_OF_RINGS + "a_packet_copied_out_is_the_one_in_the_ring_with_its_own_transaction_id",
    ),
    PlantedFault(  # B49
        "let go of twice",
        "channel/blocking.py",
        "                self.closed = True",
        "                self.closed = False",
        GAPS_OF_CHANNELS + "what_a_channel_holds_is_let_go_of_once_however_often_it_is_closed",
    ),
    PlantedFault(  # B50
        "a ring of zeros shown as one in use",
        "inspection/ring_report.py",
        "    never_used = not any(CONTROL_PAGE.pack(control))",
        "    never_used = False",
        "inspection/test_check.py::test_a_ring_of_zeros_was_never_opened",
    ),
    PlantedFault(  # B54
        "part of a range counted from its first page",
        "ring/gparange.py",
        "        return PagedRange(self.offset + offset, length, self.gpns)",
        "        return PagedRange(offset, length, self.gpns)",
        RANGES + "a_part_counts_from_the_ranges_own_offset",
    ),
    PlantedFault(  # B56
        "sectors behind the end of the disk",
        "virtio/block_device.py",
        "        if length % SECTOR_SIZE or sector + length // SECTOR_SIZE > self._capacity:",
        "        if length % SECTOR_SIZE or sector >= self._capacity:",
        GAPS_OF_VIRTIO + "sectors_that_are_not_all_on_the_disk_are_neither_read_nor_written",
    ),
    PlantedFault(  # B57
        "garbage in reserved fields judged",
        "ring/parsing.py",
        "        count = GPA_DIRECT_HEADER.unpack(extension).range_count",
        "        count = 0 if any(extension[:4]) else GPA_DIRECT_HEADER.unpack(extension).range_count",
        INCOMING + "reserved_fields_may_hold_anything",
    ),
    PlantedFault(  # B59
        "no bytes taken for a last byte before the first",
        "ring/gparange.py",
        "        kept = tuple(gpns[first : first + page_count(offset % PAGE_SIZE, length)]) if length else ()",
        "        kept = tuple(gpns[first : (offset + length - 1) // PAGE_SIZE + 1])",
        RANGES + "a_range_of_no_bytes_has_only_parts_of_no_bytes_and_goes_below_nothing",
    ),
    # -- transactions, order, closing --------------------------------------------------------------
    PlantedFault(  # B61
        "0 given out as a transaction id",
        "channel/transactions.py",
        "        while self._next_id in self._outstanding or not 1 <= self._next_id <= LARGEST_ID:",
        "        while self._next_id in self._outstanding or not 0 <= self._next_id <= LARGEST_ID:",
        "channel/test_transactions.py::test_ids_are_64_bits_and_never_0",
    ),
    PlantedFault(  # B62
        "one table for all channels",
        "channel/transactions.py",
        "        self._outstanding: dict[int, Transaction] = {}",
        "        type(self)._outstanding = {}",
        "channel/test_transactions.py::test_two_tables_know_nothing_of_each_other",
    ),
    PlantedFault(  # B63
        "no acquire behind the other side's index",
        "ring/end.py",
        "        self._acquire()",
        "        pass",
        ORDER + "a_read_goes_in_the_stated_order",
    ),
    PlantedFault(  # B64
        "packets dropped while a reply is waited for",
        "channel/works.py",
        "            self.keep(packet)",
        "            pass",
        PACKETS + "packets_that_answer_no_request_are_kept_in_order_for_receive",
    ),
    PlantedFault(  # B66
        "an end attached for ever",
        "channel/shared.py",
        "                if claims.get(claim) is ours:  # it may be that of a later attachment",
        "                if False:",
        GAPS_OF_CHANNELS + "an_end_counts_as_attached_from_its_attachment_to_its_close_and_no_longer",
    ),
    PlantedFault(  # B67
        "data on the way lost to a close",
        "channel/direction.py",
        "        if peer_closed and self.sends:",
        "        if peer_closed:",
        "channel/test_closing.py::test_what_is_sent_between_the_last_look_and_the_close_is_received",
    ),
    PlantedFault(  # B68
        "a second answer taken off the count too",
        "channel/transactions.py",
        "        transaction = self._outstanding.pop(packet.transaction_id, None)",
        "        transaction = self._outstanding.pop(packet.transaction_id, 0) or self._outstanding.popitem()[1]",
        GAPS_OF_CHANNELS + "an_answer_that_comes_twice_ends_one_request_and_takes_no_other_off_the_count",
    ),
    PlantedFault(  # B69
        "a range for every page",
        "ring/gparange.py",
        "            if number and address == end:",
        "            if False:",
        GAPS_OF_RINGS + "pages_that_follow_each_other_are_one_range",
    ),
    PlantedFault(  # B70
        "memory that was taken away shown all the same",
        "channel/common.py",
        "    except ValueError:  # another thread has closed the channel, and its memory",
        "    except KeyError:",
        GAPS_OF_CHANNELS + "who_shows_a_channel_while_its_memory_is_taken_away_is_told_so",
    ),
    # -- virtqueues --------------------------------------------------------------------------------
    PlantedFault(  # V06
        "table no longer than the queue",
        "virtio/walking.py",
        "            walk_split_table(chain, index, address, length // DESCRIPTOR_SIZE)",
        "            walk_split_table(chain, index, address, min(length // DESCRIPTOR_SIZE, size))",
        DEVICE + "a_split_table_may_have_more_entries_than_the_queue_when_fewer_are_linked",
    ),
    PlantedFault(  # V07
        "end of a range without its upper bits",
        "memory/address_space.py",
        "        if region is not None and address + length <= region.end:",
        "        if region is not None and (address + length) & TOP_OF_MEMORY - 1 <= region.end:",
        "memory/test_address_space.py::test_a_range_past_the_top_of_memory_does_not_go_on_at_0",
    ),
    PlantedFault(  # V09
        "used index with its high byte first",
        "virtio/split_device.py",
        "        self._used[INDEX_WORD] = index",
        '        self._used[INDEX_WORD] = int.from_bytes(index.to_bytes(2, "little"), "big")',
        "virtio/test_golden_bytes.py::test_a_device_writes_the_used_ring_with_its_bytes_the_right_way_round",
    ),
    PlantedFault(  # V10
        "indirect table that must be aligned",
        "virtio/walking.py",
        "            check_indirect(chain, index, length, flags)",
        "            check_indirect(chain, index, address % DESCRIPTOR_SIZE + length, flags)",
        DEVICE + "an_indirect_table_may_lie_anywhere",
    ),
    PlantedFault(  # V13
        "used index lost over a migration",
        "virtio/split_device.py",
        "        self._used_index = self._stored_index = next_used",
        "        self._used_index = self._stored_index = 0",
        GAPS_OF_VIRTIO + "a_queue_that_has_moved_goes_on_where_it_stood",
    ),
    PlantedFault(  # V13
        "queue at work after its reset",
        "virtio/device_queue.py",
        "        self._ring: DeviceRing | None = None",
        '        self._ring: DeviceRing | None = getattr(self, "_ring", None)',
        DEVICE + "a_queue_that_was_reset_gives_no_chain_before_it_has_addresses",
    ),
    PlantedFault(  # V15
        "driver silenced anew with every poll",
        "virtio/split_device.py",
        "        if index == self._available_index and not self._load_available_index():",
        "        if (self.disable_notification() or index == self._available_index) and not self._load_available_index():",
        DEVICE + "taking_chains_stores_nothing",
    ),
]
