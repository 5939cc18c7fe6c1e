"""Rings in a dump: find, walk, recover, check, report.

Where the rings of this package refuse what is malformed, inspection shows it and says what is wrong.
Nothing here ever stores into the memory it looks at.
"""

from .check import Verdict, check_control
from .dump import Dump, open_dump, read_stream, sample_path
from .examine import PacketReport, examine_packet
from .findings import Finding, Severity
from .hexdump import hexdump
from .locate import RingPlace
from .recover import RecoveredPacket, Trust, recover
from .report import Report, inspect_dump
from .ring_report import RingReport, Selection, inspect_memory
from .to_json import SCHEMA, finding_to_json, packet_to_json, ring_to_json
from .to_text import report_to_lines
from .walk import WalkedPacket, walk

__all__ = [
    "SCHEMA",
    "Dump",
    "Finding",
    "PacketReport",
    "RecoveredPacket",
    "Report",
    "RingPlace",
    "RingReport",
    "Selection",
    "Severity",
    "Trust",
    "Verdict",
    "WalkedPacket",
    "check_control",
    "examine_packet",
    "finding_to_json",
    "hexdump",
    "inspect_dump",
    "inspect_memory",
    "open_dump",
    "packet_to_json",
    "read_stream",
    "recover",
    "report_to_lines",
    "ring_to_json",
    "sample_path",
    "walk",
]
