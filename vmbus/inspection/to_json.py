"""A ring's report as JSON: integers stay integers, bytes are lowercase hex, unknown is null.

The keys of the document "vmbus.inspect/1":

    schema, source     the file: path, format, size (bytes)
    findings           what is wrong with the file as an image
    rings              address, header_size, data_size, data_size_known, role, pair (the other ring's address),
                       device (class, class_name, instance, channel), pages, control (in, out, interrupt_mask,
                       pending_send_size, feature_bits, other_words), available, free, reader_needs_signal,
                       writer_needs_signal, verdict, packets, consumed, findings; data where it was asked for
    packets, consumed  offset, type, type_value, flags, flags_value, transaction_id, data_offset, length, bytes,
                       header, payload_length, payload, ranges, footer, broken, description; transfer_page_set_id
                       where it has one; raw of a broken one, null where the image lacks bytes; trust of one
                       that was read already
    findings           check, severity, offset (null for the control page), message

64-bit numbers come a second time in hex under a key ending in _hex: jq and browsers round above
2**53.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from vmbus.images import Finding, MissingMemory
from vmbus.layout import ControlPage, PacketFlags
from vmbus.ring import PagedRange, TransferPageRange

from .examine import PacketReport
from .names import bit_names, type_label
from .ring_place import RingDevice
from .ring_report import RingReport

__all__ = [
    "SCHEMA",
    "finding_to_json",
    "packet_to_json",
    "ring_to_json",
    "some_of_ring",
]

SCHEMA = "vmbus.inspect/1"


#: What documents say of a ring, and how it is told from the report; each has some of it, in its own order.
RING_KEYS: dict[str, Callable[[RingReport], Any]] = {
    "address": lambda ring: ring.place.address,
    "address_hex": lambda ring: f"{ring.place.address:#x}",
    "header_size": lambda ring: ring.place.header_size,
    "data_size": lambda ring: ring.place.data_size,
    "data_size_known": lambda ring: ring.place.data_size_known,
    "role": lambda ring: ring.place.role,
    "pair": lambda ring: ring.place.pair,
    "device": lambda ring: device_to_json(ring.place.device),
    "pages": lambda ring: None if ring.place.pages is None else list(ring.place.pages),
    "control": lambda ring: control_to_json(ring.control),
    "available": lambda ring: ring.available,
    "free": lambda ring: ring.free,
    "reader_needs_signal": lambda ring: ring.reader_needs_signal,
    "writer_needs_signal": lambda ring: ring.writer_needs_signal,
    "verdict": lambda ring: ring.verdict.value,
    "packets": lambda ring: [packet_to_json(packet) for packet in ring.packets],
    "consumed": lambda ring: [packet_to_json(packet) for packet in ring.consumed],
    "findings": lambda ring: [finding_to_json(finding) for finding in ring.findings],
}


def ring_to_json(ring: RingReport, *, whole: bool = False) -> dict[str, Any]:
    """One item of the document's "rings"; `whole` adds the data area."""
    document = some_of_ring(ring, RING_KEYS)
    if whole:
        document["data"] = whole_data(ring)
    return document


def some_of_ring(ring: RingReport, keys: Iterable[str]) -> dict[str, Any]:
    """These of a ring's keys, in this order."""
    return {key: RING_KEYS[key](ring) for key in keys}


def whole_data(ring: RingReport) -> str | None:
    """Every byte of the data area; None where an image does not have them all."""
    try:
        return ring.memory.read_at(0, ring.memory.size).hex()
    except MissingMemory:
        return None


def device_to_json(device: RingDevice | None) -> dict[str, Any] | None:
    """The device that a ring belongs to, where that is known."""
    if device is None:
        return None
    return {
        "class": device.class_id,
        "class_name": device.class_name,
        "instance": device.instance_id,
        "channel": device.channel_id,
    }


def control_to_json(control: ControlPage) -> dict[str, Any]:
    return {
        "in": control.in_offset,
        "out": control.out_offset,
        "interrupt_mask": control.interrupt_mask,
        "pending_send_size": control.pending_send_size,
        "feature_bits": control.feature_bits,
        "other_words": {str(word): value for word, value in control.other_words.items()},
    }


def packet_to_json(packet: PacketReport) -> dict[str, Any]:
    """One item of a ring's "packets" or "consumed"."""
    descriptor = packet.descriptor
    document: dict[str, Any] = {"offset": packet.offset}
    if descriptor is None:
        document |= dict.fromkeys(
            ("type", "type_value", "flags", "flags_value", "transaction_id", "transaction_id_hex")
        )
        document |= dict.fromkeys(("data_offset", "length", "bytes"))
    else:
        document |= {
            "type": type_label(descriptor.type),
            "type_value": descriptor.type,
            "flags": bit_names(PacketFlags, descriptor.flags),
            "flags_value": descriptor.flags,
            "transaction_id": descriptor.transaction_id,
            "transaction_id_hex": f"{descriptor.transaction_id:#x}",
            "data_offset": packet.data_offset,
            "length": packet.length,
            "bytes": packet.packet_size,
        }
    header, payload = packet.header, packet.payload
    document |= {
        "header": None if header is None else header.hex(),
        "payload_length": None if payload is None else len(payload),
        "payload": None if payload is None else payload.hex(),
        "ranges": None if packet.ranges is None else [range_to_json(one) for one in packet.ranges],
        "footer": footer_to_json(packet),
        "broken": packet.broken,
        "description": packet.description,
    }
    if packet.transfer_page_set_id is not None:
        document["transfer_page_set_id"] = packet.transfer_page_set_id
    if packet.raw is not None or packet.broken is not None:
        document["raw"] = None if packet.raw is None else packet.raw.hex()
    if packet.trust is not None:
        document["trust"] = packet.trust.value
    return document


def range_to_json(one: PagedRange | TransferPageRange) -> dict[str, Any]:
    if isinstance(one, TransferPageRange):
        return {"byte_count": one.byte_count, "byte_offset": one.byte_offset}
    return {
        "byte_count": len(one),
        "byte_offset": one.offset,
        "pages": list(one.gpns),
        "pages_hex": [f"{page:#x}" for page in one.gpns],
    }


def footer_to_json(packet: PacketReport) -> dict[str, Any] | None:
    if packet.footer is None:
        return None
    return {
        "at": packet.footer_offset,
        "value": packet.footer.packet_offset,
        "reserved": packet.footer.reserved,
        "ok": packet.footer_agrees,
    }


def finding_to_json(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "severity": finding.severity.value,
        "offset": finding.offset,
        "message": finding.message,
    }
