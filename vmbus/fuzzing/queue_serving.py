"""The device's half of the trials of virtqueues: chains are popped, looked at, written to and given back, in any
order; pops are undone, and another device goes on with the queue.  See queue_trial.py.

Lengths are in bytes.
"""

from __future__ import annotations

from vmbus.errors import CallerError
from vmbus.virtio import DescriptorChain, DescriptorFlags

from .arguments import Choice, Flag, Number
from .differences import demand_bytes
from .queue_driving import QueueDriving
from .queue_model import Request
from .queue_under_test import AREA
from .ring_model import fresh_payload
from .trial import operation

__all__ = ["QueueServing"]

#: Of what is read and written in two parts, the bytes of the first.
CUT = Number(0, 50, corners=[1, 7, 8, 41])

#: So many chains more are popped before something is done with those that the device has.
MORE = Number(0, 2)

#: Bytes that are written; more than a chain has room for are taken as a remainder, but for the last.
WRITTEN = Number(0, AREA, corners=[1, 7, AREA])

#: No queue has such a head.
NO_HEAD = 10**5


class QueueServing(QueueDriving):
    """What the device does."""

    # -- popping -----------------------------------------------------------------------------------

    @operation(count=Number(1, 3), cut=CUT)
    def pop_some(self, count: int, cut: int) -> None:
        for _ in range(count):
            self.pop_one(cut)

    @operation(cut=CUT)
    def pop_all(self, cut: int) -> None:
        self.model.kicks.sleeper = False
        with self.demand_no_error("popping all chains"):
            for chain in self.device:
                self.pop(chain, cut)
        self.demand_equal(len(self.model.available), 0, "requests left behind the last chain")

    def pop_one(self, cut: int) -> DescriptorChain | None:
        with self.demand_no_error("pop_descriptor_chain"):
            chain = self.device.pop_descriptor_chain()
        self.pop(chain, cut)
        return chain

    def pop(self, chain: DescriptorChain | None, cut: int) -> None:
        """Account for a chain that was popped; or for none."""
        model = self.model
        model.kicks.sleeper = False
        if chain is None:
            self.demand_equal(len(model.available), 0, "requests available when no chain is found")
            return
        self.demand(
            bool(model.available), f"a chain from {chain.head_index} was popped, and none is available"
        )
        self.check_chain(chain, model.available[0], cut)
        model.pop()

    def check_chain(self, chain: DescriptorChain, request: Request, cut: int) -> None:
        """A chain is the request, byte for byte."""
        self.demand_equal(chain.head_index, request.id, "head of a chain")
        found = [
            (one.address - self.shift, one.length, bool(one.flags & DescriptorFlags.WRITE))
            for one in chain.descriptors
        ]
        self.demand_equal(
            found, request.buffers, "descriptors of a chain: address, length, written by the device"
        )
        in_table = all(one.table is not None for one in chain.descriptors)
        self.demand_equal(in_table, request.indirect, "whether the descriptors are in a table")
        sizes = (chain.readable_bytes, chain.writable_bytes)
        self.demand_equal(
            sizes, (len(request.sent), request.writable), "readable and writable bytes of a chain"
        )
        with self.demand_no_error("reading a chain"):
            demand_bytes(chain.read_all(), request.sent, "read_all of a chain")
            reader = chain.reader()
            first = reader.read(cut)
            rest = reader.split_at(reader.available_bytes // 2)
            whole = first + reader.read() + rest.read()
            room = chain.writer().available_bytes
        demand_bytes(whole, request.sent, f"a chain read in parts, the first of {cut} bytes")
        self.demand_equal(room, request.writable, "bytes that a writer of a chain has room for")

    def have_held(self, more: int) -> None:
        """Let the device have so many chains more, where there is room."""
        for _ in range(more):
            if self.model.free and not self.model.available:
                self.add([7], more % 2)
            self.pop_one(more)

    # -- giving back -------------------------------------------------------------------------------

    @operation(more=MORE, which=Number(0, 40), length=WRITTEN, understated=Flag(), cut=CUT)
    def give_one_back(self, more: int, which: int, length: int, understated: bool, cut: int) -> None:
        self.have_held(more)
        if self.model.held:
            self.give_back(which, length, cut, understated=understated)

    @operation(
        more=Number(0, 3),
        order=Choice("oldest first", "newest first", "both ends", "middle first"),
        count=Number(1, 40, corners=[2, 3]),
        length=Choice(0, 1, AREA),
    )
    def give_many_back(self, more: int, order: str, count: int, length: int) -> None:
        self.have_held(more)
        for number in range(min(count, len(self.model.held))):
            last = len(self.model.held) - 1
            places = {"oldest first": 0, "newest first": last, "middle first": last // 2}
            self.give_back(places.get(order, last * (number % 2)), length, 3)

    def give_back(self, which: int, length: int, cut: int, *, understated: bool = False) -> None:
        """Write so many bytes to a chain, or all there is room for, and give it back."""
        model = self.model
        which %= len(model.held)
        request = model.held[which]
        self.met("given back out of order", which > 0)
        length = request.writable if length == AREA else length % (request.writable + 1)
        self.met("length understated", understated and length > 0)
        written = fresh_payload(length, request.id + 77)
        self.write_to(request, written, cut)
        with self.demand_raises(CallerError, "a chain given back that the device does not have"):
            self.device.add_used(NO_HEAD, 0)
        self.add_used(request, 0 if understated else length, written)

    def add_used(self, request: Request, length: int, written: bytes) -> None:
        model = self.model
        model.kicks.sleeper = False
        with self.demand_no_error("add_used"):
            self.device.add_used(request.id, length)
        before = model.position(model.interrupts.published)
        model.give_back(request, length, written)
        after = model.position(model.interrupts.published)
        if self.packed:
            self.met("used in the next round", (before ^ after) >> 15 == 1)
        else:
            self.met("used index past 65535", after < before)

    def write_to(self, request: Request, data: bytes, cut: int) -> None:
        """Where a request has buffers to write: the model has not kept its chain."""
        done = 0
        for address, length, from_dev in request.buffers:
            if from_dev:
                part = data[done : done + length]
                self.device_memory.write(address + self.shift, part[:cut])
                self.device_memory.write(address + self.shift + len(part[:cut]), part[cut:])
                done += len(part)

    @operation(length=Number(0, 60, corners=[1, 7, 40]), cut=CUT, count=Number(1, 3))
    def serve_some(self, length: int, cut: int, count: int) -> None:
        for _ in range(count):
            self.serve_the_next(length, cut)

    def serve_the_next(self, length: int, cut: int) -> None:
        """Pop, write through the chain itself, give back: what most devices do."""
        if not self.model.available:
            return
        request = self.model.available[0]
        chain = self.pop_one(cut)
        if chain is None:
            return  # the demand of pop_one has raised
        data = fresh_payload(min(length, request.writable), 5)
        with self.demand_no_error("writing to a chain"):
            if cut % 2:
                writer = chain.writer()
                count = writer.write(data[:cut]) + writer.write(data[cut:])
                self.demand_equal(writer.bytes_written, count, "bytes_written of a writer")
            else:
                count = chain.write_all(data)
        self.demand_equal(count, len(data), "bytes written to a chain")
        with self.demand_raises(CallerError, "a chain given back with more bytes than it has room for"):
            self.device.add_used(chain.head_index, request.writable + 1)
        self.add_used(request, count, data)

    # -- going back, going elsewhere ---------------------------------------------------------------

    @operation(more=MORE, use_last=Flag(), steps=Number(1, 3))
    def step_back(self, more: int, use_last: bool, steps: int) -> None:
        """The last pops are undone, if their chains are still the device's."""
        self.model.kicks.sleeper = False
        self.have_held(more)
        if use_last and len(self.model.held) > 1:
            self.give_back(len(self.model.held) - 1, 1, 2)
        for _ in range(steps):
            self.step_back_once()

    def step_back_once(self) -> None:
        model = self.model
        if not model.can_step_back():
            self.met("no way back", bool(model.held))
            with self.demand_raises(CallerError, "a step back to a chain that the device no longer has"):
                self.device.go_to_previous_position()
            return
        try:
            self.device.go_to_previous_position()
        except CallerError as error:
            what = "only a chain popped before a migration may be out of reach"
            self.demand(model.popped_here == 0, f"a step back is refused, and {what}: {error}")
            return
        self.met("stepped back")
        model.step_back()

    @operation(more=MORE, forget=Flag(), stop=Flag(), then_ask=Flag())
    def migrate(self, more: int, forget: bool, stop: bool, then_ask: bool) -> None:
        """Another device queue goes on; of a split queue it need not know which chains are held."""
        model = self.model
        self.have_held(more)
        if stop:
            with self.demand_no_error("stopping the queue"):
                self.device.set_ready(False)
            with self.demand_raises(CallerError, "popping from a queue that is stopped"):
                self.device.pop_descriptor_chain()
        forgotten = forget and not self.packed
        with self.demand_no_error("a migration"):
            state = self.device.state()
            if forgotten:
                state = state._replace(held=())
            self.device = type(self.device).from_state(self.device_memory, state)
            self.demand_equal(self.device.state(), state, "the state of a queue made from a state")
            self.device.set_ready(True)
        self.met("migrated with chains held", bool(model.held))
        self.met("migrated before asking", model.interrupts.asked != model.interrupts.published)
        model.migrated(forgotten=forgotten)
        if then_ask:
            self.device_asks_whether_to_notify()

    def device_asks_whether_to_notify(self) -> None:
        """See the half of this trial that notifies."""
        raise NotImplementedError
