"""What `from vmbus.fuzzing import …` gives of other people's implementations: conformance checks, and programs held
against the strict reader.
"""

from .bounded_process import Answer, Ending
from .conformance import (
    CONFORMANCE_CHECKS,
    Check,
    Mismatch,
    NotConforming,
    Outcome,
    Report,
    check_channel,
    check_ring_memory,
    check_ring_pair,
    check_signal,
)
from .disagreement import Disagreement, DisagreementKind, Expected, expected_of
from .images_for_readers import ReaderImage, reader_image, reader_images
from .reader_process import BatchReader, PathReader, ReaderProgram, StdinReader
from .reader_run import DISAGREEMENT_SCHEMA, TARGET_SCHEMA, Found, ReaderReport, save_found, try_reader

__all__ = [
    "CONFORMANCE_CHECKS",
    "DISAGREEMENT_SCHEMA",
    "TARGET_SCHEMA",
    "Answer",
    "BatchReader",
    "Check",
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
    "check_channel",
    "check_ring_memory",
    "check_ring_pair",
    "check_signal",
    "expected_of",
    "reader_image",
    "reader_images",
    "save_found",
    "try_reader",
]
