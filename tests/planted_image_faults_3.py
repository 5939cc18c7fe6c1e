"""Faults to plant in the loaders of Windows crash dumps and of Hyper-V's saved states: each a line of the shipped
source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_IMAGE_FAULTS_3"]

DMP = "images/test_load_dmp.py::test_"
STORAGE = "images/test_hyperv_storage.py::test_"
VMRS = "images/test_load_vmrs.py::test_"
XPRESS = "images/test_xpress.py::test_"
CONTEXT = "images/test_vmbus_context.py::test_"

PLANTED_IMAGE_FAULTS_3 = [
    # -- compressed memory -------------------------------------------------------------------------
    PlantedFault(
        "second half byte of a length forgotten",
        "images/xpress.py",
        "                length, half = data[half] >> 4, -1",
        "                length, half = data[half] & 15, -1",
        XPRESS + "tokens_of_every_length_and_distance_expand_to_what_they_mean",
    ),
    PlantedFault(
        "length of 32 bits not read",
        "images/xpress.py",
        "    if not length:",
        "    if length < 0:",
        "images/test_xpress.py::test_what_no_writer_makes_is_refused_by_name",
    ),
    PlantedFault(
        "match that overlaps itself copied once",
        "images/xpress.py",
        "    if length <= distance:",
        "    if length <= 2 * distance:",
        XPRESS + "the_known_streams_expand_to_the_known_bytes",
    ),
    PlantedFault(
        "match that is not cut where enough was expanded",
        "images/xpress.py",
        "        done = repeat(out, (token >> 3) + 1, min(length + SHORTEST_MATCH, size - done))",
        "        done = repeat(out, (token >> 3) + 1, length + SHORTEST_MATCH)",
        XPRESS + "a_stream_is_expanded_up_to_what_was_asked_for_and_refused_where_it_has_less",
    ),
    PlantedFault(
        "match before the first byte",
        "images/xpress.py",
        "    if start < 0:",
        "    if start < -9:",
        XPRESS + "what_no_writer_makes_is_refused_by_name",
    ),
    PlantedFault(
        "block larger than 1 MiB",
        "images/xpress.py",
        "    if length > size - len(out):",
        "    if length > 2 * size:",
        XPRESS + "a_block_that_no_writer_makes_is_refused_by_name",
    ),
    PlantedFault(
        "half a page kept before damage",
        "images/xpress.py",
        "        done = bytes(out[: len(out) // PAGE_SIZE * PAGE_SIZE])",
        "        done = bytes(out[:8])",
        XPRESS + "damage_leaves_the_pages_before_it",
    ),
    # -- Windows crash dumps -----------------------------------------------------------------------
    PlantedFault(
        "every run at the first page",
        "images/load_dmp.py",
        "        offset += count * PAGE_SIZE",
        "        offset += 0",
        DMP + "a_full_dump_by_its_recipe",
    ),
    PlantedFault(
        "lowest bit of a byte last",
        "images/dmp_bitmap.py",
        '        bits = int.from_bytes(data, "little")',
        '        bits = int.from_bytes(data, "big")',
        DMP + "a_bitmap_dump_by_its_recipe",
    ),
    PlantedFault(
        "pages of the blocks before not counted",
        "images/dmp_bitmap.py",
        "        return self._counts[block] + (self._number & ((1 << bit) - 1)).bit_count()",
        "        return (self._number & ((1 << bit) - 1)).bit_count()",
        DMP + "what_was_written_is_read[5]",
    ),
    PlantedFault(
        "bits of a Windows dump behind the last page counted",
        "images/dmp_bitmap.py",
        "        return bits if pages >= BLOCK_PAGES else bits & ((1 << pages) - 1)",
        "        return bits",
        DMP + "bits_behind_the_last_page_mean_nothing",
    ),
    PlantedFault(
        "page behind the end of the file present",
        "images/dmp_bitmap.py",
        "        self._all_there = self.bitmap.total * PAGE_SIZE <= self._there",
        "        self._all_there = True",
        DMP + "what_lies_behind_the_end_of_the_file_is_lost[5]",
    ),
    PlantedFault(
        "neighbours of one state not made one run",
        "images/dump.py",
        "        if last is not None and last.end == run.start and (last.state, last.why) == (run.state, run.why):",
        "        if last is not None and last.end < run.start and (last.state, last.why) == (run.state, run.why):",
        DMP + "a_bitmap_of_64_gib_is_opened_in_under_a_second_and_its_runs_come_one_by_one[255]",
    ),
    PlantedFault(
        "memory that was left out taken for none",
        "images/load_dmp.py",
        "            return ranges",
        "            return ()",
        DMP + "memory_that_only_the_header_knows_of_was_left_out[8]",
    ),
    PlantedFault(
        "pages taken for ranges",
        "images/load_dmp.py",
        "        end = min(end, ranges.first_page)",
        "        end = min(end, ranges.first_page + 4096)",
        DMP + "a_list_without_room_for_its_end_ends_where_the_first_page_begins",
    ),
    PlantedFault(
        "total that does not end the list",
        "images/load_dmp.py",
        "            if not first or seen == total:",
        "            if not first:",
        DMP + "the_total_of_a_complete_dump_ends_its_list",
    ),
    PlantedFault(
        "run behind the last address",
        "images/load_dmp.py",
        "        if first + count > ADDRESS_PAGES:",
        "        if first > ADDRESS_PAGES:",
        DMP + "a_run_behind_the_last_address_ends_the_list",
    ),
    # -- the storage container ---------------------------------------------------------------------
    PlantedFault(
        "sequence that does not turn over",
        "images/hyperv_storage.py",
        "    if (sequence - other) & 0xFFFF == 1:",
        "    if sequence - other == 1:",
        STORAGE + "the_copy_with_the_newer_sequence_counts",
    ),
    PlantedFault(
        "older key table of two",
        "images/hyperv_storage.py",
        "            if table.number not in tables or table.sequence > tables[table.number].sequence:",
        "            if table.number not in tables:",
        STORAGE + "the_key_table_with_the_higher_sequence_counts",
    ),
    PlantedFault(
        "object tables that lead to each other",
        "images/hyperv_storage.py",
        "                if entry.type == ObjectType.OBJECT_TABLE and entry.place not in seen:",
        "                if entry.type == ObjectType.OBJECT_TABLE:",
        STORAGE + "object_tables_that_lead_to_each_other_end",
    ),
    PlantedFault(
        "checksum over the padding",
        "images/hyperv_storage_keys.py",
        "        content = table.data[offset : min(name_end + data, offset + key.size)]",
        "        content = table.data[offset : offset + key.size]",
        STORAGE + "padding_behind_a_key_is_not_in_its_checksum",
    ),
    PlantedFault(
        "keys without a parent lost",
        "images/hyperv_storage_keys.py",
        "                adopted.setdefault(name, child)",
        "                pass",
        STORAGE + "a_key_whose_parent_is_not_there_is_found_under_a_question_mark",
    ),
    PlantedFault(
        "value longer than its entry",
        "images/hyperv_storage.py",
        "        if size > end - start:",
        "        if size > end:",
        STORAGE + "a_value_that_is_too_long_for_its_entry_or_to_be_read_is_refused_when_it_is_asked_for",
    ),
    PlantedFault(
        "unfinished change not mentioned",
        "images/hyperv_storage.py",
        "        if log.entries:",
        "        if log.entries > 9:",
        STORAGE + "a_replay_log_with_entries_means_a_dirty_file_that_is_read_all_the_same",
    ),
    PlantedFault(
        "key tables without a limit",
        "images/hyperv_storage.py",
        "            left -= len(table.data)",
        "            left -= 0",
        STORAGE + "tables_of_any_size_are_read_up_to_their_caps",
    ),
    PlantedFault(
        "key of an entry that is free",
        "images/hyperv_storage_keys.py",
        "        if key.type != KeyType.FREE and KEY.size + key.name_size <= key.size:",
        "        if KEY.size + key.name_size <= key.size:",
        STORAGE + "the_smallest_file_byte_for_byte",
    ),
    PlantedFault(
        "type that is not known looked up",
        "images/hyperv_storage.py",
        "        if kind not in SCALARS or size < SCALARS[kind].size:",
        "        if size < SCALARS[kind].size:",
        STORAGE + "a_type_that_is_not_known_is_listed_and_refused_when_asked_for",
    ),
    # -- saved states ------------------------------------------------------------------------------
    PlantedFault(
        "index among the saved pages forgotten",
        "images/load_vmrs.py",
        "        saved = stretch.saved_index * PAGE_SIZE - stretch.start * PAGE_SIZE",
        "        saved = -stretch.start * PAGE_SIZE",
        VMRS + "a_block_that_is_missing_is_lost_and_never_zeros",
    ),
    PlantedFault(
        "blocks by the number of a page",
        "images/load_vmrs.py",
        "        index, within = divmod(address + (stretch.saved_index - stretch.start) * PAGE_SIZE, BLOCK_SIZE)",
        "        index, within = divmod(address - stretch.start * PAGE_SIZE, BLOCK_SIZE)",
        VMRS + "what_was_written_is_read",
    ),
    PlantedFault(
        "damaged block read as zeros",
        "images/vmrs_blocks.py",
        "            expanded = error.done, str(error)",
        '            expanded = error.done.ljust(BLOCK_SIZE, b"\\0"), ""',
        VMRS + "a_damaged_block_has_the_pages_before_the_damage",
    ),
    PlantedFault(
        "missing block present",
        "images/vmrs_blocks.py",
        "            return 0, NO_BLOCK",
        "            return BLOCK_SIZE, NO_BLOCK",
        VMRS + "a_range_of_runs_is_cut_out_of_all_of_them",
    ),
    PlantedFault(
        "every expanded block kept",
        "images/vmrs_blocks.py",
        "        if len(self._kept) > BLOCKS_KEPT:",
        "        if len(self._kept) > 999 * BLOCKS_KEPT:",
        VMRS + "only_the_last_few_expanded_blocks_are_kept",
    ),
    PlantedFault(
        "one saved page at two addresses",
        "images/vmrs_map.py",
        '        why = "" if [*outside([mine], saved)] == [mine] else SHARED',
        '        why = ""',
        VMRS + "of_two_ranges_with_one_place_among_the_saved_pages_the_second_is_lost",
    ),
    PlantedFault(
        "range behind the last address",
        "images/vmrs_map.py",
        "    if block.first_page + block.pages > ADDRESS_PAGES:",
        "    if block.first_page > ADDRESS_PAGES:",
        VMRS + "a_range_that_means_nothing_is_a_finding_and_the_rest_is_there",
    ),
    PlantedFault(
        "range gone on with behind all blocks, a block at a time",
        "images/load_vmrs.py",
        "            if index >= len(self._blocks):  # nothing is saved from here on",
        "            if index < 0:",
        VMRS + "any_ranges_of_addresses_give_a_dump_or_an_error",
    ),
    PlantedFault(
        "ranges in the order of the file",
        "images/vmrs_map.py",
        "    return sorted(stretches)",
        "    return stretches",
        VMRS + "what_was_written_is_read",
    ),
    # -- VMBus -------------------------------------------------------------------------------------
    PlantedFault(
        "one page too many in a GPADL",
        "images/vmbus_context.py",
        "        count, rest = divmod(gpadl.range_size - RANGE_HEADER_SIZE, PAGE_NUMBER_SIZE)",
        "        count, rest = divmod(gpadl.range_size, PAGE_NUMBER_SIZE)",
        CONTEXT + "channels_come_with_the_pages_of_their_rings",
    ),
    PlantedFault(
        "records of a fixed size",
        "images/vmbus_context.py",
        "            at += record.size",
        "            at += 64",
        CONTEXT + "records_are_as_long_as_they_say",
    ),
    PlantedFault(
        "record that ends before its own fields",
        "images/vmbus_context.py",
        "            if record.size < CHANNEL.size:",
        "            if record.size < 1:",
        CONTEXT + "what_means_nothing_is_a_finding_and_the_rest_is_there",
    ),
    PlantedFault(
        "GPADL of another channel",
        "images/vmbus_context.py",
        "            pages = self._gpadls.get((record.channel_id, record.ring_gpadl)) or by_id.get(",
        "            pages = self._gpadls.get((0, record.ring_gpadl)) or by_id.get(",
        CONTEXT + "a_channel_has_its_own_gpadl_where_two_channels_use_one_id",
    ),
    PlantedFault(
        "page behind the last address in a GPADL",
        "images/vmbus_context.py",
        "            if max(pages) >= ADDRESS_PAGES:",
        "            if max(pages) > 2**64:",
        CONTEXT + "what_means_nothing_is_a_finding_and_the_rest_is_there",
    ),
    PlantedFault(
        "trust level of the processor before",
        "images/vmbus_context.py",
        "            (number,), vtl = PROCESSOR_NUMBER.unpack_from(content), 0",
        "            number, vtl = 0, 0",
        CONTEXT + "processors_come_with_their_page_tables_for_each_trust_level",
    ),
]
