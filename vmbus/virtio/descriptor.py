"""One buffer of a chain, as its driver described it.

Source: OASIS VIRTIO 1.2, sections 2.7.5 and 2.8.13.
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.errors import PeerError

from .faults import VirtqueueFault

__all__ = ["Descriptor", "descriptor_error"]


class Descriptor(NamedTuple):
    """One buffer of a chain.

    number    the descriptor's index in its table: the queue's, or an indirect one
    address   of the buffer, as the driver gave it
    length    in bytes
    flags     as the driver gave them
    table     the descriptor of the queue that points to the indirect table; None in the queue's own
    """

    number: int
    address: int
    length: int
    flags: int
    table: int | None

    @property
    def place(self) -> str:
        """The descriptor in words."""
        if self.table is None:
            return f"descriptor {self.number}"
        return f"entry {self.number} of the table of descriptor {self.table}"


def descriptor_error(
    descriptor: Descriptor, kind: VirtqueueFault, what: str, *, found: object, allowed: object
) -> PeerError:
    """The error that puts the blame on a descriptor."""
    nested = descriptor.table is not None
    return PeerError(
        f"{descriptor.place}, {what}",
        kind=kind,
        found=found,
        allowed=allowed,
        descriptor=descriptor.table if nested else descriptor.number,
        entry=descriptor.number if nested else None,
    )
