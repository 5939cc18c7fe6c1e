"""All that is about virtqueues, in one place: imported when first asked for, since vmbus.virtio is large.

The document that `QueueDumpReport.to_json` returns is a promise, as `Report.to_json`'s: its keys keep
their names and meanings for as long as the schema's number stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from vmbus.images import Dump
from vmbus.virtio import QueueAreas, VirtioFeatures

from .queue_chain import DescriptorReport, QueueChainReport
from .queue_checks import QueueVerdict
from .queue_history import UsedReport
from .queue_image import ReadableMemory
from .queue_json import queue_to_json
from .queue_report import QueueReport, inspect_queue
from .queue_text import queue_to_lines
from .ring_report import Selection
from .to_json import SCHEMA
from .vsock_report import VsockPacketReport, examine_vsock_packet, vsock_packet_to_json

__all__ = [
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
]


class QueueDumpReport(NamedTuple):
    """The queues of a dump that somebody has said where they are."""

    path: str
    format: str
    size: int
    queues: list[QueueReport]

    @property
    def is_sound(self) -> bool:
        """True when no queue has an error or a warning."""
        return all(queue.is_sound for queue in self.queues)

    def to_json(self) -> dict[str, Any]:
        """The report as the document "vmbus.inspect/1": its rings are none."""
        return {
            "schema": SCHEMA,
            "source": {"path": self.path, "format": self.format, "size": self.size},
            "rings": [],
            "queues": [queue_to_json(queue) for queue in self.queues],
        }


def inspect_queue_dump(
    dump: Dump,
    memory: ReadableMemory,
    areas: QueueAreas,
    size: int,
    features: int = VirtioFeatures.VERSION_1,
    *,
    vsock: str | None = None,
    selection: Selection | None = None,
) -> QueueDumpReport:
    """Look at one queue of a dump; `memory` is its bytes by their addresses, all else as inspect_queue."""
    queue = inspect_queue(memory, areas, size, features, vsock=vsock, selection=selection)
    return QueueDumpReport(dump.path, dump.format, dump.size, [queue])


def queue_report_to_lines(report: QueueDumpReport, *, with_hexdump: bool = False) -> Iterator[str]:
    """The lines of a report; `with_hexdump` adds the bytes of every buffer."""
    for number, queue in enumerate(report.queues):
        if number:
            yield ""
        yield from queue_to_lines(queue, with_hexdump=with_hexdump)
