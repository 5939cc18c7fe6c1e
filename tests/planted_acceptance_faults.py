"""Faults to plant in the models of other implementations and in what compares them: each a line of the shipped
source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_ACCEPTANCE_FAULTS"]

READS = "acceptance/test_models.py::test_each_implementation_reads_each_malformed_condition_as_it_is_known_to"
WAKES = "acceptance/test_models.py::test_each_implementation_wakes_the_sender_by_the_rule_it_is_known_to_have"
WRITES = "acceptance/test_models.py::test_each_implementation_writes_and_wakes_the_reader_as_it_is_known_to"
FRAME = "acceptance/test_acceptance.py::test_"
COMMAND = "cli/test_fuzz_compare.py::test_"

PLANTED_ACCEPTANCE_FAULTS = [
    PlantedFault(
        "model of Linux that asks for the footer",
        "acceptance/model_linux.py",
        "        if length < DESCRIPTOR_SIZE or length > most:",
        "        if length < DESCRIPTOR_SIZE or length + FOOTER_SIZE > most:",
        READS + "[in is no multiple of 8]",
    ),
    PlantedFault(
        "model of Linux that looks for a wrong payload in the descriptor",
        "acceptance/model_linux.py",
        "            data_offset = DESCRIPTOR_SIZE",
        "            data_offset = 0",
        READS + "[data_offset8 is beyond length8]",
    ),
    PlantedFault(
        "model of OpenVMM that asks for the footer",
        "acceptance/model_openvmm.py",
        "        if length > available:",
        "        if length + FOOTER_SIZE > available:",
        READS + "[footer not published]",
    ),
    PlantedFault(
        "model of OpenVMM that writes the largest packet",
        "acceptance/model_openvmm.py",
        "        if size >= ring.size - 8:",
        "        if size > ring.size - 8:",
        WRITES + "[all that is free in an empty ring]",
    ),
    PlantedFault(
        "model of OpenVMM that takes ranges without bytes",
        "acceptance/model_openvmm.py",
        "        if byte_count == 0:",
        "        if byte_count < 0:",
        READS + "[GPA range without bytes]",
    ),
    PlantedFault(
        "model of DPDK that takes a packet without its footer",
        "acceptance/model_dpdk.py",
        "        if length + FOOTER_SIZE > available:",
        "        if length > available:",
        READS + "[footer not published]",
    ),
    PlantedFault(
        "model of FreeBSD that claims what was not read",
        "acceptance/model_freebsd.py",
        "            return Step(out, Answer.UNKNOWN, NOT_READ).inferred()",
        "            return Step(out, Answer.ERROR, NOT_READ)",
        READS + "[length8 is 0]",
    ),
    PlantedFault(
        "model of UEFI that knows where a payload begins",
        "acceptance/model_uefi.py",
        "        if DESCRIPTOR_SIZE <= data_offset <= length:",
        "        if True:",
        READS + "[data_offset8 is 0]",
    ),
    PlantedFault(
        "model of QEMU that refuses ranges without bytes",
        "acceptance/model_qemu.py",
        "        if byte_count:  # a range without bytes has no page numbers, and is taken",
        "        if True:",
        READS + "[GPA range without bytes, inside its page]",
    ),
    PlantedFault(
        "model of QEMU that does not heed the mask when it reads",
        "acceptance/model_qemu.py",
        "        if ring.interrupt_mask:",
        "        if False:",
        WAKES + "[mask set]",
    ),
    PlantedFault(
        "models of guests whose numbers never wrap around",
        "acceptance/model_arithmetic.py",
        "        return u32(size - (write_index - read_index))",
        "        return max(0, size - (write_index - read_index))",
        FRAME + "a_free_space_that_no_ring_has_is_counted_as_32_bits_count_it",
    ),
    PlantedFault(
        "models of guests that signal when free equals pending",
        "acceptance/model_arithmetic.py",
        "    verdict = free_before <= pending < free",
        "    verdict = free_before < pending <= free",
        WAKES + "[pending size is 8 more]",
    ),
    PlantedFault(
        "descriptor read anew for every model",
        "acceptance/model.py",
        "        data = self._descriptors[offset] = self.read_at(offset, DESCRIPTOR_SIZE)",
        "        data = self.read_at(offset, DESCRIPTOR_SIZE)",
        FRAME + "all_models_see_the_same_descriptor_where_somebody_changes_it",
    ),
    PlantedFault(
        "difference made by a guess",
        "acceptance/differences.py",
        "    sure = [(model, step) for model, step in steps if step.verified]",
        "    sure = list(steps)",
        FRAME + "what_is_not_verified_makes_no_difference",
    ),
    PlantedFault(
        "comparison that agrees whatever differs",
        "cli/fuzz_compare.py",
        "    return int(not all(comparison.agree for _, comparison in compared))",
        "    return 0",
        COMMAND + "the_table_has_a_column_for_each_implementation_and_a_row_for_each_packet",
    ),
]
