"""Go through every order in which two sides can act, and tell of the first that goes wrong.

Targets:

  channel   one side sends packets over a channel, the other receives and checks them
  ring      the same over bare rings, each side sleeping and signaling by itself
  split     a driver adds requests to a split virtqueue, a device completes them
  packed    the same over a packed one

Explored is every order of loads, stores that become visible, signals and wakes, on a machine that reorders
as x86-64 does; with --weak-stores also one whose stores pass each other unless a release stands between.
Something is wrong when a side sleeps for ever, raises (a packet lost, doubled or torn), or signals where
nobody wished for it.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from vmbus.fuzzing import (
    MAXIMUM_STATES,
    MAXIMUM_STEPS,
    Result,
    channel_sides,
    explore,
    explore_queue,
    queue_sides,
    ring_sides,
)
from vmbus.sizes import PAGE_SIZE, SLOT

from .output import UsageError, number, print_json, print_lines
from .progress import Progress
from .user_code import function_named, wrong_parameters

__all__ = ["add_arguments", "execute"]

#: The document of --json.  Its keys:
#:
#:     schema          this name
#:     target          channel, ring, split or packed
#:     sides           their names, the left one first
#:     weak_stores     whether stores could pass stores
#:     states          different states that were seen
#:     schedules       orders that were gone through; schedules_hex the same, as there may be more than 2**53
#:     steps           of the longest schedule
#:     complete        whether every schedule was explored
#:     limit           the bound that ended it, in words; null where it is complete or something is wrong
#:     violation       null, or what is wrong: kind, the same in words as text, side (whose name), and story, what
#:                     both sides did until then, line by line
SCHEMA = "vmbus.explore/1"

EXAMPLES = """\
examples:
  vmbus fuzz explore
  vmbus fuzz explore channel --packets 3 --packet-size 2024 --max-states 500K
  vmbus fuzz explore packed --event-idx --packets 1 --weak-stores
  vmbus fuzz explore ring --side-of my_ring.py:sender --side-of my_ring.py:receiver

sides of your own: --side-of is given twice, the left side (sender, driver) first; MODULE is a dotted name or
the path of a .py file.  For channel and ring a side is a function of (incoming, outgoing, signal), the
memories of the ring it receives from and of the one it sends to:

  # my_ring.py
  from vmbus import IncomingRing, OutgoingRing

  def sender(incoming, outgoing, signal):
      if OutgoingRing(outgoing).send(b"explored"):
          signal.notify()

  def receiver(incoming, outgoing, signal):
      ring = IncomingRing(incoming)
      ring.set_interrupt_mask(False)
      while not ring.can_read(ring.incoming()):
          signal.wait(None)
      assert ring.receive()[0].payload == b"explored"

For split and packed it is a function of (memory, signal); memory.virtqueue() and memory.device_queue() make
the queue's ends.  What comes before a `yield` is done before the exploration begins.  Whatever a side raises
is a violation.  A channel needs clock=vmbus.fuzzing.stopped_clock, and no wait has a time limit.

not explored: loads that pass loads, and stores that pass earlier loads, as arm64 has them.

