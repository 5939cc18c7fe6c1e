"""Faults to plant in the explorer: each a line of the shipped source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.  An explorer that finds less than there is
would be silent about it: most of these are such.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_EXPLORE_FAULTS"]

WEAK = "exploration/test_explore_weak_stores.py::test_"
QUEUES = "exploration/test_explore_queues.py::test_"
COMMAND = "cli/test_fuzz_explore.py::test_"
BEHIND = WEAK + "behind_a_release_or_a_fence_the_flag_comes_last"

PLANTED_EXPLORE_FAULTS = [
    # -- stores that pass stores -------------------------------------------------------------------
    PlantedFault(
        "store that passes one to the same place",
        "exploration/buffers.py",
        "            if not any(store.overlaps(earlier) for earlier in self.stores[:at]):",
        "            if True:",
        WEAK + "stores_to_one_word_are_seen_in_their_order",
    ),
    PlantedFault(
        "only the oldest store of a loose buffer",
        "exploration/buffers.py",
        "        for at, store in enumerate(self.stores):",
        "        for at, store in enumerate(self.stores[:1]):",
        WEAK + "a_flag_may_be_seen_before_the_data_that_was_stored_before_it_and_only_then",
    ),
    PlantedFault(
        "release that every store passes",
        "exploration/buffers.py",
        "                break",
        "                continue",
        BEHIND + "[between0]",
    ),
    PlantedFault(
        "release that is dropped when it is behind a store",
        "exploration/buffers.py",
        "                if not (before is BARRIER and store is BARRIER)",
        "                if store is not BARRIER",
        BEHIND + "[between0]",
    ),
    PlantedFault(
        "bytes side by side taken for the same place",
        "exploration/buffers.py",
        "            and self.offset < other.offset + len(other.data)",
        "            and self.offset <= other.offset + len(other.data)",
        WEAK + "bytes_that_overlap_keep_their_order_and_others_do_not",
    ),
    PlantedFault(
        "release that nobody hears of",
        "exploration/sides.py",
        "            self.act(Act(ActKind.RELEASE))",
        "            pass",
        BEHIND + "[between0]",
    ),
    PlantedFault(
        "release that is a fence",
        "exploration/sides.py",
        "            self.act(Act(ActKind.RELEASE))",
        "            self.fence()",
        WEAK + "a_release_keeps_stores_in_order_and_no_load_behind_them",
    ),
    # -- virtqueues --------------------------------------------------------------------------------
    PlantedFault(
        "standing wish that is answered for good",
        "exploration/shared.py",
        "                outdated |= bits.heard | bits.fresh | (bits.answered if wish.standing else 0)",
        "                outdated |= bits.heard | bits.fresh",
        QUEUES + "no_schedule_loses_a_request_or_a_wake_or_signals_needlessly[split, two requests]",
    ),
    PlantedFault(
        "event of a packed queue that is no wish of its own",
        "exploration/shared.py",
        "                store.keeps &= ~(fresh | answered)",
        "                pass",
        QUEUES
        + "no_schedule_loses_a_request_or_a_wake_or_signals_needlessly[packed, event idx, two requests in turn]",
    ),
    PlantedFault(
        "wishes of a queue that nobody judges",
        "exploration/queue_explorer.py",
        "        wishes=list((packed_wishes if plan.packed else split_wishes)(event_idx, plan.queue_size)),",
        "        wishes=(),",
        QUEUES + "a_device_that_signals_twice_for_one_completion_signals_needlessly[split]",
    ),
    PlantedFault(
        "fence of a queue that is none",
        "exploration/explored_guest_memory.py",
        "        self.fence = side.fence",
        "        self.fence = in_order",
        QUEUES + "no_schedule_loses_a_request_or_a_wake_or_signals_needlessly[split, a silent request]",
    ),
    PlantedFault(
        "slots of the queue that share one name",
        "exploration/queue_plan.py",
        '        yield f"avail slot {slot}", driver + RING_HEADER_SIZE + WORD * slot',
        '        yield "avail slot", driver + RING_HEADER_SIZE + WORD * slot',
        QUEUES + "an_explored_memory_holds_each_byte_of_the_block_once[split]",
    ),
    # -- the command -------------------------------------------------------------------------------
    PlantedFault(
        "violation that the exit status does not tell of",
        "cli/fuzz_explore.py",
        "    return 0 if result.violation is None else 1",
        "    return 0",
        COMMAND + "sides_of_ones_own_are_explored_and_their_story_told[asleep_by_path.py]",
    ),
    PlantedFault(
        "exploration that was cut short called complete",
        "cli/fuzz_explore.py",
        "    elif result.complete:",
        "    elif result.violation is None:",
        COMMAND
        + "an_exploration_that_ends_early_says_which_bound_ended_it"
        + "[options0-there are more than 100 states (--max-states)]",
    ),
    PlantedFault(
        "--weak-stores without effect",
        "cli/fuzz_explore.py",
        "            stores_pass_stores=arguments.weak_stores,",
        "            stores_pass_stores=False,",
        COMMAND
        + "a_command_explores_what_the_library_does_with_the_same_options[channel --packets 1 --weak-stores]",
    ),
    PlantedFault(
        "failed side of which the line before is told",
        "exploration/sides.py",
        "            found = file, frame.tb_lineno",
        "            found = found or (file, frame.tb_lineno - 1)",
        COMMAND + "the_story_says_in_which_line_of_its_file_a_side_failed",
    ),
    PlantedFault(
        "failed side of which this package's own line is told",
        "exploration/sides.py",
        "        if not file.startswith(PACKAGE):",
        "        if file:",
        COMMAND + "the_story_says_in_which_line_of_its_file_a_side_failed",
    ),
    PlantedFault(
        "side of other parameters explored and called a violation",
        "cli/user_code.py",
        "        parameters.bind(*range(count))",
        "        parameters.bind_partial()",
        COMMAND + "a_side_that_cannot_be_called_as_one_is_refused_and_no_violation",
    ),
    PlantedFault(
        "code that catches its stop for ever",
        "exploration/sides.py",
        "        if self._stops > MOST_STOPS:",
        "        if self._stops > 1000 * MOST_STOPS:",
        "exploration/test_explore_sides.py::test_code_that_catches_the_stop_for_ever_while_it_stores_is_refused",
    ),
    PlantedFault(
        "second yield taken for an end",
        "exploration/sides.py",
        '    side.refuse("a side yields a second time: one `yield` ends what is done before the exploration begins")',
        "    return None",
        "exploration/test_explore_sides.py::test_a_second_yield_is_refused",
    ),
    PlantedFault(
        "side of two threads",
        "exploration/sides.py",
        "        if get_ident() != self._thread:",
        "        if False:",
        "exploration/test_explore_sides.py::test_a_side_with_a_thread_of_its_own_is_refused",
    ),
    PlantedFault(
        "cleanup at a yield that fails",
        "exploration/sides.py",
        "            with suppress(Stop, Exception):",
        "            with suppress(Stop):",
        "exploration/test_explore_sides.py::test_a_script_that_fails_when_it_is_thrown_away_at_its_yield_disturbs_nobody",
    ),
]
