"""Faults to plant in the live view of a guest's channels: each a line of the shipped source, a wrong one, and who
must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_TOP_FAULTS"]

COUNTED = "uio/test_counters.py::test_"
TOP = "cli/test_top.py::test_"
SCREEN = "cli/test_top_screen.py::test_"

PLANTED_TOP_FAULTS = [
    # -- rates and fills ---------------------------------------------------------------------------
    PlantedFault(
        "rate of a counter that went back",
        "uio/counters.py",
        "    return all(old is None or new is None or new >= old for old, new in pairs)",
        "    return True",
        COUNTED + "a_counter_that_went_back_is_of_a_new_channel_and_none_of_its_rates_means_anything",
    ),
    PlantedFault(
        "rate between two subchannels of one relid",
        "uio/counters.py",
        "    if channel.subchannel_id != before.subchannel_id:",
        "    if False:",
        COUNTED + "a_relid_that_is_now_another_subchannel_has_no_rates",
    ),
    PlantedFault(
        "size of a subchannel's rings without its control pages",
        "uio/counters.py",
        "    size = channel.ring_size // 2 - page_size",
        "    size = channel.ring_size // 2 - PAGE_SIZE",
        COUNTED + "the_file_of_its_rings_tells_the_size_of_a_subchannels[65536]",
    ),
    PlantedFault(
        "wild index shown as a fill",
        "uio/counters.py",
        "        if self.used is None or not self.data_size or self.is_broken:",
        "        if self.used is None or not self.data_size:",
        COUNTED + "an_index_that_no_ring_can_have_is_shown_as_broken_and_not_as_full",
    ),
    PlantedFault(
        "pending bit of the whole group",
        "uio/counters.py",
        "        return bool(pending >> monitor % MONITOR_GROUP & 1)",
        "        return bool(pending)",
        COUNTED + "of_a_group_of_monitored_channels_each_has_its_own_bit[32-6-False]",
    ),
    # -- the table ---------------------------------------------------------------------------------
    PlantedFault(
        "unknown values sorted first",
        "cli/top_columns.py",
        "    return [row for _, row in known] + missing",
        "    return missing + [row for _, row in known]",
        TOP + "what_is_not_known_comes_last_in_either_order",
    ),
    PlantedFault(
        "columns kept that there is no room for",
        "cli/top_columns.py",
        "            if chosen and needed + GAP > room:",
        "            if False:",
        TOP + "the_sorted_column_is_among_those_that_a_narrow_screen_keeps",
    ),
    PlantedFault(
        "ring with a packet shown as an empty one",
        "cli/top_text.py",
        "    full = ceil(fraction * length)",
        "    full = int(fraction * length)",
        TOP + "a_bar_tells_how_full_a_ring_is[fill1-#.......  <1%]",
    ),
    PlantedFault(
        "cursor that follows the first row it was on",
        "cli/top_view.py",
        "        if self.selected is None:",
        "        if False:",
        TOP + "the_cursor_stays_on_its_channel_and_before_it_was_moved_on_the_first_row",
    ),
    # -- the loop and the screen -------------------------------------------------------------------
    PlantedFault(
        "pause that goes on looking",
        "cli/top_loop.py",
        "        if view.paused or clock() < due:",
        "        if clock() < due:",
        TOP + "nothing_is_looked_at_during_a_pause",
    ),
    PlantedFault(
        "no rest where a look takes longer than the interval",
        "cli/top_loop.py",
        "        due = max(picture.sample.at + view.interval, 2 * clock() - picture.sample.at)",
        "        due = picture.sample.at + view.interval",
        TOP + "a_look_that_takes_longer_than_the_interval_is_followed_by_as_long_a_rest",
    ),
    PlantedFault(
        "terminal left as curses has it",
        "cli/top_screen.py",
        "                curses.endwin()",
        "                pass",
        SCREEN + "the_screen_shows_the_channels_and_q_leaves_the_terminal_as_it_was",
    ),
    PlantedFault(
        "colour in spite of NO_COLOR",
        "cli/top_screen.py",
        '        if os.environ.get("NO_COLOR") or not curses.has_colors():',
        "        if not curses.has_colors():",
        SCREEN + "no_color_is_honoured[1-False]",
    ),
    PlantedFault(
        "control characters of a name sent to the terminal",
        "cli/top_columns.py",
        "        return printable(value(row) or UNKNOWN)",
        "        return value(row) or UNKNOWN",
        SCREEN + "control_characters_are_escaped_and_wide_ones_have_two_cells",
    ),
]
