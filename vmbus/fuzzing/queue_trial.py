"""A virtqueue of any size, from any start: it carries what lists carry, refuses the rest, and wakes whoever sleeps.

The model is three lists of requests (with the device's ring, with the device, on the way back), a count of free
descriptors, and for either side what it has asked to be told (queue_model.py).  The operations fill the queue to
the last descriptor on purpose, ask for one more, start just before index 65535 or at any slot of a packed ring,
give chains back in any order, step back, carry the device's state into a new queue, and let either side go to sleep.

To try a memory or ends of your own:

>>> from vmbus.memory import GuestMemory
>>> from vmbus.virtio import DeviceQueue
>>> class MyMemory(GuestMemory):
...     pass
>>> class MyDevice(DeviceQueue):
...     pass
>>> trial = SplitQueueTrial(
...     size=4, start=65535, event_idx=True, indirect_size=0, translated=False,
...     make_memory=MyMemory, make_device=MyDevice,
... )
>>> trial.perform("add_leaving", {"left": 0, "length": 7, "writable": 2})
>>> trial.perform("serve_some", {"length": 14, "cut": 3, "count": 1})
>>> trial.finish()
>>> trial.corners["available index past 65535"]
1

Lengths are in bytes.

Source: OASIS VIRTIO 1.2, sections 2.7 and 2.8.
"""

from __future__ import annotations

from .arguments import Choice, Flag, Listing, Number
from .queue_model import Asking
from .queue_serving import CUT, MORE, QueueServing
from .queue_under_test import AREA, BUFFER, QUEUE_CORNERS, QUEUE_SETTINGS
from .trial import operation

__all__ = ["PackedQueueTrial", "SplitQueueTrial"]


class QueueTrial(QueueServing):
    """One queue, driven from both ends, and lists; what is told and asked for stands here."""

    def finish(self) -> None:
        """Whatever is under way arrives, and the queue is empty again."""
        for _ in range(2):
            self.pop_all(7)
            self.give_many_back(0, "both ends", 99, AREA)
            self.take_all()
        self.demand_equal(self.model.free, self.size, "descriptors free when all has come back")
        self.check()

    # -- asking ------------------------------------------------------------------------------------

    @operation()
    def driver_asks_whether_to_notify(self) -> None:
        with self.demand_no_error("avail_notif_needed"):
            answer = self.driver.avail_notif_needed()
        slept = self.model.kicks.sleeper and bool(self.model.available)
        self.judge("avail_notif_needed", self.model.kicks, answer)
        if slept:
            self.met("device woken")
            self.demand(answer, "the device sleeps and is not told of the next chain")

    @operation()
    def device_asks_whether_to_notify(self) -> None:
        with self.demand_no_error("needs_notification"):
            answer = self.device.needs_notification()
        slept = self.model.interrupts.sleeper and bool(self.model.used)
        self.judge("needs_notification", self.model.interrupts, answer)
        if slept:
            self.met("driver woken")
            self.demand(answer, "the driver sleeps and is not told of the next completion")

    def judge(self, what: str, asking: Asking, answer: bool) -> None:
        """Whether the other side has to be told, against the model."""
        if not asking.accepts(answer, self.model.rounds):
            self.demand_equal(
                answer,
                asking.expected(),
                f"{what} of entries {asking.asked} to {asking.published}, the other side asked for {asking.wish}",
            )
        self.met("silence kept", asking.wish == "never" and asking.asked != asking.published)
        asking.was_asked(answer)

    # -- asking for --------------------------------------------------------------------------------

    @operation(side=Choice("device", "driver"), enabled=Flag())
    def enable_notifications(self, side: str, enabled: bool) -> None:
        if side == "driver":
            self.driver_enables(enabled)
        elif enabled:
            self.device_enables()
        else:
            self.device_disables()

    def device_enables(self) -> None:
        self.model.kicks.sleeper = False
        with self.demand_no_error("enable_notification"):
            found = self.device.enable_notification()
        self.demand_equal(
            found, bool(self.model.available), "whether a chain is there before the device sleeps"
        )
        self.model.device_asks(True)

    def device_disables(self) -> None:
        self.model.kicks.sleeper = False
        with self.demand_no_error("disable_notification"):
            self.device.disable_notification()
        self.model.device_asks(False)

    def driver_enables(self, enabled: bool) -> None:
        self.model.interrupts.sleeper = False
        with self.demand_no_error("set_used_notif_enabled"):
            found = self.driver.set_used_notif_enabled(enabled)
        self.demand_equal(
            found, bool(self.model.used), "whether a completion is there before the driver sleeps"
        )
        self.model.driver_asks(enabled)

    # -- sleeping ----------------------------------------------------------------------------------

    @operation(cut=CUT)
    def device_sleeps(self, cut: int) -> None:
        self.pop_all(cut)
        self.device_enables()
        self.model.kicks.sleeper = True

    @operation(enable_anew=Flag())
    def driver_sleeps(self, enable_anew: bool) -> None:
        """With notifications on already, seeing the end of the completions is enough."""
        if enable_anew or not self.model.driver_enabled:
            self.driver_enables(True)
        self.take_all()
        self.model.interrupts.sleeper = True

    @operation(lengths=Listing(BUFFER, 3), more=MORE)
    def both_sleep_and_a_request_goes_round(self, lengths: tuple[int, ...], more: int) -> None:
        self.device_sleeps(1)
        self.driver_sleeps(False)
        for _ in range(1 + more):
            self.add(lengths, 1, in_place=True)
        self.driver_asks_whether_to_notify()
        self.give_many_back(0, "newest first", more, AREA)
        self.serve_the_next(8, more)
        self.device_asks_whether_to_notify()

    @operation(rounds=Number(1, 30))
    def many_go_round(self, rounds: int) -> None:
        """One request after another, beside those that the device keeps; so many in a case, and then none."""
        for number in range(min(rounds, self.rounds_left)):
            if not self.model.free or self.model.available:
                break
            self.rounds_left -= 1
            self.add([number % 5], number % 2)
            self.serve_the_next(4, number)
            self.take_all()


class SplitQueueTrial(QueueTrial):
    """A split queue; its constructor takes what QueueUnderTest takes."""

    name = "virtqueue-split"
    summary = "a split virtqueue, from both ends: what it carries, refuses and tells"
    settings = {  # noqa: RUF012
        "size": Choice(1, 2, 4, 8, 16, 32),
        "start": Number(0, 65535, corners=[65535, 65534, 65533, 65532, 65530, 65526, 65520, 65504]),
        **QUEUE_SETTINGS,
    }
    CORNERS = (*QUEUE_CORNERS, "available index past 65535", "used index past 65535")
    packed = False


class PackedQueueTrial(QueueTrial):
    """A packed queue; its constructor takes what QueueUnderTest takes."""

    name = "virtqueue-packed"
    summary = "a packed virtqueue, from both ends: what it carries, refuses and tells"
    settings = {  # noqa: RUF012
        "size": Number(1, 12, corners=[1, 2, 3, 4]),
        "start": Number(0, 0xFFFF, corners=[0x8000, 0x8001, 0x8002, 0, 1, 2, 3, 0x8003]),
        **QUEUE_SETTINGS,
    }
    CORNERS = (
        *QUEUE_CORNERS,
        "list over the end of the ring",
        "list of the whole ring",
        "used in the next round",
    )
    packed = True
