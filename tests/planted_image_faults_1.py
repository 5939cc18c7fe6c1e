"""Faults to plant in the loaders of ELF cores, LiME and AVML images, raw files with a map and compressed files.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_IMAGE_FAULTS_1"]

ELF = "images/test_load_elf.py::test_"
LIME = "images/test_load_lime.py::test_"
AVML = "images/test_load_avml.py::test_"
SNAPPY = "images/test_snappy.py::test_"
MAP = "images/test_memory_map.py::test_"
COMPRESSED = "images/test_compressed.py::test_"

PLANTED_IMAGE_FAULTS_1 = [
    # -- ELF cores ---------------------------------------------------------------------------------
    PlantedFault(
        "memory at the virtual address",
        "images/load_elf.py",
        "            _, _, offset, vaddr, address, stored, size, _ = entry",
        "            _, _, offset, address, vaddr, stored, size, _ = entry",
        ELF + "every_byte_of_every_region_is_read_and_nothing_else_is_there",
    ),
    PlantedFault(
        "memory that was left out taken for stored",
        "images/load_elf.py",
        "            stored = min(stored, size)",
        "            stored = size",
        ELF + "memory_that_the_writer_left_out_is_excluded_and_not_zero",
    ),
    PlantedFault(
        "memory that was left out forgotten",
        "images/load_elf.py",
        "        yield from left_out",
        "        left_out.clear()",
        ELF + "memory_that_the_writer_left_out_is_excluded_and_not_zero",
    ),
    PlantedFault(
        "program headers of 56 bytes, whatever the header says",
        "images/load_elf.py",
        "        self.stride = header.e_phentsize",
        "        self.stride = min(header.e_phentsize, 56)",
        ELF + "every_byte_of_every_region_is_read_and_nothing_else_is_there",
    ),
    PlantedFault(
        "65,535 program headers and no more",
        "images/load_elf.py",
        "    if header.e_phnum != PN_XNUM:",
        "    if header.e_phnum <= PN_XNUM:",
        ELF + "more_segments_than_the_header_can_count_are_all_read",
    ),
    PlantedFault(
        "a segment without a physical address read",
        "images/load_elf.py",
        "            if not size or address == NO_ADDRESS:",
        "            if not size:",
        ELF + "segments_without_a_physical_address_or_a_size_are_stepped_over",
    ),
    PlantedFault(
        "the core of a process read",
        "images/load_elf.py",
        "        if self.without_paddr < self.loads or not self.vaddr:",
        "        if self.without_paddr <= self.loads:",
        ELF + "the_core_of_a_process_is_refused",
    ),
    PlantedFault(
        "program headers of a core without any",
        "images/load_elf.py",
        "        if not self.count:",
        "        if self.count < 0:",
        ELF + "what_is_refused_is_named_with_the_place",
    ),
    # -- LiME --------------------------------------------------------------------------------------
    PlantedFault(
        "last address taken for the one behind it",
        "images/records.py",
        "        return self.e_addr - self.s_addr + 1",
        "        return self.e_addr - self.s_addr",
        LIME + "every_byte_of_every_record_is_read_and_nothing_else_is_there",
    ),
    PlantedFault(
        "rest of a record that is cut not lost but a hole",
        "images/records.py",
        "            self.lose(record, stored, CUT)",
        "            pass",
        LIME + "a_file_that_is_cut_anywhere_is_refused_or_says_what_is_lost",
    ),
    PlantedFault(
        "record that ends before it starts",
        "images/records.py",
        "    if record.e_addr < record.s_addr:",
        "    if record.e_addr < 0:",
        LIME + "what_does_not_begin_with_a_record_is_refused",
    ),
    PlantedFault(
        "no cap on records",
        "images/records.py",
        "            if number == MOST_RECORDS:",
        "            if number < 0:",
        LIME + "records_behind_the_most_that_are_looked_at_are_left_and_a_finding_says_so",
    ),
    # -- AVML --------------------------------------------------------------------------------------
    PlantedFault(
        "trailer not compared",
        "images/load_avml.py",
        '        self._damaged(f"it has {length} bytes, and the trailer at {self.here:#x} says {stated}")',
        "        self.missing = 0",
        AVML + "a_trailer_with_a_wrong_length_is_a_finding_and_the_record_is_read",
    ),
    PlantedFault(
        "stream that ends early taken for whole",
        "images/load_avml.py",
        "            if self.missing > 0 and not self.why:",
        "            if self.missing < 0 and not self.why:",
        AVML + "a_stream_that_ends_before_its_range_is_full_loses_what_it_does_not_have",
    ),
    PlantedFault(
        "record left at the first chunk that is damaged",
        "images/load_avml.py",
        "        self.here = chunk.end",
        "        self.here = chunk.end if chunk.decoded is not None else self.walk.source.size",
        AVML + "a_length_that_no_chunk_can_have_loses_the_rest_of_its_record_alone",
    ),
    PlantedFault(
        "data behind the range added to the next record",
        "images/load_avml.py",
        "        known = min(self.streams.size - start, record.length)",
        "        known = self.streams.size - start",
        AVML + "a_stream_that_goes_on_behind_its_range_is_read_as_far_as_the_range_goes",
    ),
    PlantedFault(
        "lost chunk blamed on the start of the read",
        "images/load_avml.py",
        "            lost = address + max(0, error.position - offset)",
        "            lost = address",
        AVML + "a_chunk_whose_bytes_were_changed_is_lost_and_its_neighbours_are_not",
    ),
    PlantedFault(
        "place of a byte instead of that of its chunk",
        "images/snappy_chunks.py",
        "        return self._places[bisect_right(self._starts, offset) - 1]",
        "        return offset",
        AVML + "a_place_is_that_of_the_chunk_that_a_byte_is_in",
    ),
    PlantedFault(
        "decoded chunks not kept",
        "images/snappy_chunks.py",
        "        if len(self._kept) > KEPT_CHUNKS:",
        "        if self._kept:",
        AVML + "a_chunk_that_was_just_decoded_is_not_decoded_again",
    ),
    PlantedFault(
        "decoded chunks all kept",
        "images/snappy_chunks.py",
        "            del self._kept[next(iter(self._kept))]  # the one that was not used for longest",
        "            pass",
        AVML + "a_record_larger_than_memory_is_to_be_is_decoded_piece_by_piece",
    ),
    PlantedFault(
        "read that starts inside a chunk begins with the chunk",
        "images/snappy_chunks.py",
        "            skipped = offset - self._starts[number]",
        "            skipped = 0",
        AVML + "any_stretch_of_a_record_is_read",
    ),
    # -- snappy ------------------------------------------------------------------------------------
    PlantedFault(
        "overlapping copy not repeated",
        "images/snappy.py",
        "            if offset >= length:",
        "            if offset:",
        SNAPPY + "a_block_decodes_to_what_was_encoded",
    ),
    PlantedFault(
        "copy from before the start",
        "images/snappy.py",
        "            if not 0 < offset <= done:",
        "            if not 0 < offset:",
        SNAPPY + "a_block_that_no_encoder_writes_is_refused_with_its_fault",
    ),
    PlantedFault(
        "output without a bound",
        "images/snappy.py",
        "        if done > size:",
        "        if done > size and at >= end:",
        SNAPPY + "a_small_block_that_would_be_very_large_is_refused_without_becoming_it",
    ),
    PlantedFault(
        "repeated copies joined once too often",
        "images/snappy.py",
        "                        length += LONGEST_COPY",
        "                        length += LONGEST_COPY + 1",
        SNAPPY + "every_kind_of_element_is_decoded",
    ),
    PlantedFault(
        "checksums not compared",
        "images/snappy.py",
        "        if stated != found:",
        "        if stated < 0:",
        AVML + "a_chunk_whose_bytes_were_changed_is_lost_and_its_neighbours_are_not",
    ),
    PlantedFault(
        "more bits folded away than there is room for",
        "images/snappy.py",
        "            while (away := min(nearest, bits - farthest) & ~7) > 0:",
        "            while (away := min(farthest, bits - farthest) & ~7) > 0:",
        SNAPPY + "a_checksum_of_any_length_is_that_of_a_slow_loop",
    ),
    # -- maps --------------------------------------------------------------------------------------
    PlantedFault(
        "nested lines of iomem taken",
        "images/memory_map.py",
        '        if match["indent"] or match["name"] != MEMORY_NAME:',
        '        if match["name"] != MEMORY_NAME:',
        MAP + "top_level_lines_of_system_ram_lie_one_behind_the_other",
    ),
    PlantedFault(
        "every stretch from the start of the file",
        "images/memory_map.py",
        "        offset += last - first + 1",
        "        offset = 0",
        MAP + "lines_of_iomem_in_order_are_running_offsets",
    ),
    PlantedFault(
        "zeros of the kernel believed",
        "images/memory_map.py",
        "    if not known:",
        "    if offset < 0:",
        MAP + "a_map_that_the_kernel_filled_with_zeros_is_refused_with_what_helps",
    ),
    # -- compressed files --------------------------------------------------------------------------
    PlantedFault(
        "only the first member",
        "images/compressed.py",
        "            if self.findings or not self._next_member():",
        "            if self.findings or not self._next_member() or self.place:",
        COMPRESSED + "members_stand_one_behind_the_other_also_behind_zeros",
    ),
    PlantedFault(
        "no cap on what comes out",
        "images/compressed.py",
        "        if size > most:",
        "        if size < 0:",
        COMPRESSED + "more_than_the_cap_is_refused_and_as_much_is_not",
    ),
    PlantedFault(
        "zeros written",
        "images/sparse.py",
        "        if page != ZERO_PAGE[: stop - at]:",
        "        if True:",
        COMPRESSED + "a_bomb_of_zeros_takes_no_room_and_little_memory",
    ),
    PlantedFault(
        "last zeros of a file forgotten",
        "images/sparse_file.py",
        "    file.truncate(size)",
        "    file.flush()",
        COMPRESSED + "every_byte_is_unpacked",
    ),
    PlantedFault(
        "bytes before an error lost",
        "images/compressed.py",
        "            return up_to_error(before, data, max_length)",
        '            return b""',
        COMPRESSED + "a_wrong_checksum_at_the_end_is_a_finding_and_costs_no_byte",
    ),
    PlantedFault(
        "compressed file left open",
        "images/compressed.py",
        "    source.close()",
        "    source.size",
        COMPRESSED + "no_descriptor_and_no_file_is_left",
    ),
    PlantedFault(
        "file read from a member's start with all that is left",
        "images/compressed.py",
        "        step = FIRST_READ",
        "        step = self.source.size",
        COMPRESSED + "of_members_of_a_few_bytes_little_more_is_read_than_there_is",
    ),
]
