"""Faults to plant in vsock packets and their captures: each a line of the shipped source, a wrong one,
and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_VSOCK_FAULTS"]

PACKET = "virtio/test_vsock_packet.py::test_"
FUZZ = "virtio/test_vsock_packet.py::TestPacketUnderAHostileGuest::runTest"
ORDER = PACKET + "of_two_broken_rules_the_first_is_reported"
REFUSED = PACKET + "a_chain_that_holds_no_packet_is_refused_with_its_rule_and_descriptor"
SLOW_RX = PACKET + "an_rx_chain_has_the_room_that_a_slow_reader_finds"
PCAPNG = "inspection/test_to_pcapng.py::test_"
CONVERT = "cli/test_convert.py::test_"
SLOW = PACKET + "a_tx_chain_holds_what_a_slow_reader_finds"

PLANTED_VSOCK_FAULTS = [
    # -- one look at the header --------------------------------------------------------------------
    PlantedFault(
        "getter that reads the guest's memory again",
        "virtio/vsock_packet.py",
        "        return self._src_port",
        "        return VSOCK_HEADER.unpack(self._view).src_port",
        FUZZ,
    ),
    PlantedFault(
        "flag added to what the guest wrote",
        "virtio/vsock_packet.py",
        "        return self.set_flags(self._flags | flag)",
        "        return self.set_flags(VSOCK_HEADER.unpack(self._view).flags | flag)",
        FUZZ,
    ),
    PlantedFault(
        "new packet that believes its buffer",
        "virtio/vsock_packet.py",
        '        return cls(view, None if data is None else view_bytes(data, "data"), ZERO_HEADER)',
        '        return cls(view, None if data is None else view_bytes(data, "data"), unpack_header(view))',
        FUZZ,
    ),
    PlantedFault(
        "setter that forgets the private copy",
        "virtio/vsock_packet.py",
        "        self._buf_alloc = buf_alloc",
        "        pass",
        FUZZ,
    ),
    PlantedFault(
        "number that does not fit, stored in part",
        "virtio/vsock_packet.py",
        "        if not 0 <= value <= field.largest:  # first: struct stores parts of what does not fit",
        "        if not 0 <= value:",
        PACKET + "each_setter_takes_what_its_field_holds_and_nothing_else[src_cid]",
    ),
    # -- the checks of a chain ---------------------------------------------------------------------
    PlantedFault(
        "length of the head judged before its direction",
        "virtio/vsock_chain.py",
        "    check_readable(head)",
        "    header_of(memory, head), check_readable(head)",
        ORDER + "[tx direction before length]",
    ),
    PlantedFault(
        "missing descriptor noticed before the header's length",
        "virtio/vsock_chain.py",
        "    if length > max_data_size:",
        "    if length > max_data_size and head.length >= HEADER_SIZE + length:",
        ORDER + "[tx header's length before a missing descriptor]",
    ),
    PlantedFault(
        "data as long as its descriptor",
        "virtio/vsock_chain.py",
        "    return header, view_of(memory, second, second.address, length), values",
        "    return header, view_of(memory, second, second.address, second.length), values",
        SLOW,
    ),
    PlantedFault(
        "data behind the header although there is a second descriptor",
        "virtio/vsock_chain.py",
        "    check_readable(second)",
        "    if head.length - HEADER_SIZE >= length: return header, view_behind_header(memory, head, length), values",
        PACKET + "tx_takes_as_much_of_the_second_descriptor_as_the_header_says",
    ),
    PlantedFault(
        "most data applied to a descriptor that holds the header too",
        "virtio/vsock_chain.py",
        "        return header, view_behind_header(memory, head, room)",
        "        return header, view_behind_header(memory, head, min(room, max_data_size))",
        SLOW_RX,
    ),
    PlantedFault(
        "packet of exactly the most data refused",
        "virtio/vsock_chain.py",
        "    if length > max_data_size:",
        "    if length >= max_data_size:",
        PACKET + "tx_takes_payload_of_up_to_the_most",
    ),
    PlantedFault(
        "header and data in one descriptor refused",
        "virtio/vsock_chain.py",
        "        if head.flags & NEXT or head.length - HEADER_SIZE < length:",
        "        if True:",
        PACKET + "tx_takes_header_and_data_in_one_descriptor",
    ),
    PlantedFault(
        "header over a region's end taken for one outside",
        "virtio/vsock_chain.py",
        "        memory.check_range(address, 1)",
        "        memory.check_range(address, length)",
        REFUSED + "[S28 tx, header over the end]",
    ),
    PlantedFault(
        "room in memory that can only be read",
        "virtio/vsock_chain.py",
        "    if view.readonly:",
        "    if False:",
        PACKET + "room_in_memory_that_can_only_be_read_is_the_guests_fault",
    ),
    # -- captures ----------------------------------------------------------------------------------
    PlantedFault(
        "payload of a capture always behind 76 bytes",
        "virtio/vsock_capture.py",
        "    payload_offset = VSOCKMON.size + capture.length",
        "    payload_offset = VSOCKMON.size + VSOCK_HEADER.size",
        "virtio/test_vsock_capture.py::test_any_bytes_are_a_record_or_too_short",
    ),
    PlantedFault(
        "pcapng block that is not padded",
        "inspection/to_pcapng.py",
        "        padding = bytes(padded_size(len(data)) - len(data))",
        '        padding = b""',
        PCAPNG + "a_pcapng_file_is_a_section_an_interface_and_packets_to_the_byte",
    ),
    PlantedFault(
        "interfaces of the section before",
        "inspection/from_pcapng.py",
        "                self.interfaces = []",
        "                pass",
        PCAPNG + "every_section_has_its_own_byte_order_and_interfaces",
    ),
    PlantedFault(
        "packet that reaches out of its block",
        "inspection/from_pcapng.py",
        "        if length > end - place:",
        "        if False:",
        PCAPNG + "a_broken_file_is_refused_with_the_place[packet longer than its block]",
    ),
    PlantedFault(
        "packet of an interface that nobody described",
        "inspection/from_pcapng.py",
        "        if number >= len(self.interfaces):",
        "        if number > len(self.interfaces):",
        PCAPNG + "any_bytes_are_packets_or_a_dump_error",
    ),
    PlantedFault(
        "microseconds taken for nanoseconds",
        "inspection/from_pcapng.py",
        "USUAL_RESOLUTION = 6",
        "USUAL_RESOLUTION = 9",
        PCAPNG + "an_interface_says_what_its_times_mean[none]",
    ),
    # -- vmbus convert -----------------------------------------------------------------------------
    PlantedFault(
        "footer in a frame",
        "inspection/ring_capture.py",
        "        return packet.raw if packet.footer is None else packet.raw[:-FOOTER_SIZE]",
        "        return packet.raw",
        CONVERT + "of_a_broken_ring_all_there_is_is_converted_and_the_status_is_1",
    ),
    PlantedFault(
        "half of a file left behind",
        "cli/output_file.py",
        "                os.unlink(part)",
        "                pass",
        CONVERT + "a_file_is_replaced_whole_or_stays_as_it_was",
    ),
    PlantedFault(
        "input that is overwritten",
        "cli/output_file.py",
        "    if stat.S_ISREG(written.st_mode) and os.path.samestat(read, written):",
        "    if given == path:",
        CONVERT + "a_file_is_never_converted_into_itself",
    ),
    PlantedFault(
        "signals that are left as they were",
        "cli/output_file.py",
        "                    before[number] = signal.signal(number, leave)",
        "                    pass",
        CONVERT + "a_signal_that_ends_the_command_leaves_no_half_file[new-SIGTERM]",
    ),
    PlantedFault(
        "cut off capture of which nothing is written",
        "inspection/vsock_conversion.py",
        "                if on_break is None or not count:",
        "                if True:",
        CONVERT + "of_a_capture_that_is_cut_off_the_packets_before_are_written[pcap, in a record-raw]",
    ),
    PlantedFault(
        "wrong queue of which nothing is said",
        "inspection/queue_report.py",
        "    look.findings.add(look.uses.check(vsock, waiting=True))",
        "    pass",
        "inspection/test_vsock_report.py::test_a_queue_with_nothing_to_write_to_is_asked_whether_it_is_tx[rx-split]",
    ),
    PlantedFault(
        "first half of a broken capture printed",
        "cli/output_file.py",
        "        produce(io.BufferedWriter(Nowhere()))",
        "        pass",
        CONVERT + "a_capture_that_is_not_whole_gives_nothing",
    ),
    PlantedFault(
        "packets of other link types taken for vsock",
        "inspection/vsock_conversion.py",
        "            if packet.link_type != LINKTYPE_VSOCK:",
        "            if False:",
        CONVERT + "packets_of_other_link_types_are_passed_over",
    ),
]
