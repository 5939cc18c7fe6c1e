"""Faults to plant in what finds control pages and messages: each a line of the shipped source, a wrong one, and
who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_FINDER_FAULTS"]

GUID = "layout/test_guid.py::test_"
CLASSES = "protocols/test_device_classes.py::test_"
WIRE = "protocols/test_channel_messages.py::test_"
PAGES = "inspection/test_control_page_finder.py::test_"
MESSAGES = "inspection/test_message_finder.py::test_"
INDEX = "inspection/test_gpadl_index.py::test_"

ANY_PAGES = PAGES + "in_any_memory_those_are_found_that_a_look_at_every_word_finds"
PIECES = MESSAGES + "memory_in_pieces_gives_each_message_once_as_the_whole_gives_it"
LOOKALIKE = MESSAGES + "a_lookalike_is_not_found"
RIGHT = INDEX + "rings_are_right_or_left_out_whatever_is_lost_and_in_whatever_order"

PLANTED_FINDER_FAULTS = [
    # -- GUIDs and classes -------------------------------------------------------------------------
    PlantedFault(
        "GUID whose first groups are big-endian in memory",
        "layout/guid.py",
        '_IN_MEMORY = struct.Struct("<LHH8s")',
        '_IN_MEMORY = struct.Struct(">LHH8s")',
        GUID + "bytes_and_text_say_what_the_standard_library_says",
    ),
    PlantedFault(
        "GUID with spaces among its digits",
        "layout/guid.py",
        "            if digits.isalnum():  # fromhex() would skip spaces",
        "            if True:",
        GUID + "another_text_is_refused_and_quoted",
    ),
    PlantedFault(
        "port of a service read the other way round",
        "protocols/device_classes.py",
        '    return int.from_bytes(service.wire[:_PORT_SIZE], "little")',
        '    return int.from_bytes(service.wire[:_PORT_SIZE], "big")',
        CLASSES + "the_guid_of_a_service_begins_with_its_port_and_leads_back",
    ),
    PlantedFault(
        "class known only by its own name",
        "protocols/device_classes.py",
        "_BY_NAME = {name: one for one in DEVICE_CLASSES for name in (one.name, *one.other_names)}",
        "_BY_NAME = {name: one for one in DEVICE_CLASSES for name in (one.name,)}",
        CLASSES + "every_other_name_leads_to_its_class_and_no_name_is_taken_twice",
    ),
    # -- messages ----------------------------------------------------------------------------------
    PlantedFault(
        "message a byte too short",
        "protocols/channel_messages.py",
        "    if length < size:",
        "    if length < size - 1:",
        WIRE + "a_message_that_is_one_byte_short_is_refused",
    ),
    PlantedFault(
        "ranges up to the end of the message",
        "protocols/channel_messages.py",
        "    return header, message[GPADL_HEADER.size : GPADL_HEADER.size + length]",
        "    return header, message[GPADL_HEADER.size :]",
        WIRE + "the_ranges_of_a_gpadl_header_end_where_it_says",
    ),
    # -- control pages -----------------------------------------------------------------------------
    PlantedFault(
        "piece taken to start with a page",
        "inspection/control_page_finder.py",
        "    first = -address % PAGE_SIZE",
        "    first = 0",
        ANY_PAGES,
    ),
    PlantedFault(
        "rest of the page not looked at",
        "inspection/control_page_finder.py",
        "    if not has_shape(control) or page[CONTROL_SIZE:].tobytes() != ZEROS:",
        "    if not has_shape(control):",
        PAGES + "a_page_with_another_shape_is_not_found",
    ),
    PlantedFault(
        "offsets up to 2**32",
        "inspection/control_page_finder.py",
        "        and is_offset(MAXIMUM_DATA_SIZE, control.out_offset)",
        "        and control.out_offset % 8 == 0",
        PAGES + "a_page_with_another_shape_is_not_found",
    ),
    PlantedFault(
        "page without a feature bit passed over",
        "inspection/control_page_finder.py",
        "        if features <= 1 and (indices or features) and not indices & NEVER_IN_OFFSETS",
        "        if features == 1 and not indices & NEVER_IN_OFFSETS",
        PAGES + "a_page_with_the_shape_is_found_among_zeros_and_noise",
    ),
    PlantedFault(
        "masked ring taken for one that was never used",
        "inspection/control_page_finder.py",
        "    used = control.in_offset or control.out_offset or control.interrupt_mask or control.pending_send_size",
        "    used = control.in_offset or control.out_offset or control.pending_send_size",
        PAGES + "a_page_with_the_shape_is_found_among_zeros_and_noise",
    ),
    # -- finding messages --------------------------------------------------------------------------
    PlantedFault(
        "end of a piece not kept",
        "inspection/message_finder.py",
        "        self._kept = data[whole:]",
        '        self._kept = b""',
        PIECES,
    ),
    PlantedFault(
        "end of a piece looked at twice",
        "inspection/message_finder.py",
        "        whole = max(0, len(data) - LARGEST_MESSAGE + WORD) & -WORD",
        "        whole = max(0, len(data)) & -WORD",
        PIECES,
    ),
    PlantedFault(
        "message joined over a hole",
        "inspection/message_finder.py",
        "        found = self.finish() if address != self._end else []",
        "        found = []",
        MESSAGES + "memory_behind_a_hole_is_not_taken_for_the_end_of_what_was_before",
    ),
    PlantedFault(
        "places counted from the piece instead of the address",
        "inspection/message_finder.py",
        "        skipped = -start % WORD",
        "        skipped = 0",
        MESSAGES + "only_the_address_of_a_message_counts_and_not_where_its_piece_starts",
    ),
    PlantedFault(
        "lookalikes without end",
        "inspection/message_finder.py",
        "            if self._last_count <= MOST_PLACES_A_PAGE:",
        "            if True:",
        MESSAGES + "of_a_page_full_of_lookalikes_only_so_many_are_looked_at_and_the_page_is_counted",
    ),
    PlantedFault(
        "offer between two 64-bit words missed",
        "inspection/message_places.py",
        "    found += [at * WORD + WORD // 2 for at in offers(between, column_between)]",
        "    pass",
        MESSAGES + "a_message_is_found_at_every_multiple_of_8_and_an_offer_halfway_too",
    ),
    PlantedFault(
        "last message of memory missed",
        "inspection/message_places.py",
        "    if len(data) < end + LOOKED_AT:",
        "    if len(data) < end:",
        MESSAGES + "any_bytes_give_messages_that_lie_in_them_in_order_and_nothing_else",
    ),
    PlantedFault(
        "any class believed",
        "inspection/message_finder.py",
        "        and ((class_id.is_usual and class_id.version == 4) or device_class(class_id) is not None)",
        "        and True",
        LOOKALIKE,
    ),
    PlantedFault(
        "three small numbers taken for an opening",
        "inspection/message_finder.py",
        "        and (opening.open_id == opening.relid or not any(opening.user_data))",
        "        and True",
        LOOKALIKE,
    ),
    PlantedFault(
        "byte count that is not that of the pages",
        "inspection/message_finder.py",
        "    if header.range_count == 1 and (first.byte_offset or first.byte_count != listed * PAGE_SIZE):",
        "    if header.range_count == 1 and first.byte_offset:",
        LOOKALIKE,
    ),
    PlantedFault(
        "pages that no memory has",
        "inspection/message_finder.py",
        "    return len(numbers) == in_message and all(0 < number < LARGEST_PAGE for number in numbers)",
        "    return len(numbers) == in_message",
        LOOKALIKE,
    ),
    PlantedFault(
        "header cut off by the end of memory",
        "inspection/message_finder.py",
        "    return len(numbers) == in_message and all(0 < number < LARGEST_PAGE for number in numbers)",
        "    return all(0 < number < LARGEST_PAGE for number in numbers)",
        MESSAGES + "a_message_is_found_as_long_as_no_byte_of_it_is_missing",
    ),
    PlantedFault(
        "zeros behind a body taken for its pages",
        "inspection/message_finder.py",
        "    return rest[: count * PAGE_NUMBER_SIZE]",
        "    return rest[: len(rest) // 8 * 8]",
        MESSAGES + "a_body_ends_before_the_first_number_that_is_no_page",
    ),
    # -- putting lists together --------------------------------------------------------------------
    PlantedFault(
        "bodies taken as they come",
        "inspection/join_page_list.py",
        "    return before is not None and len(body.pages) >= length and body.pages[0] == before + 1",
        "    return len(body.pages) >= length",
        "inspection/test_gpadl_index.py::test_the_rings_of_a_linux_guest_are_put_together_whatever_their_size[False-82]",
    ),
    PlantedFault(
        "number of a body ignored",
        "inspection/join_page_list.py",
        "    if numbered:",
        "    if False:",
        INDEX + "scattered_pages_in_numbered_bodies_are_put_together_from_any_order",
    ),
    PlantedFault(
        "body with what lay behind it taken for another body",
        "inspection/join_page_list.py",
        "        left = {one.pages[:length] for one in bodies if len(one.pages) >= length}",
        "        left = {one.pages for one in bodies if len(one.pages) >= length}",
        INDEX + "a_body_is_the_same_whatever_lies_behind_its_last_page",
    ),
    PlantedFault(
        "last body left out where pages are scattered",
        "inspection/join_page_list.py",
        "    if len(placed) == len(lengths) - 1:",
        "    if False:",
        INDEX + "scattered_pages_are_put_together_where_at_most_one_body_is_needed",
    ),
    PlantedFault(
        "page that is not known, left out of the middle of a ring",
        "inspection/gpadl_index.py",
        "    return known if len(known) == len(pages) else ()",
        "    return known",
        RIGHT,
    ),
    PlantedFault(
        "second ring without room for data",
        "inspection/gpadl_index.py",
        "            if offset > len(one.pages) - 2:",
        "            if offset > len(one.pages) - 1:",
        INDEX + "the_second_ring_starts_inside_the_list_with_room_for_a_page_of_data",
    ),
    PlantedFault(
        "one of two devices believed",
        "inspection/gpadl_index.py",
        "    return next(iter(values)) if len(values) == 1 else None",
        "    return next(iter(values))",
        INDEX + "of_two_devices_with_the_same_relid_only_what_they_share_is_said",
    ),
    PlantedFault(
        "versions without end",
        "inspection/gpadl_index.py",
        "        if len(kept) >= MOST_OF_A_KIND:",
        "        if False:",
        INDEX + "of_one_thing_four_versions_are_kept_and_the_others_counted",
    ),
]
