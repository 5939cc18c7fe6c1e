"""Two processes that pass payloads to each other: the sides of rows 5 to 8 of measure_speed.py.

One process is this one, the other a fork of it.  In a stream this one sends and the other receives,
compares, and at the end of each repetition says that all has come.  In a round trip the other sends
back what it receives, and this one compares.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle, islice
from multiprocessing.connection import Connection

from vmbus import PacketChannel, SharedChannel
from vmbus.sockets import SharedVsock, VsockStream
from vmbus.virtio import VSOCK_HEADER

__all__ = [
    "channel_round_trips",
    "channel_stream",
    "pin_this",
    "pipe_stream",
    "socket_round_trips",
    "socket_stream",
    "unix_stream",
    "vsock_stream",
]

#: Seconds after which somebody who should have come has not.
PATIENCE = 60

VSOCK_HEADER_SIZE = VSOCK_HEADER.size
VSOCK_PORT = 1234


class Wrong(Exception):
    """Something else arrived than was sent, or nothing."""


class Partner:
    """The other process.

    serve   run there, in a loop: one repetition
    """

    def __init__(self, serve: Callable[[], Callable[[], object]]) -> None:
        self._here, there = multiprocessing.Pipe()
        process = multiprocessing.get_context("fork").Process(
            target=self._run, args=(serve, there), daemon=True
        )
        process.start()
        there.close()
        self._process = process
        self._wait()

    def _run(self, serve: Callable[[], Callable[[], object]], there: Connection) -> None:
        self._here.close()
        repetition = serve()
        there.send_bytes(b"ready")
        while True:
            repetition()
            there.send_bytes(b"done")

    def _wait(self) -> None:
        if not self._here.poll(PATIENCE):
            raise Wrong("the other process says nothing")
        try:
            self._here.recv_bytes()
        except EOFError:
            raise Wrong("the other process has ended") from None

    def has_all(self) -> None:
        """Wait until the other process has received all of a repetition."""
        self._wait()

    def end(self) -> None:
        self._process.kill()
        self._process.join(PATIENCE)
        self._here.close()


def check(received: bytes, expected: bytes, number: int) -> None:
    """Raise Wrong unless this is the payload that was sent; `number` counts them in a repetition."""
    if received != expected:
        raise Wrong(
            f"payload {number} arrived changed: {len(received)} bytes came, {len(expected)} were sent"
        )


def check_batch(received: list[bytes], expected: list[bytes], first: int) -> None:
    """As `check`, for several, of which `first` is the number of the first."""
    if received != expected:
        for number, (one, other) in enumerate(zip(received, expected, strict=True), first):
            check(one, other, number)


# -- streams ---------------------------------------------------------------------------------


def channel_stream(
    cleanup: ExitStack, ring_size: int, payloads: list[bytes], rounds: int, *, batches: bool
) -> Callable[[], int]:
    """Packets through a SharedChannel: a batch at a time, or each by itself."""
    near, far = SharedChannel.create(ring_size)
    cleanup.enter_context(near)
    cleanup.enter_context(far)
    units = rounds * len(payloads)

    def serve() -> Callable[[], object]:
        channel = far.attach(PacketChannel)
        return (lambda: take_batches(channel)) if batches else (lambda: take_each(channel))

    def take_batches(channel: PacketChannel) -> None:
        expected = cycle(payloads)
        taken = 0
        while taken < units:
            packets = channel.receive_many(timeout=PATIENCE)
            check_batch([packet.payload for packet in packets], list(islice(expected, len(packets))), taken)
            taken += len(packets)

    def take_each(channel: PacketChannel) -> None:
        receive = channel.receive
        for turn in range(rounds):
            for place, payload in enumerate(payloads):
                if (received := receive(PATIENCE).payload) != payload:
                    check(received, payload, turn * len(payloads) + place)

    partner = Partner(serve)
    channel = cleanup.enter_context(near.attach(PacketChannel))
    cleanup.callback(partner.end)  # before this side closes
    send, send_many = channel.send, channel.send_many

    def run() -> int:
        for _ in range(rounds):
            if batches:
                send_many(payloads)
            else:
                for payload in payloads:
                    send(payload)
        partner.has_all()
        return units

    return run


def stream(
    cleanup: ExitStack,
    send: Callable[[bytes], object],
    receive: Callable[[], bytes],
    payloads: list[bytes],
    rounds: int,
) -> Callable[[], int]:
    """Payloads, each by itself, through what has a `send` here and a `receive` in a fork."""

    def take() -> None:
        for turn in range(rounds):
            for place, payload in enumerate(payloads):
                if (received := receive()) != payload:
                    check(received, payload, turn * len(payloads) + place)

    partner = Partner(lambda: take)
    cleanup.callback(partner.end)

    def run() -> int:
        for _ in range(rounds):
            for payload in payloads:
                send(payload)
        partner.has_all()
        return rounds * len(payloads)

    return run


def pipe_stream(cleanup: ExitStack, payloads: list[bytes], rounds: int) -> Callable[[], int]:
    one, other = multiprocessing.Pipe()
    cleanup.callback(one.close)
    cleanup.callback(other.close)
    return stream(cleanup, one.send_bytes, other.recv_bytes, payloads, rounds)


def socket_stream(cleanup: ExitStack, payloads: list[bytes], rounds: int) -> Callable[[], int]:
    one, other = seqpacket_pair(cleanup)
    room = 4 * len(payloads[0])
    return stream(cleanup, one.send, lambda: other.recv(room), payloads, rounds)


def seqpacket_pair(cleanup: ExitStack) -> tuple[socket.socket, socket.socket]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    cleanup.enter_context(one)
    cleanup.enter_context(other)
    return one, other


# -- streams of bytes ------------------------------------------------------------------------


def byte_stream(
    cleanup: ExitStack,
    serve: Callable[[], Callable[[], bytes]],
    connect: Callable[[], Callable[[bytes], object]],
    payload: bytes,
    rounds: int,
) -> Callable[[], int]:
    """A stream of one payload over and over: a call here for each, and there calls for as much.

    serve     run in the other process: what receives there, at most as many bytes as the payload has
    connect   run here, when the other process is there: what sends
    """
    length = len(payload)
    expected = payload * 2

    def take() -> Callable[[], object]:
        receive = serve()

        def repetition() -> None:
            done = 0
            while done < rounds * length:
                data = receive()
                start = done % length
                if data != expected[start : start + len(data)]:
                    raise Wrong(f"{len(data)} bytes behind {done} arrived changed")
                done += len(data)

        return repetition

    partner = Partner(take)
    send = connect()
    cleanup.callback(partner.end)  # before this side closes

    def run() -> int:
        for _ in range(rounds):
            send(payload)
        partner.has_all()
        return rounds

    return run


def vsock_stream(
    cleanup: ExitStack, payload: bytes, rounds: int, *, from_guest: bool, buffer_size: int
) -> Callable[[], int]:
    """A vsock stream from the guest to the host, or the other way."""
    guest, host = SharedVsock.create(place_size=VSOCK_HEADER_SIZE + len(payload), buffer_size=buffer_size)
    near, far = (guest, host) if from_guest else (host, guest)
    cleanup.enter_context(near)
    cleanup.enter_context(far)

    def serve() -> Callable[[], bytes]:
        stream = far.attach().listen(VSOCK_PORT).accept
        accepted: list[VsockStream] = []

        def receive() -> bytes:
            if not accepted:
                accepted.append(stream(PATIENCE))
            return accepted[0].receive(len(payload), PATIENCE)

        return receive

    def connect() -> Callable[[bytes], object]:
        link = cleanup.enter_context(near.attach())
        return link.connect(VSOCK_PORT, timeout=PATIENCE).send

    return byte_stream(cleanup, serve, connect, payload, rounds)


def unix_stream(cleanup: ExitStack, payload: bytes, rounds: int) -> Callable[[], int]:
    one, other = socket.socketpair()
    cleanup.enter_context(one)
    cleanup.enter_context(other)
    return byte_stream(
        cleanup, lambda: lambda: other.recv(len(payload)), lambda: one.sendall, payload, rounds
    )


# -- round trips -----------------------------------------------------------------------------


def pin_this(cleanup: ExitStack) -> int:
    """Keep this process on one processor as long as `cleanup` lives: the number of another one."""
    allowed = os.sched_getaffinity(0)
    first, *others = sorted(allowed)
    os.sched_setaffinity(0, {first})
    cleanup.callback(os.sched_setaffinity, 0, allowed)
    return others[0] if others else first


def channel_round_trips(
    cleanup: ExitStack, ring_size: int, payloads: list[bytes], rounds: int, *, processor: int, spin: float
) -> Callable[[], int]:
    near, far = SharedChannel.create(ring_size)
    cleanup.enter_context(near)
    cleanup.enter_context(far)
    units = rounds * len(payloads)

    def serve() -> Callable[[], object]:
        os.sched_setaffinity(0, {processor})
        channel = far.attach(PacketChannel, spin=spin)
        send, receive = channel.send, channel.receive

        def echo() -> None:
            for _ in range(units):
                send(receive().payload)

        return echo

    partner = Partner(serve)
    channel = cleanup.enter_context(near.attach(PacketChannel, spin=spin))
    cleanup.callback(partner.end)  # before this side closes
    send, receive = channel.send, channel.receive

    def run() -> int:
        for turn in range(rounds):
            for place, payload in enumerate(payloads):
                send(payload)
                if (received := receive().payload) != payload:
                    check(received, payload, turn * len(payloads) + place)
        partner.has_all()
        return units

    return run


def socket_round_trips(
    cleanup: ExitStack, payloads: list[bytes], rounds: int, *, processor: int
) -> Callable[[], int]:
    one, other = seqpacket_pair(cleanup)
    room = 4 * len(payloads[0])
    units = rounds * len(payloads)

    def serve() -> Callable[[], object]:
        os.sched_setaffinity(0, {processor})

        def echo() -> None:
            for _ in range(units):
                other.send(other.recv(room))

        return echo

    partner = Partner(serve)
    cleanup.callback(partner.end)

    def run() -> int:
        for turn in range(rounds):
            for place, payload in enumerate(payloads):
                one.send(payload)
                if (received := one.recv(room)) != payload:
                    check(received, payload, turn * len(payloads) + place)
        partner.has_all()
        return units

    return run
