"""Faults to plant in the readers of flattened and kdump-compressed images: each a line of the shipped source,
a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_IMAGE_FAULTS_2"]

FLAT = "images/test_flattened.py::test_"
KDUMP = "images/test_load_kdump.py::test_"
HEADER = "images/test_kdump_header.py::test_"
DAMAGED = "images/test_damaged_kdump.py::test_"
CODECS = "images/test_page_codecs.py::test_"
BITMAP = "images/test_page_bitmap.py::test_the_bits_before_a_page_are_as_many_as_counting_says"
LZO = "images/test_lzo.py::test_"

ANY_ORDER = FLAT + "any_pieces_in_any_order_make_what_writing_them_one_after_the_other_makes"
RUNS = FLAT + "an_index_of_ascending_runs_holds_what_the_last_of_them_wrote"
CUT_FLAT = FLAT + "of_a_file_that_is_cut_off_anywhere_all_that_is_there_is_kept_and_nothing_else_is_read"
WRITTEN = KDUMP + "whatever_is_written_is_read_back_and_all_else_is_missing"
CUT_KDUMP = DAMAGED + "a_file_that_is_cut_off_anywhere_has_what_is_there_and_says_so"
CHAIN = LZO + "any_chain_of_instructions_decodes_to_what_a_model_says"

PLANTED_IMAGE_FAULTS_2 = [
    # -- flattened files ---------------------------------------------------------------------------
    PlantedFault(
        "earlier piece that overrides a later one",
        "images/piece_index.py",
        "                heappush(active, -order[following])",
        "                heappush(active, order[following] - len(self))",
        ANY_ORDER,
    ),
    PlantedFault(
        "piece that goes on after a later one, from its own start",
        "images/piece_index.py",
        "                settled._append(at, stop, self.places[latest] + at - starts[latest])",
        "                settled._append(at, stop, self.places[latest])",
        RUNS,
    ),
    PlantedFault(
        "correction that overlaps the piece before it, not seen",
        "images/piece_index.py",
        "        begin = bisect_right(self.ends, first, *longest)",
        "        begin = bisect_left(self.starts, first, *longest)",
        "images/test_flattened.py::test_pieces_that_all_cover_each_other_are_taken_apart_in_no_more_than_their_number",
    ),
    PlantedFault(
        "pieces that are not settled",
        "images/piece_index.py",
        "        if start < self._last:",
        "        if start < self._last and False:",
        FLAT + "what_qemu_wrote_unpacks_to_what_makedumpfile_made_of_it",
    ),
    PlantedFault(
        "zeros for what a cut short file does not have",
        "images/flattened.py",
        "        if not self.complete:",
        "        if False:",
        CUT_FLAT,
    ),
    PlantedFault(
        "missing end marker not noticed",
        "images/flattened.py",
        "                    return no_end_marker(place, file_size)",
        "                    return None",
        FLAT + "a_file_without_its_end_marker_keeps_all_but_zeros_between",
    ),
    PlantedFault(
        "whole record believed of which a part is there",
        "images/flattened.py",
        "                stored = min(size, file_size - place)",
        "                stored = size",
        CUT_FLAT,
    ),
    PlantedFault(
        "record whose end is no offset",
        "images/flattened.py",
        "            if offset < 0 or size < 0 or offset + size > LARGEST_OFFSET:",
        "            if offset < 0 or size < 0:",
        FLAT + "behind_a_record_that_cannot_be_nothing_is_used_and_that_is_said[9223372036854775807-1]",
    ),
    PlantedFault(
        "records without end",
        "images/flattened.py",
        "                if len(index) == MOST_RECORDS:",
        "                if False:",
        FLAT + "more_records_than_are_indexed_are_refused_with_what_helps[MOST_RECORDS]",
    ),
    PlantedFault(
        "piece of an extent that touches no other lost",
        "images/flattened.py",
        "                if first < last:",
        "                if first < last and first == start:",
        ANY_ORDER,
    ),
    # -- headers -----------------------------------------------------------------------------------
    PlantedFault(
        "fields of later versions believed",
        "images/kdump_header.py",
        "    wide = main.version >= WIDE_VERSION",
        "    wide = True",
        HEADER + "what_later_versions_brought_is_not_read_in_an_older_file",
    ),
    PlantedFault(
        "split word believed of files that have none",
        "images/kdump_header.py",
        "    split = main.version >= SPLIT_VERSION and sub.split == 1",
        "    split = sub.split == 1",
        HEADER + "what_later_versions_brought_is_not_read_in_an_older_file",
    ),
    PlantedFault(
        "second bitmap sought where there is one",
        "images/kdump_header.py",
        "    if main.bitmap_blocks >= 2 * blocks_each:",
        "    if main.bitmap_blocks >= blocks_each:",
        WRITTEN,
    ),
    PlantedFault(
        "second bitmap behind the blocks that the first needs",
        "images/kdump_header.py",
        "        room = main.bitmap_blocks // 2",
        "        room = blocks_each",
        WRITTEN,
    ),
    # -- bitmaps and descriptors -------------------------------------------------------------------
    PlantedFault(
        "page counted among those before it",
        "images/page_bitmap.py",
        "        return count + (bits & (1 << inside) - 1).bit_count()",
        "        return count + (bits & (2 << inside) - 1).bit_count()",
        BITMAP,
    ),
    PlantedFault(
        "bits behind the last page counted",
        "images/page_bitmap.py",
        "        if pages % 8:",
        "        if False:",
        BITMAP,
    ),
    PlantedFault(
        "bitmap that is cut short taken for zeros",
        "images/page_bitmap.py",
        "            self.known = readable * 8",
        "            pass",
        BITMAP,
    ),
    PlantedFault(
        "bitmap that was not sent taken for zeros",
        "images/page_bitmap.py",
        "            self.known = min(self.known, number * GROUP_PAGES)",
        "            pass",
        DAMAGED + "pages_behind_a_part_of_a_bitmap_that_was_not_sent_are_lost",
    ),
    PlantedFault(
        "descriptors of a part counted from the first page",
        "images/load_kdump.py",
        "        index = max(self._stored.before(first) - self._first_rank, 0)",
        "        index = self._stored.before(first)",
        KDUMP + "of_a_split_dump_each_part_has_its_pages_and_says_who_has_the_others",
    ),
    PlantedFault(
        "page of another part read with the descriptor of one of this",
        "images/load_kdump.py",
        '        own = int.from_bytes(stored, "little") & pages_between(header.start - first, header.end - first)',
        '        own = int.from_bytes(stored, "little")',
        KDUMP + "of_a_split_dump_each_part_has_its_pages_and_says_who_has_the_others",
    ),
    PlantedFault(
        "descriptor of the page behind",
        "images/kdump_group.py",
        "        below = (1 << start - self.first) - 1",
        "        below = (2 << start - self.first) - 1",
        KDUMP + "the_documented_file_has_the_documented_pages",
    ),
    PlantedFault(
        "excluded page taken for a hole",
        "images/kdump_group.py",
        '    EXCLUDED = (1, State.EXCLUDED, "")',
        '    EXCLUDED = (1, None, "")',
        KDUMP + "the_documented_file_has_the_documented_pages",
    ),
    PlantedFault(
        "page that was not written taken for one at offset 0",
        "images/kdump_group.py",
        "    if not offset:",
        "    if False:",
        KDUMP + "a_page_that_the_writer_did_not_get_to_is_lost",
    ),
    PlantedFault(
        "page behind the end of the file said to be present",
        "images/kdump_group.py",
        "    if offset + length > file_size:",
        "    if False:",
        CUT_KDUMP,
    ),
    PlantedFault(
        "table read to its last descriptor although it is cut short",
        "images/kdump_group.py",
        '    return table.ljust(count * size, b"\\0")',
        "    return table",
        CUT_KDUMP,
    ),
    # -- pages -------------------------------------------------------------------------------------
    PlantedFault(
        "page that is shared read as its neighbour",
        "images/load_kdump.py",
        "            if offset < stored_end and entry in self._shared:",
        "            if self._shared:",
        KDUMP + "a_page_that_many_descriptors_share_is_read_like_any_other",
    ),
    PlantedFault(
        "page that decodes to fewer bytes",
        "images/load_kdump.py",
        "        if len(page) != self._page_size:",
        "        if len(page) > self._page_size:",
        CODECS + "a_page_that_does_not_decode_to_a_page_is_lost_and_its_neighbours_are_not[short-zlib]",
    ),
    PlantedFault(
        "place in the unpacked file",
        "images/load_kdump.py",
        "        stored = self.source.place(place)",
        "        stored: int | None = place",
        KDUMP + "where_a_page_of_such_an_image_is_said_to_be_its_stored_bytes_are[mem.flat]",
    ),
    PlantedFault(
        "codecs looked for in another order",
        "images/page_codecs.py",
        "    for flag, (name, decoder) in CODECS.items():",
        "    for flag, (name, decoder) in reversed(CODECS.items()):",
        CODECS + "the_first_flag_that_is_known_says_how_a_page_is_stored",
    ),
    PlantedFault(
        "as much inflated as there is",
        "images/page_codecs.py",
        "        page = decoder.decompress(data, size + 1)",
        "        page = decoder.decompress(data)",
        CODECS + "a_decoder_makes_at_most_one_byte_too_many_of_anything[zlib]",
    ),
    # -- LZO ---------------------------------------------------------------------------------------
    PlantedFault(
        "literals behind a copy forgotten by the next instruction",
        "images/lzo.py",
        "            length, nearest = (3, FAR_SHORT_COPY) if literals == MANY else (2, 1)",
        "            length, nearest = (2, 1)",
        LZO
        + "each_instruction_copies_what_its_bits_say[4-3-2049-3 bytes, 2049 to 3072 back, behind many literals-0]",
    ),
    PlantedFault(
        "overlapping copy of what is there alone",
        "images/lzo.py",
        "        out += (out[start:] * (length // distance + 1))[:length]",
        "        out += out[start:]",
        LZO + "the_documented_blocks_decode_to_what_they_should[a long copy]",
    ),
    PlantedFault(
        "highest bit of a far distance lost",
        "images/lzo.py",
        "                distance += END_DISTANCE + ((byte & 8) << 11)",
        "                distance += END_DISTANCE",
        LZO + "each_instruction_copies_what_its_bits_say[2-9-32768-far-0]",
    ),
    PlantedFault(
        "length that goes on, a byte too short",
        "images/lzo.py",
        "        length += 255",
        "        length += 254",
        CHAIN,
    ),
    PlantedFault(
        "copies over the limit",
        "images/lzo.py",
        "    if done + length > limit:",
        "    if done > limit:",
        CHAIN,
    ),
]
