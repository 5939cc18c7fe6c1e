"""What the two formats of a queue have in common on the device's side.

A device ring takes chains in the order in which the driver made them available, and gives them back
in any.  It remembers which chains it holds: what it gives back must be one of them.

After a PeerError no further chain is taken: a driver that broke one rule may break any.  Chains
that were taken before can still be given back.

Source: OASIS VIRTIO 1.2, sections 2.7.6 to 2.7.8 and 2.8.2 and 2.8.22.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from vmbus.errors import CallerError, PeerError
from vmbus.memory import QueueMemory

from .chains import ChainRules, DescriptorChain
from .faults import VirtqueueFault
from .queue_end import QueueEnd

__all__ = ["DeviceRing", "HeldChain"]


#: So many entries that any event is among them.
WHOLE_ROUND = 0x10000


class HeldChain(NamedTuple):
    """What is remembered of a chain that the device has.

    slots          entries of the ring that it takes
    writable       bytes that the device may write
    taken_before   entries taken before it, by the count of its ring; in a saved state less all that
                   were taken by then, so that the last chain's is -slots.  None: nobody knows, and
                   there is no way back to it
    """

    slots: int
    writable: int
    taken_before: int | None = None


class DeviceRing(QueueEnd):
    """One ring from the device's side: SplitDeviceRing or PackedDeviceRing.

    memory      what driver and device share, by the device's addresses
    rules       what a chain may be
    event_idx   whether RING_EVENT_IDX was negotiated
    held        chains that the device has taken and not yet given back, by head

    `unknown` counts the entries that an earlier owner of the queue had taken and did not tell of.
    """

    def __init__(
        self, memory: QueueMemory, rules: ChainRules, event_idx: bool, held: dict[int, HeldChain]
    ) -> None:
        super().__init__(memory, rules.queue_size, event_idx)
        self._memory = memory
        self._rules = rules
        self.held = held
        self.unknown = 0
        self._taken_before = 0  # entries taken by this ring

    def take(self) -> DescriptorChain | None:
        """The next chain; None when the driver has made no more available.

        Raises PeerError for one that must not be; it is not taken, and every later call raises the
        error again.
        """
        raise NotImplementedError

    def give_back(self, head: int, length: int) -> None:
        """Tell the driver that the device is done with a chain, and wrote `length` bytes there."""
        raise NotImplementedError

    def go_back(self) -> None:
        """Undo the last take; CallerError when its chain was given back, or there was none."""
        head = next(reversed(self.held), None)
        held = None if head is None else self.held[head]
        if (
            head is None
            or held is None
            or held.taken_before is None
            or held.taken_before + held.slots != self._taken_before
        ):
            raise CallerError(
                "the chain before this position has been used already, or was never popped here: there is "
                "no way back",
                argument="self",
                value=self.next_avail,
                limit="a chain that the device has",
            )
        self._stand_back(held.slots)
        self._taken_before -= held.slots
        del self.held[head]

    def _stand_back(self, slots: int) -> None:
        """Be so many entries back."""
        raise NotImplementedError

    def settle(self) -> None:
        """Store what an interrupt kept from being stored, so that the driver sees what was given back."""
        raise NotImplementedError

    def held_now(self) -> tuple[tuple[int, HeldChain], ...]:
        """The chains that the device has, for a saved state."""
        return tuple(
            (
                head,
                one
                if one.taken_before is None
                else one._replace(taken_before=one.taken_before - self._taken_before),
            )
            for head, one in self.held.items()
        )

    def enable_notification(self) -> bool:
        """Ask the driver for notifications; whether a chain is available already."""
        raise NotImplementedError

    def disable_notification(self) -> None:
        """Ask the driver to be silent."""
        raise NotImplementedError

    def notification_needed(self) -> bool:
        """Whether the driver must be told of what was given back since this was last asked."""
        raise NotImplementedError

    @property
    def next_avail(self) -> int:
        """Where the next chain is taken."""
        raise NotImplementedError

    @property
    def next_used(self) -> int:
        """Where the next chain is given back."""
        raise NotImplementedError

    def go_on(self) -> None:
        """Take over from an earlier owner, who may not have told the driver of all that was used."""
        self._uncounted = WHOLE_ROUND

    def _refuse_take(self, head: int, slots: int, descriptor: int) -> NoReturn:
        """Say why a chain cannot be one that the device does not have yet.

        descriptor   the first of it: of a packed queue its slot, since `head` is the buffer id
        """
        if head in self.held:
            what, kind = "which the device has already", VirtqueueFault.HEAD_IN_FLIGHT
        else:
            what = f"of {slots} entries while {self._entries_held()} are in flight"
            kind = VirtqueueFault.TOO_MANY_IN_FLIGHT
        self._fail(
            PeerError(
                f"the driver makes a chain from {head} available {what}, in a queue of {self._size}",
                kind=kind,
                descriptor=descriptor,
                found=head if head in self.held else self._entries_held() + slots,
                allowed="a head that the device does not have" if head in self.held else self._size,
            )
        )

    def _count_unknown(self, distance: int) -> int:
        """Entries in flight, of `distance` in all, that no held chain accounts for."""
        known = sum(one.slots for one in self.held.values())
        if not known <= distance <= self._size:
            raise CallerError(
                f"{distance} entries lie between the two positions, and the chains held have {known}, in a "
                f"queue of {self._size}",
                argument="next_avail",
                value=distance,
                limit=self._size,
            )
        return distance - known

    def _entries_held(self) -> int:
        return self.unknown + sum(one.slots for one in self.held.values())

    def _refuse_give_back(self, head: int, length: int) -> NoReturn:
        held = self.held.get(head)
        if held is None:
            raise CallerError(
                f"chain {head} is none of the {len(self.held)} that were popped and not yet used",
                argument="head_index",
                value=head,
                limit=self._size - 1,
            )
        raise CallerError(
            f"{length} bytes cannot have been written to chain {head}: it has {held.writable} writable ones",
            argument="length",
            value=length,
            limit=held.writable,
        )
