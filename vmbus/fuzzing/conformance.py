"""Does somebody else's memory, signal, ring or channel do what this package relies on?

    report = check_ring_memory(MyMemory)        # or check_signal, check_ring_pair, check_channel
    print(report)
    report.raise_for_failures()                 # NotConforming, an AssertionError that lists all that failed

Each takes a function that makes the thing, does a list of named checks on new ones, and needs nothing installed
besides this package.  Nothing waits for ever: a check that does not end in its time has failed, and the thread it
hangs in is left behind.

An implementation need not be made of ours; what it must have is what the protocol, or our class of that name, shows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from vmbus.channel import Signal
from vmbus.errors import CallerError
from vmbus.memory import RingMem

from .conformance_channel import CHANNEL_CHECKS, ChannelMaker
from .conformance_kinds import CHECKS_OF_KIND
from .conformance_memory import MEMORY_CHECKS, MemoryMaker
from .conformance_order import ORDER_CHECKS
from .conformance_report import Check, Mismatch, NotConforming, Outcome, Report, run_checks
from .conformance_ring_rules import RULE_CHECKS
from .conformance_rings import RING_CHECKS, RingsMaker
from .conformance_signal import SIGNAL_CHECKS, SignalMaker

__all__ = [
    "CONFORMANCE_CHECKS",
    "Check",
    "Mismatch",
    "NotConforming",
    "Outcome",
    "Report",
    "check_channel",
    "check_ring_memory",
    "check_ring_pair",
    "check_signal",
]

#: Seconds that one check may take.
LIMIT = 20.0

#: Every check, by what it is done on.
CONFORMANCE_CHECKS: dict[str, tuple[Check, ...]] = {
    "ring memory": MEMORY_CHECKS,
    "signal": SIGNAL_CHECKS,
    "ring pair": (*RING_CHECKS, *RULE_CHECKS, *ORDER_CHECKS),
    **{f"channel of {carries}": (*CHANNEL_CHECKS, *checks) for carries, checks in CHECKS_OF_KIND.items()},
}


def check_ring_memory(
    make: Callable[[int], RingMem],
    *,
    attach: Callable[[RingMem], RingMem] | None = None,
    sizes: Sequence[int] = (4096, 12288),
    limit: float = LIMIT,
    only: Collection[str] | None = None,
) -> Report:
    """Whether a ring memory does what rings ask of one; see vmbus.memory.RingMem.

    make     a new memory, zeroed, whose data area has so many bytes
    attach   another memory over the very bytes of one, as the other side has it; without it nobody looks
             whether what one side stores arrives on the other
    sizes    of the data areas to try, each a multiple of 4096
    limit    seconds that one check may take
    only     the names of the checks to do; all of them when it is not given

    Whether a control word is stored whole is seen between two lines of Python and no finer: a memory that stores it
    with struct.pack_into, or with any C code that goes byte by byte, passes.  Nor is it seen whether a fence is one.

    >>> from vmbus.memory import FlatRingMem
    >>> print(check_ring_memory(FlatRingMem))
    ring memory: all 11 checks passed
    """
    return run_checks(
        "ring memory", MemoryMaker(make, attach, sizes), CONFORMANCE_CHECKS["ring memory"], limit, only
    )


def check_signal(
    make_pair: Callable[[], tuple[Signal, Signal]],
    *,
    limit: float = LIMIT,
    only: Collection[str] | None = None,
) -> Report:
    """Whether a signal wakes whoever it must; see vmbus.channel.Signal.

    make_pair   the two ends of a new pair

    >>> from vmbus.channel import local_signals
    >>> print(check_signal(local_signals))
    signal: all 14 checks passed
    """
    return run_checks(
        "signal", SignalMaker(make_pair, patience_of(limit)), CONFORMANCE_CHECKS["signal"], limit, only
    )


def check_ring_pair(
    make: Callable[[RingMem], tuple[Any, Any]],
    *,
    limit: float = LIMIT,
    only: Collection[str] | None = None,
) -> Report:
    """Whether the two ends of a ring do what OutgoingRing and IncomingRing do.

    make   the sender and the receiver over a memory that is given; they start at the indices that it holds.
           They reach it through the methods of RingMem alone, so that the order of their accesses can be
           seen

    To check one end alone pair it with ours.

    >>> from vmbus.ring import IncomingRing, OutgoingRing
    >>> print(check_ring_pair(lambda memory: (OutgoingRing(memory), IncomingRing(memory))))
    ring pair: all 23 checks passed
    """
    return run_checks("ring pair", RingsMaker(make), CONFORMANCE_CHECKS["ring pair"], limit, only)


def check_channel(
    make_pair: Callable[[], tuple[Any, Any]],
    *,
    carries: str = "packets",
    limit: float = LIMIT,
    only: Collection[str] | None = None,
) -> Report:
    """Whether the two ends of a channel do what PacketChannel, MessageChannel or ByteChannel do.

    make_pair   the two ends of a new channel; small rings make it quick
    carries     "packets", "messages" or "bytes": which of the three classes they are like

    >>> from vmbus.channel import MessageChannel, connected_channels
    >>> make_pair = lambda: connected_channels(4096, kind=MessageChannel)
    >>> print(check_channel(make_pair, carries="messages", only=["messages-keep-their-length"]))
    channel of messages: all 1 checks passed
    """
    if carries not in CHECKS_OF_KIND:
        raise CallerError(
            f"a channel carries {', '.join(CHECKS_OF_KIND)}, and not {carries!r}",
            argument="carries",
            value=carries,
            limit=tuple(CHECKS_OF_KIND),
        )
    title = f"channel of {carries}"
    maker = ChannelMaker(make_pair, carries, patience_of(limit))
    return run_checks(title, maker, CONFORMANCE_CHECKS[title], limit, only)


def patience_of(limit: float) -> float:
    """Seconds for one wait of a check, so that a check which waits in vain has time to say so."""
    return limit / 8
