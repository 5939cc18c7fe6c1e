"""Faults to plant in what waits over virtqueues: each a line of the shipped source, a wrong one, and who
must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_SOCKET_FAULTS"]

STEPS = "sockets/test_steps.py::test_"
LINK = "sockets/test_link.py::test_"
SOCKETS = "sockets/test_vsock_sockets.py::test_"
ASYNC = "sockets/test_async_vsock.py::test_"
BRIDGE = "sockets/test_bridge.py::test_"
IO = "sockets/test_frame_io.py::test_"

PLANTED_SOCKET_FAULTS = [
    # -- who sleeps, and who wakes him -------------------------------------------------------------
    PlantedFault(
        "packets taken for others, who sleep on",
        "sockets/steps.py",
        "        self.moved |= moved",
        "        pass",
        STEPS + "a_step_that_takes_packets_says_that_others_may_have_got_theirs",
    ),
    PlantedFault(
        "silence asked for while others sleep",
        "sockets/link.py",
        "                if not self._sleepers and not self._steps.closed:",
        "                if not self._steps.closed:",
        LINK + "a_thread_that_is_done_does_not_switch_off_the_notifications_that_another_waits_for",
    ),
    PlantedFault(
        "asleep without asking to be notified",
        "sockets/steps.py",
        "        ready = self.carrier.prepare_to_sleep()",
        "        ready = False",
        STEPS + "who_is_told_to_sleep_is_notified_of_the_next_packet",
    ),
    PlantedFault(
        "nobody asks for room for what is owed",
        "sockets/steps.py",
        "        self.moved |= self.endpoint.owes",
        "        pass",
        STEPS + "what_is_owed_and_has_no_room_is_somebodys_to_ask_for",
    ),
    PlantedFault(
        "side that has gone waited for",
        "sockets/steps.py",
        "        gone = self.signal.peer_closed",
        "        gone = False",
        STEPS + "a_side_that_goes_without_a_word_has_its_packets_taken_and_is_then_gone",
    ),
    # -- turns ---------------------------------------------------------------------------------
    PlantedFault(
        "turn not looked at",
        "sockets/attempts.py",
        "        if turn.owner is not self and not turn.take(self):",
        "        if False:",
        SOCKETS + "many_senders_on_one_stream_do_not_mix_their_bytes",
    ),
    PlantedFault(
        "turn not looked at by small sends",
        "sockets/attempts.py",
        "    return connection.send_at_once(data) if turn.owner is None else None",
        "    return connection.send_at_once(data)",
        STEPS + "nothing_is_sent_out_of_turn_and_the_turn_is_given_back",
    ),
    PlantedFault(
        "turn not given back",
        "sockets/attempts.py",
        "            self.must_wake = turn.give_back(self)",
        "            pass",
        STEPS + "nothing_is_sent_out_of_turn_and_the_turn_is_given_back",
    ),
    PlantedFault(
        "turn of a cancelled send kept",
        "sockets/asynchronous.py",
        "            self._link.act(sending.give_up)",
        "            pass",
        ASYNC + "a_cancelled_send_gives_its_turn_to_the_next_one",
    ),
    # -- ends ------------------------------------------------------------------------------------
    PlantedFault(
        "stream closed as if it were broken off",
        "sockets/socket_base.py",
        "        self.shutdown()",
        "        self.reset()",
        SOCKETS + "closing_is_the_end_of_the_stream_for_the_other_side_behind_all_that_was_sent",
    ),
    PlantedFault(
        "block that fails taken for the end of the stream",
        "sockets/vsock.py",
        "            self.reset()  # what is not whole must not look as if it were",
        "            self.close()",
        SOCKETS + "a_block_that_fails_breaks_the_connection_off_and_one_that_does_not_ends_it",
    ),
    PlantedFault(
        "message too long for a buffer lost",
        "sockets/attempts.py",
        "            self._kept = message",
        "            pass",
        SOCKETS + "a_message_that_is_too_long_for_a_buffer_stays_the_next_one",
    ),
    # -- the bridge --------------------------------------------------------------------------------
    PlantedFault(
        "end of one stream not carried over",
        "sockets/bridge.py",
        "                sink.send_end(relay.remaining())",
        "                pass",
        BRIDGE + "nothing_at_all_goes_through_as_nothing",
    ),
    PlantedFault(
        "break passed on as the end of a stream",
        "sockets/bridge.py",
        "        self.stream.reset()",
        "        self.stream.close()",
        BRIDGE + "a_channel_that_is_closed_resets_the_stream_behind_what_it_sent",
    ),
    PlantedFault(
        "refused send ends the other direction too",
        "sockets/bridge.py",
        "        if not isinstance(error, PeerClosed):",
        "        if True:",
        BRIDGE + "what_a_stream_sent_before_it_was_closed_reaches_a_channel_that_still_sends",
    ),
    PlantedFault(
        "thread that never ran is joined",
        "sockets/bridge.py",
        "    with suppress(RuntimeError):",
        "    with suppress():",
        BRIDGE + "a_service_that_gets_no_thread_says_so_and_ends_its_bridges[0]",
    ),
    # -- frames ------------------------------------------------------------------------------------
    PlantedFault(
        "rest of a frame not written",
        "sockets/frame_io.py",
        "        rest = rest[count:]",
        "        break",
        IO + "short_writes_go_on_until_all_is_written",
    ),
    PlantedFault(
        "frame that an error cut off not counted",
        "sockets/frame_io.py",
        "                unwritten = 1",
        "                unwritten = 0",
        IO + "a_write_error_begins_the_shutdown",
    ),
]
