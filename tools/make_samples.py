"""Make sample dumps: python tools/make_samples.py [FILE | DIRECTORY | --images DIRECTORY]

Into FILE, or the package itself where nothing is said, goes the dump that comes with the package: both rings of
a channel, one behind the other, as they lie in a guest's memory: a page of control words and a page of data
each.  The guest has sent a request with a buffer in its own memory and two messages; the host has answered one
and sent a notice.  Both rings have wrapped, so that packets that were read already can be recovered.

Into a directory, which --images makes where it is missing, go memory images: one guest's memory in every
format, `scene.elf`, `scene.lime` and so on, with rings at places that `scene.json` lists.  All hold the same memory, but in
`scene.raw` the holes are zeros, `scene-parts.raw` has no holes and needs `scene-parts.map`, and of
`scene-part.kdump` two pages were left out and one is lost.

Nothing is random: the files are always the same.
"""

from __future__ import annotations

import os
import struct
import zlib
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence

from image_writers.avml import avml_image
from image_writers.dmp import windows_dump
from image_writers.elf import elf_core
from image_writers.flattened import flattened, in_pieces
from image_writers.kdump import kdump
from image_writers.lime import lime_image
from image_writers.scene import PAGE, Scene
from image_writers.vmrs import compressed_block, saved_state

from vmbus import (
    FlatRingMem,
    IncomingRing,
    MessagePipe,
    OutgoingPacket,
    OutgoingRing,
    PagedRange,
    connected_rings,
)
from vmbus.inspection import sample_path

RING_SIZE = 8192

#: The small guest whose memory all formats hold.
SEED = 9
LAYOUT = ((0x1000, 0x9F000), (0x100000, 0x160000), (0x300000, 0x20000))
KINDS = (
    "vectors",
    "without footers",
    "without footers, drained",
    "scattered",
    "closed channels",
    "corrupt",
    "young pair",
    "young",
)


def send_messages(sender: OutgoingRing, receiver: IncomingRing, messages: Sequence[str]) -> None:
    pipe = MessagePipe(receiver, sender)
    offset = sender.outgoing()
    for message in messages:
        pipe.write(offset, message.encode())
    sender.commit_write(offset)


def guest_to_host(image: memoryview) -> None:
    """Three messages read, then a request and two messages that wait."""
    sender, receiver = connected_rings(memory=FlatRingMem.over(image), start=3880)
    send_messages(
        sender, receiver, ["hello, host", "are you there?", "this line ends close to the ring's end"]
    )
    receiver.receive_many()
    buffer = PagedRange(0x200, 6000, [0x1F3A0, 0x1F3A1])
    sender.send_packet(OutgoingPacket.gpa_direct([buffer], 16, transaction_id=0x17), bytes(range(16)))
    send_messages(sender, receiver, ["and now something longer: " + "ring " * 12, "good-bye"])


def host_to_guest(image: memoryview) -> None:
    """A completion read, then another and a notice that wait; the guest masks interrupts."""
    sender, receiver = connected_rings(memory=FlatRingMem.over(image), start=4000)
    sender.send_packet(OutgoingPacket.completion(8, transaction_id=0x16), bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    receiver.receive()
    sender.send_packet(OutgoingPacket.completion(8, transaction_id=0x17), bytes([1, 0, 0, 0, 2, 0, 0, 0]))
    send_messages(sender, receiver, ["link up"])
    receiver.set_interrupt_mask(True)


def sample() -> bytes:
    image = bytearray(2 * RING_SIZE)
    guest_to_host(memoryview(image)[:RING_SIZE])
    host_to_guest(memoryview(image)[RING_SIZE:])
    return bytes(image)


def small_scene() -> Scene:
    return Scene(SEED, KINDS, noise=0.005, layout=LAYOUT, largest=RING_SIZE * 3)


def with_zeros(regions: Sequence[tuple[int, bytes]]) -> bytes:
    """Memory from address 0 on, with zeros where there is none."""
    image = bytearray()
    for address, data in regions:
        image += bytes(address - len(image)) + data
    return bytes(image)


def without(regions: Sequence[tuple[int, bytes]], pages: Sequence[int]) -> list[tuple[int, bytes]]:
    """The regions cut where these pages are, by their numbers."""
    left = []
    for start, data in regions:
        for page in sorted(pages):
            if start <= page * PAGE < start + len(data):
                cut = page * PAGE - start
                left.append((start, data[:cut]))
                start, data = start + cut + PAGE, data[cut + PAGE :]
        left.append((start, data))
    return [(start, data) for start, data in left if data]


def gzipped(data: bytes) -> bytes:
    """A gzip file without a time in it, which every version of Python makes alike."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    head = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    return head + packer.compress(data) + packer.flush() + struct.pack("<II", zlib.crc32(data), len(data))


def map_of(regions: Sequence[tuple[int, bytes]]) -> bytes:
    """Lines of address, length and offset, for a file that has one region behind the other."""
    lines, offset = ["# address length offset"], 0
    for address, data in regions:
        lines.append(f"{address:#x} {len(data):#x} {offset:#x}")
        offset += len(data)
    return ("\n".join(lines) + "\n").encode()


def scene_files(scene: Scene) -> dict[str, bytes]:
    """The memory of a scene in every format, by the names of the files."""
    regions = scene.regions
    rings = [ring for ring in scene.rings if ring.kind == "vector ring-5-pages"]
    pages = [(ring.address + at) // PAGE for ring in rings for at in (2 * PAGE, 3 * PAGE, 4 * PAGE)]
    whole = kdump(regions)
    raw = with_zeros(regions)
    return {
        "scene.json": scene.as_json().encode(),
        "scene.raw": raw,
        "scene-parts.raw": b"".join(data for _, data in regions),
        "scene-parts.map": map_of(regions),
        "scene.raw.gz": gzipped(raw),
        "scene.elf": elf_core(regions),
        "scene.lime": lime_image(regions),
        "scene.avml": avml_image(regions, kinds=(0, 1, 2, 3)),
        "scene.kdump": whole,
        "scene-part.kdump": kdump(without(regions, pages[:2]), excluded=pages[:2], lost=pages[2:]),
        "scene.flat": flattened(in_pieces(whole, 50000)),
        "scene.dmp": windows_dump(regions),
        "scene-bitmap.dmp": windows_dump(regions, kind=5),
        "scene.vmrs": saved_state(regions, compress=compressed_block),
    }


def write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
    print(f"{path}: {len(content)} bytes")


def write_images(directory: str) -> None:
    os.makedirs(directory, exist_ok=True)
    for name, content in scene_files(small_scene()).items():
        write(os.path.join(directory, name), content)


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "target", nargs="?", metavar="FILE", help="where the sample goes; of a directory, where the images go"
    )
    place.add_argument(
        "--images", metavar="DIRECTORY", help="write memory images into it; it is made where missing"
    )
    arguments = parser.parse_args()
    target = arguments.target or sample_path()
    try:
        if arguments.images is not None:
            write_images(arguments.images)
        elif os.path.isdir(target):
            write_images(target)
        else:
            write(target, sample())
    except OSError as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
