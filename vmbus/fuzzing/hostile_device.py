"""The calls of the device's side of a virtqueue, judged where it is under attack.

What it pops are chains that single looks at descriptors explain, none twice; whatever it has popped it can give back,
once.  While nothing is struck, requests arrive in their order, with their bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from vmbus.errors import CallerError, PeerError
from vmbus.virtio import (
    DESCRIPTOR_SIZE,
    LARGEST_CHAIN_BYTES,
    DescriptorChain,
    DeviceQueue,
    VirtqueueFault,
)

from .arguments import Choice, Number
from .hostile_trial import Outcome
from .trial import operation, pattern

__all__ = ["DeviceCalls"]


from .hostile_queue_calls import DEVICE_CALL, HALF, Given, QueueCalls, Taken


class DeviceCalls(QueueCalls):
    """The calls of the device."""

    @operation()
    def pop(self) -> None:
        before = self.device.next_avail
        outcome = self.side_call(
            "device", "pop_descriptor_chain", self.device.pop_descriptor_chain, DEVICE_CALL + self.size
        )
        self.check_ahead(outcome, self.areas.driver_area, before, self.size)
        if outcome.error is not None:
            self.demand_equal(self.device.next_avail, before, "the position behind a chain that was refused")
        elif outcome.result is not None:
            self.popped(outcome.result)
        elif self.victim.quiet:
            self.demand(not self.requests.available, "no chain, and requests were added")

    def popped(self, chain: DescriptorChain) -> None:
        requests = self.requests
        self.demand(chain.head_index not in requests.taken, f"chain {chain.head_index} was popped twice")
        request_id = requests.available.popleft() if self.victim.quiet else None
        requests.taken[chain.head_index] = Taken(chain, request_id)
        self.corners["chain taken"] += 1
        if self.attacked == "device":
            self.check_chain(chain)

    def check_chain(self, chain: DescriptorChain) -> None:
        found = chain.descriptors
        self.demand(
            0 < len(found) <= self.size, f"a chain of {len(found)} descriptors, of a queue of {self.size}"
        )
        self.demand(
            chain.readable + chain.writable == found, "a chain has readable buffers behind writable ones"
        )
        lengths = sum(one.length for one in found)
        self.demand_equal(chain.readable_bytes + chain.writable_bytes, lengths, "bytes of a chain")
        self.demand(lengths <= LARGEST_CHAIN_BYTES, f"a chain of {lengths} bytes")
        looks = set(self.descriptor_looks())
        for one in found:
            seen = (one.address, one.length, one.flags) in looks
            self.demand(seen, f"{one} was put together from two looks at a descriptor that changed")

    def descriptor_looks(self) -> list[tuple[int, int, int]]:
        """Address, length and flags as each read of a whole descriptor saw them."""
        reads = [access.value for access in self.victim.accesses if access.length == DESCRIPTOR_SIZE]
        entries = [struct.unpack("<QIHH", read) for read in reads if isinstance(read, bytes)]
        return [
            (address, length, third if not self.packed else fourth)
            for address, length, third, fourth in entries
        ]

    @operation(written=HALF)
    def answer(self, written: int) -> None:
        """The next chain, and the answer at once."""
        self.pop()
        self.give_back(len(self.requests.taken) - 1, written)

    @operation(which=Number(0, 7), written=HALF)
    def give_back(self, which: int, written: int) -> None:
        """Read a chain that was popped, write its answer, and give it back: at any time, once."""
        requests = self.requests
        if not requests.taken:
            return
        head = list(requests.taken)[which % len(requests.taken)]
        chain, request_id = requests.taken[head]
        self.read_chain(chain, request_id)
        answer = pattern(min(written, chain.writable_bytes), self.count + 99)
        length = len(answer) if self.write_chain(chain, answer) else 0
        outcome = self.side_call(
            "device", "add_used", lambda: self.device.add_used(head, length), 4, commits=True
        )
        if outcome.error is None:
            del requests.taken[head]
            self.corners["chain given back"] += 1
            if request_id is not None:
                requests.given.append(Given(request_id, answer))
            twice = self.side_call(
                "device",
                "add_used again",
                lambda: self.device.add_used(head),
                0,
                may=(CallerError,),
                commits=True,
            )
            self.demand(isinstance(twice.error, CallerError), f"chain {head} was given back twice")
        else:
            self.demand(self.attacked != "device", f"a chain cannot be given back: {outcome.error}")

    def read_chain(self, chain: DescriptorChain, request_id: int | None) -> None:
        outcome = self.buffer_call("read_all", chain.read_all, len(chain.readable))
        if outcome.error is None:
            self.demand_equal(len(outcome.result), chain.readable_bytes, "bytes read of a chain")
            if self.victim.quiet and request_id is not None:
                request = self.requests.outstanding[request_id]
                self.demand_equal(outcome.result, request.data, "what an honest driver asks")

    def write_chain(self, chain: DescriptorChain, answer: bytes) -> bool:
        outcome = self.buffer_call("write_all", lambda: chain.write_all(answer), len(chain.writable))
        return outcome.error is None

    def buffer_call(self, call: str, function: Callable[[], Any], most: int) -> Outcome:
        """An access to buffers of a chain that was taken; what is wrong with them stops nothing."""
        kept, self.victim.fault = self.victim.fault, None
        outcome = self.side_call("device", call, function, most)
        if isinstance(outcome.error, PeerError):
            self.corners["buffer outside the memory"] += 1
            self.demand_equal(
                outcome.error.kind, VirtqueueFault.BUFFER_OUTSIDE_MEMORY, f"what {call} refuses"
            )
        self.victim.fault = kept
        return outcome

    @operation()
    def go_back(self) -> None:
        """The last pop undone, where that is possible still."""
        requests = self.requests
        state = self.device.state()
        outcome = self.side_call(
            "device",
            "go_to_previous_position",
            self.device.go_to_previous_position,
            0,
            may=(CallerError,),
            commits=True,
        )
        if outcome.error is None:
            head, taken = requests.taken.popitem()
            if taken.request_id is not None:
                requests.available.appendleft(taken.request_id)
            left = [held for held, _ in self.device.state().held]
            self.demand(head not in left, f"chain {head} was not the last that was popped, and is still held")
        else:
            self.demand_equal(self.device.state(), state, "a device that did not go back")

    @operation()
    def ask_device(self) -> None:
        device = self.device
        for function in (device.enable_notification, device.needs_notification, device.disable_notification):
            self.ask("device", function.__name__, function)

    @operation(really=Choice(0, 0, 1))
    def restore(self, really: int) -> None:
        """Go on with a device made from the state of this one: what stopped it is forgotten."""
        if not really:
            return
        state = self.device.state()
        if self.attacked == "device":
            self.victim.fault = None
            self.victim.begin("from_state", 1 << 16)
        self.device = DeviceQueue.from_state(self.device.memory, state)
        self.demand_equal(self.device.state(), state, "the state of a device that was made from a state")
        self.corners["device restored"] += 1
