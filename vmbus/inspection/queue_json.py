"""A queue's report as JSON: integers stay integers, bytes are lowercase hex, unknown is null.

64-bit numbers come a second time in hex under a key ending in _hex: jq and browsers round above
2**53.  Keys never change their meaning.
"""

from __future__ import annotations

from typing import Any

from vmbus.images import Finding
from vmbus.virtio import (
    AvailableRingFlags,
    DescriptorFlags,
    EventFlags,
    EventSuppression,
    UsedRingFlags,
    VirtioFeatures,
)

from .names import bit_names
from .packed_lists import PackedPlace
from .queue_chain import DescriptorReport, QueueChainReport
from .queue_checks import WRAP
from .queue_history import UsedReport
from .queue_image import SplitWords
from .queue_report import QueueReport
from .vsock_report import vsock_packet_to_json

__all__ = ["chain_to_json", "queue_finding_to_json", "queue_to_json", "used_to_json"]


def queue_to_json(queue: QueueReport) -> dict[str, Any]:
    """One item of the document's "queues"."""
    document: dict[str, Any] = {}
    for name, address in queue.areas._asdict().items():
        document |= with_hex(name, address)
    driver, device = (None, None) if queue.words is None else (queue.words.driver, queue.words.device)
    return document | {
        "size": queue.size,
        "format": "packed" if queue.packed else "split",
        "features": bit_names(VirtioFeatures, queue.features),
        **with_hex("features_value", queue.features),
        "vsock_queue": queue.vsock,
        "available": ring_to_json(queue.available, AvailableRingFlags, "used_event"),
        "used": ring_to_json(queue.used, UsedRingFlags, "available_event"),
        "driver_event": event_to_json(driver),
        "device_event": event_to_json(device),
        "next_available": place_to_json(queue.next_available),
        "next_used": place_to_json(queue.next_used),
        "waiting": queue.waiting,
        "missing": queue.missing,
        "in_order": queue.in_order,
        "verdict": queue.verdict.value,
        "chains": [chain_to_json(chain, queue) for chain in queue.chains],
        "history": [used_to_json(one, queue) for one in queue.history],
        "findings": [queue_finding_to_json(finding) for finding in queue.findings],
    }


def with_hex(name: str, value: int) -> dict[str, Any]:
    return {name: int(value), f"{name}_hex": f"{value:#x}"}


def ring_to_json(words: SplitWords | None, flags: Any, event: str) -> dict[str, Any] | None:
    """Flags, index and event of one ring of a split queue."""
    if words is None:
        return None
    return {
        "flags": bit_names(flags, words.flags),
        "flags_value": words.flags,
        "index": words.next_index,
        event: words.event,
    }


def event_to_json(event: EventSuppression | None) -> dict[str, Any] | None:
    """An event suppression structure of a packed queue."""
    if event is None:
        return None
    return {
        "slot": event.offset_and_wrap & ~WRAP,
        "wrap": event.offset_and_wrap >> 15,
        "flags": EventFlags(event.flags).label,
        "flags_value": int(event.flags),
    }


def place_to_json(place: PackedPlace | None) -> dict[str, Any] | None:
    return None if place is None else place._asdict()


def chain_to_json(chain: QueueChainReport, queue: QueueReport) -> dict[str, Any]:
    """One item of a queue's "chains", or the chain of one of its "history"."""
    document: dict[str, Any] = {
        "head": chain.head,
        "position": chain.position,
        "slots": chain.slots,
        "descriptors": [descriptor_to_json(one) for one in chain.descriptors],
        "readable_bytes": chain.readable_bytes,
        "writable_bytes": chain.writable_bytes,
        "in_memory": chain.in_memory,
        "perhaps_used": chain.perhaps_used,
        "broken": chain.broken,
    }
    if queue.vsock == "event":
        document["event"] = chain.event
    elif queue.vsock is not None:
        document["vsock"] = None if chain.vsock is None else vsock_packet_to_json(chain.vsock)
    return document


def descriptor_to_json(one: DescriptorReport) -> dict[str, Any]:
    return {
        "index": one.number,
        "table": one.table,
        **with_hex("address", one.address),
        "length": one.length,
        "flags": bit_names(DescriptorFlags, one.flags),
        "flags_value": int(one.flags),
        "in_memory": one.in_memory,
    }


def used_to_json(one: UsedReport, queue: QueueReport) -> dict[str, Any]:
    """One item of a queue's "history": its "trusted" is false, whatever it says."""
    return {
        "position": one.position,
        "id": one.id,
        "length": one.length,
        "length_is_valid": one.length_is_valid,
        "trusted": False,
        "chain": None if one.chain is None else chain_to_json(one.chain, queue),
    }


def queue_finding_to_json(finding: Finding) -> dict[str, Any]:
    """A finding of a queue: "descriptor" is the index of one in its table, or null."""
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "descriptor": finding.offset,
        "message": finding.message,
    }
