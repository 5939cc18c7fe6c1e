"""Faults to plant in what judges rings: history without footers, owed signals, two snapshots, the commands.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_JUDGEMENT_FAULTS"]

GUESS = "inspection/test_guess.py::test_"
SLOW = GUESS + "over_descriptors_everywhere_the_search_finds_what_a_slow_one_finds"
RULE = GUESS + "a_place_is_taken_for_a_packet_where_a_reader_would_take_it_for_one"
STUCK = "inspection/test_stuck.py::test_"
DIFF = "inspection/test_snapshot_diff.py::test_"
MODEL = "inspection/test_snapshot_diff.py::TestTwoSnapshots::runTest"
LIST = "inspection/test_check_list.py::test_"
VERDICT = "inspection/test_check.py::test_"
CHECK = "cli/test_check.py::test_"
CLI_DIFF = "cli/test_diff.py::test_"

PLANTED_JUDGEMENT_FAULTS = [
    # -- packets that no footer leads to -----------------------------------------------------------
    PlantedFault(
        "guessed packet with unknown flags",
        "inspection/guess.py",
        "        if word < FLAGS_LIMIT and word & 0xFFFF in SMALLEST_OFFSET8:",
        "        if word & 0xFFFF in SMALLEST_OFFSET8:",
        RULE,
    ),
    PlantedFault(
        "guessed packet whose payload begins in its header",
        "inspection/guess.py",
        "            if SMALLEST_OFFSET8[word & 0xFFFF] <= word >> 16 & 0xFFFF <= length8:",
        "            if 2 <= word >> 16 & 0xFFFF <= length8:",
        RULE,
    ),
    PlantedFault(
        "chain that forgets the footers",
        "inspection/guess.py",
        "                end = slot + length8 + FOOTER8",
        "                end = slot + length8",
        GUESS + "a_lonely_packet_is_a_guess",
    ),
    PlantedFault(
        "chain that comes out a slot too early",
        "inspection/guess.py",
        "    last = len(words)",
        "    last = len(words) - 1",
        SLOW,
    ),
    PlantedFault(
        "chain that begins first instead of the longest",
        "inspection/guess.py",
        "    slot = depths.index(most)",
        "    slot = next(good_slots(depths))",
        GUESS + "a_far_jump_to_a_packet_does_not_hide_those_in_between",
    ),
    PlantedFault(
        "competing packet that counts only where it begins",
        "inspection/guess.py",
        "            if others_end > slot:",
        "            if False:",
        GUESS + "a_place_whose_packet_would_reach_over_several_makes_all_of_them_guesses",
    ),
    PlantedFault(
        "oldest packet trusted like the others",
        "inspection/guess.py",
        "    contested[0] = 1",
        "    contested[0] = 0",
        GUESS + "a_lonely_packet_is_a_guess",
    ),
    PlantedFault(
        "chains counted by their packets",
        "inspection/guess.py",
        "    leaves = sum(1 for slot in good_slots(depths) if not led_to[slot])",
        "    leaves = sum(1 for slot in good_slots(depths))",
        GUESS + "a_report_counts_the_chains_that_compete",
    ),
    PlantedFault(
        "search that goes on in what waits",
        "inspection/recover.py",
        "    chain = guess_chain(memory, end, left)",
        "    chain = guess_chain(memory, end, memory.size)",
        GUESS + "a_packet_that_waits_is_none_of_a_chain_that_goes_on_round_the_ring",
    ),
    PlantedFault(
        "search from out although footers lead further",
        "inspection/recover.py",
        "        end = found.packet.offset  # the search goes on behind the oldest one",
        "        pass",
        GUESS + "behind_the_last_packet_that_footers_lead_to_lengths_go_on",
    ),
    # -- verdicts and owed signals -----------------------------------------------------------------
    PlantedFault(
        "writer that waits although it has its room",
        "inspection/checks.py",
        "    return wanted_space(control.pending_send_size) > free",
        "    return wanted_space(control.pending_send_size) > 0",
        VERDICT + "an_empty_ring_whose_sender_has_the_room_it_asked_for_is_idle[8]",
    ),
    PlantedFault(
        "standing request of hvsock called stuck",
        "inspection/stuck.py",
        "    if ring.writer_needs_signal and not asks_for_good(ring):",
        "    if ring.writer_needs_signal:",
        STUCK + "the_pending_size_that_hvsock_leaves_set_makes_no_ring_stuck",
    ),
    PlantedFault(
        "signals owed in a corrupt ring",
        "inspection/stuck.py",
        "    if ring.verdict in (Verdict.CORRUPT, Verdict.NEVER_OPENED):",
        "    if ring.verdict is Verdict.NEVER_OPENED:",
        STUCK + "nothing_is_owed_in_a_ring_that_is_corrupt_or_was_never_opened",
    ),
    PlantedFault(
        "guest and host mixed up",
        "inspection/stuck.py",
        '    return f"the {end} ({ends[end == \'reader\']})" if ends else f"the {end}"',
        '    return f"the {end} ({ends[end == \'writer\']})" if ends else f"the {end}"',
        STUCK + "of_a_pair_it_is_said_which_side_that_is",
    ),
    # -- two snapshots -----------------------------------------------------------------------------
    PlantedFault(
        "snapshot in which nothing waits called moved",
        "inspection/snapshot_diff.py",
        "        quiet = not (self.in_moved or self.out_moved or self.findings)",
        "        quiet = bool(self.waited) and not (self.in_moved or self.out_moved or self.findings)",
        MODEL,
    ),
    PlantedFault(
        "mask that moved unnoticed",
        "inspection/snapshot_diff.py",
        "        quiet = quiet and self.a.control[:4] == self.b.control[:4]",
        "        quiet = quiet and self.a.control[:2] == self.b.control[:2]",
        DIFF + "a_reader_that_has_just_cleared_its_mask_is_not_stuck_yet",
    ),
    PlantedFault(
        "written packets looked for in the earlier snapshot",
        "inspection/snapshot_diff.py",
        "        packets = [*walk(self.b.memory, before, now)]",
        "        packets = [*walk(self.a.memory, before, now)]",
        MODEL,
    ),
    PlantedFault(
        "packets written and read in between forgotten",
        "inspection/snapshot_diff.py",
        "        further = self.read - self.waiting_before",
        "        further = 0",
        DIFF + "what_was_read_and_written_in_between_and_what_waits_still",
    ),
    PlantedFault(
        "packet that was read counted as waiting",
        "inspection/snapshot_diff.py",
        "        behind = [one for one in self.waited if one.whole and self.distance(one) >= self.read]",
        "        behind = [one for one in self.waited if one.whole]",
        DIFF + "what_was_read_and_written_in_between_and_what_waits_still",
    ),
    PlantedFault(
        "bytes written over unnoticed",
        "inspection/snapshot_diff.py",
        "            (same if self.is_same(one) else changed).append(one)",
        "            same.append(one)",
        DIFF + "a_byte_of_a_waiting_packet_that_changed_is_an_error",
    ),
    PlantedFault(
        "partly read packet called damaged",
        "inspection/snapshot_diff.py",
        "    return second.consumed - already if second.consumed > already else None",
        "    return None",
        DIFF + "a_byte_reader_that_takes_a_part_of_a_packet_does_no_harm_and_moves",
    ),
    PlantedFault(
        "index that went backwards taken for a lap",
        "inspection/movement.py",
        "        if not opened_anew and same_bytes(self.a.memory, self.b.memory, before.in_offset, written):",
        "        if False:",
        DIFF + "an_index_that_went_where_only_new_bytes_could_bring_it_is_an_error",
    ),
    PlantedFault(
        "lap called an index that went backwards",
        "inspection/movement.py",
        "        if not opened_anew and same_bytes(self.a.memory, self.b.memory, before.in_offset, written):",
        "        if True:",
        DIFF + "a_channel_that_was_opened_anew_is_no_error",
    ),
    PlantedFault(
        "edge rule of a reader that had masked interrupts",
        "inspection/movement.py",
        "        unmasked = not before.interrupt_mask and not now.interrupt_mask",
        "        unmasked = not now.interrupt_mask",
        DIFF + "a_write_that_no_edge_rule_speaks_of_for_sure_was_due_nothing",
    ),
    PlantedFault(
        "edge rule of room that was there before",
        "inspection/movement.py",
        "        if same_wish and not self.in_moved and free_before < wanted <= free_now:",
        "        if same_wish and not self.in_moved and 0 < wanted <= free_now:",
        DIFF + "freed_room_that_reaches_what_was_asked_for_was_due_a_signal",
    ),
    PlantedFault(
        "out inside a packet unnoticed",
        "inspection/snapshot_diff.py",
        "            if one.whole and start < self.read < start + taken(one) and self.is_same(one):",
        "            if False:",
        DIFF + "an_out_that_moved_into_a_packet_is_a_warning",
    ),
    PlantedFault(
        "rings of a pair compared crosswise",
        "inspection/diff_report.py",
        "        found = [(ones[name], others[name]) for name in ones if name in others]",
        "        found = [*zip(ones.values(), [*others.values()][::-1])]",
        DIFF + "the_rings_of_a_pair_are_compared_each_with_itself",
    ),
    # -- the list and the commands -----------------------------------------------------------------
    PlantedFault(
        "finding that the list does not know",
        "inspection/ring_report.py",
        '    return Finding("ring-moved", Severity.NOTE, None, message)',
        '    return Finding("moved", Severity.NOTE, None, message)',
        LIST + "every_finding_has_a_check_of_the_list",
    ),
    PlantedFault(
        "finding with another severity than the list's",
        "inspection/ring_report.py",
        '    return Finding("ring-moved", Severity.NOTE, None, message)',
        '    return Finding("ring-moved", Severity.ERROR, None, message)',
        LIST + "a_finding_has_a_severity_that_the_list_gives_it",
    ),
    PlantedFault(
        "stuck said of one snapshot",
        "inspection/check_json.py",
        "    findings = [*ring.findings, *(stuck_findings(ring) if quiescent else ())]",
        "    findings = [*ring.findings, *stuck_findings(ring)]",
        CHECK + "one_snapshot_says_stuck_only_where_the_caller_vouches_that_nobody_ran",
    ),
    PlantedFault(
        "stuck ring that is sound",
        "inspection/check_json.py",
        "        return self.report.is_sound and not is_stuck",
        "        return self.report.is_sound",
        CHECK + "one_snapshot_says_stuck_only_where_the_caller_vouches_that_nobody_ran",
    ),
    PlantedFault(
        "file that could not be checked passed over in silence",
        "cli/check_command.py",
        "            statuses.append(2)",
        "            statuses.append(0)",
        CHECK + "a_file_that_cannot_be_checked_is_named_and_the_others_are_checked",
    ),
    PlantedFault(
        "later rings looked for anew",
        "cli/diff_command.py",
        "    report = diff_reports(found, same_rings(later, found, arguments.offset_b, failed.append))",
        "    report = diff_reports(found, rings_of(before, later, Selection(limit=0)))",
        CLI_DIFF + "a_later_ring_that_does_not_look_like_one_is_compared_where_the_earlier_one_was",
    ),
    PlantedFault(
        "snapshot compared with itself",
        "cli/diff_command.py",
        "    if arguments.offset_b is None and all(map(os.path.isfile, files)) and os.path.samefile(*files):",
        "    if False:",
        CLI_DIFF + "a_snapshot_says_nothing_about_itself",
    ),
]
