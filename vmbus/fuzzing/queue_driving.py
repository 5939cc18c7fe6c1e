"""The driver's half of the trials of virtqueues: requests go in, completions come out.  See queue_trial.py.

Lengths are in bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmbus.errors import CallerError, RingFull
from vmbus.virtio import AddDescriptor, RequestPlace, VirtqueueCompletion

from .arguments import Choice, Flag, Listing, Number
from .differences import demand_bytes
from .queue_model import Refusal, Request, Used
from .queue_under_test import (
    AREA,
    BUFFER,
    DATA_ADDRESS,
    HALF,
    PLACE,
    REGION,
    UNWRITTEN,
    QueueUnderTest,
)
from .ring_model import fresh_payload
from .trial import Wrong, operation

__all__ = ["QueueDriving"]


class PrepareFailed(Exception):
    """Raised by a `prepare` of this trial."""


class Shape:
    """A request that is to be added: where its buffers are.

    buffers   (None for its place, else an offset in its area; length; written by the device)
    """

    def __init__(self, lengths: Sequence[int], writable: int, in_place: bool, number: int) -> None:
        readable = max(0, len(lengths) - writable)
        self.buffers: list[tuple[int | None, int, bool]] = []
        offset = 53 * number % (AREA + 1 - sum(lengths))
        for position, length in enumerate(lengths):
            from_dev = position >= readable
            if in_place and position == (len(lengths) - 1 if from_dev else 0):
                self.buffers.append((None, HALF, from_dev))
            else:
                self.buffers.append((offset, length, from_dev))
                offset += length

    def crosses_regions(self, area: int) -> bool:
        """Whether a buffer has bytes in two regions."""
        stretches = [
            (AREA * area + offset, length)
            for offset, length, _ in self.buffers
            if offset is not None and length
        ]
        return any(first // REGION != (first + length - 1) // REGION for first, length in stretches)


class Preparing:
    """The `prepare` of one request: fills its place and its buffers, and remembers them.

    called    whether it was
    buffers   (driver's address, length, written by the device) of those that were accepted
    sent      what the device must read there
    """

    def __init__(self, trial: QueueUnderTest, shape: Shape, area: int, fill: bytes) -> None:
        self.trial = trial
        self.shape = shape
        self.area = area
        self.fill = fill
        self.place = fill[-HALF:] + HALF * UNWRITTEN
        self.place_at = 0
        self.called = False
        self.buffers: list[tuple[int, int, bool]] = []
        self.sent = b""

    def __call__(self, place: RequestPlace, add_descriptor: AddDescriptor) -> None:
        memory = self.trial.memory
        self.called = True
        self.place_at = place.address
        place.data[:] = self.place
        for offset, length, from_dev in self.shape.buffers:
            if offset is None:
                address = place.address + (HALF if from_dev else 0)
                content = self.place[:HALF]
            else:
                address = DATA_ADDRESS + AREA * self.area + offset
                content = self.fill[offset : offset + length]
                memory.write(address, length * UNWRITTEN if from_dev else content)
            add_descriptor(address, length, from_dev)
            if not from_dev:
                self.sent += content
            self.buffers.append((address, length, from_dev))

    def request(self, id: int, *, indirect: bool) -> Request:
        """What the model keeps of it."""
        return Request(id, self.area, self.buffers, self.sent, self.place_at, self.place, indirect)


class QueueDriving(QueueUnderTest):
    """What the driver does."""

    # -- adding ------------------------------------------------------------------------------------

    @operation(lengths=Listing(BUFFER, 4), writable=Number(0, 4), in_place=Flag(), count=Number(1, 3))
    def add_some(self, lengths: tuple[int, ...], writable: int, in_place: bool, count: int) -> None:
        for _ in range(count):
            self.add(lengths, writable, in_place=in_place)

    @operation(lengths=Listing(BUFFER, 14), writable=Number(0, 8), in_place=Flag(), fitting=Flag())
    def add_indirect(self, lengths: tuple[int, ...], writable: int, in_place: bool, fitting: bool) -> None:
        """A request in a table; `fitting` leaves out the buffers for which the table has no entries."""
        if fitting:
            lengths = lengths[: min(self.model.indirect_size, self.size)]
        self.add(lengths, writable, in_place=in_place, indirect=True)

    @operation(left=Number(-1, 1), length=BUFFER, writable=Number(0, 32))
    def add_leaving(self, left: int, length: int, writable: int) -> None:
        """The request that leaves so many descriptors; -1 is one too many."""
        count = self.model.free - left
        if count > 0:
            self.add([length] * count, writable)

    @operation(length=BUFFER, from_dev=Flag(), one_more=Flag())
    def fill_with_small_ones(self, length: int, from_dev: bool, one_more: bool) -> None:
        while self.model.free:
            self.add([length], int(from_dev))
        if one_more:
            self.add([length], 0)

    def add(
        self, lengths: Sequence[int], writable: int, *, in_place: bool = False, indirect: bool = False
    ) -> None:
        """One request, or the right refusal."""
        model = self.model
        area = model.areas[0] if model.areas else 0
        self.requests_made += 1
        shape = Shape(lengths, writable, in_place, self.requests_made)
        prepare = Preparing(self, shape, area, fresh_payload(AREA + PLACE, self.requests_made))
        refusal = model.refusal(len(lengths), indirect)
        if refusal is not None:
            self.demand_refused(refusal, prepare, indirect)
            return
        with self.demand_no_error(f"a request of {len(lengths)} buffers, {model.free} descriptors free"):
            request_id = self.driver.add_request(prepare, indirect=indirect)
        taken = [request.id for request in model.outstanding]
        self.demand(request_id not in taken, f"the id {request_id} given to a second request")
        request = prepare.request(request_id, indirect=indirect)
        before = model.position(model.kicks.published)
        model.add(request)
        self.count_added(request, shape, before)

    def demand_refused(self, refusal: Refusal, prepare: Preparing, indirect: bool) -> None:
        """What does not fit is refused, with the right numbers."""
        count, free = len(prepare.shape.buffers), self.model.free
        what = f"a request of {count} buffers, {free} descriptors free"
        if refusal.never:
            self.met("request that never fits" if count else "request without buffers")
            with self.demand_raises(CallerError, what):
                self.driver.add_request(prepare, indirect=indirect)
        else:
            self.met("queue full")
            with self.demand_raises(RingFull, what):
                try:
                    self.driver.add_request(prepare, indirect=indirect)
                except RingFull as error:
                    found = (error.needed, error.free)
                    self.demand_equal(found, (refusal.needed, free), "needed and free of RingFull")
                    raise
        self.demand_equal(prepare.called, refusal.called, "whether prepare was called before a refusal")

    def count_added(self, request: Request, shape: Shape, before: int) -> None:
        model = self.model
        after = model.position(model.kicks.published)
        self.met("last descriptor taken", model.free == 0)
        self.met("indirect request", request.indirect)
        self.met("indirect table filled", request.indirect and len(request.buffers) == model.indirect_size)
        self.met("buffer in the request's place", any(offset is None for offset, _, _ in shape.buffers))
        self.met("buffer across regions", shape.crosses_regions(request.area))
        if not self.packed:
            self.met("available index past 65535", after < before)
            return
        self.met("list over the end of the ring", (before ^ after) >> 15 == 1 and after & 0x7FFF != 0)
        self.met("list of the whole ring", request.descriptors == self.size > 1)

    @operation(count=Number(0, 4), fault=Choice("raises", "order", "length", "nested"))
    def prepare_that_fails(self, count: int, fault: str) -> None:
        """A `prepare` that goes wrong leaves nothing behind."""
        free = self.model.free
        if not free:
            return
        self.met("prepare that fails")
        good = min(count, free - 1)

        def prepare(place: RequestPlace, add_descriptor: AddDescriptor) -> None:
            for number in range(good):
                add_descriptor(place.address, number)
            if fault == "order":
                add_descriptor(place.address, 1, from_dev=True)
                add_descriptor(place.address, 1)
            if fault == "length":
                add_descriptor(place.address, 2**32)
            if fault == "nested":
                self.driver.add_request(self.never_called)
            if fault == "raises":
                raise PrepareFailed
            raise Wrong(f"a prepare that breaks a rule ({fault}) is not told")

        expected: type[Exception] = PrepareFailed if fault == "raises" else CallerError
        if fault == "order" and good + 1 == free < self.size:
            expected = RingFull  # before the order is looked at
        with self.demand_raises(expected, f"a prepare that fails ({fault})"):
            self.driver.add_request(prepare)
        with self.demand_raises(CallerError, "a request without buffers"):
            self.driver.add_request(lambda place, add_descriptor: None)

    def never_called(self, place: RequestPlace, add_descriptor: AddDescriptor) -> None:
        raise Wrong("prepare of a request within another one was called")

    # -- taking ------------------------------------------------------------------------------------

    @operation(count=Number(1, 3))
    def take_some(self, count: int) -> None:
        """Completions, one call for each."""
        for _ in range(count):
            self.model.interrupts.sleeper = False
            with self.demand_no_error("a look for a completion"):
                completion = next(self.driver.completions(), None)
            if completion is not None:
                self.take(completion)
                continue
            self.demand_equal(len(self.model.used), 0, "completions when none is found")
            self.model.driver_saw_the_end()

    @operation()
    def take_all(self) -> None:
        self.model.interrupts.sleeper = False
        with self.demand_no_error("completions"):
            for completion in self.driver.completions():
                self.take(completion)
        self.demand_equal(len(self.model.used), 0, "completions left behind the last")
        self.model.driver_saw_the_end()

    def take(self, completion: VirtqueueCompletion) -> None:
        self.demand(bool(self.model.used), f"a completion of {completion.id}, and nothing was given back")
        used = self.model.take()
        found, expected = (completion.id, completion.length), (used.request.id, used.length)
        self.demand_equal(found, expected, "id and length of a completion")
        self.check_buffers(used, completion.request)

    def check_buffers(self, used: Used, place: bytes) -> None:
        """Every byte is what the driver sent or the device wrote, and nothing else was touched."""
        request = used.request
        readable, writable, place_now = b"", b"", bytearray(request.place)
        for address, length, from_dev in request.buffers:
            content = self.memory.read(address, length)
            if from_dev:
                writable += content
            else:
                readable += content
            if 0 <= address - request.place_at < PLACE:
                first = address - request.place_at
                place_now[first : first + length] = content
        demand_bytes(readable, request.sent, "readable buffers behind a completion")
        expected = used.written.ljust(request.writable, UNWRITTEN)
        demand_bytes(writable, expected, "writable buffers behind a completion")
        demand_bytes(place, bytes(place_now), "the place of a request in its completion")
        demand_bytes(place[:HALF], request.place[:HALF], "the readable half of a request's place")
