"""A guest's memory made up: rings at known places among everything else that lies there.

    scene = Scene(7)
    scene.regions     [(guest-physical address, bytes)], with holes between
    scene.rings       what there is to find, and nothing else is
    scene.decoys      [(kind, address)] of pages that look like rings or like parts of them

The same seed always gives the same memory.  Nothing is shared with what looks for rings.
"""

from __future__ import annotations

import itertools
import json
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from .scene_messages import CLASSES, gpadl_messages, offer_message, open_message, random_guid
from .scene_noise import DECOYS, decoy
from .scene_rings import RingWriter, SentPacket, decides_size

__all__ = ["KINDS", "PlantedRing", "Scene"]

PAGE = 4096
KIB = 1024

#: Bytes of data that drivers give their rings (Linux 6.12), of those that fit into a small scene.
DRIVER_SIZES = tuple(kib * KIB for kib in (12, 16, 20, 24, 28, 32, 36, 64, 124))

#: The same, of all drivers.
USUAL_SIZES = (*DRIVER_SIZES, *(kib * KIB for kib in (76, 252, 508, 1020, 1024, 2044, 4092)))

#: Sizes that no driver is known to have.
ODD_SIZES = tuple(pages * PAGE for pages in (1, 2, 11, 14, 21))

#: Where memory is: below 640 KiB, above the first MiB, and above 4 GiB.
LAYOUT = ((0x0, 0xA0000), (0x100000, 0x500000), (0x1_0000_0000, 0x200000))

#: Larger pairs begin on any page: a small scene has no room for them elsewhere.
LARGEST_ALIGNED = 256 * KIB

#: What is planted first.
LARGE = ("large pair", "wide header", "unequal pair", "pair", "young pair", "contiguous channel")

VECTORS = Path(__file__).parents[2] / "tests" / "samples"


class PlantedRing(NamedTuple):
    """A ring, and what there is to know of it.

    address      of its control page
    data_size    bytes of data; None where nothing in the memory decides it
    true_size    bytes of data in any case
    waiting      offsets of the packets that wait, out to in; up to the first broken one
    device       class and instance of the device and number of the channel, where messages say them
    pages        addresses of all pages, where they do not lie one behind the other
    kind         what it is there for
    """

    address: int
    data_size: int | None
    true_size: int
    header_size: int
    in_offset: int
    out_offset: int
    waiting: tuple[int, ...]
    role: str | None
    pair: int | None
    device: tuple[str, str, int] | None
    pages: tuple[int, ...] | None
    kind: str


