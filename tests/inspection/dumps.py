"""What the tests of inspection share: packets and rings spelled by hand, byte by byte.

Nothing here goes through the package's own writer, so that anything at all can be put anywhere.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from tests.helpers import SAMPLES
from vmbus.inspection import RawDump, RingReport, Selection, inspect_memory
from vmbus.memory import FlatRingMem

IN_BAND, TRANSFER_PAGES, GPA_DIRECT, COMPLETION = 6, 7, 9, 11

HISTORY = Selection(history=True)


def packet(
    offset: int,
    payload: bytes = b"",
    *,
    kind: int = IN_BAND,
    header: bytes = b"",
    flags: int = 0,
    transaction_id: int = 0,
    data_offset8: int | None = None,
    length8: int | None = None,
    footer: bytes | None = None,
) -> bytes:
    """A packet that starts at `offset`; any field can be given a wrong value."""
    body = header + payload + bytes(-len(payload) % 8)
    data_offset8 = 2 + len(header) // 8 if data_offset8 is None else data_offset8
    length8 = 2 + len(body) // 8 if length8 is None else length8
    footer = struct.pack("<II", 0, offset) if footer is None else footer
    return struct.pack("<HHHHQ", kind, data_offset8, length8, flags, transaction_id) + body + footer


def gpa_range(byte_count: int, byte_offset: int, *pages: int) -> bytes:
    return struct.pack(f"<II{len(pages)}Q", byte_count, byte_offset, *pages)


def gpa_header(*ranges: bytes, count: int | None = None, reserved: int = 0) -> bytes:
    """What lies behind the descriptor of a GPA-direct packet."""
    return struct.pack("<II", reserved, len(ranges) if count is None else count) + b"".join(ranges)


def transfer_header(
    set_id: int, *ranges: tuple[int, int], count: int | None = None, reserved: int = 0
) -> bytes:
    """What lies behind the descriptor of a transfer-page packet."""
    listed = b"".join(struct.pack("<II", *one) for one in ranges)
    return struct.pack("<HHI", set_id, reserved, len(ranges) if count is None else count) + listed


def control_page(
    in_offset: int = 0,
    out_offset: int = 0,
    *,
    mask: int = 0,
    pending: int = 0,
    features: int = 1,
    others: Mapping[int, int] | None = None,
    header_size: int = 4096,
) -> bytes:
    words = [in_offset, out_offset, mask, pending, *[0] * 12, features, *[0] * 15]
    for word, value in (others or {}).items():
        words[word] = value
    return struct.pack("<32I", *words).ljust(header_size, b"\0")


def data_area(size: int, *pieces: tuple[int, bytes]) -> bytes:
    """A data area with these bytes at these offsets; what goes over the end wraps."""
    data = bytearray(size)
    for offset, piece in pieces:
        for number, byte in enumerate(piece):
            data[(offset + number) % size] = byte
    return bytes(data)


def ring_image(
    packets: list[bytes] | None = None, *, out: int = 0, size: int = 4096, **control: object
) -> bytes:
    """A ring in which these packets wait, one behind the other from `out` on."""
    content = b"".join(packets or [])
    words: dict[str, object] = {"in_offset": (out + len(content)) % size, "out_offset": out, **control}
    return control_page(**words) + data_area(size, (out, content))  # type: ignore[arg-type]


def look(image: bytes, selection: Selection | None = None, *, header_size: int = 4096) -> RingReport:
    """The report on one ring."""
    return inspect_memory(FlatRingMem.over(image, header_size=header_size), selection=selection)


def dump_of(image: bytes, path: str = "ring.bin") -> RawDump:
    return RawDump(path, memoryview(image))


def sample_dump(name: str) -> RawDump:
    return dump_of((SAMPLES / f"{name}.bin").read_bytes(), f"{name}.bin")


def checks(report: RingReport) -> list[str]:
    """The names of the findings."""
    return [finding.check for finding in report.findings]
