"""Ways to break a ring before somebody else does.

    trials          the real thing beside a slow model, driven by bytes or by Hypothesis: targets, fuzz_one, Case;
                    Trial and operation, for models of your own
    rings           RingImage and PacketImage, byte by byte; BREAKS, the named ways to break one
    explorations    explore, explore_queue, explore_sides: every schedule of two sides
    hostility       SlowMemory, HostilePeer: somebody who writes anything anywhere between any two accesses
    conformity      check_ring_memory, check_signal, check_ring_pair, check_channel: rules for other implementations;
                    try_reader for programs
    machinery       machine_of, fuzz, minimized: what needs hypothesis
    strategies      vmbus.fuzzing.strategies: needs hypothesis as well

Every name is imported when it is first asked for, from here (`from vmbus.fuzzing import explore`).
"""

from __future__ import annotations

import typing

# What is imported when the first of them is asked for; __init__.pyi tells type checkers the same.
_TRIALS = (
    "Argument",
    "ByteChannelTrial",
    "BytePipeTrial",
    "ByteSource",
    "Bytes",
    "CASE_SCHEMA",
    "Case",
    "ChannelTrial",
    "Choice",
    "Entry",
    "Flag",
    "HostileChannelTrial",
    "HostileQueueTrial",
    "HostileRingTrial",
    "IMAGES_FOLDER",
    "ImageTrial",
    "Kept",
    "Listing",
    "MessagePipeTrial",
    "Number",
    "Operation",
    "PackedQueueTrial",
    "Rest",
    "RingTrial",
    "SplitQueueTrial",
    "Step",
    "Trial",
    "Wrong",
    "corpus_of",
    "crash_path",
    "dictionary",
    "file_name",
    "fuzz_one",
    "operation",
    "pattern",
    "random_case",
    "target_named",
    "targets",
    "write_corpus",
    "write_images",
)
_RINGS = (
    "BREAKS",
    "Broken",
    "PacketImage",
    "RawRange",
    "RingBreak",
    "RingImage",
    "checked_channels",
    "checked_ring_pair",
)
_EXPLORATIONS = (
    "ExploredGuestMemory",
    "ExploredMemory",
    "ExploredSignal",
    "MAXIMUM_STATES",
    "MAXIMUM_STEPS",
    "QUEUE_FORMATS",
    "QueueSide",
    "Result",
    "RingSide",
    "Script",
    "Side",
    "Violation",
    "ViolationKind",
    "Wish",
    "Word",
    "WrongMessage",
    "WrongRequest",
    "channel_sides",
    "explore",
    "explore_queue",
    "explore_sides",
    "queue_sides",
    "ring_sides",
    "stopped_clock",
)
_HOSTILITY = (
    "Access",
    "HostilePeer",
    "HostileQueuePeer",
    "SlowGuestMemory",
    "SlowMemory",
    "Strike",
    "descriptor_bytes",
    "random_plan",
)
_CONFORMITY = (
    "Answer",
    "BatchReader",
    "CONFORMANCE_CHECKS",
    "Check",
    "DISAGREEMENT_SCHEMA",
    "Disagreement",
    "DisagreementKind",
    "Ending",
    "Expected",
    "Found",
    "Mismatch",
    "NotConforming",
    "Outcome",
    "PathReader",
    "ReaderImage",
    "ReaderProgram",
    "ReaderReport",
    "Report",
    "StdinReader",
    "TARGET_SCHEMA",
    "check_channel",
    "check_ring_memory",
    "check_ring_pair",
    "check_signal",
    "expected_of",
    "reader_image",
    "reader_images",
    "save_found",
    "try_reader",
)
_MACHINERY = (
    "Failure",
    "RunResult",
    "TrialMachine",
    "failure_of",
    "fuzz",
    "fuzz_round",
    "machine_of",
    "minimized",
)

__all__ = [  # noqa: PLE0604 - those that need hypothesis are not in it, or `import *` would need it
    *_TRIALS,
    *_RINGS,
    *_EXPLORATIONS,
    *_HOSTILITY,
    *_CONFORMITY,
]


def __getattr__(name: str) -> typing.Any:
    """The names that one of the modules above has."""
    if name in _TRIALS:
        from . import trials

        return getattr(trials, name)
    if name in _RINGS:
        from . import rings

        return getattr(rings, name)
    if name in _EXPLORATIONS:
        from . import explorations

        return getattr(explorations, name)
    if name in _HOSTILITY:
        from . import hostility

        return getattr(hostility, name)
    if name in _CONFORMITY:
        from . import conformity

        return getattr(conformity, name)
    if name in _MACHINERY:
        from . import machinery

        return getattr(machinery, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_TRIALS, *_RINGS, *_EXPLORATIONS, *_HOSTILITY, *_CONFORMITY, *_MACHINERY})
