"""Faults to plant in copies of live rings: each a line of the shipped source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_SNAPSHOT_FAULTS"]

SNAPSHOT = "uio/test_snapshots.py::test_"
MOVING = "uio/test_snapshot_moving.py::test_"
INSPECT = "cli/test_inspect_uio.py::test_"
PAGES = SNAPSHOT + "data_begins_a_page_of_the_kernel_behind_the_control_page_and_maps_stand_at_pages"
WORDS = MOVING + "the_other_words_are_of_the_moment_that_their_side_s_index_is_of"

PLANTED_SNAPSHOT_FAULTS = [
    # -- what of a ring that moves is whole ----------------------------------------------------------
    PlantedFault(
        "copy that shows packets read meanwhile",
        "uio/snapshots.py",
        "    out = after.out_offset",
        "    out = before.out_offset",
        MOVING + "packets_that_were_written_over_during_the_copy_are_never_shown_as_whole",
    ),
    PlantedFault(
        "copy that shows packets published meanwhile",
        "uio/snapshots.py",
        "        before._replace(out_offset=before.in_offset if passed else out, interrupt_mask=after.interrupt_mask),",
        "        after._replace(out_offset=before.in_offset if passed else out),",
        MOVING + "a_packet_that_was_published_during_the_copy_is_not_shown",
    ),
    PlantedFault(
        "out that went past in, taken for a ring that is nearly full",
        "uio/snapshots.py",
        "        passed = used_bytes(size, out, before.out_offset) > waited",
        "        passed = False",
        MOVING + "a_ring_whose_packets_were_all_read_during_the_copy_is_shown_empty[0]",
    ),
    PlantedFault(
        "mask of before the copy beside out of after it",
        "uio/snapshots.py",
        "        before._replace(out_offset=before.in_offset if passed else out, interrupt_mask=after.interrupt_mask),",
        "        before._replace(out_offset=before.in_offset if passed else out),",
        WORDS + "[2-1-1]",
    ),
    PlantedFault(
        "indices out of range, compared all the same",
        "uio/snapshots.py",
        "    if all(is_offset(size, index) for index in (before.in_offset, before.out_offset, out)):",
        "    if True:",
        MOVING + "indices_out_of_range_are_copied_as_they_are[before2-after2]",
    ),
    PlantedFault(
        "moving ring copied but once",
        "uio/snapshots.py",
        "        if after == before or tries == MOST_TRIES:",
        "        if True:",
        MOVING + "a_ring_that_moves_is_copied_again_until_it_stands_still[send-1]",
    ),
    PlantedFault(
        "index loaded again before the last bytes are copied",
        "uio/snapshots.py",
        "        memory.acquire()  # and no index again before all bytes",
        "        pass",
        MOVING + "a_ring_that_stands_still_is_copied_once",
    ),
    # -- nothing is opened, and nothing stored --------------------------------------------------------
    PlantedFault(
        "device opened that nobody has open",
        "uio/snapshots.py",
        "    if not wanted.is_open and not even_if_closed:",
        "    if False:",
        SNAPSHOT + "a_device_that_nobody_has_open_is_not_opened[0]",
    ),
    PlantedFault(
        "node opened for a channel that its ring file shows",
        "uio/snapshots.py",
        "    if channel.is_open and channel.ring_size is not None:",
        "    if False:",
        SNAPSHOT + "a_channel_that_is_closed_just_then_is_not_opened_again",
    ),
    PlantedFault(
        "rings mapped to be written",
        "uio/snapshots.py",
        "        mapping = node.map(rings.number * system.page_size, rings.size, writable=False)",
        "        mapping = node.map(rings.number * system.page_size, rings.size, writable=True)",
        SNAPSHOT + "it_is_opened_when_that_is_asked_for",
    ),
    PlantedFault(
        "node left open",
        "uio/snapshots.py",
        "        node.close()",
        "        pass",
        SNAPSHOT + "the_node_is_closed_when_it_cannot_be_mapped",
    ),
    # -- sizes and names ------------------------------------------------------------------------------
    PlantedFault(
        "maps that stand at multiples of 4096",
        "uio/snapshots.py",
        "        mapping = node.map(rings.number * system.page_size, rings.size, writable=False)",
        "        mapping = node.map(rings.number * PAGE_SIZE, rings.size, writable=False)",
        PAGES + "[2-65536]",
    ),
    PlantedFault(
        "data of the copy 4096 bytes behind its control page",
        "uio/snapshots.py",
        "        header_size = rings.halves.header_size",
        "        header_size = PAGE_SIZE",
        PAGES + "[0-65536]",
    ),
    PlantedFault(
        "number of a node taken for a relid",
        "uio/snapshots.py",
        """    device = find_device(f"uio{name.lstrip('0') or '0'}" if name.isdecimal() else name, system)""",
        "    device = find_device(name, system)",
        SNAPSHOT + "a_bare_number_is_that_of_the_node_and_never_a_relid",
    ),
    # -- what is shown of it --------------------------------------------------------------------------
    PlantedFault(
        "busy ring that fails a check",
        "cli/uio_input.py",
        '    return Finding("ring-moved", Severity.NOTE, None, message)',
        '    return Finding("ring-moved", Severity.WARNING, None, message)',
        INSPECT + "what_moved_is_a_note_of_that_ring_alone[masks]",
    ),
]
