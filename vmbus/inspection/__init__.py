"""Rings in a dump: find, walk, recover, check, report.

Where the rings of this package refuse what is malformed, inspection shows it and says what is wrong.
Nothing here ever stores into the memory it looks at.
"""

from .checks import Verdict, check_control
from .dump import Dump, open_dump, read_stream, sample_path
from .examine import PacketReport, examine_packet
from .findings import Finding, Severity
from .hexdump import hexdump
from .locate import RingPlace, find_rings
from .names import TYPE_NAMES, type_label
from .recover import RecoveredPacket, Trust, recover
from .report import Report, inspect_dump
from .ring_report import RingReport, Selection, check, inspect_memory
from .to_json import SCHEMA, finding_to_json, packet_to_json, ring_to_json
from .to_text import report_to_lines
from .walk import WalkedPacket, walk

__all__ = [
    "SCHEMA",
    "TYPE_NAMES",
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
    "check",
    "check_control",
    "examine_packet",
    "find_rings",
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
    "type_label",
    "walk",
]
