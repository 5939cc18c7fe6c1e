"""The calls of the driver's side of a virtqueue, judged where it is under attack.

Each completion is of a request that is outstanding, once, and no longer than its room.  While nothing is struck,
requests come back with their bytes, in the order in which they were given back.
"""

from __future__ import annotations

from collections.abc import Callable

from vmbus.errors import RingFull
from vmbus.virtio import (
    RequestPlace,
    VirtqueueCompletion,
)

from .arguments import Flag, Number
from .trial import operation, pattern

__all__ = ["DriverCalls"]


from .hostile_queue_calls import DRIVER_CALL, HALF, ROOM, QueueCalls, Request


class DriverCalls(QueueCalls):
    """The calls of the driver."""

    @operation(readable=HALF, room=HALF, parts=Number(1, 4), indirect=Flag())
    def add(self, readable: int, room: int, parts: int, indirect: bool) -> None:
        """A request: so many bytes in up to so many descriptors, and one with room for the answer."""
        self.count += 1
        data = pattern(readable, self.count)
        step = -(-readable // parts) or 1
        buffers = [(at, min(step, readable - at), False) for at in range(0, readable, step)][:3]
        if room or not buffers:
            buffers.append((ROOM, room, True))
        buffers = buffers[-self.size :]  # no chain has more

        def prepare(place: RequestPlace, add_descriptor: Callable[..., None]) -> None:
            place.data[: len(data)] = data
            for offset, length, from_dev in buffers:
                add_descriptor(place.address + offset, length, from_dev)

        entries = 1 if indirect else len(buffers)
        free = self.driver.free
        outcome = self.side_call(
            "driver",
            "add_request",
            lambda: self.driver.add_request(prepare, indirect=indirect),
            DRIVER_CALL + 3 * len(buffers),
        )
        if isinstance(outcome.error, RingFull):
            self.demand(entries > free, f"full: {entries} descriptors, {free} free")
        if outcome.error is None:
            read = b"".join(data[at : at + length] for at, length, from_dev in buffers if not from_dev)
            self.added(outcome.result, Request(read, room, entries))

    def added(self, request_id: int, request: Request) -> None:
        requests = self.requests
        self.demand(
            request_id not in requests.outstanding, f"request {request_id} is outstanding and was added"
        )
        self.demand(0 <= request_id < self.size, f"a request {request_id} of {self.size}")
        requests.outstanding[request_id] = request
        requests.available.append(request_id)
        self.corners["request added"] += 1

    @operation(limit=Number(1, 9, corners=[1, 9]))
    def complete(self, limit: int) -> None:
        for _ in range(limit):
            outstanding = len(self.requests.outstanding)
            outcome = self.side_call(
                "driver", "completions", lambda: next(self.driver.completions(), None), DRIVER_CALL
            )
            self.check_ahead(outcome, self.areas.device_area, self.requests.used_position, outstanding)
            if outcome.result is None:
                if outcome.error is None and self.victim.quiet:
                    self.demand(not self.requests.given, "no completion, and requests were given back")
                return
            self.completed(outcome.result)

    def completed(self, completion: VirtqueueCompletion) -> None:
        requests = self.requests
        outstanding = completion.id in requests.outstanding
        self.demand(outstanding, f"a completion of request {completion.id}, which is not outstanding")
        request = requests.completed(completion.id)
        self.demand(
            completion.length <= request.room, f"{completion.length} bytes came, with room for {request.room}"
        )
        self.corners["completion taken"] += 1
        if self.victim.quiet:
            given = requests.given.popleft()
            answer = completion.request[ROOM : ROOM + completion.length]
            self.demand_equal((completion.id, answer), given, "a completion of an honest device")

    @operation(enabled=Flag())
    def ask_driver(self, enabled: bool) -> None:
        driver = self.driver
        for call, function in (
            ("avail_notif_needed", driver.avail_notif_needed),
            ("has_completion", driver.has_completion),
            ("set_used_notif_enabled", lambda: driver.set_used_notif_enabled(enabled)),
        ):
            self.ask("driver", call, function)
