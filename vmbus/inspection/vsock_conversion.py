"""Vsock packets on their way into another form, out of virtqueues and of captures of link type 271.

Sources: as vmbus/virtio/vsock_capture.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from vmbus.errors import DumpError
from vmbus.images import Dump
from vmbus.virtio import (
    LINKTYPE_VSOCK,
    CaptureOperation,
    CaptureRecord,
    CaptureTransport,
    capture_record,
    parse_capture_record,
)

from .conversion import Convertible, ConvertiblePacket
from .from_pcapng import CapturedPacket, read_capture
from .queue_chain import QueueChainReport
from .queue_json import chain_to_json, used_to_json
from .queue_report import QueueReport
from .to_json import finding_to_json
from .vsock_report import VsockPacketReport, examine_vsock_packet, vsock_packet_to_json

__all__ = ["capture_packets", "queue_packets"]

#: What a capture says of packets that were found in memory.
QUEUE_COMMENT = "vsock packets found in a virtqueue of a memory dump; the times are not known"


def capture_packets(
    dump: Dump, *, limit: int | None = None, on_break: Callable[[DumpError], object] | None = None
) -> Convertible:
    """The vsock packets of a capture, the first `limit` of them; those of other link types are passed over.

    on_break   called where the file is broken, mostly cut off, behind a packet of vsock: the packets then
               end there.  Without it DumpError is raised there

    Raises DumpError when it is no capture.  So may the iterator: where the file is broken, for a packet
    that is no record of vsock, and when there are packets and none of them is one of vsock.
    """
    read_capture(dump)  # which raises at once for a file that is none

    def packets() -> Iterator[ConvertiblePacket]:
        count, others = 0, set()

        def whole_packets() -> Iterator[CapturedPacket]:
            try:
                yield from read_capture(dump)
            except DumpError as error:
                if on_break is None or not count:
                    raise
                on_break(error)

        for packet in whole_packets() if limit != 0 else ():
            if packet.link_type != LINKTYPE_VSOCK:
                others.add(packet.link_type)
                continue
            yield captured_packet(packet, dump.path)
            count += 1
            if count == limit:
                return
        if others and not count:
            found = ", ".join(map(str, sorted(others)[:8]))
            raise DumpError(
                f"has no packets of vsock: their link type is {LINKTYPE_VSOCK}, and here is {found}",
                path=dump.path,
            )

    return Convertible(packets, LINKTYPE_VSOCK)


def captured_packet(packet: CapturedPacket, path: str) -> ConvertiblePacket:
    """A record of link type 271."""
    try:
        record = parse_capture_record(packet.data)
    except DumpError as error:
        raise DumpError(f"at {packet.place:#x}, {error}", path=path, place=packet.place) from None
    return ConvertiblePacket(
        packet.data,
        record.payload,
        lambda: capture_to_json(packet, record),
        packet.timestamp or 0,
        max(packet.original_length, len(packet.data)),
        packet.comment,
    )


def capture_to_json(packet: CapturedPacket, record: CaptureRecord) -> dict[str, Any]:
    """A captured packet as an object; `vsock`, what the virtio header says, is null where none was captured.

    Of an RW what belongs to the packet is the first `vsock.payload_length` bytes of `payload`.
    """
    capture = record.capture
    document: dict[str, Any] = {
        "kind": "capture",
        "place": packet.place,
        "timestamp": packet.timestamp,
        "captured_length": len(packet.data),
        "original_length": packet.original_length,
        "comment": packet.comment,
    }
    for name in ("src_cid", "dst_cid"):
        document |= {name: getattr(capture, name), f"{name}_hex": f"{getattr(capture, name):#x}"}
    document |= {
        "src_port": capture.src_port,
        "dst_port": capture.dst_port,
        "operation": CaptureOperation(capture.operation).label,
        "operation_value": capture.operation,
        "transport": CaptureTransport(capture.transport).label,
        "transport_value": capture.transport,
        "transport_header": record.transport_header.hex(),
        "payload_length": len(record.payload),
        "payload": record.payload.hex(),
        "vsock": None,
        "findings": [],
    }
    if record.header is not None:
        decoded = examine_vsock_packet(record.transport_header, record.payload)
        document["vsock"] = vsock_packet_to_json(decoded)
        del document["vsock"]["payload"]  # it stands in the object already
        # What was not captured is not missing.
        cut = packet.original_length > len(packet.data)
        document["findings"] = [
            finding_to_json(one) for one in decoded.findings if not (cut and one.check == "vsock-length")
        ]
    return document


def queue_packets(report: QueueReport) -> Convertible:
    """The vsock packets of a virtqueue, as `inspect_queue` reports it with `vsock` "tx" or "rx": those of
    chains used already, where it was asked for them, then those of the waiting ones.

    A chain without a whole header is passed over; the report's findings say what is wrong with it.
    """

    table = report.areas.descriptor_table

    def packets() -> Iterator[ConvertiblePacket]:
        for used in report.history:
            if used.chain is not None and used.chain.vsock is not None:
                document = partial(as_line, "used", table, used_to_json, used, report)
                yield from queued_packet(used.chain, used.chain.vsock, document, report, history=True)
        for chain in report.chains:
            if chain.vsock is not None:
                document = partial(as_line, "chain", table, chain_to_json, chain, report)
                yield from queued_packet(chain, chain.vsock, document, report)

    return Convertible(packets, LINKTYPE_VSOCK, QUEUE_COMMENT, report.is_sound, tuple(report.findings))


def as_line(
    kind: str,
    table: int,
    to_json: Callable[[Any, QueueReport], dict[str, Any]],
    item: Any,
    report: QueueReport,
) -> dict[str, Any]:
    """An item of a queue's lists as an object of its own."""
    return {"kind": kind, "queue": table, **to_json(item, report)}


def queued_packet(
    chain: QueueChainReport,
    packet: VsockPacketReport,
    document: Callable[[], dict[str, Any]],
    report: QueueReport,
    *,
    history: bool = False,
) -> Iterator[ConvertiblePacket]:
    """The packet in a chain, if there is a whole header."""
    if packet.header is None:
        return
    state = "used already, perhaps overwritten" if history else "waiting"
    comment = f"{report.vsock} queue at {report.areas.descriptor_table:#x}, chain {chain.head}, {state}"
    if chain.broken is not None:
        comment += f", broken: {chain.broken}"
    frame = capture_record(packet.header, packet.payload)
    yield ConvertiblePacket(frame, packet.payload, document, comment=comment)
