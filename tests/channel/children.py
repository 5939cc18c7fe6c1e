"""Child processes and descriptors for tests of channels between processes.

Nothing here sleeps: who waits for a child waits for a byte in a pipe, or for its end.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import sys
from collections.abc import Callable

import pytest

from tests.memory.children import PATIENCE, exit_status, fork_child
from vmbus.channel import PacketChannel
from vmbus.channel.shared import SharedChannel
from vmbus.errors import PeerClosed

__all__ = ["PATIENCE", "Children", "Flag", "check_echo", "echo", "exit_of", "needs_linux"]

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="channels between processes run on Linux")


class Flag:
    """Something that one process tells others, once: a pipe that is readable from then on."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def set(self) -> None:
        os.write(self._write, b"1")

    def wait(self) -> None:
        ready, _, _ = select.select([self._read], [], [], PATIENCE)
        assert ready, f"nobody told anything for {PATIENCE} seconds"

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class Children:
    """Forked children of one test; whoever is left at its end is killed."""

    def __init__(self) -> None:
        self._alive: set[int] = set()
        self._flags: list[Flag] = []

    def flag(self) -> Flag:
        self._flags.append(Flag())
        return self._flags[-1]

    def start(self, action: Callable[[], object]) -> int:
        """A child that does `action` and ends, with status 0 unless that raised."""
        child = fork_child(action)
        self._alive.add(child)
        return child

    def kill(self, child: int) -> None:
        """End a child as hard as can be; it is then a zombie, or gone."""
        os.kill(child, signal.SIGKILL)

    def join(self, child: int) -> int:
        """Wait for the end of a child: its status, or minus the signal that ended it."""
        self._alive.discard(child)
        return exit_status(child)

    def close(self) -> None:
        for child in list(self._alive):
            self.kill(child)
            self.join(child)
        for flag in self._flags:
            flag.close()


def echo(end: SharedChannel) -> None:
    """Send back what comes, backwards, until the other side closes."""
    with end, end.attach(PacketChannel) as channel, contextlib.suppress(PeerClosed):
        while True:
            packet = channel.receive(timeout=PATIENCE)
            channel.send(packet.payload[::-1], packet.transaction_id, timeout=PATIENCE)


def check_echo(channel: PacketChannel) -> None:
    """Send and get back more than the rings hold."""
    for number in range(200):
        payload = number.to_bytes(8, "little") * (1 + number % 64)
        channel.send(payload, number, timeout=PATIENCE)
        answer = channel.receive(timeout=PATIENCE)
        assert (answer.transaction_id, answer.payload) == (number, payload[::-1])


def exit_of(process: multiprocessing.process.BaseProcess) -> int | None:
    """The exit status of a process of multiprocessing that is about to end."""
    process.join(PATIENCE)
    status = process.exitcode
    if status is None:
        process.kill()
        process.join()
    process.close()
    return status
