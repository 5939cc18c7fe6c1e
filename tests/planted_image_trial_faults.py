"""Faults in inspection that the trial of ring images finds: see planted_trial_faults.py."""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_IMAGE_TRIAL_FAULTS"]

IMAGE = "fuzzing/test_trials_find_faults.py::test_a_target_finds_nothing_wrong[image]"

PLANTED_IMAGE_TRIAL_FAULTS = [
    PlantedFault(
        "B28: footer forgotten by a walk",
        "inspection/walk.py",
        "        taken = descriptor.length8 * SLOT + FOOTER_SIZE",
        "        taken = descriptor.length8 * SLOT",
        IMAGE,
    ),
    PlantedFault(
        "B26: index out of range passed over",
        "inspection/checks.py",
        "        if not is_offset(size, index):",
        "        if index % SLOT:",
        IMAGE,
    ),
    PlantedFault(
        "B53: payload that begins in the descriptor shown as good",
        "inspection/examine.py",
        "        findings = [] if walked.fault is None else [descriptor_finding(walked)]",
        "        findings = [] if walked.fault is None or walked.available > 64 else [descriptor_finding(walked)]",
        IMAGE,
    ),
    PlantedFault(
        "B55: fault in the ranges not noted",
        "inspection/examine.py",
        "                findings.append(packet_finding(walked.offset, error))",
        "                del error",
        IMAGE,
    ),
    PlantedFault(
        "B32: padding cut off the payload that is shown",
        "inspection/examine.py",
        "        header, payload = data[DESCRIPTOR_SIZE:data_offset], data[data_offset:length]",
        '        header, payload = data[DESCRIPTOR_SIZE:data_offset], data[data_offset:length].rstrip(b"\\0")',
        IMAGE,
    ),
    PlantedFault(
        "ranges of a packet with few of them not shown",
        "inspection/examine.py",
        "        if data_offset >= smallest:",
        "        if data_offset > smallest + 16:",
        IMAGE,
    ),
    PlantedFault(
        "B29: packet across the end of the ring not recovered",
        "inspection/recover.py",
        "    length = used_bytes(size, end, start)",
        "    length = end - start",
        IMAGE,
    ),
    PlantedFault(
        "ring with little in it called idle",
        "inspection/checks.py",
        "    if used_bytes(size, control.in_offset, control.out_offset):",
        "    if used_bytes(size, control.in_offset, control.out_offset) > 1000:",
        IMAGE,
    ),
    PlantedFault(
        "error that does not make a ring corrupt",
        "inspection/checks.py",
        "    if has_errors:",
        "    if has_errors and not all_zero and size > 4096:",
        IMAGE,
    ),
    PlantedFault(
        "free bytes shown without the slot that stays empty",
        "inspection/ring_report.py",
        "        free=free_bytes(memory.size, control.in_offset, control.out_offset) if valid else None,",
        "        free=free_bytes(memory.size, control.in_offset, control.out_offset) + 8 if valid else None,",
        IMAGE,
    ),
]
