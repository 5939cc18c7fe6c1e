"""Faults to plant: each a line of the shipped source, a wrong line in its place, and who must notice.

A test suite that passes says little until it has been seen to fail.  tests/test_planted_faults.py
changes one line in a copy of the package and runs the named test there, with the same seed, without
the change and with it: it must pass, and it must fail.

Many of these are bugs that rings have really had (tests/known_bugs.py); the others are the slips
that are easy to make in just that line.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PLANTED_FAULTS", "PlantedFault"]


class PlantedFault(NamedTuple):
    """One wrong line.

    name        what is wrong with it
    file        below vmbus/
    old         the line as it is; the file has it exactly once
    new         the line to plant
    caught_by   the test that must fail: its file below tests/, and its name as pytest writes it
    """

    name: str
    file: str
    old: str
    new: str
    caught_by: str


MODEL = "fuzzing/test_trials_find_faults.py::test_a_target_finds_nothing_wrong[ring]"
POSITIONS = "ring/test_every_position.py::test_"
BATCHES = "ring/test_batches.py::test_"
RULES = "ring/test_inlined_rules.py::test_"
SAMPLES = "ring/test_samples.py::test_"
ORDER = "ring/test_access_order.py::test_"
HOSTILE = "ring/test_hostile.py::test_"

IN_SEND = "        if used + total > size - SLOT and self._room(start, total) < total:"

PLANTED_FAULTS = [
    # -- wrapping ------------------------------------------------------------------------------
    PlantedFault(
        "no wrap",
        "ring/offsets.py",
        "    return end if end < size else end - size",
        "    return end",
        MODEL,
    ),
    PlantedFault(
        "no wrap where a sent packet ends with the ring",
        "ring/outgoing.py",
        "            if end == size:",
        "            if end > size:",
        POSITIONS + "send_writes_what_the_steps_write_at_every_start[in-band]",
    ),
    PlantedFault(
        "no wrap inside a batch",
        "ring/outgoing.py",
        "                position = end if end < size else 0",
        "                position = end",
        POSITIONS + "send_many_and_receive_many_go_round_from_every_start",
    ),
    PlantedFault(
        "no wrap behind a received packet",
        "ring/incoming.py",
        "        return packet, self._commit(end if end < size else end - size)",
        "        return packet, self._commit(end)",
        POSITIONS + "receive_copies_every_packet_at_every_start[completion]",
    ),
    PlantedFault(
        "pages listed once, so that nothing follows the last",
        "memory/paged.py",
        "        self._pages = views[1:] * 2",
        "        self._pages = views[1:]",
        POSITIONS + "a_packet_may_be_cut_at_each_multiple_of_8",
    ),
    PlantedFault(
        "a wrapped write loses what is behind the end",
        "memory/flat.py",
        "            self._data[: end - size] = data[first:]",
        "            pass",
        POSITIONS + "a_packet_may_be_cut_at_each_multiple_of_8",
    ),
    # -- what is published, what is free ---------------------------------------------------------
    PlantedFault(
        "footer forgotten in the availability check",
        "ring/parsing.py",
        "    if length + FOOTER_SIZE > available:",
        "    if length > available:",
        BATCHES + "a_packet_whose_footer_is_not_published_is_refused_wherever_it_starts",
    ),
    PlantedFault(
        "footer forgotten in the availability check of receive",
        "ring/incoming.py",
        "            or taken > available",
        "            or taken - FOOTER_SIZE > available",
        BATCHES + "a_packet_whose_footer_is_not_published_is_refused_wherever_it_starts",
    ),
    PlantedFault(
        "footer forgotten in the availability check of receive_many",
        "ring/incoming.py",
        "                or following > end",
        "                or following - FOOTER_SIZE > end",
        BATCHES + "a_packet_whose_footer_is_not_published_is_refused_wherever_it_starts",
    ),
    PlantedFault(
        "empty/full confusion",
        "ring/offsets.py",
        "    return size - used_bytes(size, in_offset, out_offset) - SLOT",
        "    return size - used_bytes(size, in_offset, out_offset)",
        MODEL,
    ),
    PlantedFault(
        "empty/full confusion in send",
        "ring/outgoing.py",
        IN_SEND,
        IN_SEND.replace("size - SLOT", "size"),
        "ring/test_outgoing.py::test_a_ring_is_filled_to_all_but_its_last_slot_and_not_one_slot_more[0-24-send]",
    ),
    PlantedFault(
        "a packet as large as the whole ring",
        "ring/offsets.py",
        "    return min(size - SLOT, LARGEST_PACKET)",
        "    return min(size, LARGEST_PACKET)",
        POSITIONS + "what_could_never_fit_is_the_callers_mistake_even_in_a_full_ring",
    ),
    PlantedFault(
        "stale cached index",
        "ring/outgoing.py",
        "            free = free_bytes(self._size, position, self._load_peer_index())",
        "            free = free_bytes(self._size, position, self._peer_index)",
        MODEL,
    ),
    PlantedFault(
        "stale cached index of the receiver",
        "ring/incoming.py",
        "        return offset.next_out != self._peer_index or offset.next_out != self._load_peer_index()",
        "        return offset.next_out != self._peer_index",
        MODEL,
    ),
    PlantedFault(
        "a sender that joins a ring in use takes it for empty",
        "ring/end.py",
        "            self._peer_index = advance(self._size, own, self._gap)",
        "            self._peer_index = own",
        BATCHES + "a_sender_that_joins_a_ring_in_use_keeps_what_waits_in_it",
    ),
    PlantedFault(
        "used bytes below zero where in has wrapped and out has not",
        "ring/outgoing.py",
        "            used += size",
        "            pass",
        RULES + "send_fits_exactly_when_free_bytes_says_so",
    ),
    PlantedFault(
        "free space not counted down inside a batch",
        "ring/outgoing.py",
        "            free -= total",
        "            pass",
        BATCHES + "send_many_writes_as_many_as_fit_and_says_how_many",
    ),
    PlantedFault(
        "an index that is no multiple of 8 believed",
        "ring/offsets.py",
        "    return 0 <= value < size and value % SLOT == 0",
        "    return 0 <= value < size",
        RULES + "receive_and_receive_many_take_an_index_for_what_is_offset_takes_it",
    ),
    PlantedFault(
        "an index that is no multiple of 8 believed by receive",
        "ring/incoming.py",
        "            if published >= size or published % SLOT:  # is_offset()",
        "            if published >= size:",
        RULES + "receive_and_receive_many_take_an_index_for_what_is_offset_takes_it",
    ),
    # -- signals -------------------------------------------------------------------------------
    PlantedFault(
        "mask ignored",
        "ring/outgoing.py",
        "        mask = control[INTERRUPT_MASK_WORD]",
        "        mask = 0",
        MODEL,
    ),
    PlantedFault(
        "pending low bits not masked",
        "ring/signaling.py",
        "    return pending_send_size & ~(SLOT - 1)",
        "    return pending_send_size",
        "ring/test_signaling.py::test_the_low_three_bits_of_a_pending_send_size_do_not_count",
    ),
    PlantedFault(
        "pending rounded down",
        "ring/outgoing.py",
        "        self._control[PENDING_SEND_SIZE_WORD] = round_up_to_slot(length)",
        "        self._control[PENDING_SEND_SIZE_WORD] = length & ~7",
        MODEL,
    ),
    PlantedFault(
        "signal on every write",
        "ring/signaling.py",
        "    return interrupt_mask == 0 and out_offset == in_before",
        "    return interrupt_mask == 0",
        MODEL,
    ),
    PlantedFault(
        "signal on every read that leaves the wanted room",
        "ring/signaling.py",
        "    return free_before < wanted_space(pending_send_size) <= free_after",
        "    return 0 < wanted_space(pending_send_size) <= free_after",
        MODEL,
    ),
    PlantedFault(
        "exactly the wanted room not enough",
        "ring/signaling.py",
        "    return free_before < wanted_space(pending_send_size) <= free_after",
        "    return free_before < wanted_space(pending_send_size) < free_after",
        MODEL,
    ),
    PlantedFault(
        "signal before the index is stored",
        "ring/outgoing.py",
        "        control[IN_WORD] = end",
        "        control[IN_WORD], control = end, {word: control[word] for word in (INTERRUPT_MASK_WORD, OUT_WORD)}",
        BATCHES + "a_reader_that_falls_asleep_while_a_packet_is_written_has_seen_it_or_is_signaled",
    ),
    PlantedFault(
        "signal before the index of the receiver is stored",
        "ring/incoming.py",
        "        control[OUT_WORD] = end",
        "        control[OUT_WORD], control = end, {word: control[word] for word in (PENDING_SEND_SIZE_WORD, IN_WORD)}",
        BATCHES + "a_writer_that_falls_asleep_while_a_packet_is_read_has_seen_the_room_or_is_signaled",
    ),
    PlantedFault(
        "index stored without a release before it",
        "ring/outgoing.py",
        "        self._release()  # a call, after which an interrupt may come: nothing has moved yet",
        "        pass",
        ORDER + "a_write_goes_in_the_stated_order",
    ),
    PlantedFault(
        "unmasked without a fence before the look that follows",
        "ring/incoming.py",
        "        if not masked:",
        "        if False:",
        ORDER + "unmasking_is_fenced_from_the_look_that_follows",
    ),
    PlantedFault(
        "own index read back from shared memory",
        "ring/outgoing.py",
        "        return OutgoingOffset(self, self._own_index, self._commits)",
        "        return OutgoingOffset(self, self._control[IN_WORD], self._commits)",
        ORDER + "no_end_reads_its_own_index_back_and_no_end_stores_a_word_of_the_other",
    ),
    # -- packets -------------------------------------------------------------------------------
    PlantedFault(
        "padding not zeroed",
        "ring/outgoing.py",
        "        if packet.size % SLOT:",
        "        if False:",
        POSITIONS + "every_packet_is_written_and_read_back_whole_at_every_start[in-band]",
    ),
    PlantedFault(
        "padding of send not zeroed",
        "ring/outgoing.py",
        "        padding = bytes(total - SMALLEST_PACKET - len(payload))",
        '        padding = b"?" * (total - SMALLEST_PACKET - len(payload))',
        POSITIONS + "send_writes_what_the_steps_write_at_every_start[in-band]",
    ),
    PlantedFault(
        "length truncated at 16 bits",
        "ring/outgoing.py",
        "        descriptor = PacketDescriptor(kind, data_offset // SLOT, length // SLOT, flags, transaction_id)",
        "        descriptor = PacketDescriptor(kind, data_offset // SLOT, (length & 0xFFFF) // SLOT, flags, transaction_id)",
        POSITIONS + "a_packet_of_524288_bytes_crosses_a_ring_of_1_mib",
    ),
    PlantedFault(
        "no largest packet but the ring's",
        "ring/offsets.py",
        "    return min(size - SLOT, LARGEST_PACKET)",
        "    return size - SLOT",
        POSITIONS + "one_slot_more_than_524288_bytes_is_the_callers_mistake",
    ),
    PlantedFault(
        "the largest packet left to the descriptor's 16 bits to refuse",
        "ring/outgoing.py",
        "        if total > self._largest:",
        "        if False:",
        POSITIONS + "one_slot_more_than_524288_bytes_is_the_callers_mistake",
    ),
    PlantedFault(
        "descriptor read twice",
        "ring/incoming.py",
        "            payload = self._read_at(out + DESCRIPTOR_SIZE, taken - SMALLEST_PACKET)",
        "            payload = self._read_at(out + DESCRIPTOR_SIZE, self._unpack_descriptor(out)[2] * 8 - DESCRIPTOR_SIZE)",
        HOSTILE + "descriptor_ranges_and_payload_are_each_read_once",
    ),
    PlantedFault(
        "descriptor read twice by the steps",
        "ring/parsing.py",
        "    kind = KNOWN_TYPES[descriptor.type]",
        "    kind = KNOWN_TYPES[PACKET_DESCRIPTOR.unpack(memory.read_at(offset, DESCRIPTOR_SIZE)).type]",
        HOSTILE + "descriptor_ranges_and_payload_are_each_read_once",
    ),
    PlantedFault(
        "unknown flags let through by receive_many",
        "ring/incoming.py",
        "                or flags > KNOWN_FLAGS",
        "                or False",
        RULES + "receive_judges_every_descriptor_as_descriptor_fault_does",
    ),
    PlantedFault(
        "a footer that does not say where its packet starts",
        "ring/outgoing.py",
        "        self._write_at(advance(self._size, start, length), FOOTER.pack(Footer(0, start)))",
        "        self._write_at(advance(self._size, start, length), FOOTER.pack(Footer(0, 0)))",
        SAMPLES + "writing_the_packets_of_a_sample_again_gives_the_same_bytes",
    ),
    # -- rounds and batches ------------------------------------------------------------------------
    PlantedFault(
        "stale offsets taken",
        "ring/end.py",
        "        if commits != self._commits:",
        "        if False:",
        MODEL,
    ),
    PlantedFault(
        "revert takes nothing back",
        "ring/outgoing.py",
        "        self.next_in = self._start",
        "        pass",
        MODEL,
    ),
    PlantedFault(
        "good packets lost to the bad one behind them",
        "ring/incoming.py",
        "            if not packets:",
        "            if True:",
        BATCHES + "receive_many_gives_the_good_packets_and_the_next_call_raises",
    ),
    PlantedFault(
        "a batch begun before all its sizes are known to be possible",
        "ring/outgoing.py",
        "        if PacketSize.in_band(longest) > self._largest:",
        "        if False:",
        BATCHES + "send_many_checks_all_sizes_before_it_writes_anything",
    ),
    PlantedFault(
        "the limit counted anew after a packet with ranges",
        "ring/incoming.py",
        "        room = limit if limit is None else limit - len(packets)",
        "        room = limit",
        BATCHES + "receive_many_counts_the_limit_over_packets_of_all_kinds",
    ),
    PlantedFault(
        "a packet gone although the buffer was too small",
        "ring/incoming.py",
        "        payload = self.read(offset).payload",
        "        payload, _ = self.read(offset).payload, self.commit_read(offset)",
        BATCHES + "a_buffer_that_is_too_small_leaves_the_packet_in_the_ring",
    ),
    PlantedFault(
        "read-only memory forgotten behind a broken packet",
        "ring/end.py",
        "            if not self._control.readonly:",
        "            if True:",
        BATCHES + "read_only_memory_refuses_a_commit_even_after_a_broken_packet",
    ),
]

STREAM = "pipe/test_byte_stream.py::test_"
MESSAGE = "pipe/test_message.py::test_"
FRAMING = "pipe/test_framing.py::test_"
WALK = "inspection/test_walk.py::test_"
RECOVER = "inspection/test_recover.py::test_"
LOCATE = "inspection/test_locate.py::test_"
CHECK = "inspection/test_check.py::test_"

PLANTED_FAULTS += [
    # -- pipes -----------------------------------------------------------------------------------
    PlantedFault(
        "the end of a stream lost behind its last bytes",
        "pipe/byte_stream.py",
        "                    offset.next_out = start  # the end is for a call that has nothing else to return",
        "                    pass",
        STREAM + "the_end_is_only_for_a_call_that_has_nothing_else_to_return",
    ),
    PlantedFault(
        "a part counted from the part before",
        "pipe/byte_stream.py",
        "            self._mark(payload, length, consumed + taken)",
        "            self._mark(payload, length, taken)",
        STREAM + "a_part_counts_from_the_packets_own_start_however_often_it_was_read",
    ),
    PlantedFault(
        "a part given again",
        "pipe/byte_stream.py",
        "        reader.skip(consumed)",
        "        reader.skip(0)",
        STREAM + "a_new_reader_over_the_same_ring_goes_on_behind_the_part",
    ),
    PlantedFault(
        "full although the first packets fitted",
        "pipe/byte_stream.py",
        "                if done == 0:",
        "                if done < len(view):",
        STREAM + "a_write_returns_how_many_bytes_fit_and_is_full_when_the_first_packet_does_not",
    ),
    PlantedFault(
        "a pipe's length believed that its packet does not hold",
        "pipe/framing.py",
        "    limit = min(present, MAXIMUM_PIPE_PACKET_SIZE)",
        "    limit = MAXIMUM_PIPE_PACKET_SIZE",
        FRAMING + "a_packet_that_is_no_pipe_data_is_refused_by_name_and_stays",
    ),
    PlantedFault(
        "buffers joined before they are written",
        "pipe/framing.py",
        "        for view in views:",
        '        for view in (b"".join(views),):',
        MESSAGE + "buffers_are_written_one_by_one_and_never_joined",
    ),
    PlantedFault(
        "a message gone although the buffer was too small",
        "pipe/message.py",
        "            offset.next_out = start",
        "            pass",
        MESSAGE + "a_buffer_too_small_is_told_the_length_and_the_message_stays",
    ),
    # -- inspection ------------------------------------------------------------------------------
    PlantedFault(
        "footers forgotten in a walk",
        "inspection/walk.py",
        "        taken = descriptor.length8 * SLOT + FOOTER_SIZE",
        "        taken = descriptor.length8 * SLOT",
        WALK + "a_walk_comes_to_exactly_the_packets_that_a_ring_reads",
    ),
    PlantedFault(
        "packets recovered from bytes that were used again",
        "inspection/recover.py",
        "    left = memory.size - used_bytes(memory.size, in_offset, out_offset)",
        "    left = memory.size",
        RECOVER + "a_packet_of_which_one_slot_was_used_again_is_gone",
    ),
    PlantedFault(
        "a footer believed that leads nowhere",
        "inspection/recover.py",
        "    newest_first = [*islice(packets_before(memory, in_offset, out_offset), trusted)]",
        "    newest_first = [*packets_before(memory, in_offset, out_offset)]",
        RECOVER + "a_footer_that_leads_to_no_intact_packet_is_not_believed",
    ),
    PlantedFault(
        "a second ring believed whatever the first one says",
        "inspection/locate.py",
        "        if ends_at_in(dump, outbound) and ends_at_in(dump, inbound):",
        "        if ends_at_in(dump, inbound):",
        LOCATE + "a_data_page_that_happens_to_look_like_a_control_page_does_not_cut_a_ring",
    ),
    PlantedFault(
        "a ring called unopened that has a word set",
        "inspection/ring_report.py",
        "    never_used = not any(CONTROL_PAGE.pack(control))",
        "    never_used = not any(control[:4]) and not control.feature_bits",
        CHECK + "a_control_word_that_is_not_zero_speaks_against_never_opened",
    ),
]
