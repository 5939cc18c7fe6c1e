"""What the calls of both sides of a virtqueue share: the model of its requests, and who may store where.

The side under attack is judged after every call; the other one is as honest as the strikes let it be.  A device
stores only in its own area, in used descriptors and in what it was given to write; a driver everywhere but in the
device's area.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from vmbus.errors import CallerError, PeerError, RingFull, VmbusError
from vmbus.virtio import (
    DescriptorChain,
    DeviceQueue,
    QueueAreas,
    Virtqueue,
)

from .arguments import Number
from .hostile_trial import HostileTrial, Outcome, QueueVictim

__all__ = [
    "DEVICE_CALL",
    "DRIVER_CALL",
    "HALF",
    "ROOM",
    "Given",
    "QueueCalls",
    "Request",
    "Requests",
    "Taken",
]

#: Accesses of one call of a driver, beside those for its descriptors; of a device, beside those for a chain.
DRIVER_CALL, DEVICE_CALL = 14, 6

#: Where in a request's place the device writes.
ROOM = 32

HALF = Number(0, 32, corners=[0, 1, 8, 32])


class Request(NamedTuple):
    """A request as its driver made it.

    entries   descriptors of the queue that it takes
    """

    data: bytes
    room: int
    entries: int


class Taken(NamedTuple):
    """A chain that the device has; the id of its request, where nothing was struck."""

    chain: DescriptorChain
    request_id: int | None


class Given(NamedTuple):
    """A request that came back."""

    request_id: int
    data: bytes


class Requests:
    """The model: what was asked, what the device has, what came back.

    used_position   where the driver looks for the next completion: an index, or a slot with its wrap counter
    stuck           whether an honest side was stopped by a strike
    """

    def __init__(self, size: int, packed: bool, start: int) -> None:
        self.size = size
        self.packed = packed
        self.used_position = start
        self.outstanding: dict[int, Request] = {}
        self.available: deque[int] = deque()
        self.taken: dict[int, Taken] = {}
        self.given: deque[Given] = deque()
        self.stuck = False

    def completed(self, request_id: int) -> Request:
        """Forget a request, and go on to where the next completion is."""
        request = self.outstanding.pop(request_id)
        if self.packed:
            slot, wrap = (self.used_position & 0x7FFF) + request.entries, self.used_position >> 15
            self.used_position = slot % self.size | (wrap ^ slot // self.size) << 15
        else:
            self.used_position = (self.used_position + 1) & 0xFFFF
        return request


class QueueCalls(HostileTrial):
    """What the calls of both sides need."""

    victim: QueueVictim
    attacked: str
    requests: Requests
    driver: Virtqueue
    device: DeviceQueue
    areas: QueueAreas
    size: int
    packed: bool
    count = 0

    def honest(self, error: VmbusError, call: str) -> None:
        raise NotImplementedError

    def side_call(
        self, side: str, call: str, function: Callable[[], Any], most: int, **options: Any
    ) -> Outcome:
        """A call of a side: judged where it is the victim, and made as well as it can be where it is not."""
        if side == self.attacked:
            outcome = self.attempt(self.victim, call, function, most=most, **options)
            self.check_places(outcome, options.get("may", ()))
            return outcome
        try:
            return Outcome(function(), None)
        except (RingFull, CallerError) as error:
            return Outcome(None, error)
        except VmbusError as error:
            self.honest(error, call)
            return Outcome(None, error)

    def check_places(self, outcome: Outcome, may: object) -> None:
        """A driver stores nothing where only the device does, and the other way round."""
        sizes = QueueAreas.sizes(self.size, packed=self.packed)
        device_area = range(self.areas.device_area, self.areas.device_area + sizes.device_area)
        table = range(self.areas.descriptor_table, self.areas.descriptor_table + sizes.descriptor_table)
        for access in self.victim.accesses:
            if access.what not in ("store", "write") or not access.length:
                continue
            ends = (access.place, access.place + access.length - 1)
            in_device_area = any(end in device_area for end in ends)
            if self.attacked == "driver":
                self.demand(
                    not in_device_area, f"the driver stored at {access.place:#x}, which is the device's"
                )
            elif not (
                all(end in device_area for end in ends) or (self.packed and all(end in table for end in ends))
            ):
                self.demand(
                    self.is_room(*ends), f"the device stored at {access.place:#x}, which is not its own"
                )

    def is_room(self, first: int, last: int) -> bool:
        """Whether the device was given those bytes to write, in a chain that it has."""
        return any(
            one.address <= first and last < one.address + one.length
            for taken in self.requests.taken.values()
            for one in taken.chain.writable
        )

    def ask(self, side: str, call: str, function: Callable[[], Any]) -> None:
        """A question, or a wish: nothing that the other side writes makes it an error."""
        outcome = self.side_call(side, call, function, DRIVER_CALL, commits=True)
        if side == self.attacked:
            self.demand(outcome.result in (True, False, None), f"{call} is answered {outcome.result!r}")

    def check_ahead(self, outcome: Outcome, area: int, position: int, most: int) -> None:
        """An index of a split queue that is further on than it can be is refused by whoever has loaded it."""
        for access in self.victim.accesses if not self.packed else ():
            ahead = (access.value - position) & 0xFFFF if access[:2] == ("load", area + 2) else 0
            if ahead > most:
                refused = isinstance(outcome.error, PeerError)
                self.demand(refused, f"an index {ahead} ahead was believed, and {most} is the most")
