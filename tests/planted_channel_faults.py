"""Faults to plant in the channels: each a line of the shipped source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_CHANNEL_FAULTS"]

READINESS = "channel/test_readiness.py::test_"
TRANSACTIONS = "channel/test_transactions.py::test_"
WAITING = "channel/test_waiting.py::test_"
CONTRACT = "channel/test_signal_contract.py::test_"
LOCAL = "channel/test_local_signal.py::test_"
PACKETS = "channel/test_packet_channel.py::test_"
STREAMS = "channel/test_byte_channel.py::test_"
INTERRUPTED = "channel/test_interrupted.py::test_"
TIMEOUTS = "channel/test_timeouts.py::test_"
SPINNING = "channel/test_spinning.py::test_"
LINK = "channel/test_peer_link.py::test_"
SHARED = "channel/test_shared.py::test_"
ASYNC = "channel/test_asynchronous.py::test_"
MODEL = "fuzzing/test_trials_find_faults.py::test_a_target_finds_nothing_wrong[channel]"

PLANTED_CHANNEL_FAULTS = [
    # -- when a side may sleep -----------------------------------------------------------------
    PlantedFault(
        "asleep without a second look",
        "channel/readiness.py",
        "                event = Event.READY if self._look() else Event.NOTHING",
        "                event = Event.NOTHING",
        READINESS + "whatever_comes_between_two_accesses_is_found_or_signaled[sender]",
    ),
    PlantedFault(
        "asleep with the mask still set",
        "channel/readiness.py",
        "            self._ring.set_interrupt_mask(False)",
        "            pass",
        READINESS + "a_receiver_that_finds_nothing_unmasks_fences_looks_again_and_then_sleeps",
    ),
    PlantedFault(
        "the mask left clear while packets are taken out",
        "channel/readiness.py",
        "            self._ring.set_interrupt_mask(True)",
        "            pass",
        PACKETS + "signals_are_sent_exactly_when_the_rules_ask_for_them",
    ),
    PlantedFault(
        "room asked for and never taken back",
        "channel/readiness.py",
        "            self._ring.set_pending_send_size(0)",
        "            pass",
        MODEL,
    ),
    PlantedFault(
        "only just enough room asked for",
        "channel/readiness.py",
        "    return max(needed, (ring_size - SLOT) // 4)",
        "    return needed",
        READINESS + "a_sender_asks_for_a_quarter_of_the_ring_or_for_what_it_needs_where_that_is_more",
    ),
    PlantedFault(
        "a quarter asked for where more is needed",
        "channel/readiness.py",
        "    return max(needed, (ring_size - SLOT) // 4)",
        "    return (ring_size - SLOT) // 4",
        MODEL,
    ),
    PlantedFault(
        "a mask set from outside not noticed",
        "channel/readiness.py",
        "        self._ring.verify_interrupts_unmasked()",
        "        pass",
        READINESS + "a_mask_set_from_outside_is_an_error_of_the_other_side",
    ),
    PlantedFault(
        "what a call asked for that was given up stays asked for",
        "channel/readiness.py",
        "        row = self.table.get((self.state, Event.CALL))",
        "        row = None",
        READINESS + "every_situation_goes_through_its_rows_with_their_accesses_and_into_their_states",
    ),
    # -- requests ------------------------------------------------------------------------------
    PlantedFault(
        "an id left out where they begin again",
        "channel/transactions.py",
        "            self._next_id = self._next_id + 1 if self._next_id < LARGEST_ID else 1",
        "            self._next_id = self._next_id + 1 if self._next_id < LARGEST_ID else 2",
        TRANSACTIONS + "behind_the_last_id_comes_1_and_not_0",
    ),
    PlantedFault(
        "an outstanding id used again",
        "channel/transactions.py",
        "        while self._next_id in self._outstanding or not 1 <= self._next_id <= LARGEST_ID:",
        "        while not 1 <= self._next_id <= LARGEST_ID:",
        TRANSACTIONS + "an_id_that_is_outstanding_is_passed_over_when_the_count_comes_round_again",
    ),
    PlantedFault(
        "one request too many",
        "channel/transactions.py",
        "        return len(self._outstanding) < self.maximum",
        "        return len(self._outstanding) <= self.maximum",
        PACKETS + "one_request_too_many_waits_until_another_is_answered",
    ),
    PlantedFault(
        "any packet taken for a completion",
        "channel/transactions.py",
        "        if packet.type is not IncomingPacketType.COMPLETION:",
        "        if packet.type is None:",
        TRANSACTIONS + "only_a_completion_answers_a_request",
    ),
    PlantedFault(
        "an answered request still outstanding",
        "channel/transactions.py",
        "        transaction = self._outstanding.pop(packet.transaction_id, None)",
        "        transaction = self._outstanding.get(packet.transaction_id)",
        TRANSACTIONS + "a_completion_goes_to_the_request_with_its_id_in_any_order",
    ),
    # -- several threads -----------------------------------------------------------------------
    PlantedFault(
        "a signal slept over that another thread has taken",
        "channel/waiting.py",
        "                if self.wakes != wakes or self._closed:",
        "                if self._closed:",
        WAITING + "a_signal_that_another_thread_has_taken_since_the_look_ends_the_wait_at_once",
    ),
    PlantedFault(
        "wakes not counted",
        "channel/waiting.py",
        "            self.wakes += 1",
        "            pass",
        WAITING + "a_signal_from_before_the_wait_ends_it",
    ),
    PlantedFault(
        "a signal closed under its waiter",
        "channel/waiting.py",
        "            self._changed.wait_for(lambda: self._waiting_thread is None, LONGEST_NAP)",
        "            pass",
        WAITING + "close_ends_every_wait_and_finishes_when_the_last_has_left",
    ),
    # -- signals between threads ---------------------------------------------------------------
    PlantedFault(
        "a signal told to nobody",
        "channel/local_signal.py",
        "            self._untold.release()",
        "            pass",
        LOCAL + "any_number_of_signals_are_one",
    ),
    PlantedFault(
        "a close nobody hears of",
        "channel/local_signal.py",
        "        self._peer.peer_closed = True",
        "        self.peer_closed = True",
        LOCAL + "only_the_other_side_sees_the_close",
    ),
    PlantedFault(
        "told from the start",
        "channel/local_signal.py",
        "        self._untold.acquire()",
        "        pass",
        CONTRACT + "nothing_told_is_no_reason",
    ),
    # -- one look, and calls that wait ---------------------------------------------------------
    PlantedFault(
        "a poller not told that there may be more",
        "channel/direction.py",
        "                self.signal.wake()  # there may be more, and nothing is published: look again by itself",
        "                pass",
        PACKETS + "a_call_whose_time_is_over_among_late_completions_says_that_there_may_be_more",
    ),
    PlantedFault(
        "no signal after an interrupt",
        "channel/direction.py",
        "        if not isinstance(error, VmbusError):",
        "        if False:",
        INTERRUPTED + "an_interrupted_send_loses_no_other_packet_and_wakes_the_receiver",
    ),
    PlantedFault(
        "a signal taken from whoever polls for the other direction",
        "channel/blocking.py",
        "            if call.slept and self.other.is_published():",
        "            if False:",
        TIMEOUTS + "a_sender_that_waits_takes_no_signal_from_a_receiver_that_polls",
    ),
    PlantedFault(
        "an interrupted commit taken for one that was decided",
        "ring/outgoing.py",
        "        undecided = self._own_index != self._published",
        "        undecided = False",
        INTERRUPTED + "the_send_after_an_interrupted_commit_signals_a_receiver_that_sleeps_meanwhile",
    ),
    PlantedFault(
        "spinning beyond the time of the call",
        "channel/blocking.py",
        "        until = now + self._spin if call.deadline is None else min(now + self._spin, call.deadline)",
        "        until = now + self._spin",
        SPINNING + "spinning_ends_with_the_time_of_the_call",
    ),
    # -- between processes ---------------------------------------------------------------------
    PlantedFault(
        "a goodbye to a predecessor taken for one's own",
        "channel/peer_link.py",
        "        ours = message.known in (0, self.own)",
        "        ours = True",
        LINK + "a_goodbye_to_one_that_was_killed_does_not_end_its_successor",
    ),
    PlantedFault(
        "no signal for what a killed predecessor owed",
        "channel/shared.py",
        "            if must_signal(memory, *self._shape.rings()):",
        "            if False:",
        SHARED + "a_writer_that_is_owed_a_signal_by_one_that_was_killed_gets_it",
    ),
    # -- asyncio -------------------------------------------------------------------------------
    PlantedFault(
        "a closed peer that the loop goes on watching",
        "channel/asynchronous.py",
        "                self._unwatch()  # there will be no other signal, and this one never goes away",
        "                pass",
        ASYNC + "a_closed_peer_whose_signal_stays_readable_calls_the_loop_once",
    ),
    # -- what is done in one attempt -----------------------------------------------------------
    PlantedFault(
        "late completions given to receive",
        "channel/works.py",
        "        packets = [packet for packet in taken if not self.transactions.deliver(packet)]",
        "        packets = taken",
        PACKETS + "late_completions_never_come_out_of_any_kind_of_receive[receive_many]",
    ),
    PlantedFault(
        "the end of a stream forgotten",
        "channel/works.py",
        "        self.ended = not data",
        "        self.ended = False",
        STREAMS + "the_end_is_read_once_and_then_known_and_leaves_nothing_to_read",
    ),
    PlantedFault(
        "a limit below 0 taken",
        "channel/works.py",
        "        if self.inbox and (limit is None or limit >= 0):  # the ring refuses the others",
        "        if self.inbox:",
        PACKETS + "receive_many_refuses_a_negative_limit_also_while_packets_are_kept",
    ),
]
