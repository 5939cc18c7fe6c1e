"""Faults to plant in the network device, its frames and their poll loop: each a line of the shipped
source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_NETWORK_FAULTS"]

LAYOUT = "virtio/test_network_layout.py::test_"
FRAMES = "virtio/test_frame_queues.py::test_"
DEVICE = "virtio/test_network_device.py::test_"
CLASSIFIER = "virtio/test_classifier.py::test_"
NEAR = CLASSIFIER + "a_packet_with_lengths_near_the_truth_has_an_answer"
STREAM = "virtio/test_frame_stream.py::test_"
QUEUES = "virtio/test_network_queues.py::test_"
ANY_CHAINS = QUEUES + "any_chains_are_used_once_with_a_length_that_fits_or_the_queue_is_broken"
ANY_ANSWERS = QUEUES + "any_answers_of_a_device_give_the_frames_of_a_slow_driver_or_a_peer_error"
LIES = QUEUES + "what_a_device_cannot_say_is_a_peer_error_for_good"
WAKES = "sockets/test_wakes.py::test_"
IO = "sockets/test_frame_io.py::test_"
LOOP = "sockets/test_network_loop.py::test_"

PLANTED_NETWORK_FAULTS = [
    # -- headers -----------------------------------------------------------------------------------
    PlantedFault(
        "header of 10 bytes for a legacy device that merges",
        "virtio/network_layout.py",
        "    if features & (VERSION_1 | MRG_RXBUF):",
        "    if features & VERSION_1:",
        LAYOUT + "the_features_decide_the_size_of_the_header",
    ),
    PlantedFault(
        "hash header although tunnels make it larger",
        "virtio/network_layout.py",
        "    if features & TUNNELS:",
        "    if features & TUNNELS and not features & HASH_REPORT:",
        LAYOUT + "the_features_decide_the_size_of_the_header",
    ),
    PlantedFault(
        "padding of the hash left out",
        "virtio/network_layout.py",
        "        Padding(2),  # le16 padding_reserved",
        "",
        LAYOUT + "every_size_has_its_header",
    ),
    # -- frame queues ------------------------------------------------------------------------------
    PlantedFault(
        "shutdown that forgets the relay",
        "virtio/frame_queues.py",
        "        for wake in (self.guest_wake, self.host_wake, self.relay_wake, *self._at_shutdown):",
        "        for wake in (self.guest_wake, self.host_wake, *self._at_shutdown):",
        FRAMES + "a_shutdown_is_sticky_and_wakes_all_three",
    ),
    # -- device ------------------------------------------------------------------------------------
    PlantedFault(
        "no back-pressure",
        "virtio/network_device.py",
        "        return None if self._outgoing.is_full else TxToken(self)",
        "        return TxToken(self)",
        DEVICE + "transmit_is_refused_while_the_way_to_the_guest_is_full",
    ),
    PlantedFault(
        "token for any number of frames",
        "virtio/network_device.py",
        "        device, self._device = self._device, None",
        "        device = self._device",
        DEVICE + "a_tx_token_sends_once",
    ),
    PlantedFault(
        "MTU without the Ethernet header",
        "virtio/network_device.py",
        "        return DeviceCapabilities(Medium.ETHERNET, self.mtu + ETHERNET_HEADER_SIZE)",
        "        return DeviceCapabilities(Medium.ETHERNET, self.mtu)",
        DEVICE + "a_frame_is_as_long_as_the_mtu_and_an_ethernet_header",
    ),
    # -- classifier --------------------------------------------------------------------------------
    PlantedFault(
        "no check of the IPv4 packet against the frame",
        "virtio/classifier.py",
        "    if not IPV4_SIZE <= header_length <= total_length <= available:",
        "    if not IPV4_SIZE <= header_length <= total_length:",
        "virtio/test_classifier.py::test_what_is_not_long_enough_passes_through",
    ),
    PlantedFault(
        "no check that a UDP header is there",
        "virtio/classifier.py",
        "    return available >= UDP_SIZE and UDP_SIZE <= number(frame, start + UDP_LENGTH) <= available",
        "    return UDP_SIZE <= number(frame, start + UDP_LENGTH) <= max(available, 8)",
        NEAR,
    ),
    PlantedFault(
        "fabric behind the protocols",
        "virtio/classifier.py",
        "    if fabric_index is not None and destination[:2] == FABRIC_NETWORK and len(destination) == 4:",
        "    if fabric_index is not None and destination[:2] == FABRIC_NETWORK and protocol == TCP:",
        CLASSIFIER + "the_fabric_comes_first_whatever_the_protocol",
    ),
    PlantedFault(
        "fabric of IPv6",
        "virtio/classifier.py",
        "    if fabric_index is not None and destination[:2] == FABRIC_NETWORK and len(destination) == 4:",
        "    if fabric_index is not None and destination[:2] == FABRIC_NETWORK:",
        CLASSIFIER + "the_fabric_is_of_ipv4_alone",
    ),
    PlantedFault(
        "any name server taken for the local one",
        "virtio/classifier.py",
        "        if target.port == DNS_PORT and destination in gateways:",
        "        if target.port == DNS_PORT:",
        CLASSIFIER + "a_syn_to_the_local_name_server_is_not_relayed",
    ),
    # -- stream ------------------------------------------------------------------------------------
    PlantedFault(
        "length of 0 let through",
        "virtio/frame_stream.py",
        "            if not PREFIX.size < wanted <= PREFIX.size + LARGEST_STREAM_FRAME:",
        "            if not wanted <= PREFIX.size + LARGEST_STREAM_FRAME:",
        STREAM + "a_length_that_cannot_be_is_refused_as_soon_as_it_is_there",
    ),
    PlantedFault(
        "end inside a length taken for a clean one",
        "virtio/frame_stream.py",
        "        if not self._part or (self._clean_in_prefix and len(self._part) < PREFIX.size):",
        "        if len(self._part) < PREFIX.size:",
        STREAM + "an_end_inside_a_frame_is_an_error",
    ),
    # -- backend -----------------------------------------------------------------------------------
    PlantedFault(
        "frame of any length copied from the guest",
        "virtio/network_backend.py",
        "        if not 1 <= length <= self.largest_frame:",
        "        if not 1 <= length:",
        QUEUES + "the_largest_frame_from_the_guest_is_taken_and_one_more_byte_is_not",
    ),
    PlantedFault(
        "frame with half a checksum handed on",
        "virtio/network_backend.py",
        "        if data[self._flags_offset] & NEEDS_CSUM or data[self._gso_offset] != NO_GSO:",
        "        if data[self._gso_offset] != NO_GSO:",
        QUEUES + "a_chain_without_a_frame_is_given_back_and_counted_and_the_next_one_goes",
    ),
    PlantedFault(
        "num_buffers always 1",
        "virtio/network_backend.py",
        "            header = header._replace(num_buffers=buffers)",
        "            header = header._replace(num_buffers=1)",
        QUEUES + "all_chains_but_the_last_are_filled_and_only_the_first_has_a_header",
    ),
    PlantedFault(
        "frame that waits for ever in a queue of small chains",
        "virtio/network_backend.py",
        "                return self._drop() if never else Outcome.WAIT",
        "                return Outcome.WAIT",
        QUEUES + "a_frame_larger_than_a_whole_queue_of_buffers_is_dropped",
    ),
    PlantedFault(
        "room for the frame without its header",
        "virtio/network_backend.py",
        "            if room >= self._header_size + len(frame):",
        "            if room >= len(frame):",
        QUEUES + "all_chains_but_the_last_are_filled_and_only_the_first_has_a_header",
    ),
    # -- driver ------------------------------------------------------------------------------------
    PlantedFault(
        "used length below the header",
        "virtio/network_driver.py",
        "        if length <= self._header_size:",
        "        if False:",
        ANY_ANSWERS,
    ),
    PlantedFault(
        "any number of buffers believed",
        "virtio/network_driver.py",
        "        if count > self.rx.queue_size:",
        "        if False:",
        LIES,
    ),
    PlantedFault(
        "frame of 0 buffers",
        "virtio/network_driver.py",
        "        if not count:",
        "        if False:",
        LIES,
    ),
    PlantedFault(
        "merged frame of any length",
        "virtio/network_driver.py",
        "        if length > LARGEST_MERGED_FRAME:",
        "        if False:",
        QUEUES + "the_parts_of_a_frame_never_grow_beyond_the_largest_frame",
    ),
    PlantedFault(
        "num_buffers heeded without merging",
        "virtio/network_driver.py",
        "        count = header.num_buffers if self._mergeable else 1",
        "        count = header.num_buffers",
        QUEUES + "num_buffers_means_nothing_without_merging",
    ),
    PlantedFault(
        "header of the last frame sent again",
        "virtio/network_driver.py",
        "            data[:size] = self._empty_header",
        "            pass",
        QUEUES + "a_place_that_was_used_leaves_nothing_in_the_next_header",
    ),
    PlantedFault(
        "device that never stops is followed for ever",
        "virtio/network_driver.py",
        "        for completion in islice(self.rx.completions(), self.rx.queue_size):",
        "        for completion in islice(self.rx.completions(), 50):",
        QUEUES + "one_call_receives_at_most_a_queue_full_from_a_device_that_never_stops",
    ),
    PlantedFault(
        "lie that is forgotten",
        "virtio/network_driver.py",
        "        self._look()  # at what an interrupt has left, or once more at what cannot be",
        "        pass",
        LIES,
    ),
    # -- wakes, streams, loop ----------------------------------------------------------------------
    PlantedFault(
        "share that closes for all",
        "sockets/wakes.py",
        "        if last:",
        "        if True:",
        WAKES + "a_share_lives_on_when_the_first_is_closed",
    ),
    PlantedFault(
        "writer that drops what is queued at a shutdown",
        "sockets/frame_io.py",
        "            while len(waiting) or not queues.is_shutting_down():",
        "            while not queues.is_shutting_down():",
        IO + "what_is_queued_at_a_shutdown_is_written_first",
    ),
    PlantedFault(
        "frame that stays staged",
        "sockets/network_loop.py",
        "            self.device.drop_staged_frame()",
        "            pass",
        LOOP + "a_frame_that_the_stack_does_not_take_is_dropped_and_offered_once",
    ),
    PlantedFault(
        "writer woken although nothing was emitted",
        "sockets/network_loop.py",
        "        if self.device.take_frames_emitted():",
        "        if True:",
        LOOP + "a_round_does_everything_in_order",
    ),
    PlantedFault(
        "guest that never stops keeps the rest from being done",
        "sockets/network_loop.py",
        "        for _ in range(self.queues.guest_to_host.capacity):",
        "        for _ in range(50):",
        LOOP + "one_round_takes_no_more_frames_than_the_queue_holds",
    ),
    PlantedFault(
        "buffer forgotten that an interrupt left",
        "virtio/network_driver.py",
        "        self._look()  # at what an interrupt has left, or once more at what cannot be",
        "        pass",
        "virtio/test_interrupted.py::test_a_frame_whose_receiving_was_interrupted_comes_with_the_next_call",
    ),
    PlantedFault(
        "buffer in the queue that its owner can change",
        "virtio/frame_queues.py",
        '                frame if isinstance(frame, bytes) else view_bytes(frame, "frame").tobytes()',
        "                frame",
        FRAMES + "a_buffer_that_is_pushed_is_copied_and_given_back_itself_when_there_is_no_room",
    ),
]
