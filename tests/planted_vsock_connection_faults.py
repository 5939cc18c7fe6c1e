"""Faults to plant in vsock connections and what carries them: each a line of the shipped source, a wrong
one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_VSOCK_CONNECTION_FAULTS"]

TABLE = "virtio/test_vsock_table.py::test_"
EVERY_EVENT = TABLE + "every_event_does_in_every_state_what_the_standard_says"
CREDIT = "virtio/test_vsock_credit.py::test_"
CONNECTION = "virtio/test_vsock_connection.py::test_"
MESSAGES = "virtio/test_vsock_messages.py::test_"
ENDPOINT = "virtio/test_vsock_endpoint.py::test_"
CARRIERS = "virtio/test_vsock_carriers.py::test_"
ANY_PACKET = "virtio/test_vsock_machines.py::TestAnyPacketInAnyState::runTest"
TWO_ENDPOINTS = "virtio/test_vsock_machines.py::TestTwoEndpointsAgainstDeques::runTest"

PLANTED_VSOCK_CONNECTION_FAULTS = [
    # -- the table -----------------------------------------------------------------------------------
    PlantedFault(
        "reset answered with a reset",
        "virtio/vsock_table.py",
        "            RST=(action.IGNORE, state.CLOSED),",
        "            RST=(action.RESET, state.CLOSED),",
        EVERY_EVENT,
    ),
    PlantedFault(
        "reset of another type answered with a reset",
        "virtio/vsock_table.py",
        "    if header.type != kind and event is not RST:",
        "    if header.type != kind:",
        TABLE + "a_reset_of_any_type_is_never_answered",
    ),
    PlantedFault(
        "request of a side that has forgotten ignored while closing",
        "virtio/vsock_table.py",
        "            REQUEST=(action.RESET, state.CLOSED),",
        "            REQUEST=(action.IGNORE, state.CLOSING),",
        EVERY_EVENT + "[closing-REQUEST-stream]",
    ),
    PlantedFault(
        "invalid packet ends a connection that is being made",
        "virtio/vsock_table.py",
        "            INVALID=(action.IGNORE, state.CONNECTING),",
        "            INVALID=(action.FAIL, state.CLOSED),",
        EVERY_EVENT,
    ),
    # -- credit --------------------------------------------------------------------------------------
    PlantedFault(
        "credit not spent",
        "virtio/vsock_streams.py",
        "            sending.sent += count",
        "            pass",
        CREDIT + "no_byte_more_is_sent_than_the_other_side_has_room_for",
    ),
    PlantedFault(
        "credit one byte too large",
        "virtio/vsock_credit.py",
        "    return max(0, peer_buf_alloc - bytes_in_flight(tx_count, peer_fwd_cnt))",
        "    return max(0, peer_buf_alloc + 1 - bytes_in_flight(tx_count, peer_fwd_cnt))",
        CREDIT + "the_example_of_a_count_that_has_wrapped",
    ),
    PlantedFault(
        "credit below nothing",
        "virtio/vsock_credit.py",
        "    return max(0, peer_buf_alloc - bytes_in_flight(tx_count, peer_fwd_cnt))",
        "    return (peer_buf_alloc - bytes_in_flight(tx_count, peer_fwd_cnt)) & COUNT_MASK",
        CREDIT + "a_buffer_that_shrinks_below_what_is_in_flight_has_no_room",
    ),
    PlantedFault(
        "bytes in flight that do not wrap",
        "virtio/vsock_credit.py",
        "    return (tx_count - peer_fwd_cnt) & COUNT_MASK",
        "    return tx_count - peer_fwd_cnt",
        CREDIT + "the_example_of_a_count_that_has_wrapped",
    ),
    PlantedFault(
        "forward count beyond what was sent believed",
        "virtio/vsock_credit.py",
        "            if ahead > in_flight:",
        "            if ahead > in_flight + 1:",
        CREDIT + "a_forward_count_up_to_what_was_sent_is_taken_and_one_more_is_not",
    ),
    PlantedFault(
        "one byte more than allowed taken",
        "virtio/vsock_credit.py",
        "        if received > self.allowed:",
        "        if received > self.allowed + 1:",
        CREDIT + "one_byte_more_than_allowed_ends_the_connection_with_a_reset[stream-0]",
    ),
    PlantedFault(
        "credit that was given taken back",
        "virtio/vsock_credit.py",
        "            self.allowed = max(self.allowed, forwarded + buf_alloc)",
        "            self.allowed = forwarded + buf_alloc",
        CREDIT + "a_side_that_makes_its_buffer_smaller_takes_what_it_allowed_before",
    ),
    PlantedFault(
        "bytes that were read not forwarded",
        "virtio/vsock_connection.py",
        "        receiving.forward(length)",
        "        receiving.forwarded += 0",
        TWO_ENDPOINTS,
    ),
    PlantedFault(
        "credit told too late",
        "virtio/vsock_credit.py",
        "    return untold > 0 and 2 * untold >= buf_alloc",
        "    return untold > buf_alloc",
        TWO_ENDPOINTS,
    ),
    PlantedFault(
        "who has asked for credit forgotten before all of it was told",
        "virtio/vsock_connection.py",
        "        if (self._peer_asked or self.is_starved) and not self.has_received:",
        "        if self.is_starved and not self.has_received:",
        CREDIT + "a_message_for_the_whole_buffer_comes_through_when_the_reader_empties_it_in_two_halves",
    ),
    PlantedFault(
        "rest of a message that nobody gives room to",
        "virtio/vsock_messages.py",
        "        return bool(self._partial)",
        "        return False",
        CREDIT + "the_rest_of_a_message_comes_when_those_before_it_are_read[does not ask]",
    ),
    PlantedFault(
        "buffer that has changed not told",
        "virtio/vsock_connection.py",
        "        if receiving.told_buf_alloc != size:",
        "        if receiving.told_buf_alloc < size and self.was_established is None:",
        ANY_PACKET,
    ),
    PlantedFault(
        "asking again at every answer",
        "virtio/vsock_messages.py",
        "            if sending.free and not self._asked:",
        "            if sending.free:",
        CREDIT + "a_message_that_needs_more_credit_asks_once_until_one_was_sent",
    ),
    # -- the end -------------------------------------------------------------------------------------
    PlantedFault(
        "reset shown as the end of a stream",
        "virtio/vsock_connection.py",
        "        if not self.peer_shutdown & NO_SEND:",
        "        if self.peer_shutdown & NO_RECEIVE:",
        CONNECTION + "a_reset_without_a_shutdown_is_never_a_clean_end",
    ),
    PlantedFault(
        "end of a connection before the last byte is read",
        "virtio/vsock_connection.py",
        "        if self.peer_shutdown == NEITHER and not self.has_received:",
        "        if self.peer_shutdown == NEITHER:",
        ANY_PACKET,
    ),
    PlantedFault(
        "end before the rest of a message",
        "virtio/vsock_owed.py",
        "    (int(owed), None if owed is Owed.PAYLOAD else int(VsockOperation[str(owed.name)])) for owed in Owed",
        "    (int(owed), None if owed is Owed.PAYLOAD else int(VsockOperation[owed.name])) for owed in reversed(Owed)",
        MESSAGES + "the_rest_of_a_message_goes_out_later_from_a_copy_and_before_all_else",
    ),
    PlantedFault(
        "payload after the end of a stream taken",
        "virtio/vsock_connection.py",
        "            self._refuse_payload(length)",
        "            pass",
        CONNECTION + "payload_after_the_end_of_a_stream_is_refused",
    ),
    PlantedFault(
        "second shutdown in place of the first",
        "virtio/vsock_connection.py",
        "            self.peer_shutdown |= header.flags & NEITHER",
        "            self.peer_shutdown = header.flags & NEITHER",
        TABLE + "the_flags_of_two_shutdowns_add_up_and_the_second_ends_the_connection",
    ),
    PlantedFault(
        "unfinished message lost in silence",
        "virtio/vsock_messages.py",
        "            self._check_whole()",
        "            pass",
        MESSAGES + "a_message_that_ends_in_the_middle_is_not_the_last_of_a_clean_end",
    ),
    PlantedFault(
        "close that is never given up",
        "virtio/vsock_endpoint.py",
        "        late = [connection for connection, deadline in self._closing.items() if deadline <= now]",
        "        late = [connection for connection, deadline in self._closing.items() if deadline < 0]",
        CONNECTION + "a_close_without_an_answer_is_a_reset_after_eight_seconds[8.0]",
    ),
    # -- the endpoint --------------------------------------------------------------------------------
    PlantedFault(
        "foreign CID accepted",
        "virtio/vsock_endpoint.py",
        "        if header.dst_cid != self.cid or self.peer_cid not in (None, header.src_cid):",
        "        if header.dst_cid != self.cid:",
        TABLE + "a_packet_from_or_to_a_foreign_cid_is_dropped_and_counted[source]",
    ),
    PlantedFault(
        "impossible request believed",
        "virtio/vsock_endpoint.py",
        "        if not listener.has_room or len(self._connections) >= self.most_connections or header.fwd_cnt:",
        "        if not listener.has_room or len(self._connections) >= self.most_connections:",
        ENDPOINT + "a_request_that_has_received_what_was_never_sent_is_refused_and_harms_nobody",
    ),
    PlantedFault(
        "backlog full of those that are gone",
        "virtio/vsock_listener.py",
        "            self._waiting = deque(one for one in self._waiting if is_worth_accepting(one))",
        "            pass",
        ENDPOINT + "those_that_are_gone_again_take_no_place_in_the_backlog",
    ),
    PlantedFault(
        "resets that wait without a limit",
        "virtio/vsock_endpoint.py",
        "        if len(self._resets) >= MOST_RESETS:",
        "        if False:",
        ENDPOINT + "resets_that_wait_for_room_are_limited",
    ),
    PlantedFault(
        "old reset behind a new response",
        "virtio/vsock_connection.py",
        "        if not self._home.flush_resets():",
        "        if False:",
        ENDPOINT + "a_reset_for_the_connection_before_never_comes_behind_the_response_of_the_next_one",
    ),
    # -- the carriers --------------------------------------------------------------------------------
    PlantedFault(
        "refused buffer not given back",
        "virtio/vsock_device.py",
        "            rx.add_used(chain.head_index, 0)",
        "            pass",
        CARRIERS + "a_buffer_that_cannot_hold_a_packet_is_given_back_counted_and_harms_nobody",
    ),
    PlantedFault(
        "refused buffer for an event not given back",
        "virtio/vsock_device.py",
        "                self.event.add_used(chain.head_index, 0)",
        "                pass",
        CARRIERS + "an_event_takes_a_buffer_of_four_bytes_and_smaller_ones_are_given_back",
    ),
    PlantedFault(
        "payload only where the header is",
        "virtio/vsock_device.py",
        "            if end <= length:",
        "            if True:",
        CARRIERS + "a_packet_is_the_same_however_its_bytes_are_spread_over_buffers",
    ),
    PlantedFault(
        "device believed about what it has written",
        "virtio/vsock_driver.py",
        "        return (header, place[HEADER_SIZE:end].tobytes()) if end <= length else None",
        "        return header, place[HEADER_SIZE:end].tobytes()",
        CARRIERS + "a_device_that_lies_about_a_packet_is_counted_and_its_buffer_offered_again",
    ),
    PlantedFault(
        "buffer for events not offered again",
        "virtio/vsock_driver.py",
        "            self._offer_event(self.event)",
        "            pass",
        CARRIERS + "the_buffers_for_events_come_back_to_the_device",
    ),
    PlantedFault(
        "room of the guest slept over",
        "virtio/vsock_driver.py",
        "        return ready or (was_full and self.room() >= 0)",
        "        return ready",
        CARRIERS + "room_that_comes_free_before_the_sleep_is_not_slept_over",
    ),
    PlantedFault(
        "room of the host slept over",
        "virtio/vsock_device.py",
        "        return ready or (was_full and self.room() >= 0)",
        "        return ready",
        CARRIERS + "room_that_comes_free_before_the_sleep_is_not_slept_over",
    ),
    PlantedFault(
        "packets of the guest slept over",
        "virtio/vsock_device.py",
        "        ready = self.tx.enable_notification()",
        "        ready = False",
        CARRIERS + "no_side_sleeps_while_there_is_something_for_it",
    ),
]
