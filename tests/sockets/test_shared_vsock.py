"""A vsock device between two processes: attaching, handing on, the end of a process, and both queue formats."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.channel.children import Children, exit_of, needs_linux
from tests.sockets.pairs import FORMATS, PATIENCE, PORT, Running, await_sleepers, connect, quickly
from vmbus.errors import CallerError, ChannelClosed, PeerClosed, TimedOut
from vmbus.sockets import AsyncVsockLink, SharedVsock, VsockLink

pytestmark = [
    needs_linux,
    # Of forks beside threads, which are there on purpose: Python 3.12 warns of them.
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]

ROOT = Path(__file__).parents[2]

#: Seconds within which the end of a process must be noticed.
NOTICED = 0.1


@pytest.fixture
def children(no_descriptor_left: None) -> Iterator[Children]:
    with contextlib.closing(Children()) as started:
        yield started


def load_tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


soak = load_tool("soak_vsock")


def answer_once(end: SharedVsock) -> None:
    """Accept one connection, and send back what comes, backwards, until it ends."""
    with end, end.attach() as link:
        stream = link.listen(PORT).accept(PATIENCE)
        while data := stream.receive(timeout=PATIENCE):
            stream.send(data[::-1], PATIENCE)
        stream.send_end()
        assert stream.receive(timeout=PATIENCE) == b""


def ask_once(end: SharedVsock) -> None:
    with end, end.attach() as link:
        stream = retry_connect(link)
        for number in range(50):
            stream.send(b"question %d" % number)
            assert stream.receive(timeout=PATIENCE) == (b"question %d" % number)[::-1]
        stream.send_end()
        assert stream.receive(timeout=PATIENCE) == b""


def retry_connect(link: VsockLink):
    """Nobody may listen there yet."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return link.connect(PORT, timeout=PATIENCE)
        except PeerClosed:
            assert link.endpoint.error is None and time.monotonic() < end
            os.sched_yield()


# -- two processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("features", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("guest_in_child", [True, False], ids=["guest in the child", "host in the child"])
def test_a_forked_child_and_its_parent_talk(children, features, guest_in_child):
    guest, host = SharedVsock.create(features=features)
    with guest, host:
        child = children.start(lambda: ask_once(guest) if guest_in_child else answer_once(host))
        (answer_once if guest_in_child else ask_once)(host if guest_in_child else guest)
        assert children.join(child) == 0


def test_an_end_can_be_handed_to_a_process_that_is_spawned():
    guest, host = SharedVsock.create()
    process = multiprocessing.get_context("spawn").Process(target=ask_once, args=(guest,))
    process.start()
    with guest, host:
        answer_once(host)
    assert exit_of(process) == 0


@pytest.mark.parametrize("queue_format", FORMATS)
def test_megabytes_of_random_chunks_come_back_whole_and_no_packet_breaks_a_rule(queue_format):
    """Credit above all: checked at every packet in both processes, from the headers alone."""
    task = soak.Task(
        size=1_500_000, connections=3, seed=11, queue_format=queue_format, queue_size=32, buffer_size=30_000
    )
    found = soak.run(task)
    assert found["bytes"] == 1_500_000
    assert found["packets"] > 800
    assert found["closest"] == 0  # the limit was met, and not passed


@pytest.mark.parametrize("queue_format", FORMATS)
def test_a_killed_process_is_noticed_at_once_and_is_no_end_of_a_stream(queue_format):
    assert max(soak.kill_once(f"kill {number}", queue_format) for number in range(3)) < NOTICED


def test_what_a_killed_process_had_sent_is_received_first(children):
    guest, host = SharedVsock.create()
    has_sent = children.flag()

    def send_and_hang():
        with guest.attach() as link:
            stream = retry_connect(link)
            stream.send(bytes(range(256)) * 100)
            has_sent.set()
            threading.Event().wait()

    with guest, host, host.attach() as link:
        child = children.start(send_and_hang)
        listener = link.listen(PORT)
        stream = listener.accept(PATIENCE)
        has_sent.wait()
        children.kill(child)
        children.join(child)
        taken = b""
        while len(taken) < 25_600:
            taken += stream.receive(timeout=PATIENCE)
        assert taken == bytes(range(256)) * 100
        with quickly(NOTICED), pytest.raises(PeerClosed):
            stream.receive(timeout=PATIENCE)
        with pytest.raises(PeerClosed):
            listener.accept(PATIENCE)


