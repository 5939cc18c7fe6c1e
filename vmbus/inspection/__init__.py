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

# What is imported when the first of them is asked for: whoever looks at rings does not wait for vmbus.virtio.
# Not in __all__, or `import *` would load them.
_QUEUE_NAMES = (
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
_CAPTURE_NAMES = (
    "LINKTYPE_USER0",
    "CapturedPacket",
    "Convertible",
    "ConvertiblePacket",
    "PcapWriter",
    "PcapngWriter",
    "capture_packets",
    "is_capture",
    "queue_packets",
    "read_capture",
    "ring_packets",
)


def __getattr__(name: str) -> typing.Any:
    """The names about virtqueues, and those about captures."""
    if name in _QUEUE_NAMES:
        from . import queues

        return getattr(queues, name)
    if name in _CAPTURE_NAMES:
        from . import captures

        return getattr(captures, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_QUEUE_NAMES, *_CAPTURE_NAMES})
