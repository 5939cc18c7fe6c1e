"""What a driver's requests are made of, and what comes back of them.

Source: the virtio-driver crate, Virtqueue::add_request and VirtqueueCompletion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

__all__ = ["AddDescriptor", "Prepare", "RequestPlace", "Translate", "VirtqueueCompletion"]


class RequestPlace(NamedTuple):
    """Where the data of one request lies, in the memory that the device sees.

    data      the bytes themselves, to be filled in place
    address   the driver's address of the first, for add_descriptor
    id        the id that the request gets
    """

    data: memoryview
    address: int
    id: int


class VirtqueueCompletion(NamedTuple):
    """A request that the device is done with.

    id        what add_request returned
    request   a copy of its place, with what the device wrote there; less of it where the queue was made so
    length    bytes that the device says it wrote, from the first writable one on
    """

    id: int
    request: bytes
    length: int


class AddDescriptor(Protocol):
    """Adds one buffer to a request; `from_dev` when the device writes it.

    Raises RingFull when the queue has no descriptor left, CallerError for what cannot be a buffer.
    """

    def __call__(self, address: int, length: int, from_dev: bool = False) -> None: ...


#: Fills the request's place and adds its buffers, the readable ones first.
Prepare: TypeAlias = Callable[[RequestPlace, AddDescriptor], object]

#: (address, length) -> the address by which the device reaches those bytes; an error refuses them.
Translate: TypeAlias = Callable[[int, int], int]
