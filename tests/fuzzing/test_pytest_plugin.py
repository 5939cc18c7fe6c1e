"""The plugin's fixtures hand out rings and channels and notice what a test breaks; it is light, and needs no hypothesis.

The plugin is not installed where these tests run: other processes are given it by name.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import padded
from tests.test_without_hypothesis import HIDE_HYPOTHESIS
from vmbus.channel import ByteChannel, MessageChannel
from vmbus.errors import PeerError
from vmbus.fuzzing.plugin_fixtures import (
    BrokenRing,
    checked_channels,
    checked_ring_pair,
    hostile_ring,
    options_of,
)
from vmbus.fuzzing.strikes import Strike
from vmbus.layout import IN_WORD, OUT_WORD

ROOT = Path(__file__).parents[2]

HEAVY = ("vmbus.ring", "vmbus.layout", "vmbus.memory", "hypothesis", "construct")

TESTS_OF_A_USER = """
import pytest
import vmbus
from hypothesis import settings


def test_a_ring(ring_pair):
    sender, receiver = ring_pair
    sender.send(b"hello")
    assert receiver.receive()[0].payload == b"hello" + bytes(3)


@pytest.mark.parametrize("ring_pair", [8192], indirect=True)
def test_a_larger_ring(ring_pair):
    assert ring_pair[0].size == 8192


def test_channels(connected_channels):
    guest, host = connected_channels
    guest.send(b"hello")
    assert host.receive(timeout=0).payload == b"hello" + bytes(3)


@pytest.mark.parametrize("connected_channels", [vmbus.MessageChannel], indirect=True)
def test_channels_of_a_kind(connected_channels):
    guest, host = connected_channels
    host.send(b"hello")
    assert guest.receive(timeout=0) == b"hello"


def test_an_enemy(hostile_ring):
    ring, peer = hostile_ring
    assert ring.receive()[0].payload == b"first" + bytes(3)
    peer.memory.control[0] = 4
    with pytest.raises(vmbus.PeerError):
        ring.receive_many()


def test_that_leaves_a_broken_ring(ring_pair):
    ring_pair[0].memory.control[0] = 4


def test_the_profile():
    assert settings().max_examples == 30
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a folder, with this checkout and whatever lies in the folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(ROOT)])
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, "-m", "pytest", "-p", "vmbus.fuzzing.pytest_plugin", "-q", *arguments)


# -- as a user has it ----------------------------------------------------------------------------------------


def test_a_users_tests_have_the_fixtures_and_the_profile(tmp_path):
    (tmp_path / "test_of_a_user.py").write_text(TESTS_OF_A_USER)
    done = run_pytest(tmp_path, "--vmbus-profile", "quick")
    assert "7 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "ERROR test_of_a_user.py::test_that_leaves_a_broken_ring - vmbus" in done.stdout
    assert "left a broken ring behind: in is 0x0004" in done.stdout


def test_without_hypothesis_the_plugin_says_how_to_install_it_when_a_profile_is_asked_for(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(HIDE_HYPOTHESIS)
    done = run_pytest(tmp_path, "--vmbus-profile", "long")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "pip install 'vmbus[fuzzing]'" in done.stderr


IMPORT_ALONE = """
import sys, types
door = types.ModuleType("vmbus.fuzzing")
door.__path__ = [sys.argv[1]]
sys.modules["vmbus.fuzzing"] = door
import vmbus.fuzzing.pytest_plugin
print(*sorted(set(sys.modules) & set(sys.argv[2:])))
"""

IMPORT_AS_PYTEST_DOES = """
import sys
import vmbus.fuzzing.pytest_plugin
print(*sorted(set(sys.modules) & set(sys.argv[2:])))
"""


@pytest.mark.parametrize("code", [IMPORT_ALONE, IMPORT_AS_PYTEST_DOES], ids=["alone", "as pytest does"])
def test_the_plugin_imports_nothing_heavy(code, tmp_path):
    done = run(tmp_path, "-c", code, str(ROOT / "vmbus" / "fuzzing"), *HEAVY)
    assert (done.stdout, done.stderr) == ("\n", "")


# -- what the fixtures hand out ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [4096, 20480])
def test_a_ring_pair_is_empty_and_its_first_packet_wraps(size):
    with checked_ring_pair(size) as (sender, receiver):
        assert sender.size == receiver.size == size
        sender.send(b"wraps")
        assert sender.memory.control[IN_WORD] == 8
        assert receiver.receive()[0].payload == padded(b"wraps")


def break_index(memory, start):
    memory.control[IN_WORD] = 4


def break_descriptor(memory, start):
    memory.write_at(start, b"\xff\xff")


def break_own_index(memory, start):
    memory.control[OUT_WORD] = memory.size


BROKEN = [break_index, break_descriptor, break_own_index]


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda one: one.__name__)
def test_a_ring_that_is_left_broken_is_noticed(break_it):
    with (
        pytest.raises(BrokenRing, match="left a broken ring behind"),
        checked_ring_pair() as (sender, _),
    ):
        start = sender.memory.control[IN_WORD]
        sender.send(b"waiting")
        break_it(sender.memory, start)


@pytest.mark.parametrize("side", [0, 1])
def test_a_ring_of_a_channel_that_is_left_broken_is_noticed_and_both_are_closed(side):
    with pytest.raises(BrokenRing), checked_channels() as channels:
        channels[side].outgoing.memory.control[IN_WORD] = 4
    assert all(channel.closed for channel in channels)


def test_an_end_that_has_met_a_broken_ring_is_noticed_although_the_ring_is_whole_again():
    with pytest.raises(BrokenRing), checked_ring_pair() as (sender, receiver):
        right = sender.memory.control[IN_WORD]
        sender.memory.control[IN_WORD] = 4
        with pytest.raises(PeerError):
            receiver.receive()
        sender.memory.control[IN_WORD] = right


def test_packets_may_wait_and_memory_may_be_closed_when_the_test_ends():
    with checked_ring_pair() as (sender, receiver):
        sender.send_many([b"one", b"two"])
        receiver.read(receiver.incoming())
    with checked_ring_pair() as (sender, receiver):
        sender.memory.close()
    with checked_channels() as (guest, host):
        guest.send(b"never received")
        host.close()


def test_what_a_test_raises_is_not_hidden_behind_a_broken_ring():
    with pytest.raises(ZeroDivisionError), checked_ring_pair() as (sender, _):
        sender.memory.control[IN_WORD] = 4
        raise ZeroDivisionError


@pytest.mark.parametrize("kind", [MessageChannel, ByteChannel], ids=lambda kind: kind.__name__)
def test_channels_are_of_the_kind_that_is_asked_for(kind):
    with checked_channels(**options_of(kind)) as (guest, host):
        assert type(guest) is type(host) is kind
    with checked_channels(**options_of({"kind": kind, "size": 8192})) as (guest, _):
        assert guest.incoming.size == 8192


def test_an_enemy_has_three_packets_to_spoil():
    ring, peer = hostile_ring()
    assert [packet.payload for packet in ring.receive_many()[0]] == [
        padded(b"first"),
        padded(b"second"),
        padded(b"third"),
    ]
    ring, peer = hostile_ring([Strike(0, "word", IN_WORD, 12)])
    with pytest.raises(PeerError):
        ring.receive()
    assert peer.strikes == 1