def test_every_wait_ends_when_the_other_process_is_killed(children):
    guest, host = SharedVsock.create()
    with guest, host, host.attach() as link:

        def connect_and_hang():
            with guest.attach() as other:
                streams = [retry_connect(other) for _ in range(2)]
                assert streams
                other.serve()

        child = children.start(connect_and_hang)
        listener = link.listen(PORT)
        first, second = listener.accept(PATIENCE), listener.accept(PATIENCE)
        tasks = [
            Running(first.receive),
            Running(second.send, bytes(10**6)),
            Running(listener.accept),
            Running(link.serve),
        ]
        await_sleepers(link, 3)
        with quickly(0.5):
            children.kill(child)
            start = time.monotonic()
            for task in tasks[:3]:
                with pytest.raises(PeerClosed):
                    task.result()
            tasks[3].result()
            assert time.monotonic() - start < NOTICED
        children.join(child)


def test_a_process_that_goes_in_order_ends_its_streams(children):
    guest, host = SharedVsock.create()

    def say_goodbye():
        with guest.attach() as link:
            retry_connect(link).send(b"x" * 100_000)

    with guest, host, host.attach() as link:
        child = children.start(say_goodbye)
        stream = link.listen(PORT).accept(PATIENCE)
        assert sum(map(len, stream)) == 100_000
        assert children.join(child) == 0


# -- attaching -------------------------------------------------------------------------------


def test_an_end_is_attached_once():
    guest, host = SharedVsock.create()
    with guest, host, guest.attach():
        with pytest.raises(CallerError, match="attached already"):
            guest.attach()
        assert repr(guest) == "<SharedVsock: guest, guest CID 3, attached>"
        assert repr(host) == "<SharedVsock: host, guest CID 3, not attached>"


def test_an_end_that_is_closed_is_not_attached_and_a_link_works_on_without_its_end(no_descriptor_left):
    guest, host = SharedVsock.create()
    with guest.attach() as near, host.attach() as far:
        guest.close()
        guest.close()
        host.close()
        client, server = connect(near, far)
        client.send(b"works on")
        assert server.receive(timeout=PATIENCE) == b"works on"
    for call in (guest.attach, lambda: pickle.dumps(guest)):
        with pytest.raises((CallerError, RuntimeError)):
            call()
    assert "closed" in repr(guest)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"guest_cid": 2}, "a guest's CID"),
        ({"guest_cid": 2**32}, "a guest's CID"),
        ({"queue_size": 3}, "power of two|power of 2|queue"),
        ({"queue_size": 0}, "queue"),
        ({"place_size": 44}, "header"),
        ({"buffer_size": 0}, "receive buffer"),
    ],
)
def test_what_no_device_can_be_is_refused_and_leaves_no_descriptor(no_descriptor_left, options, says):
    with pytest.raises(CallerError, match=says):
        SharedVsock.create(**options)


