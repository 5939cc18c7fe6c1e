"""Faults to plant in the making of images and in captures of rings: each a line of the shipped source, a wrong
one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_CRAFT_FAULTS"]

CRAFT = "inspection/test_craft.py::test_"
WITH_DATA = CRAFT + "a_ring_comes_back_to_the_byte_from_its_json_with_data"
LISTED = CRAFT + "without_data_it_comes_back_in_the_control_words_and_every_listed_packet"
SAME = CRAFT + "what_inspect_says_of_the_crafted_ring_is_what_it_said_of_the_first"
BY_HAND = CRAFT + "what_is_left_out_follows_from_the_rest"
REFUSED = CRAFT + "what_makes_no_sense_is_refused_with_its_path"
LACKING = "inspection/test_lacking_packets.py::test_"
FRAMES = "inspection/test_ring_capture.py::test_"
BACK = FRAMES + "a_capture_says_of_every_packet_what_inspect_said"
FRAME = FRAMES + "a_frame_is_its_header_and_the_packet_without_its_footer"
BAD_FRAME = FRAMES + "a_frame_that_contradicts_itself_is_refused"
IMAGE = "images/test_raw_image.py::test_"
MODEL = IMAGE + "the_file_is_what_a_model_has_at_every_address"
CONVERT = "cli/test_convert.py::test_"
COMMAND = "cli/test_craft.py::test_"

PLANTED_CRAFT_FAULTS = [
    # -- images of rings ---------------------------------------------------------------------------
    PlantedFault(
        "crafted packet that does not wrap",
        "inspection/craft_places.py",
        "        yield 0, data[size - at :], path",
        "        yield at, data[: size - at], path",
        LISTED,
    ),
    PlantedFault(
        "crafted footer that always names its own packet",
        "inspection/craft_packets.py",
        "        return self.body + FOOTER.pack(Footer(reserved, offset if value is None else value))",
        "        return self.body + FOOTER.pack(Footer(reserved, offset))",
        "inspection/test_craft.py::test_what_is_left_out_follows_from_the_rest",
    ),
    PlantedFault(
        "control words without a name forgotten",
        "inspection/craft_rings.py",
        "        words[int(key)] = others.number(key, most=WORD) or 0",
        "        words[int(key)] = 0",
        WITH_DATA,
    ),
    PlantedFault(
        "crafted data behind the smallest header whatever its size",
        "inspection/craft_rings.py",
        "    pieces += [(header_size + at, joined) for at, joined in joined_parts(parts, data_size)]",
        "    pieces += [(PAGE_SIZE + at, joined) for at, joined in joined_parts(parts, data_size)]",
        WITH_DATA,
    ),
    PlantedFault(
        "broken packet made of its parts",
        "inspection/craft_packets.py",
        "        return CraftedPacket(spec, offset, raw, None, len(raw))",
        "        return CraftedPacket(spec, offset, raw[:16], None, len(raw))",
        SAME,
    ),
    PlantedFault(
        "footer written where none is wanted",
        "inspection/craft_packets.py",
        '    if spec.value["footer"] is None:',
        '    if spec.value["footer"] is False:',
        BY_HAND,
    ),
    PlantedFault(
        "in that stays where out is",
        "inspection/craft_rings.py",
        "    words = control_page(control, end if given_in is None else given_in, out)",
        "    words = control_page(control, out if given_in is None else given_in, out)",
        BY_HAND,
    ),
    PlantedFault(
        "two statements about a byte, the second believed",
        "inspection/craft_places.py",
        "            if joined[at - begin : at - begin + common] != data[:common]:",
        "            if not joined:",
        REFUSED,
    ),
    PlantedFault(
        "value that contradicts the others passed over",
        "inspection/craft_values.py",
        "        if type(given) is not type(made) or given != made:",
        "        if type(given) is not type(made):",
        REFUSED,
    ),
    PlantedFault(
        "rings one behind the other whatever their addresses",
        "inspection/crafted_image.py",
        "    starts = {number: ring.address - lowest for number, ring in enumerate(rings) if ring.address is not None}",
        "    starts = dict.fromkeys([], lowest)",
        CRAFT + "rings_lie_as_far_apart_as_their_addresses_say",
    ),
    PlantedFault(
        "crafted image without a limit",
        "inspection/crafted_image.py",
        "    if size > LARGEST_CRAFTED:",
        "    if size > 2**63:",
        CRAFT + "a_document_that_makes_no_sense_is_refused",
    ),
    PlantedFault(
        "key of an object that stands there twice",
        "cli/craft_command.py",
        "            if key in document:",
        "            if key is None:",
        COMMAND + "what_makes_no_ring_is_refused_with_the_file_and_the_place_in_it",
    ),
    PlantedFault(
        "holes in a redirected standard output",
        "cli/craft_command.py",
        "    write_output(arguments.output, lambda stream: image.write(stream, holes=to_file))",
        "    write_output(arguments.output, lambda stream: image.write(stream))",
        COMMAND + "behind_what_stands_in_a_redirected_file_the_image_is_appended",
    ),
    PlantedFault(
        "pair of scattered rings in the order of the document",
        "inspection/crafted_image.py",
        "        return number if ring.pair is None else first_of[ring.pair], ring.is_inbound",
        "        return number, ring.is_inbound",
        CRAFT + "of_a_scattered_pair_the_outbound_ring_is_written_first",
    ),
    PlantedFault(
        "schema of a ring that stands alone passed over",
        "inspection/craft_rings.py",
        "    check_schema(value, path)",
        "    check_schema(None, path)",
        REFUSED,
    ),
    PlantedFault(
        "packet that is left out and not counted",
        "inspection/craft_rings.py",
        "        left_out=sum(packet.is_left_out for packet in (*consumed, *packets)),",
        "        left_out=sum(packet.is_left_out for packet in consumed),",
        LACKING + "what_is_made_of_it_has_zeros_there_and_counts_it",
    ),
    PlantedFault(
        "packet of which bytes are missing captured as a whole one",
        "inspection/conversion.py",
        "        original_length=original_length(packet),",
        "        original_length=None,",
        LACKING + "a_capture_has_what_there_is_of_it_and_says_that_it_is_not_whole",
    ),
    PlantedFault(
        "missing footer not counted in a capture",
        "inspection/ring_capture.py",
        "    return min(packet.available, max(packet.packet_size, DESCRIPTOR_SIZE))",
        "    return min(packet.available, max(packet.packet_size - FOOTER_SIZE, DESCRIPTOR_SIZE))",
        LACKING + "also_one_whose_footer_alone_is_missing_is_not_captured_whole",
    ),
    # -- captures of rings -------------------------------------------------------------------------
    PlantedFault(
        "frame of a ring that carries its footer",
        "inspection/ring_capture.py",
        "        return packet.raw if packet.footer is None else packet.raw[:-FOOTER_SIZE]",
        "        return packet.raw",
        BACK,
    ),
    PlantedFault(
        "direction of frames turned around",
        "inspection/capture_layout.py",
        "    INBOUND = 1",
        "    INBOUND = 3",
        FRAMES + "a_ring_is_an_interface_and_its_pipe_is_another_and_flags_tell_the_direction",
    ),
    PlantedFault(
        "footer of a frame forgotten",
        "inspection/ring_capture.py",
        '        return self.header.footer if self.header.flags & FrameFlags.HAS_FOOTER else b""',
        '        return bytes(8) if self.header.flags & FrameFlags.HAS_FOOTER else b""',
        BACK,
    ),
    PlantedFault(
        "bytes up to in not told in a frame",
        "inspection/ring_capture.py",
        "        available=packet.available,",
        "        available=len(data) + len(footer),",
        BACK,
    ),
    PlantedFault(
        "frame whose size is not compared",
        "inspection/ring_capture.py",
        "    if known != header.packet_size:",
        "    if known < 0:",
        BAD_FRAME,
    ),
    PlantedFault(
        "frame with surplus bytes believed",
        "inspection/ring_capture.py",
        "    if report.shown_bytes != header.packet_size or bool(report.footer) != bool(frame.footer):",
        "    if bool(report.footer) != bool(frame.footer):",
        BAD_FRAME,
    ),
    PlantedFault(
        "one interface for all rings",
        "inspection/conversion.py",
        "        key = interface, link_type",
        "        key = CaptureInterface(), link_type",
        FRAMES + "a_ring_is_an_interface_and_its_pipe_is_another_and_flags_tell_the_direction",
    ),
    PlantedFault(
        "length of a tag without its padding",
        "inspection/pipe_capture.py",
        "    return TAG.pack(tag, len(padded)) + padded",
        "    return TAG.pack(tag, len(value)) + padded",
        FRAMES + "what_goes_through_a_pipe_is_an_exported_pdu_behind_its_packet",
    ),
    # -- raw images --------------------------------------------------------------------------------
    PlantedFault(
        "raw image that always begins at address 0",
        "images/raw_image.py",
        "        data, offset = bytes(piece), address - start",
        "        data, offset = bytes(piece), address",
        IMAGE + "a_part_begins_at_its_start",
    ),
    PlantedFault(
        "page taken for zeros by its first half",
        "images/sparse.py",
        "        if page != ZERO_PAGE[: stop - at]:",
        "        if page[:2048].strip(b'\\0'):",
        IMAGE + "stretches_cover_every_byte_that_is_not_zero",
    ),
    PlantedFault(
        "memory that is missing read as zeros in silence",
        "images/raw_image.py",
        "    for address, piece in dump.pieces(start, end, on_missing=missing.add):",
        "    for address, piece in dump.pieces(start, end):",
        CONVERT + "what_an_image_lacks_is_told_with_its_addresses_and_the_status_is_1",
    ),
    PlantedFault(
        "raw image that ends with its last stored byte",
        "images/raw_image.py",
        "    writer.finish(size)",
        "    writer.finish(writer._at)",
        MODEL,
    ),
    PlantedFault(
        "raw image of any size",
        "images/raw_image.py",
        "    if last - start > LARGEST_RAW_IMAGE:",
        "    if last < start:",
        IMAGE + "an_image_that_reaches_too_far_is_refused_before_anything_is_written",
    ),
]