exit status: 0 nothing wrong in what was explored, which may be less than everything (then it says "not
complete"); 1 something is wrong; 2 could not be done.
"""

#: Each target, and what it goes over.
RINGS, QUEUES = ("channel", "ring"), ("split", "packed")


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument(
        "target",
        nargs="?",
        default="channel",
        choices=[*RINGS, *QUEUES],
        metavar="TARGET",
        help="channel, ring, split or packed (default: channel)",
    )
    what = parser.add_argument_group("what the sides do")
    what.add_argument("--packets", type=number, metavar="N", help="packets, or requests (default: 2)")
    what.add_argument("--packet-size", type=number, metavar="BYTES", help="of each packet (default: 8)")
    what.add_argument("--ring-size", type=number, metavar="BYTES", help="of data (default: 4096)")
    what.add_argument("--queue-size", type=number, metavar="N", help="descriptors (default: 2)")
    what.add_argument("--event-idx", action="store_true", help="a virtqueue with RING_EVENT_IDX")
    what.add_argument(
        "--silent", action="store_true", help="driver and device ask for silence while they are awake"
    )
    what.add_argument("--start", type=number, metavar="N", help="offset or index at which all begins")
    what.add_argument(
        "--side-of", action="append", metavar="MODULE:FUNCTION", help="a side of your own; give both"
    )
    how = parser.add_argument_group("how far it goes")
    how.add_argument(
        "--spurious-wakes", type=number, default=0, metavar="N", help="wakes for nothing (default: 0)"
    )
    how.add_argument("--weak-stores", action="store_true", help="stores pass stores to other places")
    how.add_argument(
        "--max-states",
        type=number,
        default=MAXIMUM_STATES,
        metavar="N",
        help=f"end behind so many (default: {MAXIMUM_STATES}); a million takes about 250 MiB",
    )
    how.add_argument(
        "--max-steps",
        type=number,
        default=MAXIMUM_STEPS,
        metavar="N",
        help=f"of one schedule (default: {MAXIMUM_STEPS})",
    )
    parser.add_argument("--json", action="store_true", help=f"one document, {SCHEMA}")


def execute(arguments: Namespace) -> int:
    """Explore and print; 1 when something is wrong."""
    check_usage(arguments)
    run, what = (queue_run if arguments.target in QUEUES else ring_run)(arguments)
    with Progress(f"{arguments.target}: ") as progress:
        result = run(
            spurious_wakes=arguments.spurious_wakes,
            stores_pass_stores=arguments.weak_stores,
            maximum_states=arguments.max_states,
            maximum_steps=arguments.max_steps,
            progress=lambda steps, states: progress.say(f"{states} states, {steps} steps"),
        )
    if arguments.json:
        print_json(document_of(arguments, result))
    else:
        print_lines(text_of(arguments, what, result))
    return 0 if result.violation is None else 1


def check_usage(arguments: Namespace) -> None:
    """Raise UsageError for options that do not belong to the target, or contradict each other."""
    foreign = {
        RINGS: ("queue_size", "event_idx", "silent"),
        QUEUES: ("packet_size", "ring_size"),
    }[RINGS if arguments.target in RINGS else QUEUES]
    for name in foreign:
        if given(arguments, name):
            raise UsageError(f"{option(name)} is not for {arguments.target}")
    sides = arguments.side_of or []
    if len(sides) not in (0, 2):
        raise UsageError(
            f"--side-of is given twice, the left side first, and not {counted(len(sides), 'time')}"
        )
    for name in ("packets", "packet_size", "silent"):
        if sides and given(arguments, name):
            raise UsageError(f"{option(name)} is for the sides that come with vmbus, not for --side-of")
    if not arguments.max_states or not arguments.max_steps:
        zero = "max_steps" if arguments.max_states else "max_states"
        raise UsageError(f"{option(zero)} 0: nothing would be explored")
    if arguments.packets == 0:
        raise UsageError("--packets 0: there would be nothing to explore")
    size = arguments.packet_size
    if size is not None and (size % SLOT or not size):
        raise UsageError(
            f"--packet-size {size}: a packet has a multiple of {SLOT} bytes, and {SLOT} at least"
        )


def given(arguments: Namespace, name: str) -> bool:
    """Whether an option was given: 0 is, and a flag that is not set is not."""
    value = getattr(arguments, name)
    return value is not None and value is not False


def number_or(value: int | None, default: int) -> int:
    """What an option was given, which may be 0."""
    return default if value is None else value


def option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def own_sides(arguments: Namespace) -> tuple[Callable[..., Any], ...]:
    """The two functions that were named; UsageError for one that cannot be called as a side is."""
    parameters = (
        "memory, signal" if arguments.target in QUEUES else "incoming memory, outgoing memory, signal"
    )
    sides = tuple(function_named(text) for text in arguments.side_of)
    for text, side in zip(arguments.side_of, sides, strict=True):
        takes = wrong_parameters(side, parameters.count(",") + 1)
        if takes:
            module, _, name = text.rpartition(":")
            raise UsageError(
                f"{name} of {module} takes {takes}; a side of {arguments.target} takes ({parameters})"
            )
    return sides


def ring_run(arguments: Namespace) -> tuple[Callable[..., Result], str]:
    """The exploration of two sides over rings, and what it is in words."""
    size, start = number_or(arguments.ring_size, PAGE_SIZE), number_or(arguments.start, 0)
    packets, packet_size = number_or(arguments.packets, 2), number_or(arguments.packet_size, SLOT)
    where = f"rings of {size} bytes from {start:#06x}"
    if arguments.side_of:
        left, right = own_sides(arguments)
        what = f"{' and '.join(arguments.side_of)}, {where}"
    else:
        ready_made = channel_sides if arguments.target == "channel" else ring_sides
        left, right = ready_made(packets, packet_size)
        what = f"{counted(packets, 'packet')} of {packet_size} bytes, {where}"
    return partial(explore, left, right, ring_sizes=(size, size), start=start), what


def queue_run(arguments: Namespace) -> tuple[Callable[..., Result], str]:
    """The exploration of a driver and a device, likewise."""
    size, requests = number_or(arguments.queue_size, 2), number_or(arguments.packets, 2)
    where = f"{arguments.target} queue of {size}{' with RING_EVENT_IDX' if arguments.event_idx else ''}"
    if arguments.side_of:
        driver, device = own_sides(arguments)
        what = f"{' and '.join(arguments.side_of)}, {where}"
    else:
        driver, device = queue_sides(requests, silent=arguments.silent)
        what = f"{counted(requests, 'request')}, {where}"
    run = partial(
        explore_queue,
        driver,
        device,
        format=arguments.target,
        event_idx=arguments.event_idx,
        queue_size=size,
        request_size=max(16, requests),
        start=arguments.start,
    )
    return run, what


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


# -- what is printed -------------------------------------------------------------------------------


def text_of(arguments: Namespace, what: str, result: Result) -> Iterator[str]:
    """What was explored and found, line by line."""
    yield f"{arguments.target}: {what}{', stores pass stores' if arguments.weak_stores else ''}"
    yield (
        f"  {counted(result.states, 'state')}, {counted(result.schedules, 'schedule')}, "
        f"{counted(result.steps, 'step')} at most"
    )
    if result.violation is not None:
        yield ""
        yield from result.story().splitlines()
        yield f"violation: {result.violation.kind.value}"
    elif result.complete:
        yield "complete: nothing goes wrong in any schedule"
    else:
        yield f"not complete: {limit_of(arguments, result)}; nothing wrong so far"


def limit_of(arguments: Namespace, result: Result) -> str:
    """Which bound ended an exploration."""
    if result.states > arguments.max_states:
        return f"there are more than {counted(arguments.max_states, 'state')} (--max-states)"
    return f"a schedule has more than {counted(arguments.max_steps, 'step')} (--max-steps)"


def document_of(arguments: Namespace, result: Result) -> dict[str, Any]:
    """The same as one object."""
    violation = result.violation
    return {
        "schema": SCHEMA,
        "target": arguments.target,
        "sides": list(result.names),
        "weak_stores": arguments.weak_stores,
        "states": result.states,
        "schedules": result.schedules,
        "schedules_hex": hex(result.schedules),
        "steps": result.steps,
        "complete": result.complete,
        "limit": None if result.complete or violation else limit_of(arguments, result),
        "violation": None
        if violation is None
        else {
            "kind": violation.kind.name.lower().replace("_", "-"),
            "text": violation.kind.value,
            "side": result.names[violation.side],
            "story": result.story().splitlines(),
        },
    }