def test_an_attachment_that_fails_leaves_nothing_behind_and_can_be_tried_again(
    no_descriptor_left, monkeypatch
):
    guest, host = SharedVsock.create()
    with guest, host:
        monkeypatch.setattr("vmbus.channel.DescriptorSignal.greet", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            host.attach()
        monkeypatch.undo()
        host.attach().close()


def test_a_link_is_closed_in_a_forked_child_and_works_on_in_its_parent(children):
    guest, host = SharedVsock.create()
    with guest, host, guest.attach() as near, host.attach() as far:
        client, server = connect(near, far)

        def use_it():
            for call in (
                lambda: client.send(b"from the child", 1),
                lambda: client.receive(timeout=1),
                lambda: near.listen(5),
            ):
                with pytest.raises(ChannelClosed):
                    call()
            near.close()

        assert children.join(children.start(use_it)) == 0
        client.send(b"from the parent")
        assert server.receive(timeout=PATIENCE) == b"from the parent"


def test_closing_a_link_lets_go_of_its_memory_and_descriptors(no_descriptor_left):
    for _ in range(3):
        guest, host = SharedVsock.create()
        with guest, host, guest.attach() as near, host.attach() as far:
            client, server = connect(near, far)
            client.send(b"x")
            server.receive(timeout=PATIENCE)


def test_an_end_can_be_attached_for_asyncio():
    import asyncio

    async def run():
        guest, host = SharedVsock.create()
        with guest, host:
            async with guest.attach(AsyncVsockLink) as near, host.attach(AsyncVsockLink) as far:
                accepting = asyncio.ensure_future(far.listen(PORT).accept())
                client = await near.connect(PORT, timeout=PATIENCE)
                await client.send(b"x")
                assert await (await accepting).receive(timeout=PATIENCE) == b"x"

    asyncio.run(run())


def test_two_links_that_wait_use_no_time(children):
    guest, host = SharedVsock.create()
    with guest, host, guest.attach() as near, host.attach() as far:
        client, server = connect(near, far)
        tasks = [Running(client.receive), Running(server.receive), Running(far.serve)]
        await_sleepers(near, 1)
        await_sleepers(far, 2)
        before = time.process_time()
        with pytest.raises(TimedOut):
            client.receive(timeout=0.1)
        assert time.process_time() - before < 0.05
        client.send_end()
        server.send_end()
        assert [task.result() for task in tasks[:2]] == [b"", b""]
        near.close()
        tasks[2].result()


# -- the tool --------------------------------------------------------------------------------


def test_the_soak_counts_bytes_packets_and_kills():
    done = subprocess.run(
        [sys.executable, "tools/soak_vsock.py", "--megabytes", "0.2", "--kill", "2", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert [(one["format"], one["bytes"]) for one in found["runs"]] == [
        ("split", 100_000),
        ("packed", 100_000),
    ]
    assert (found["kills"], found["failure"]) == (2, None)


@pytest.mark.parametrize("arguments", [["--megabytes", "0"], ["--connections", "0"], ["--format", "x"]])
def test_the_soak_refuses_what_it_cannot_do(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        soak.main(arguments)
    assert (caught.value.code, capsys.readouterr().out) == (2, "")


def packet(operation: int, length: int = 0, *, forth: bool, room: int = 1000, taken: int = 0, flags: int = 0):
    """The fields of a packet between 3:1 and 2:9."""
    addresses = (3, 2, 1, 9) if forth else (2, 3, 9, 1)
    return (*addresses, length, 1, operation, flags, room, taken)


@pytest.mark.parametrize(
    ("packets", "says"),
    [
        ([(5, 1000, True)], None),
        ([(5, 1001, True)], "1 bytes more than there is credit"),
        ([(5, 600, True), (5, 600, True)], "200 bytes more"),
        ([(5, 600, True), (6, 0, False, 1000, 200), (5, 600, True)], None),
        ([(5, 600, True), (6, 0, False, 1000, 601)], "never sent"),
        ([(5, 600, True), (6, 0, False, 1000, 5), (6, 0, False, 1000, 4)], "backwards"),
        ([(6, 0, False, 500, 0), (5, 501, True)], "1 bytes more"),
        ([(4, 0, True, 1000, 0, 2), (5, 1, True)], "behind the end"),
        ([(5, 0, True)], "length"),
        ([(3, 0, True), (5, 1, True)], "more than there is credit"),
    ],
)
def test_the_soak_finds_packets_that_break_a_rule(packets, says):
    checker = soak.PacketChecker(3)

    def check():
        for operation, length, forth, *rest in [(1, 0, True), (2, 0, False), *packets]:
            names = dict(zip(("room", "taken", "flags"), rest, strict=False))
            checker.check(packet(operation, length, forth=forth, **names), length, own=forth)

    if says is None:
        check()
    else:
        with pytest.raises(soak.WrongPacket, match=says):
            check()
