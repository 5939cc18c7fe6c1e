"""`vmbus fuzz explore`: what it explores, what it says of it, and how it ends."""

from __future__ import annotations

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from textwrap import dedent

import pytest

from tests.cli.running import run
from vmbus.cli import fuzz_explore
from vmbus.cli.main import main
from vmbus.cli.user_code import function_named
from vmbus.fuzzing import channel_sides, explore, explore_queue, queue_sides, ring_sides


def explored(*words):
    return run("fuzz", "explore", *words)


# -- what is explored ------------------------------------------------------------------------------

#: A command line, and the exploration that it stands for.
COMMANDS = {
    "channel --packets 1": lambda: explore(*channel_sides(1, 8)),
    "channel --packets 1 --weak-stores": lambda: explore(*channel_sides(1, 8), stores_pass_stores=True),
    "channel --packets 1 --spurious-wakes 2": lambda: explore(*channel_sides(1, 8), spurious_wakes=2),
    "channel --packets 1 --start 4088": lambda: explore(*channel_sides(1, 8), start=4088),
    "ring": lambda: explore(*ring_sides(2, 8)),
    "ring --packet-size 2024": lambda: explore(*ring_sides(2, 2024)),
    "ring --packet-size 2024 --ring-size 8K": lambda: explore(*ring_sides(2, 2024), ring_sizes=(8192, 8192)),
    "split --packets 1": lambda: explore_queue(*queue_sides(1)),
    "split --packets 1 --event-idx --start 0xffff": lambda: explore_queue(
        *queue_sides(1), event_idx=True, start=0xFFFF
    ),
    "split --packets 2 --queue-size 1": lambda: explore_queue(*queue_sides(2), queue_size=1),
    "packed --packets 1 --silent": lambda: explore_queue(*queue_sides(1, silent=True), format="packed"),
    "packed --packets 1 --event-idx --weak-stores": lambda: explore_queue(
        *queue_sides(1), format="packed", event_idx=True, stores_pass_stores=True
    ),
}


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_explores_what_the_library_does_with_the_same_options(line):
    expected = COMMANDS[line]()
    document = explored(*line.split(), "--json").document
    found = {name: document[name] for name in ("states", "schedules", "steps", "complete")}
    assert found == {name: getattr(expected, name) for name in found}
    assert expected.complete


def test_without_a_target_two_packets_go_over_a_channel():
    assert explored().out.splitlines() == [
        "channel: 2 packets of 8 bytes, rings of 4096 bytes from 0x0000",
        "  1901 states, 1877649534299 schedules, 45 steps at most",
        "complete: nothing goes wrong in any schedule",
    ]


def test_the_first_line_says_what_is_explored():
    lines = [explored(*line.split()).out.splitlines()[0] for line in list(COMMANDS)[-1:]]
    assert lines == ["packed: 1 request, packed queue of 2 with RING_EVENT_IDX, stores pass stores"]


def test_the_document_says_all_that_the_text_does():
    document = explored("ring", "--packets", "1", "--json").document
    assert document == {
        "schema": "vmbus.explore/1",
        "target": "ring",
        "sides": ["sender", "receiver"],
        "weak_stores": False,
        "states": 87,
        "schedules": 1765,
        "schedules_hex": "0x6e5",
        "steps": 16,
        "complete": True,
        "limit": None,
        "violation": None,
    }


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--max-states", "100"), "there are more than 100 states (--max-states)"),
        (("--max-steps", "1"), "a schedule has more than 1 step (--max-steps)"),
    ],
)
def test_an_exploration_that_ends_early_says_which_bound_ended_it(options, why):
    ending = explored(*options)
    assert ending.status == 0
    assert ending.out.splitlines()[-1] == f"not complete: {why}; nothing wrong so far"
    document = explored(*options, "--json").document
    assert (document["complete"], document["limit"]) == (False, why)


# -- sides of one's own ----------------------------------------------------------------------------

ASLEEP = """
    from vmbus import IncomingRing, OutgoingRing

    def sender(incoming, outgoing, signal):
        OutgoingRing(outgoing).send(b"explored")

    def receiver(incoming, outgoing, signal):
        ring = IncomingRing(incoming)
        while not ring.can_read(ring.incoming()):
            signal.wait(None)
"""

