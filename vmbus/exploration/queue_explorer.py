"""Every schedule of a driver and a device over one virtqueue, split or packed.

The queues run as they are, over an ExploredGuestMemory and an ExploredSignal; what is explored and what
is not is said in search.py and explore.py.  A kick of the driver and an interrupt of the device are both
a signal.

A side may signal when the other asked for it, and it can know that.  Whoever has published something must
have loaded the other's flags or event since, at a moment when they asked:

  * flags that are 0 (split), ENABLE (packed): a signal after each time something was published;
  * an event (split), an event under flags that say DESCRIPTOR (packed): one signal, until it is stored
    again.

What is not judged: an event that asks for a later entry than those that were published.  A side that takes
it for reached is told of only when it signals once more; in a packed queue, where event and flags are two
stores, only when it signals a third time.

Sources: OASIS VIRTIO 1.2, sections 2.7.7, 2.7.10 (split) and 2.8.10, 2.8.21 (packed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vmbus.errors import CallerError
from vmbus.virtio import AvailableRingFlags, EventFlags, UsedRingFlags, VirtioFeatures

from .explored_guest_memory import ExploredGuestMemory
from .queue_plan import QueuePlan
from .ring_explorer import ExploredSignal
from .search import MAXIMUM_STATES, MAXIMUM_STEPS, Progress, Result, explore_sides, name_of
from .shared import Wish
from .sides import Script, Side

__all__ = ["QUEUE_FORMATS", "QueueSide", "explore_queue"]

#: The code of one side: a function of the queue's memory and its signal.
QueueSide = Callable[[ExploredGuestMemory, ExploredSignal], object]

QUEUE_FORMATS = ("split", "packed")

DRIVER, DEVICE = 0, 1


def explore_queue(
    driver: QueueSide,
    device: QueueSide,
    *,
    format: str = "split",
    event_idx: bool = False,
    queue_size: int = 2,
    request_size: int = 4,
    indirect_size: int = 0,
    start: int | None = None,
    names: tuple[str, str] | None = None,
    spurious_wakes: int = 0,
    stores_pass_stores: bool = False,
    maximum_states: int = MAXIMUM_STATES,
    maximum_steps: int = MAXIMUM_STEPS,
    progress: Progress | None = None,
) -> Result:
    """Go through every schedule of a driver and a device over one virtqueue.

    driver, device       each a function of (memory, signal).  One with a `yield` does what comes before it
                         alone, before the exploration begins: the driver first.  There the queues are made,
                         by `memory.virtqueue()` and `memory.device_queue()`
    format               "split" or "packed"
    event_idx            whether RING_EVENT_IDX was negotiated
    queue_size           descriptors
    request_size, indirect_size   what each request has of its own, as for Virtqueue
    start                where the queue begins, as for Virtqueue

    The others are those of `explore`.  Whatever a side raises is a violation, so a side checks by raising
    what it has received.

    >>> def driver(memory, signal):
    ...     queue = memory.virtqueue()
    ...     yield
    ...     queue.add_place(4, from_dev=True)
    ...     if queue.avail_notif_needed():
    ...         signal.notify()
    >>> def device(memory, signal):
    ...     queue = memory.device_queue()
    ...     yield
    ...     while (chain := queue.pop_descriptor_chain()) is None:
    ...         signal.wait(None)
    >>> explore_queue(driver, device).complete
    True
    """
    plan = QueuePlan(queue_size, features_of(format, event_idx), request_size, indirect_size, start)
    return explore_sides(
        side_over(driver, plan),
        side_over(device, plan),
        words=plan.words(),
        areas=plan.areas(),
        wishes=list((packed_wishes if plan.packed else split_wishes)(event_idx, plan.queue_size)),
        explain=lambda values: explain_queue(values, plan),
        names=names or (name_of(driver, "driver"), name_of(device, "device")),
        spurious_wakes=spurious_wakes,
        stores_pass_stores=stores_pass_stores,
        maximum_states=maximum_states,
        maximum_steps=maximum_steps,
        progress=progress,
    )


def features_of(format: str, event_idx: bool) -> int:
    if format not in QUEUE_FORMATS:
        raise CallerError(
            f"a queue is {' or '.join(QUEUE_FORMATS)}, not {format}",
            argument="format",
            value=format,
            limit=" or ".join(QUEUE_FORMATS),
        )
    features = VirtioFeatures.VERSION_1 | VirtioFeatures.RING_INDIRECT_DESC
    if format == "packed":
        features |= VirtioFeatures.RING_PACKED
    if event_idx:
        features |= VirtioFeatures.RING_EVENT_IDX
    return int(features)


def side_over(side: QueueSide, plan: QueuePlan) -> Script:
    def script(steps: Side) -> Any:
        return side(ExploredGuestMemory(steps, plan), ExploredSignal(steps))

    return script


# -- who wants a signal ----------------------------------------------------------------------------


def split_wishes(event_idx: bool, _: int) -> Iterator[Wish]:
    """When the driver and the device of a split queue are ready for a signal."""
    for side, published, flags, event, silence in (
        (DRIVER, "used idx", "avail flags", "used event", int(AvailableRingFlags.NO_INTERRUPT)),
        (DEVICE, "avail idx", "used flags", "avail event", int(UsedRingFlags.NO_NOTIFY)),
    ):
        if event_idx:
            yield Wish(side, event, any_value, ends=event, renewed=published)
        else:
            yield Wish(side, flags, without(silence), ends=flags, renewed=published, standing=True)


def packed_wishes(event_idx: bool, size: int) -> Iterator[Wish]:
    """The same of a packed queue."""
    published = tuple(f"slot {slot} flags" for slot in range(size))
    for side, word in ((DRIVER, "driver event flags"), (DEVICE, "device event flags")):
        yield Wish(side, word, asks_always(event_idx), ends=word, renewed=published, standing=True)
        if event_idx:
            event = word.removesuffix(" flags")
            yield Wish(side, word, asks_at_descriptor, ends=word, renewed=published, anew=event)


def any_value(_: int) -> bool:
    return True


def without(flag: int) -> Callable[[int], bool]:
    return lambda value: not value & flag


def asks_always(event_idx: bool) -> Callable[[int], bool]:
    """Whether flags ask for every signal; without RING_EVENT_IDX there is none at a descriptor."""
    seldom = (EventFlags.DISABLE, EventFlags.DESCRIPTOR) if event_idx else (EventFlags.DISABLE,)
    return lambda flags: flags & 3 not in seldom


def asks_at_descriptor(flags: int) -> bool:
    return flags & 3 == EventFlags.DESCRIPTOR


# -- what the queue holds --------------------------------------------------------------------------


def explain_queue(values: Mapping[str, int], plan: QueuePlan) -> Iterator[str]:
    """How far both sides are, in a sentence."""
    if plan.packed:
        return
    first = plan.start or 0
    available, used = ((values[name] - first) & 0xFFFF for name in ("avail idx", "used idx"))
    yield f"Made available: {available}; used: {used}."
