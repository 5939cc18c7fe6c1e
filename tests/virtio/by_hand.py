"""One side of a virtqueue written by hand, byte by byte, to stand across from the real other side.

Nothing here comes from vmbus.virtio: the layout is stated once more, with plain `struct`, so that a
slip made there is not made here too.  Neither side checks anything: a test writes what it wants,
right or wrong.

Everything works on a GuestMemory at stated addresses, little-endian.  A position in a packed ring
is a slot with the wrap counter in bit 15.

    driver, device = device_by_hand()                    split, 16 descriptors, memory [0, 0x10000)
    driver, device = device_by_hand(packed=True)
    head = driver.offer((0x4000, 8, 0), (0x5000, 4, WRITE))
    device.add_used(device.pop_descriptor_chain().head_index, 4)
    assert driver.used() == [(head, 4)]

    device = HandDevice.of(virtqueue)                    across from a real driver
    device.available()                                   what it has published since the last call
    device.give_back(request_id, 4)

Source: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

from vmbus.errors import PeerError
from vmbus.memory import GuestMemory, QueueMemory
from vmbus.virtio import DeviceQueue, QueueAreas, Virtqueue

__all__ = [
    "AREAS",
    "AVAILABLE",
    "BUFFERS",
    "EVENT_IDX",
    "FORMATS",
    "INDIRECT",
    "INDIRECT_DESC",
    "MEMORY_SIZE",
    "NEXT",
    "PACKED",
    "TABLES",
    "USED",
    "VERSION_1",
    "WRITE",
    "Areas",
    "HandDevice",
    "HandDriver",
    "Offered",
    "device_by_hand",
    "facts",
    "moved",
    "new_memory",
]

# Flags of a descriptor.
NEXT = 1
WRITE = 2
INDIRECT = 4
AVAILABLE = 0x0080
USED = 0x8000

# Feature bits.
INDIRECT_DESC = 1 << 28
EVENT_IDX = 1 << 29
VERSION_1 = 1 << 32
PACKED = 1 << 34

DESCRIPTOR = struct.Struct("<QIHH")
ELEMENT = struct.Struct("<II")

#: For `parametrize("packed", FORMATS, ids=["split", "packed"])`.
FORMATS = (False, True)

MEMORY_SIZE = 0x10000


class Areas(NamedTuple):
    """Where descriptors, driver area and device area are."""

    table: int
    driver: int
    device: int


#: Where a test's queue lies, where its indirect tables start, and where its buffers do.
AREAS = Areas(0x1000, 0x2000, 0x3000)
TABLES = 0x8000
BUFFERS = 0x4000


class Offered(NamedTuple):
    """A chain as a driver published it: its id, and (address, length, flags) of what is in the ring."""

    head: int
    buffers: tuple[tuple[int, int, int], ...]


def new_memory(size: int = MEMORY_SIZE, start: int = 0) -> GuestMemory:
    """One region of zeros."""
    return GuestMemory([(start, bytearray(size))])


def facts(error: PeerError) -> tuple[object, ...]:
    """All that an error says: each later raise is a new error with the same facts."""
    return (str(error), error.kind, error.descriptor, error.entry, error.found, error.allowed)


def moved(position: int, count: int, size: int) -> int:
    """A packed position so many slots further on."""
    slot, wrap = position & 0x7FFF, position & 0x8000
    slot += count
    while slot >= size:
        slot, wrap = slot - size, wrap ^ 0x8000
    return slot | wrap


class Hand:
    """What both sides have: a memory, three areas, and words in them."""

    def __init__(self, memory: QueueMemory, areas: Areas, size: int, packed: bool) -> None:
        self.memory = memory
        self.areas = areas
        self.size = size
        self.packed = packed

    def word(self, address: int) -> int:
        """The 16-bit word there."""
        value: int = struct.unpack("<H", self.memory.read(address, 2))[0]
        return value

    def set_word(self, address: int, value: int) -> None:
        self.memory.write(address, struct.pack("<H", value))

    def unpack(self, form: struct.Struct, address: int) -> tuple[Any, ...]:
        return form.unpack(self.memory.read(address, form.size))

    # -- the table, or a packed ring ---------------------------------------------------------------

    def descriptor_address(self, index: int) -> int:
        return self.areas.table + DESCRIPTOR.size * index

    def read_descriptor(self, index: int) -> tuple[int, int, int, int]:
        """The four fields in the order in which they lie: the packed format has id before flags."""
        address, length, third, fourth = self.unpack(DESCRIPTOR, self.descriptor_address(index))
        return address, length, third, fourth

    def flags_of_slot(self, index: int) -> int:
        """The flags of a packed slot."""
        return self.word(self.descriptor_address(index) + 14)

    def set_flags_of_slot(self, index: int, flags: int) -> None:
        self.set_word(self.descriptor_address(index) + 14, flags)

    # -- the driver area ---------------------------------------------------------------------------

    @property
    def avail_flags(self) -> int:
        return self.word(self.areas.driver)

    @property
    def avail_idx(self) -> int:
        return self.word(self.areas.driver + 2)

    @property
    def used_event(self) -> int:
        return self.word(self.areas.driver + 4 + 2 * self.size)

    def avail_ring(self, slot: int) -> int:
        """The head in a slot of the available ring."""
        return self.word(self.areas.driver + 4 + 2 * (slot % self.size))

    @property
    def driver_event(self) -> tuple[int, int]:
        """Packed: (offset and wrap, flags) that the driver wrote."""
        return self.word(self.areas.driver), self.word(self.areas.driver + 2)

    # -- the device area ---------------------------------------------------------------------------

    @property
    def used_flags(self) -> int:
        return self.word(self.areas.device)

    @property
    def used_idx(self) -> int:
        return self.word(self.areas.device + 2)

    @property
    def avail_event(self) -> int:
        return self.word(self.areas.device + 4 + 8 * self.size)

    def used_element(self, slot: int) -> tuple[int, int]:
        """(id, length) in a slot of the used ring."""
        used_id, length = self.unpack(ELEMENT, self.areas.device + 4 + 8 * (slot % self.size))
        return used_id, length

    @property
    def device_event(self) -> tuple[int, int]:
        """Packed: (offset and wrap, flags) that the device wrote."""
        return self.word(self.areas.device), self.word(self.areas.device + 2)


class HandDriver(Hand):
    """The driver's side.

    size      descriptors
    packed    the format
    start     the index to begin with; packed: the slot, with the wrap counter in bit 15

    `next` is where the next chain goes, `next_descriptor` the table entry that `offer` takes next.
    """

    def __init__(
        self,
        memory: QueueMemory,
        areas: Areas = AREAS,
        size: int = 16,
        packed: bool = False,
        start: int | None = None,
    ) -> None:
        super().__init__(memory, areas, size, packed)
        first = 0x8000 if packed else 0
        self.next = first if start is None else start
        self.next_used = self.next
        self.next_descriptor = 0
        self.slots: dict[int, int] = {}  # packed: how many slots each list took, by its id
        if not packed and start is not None:
            self.set_avail_idx(start)
            self.set_word(areas.device + 2, start)

    # -- raw ---------------------------------------------------------------------------------------

    def descriptor(self, index: int, address: int, length: int, flags: int = 0, following: int = 0) -> None:
        """Put a descriptor into a split table; `flags` and `following` are stored as they are."""
        self.memory.write(self.descriptor_address(index), DESCRIPTOR.pack(address, length, flags, following))

    def slot(self, index: int, address: int, length: int, flags: int = 0, buffer_id: int = 0) -> None:
        """Put a descriptor into a slot of a packed ring; `flags` are all 16 bits as they are."""
        self.memory.write(self.descriptor_address(index), DESCRIPTOR.pack(address, length, buffer_id, flags))

    def put_head(self, slot: int, head: int) -> None:
        """Put a head into a slot of the available ring, and leave the index alone."""
        self.set_word(self.areas.driver + 4 + 2 * (slot % self.size), head)

    def push(self, head: int) -> None:
        """Make the split chain from `head` available."""
        self.put_head(self.next, head)
        self.next = (self.next + 1) & 0xFFFF
        self.set_avail_idx(self.next)

    def set_avail_flags(self, flags: int) -> None:
        self.set_word(self.areas.driver, flags)

    def set_avail_idx(self, index: int) -> None:
        self.set_word(self.areas.driver + 2, index)

    def set_used_event(self, event: int) -> None:
        self.set_word(self.areas.driver + 4 + 2 * self.size, event)

    def set_driver_event(self, offset_and_wrap: int, flags: int) -> None:
        """Packed: when the driver wants to be notified."""
        self.set_word(self.areas.driver, offset_and_wrap)
        self.set_word(self.areas.driver + 2, flags)

    def available_flags(self, position: int) -> int:
        """The two bits that make the slot at a packed position available."""
        return AVAILABLE if position & 0x8000 else USED

    def table(self, address: int, *entries: tuple[int, int, int, int]) -> int:
        """Write an indirect table of (address, length, flags, next) and return its bytes.

        In a packed queue's table `next` stands where the id is, which nobody reads.
        """
        written = b"".join(
            DESCRIPTOR.pack(start, length, following, flags)
            if self.packed
            else DESCRIPTOR.pack(start, length, flags, following)
            for start, length, flags, following in entries
        )
        self.memory.write(address, written)
        return len(written)

    # -- in one go ---------------------------------------------------------------------------------

    def offer(self, *buffers: tuple[int, int, int], buffer_id: int | None = None, last_flags: int = 0) -> int:
        """Make one chain of (address, length, flags) available and return its head, or its id.

        Each but the last gets NEXT besides, and the last `last_flags`.  Split: the table's next
        entries, round and round.  Packed: the ring's next slots; the id is `buffer_id`, or the
        first slot.
        """
        if self.packed:
            return self._offer_packed(buffers, buffer_id, last_flags)
        head = self.next_descriptor
        for address, length, flags in buffers[:-1]:
            following = (self.next_descriptor + 1) % self.size
            self.descriptor(self.next_descriptor, address, length, flags | NEXT, following)
            self.next_descriptor = following
        address, length, flags = buffers[-1]
        following = (self.next_descriptor + 1) % self.size
        self.descriptor(self.next_descriptor, address, length, flags | last_flags, following)
        self.next_descriptor = following
        self.push(head)
        return head

    def _offer_packed(
        self, buffers: tuple[tuple[int, int, int], ...], buffer_id: int | None, last_flags: int
    ) -> int:
        list_id = self.next & 0x7FFF if buffer_id is None else buffer_id
        position = self.next
        for number, (address, length, flags) in enumerate(buffers):
            more = NEXT if number < len(buffers) - 1 else last_flags
            # The id of a list is in its last descriptor: what stands in the others must not matter.
            shown_id = list_id if number == len(buffers) - 1 else 0xDEAD
            self.slot(
                position & 0x7FFF,
                address,
                length,
                flags | more | self.available_flags(position),
                shown_id,
            )
            position = moved(position, 1, self.size)
        self.next = position
        self.slots[list_id] = len(buffers)
        return list_id

    def offer_table(self, address: int, length: int, flags: int = 0, buffer_id: int | None = None) -> int:
        """Make a chain available that is one INDIRECT descriptor of so many bytes of table."""
        return self.offer((address, length, INDIRECT | flags), buffer_id=buffer_id)

    def used(self) -> list[tuple[int, int]]:
        """(head or id, length) of what the device has given back since the last call."""
        return self._used_packed() if self.packed else self._used_split()

    def _used_split(self) -> list[tuple[int, int]]:
        found = []
        while self.next_used != self.used_idx:
            found.append(self.used_element(self.next_used))
            self.next_used = (self.next_used + 1) & 0xFFFF
        return found

    def _used_packed(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        while self.slots:
            flags = self.flags_of_slot(self.next_used & 0x7FFF)
            if flags & (AVAILABLE | USED) != (AVAILABLE | USED if self.next_used & 0x8000 else 0):
                break
            _, length, buffer_id, _ = self.read_descriptor(self.next_used & 0x7FFF)
            found.append((buffer_id, length))
            self.next_used = moved(self.next_used, self.slots.pop(buffer_id), self.size)
        return found


class HandDevice(Hand):
    """The device's side, across from a real driver.

    `next` is the position of the next chain that `available` looks for, `next_used` where the next
    one is given back.
    """

    def __init__(
        self,
        memory: QueueMemory,
        areas: Areas,
        size: int,
        packed: bool = False,
        start: int | None = None,
    ) -> None:
        super().__init__(memory, areas, size, packed)
        self.next = (0x8000 if packed else 0) if start is None else start
        self.next_used = self.next
        self.slots: dict[int, int] = {}  # packed: how many slots each list takes, by its id

    @classmethod
    def of(cls, queue: Virtqueue, start: int | None = None) -> HandDevice:
        """The device across from this driver, which reaches the memory by the driver's addresses."""
        packed = bool(int(queue.features) & PACKED)
        return cls(queue.memory, Areas(*queue.areas), queue.queue_size, packed, start)

    # -- raw ---------------------------------------------------------------------------------------

    def set_used_flags(self, flags: int) -> None:
        self.set_word(self.areas.device, flags)

    def set_used_idx(self, index: int) -> None:
        self.set_word(self.areas.device + 2, index)

    def set_avail_event(self, event: int) -> None:
        self.set_word(self.areas.device + 4 + 8 * self.size, event)

    def put_used(self, slot: int, used_id: int, length: int) -> None:
        """Write an element of the used ring, and leave the index alone."""
        self.memory.write(self.areas.device + 4 + 8 * (slot % self.size), ELEMENT.pack(used_id, length))

    def put_used_slot(self, position: int, buffer_id: int, length: int, flags: int | None = None) -> None:
        """Make the packed slot at a position used; the address stays.  `flags`: all 16 bits as they are.

        Without them those of the standard: WRITE says that the length is one.
        """
        if flags is None:
            flags = (AVAILABLE | USED if position & 0x8000 else 0) | (WRITE if length else 0)
        where = self.descriptor_address(position & 0x7FFF)
        self.memory.write(where + 8, struct.pack("<IHH", length, buffer_id, flags))

    def set_device_event(self, offset_and_wrap: int, flags: int) -> None:
        """Packed: when the device wants to be notified."""
        self.set_word(self.areas.device, offset_and_wrap)
        self.set_word(self.areas.device + 2, flags)

    def table(self, address: int, entries: int) -> tuple[tuple[int, int, int, int], ...]:
        """The (address, length, flags, next) of an indirect table; `next` is the id in a packed one."""
        found = []
        for entry in range(entries):
            start, length, third, fourth = self.unpack(DESCRIPTOR, address + DESCRIPTOR.size * entry)
            flags, following = (fourth, third) if self.packed else (third, fourth)
            found.append((start, length, flags, following))
        return tuple(found)

    # -- in one go ---------------------------------------------------------------------------------

    def available(self) -> list[Offered]:
        """The chains that the driver has published since the last call."""
        found = []
        while (offered := self._take_packed() if self.packed else self._take_split()) is not None:
            found.append(offered)
        return found

    def _take_split(self) -> Offered | None:
        if self.next == self.avail_idx:
            return None
        head = index = self.avail_ring(self.next)
        self.next = (self.next + 1) & 0xFFFF
        buffers = []
        for _ in range(self.size):
            address, length, flags, following = self.read_descriptor(index)
            buffers.append((address, length, flags))
            if not flags & NEXT:
                break
            index = following
        return Offered(head, tuple(buffers))

    def _take_packed(self) -> Offered | None:
        slot = self.next & 0x7FFF
        wanted = AVAILABLE if self.next & 0x8000 else USED
        if sum(self.slots.values()) >= self.size:
            return None
        if self.flags_of_slot(slot) & (AVAILABLE | USED) != wanted:
            return None
        buffers = []
        for _ in range(self.size):
            address, length, buffer_id, flags = self.read_descriptor(self.next & 0x7FFF)
            self.next = moved(self.next, 1, self.size)
            buffers.append((address, length, flags))
            if not flags & NEXT:
                break
        self.slots[buffer_id] = len(buffers)
        return Offered(buffer_id, tuple(buffers))

    def give_back(self, used_id: int, length: int = 0) -> None:
        """Say that a chain is used."""
        if self.packed:
            self.put_used_slot(self.next_used, used_id, length)
            self.next_used = moved(self.next_used, self.slots.pop(used_id, 1), self.size)
        else:
            self.put_used(self.next_used, used_id, length)
            self.next_used = (self.next_used + 1) & 0xFFFF
            self.set_used_idx(self.next_used)


def device_by_hand(
    packed: bool = False,
    size: int = 16,
    features: int = 0,
    *,
    memory: GuestMemory | None = None,
    areas: Areas = AREAS,
    max_size: int | None = None,
    start: int | None = None,
    longest_chain: int | None = None,
    tolerated: int = 0,
) -> tuple[HandDriver, DeviceQueue]:
    """A hand-written driver and, over the same memory, a real device that is ready.

    features   those beside VERSION_1 and the format's
    memory     None: new_memory()
    start      where both begin: an index, or a packed position
    """
    memory = new_memory() if memory is None else memory
    device = DeviceQueue(
        memory,
        size if max_size is None else max_size,
        VERSION_1 | features | (PACKED if packed else 0),
        longest_chain=longest_chain,
        tolerated=tolerated,
    )
    device.set_size(size)
    driver = HandDriver(memory, areas, size, packed, start)
    device.set_up(QueueAreas(*areas), start=start)
    return driver, device