OWN_QUEUE = """
    def driver(memory, signal):
        queue = memory.virtqueue()
        yield
        queue.add_place(16, from_dev=True)
        if queue.avail_notif_needed():
            signal.notify()

    def device(memory, signal):
        queue = memory.device_queue()
        yield
        while (chain := queue.pop_descriptor_chain()) is None:
            signal.wait(None)
        return chain.writable_bytes
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function that writes a module of that name into the current directory, which is a new one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(name, text):
        (tmp_path / name).write_text(dedent(text), encoding="utf-8")

    return write


def sides_of(module, *names):
    return [word for name in names for word in ("--side-of", f"{module}:{name}")]


@pytest.mark.parametrize("module", ["asleep_by_path.py", "asleep_by_name"])
def test_sides_of_ones_own_are_explored_and_their_story_told(own, module):
    own(f"{module.removesuffix('.py')}.py", ASLEEP)
    ending = explored("ring", *sides_of(module, "sender", "receiver"))
    assert ending.status == 1
    lines = ending.out.splitlines()
    assert lines[0] == f"ring: {module}:sender and {module}:receiver, rings of 4096 bytes from 0x0000"
    assert lines[3].split() == ["sender", "receiver"]
    assert "The receiver sleeps for ever: no signal is on its way, and the sender has ended." in lines
    assert lines[-1] == "violation: a side sleeps for ever"


def test_the_document_of_a_violation_names_its_kind_its_side_and_its_story(own):
    own("asleep_in_json.py", ASLEEP)
    ending = explored("ring", *sides_of("asleep_in_json.py", "sender", "receiver"), "--json")
    assert ending.status == 1
    violation = ending.document["violation"]
    assert (violation["kind"], violation["text"]) == ("sleeps-forever", "a side sleeps for ever")
    assert violation["side"] == "receiver"
    assert violation["story"][0].split() == ["sender", "receiver"]
    assert ending.document["limit"] is None


@pytest.mark.parametrize("target", ["split", "packed"])
def test_a_driver_and_a_device_of_ones_own_are_explored(own, target):
    own("own_queue.py", OWN_QUEUE)
    ending = explored(target, *sides_of("own_queue.py", "driver", "device"))
    assert ending.status == 0, ending.out
    assert ending.out.splitlines()[-1] == "complete: nothing goes wrong in any schedule"


def test_the_example_in_the_help_runs_as_it_stands(own):
    text = fuzz_explore.EXAMPLES
    example = text[text.index("  # my_ring.py\n") : text.index("For split and packed")]
    own("my_ring.py", example)
    (line,) = [line for line in text.splitlines() if "--side-of my_ring.py" in line]
    ending = run(*line.split()[1:])
    assert ending.status == 0, ending.out


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cloud", "invalid choice: 'cloud'"),
        ("split --ring-size 4096", "--ring-size is not for split"),
        ("channel --event-idx", "--event-idx is not for channel"),
        ("--side-of a:b", "--side-of is given twice, the left side first, and not 1 time"),
        ("--side-of a:b --side-of a:c --packets 1", "--packets is for the sides that come with vmbus"),
        ("--packets 0", "there would be nothing to explore"),
        ("--packet-size 12", "--packet-size 12: a packet has a multiple of 8 bytes, and 8 at least"),
        ("ring --packet-size 0", "--packet-size 0: a packet has a multiple of 8 bytes, and 8 at least"),
        ("--ring-size 0", "a ring's data area is a multiple of 4096 bytes, from 4096 to "),
        ("split --queue-size 0", "a power of two of descriptors, 1 to 32768 of them; this one has 0"),
        ("packed --queue-size 0", "a packed queue has 1 to 32768 of"),
        ("split --ring-size 0", "--ring-size is not for split"),
        ("--queue-size 0", "--queue-size is not for channel"),
        ("--side-of a:b --side-of a:c --packet-size 0", "--packet-size is for the sides that come with"),
        ("--max-states 0", "--max-states 0: nothing would be explored"),
        ("--max-steps 0", "--max-steps 0: nothing would be explored"),
        ("--start 3", "a ring of 4096 bytes cannot start at 3"),
        ("--ring-size 1000", "1000"),
        ("split --queue-size 3", "a split queue has a power of two of descriptors"),
        ("--side-of nothing --side-of a:b", "'nothing' names no function"),
        ("--side-of not_there.py:a --side-of a:b", "not_there.py: No such file or directory"),
        ("--side-of not_there_either:a --side-of a:b", "not_there_either cannot be imported: ModuleNotFound"),
        ("--side-of half.py:absent --side-of a:b", "half.py has no function 'absent'; it has there"),
        ("--side-of broken.py:a --side-of a:b", "broken.py cannot be imported: ZeroDivisionError: "),
    ],
)
def test_what_cannot_be_explored_is_refused_in_one_line(own, line, message):
    own("half.py", "def there(): ...")
    own("broken.py", "1 / 0")
    ending = explored(*line.split())
    assert ending.status == 2
    assert message in ending.err


@pytest.mark.parametrize(
    ("target", "parameters", "takes", "wanted"),
    [
        ("ring", "", "no arguments", "(incoming memory, outgoing memory, signal)"),
        ("channel", "memory, signal", "(memory, signal)", "(incoming memory, outgoing memory, signal)"),
        ("ring", "*, a, b=1", "(*, a, b=1)", "(incoming memory, outgoing memory, signal)"),
        ("packed", "a, b, signal", "(a, b, signal)", "(memory, signal)"),
    ],
)
def test_a_side_that_cannot_be_called_as_one_is_refused_and_no_violation(
    own, target, parameters, takes, wanted
):
    own("wrong.py", f"def good(*arguments): ...\ndef wrong({parameters}): ...\n")
    ending = explored(target, *sides_of("wrong.py", "good", "wrong"))
    assert ending.status == 2
    assert f"wrong of wrong.py takes {takes}; a side of {target} takes {wanted}" in ending.err


@pytest.mark.parametrize("side", ["print", "functools.partial(lambda *given: None, 1)"])
def test_a_side_need_not_be_a_function_of_python(own, side):
    own("builtin_side.py", f"import functools\nside = {side}\n")
    assert explored("ring", *sides_of("builtin_side.py", "side", "side")).status == 0


FAILING = """
    def good(incoming, outgoing, signal): ...

    def asserts(incoming, outgoing, signal):
        assert incoming.size == 1

    def misuses(incoming, outgoing, signal):
        incoming.read_at(0, -1)
