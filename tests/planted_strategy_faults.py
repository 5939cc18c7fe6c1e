"""Faults to plant in the builders of rings, in the strategies and in what pytest and Hypothesis are told: each a line
of the shipped source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_STRATEGY_FAULTS"]

IMAGES = "fuzzing/test_ring_images.py::test_"
BREAKS = "fuzzing/test_ring_breaks.py::test_"
EACH = BREAKS + "each_break_is_refused_by_the_rule_that_it_breaks_and_what_is_before_it_delivered"
STRATEGIES = "fuzzing/test_strategies.py::test_"
CORNER = STRATEGIES + "two_hundred_rings_have_each_corner_several_times"
SCRIPTS = "fuzzing/test_script_strategies.py::test_"
SCHEMAS = "fuzzing/test_schema_strategies.py::test_"
ENTRY = "fuzzing/test_hypothesis_entry.py::test_"
PLUGIN = "fuzzing/test_pytest_plugin.py::test_"

PLANTED_STRATEGY_FAULTS = [
    # -- images ------------------------------------------------------------------------------------
    PlantedFault(
        "footer of an image that names no place",
        "fuzzing/packet_builder.py",
        "        footer = FOOTER.pack(Footer(0, offset)) if self.footer is None else self.footer",
        "        footer = FOOTER.pack(Footer(0, 0)) if self.footer is None else self.footer",
        IMAGES + "a_packet_has_the_bytes_that_are_spelled_by_hand[in-band-0]",
    ),
    PlantedFault(
        "image whose packets do not wrap",
        "fuzzing/ring_images.py",
        "                data[: max(0, len(there) - first)] = there[first:]",
        "                pass",
        IMAGES + "a_strict_reader_finds_the_packets_of_an_image[all kinds]",
    ),
    PlantedFault(
        "image that is filled over its last slot",
        "fuzzing/ring_images.py",
        "        if self.used > self.data_size - SLOT:",
        "        if self.used > self.data_size:",
        IMAGES + "a_full_image_has_no_room_for_another_slot",
    ),
    PlantedFault(
        "consumed packets behind out",
        "fuzzing/ring_images.py",
        "        oldest = (self.out_offset - sum(packet.size for packet in self.consumed)) % size",
        "        oldest = self.out_offset",
        IMAGES + "consumed_packets_end_where_the_waiting_ones_begin_and_stale_bytes_fill_the_rest",
    ),
    # -- breaks ------------------------------------------------------------------------------------
    PlantedFault(
        "break of a footer that leaves too little for a packet",
        "fuzzing/break_changes.py",
        "    return victim.packet.length >= SMALLEST_PACKET",
        "    return True",
        f"{EACH}[footer-not-published]",
    ),
    PlantedFault(
        "length beyond in that ends at in",
        "fuzzing/break_changes.py",
        "    least = victim.available8 + 1",
        "    least = victim.available8",
        f"{EACH}[length-beyond-in]",
    ),
    PlantedFault(
        "broken packet counted as one to be delivered",
        "fuzzing/break_changes.py",
        "        return break_packet(victim, picks), victim.number",
        "        return break_packet(victim, picks), victim.number + 1",
        f"{EACH}[length-too-short]",
    ),
    # -- strategies --------------------------------------------------------------------------------
    PlantedFault(
        "end of the ring left to luck",
        "fuzzing/image_strategies.py",
        "            out_offset = (size - picked(draw, places_of(waiting, part))) % size",
        "            out_offset = 0",
        f"{CORNER}[end-in-footer]",
    ),
    PlantedFault(
        "full ring with a slot left",
        "fuzzing/image_strategies.py",
        "    left = size - SLOT - slots * SLOT - sum(packet.size for packet in waiting)",
        "    left = size - SLOT - (slots + 1) * SLOT - sum(packet.size for packet in waiting)",
        f"{CORNER}[full]",
    ),
    PlantedFault(
        "longest payload never drawn",
        "fuzzing/value_strategies.py",
        "    lengths = st.one_of(st.integers(0, longest), st.sampled_from(corners), st.just(longest))",
        "    lengths = st.integers(0, longest - 1)",
        STRATEGIES + "three_hundred_packets_have_each_corner[longest payload]",
    ),
    PlantedFault(
        "number with more bits than its field",
        "fuzzing/value_strategies.py",
        "    fitting = sorted(corner for corner in corners if 0 <= corner <= largest)",
        "    fitting = sorted(corners)",
        STRATEGIES + "numbers_have_no_more_bits_than_they_may[7]",
    ),
    PlantedFault(
        "signed numbers drawn without a sign",
        "fuzzing/schema_strategies.py",
        "    if not signed:",
        "    if signed:",
        SCHEMAS + "numbers_with_a_sign_are_drawn_up_to_both_ends_and_no_further[a byte]",
    ),
    PlantedFault(
        "somebody's own class taken for what it wraps",
        "fuzzing/schema_strategies.py",
        "            break  # somebody's own class may do anything",
        "            return of_part(part.subcon, path)",
        SCHEMAS
        + "what_has_no_fixed_size_or_cannot_be_built_is_refused_by_its_place_and_why[a class of somebody]",
    ),
    PlantedFault(
        "steps of a number forgotten",
        "fuzzing/script_strategies.py",
        "        anywhere = st.integers(0, (high - low) // step).map(lambda count: low + step * count)",
        "        anywhere = st.integers(low, high)",
        SCRIPTS + "a_number_in_steps_is_drawn_only_where_a_step_is",
    ),
    # -- pytest and Hypothesis ---------------------------------------------------------------------
    PlantedFault(
        "types of this package drawn wherever something is hashable",
        "fuzzing/hypothesis_entry.py",
        "        return make() if asked is kind else NotImplemented",
        "        return make()",
        ENTRY + "types_of_others_are_not_drawn_as_ours",
    ),
    PlantedFault(
        "fault of an end forgotten when the test is over",
        "fuzzing/plugin_fixtures.py",
        "        for ask in (sender.outgoing, receiver.incoming):",
        "        for ask in ():",
        PLUGIN + "an_end_that_has_met_a_broken_ring_is_noticed_although_the_ring_is_whole_again",
    ),
    PlantedFault(
        "plugin that imports Hypothesis at every start",
        "fuzzing/pytest_plugin.py",
        "import pytest",
        "import hypothesis, pytest",
        PLUGIN + "the_plugin_imports_nothing_heavy[alone]",
    ),
    PlantedFault(
        "name for a number that its field cannot hold",
        "fuzzing/schema_strategies.py",
        "    for name, number in part.encmapping.items():",
        "    for name, number in ():",
        SCHEMAS
        + "what_has_no_fixed_size_or_cannot_be_built_is_refused_by_its_place_and_why[name that is too large]",
    ),
    PlantedFault(
        "bits that are no whole bytes",
        "fuzzing/schema_strategies.py",
        "    if part.decodeamount not in (size, 8 * size, size / 8):",
        "    if part.decodeamount not in (size, 8 * size, size // 8):",
        SCHEMAS + "what_has_no_fixed_size_or_cannot_be_built_is_refused_by_its_place_and_why[seven bits]",
    ),
    PlantedFault(
        "two fields of one name",
        "fuzzing/schema_strategies.py",
        "        if field.name in fields:",
        "        if False:",
        SCHEMAS + "what_has_no_fixed_size_or_cannot_be_built_is_refused_by_its_place_and_why[one name twice]",
    ),
]
