"""A ring image about which somebody else's reader and ours disagree, as a Python program that stands alone.

The program rebuilds the image from literal bytes, reads it with the strict reader, and asserts what that says:
every packet, and whether the ring then ends, with which signal, or is broken, and by which rule.  It needs nothing
but vmbus; `python PROGRAM ring.bin` writes the image as well, for the other reader.

Whatever the other program printed stands in comments, escaped: it cannot become code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .disagreement import Disagreement, Expected

__all__ = ["script_of"]

#: Bytes that are written in one line of the program.
LINE = 32

READING = """\
packets, signal, error = [], None, None
ring = IncomingRing(FlatRingMem.over(image))
try:
    offset = ring.incoming()
    while True:
        start = offset.next_out
        packet = ring.read(offset)
        payload = packet.payload.reader(ring).read_all()
        # of pages (bytes, offset, page numbers), of a buffer that was shared before (bytes, offset)
        ranges = [
            tuple(one) if isinstance(one, tuple) else (len(one), one.offset, *one.gpns) for one in packet.ranges
        ]
        descriptor = packet.descriptor
        packets.append(
            (start, descriptor.type, descriptor.transaction_id, descriptor.flags, payload.hex(), ranges)
        )
except RingEmpty:
    signal = ring.commit_read(offset)
except PeerError as raised:
    error = raised
"""


def script_of(title: str, image: bytes, expected: Expected, disagreement: Disagreement) -> str:
    """The program.

    title      a line that says which image it is
    expected   what the strict reader makes of it, and the program asserts
    """
    return "\n".join(script_lines(title, image, expected, disagreement)) + "\n"


def script_lines(title: str, image: bytes, expected: Expected, disagreement: Disagreement) -> Iterator[str]:
    yield '"""Is this ring what the strict reader of vmbus says it is?  `python THIS ring.bin` writes the ring, too."""'
    yield ""
    yield f"# {escaped(title)}: {disagreement.kind.value}"
    yield f"# expected: {escaped(disagreement.expected)}"
    yield f"# came:     {escaped(disagreement.came)}"
    yield ""
    yield "import sys"
    yield "from pathlib import Path"
    yield ""
    yield "from vmbus import FlatRingMem, IncomingRing, PeerError, RingEmpty, RingFault"
    yield ""
    yield f"image = bytearray({len(image)})  # the control page of 4096 bytes, then the data area; zeros but for"
    yield from image_lines(image)
    yield "for path in sys.argv[1:]:"
    yield "    Path(path).write_bytes(image)"
    yield ""
    yield from READING.splitlines()
    yield ""
    yield "# each packet: offset, type, transaction id, flags, payload, ranges"
    yield "assert packets == ["
    for packet in expected.packets:
        yield f"    {packet_values(packet)!r},"
    yield "], packets"
    yield from ending_lines(expected)


def image_lines(image: bytes) -> Iterator[str]:
    """The bytes of an image that are not zero, in lines that begin where there are some."""
    for start in range(0, len(image), LINE):
        part = image[start : start + LINE]
        if any(part):
            yield f'image[{start:#06x}:{start + len(part):#06x}] = bytes.fromhex("{part.hex()}")'


def packet_values(packet: dict[str, Any]) -> tuple[Any, ...]:
    """A packet as the program has it."""
    ranges = [(one["byte_count"], one["byte_offset"], *one.get("pages", ())) for one in packet["ranges"]]
    names = ("offset", "type_value", "transaction_id", "flags_value", "payload")
    return (*(packet[name] for name in names), ranges)


def ending_lines(expected: Expected) -> Iterator[str]:
    """What the program asserts of the end of the ring, and prints."""
    count = len(expected.packets)
    read = f"{count} packet{'' if count == 1 else 's'}"
    if expected.error is None:
        yield f"assert error is None and signal is {expected.signal}, (error, signal)"
        yield f'print("as expected: {read}, and the sender is {"" if expected.signal else "not "}to be signaled")'
        return
    fault = "None" if expected.fault is None else f"RingFault({expected.fault!r})"
    yield f"assert error is not None and error.kind is {fault}, error"
    yield f'print(f"as expected: {read}, then {{error}}")'


def escaped(text: str) -> str:
    """A text on one line, in ASCII.

    >>> escaped('two\\nlines')
    'two\\\\nlines'
    """
    return ascii(text)[1:-1]
