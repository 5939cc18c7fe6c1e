"""Faults to plant in scanning: each a line of the shipped source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_SCAN_FAULTS"]

SCAN = "inspection/test_scan.py::test_"
EVIDENCE = "inspection/test_ring_evidence.py::test_"
IN_DUMP = "inspection/test_ring_in_dump.py::test_"
COMMAND = "cli/test_scan.py::test_"

PLANTED_SCAN_FAULTS = [
    # -- sizes -------------------------------------------------------------------------------------
    PlantedFault(
        "size that any ring behind decides",
        "inspection/judge_candidates.py",
        "    if distance == following.data_size or distance in USUAL_SIZES:",
        "    if True:",
        SCAN + "a_ring_at_an_odd_distance_does_not_say_where_another_one_ends[3]",
    ),
    PlantedFault(
        "Linux's alignment of pairs forgotten",
        "inspection/judge_candidates.py",
        "    return ring.address % (1 << (whole - 1).bit_length()) == 0",
        "    return False",
        SCAN + "the_partner_says_where_a_ring_ends_that_has_not_wrapped[37-True]",
    ),
    PlantedFault(
        "sizes not asked whether packets go on",
        "inspection/ring_evidence.py",
        "            if is_size(size, smallest, area.limit) and goes_on(area, following - size, in_offset):",
        "            if is_size(size, smallest, area.limit):",
        EVIDENCE + "a_packet_of_half_a_megabyte_across_the_end_says_the_size",
    ),
    PlantedFault(
        "tie decided by order",
        "inspection/ring_evidence.py",
        "    decided = len(fitting) == 1 or fitting[0].explained > fitting[1].explained",
        "    decided = True",
        EVIDENCE + "between_two_sizes_that_explain_as_much_nothing_is_decided",
    ),
    PlantedFault(
        "shortest chain preferred",
        "inspection/ring_evidence.py",
        "    fitting.sort(key=lambda trial: (-trial.explained, trial.size))",
        "    fitting.sort(key=lambda trial: (trial.explained, trial.size))",
        EVIDENCE + "of_two_sizes_the_one_that_explains_more_is_taken",
    ),
    PlantedFault(
        "size believed without three packets behind a broken one",
        "inspection/ring_evidence.py",
        "        return self.wraps > 0 and (self.ends_at_in or self.recovered > 2)",
        "        return self.wraps > 0",
        EVIDENCE + "one_packet_of_history_and_a_broken_one_that_waits_decide_nothing",
    ),
    PlantedFault(
        "broken packet that hides the size",
        "inspection/ring_evidence.py",
        "        return self.wraps > 0 and (self.ends_at_in or self.recovered > 2)",
        "        return self.wraps > 0 and self.ends_at_in",
        EVIDENCE + "a_broken_packet_behind_a_good_history_does_not_hide_the_size",
    ),
    PlantedFault(
        "footer at the end of the data looked for at 0",
        "inspection/ring_evidence.py",
        "    footer = area.footer_before(end or size)",
        "    footer = area.footer_before(end or 8)",
        EVIDENCE + "a_packet_read_across_the_end_says_the_size[0 behind-2-nothing]",
    ),
    PlantedFault(
        "header size by descriptors alone",
        "inspection/judge_candidates.py",
        "    return evidence.best.footers + evidence.best.recovered, evidence.best.explained",
        "    return 0, 0",
        SCAN + "each_kind_of_ring_is_found_alone[1-wide header]",
    ),
    # -- what is a ring ----------------------------------------------------------------------------
    PlantedFault(
        "packets of another ring counted",
        "inspection/found_ring.py",
        "    if found.strangers > found.waiting // 2:",
        "    if False:",
        SCAN + "packets_whose_footers_name_other_places_make_no_ring[waiting]",
    ),
    PlantedFault(
        "descriptors of another ring counted",
        "inspection/judge_candidates.py",
        "    return 0 if strangers > len(chain.slots) // 2 else len(chain.slots)",
        "    return len(chain.slots)",
        SCAN + "packets_whose_footers_name_other_places_make_no_ring[read]",
    ),
    PlantedFault(
        "ring in pages that were cleared",
        "inspection/scan_rings.py",
        "        reasons.append(ALL_ZERO)",
        "        pass",
        SCAN + "a_message_of_a_closed_channel_makes_no_ring_of_pages_that_hold_something_else",
    ),
    PlantedFault(
        "pair of three taken from the left",
        "inspection/scan_rings.py",
        "    return not begins_on_its_size(first, second) and begins_on_its_size(second, third)",
        "    return False",
        SCAN + "three_rings_in_a_row_are_paired_as_linux_puts_pairs",
    ),
    PlantedFault(
        "last page of the address space",
        "inspection/data_area.py",
        "    except (MissingMemory, CallerError):  # of the latter, what lies behind the last address",
        "    except MissingMemory:",
        SCAN + "a_control_page_at_the_last_page_of_the_address_space_is_no_problem",
    ),
    PlantedFault(
        "effort without end",
        "inspection/data_area.py",
        "        return FEW_STEPS if self.left < 0 else MOST_STEPS",
        "        return MOST_STEPS",
        EVIDENCE + "where_the_effort_is_spent_less_is_looked_at",
    ),
    # -- parts of an image -------------------------------------------------------------------------
    PlantedFault(
        "message over the end of a part lost",
        "inspection/sighting.py",
        "    for address, piece in dump.pieces(start, min(end + LARGEST_MESSAGE, TOP), on_missing=missing.add):",
        "    for address, piece in dump.pieces(start, end, on_missing=missing.add):",
        SCAN + "messages_across_a_cut_are_seen_by_the_half_in_which_they_begin",
    ),
    PlantedFault(
        "missing memory not told",
        "images/missing_runs.py",
        "            self.listed.append(run)",
        "            pass",
        SCAN + "memory_that_is_excluded_or_lost_is_in_the_report_and_never_taken_for_zeros",
    ),
    # -- a ring's bytes ----------------------------------------------------------------------------
    PlantedFault(
        "missing page read as zeros",
        "inspection/ring_in_dump.py",
        "        parts = [read(address, count) for _, address, count in stretches(self._place, offset, length)]",
        "        parts = [bytes(length)]",
        IN_DUMP + "a_byte_of_a_missing_page_cannot_be_read_and_all_others_can[4096-1-True]",
    ),
    PlantedFault(
        "no wrap in a ring of a dump",
        "inspection/ring_in_dump.py",
        "        return self._read(offset, first) + self._read(0, length - first)",
        "        return self._read(offset, first) + bytes(length - first)",
        IN_DUMP + "a_ring_in_one_piece_has_its_bytes[elf]",
    ),
    PlantedFault(
        "blocks kept when somebody looks again",
        "inspection/ring_in_dump.py",
        "        self._blocks = {}",
        "        pass",
        IN_DUMP + "who_looks_again_sees_what_is_there_by_then",
    ),
    PlantedFault(
        "end of the ring at an address taken from the file's",
        "inspection/locate.py",
        "    return found if found and found[0].data_size != places[0].data_size else places",
        "    return places",
        "inspection/test_raw_memory.py::test_the_ring_at_an_address_ends_where_its_packets_say_and_not_where_the_file_does",
    ),
    PlantedFault(
        "data that changed behind indices that did not",
        "inspection/snapshot_diff.py",
        "        if quiet and not same_bytes(self.a.memory, self.b.memory, 0, self.size):",
        "        if False:",
        "inspection/test_raw_memory.py::test_a_ring_that_went_round_exactly_once_is_not_stuck",
    ),
    # -- the command -------------------------------------------------------------------------------
    PlantedFault(
        "worker that prints a traceback at Ctrl-C",
        "inspection/workers.py",
        "    signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "    pass",
        COMMAND + "ctrl_c_ends_a_long_scan_with_130_and_leaves_nothing_behind[2]",
    ),
    PlantedFault(
        "damaged image that counts as whole",
        "cli/scan_command.py",
        "    return 1 if damaged else 0",
        "    return 0",
        COMMAND + "of_a_damaged_image_the_rings_are_shown_and_the_status_is_1",
    ),
]
