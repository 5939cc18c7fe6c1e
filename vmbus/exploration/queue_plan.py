"""What lies where in the block of an explored virtqueue: words by name, and areas of bytes.

The 16-bit words that one side polls while the other stores them have a name each; everything else lies in
areas.  An access that covers both goes in several steps, by address:

    split    descriptors | avail flags, idx, slots, used event | used flags, idx, elements, avail event
    packed   slots, the flags of each a word | driver event and its flags | device event and its flags
    both     then the places of requests, and their indirect tables

Limit: a word is loaded and stored whole.

Source: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from vmbus.errors import CallerError
from vmbus.memory import AddressError
from vmbus.virtio import DESCRIPTOR_SIZE, QueueAreas, VirtioFeatures, VirtqueueLayout

from .shared import Word

__all__ = ["ADDRESS", "WORD", "Part", "QueuePlan"]

#: Where the queue's block starts.
ADDRESS = 0x1000

#: Bytes of a word.
WORD = 2

#: What comes before the slots of a ring, and before the elements of a used ring.
RING_HEADER_SIZE = 4

#: Where in a slot of a packed queue its flags are, and where in an event suppression structure.
SLOT_FLAGS_OFFSET, EVENT_FLAGS_OFFSET = 14, 2


class Part(NamedTuple):
    """Some bytes of one access.

    name     of the word, or of the area
    offset   in the area; -1 for a word
    start    in the access
    length   bytes
    """

    name: str
    offset: int
    start: int
    length: int


class QueuePlan:
    """What lies where in a queue's block, and how its ends are made.

    queue_size, features         of the queue
    request_size, indirect_size  what each request has of its own, as for Virtqueue
    start                        where the queue begins, as for Virtqueue

    Raises CallerError for what no queue can be.
    """

    def __init__(
        self, queue_size: int, features: int, request_size: int, indirect_size: int, start: int | None
    ) -> None:
        self.queue_size = queue_size
        self.features = features
        self.packed = bool(features & VirtioFeatures.RING_PACKED)
        self.request_size = request_size
        self.indirect_size = indirect_size
        self.start = start
        self.layout = VirtqueueLayout.new(
            1, queue_size, features, request_size=request_size, indirect_size=indirect_size
        )
        self.queue_areas = self.layout.areas(ADDRESS)
        named = packed_words if self.packed else split_words
        #: The address of each word that has a name.
        self.word_at = {address: name for name, address in named(self.queue_areas, queue_size)}
        self._areas = list(self._area_starts())
        self._known: dict[tuple[int, int], list[Part]] = {}

    def words(self) -> dict[str, Word]:
        """All words, for the explorer."""
        return {name: Word(0, hexadecimal=self.packed) for name in self.word_at.values()}

    def areas(self) -> dict[str, bytes]:
        """All areas, likewise."""
        return {name: bytes(end - start) for name, start, end in self._areas}

    def _area_starts(self) -> Iterator[tuple[str, int, int]]:
        """Each area, and from which address to which it goes; together they are the block."""
        layout = self.layout
        table, driver, device = self.queue_areas
        starts = {
            "slots" if self.packed else "descriptors": table,
            "driver area": driver,
            "device area" if self.packed else "used elements": device + RING_HEADER_SIZE * (not self.packed),
            "requests": ADDRESS + layout.request_offset,
            "tables": ADDRESS + layout.indirect_offset,
        }
        ends = [*list(starts.values())[1:], ADDRESS + layout.end_offset]
        for (name, start), end in zip(starts.items(), ends, strict=True):
            if start < end:
                yield name, start, end

    def parts(self, address: int, length: int) -> list[Part]:
        """The words and the pieces of areas that an access goes over, by address."""
        known = self._known.get((address, length))
        if known is None:
            self.check_range(address, length)
            known = self._known[address, length] = list(self._parts(address, length))
        return known

    def _parts(self, address: int, length: int) -> Iterator[Part]:
        at, end = address, address + length
        while at < end:
            name = self.word_at.get(at)
            if name is not None and at + WORD <= end:
                yield Part(name, -1, at - address, WORD)
                at += WORD
                continue
            if name is not None or at - 1 in self.word_at:
                raise CallerError(
                    f"{length} bytes at {address:#x} have half of a word that both sides poll",
                    argument="address",
                    value=address,
                    limit="whole words",
                )
            area, start, area_end = next(one for one in self._areas if one[1] <= at < one[2])
            behind = next((one for one in range(at, area_end) if one in self.word_at), area_end)
            count = min(behind, end) - at
            yield Part(area, at - start, at - address, count)
            at += count

    def check_range(self, address: int, length: int) -> None:
        """Raise AddressError when some byte is not in the block."""
        end = ADDRESS + self.layout.end_offset
        if not (ADDRESS <= address <= address + length <= end):
            raise AddressError(
                f"{length} bytes at {address:#x} are not in the queue's block, {ADDRESS:#x} to {end:#x}",
                address=address,
            )


def split_words(areas: QueueAreas, size: int) -> Iterator[tuple[str, int]]:
    """The polled words of a split queue, and where each is."""
    _, driver, device = areas
    sizes = QueueAreas.sizes(size, packed=False)
    yield "avail flags", driver
    yield "avail idx", driver + WORD
    for slot in range(size):
        yield f"avail slot {slot}", driver + RING_HEADER_SIZE + WORD * slot
    yield "used event", driver + sizes.driver_area - WORD
    yield "used flags", device
    yield "used idx", device + WORD
    yield "avail event", device + sizes.device_area - WORD


def packed_words(areas: QueueAreas, size: int) -> Iterator[tuple[str, int]]:
    """Those of a packed queue."""
    table, driver, device = areas
    for slot in range(size):
        yield f"slot {slot} flags", table + DESCRIPTOR_SIZE * slot + SLOT_FLAGS_OFFSET
    for name, start in (("driver event", driver), ("device event", device)):
        yield name, start
        yield f"{name} flags", start + EVENT_FLAGS_OFFSET
