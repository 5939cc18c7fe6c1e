"""The memory of a virtqueue as the explorer sees it.

The queues touch memory through QueueMemory alone, so over an ExploredGuestMemory they run the lines that
they run over any other: each access to a word, or to the bytes of an area, is a step or a store of the
explorer.  queue_plan.py says which is which.

Limit: what `view` returns is no memoryview and does the least of one (slices, items, tobytes).

Source: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any, cast

from vmbus.memory import Buffer, QueueMemory
from vmbus.virtio import DeviceQueue, Virtqueue

from .queue_plan import ADDRESS, WORD, Part, QueuePlan
from .sides import Side

__all__ = ["ExploredGuestMemory"]


class ExploredHalfwords:
    """Words of an ExploredGuestMemory."""

    def __init__(self, memory: ExploredGuestMemory, address: int) -> None:
        self._memory = memory
        self._address = address

    def __getitem__(self, word: int) -> int:
        return int.from_bytes(self._memory.read(self._address + WORD * word, WORD), "little")

    def __setitem__(self, word: int, value: int) -> None:
        self._memory.write(self._address + WORD * word, value.to_bytes(WORD, "little"))


class ExploredView:
    """Bytes of an ExploredGuestMemory, each access a step: what a memoryview does, as far as queues use it."""

    readonly = False

    def __init__(self, memory: ExploredGuestMemory, address: int, length: int) -> None:
        self._memory = memory
        self._address = address
        self.nbytes = length

    def __len__(self) -> int:
        return self.nbytes

    def __getitem__(self, key: int | slice) -> Any:
        start, length = self._place(key)
        if isinstance(key, slice):
            return ExploredView(self._memory, start, length)
        return self._memory.read(start, 1)[0]

    def __setitem__(self, key: int | slice, value: Any) -> None:
        start, length = self._place(key)
        data = bytes(value) if isinstance(key, slice) else bytes([value])
        if len(data) != length:
            raise ValueError(f"{len(data)} bytes do not fit a slice of {length}")
        self._memory.write(start, data)

    def __bytes__(self) -> bytes:
        return self.tobytes()

    def tobytes(self) -> bytes:
        """A copy."""
        return self._memory.read(self._address, self.nbytes)

    def _place(self, key: int | slice) -> tuple[int, int]:
        """The address of an item or a slice, and its bytes."""
        chosen = range(self.nbytes)[key]
        if isinstance(chosen, int):
            return self._address + chosen, 1
        if chosen.step != 1:
            raise ValueError("a slice of explored bytes has no step")
        return self._address + chosen.start, len(chosen)


class ExploredGuestMemory(QueueMemory):
    """The memory of one virtqueue, as one side sees it; made by `explore_queue`.

    plan   what lies where

    `virtqueue` and `device_queue` make the queue's ends over it; an end of your own finds in `plan` all
    that it must know.
    """

    def __init__(self, side: Side, plan: QueuePlan) -> None:
        self._side = side
        self.plan = plan
        self.acquire = in_order
        self.release = side.release
        self.fence = side.fence

    def virtqueue(self) -> Virtqueue:
        """The driver's end, which zeroes the block."""
        plan = self.plan
        return Virtqueue(
            self,
            plan.queue_size,
            plan.features,
            address=ADDRESS,
            request_size=plan.request_size,
            indirect_size=plan.indirect_size,
            start=plan.start,
        )

    def device_queue(self) -> DeviceQueue:
        """The device's end, set up."""
        plan = self.plan
        queue = DeviceQueue(self, plan.queue_size, plan.features)
        queue.set_up(plan.queue_areas, start=plan.start)
        return queue

    def check_range(self, address: int, length: int, *, writable: bool = False) -> None:
        self.plan.check_range(address, length)

    def read(self, address: int, length: int) -> bytes:
        return b"".join(map(self._read_part, self.plan.parts(address, length)))

    def _read_part(self, part: Part) -> bytes:
        if part.offset < 0:
            return self._side.load(part.name).to_bytes(WORD, "little")
        return self._side.read(part.name, part.offset, part.length)

    def write(self, address: int, data: Buffer) -> None:
        copy = bytes(data)
        for name, offset, start, length in self.plan.parts(address, len(copy)):
            piece = copy[start : start + length]
            if offset < 0:
                self._side.store(name, int.from_bytes(piece, "little"))
            else:
                self._side.write(name, offset, piece)

    def view(self, address: int, length: int) -> memoryview:
        self.check_range(address, length)
        return cast(memoryview, ExploredView(self, address, length))

    def halfwords(self, address: int, count: int) -> ExploredHalfwords:
        self.check_range(address, WORD * count)
        return ExploredHalfwords(self, address)

    def packer(self, record: Struct, address: int, length: int) -> Callable[..., object]:
        self.check_range(address, length)
        return partial(self._pack, record, address)

    def unpacker(self, record: Struct, address: int, length: int) -> Callable[[int], tuple[Any, ...]]:
        self.check_range(address, length)
        return partial(self._unpack, record, address)

    def _pack(self, record: Struct, address: int, offset: int, *values: object) -> None:
        self.write(address + offset, record.pack(*values))

    def _unpack(self, record: Struct, address: int, offset: int) -> tuple[Any, ...]:
        return record.unpack(self.read(address + offset, record.size))


def in_order() -> None:
    """An acquire: nothing, since this machine's loads stay in order."""
