"""Rings and virtqueues in a dump: find, walk, recover, check, report, convert.

Where the rings of this package refuse what is malformed, inspection shows it and says what is wrong.
Nothing here ever stores into the memory it looks at.

What looks at virtqueues, and what reads and writes captures, is imported when first asked for, from
here like all the rest (`from vmbus.inspection import read_capture`); `dir(vmbus.inspection)` lists it:

    virtqueues   inspect_queue, inspect_queue_dump, queue_to_json, queue_report_to_lines,
                 examine_vsock_packet, vsock_packet_to_json, and their reports: vmbus/inspection/queues.py
    captures     read_capture, is_capture, PcapngWriter, PcapWriter, LINKTYPE_USER0, and what
                 `vmbus convert` is made of, ring_packets, queue_packets, capture_packets:
                 vmbus/inspection/captures.py
"""

import typing

from vmbus.images import Dump, Finding, MissingMemory, RawDump, Run, Severity, State, open_dump, read_stream

from .checks import Verdict, check_control
from .examine import PacketReport, examine_packet
from .hexdump import hexdump
from .locate import find_rings
from .names import TYPE_NAMES, type_label
from .recover import RecoveredPacket, Trust, recover
from .report import Report, check, inspect_dump
from .ring_in_dump import DumpRingMem, memory_of
from .ring_place import RingDevice, RingPlace
from .ring_report import RingReport, Selection, inspect_memory
from .sample import sample_path
from .to_json import SCHEMA, finding_to_json, packet_to_json, ring_to_json
from .to_text import report_to_lines
from .walk import WalkedPacket, walk

__all__ = [
    "SCHEMA",
    "TYPE_NAMES",
    "Dump",
    "DumpRingMem",
    "Finding",
    "MissingMemory",
    "PacketReport",
    "RawDump",
    "RecoveredPacket",
    "Report",
    "RingDevice",
    "RingPlace",
    "RingReport",
    "Run",
    "Selection",
    "Severity",
    "State",
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
    "memory_of",
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

# What is imported when the first of them is asked for: whoever looks at rings does not wait for the others.
# Not in __all__, or `import *` would load them.
_QUEUES = (
    "DescriptorReport",
    "QueueChainReport",
    "QueueDumpReport",
    "QueueReport",
    "QueueVerdict",
    "UsedReport",
    "VsockPacketReport",
    "examine_vsock_packet",
    "inspect_queue",
    "inspect_queue_dump",
    "queue_report_to_lines",
    "queue_to_json",
    "vsock_packet_to_json",
)
_CAPTURES = (
    "CaptureInterface",
    "CapturedPacket",
    "Convertible",
    "ConvertiblePacket",
    "Direction",
    "LINKTYPE_USER0",
    "LINKTYPE_WIRESHARK_UPPER_PDU",
    "PcapWriter",
    "PcapngWriter",
    "RingFrame",
    "RingFrameHeader",
    "capture_packets",
    "frame_to_report",
    "is_capture",
    "parse_ring_frame",
    "queue_packets",
    "read_capture",
    "ring_packets",
    "write_ring_capture",
)
_SCANS = (
    "ChannelRings",
    "ControlCandidate",
    "FoundMessage",
    "FoundRing",
    "LARGEST_LOOKED_FOR",
    "MessageFinder",
    "PageList",
    "RINGS_SCORE",
    "Reason",
    "RingPages",
    "SCAN_SCHEMA",
    "ScanOptions",
    "ScanReport",
    "Sighting",
    "channel_rings",
    "find_control_pages",
    "found_ring_to_json",
    "look_through",
    "parts_of",
    "scan",
    "scan_many",
    "scan_to_json",
    "scan_to_lines",
    "worker_pool",
)
_JUDGEMENT = (
    "CHECKS",
    "CHECKS_BY_NAME",
    "CHECK_SCHEMA",
    "Chain",
    "Check",
    "CheckedFile",
    "DIFF_SCHEMA",
    "DiffReport",
    "GuessedPacket",
    "OwedSignal",
    "RingDiff",
    "STANDING_REQUEST",
    "check_list_to_json",
    "check_to_json",
    "check_to_json_lines",
    "diff",
    "diff_reports",
    "guess_chain",
    "match_rings",
    "owed_signals",
    "owed_to_json",
    "place_of",
    "stuck_findings",
    "verdict_text",
)
_CRAFTS = (
    "CRAFT_EXAMPLE",
    "CraftedImage",
    "craft",
    "craft_image",
    "craft_ring",
    "report_to_html",
)


def __getattr__(name: str) -> typing.Any:
    """The names that one of the modules above has."""
    if name in _QUEUES:
        from . import queues

        return getattr(queues, name)
    if name in _CAPTURES:
        from . import captures

        return getattr(captures, name)
    if name in _SCANS:
        from . import scans

        return getattr(scans, name)
    if name in _JUDGEMENT:
        from . import judgement

        return getattr(judgement, name)
    if name in _CRAFTS:
        from . import crafts

        return getattr(crafts, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_QUEUES, *_CAPTURES, *_SCANS, *_JUDGEMENT, *_CRAFTS})