class Scene:
    """One guest's memory.

    seed     what everything random comes from
    kinds    what to plant: names of KINDS; each at least once where nothing is said
    noise    which share of the pages left over is not zero
    layout   start and length of every region
    largest  bytes of data of a ring at most, where its kind is not about its size
    """

    def __init__(
        self,
        seed: int,
        kinds: Sequence[str] | None = None,
        *,
        noise: float = 0.15,
        layout: Sequence[tuple[int, int]] = LAYOUT,
        largest: int = 128 * KIB,
    ) -> None:
        self.random = Random(seed)
        self.layout = tuple(layout)
        self.largest = largest
        self.memory = [bytearray(length) for _, length in layout]
        self.pages = [start + at for start, length in layout for at in range(0, length, PAGE)]
        self.free = set(self.pages)
        self.rings: list[PlantedRing] = []
        self.decoys: list[tuple[str, int]] = []
        self.slabs: list[bytes] = []
        self.next_channel = self.random.randrange(1, 40)
        self.next_gpadl = 0xE1E10 + self.random.randrange(100)
        wanted = list(KINDS) if kinds is None else list(kinds)
        self.random.shuffle(wanted)
        for kind in sorted(wanted, key=lambda kind: kind not in LARGE):  # while there is room in one piece
            KINDS[kind](self)
        self.plant_slabs()
        if noise:
            self.plant_decoys(noise)
        self.settle()
        self.rings.sort()

    # -- memory ------------------------------------------------------------------------------------

    @property
    def regions(self) -> list[tuple[int, bytes]]:
        return [(start, bytes(data)) for (start, _), data in zip(self.layout, self.memory, strict=True)]

    def write(self, address: int, content: bytes) -> None:
        place = bisect_right([start for start, _ in self.layout], address) - 1
        at = address - self.layout[place][0]
        assert at + len(content) <= len(self.memory[place])
        self.memory[place][at : at + len(content)] = content

    def take(self, size: int, *, align: int = PAGE, odd: bool = False) -> int:
        """Free pages in a row, with one more before and behind, which are taken too but stay as they are.

        odd   only where the number of the first page is odd
        """
        length = -(-size // PAGE) * PAGE
        anywhere: Sequence[int] = self.pages
        if align > PAGE or odd:
            anywhere = [page for page in anywhere if page % align == 0 and (page & PAGE or not odd)]
        for tries in range(2000):
            # Mostly somewhere; where that does not work, the first place that does.
            address = (
                self.random.choice(anywhere)
                if tries < 500
                else anywhere[(tries - 500) * len(anywhere) // 1500]
            )
            wanted = range(address - PAGE, address + length + PAGE, PAGE)
            if self.free.issuperset(wanted):
                self.free.difference_update(wanted)
                return address
        raise MemoryError(f"no {size} bytes are left in the scene")

    # -- rings -------------------------------------------------------------------------------------

    def size(self, sizes: Sequence[int] = DRIVER_SIZES) -> int:
        return self.random.choice([size for size in sizes if size <= self.largest])

    def writer(self, size: int, *, footers: bool = True, start: int | None = None) -> RingWriter:
        if start is None:
            start = self.random.choice([0, 8 * self.random.randrange(size // 8), size - 8, size - 16])
        return RingWriter(self.random, size, start=start, footers=footers)

    def ring(
        self,
        kind: str,
        address: int,
        writer: RingWriter,
        image: bytes,
        *,
        known: bool,
        header_size: int = PAGE,
        waiting: Iterable[SentPacket] | None = None,
        **more: Any,
    ) -> PlantedRing:
        """Note a ring, and give it memory where its pages lie one behind the other."""
        words = struct.unpack_from("<2I", image)
        packets = writer.waiting if waiting is None else waiting
        fields = {"role": None, "pair": None, "device": None, "pages": None, **more}
        ring = PlantedRing(
            address=address,
            data_size=writer.size if known else None,
            true_size=writer.size,
            header_size=header_size,
            in_offset=words[0],
            out_offset=words[1],
            waiting=tuple(packet.start for packet in packets),
            kind=kind,
            **fields,
        )
        if ring.pages is None:
            self.write(address, image)
        else:
            for place, page in enumerate(ring.pages):
                self.write(page, image[place * PAGE : place * PAGE + PAGE])
        self.rings.append(ring)
        return ring

    def pair(
        self,
        kind: str,
        writers: tuple[RingWriter, RingWriter],
        *,
        header_size: int = PAGE,
        aligned: bool | None = None,
        before: Callable[[RingWriter], None] = lambda writer: None,
        **control: int,
    ) -> None:
        """Two rings, one directly behind the other."""
        total = sum(header_size + writer.size for writer in writers)
        if aligned is None:
            aligned = self.random.random() < 0.5
        align = 1 << (total - 1).bit_length() if aligned else header_size
        first = self.take(total, align=align if total <= LARGEST_ALIGNED else header_size)
        second = first + header_size + writers[0].size
        for writer, address, role, other in zip(
            writers, (first, second), ("outbound", "inbound"), (second, first), strict=True
        ):
            before(writer)
            page = {"mask": self.random.getrandbits(1), **control}
            image = writer.snapshot(**page)
            image = image[:PAGE].ljust(header_size, b"\0") + image[PAGE:]
            known = role == "outbound" or writer.decides_size()
            self.ring(
                kind, address, writer, image, known=known, header_size=header_size, role=role, pair=other
            )

    def settle(self) -> None:
        """Make sure that no ring of unknown size has another ring behind it where its partner could be.

        Where one has, the page behind its data gets a control page that was never used.
        """
        rings = sorted(self.rings)
        for ring, following in itertools.pairwise(rings):
            if ring.data_size is None and could_be_partner(ring, following):
                end = ring.address + ring.header_size + ring.true_size
                self.write(end, bytes(64) + b"\1")
                self.decoys.append(("unused ring", end))

    # -- channels ----------------------------------------------------------------------------------

    def channel(
        self, pages: Sequence[int], second: int, *, numbered: bool, offered: bool = True, opened: bool = True
    ) -> tuple[str, str, int] | None:
        """The messages of a channel whose rings lie in these pages; its device, where it was offered."""
        random = self.random
        relid, gpadl = self.next_channel, self.next_gpadl
        self.next_channel += random.randrange(1, 4)
        self.next_gpadl += random.randrange(1, 3)
        class_id = random.choice([*CLASSES.values(), random_guid(random)])
        instance = random_guid(random)
        numbers = random.choice([0, 1]) if numbered else None
        self.slabs += gpadl_messages(relid, gpadl, pages, numbers=numbers)
        if opened:
            self.slabs.append(open_message(relid, gpadl, second, random.randrange(8)))
        if offered:
            self.slabs.append(offer_message(class_id, instance, relid))
        return (str(class_id), str(instance), relid)

    def plant_slabs(self) -> None:
        """Every message at some 8-byte place, in pages with other small objects, in no order."""
        random = self.random
        random.shuffle(self.slabs)
        while self.slabs:
            slab = bytearray(4 * PAGE)
            for at in range(0, len(slab), 8):
                value = random.choice(
                    [0, 0, 1, random.getrandbits(16), 0xFFFF_8880_0000_0000 | random.getrandbits(32)]
                )
                struct.pack_into("<Q", slab, at, value)
            at = 8 * random.randrange(60)
            while self.slabs and at + len(self.slabs[-1]) <= len(slab):
                message = self.slabs.pop()
                slab[at : at + len(message)] = message
                at += len(message) + -len(message) % 8 + 8 * random.randrange(2, 60)
            self.write(self.take(len(slab)), bytes(slab))

    # -- everything else ---------------------------------------------------------------------------

    def plant_decoys(self, noise: float) -> None:
        """Each kind at least once; then pages of them and of noise, up to a share of what is free."""
        kinds = list(DECOYS)
        for kind in kinds * 2:
            self.plant_decoy(kind)
        for page in sorted(self.free):
            if self.random.random() < noise:
                self.write(page, self.random.randbytes(PAGE))

    def plant_decoy(self, kind: str) -> None:
        content = decoy(self.random, kind)
        address = self.take(len(content))
        self.write(address, content)
        self.decoys.append((kind, address))

    def as_json(self) -> str:
        """Where the rings are, for people and programs."""
        rings = [ring._asdict() for ring in self.rings]
        regions = [{"start": start, "length": length} for start, length in self.layout]
        document = {"regions": regions, "rings": rings, "decoys": [list(one) for one in self.decoys]}
        return json.dumps(document, indent=1) + "\n"


def could_be_partner(ring: PlantedRing, following: PlantedRing) -> bool:
    """Whether the distance between two rings is one that the rings of a channel may have."""
    distance = following.address - ring.address - ring.header_size
    if distance in (*USUAL_SIZES, following.data_size):
        return True
    whole = ring.header_size + distance + PAGE + PAGE
    return ring.address % (1 << (whole - 1).bit_length()) == 0


# -- what is planted -------------------------------------------------------------------------------


def vectors(scene: Scene) -> None:
    """The rings that another implementation wrote."""
    for path in sorted(VECTORS.glob("ring-*.bin")):
        image = path.read_bytes()
        said = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        size = said["data_size"]
        sent = [SentPacket(one["offset"], bytes(8 * one["length8"] + 8)) for one in said["packets"]]
        waiting = [packet for packet, one in zip(sent, said["packets"], strict=True) if not one["consumed"]]
        history = [packet for packet, one in zip(sent, said["packets"], strict=True) if one["consumed"]]
        writer = RingWriter(scene.random, size)
        scene.ring(
            f"vector {path.stem}",
            scene.take(len(image)),
            writer,
            image,
            known=decides_size(size, history[::-1], waiting),
            waiting=waiting,
        )


def laps(scene: Scene, size: int, **options: Any) -> RingWriter:
    """A ring that has gone round a few times."""
    writer = scene.writer(size, **options)
    total = int(size * scene.random.uniform(1.3, 3)) + 400
    writer.run(total, waiting=scene.random.choice([0, 1, 2, 5, 12]))
    return writer


def used_pair(scene: Scene) -> None:
    """Two rings of one size; only of a size that drivers use does where they lie tell it."""
    size = scene.size(DRIVER_SIZES + ODD_SIZES)
    writers = (laps(scene, size), laps(scene, size))
    while size in ODD_SIZES and not writers[0].decides_size():
        writers = (laps(scene, size), writers[1])
    scene.pair("pair", writers)


def unequal_pair(scene: Scene) -> None:
    first, second = scene.random.sample(DRIVER_SIZES + ODD_SIZES, 2)
    writers = (laps(scene, first), laps(scene, second))
    while not writers[0].decides_size():
        writers = (laps(scene, first), writers[1])
    scene.pair("unequal pair", writers)


def large_pair(scene: Scene) -> None:
    """As a network device has it: 508 KiB each, nearly full."""
    writers = []
    while len(writers) < 2:
        writer = scene.writer(508 * KIB)
        writer.run(600 * KIB, waiting=10**6)
        writers.append(writer)
    scene.pair("large pair", (writers[0], writers[1]), aligned=False)


def single(
    scene: Scene, kind: str, writer: RingWriter, *, known: bool | None = None, old: int = 0, **control: int
) -> None:
    image = writer.snapshot(old_packets=old, **control)
    known = writer.decides_size() if known is None else known
    scene.ring(kind, scene.take(len(image), odd=True), writer, image, known=known)


def qemu_waiting(scene: Scene) -> None:
    """No footers, no feature bit, packets waiting; with and without a packet across the end."""
    writer = scene.writer(scene.size(), footers=False)
    writer.run(int(writer.size * scene.random.uniform(0.2, 2)), waiting=scene.random.randrange(1, 9))
    while not writer.waiting:
        writer.send(64)
    single(scene, "without footers", writer, features=0)


def qemu_drained(scene: Scene) -> None:
    """The same with everything read: only descriptors are left."""
    writer = scene.writer(scene.size(), footers=False, start=8 * scene.random.randrange(4))
    for _ in range(scene.random.randrange(8, 30)):
        writer.send(24 + 8 * scene.random.randrange(30))
        writer.receive()
    single(scene, "without footers, drained", writer, features=0)


def mid_write(scene: Scene) -> None:
    """The sender was in the middle of a packet: some of its bytes lie behind in."""
    writer = laps(scene, scene.size())
    writer.begin_next()
    single(scene, "mid-write", writer)


def old_in(scene: Scene) -> None:
    """The data was saved later than the control page: complete packets lie behind in."""
    old, writer = scene.random.randrange(1, 3), laps(scene, scene.size())
    # What lies behind in has not gone over the end, where it would tell the size.
    while len(writer.waiting) < 3 or writer.waiting[-old].start >= writer.in_offset:
        if writer.free < 400:
            writer.receive()
        writer.send(8 * scene.random.randrange(3, 50))
    single(scene, "old in", writer, old=old)


def wide_header(scene: Scene) -> None:
    """Guests whose processor has pages of 16 or 64 KiB."""
    for header_size in (16 * KIB, 64 * KIB):
        writers = []
        while len(writers) < 2:
            writer = laps(scene, scene.size((64 * KIB, 128 * KIB)))
            if writer.decides_size():
                writers.append(writer)
        scene.pair("wide header", (writers[0], writers[1]), header_size=header_size, aligned=False)


def scattered(scene: Scene) -> None:
    """Rings whose pages lie anywhere; a GPADL lists them."""
    first, second = (scene.size(DRIVER_SIZES[:7] + ODD_SIZES) for _ in range(2))
    count = (first + second) // PAGE + 2
    pages = [scene.take(PAGE) for _ in range(count)]
    cut = first // PAGE + 1
    numbered = count > 26 + 28
    offered = scene.random.random() < 0.8
    device = scene.channel(pages, cut, numbered=numbered, offered=offered)
    if not offered and device:
        device = ("", "", device[2])
    parts = ((pages[:cut], "outbound", pages[cut]), (pages[cut:], "inbound", pages[0]))
    for listed, role, other in parts:
        writer = laps(scene, (len(listed) - 1) * PAGE, footers=scene.random.random() < 0.7)
        scene.ring(
            "scattered",
            listed[0],
            writer,
            writer.snapshot(features=scene.random.getrandbits(1)),
            known=True,
            role=role,
            pair=other,
            device=device,
            pages=tuple(listed),
        )


def contiguous_channel(scene: Scene) -> None:
    """A pair in one piece, of which messages tell as well; never wrapped, so that only they know the sizes."""
    size, other = scene.random.sample(DRIVER_SIZES, 2)
    total = size + other + 2 * PAGE
    first = scene.take(total)
    pages = [first + at for at in range(0, total, PAGE)]
    device = scene.channel(pages, size // PAGE + 1, numbered=False)
    second = first + PAGE + size
    for address, length, role, partner in (
        (first, size, "outbound", second),
        (second, other, "inbound", first),
    ):
        writer = scene.writer(length, start=0)
        for _ in range(scene.random.randrange(3)):
            writer.send(8 * scene.random.randrange(3, 30))
        scene.ring(
            "contiguous channel",
            address,
            writer,
            writer.snapshot(),
            known=True,
            role=role,
            pair=partner,
            device=device,
        )


def closed_channels(scene: Scene) -> None:
    """Channels that are gone: of their pages one holds something else, zeros or a stale control page now."""
    for what in ("random", "zeros", "text"):
        pages = [scene.take(PAGE) for _ in range(8)]
        scene.channel(pages, 4, numbered=False)
        for page in pages:
            if what != "zeros":
                scene.write(page, decoy(scene.random, what))
        scene.decoys.append((f"closed channel, {what}", pages[0]))


def corrupt(scene: Scene) -> None:
    """Good history, then a waiting packet that is broken."""
    while True:
        writer = laps(scene, scene.size(DRIVER_SIZES[1:]))
        while len(writer.waiting) < 4 and writer.free >= 400:
            writer.send(8 * scene.random.randrange(3, 50))
        if writer.out_offset < writer.in_offset and len(writer.waiting) > 3 and len(writer.history()) > 3:
            break
    waiting = writer.waiting
    place = scene.random.randrange(len(waiting))
    known = writer.decides_size(broken=True)
    writer.put(waiting[place].start, struct.pack("<HHHH", scene.random.choice([6, 99]), 2, 0, 0))
    image = writer.snapshot()
    address = scene.take(len(image), odd=True)
    scene.ring("corrupt", address, writer, image, known=known, waiting=waiting[:place])


def full(scene: Scene) -> None:
    writer = laps(scene, scene.size())
    writer.fill()
    assert writer.free < 24
    single(scene, "full", writer)


def drained(scene: Scene) -> None:
    """Everything read, at some offset that is not 0."""
    writer = laps(scene, scene.size(DRIVER_SIZES + ODD_SIZES))
    while not writer.in_offset:
        writer.run(8, waiting=0)
    writer.receive(len(writer.waiting))
    single(scene, "drained", writer)


def young_writer(scene: Scene, size: int) -> RingWriter:
    """A ring that has not wrapped: nothing in it says where it ends."""
    writer = scene.writer(size, start=0)
    for _ in range(scene.random.randrange(3, 9)):
        writer.send(8 * scene.random.randrange(3, 60))
    writer.receive(scene.random.randrange(4))
    return writer


def young_pair(scene: Scene) -> None:
    size = scene.size()
    scene.pair("young pair", (young_writer(scene, size), young_writer(scene, size)))


def young_alone(scene: Scene) -> None:
    single(scene, "young", young_writer(scene, scene.size()))


KINDS: dict[str, Callable[[Scene], None]] = {
    "vectors": vectors,
    "pair": used_pair,
    "unequal pair": unequal_pair,
    "large pair": large_pair,
    "wide header": wide_header,
    "without footers": qemu_waiting,
    "without footers, drained": qemu_drained,
    "mid-write": mid_write,
    "old in": old_in,
    "scattered": scattered,
    "contiguous channel": contiguous_channel,
    "closed channels": closed_channels,
    "corrupt": corrupt,
    "full": full,
    "drained": drained,
    "young pair": young_pair,
    "young": young_alone,
}
