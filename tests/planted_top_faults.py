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
        '        halves = halves_of(channel.ring_size, page_size or PAGE_SIZE, "the file `ring`")',
        '        halves = halves_of(channel.ring_size, PAGE_SIZE, "the file `ring`")',
        COUNTED + "the_file_of_its_rings_tells_the_size_of_a_subchannels[65536]",
    ),
    PlantedFault(
        "size of a subchannel's rings certain without a page size",
        "uio/counters.py",
        "    return Size(halves.ring_size - halves.header_size, assumed=page_size is None)",
        "    return Size(halves.ring_size - halves.header_size)",
        COUNTED
        + "in_a_copy_that_does_not_tell_its_page_size_the_size_of_a_subchannels_rings_is_a_guess[without_node]",
    ),
    PlantedFault(
        "pages of this machine's kernel taken for those of a copy's",
        "uio/page_sizes.py",
        "    if system.is_this_machine:",
        "    if True:",
        COUNTED + "the_file_of_its_rings_tells_the_size_of_a_subchannels[65536]",
    ),
    PlantedFault(
        "one of several page sizes believed",
        "uio/page_sizes.py",
        "    return told.pop() if len(told) == 1 else None",
        "    return max(told, default=None)",
        COUNTED
        + "in_a_copy_that_does_not_tell_its_page_size_the_size_of_a_subchannels_rings_is_a_guess"
        + "[with_nodes_that_disagree]",
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
        "        return bool(pending >> monitor_place(monitor).bit & 1)",
        "        return bool(pending)",
        COUNTED + "of_a_group_of_monitored_channels_each_has_its_own_bit[32-6-False]",
    ),
    # -- JSON --------------------------------------------------------------------------------------
    PlantedFault(
        "class called otherwise than in the list of devices",
        "cli/top_json.py",
        '        "class_name": device.class_name,',
        '        "class_name": device.name,',
        TOP + "what_the_json_of_devices_has_too_is_called_the_same_there",
    ),
    PlantedFault(
        "key of a channel that nothing documents",
        "cli/top_json.py",
        '        "cpu": channel.cpu,',
        '        "cpu": channel.cpu, "latency": channel.latency,',
        TOP + "every_key_of_the_json_is_documented",
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
        "ring with a packet shown as an eighth full",
        "cli/top_text.py",
        "    full, rest = divmod(int(fraction * length * steps + 0.5), steps)",
        "    full, rest = divmod(int(fraction * length * steps + 0.999), steps)",
        TOP + "a_bar_tells_how_full_a_ring_is",
    ),
    PlantedFault(
        "message broken inside a word",
        "cli/top_text.py",
        '            first = first[: first.rindex(" ")]',
        "            pass",
        TOP + "a_message_breaks_between_words",
    ),
    PlantedFault(
        "help that goes on without a word",
        "cli/top_table.py",
        "    if page and view.help_top + page < len(text):",
        "    if False:",
        TOP + "the_help_is_whole_at_any_width_and_says_where_there_is_more",
    ),
    PlantedFault(
        "columns known by small letters alone",
        "cli/top_command.py",
        "    if text.lower() in COLUMN_NAMES:",
        "    if text in COLUMN_NAMES:",
        TOP + "what_stands_above_a_column_is_its_name",
    ),
    PlantedFault(
        "filter that leaves nothing and all is well",
        "cli/top_command.py",
        "    return 1 if broken or not found else 0",
        "    return 1 if broken else 0",
        TOP + "a_filter_that_leaves_nothing_ends_with_1_as_that_of_devices_does",
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
        "byte that is no character not left out",
        "cli/top_screen.py",
        '        self._characters = getincrementaldecoder(window.encoding)("ignore")',
        '        self._characters = getincrementaldecoder(window.encoding)("strict")',
        SCREEN + "bytes_that_are_no_character_are_no_key_and_hide_none",
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