"""


@pytest.mark.parametrize(
    ("side", "line"),
    [
        ("asserts", "The asserts failed: AssertionError (failing.py, line 5: assert incoming.size == 1)"),
        ("misuses", " of the ring's data (failing.py, line 8: incoming.read_at(0, -1))"),
    ],
)
def test_the_story_says_in_which_line_of_its_file_a_side_failed(own, side, line):
    own("failing.py", FAILING)
    ending = explored("ring", *sides_of("failing.py", side, "good"))
    assert ending.status == 1
    (told,) = [one for one in ending.out.splitlines() if " failed: " in one]
    assert told.endswith(line)


def test_a_side_that_waits_with_a_time_limit_is_refused(own):
    own("waiting.py", "def side(incoming, outgoing, signal):\n    signal.wait(1.5)\n")
    ending = explored("ring", *sides_of("waiting.py", "side", "side"))
    assert ending.status == 2
    assert "a wait of 1.5 seconds cannot be explored" in ending.err


def test_two_functions_of_one_file_are_of_one_module(own):
    own("together.py", "def one(): return one\ndef two(): return one\n")
    one, two = (function_named(f"together.py:{name}") for name in ("one", "two"))
    assert one.__globals__ is two.__globals__


# -- interrupted, and on a terminal ----------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_on_a_terminal_it_says_how_far_it_is_and_takes_that_away_again():
    out, err = io.StringIO(), Terminal()
    with redirect_stdout(out), redirect_stderr(err):
        assert main(["fuzz", "explore", "ring", "--packets", "1"]) == 0
    assert err.getvalue().startswith("\rring: 3 states, 1 steps")
    assert err.getvalue().endswith("\r\x1b[K")


def test_an_interrupt_ends_it_without_a_word(monkeypatch):
    def interrupted(*sides, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(fuzz_explore, "explore", interrupted)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        assert main(["fuzz", "explore"]) == 130
    assert (out.getvalue(), err.getvalue()) == ("", "")
