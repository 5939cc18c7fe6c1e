"""The poll loop: the order of a round, what is done with each class of frame, when it sleeps.

The last tests go all the way: a guest's driver, two virtqueues, the backend, the device, the loop, and
a stack of a few lines that answers datagrams with themselves and connections with a reset.

Sources: smolvm smolvm-network, its poll loop.
"""

from __future__ import annotations

import socket
import struct
import threading

import pytest

from tests.virtio.by_hand import FORMATS, PACKED, VERSION_1
from tests.virtio.frame_maker import (
    ACK,
    GATEWAY_MAC,
    GOOD_FRAMES,
    GUEST,
    GUEST_MAC,
    OTHER,
    RST,
    arp,
    checksum,
    icmp4,
    packed,
    pseudo,
    tcp,
    tcp4,
    tcp6,
    udp4,
    udp6,
)
from vmbus.errors import CallerError
from vmbus.sockets import (
    FRAME_ACTIONS,
    FrameAction,
    FrameFate,
    IngressResult,
    NetworkHooks,
    NetworkLoop,
    read_frames,
    shared_frame_queues,
    wake_of,
    write_frames,
)
from vmbus.virtio import (
    FrameClass,
    FrameStreamDecoder,
    IpEndpoint,
    NetworkBackend,
    NetworkDriver,
    NetworkFeatures,
    NetworkFrameQueues,
    VirtioNetworkDevice,
    classify_frame_early,
    connected_virtqueues,
    encode_frame,
    least_receive_place,
    least_transmit_place,
    packed_addresses,
)

PATIENCE = 20

GATEWAYS = packed_addresses("100.96.0.1")


class Stack:
    """Takes every frame and notes every call; `replies` are sent when it may."""

    def __init__(self, log):
        self.log = log
        self.frames = []
        self.result = IngressResult.PACKET_PROCESSED
        self.takes = True
        self.wants = None
        self.replies = []

    def ingest(self, device, now):
        self.log.append("ingest")
        if self.takes:
            rx, _ = device.receive(now)
            rx.consume(self.frames.append)
        return self.result

    def flush_egress(self, device, now):
        self.log.append("flush egress")
        while self.replies and (token := device.transmit(now)) is not None:
            reply = self.replies.pop(0)
            token.consume(len(reply), lambda frame, reply=reply: frame.__setitem__(slice(None), reply))

    def maintenance(self, now):
        self.log.append("maintenance")

    def delay(self, now):
        self.log.append("delay")
        return self.wants


class Hooks(NetworkHooks):
    """Notes every call, and answers as it is told."""

    def __init__(self, log):
        self.log = log
        self.now = None
        self.connected = self.opens = False
        self.allows = self.has_socket = True

    def has_connection(self, source, destination):
        self.log.append(("has connection", source, destination))
        return self.connected

    def open_connection(self, source, destination):
        self.log.append(("open connection", source, destination))
        return self.opens

    def allow_udp(self, destination):
        self.log.append(("allow", destination))
        return self.allows

    def open_udp(self, destination):
        self.log.append(("open udp", destination))
        return self.has_socket

    def denied(self, classified):
        self.log.append(("denied", classified.destination))

    def forward_to_fabric(self, member, packet):
        self.log.append(("forward", member, packet))

    def accept_connections(self, now):
        self.now = now
        self.log.append("accept")

    def relay_tcp(self, now):
        self.log.append("tcp")

    def relay_dns(self, now):
        self.log.append("dns")

    def relay_udp(self, now):
        self.log.append("udp")

    def relay_icmp(self, now):
        self.log.append("icmp")

    def take_established(self, now):
        self.log.append("established")

    def clean_up(self, now):
        self.log.append("clean up")


class LoggingWake:
    """A wake that notes who was woken."""

    def __init__(self, log):
        self.log = log

    def wake(self):
        self.log.append("wake writer")


class Bench:
    """A loop over frame queues, with everything that it does in one log."""

    def __init__(self, capacity=8, **options):
        self.log = []
        self.queues = NetworkFrameQueues(capacity, host_wake=LoggingWake(self.log))
        self.device = VirtioNetworkDevice(self.queues)
        self.stack, self.hooks = Stack(self.log), Hooks(self.log)
        self.loop = NetworkLoop(self.device, self.stack, self.hooks, gateways=GATEWAYS, **options)

    def round(self, *frames):
        """One round with these frames of the guest; what was done with them, before the rest."""
        for frame in frames:
            assert self.queues.guest_to_host.push(frame) is None
        self.log.clear()
        self.loop.run_once(1.5)
        return self.log[: self.log.index("accept")]


@pytest.fixture
def bench():
    return Bench()


# -- a round -----------------------------------------------------------------------------------

REST = ["accept", "flush egress", "maintenance"]
REST += ["tcp", "dns", "udp", "icmp", "established", "clean up", "flush egress", "delay"]


def test_a_round_does_everything_in_order(bench):  # 4.5: per iteration
    assert bench.round(arp(), icmp4()) == ["ingest", "ingest"]
    assert bench.log == ["ingest", "ingest", *REST]
    assert bench.hooks.now == 1.5


def test_a_round_without_frames_does_the_rest(bench):
    bench.round()
    assert bench.log == REST


def test_the_writer_is_woken_behind_maintenance_when_frames_were_emitted(bench):  # 4.5: test-and-clear
    bench.stack.replies = [b"reply", b"second"]
    bench.round()
    expected = list(REST)
    expected.insert(3, "wake writer")
    assert bench.log == expected
    bench.round()
    assert bench.log == REST


def test_the_writer_is_woken_at_the_end_for_what_relays_brought(bench):  # 4.5: flush egress; wake writer
    bench.hooks.relay_tcp = lambda now: bench.stack.replies.append(b"late")
    bench.round()
    assert bench.log[-3:] == ["flush egress", "wake writer", "delay"]
    assert bench.log.count("wake writer") == 1
    assert bench.queues.host_to_guest.pop() == b"late"


def test_nothing_is_done_once_a_shutdown_has_begun(bench):  # 4.5: stop if shutting down
    bench.queues.guest_to_host.push(arp())
    bench.queues.begin_shutdown()
    bench.log.clear()
    assert bench.loop.run_once(0) is None
    assert bench.log == [] and len(bench.queues.guest_to_host) == 1


def test_one_round_takes_no_more_frames_than_the_queue_holds(bench):
    again = bench.stack.ingest

    def one_more(device, now):
        bench.queues.guest_to_host.push(arp())
        return again(device, now)

    bench.stack.ingest = one_more
    assert bench.round(arp()) == ["ingest"] * 8
    assert bench.loop.run_once(0) == 0.0  # no sleep: there is more


@pytest.mark.parametrize(
    ("wanted", "slept"),
    [(None, 0.1), (0.05, 0.05), (0.0, 0.0), (-1.0, 0.0), (0.1, 0.1), (5.0, 0.1)],
    ids=str,
)
def test_the_loop_sleeps_as_long_as_the_stack_wants_and_at_most_100_ms(bench, wanted, slept):
    bench.stack.wants = wanted
    assert bench.loop.run_once(0) == slept


# -- the actions -------------------------------------------------------------------------------


def test_every_class_has_its_action():
    assert FRAME_ACTIONS == {
        FrameClass.TCP_SYN: FrameAction.CONNECT,
        FrameClass.DNS_QUERY: FrameAction.INGEST,
        FrameClass.PASSTHROUGH: FrameAction.INGEST,
        FrameClass.UNSUPPORTED_UDP: FrameAction.DROP,
        FrameClass.UDP_FLOW: FrameAction.ASK,
        FrameClass.FABRIC: FrameAction.FORWARD,
    }


CLIENT = IpEndpoint(packed(GUEST), 4000)
SERVER = IpEndpoint(packed(OTHER), 443)
FLOW = IpEndpoint(packed(OTHER), 9999)


def test_a_connection_gets_a_relay_and_the_stack_the_frame(bench):  # TcpSyn
    bench.hooks.opens = True
    assert bench.round(tcp4()) == [
        ("has connection", CLIENT, SERVER),
        ("open connection", CLIENT, SERVER),
        "ingest",
    ]
    assert bench.stack.frames == [tcp4()]


def test_a_connection_that_has_a_relay_gets_no_other(bench):  # TcpSyn: if none exists for the pair
    bench.hooks.connected = True
    assert bench.round(tcp4()) == [("has connection", CLIENT, SERVER), "ingest"]


def test_a_connection_that_is_denied_still_reaches_the_stack(bench):  # TcpSyn: table full or denied
    assert bench.round(tcp4())[-2:] == [("open connection", CLIENT, SERVER), "ingest"]
    assert bench.stack.frames == [tcp4()] and bench.loop.fates == {FrameFate.INGESTED: 1}


@pytest.mark.parametrize(
    "frame",
    [udp4(port=53), arp(), icmp4(), tcp4(flags=ACK), tcp4(destination="100.96.0.1", port=53), b"", b"short"],
    ids=["dns", "arp", "icmp", "data", "the gateway's name server", "empty", "short"],
)
def test_a_name_and_what_passes_through_go_to_the_stack(bench, frame):  # DnsQuery, Passthrough
    assert bench.round(frame) == ["ingest"]
    assert bench.stack.frames == [frame]


def test_a_datagram_that_is_not_supported_is_dropped():  # UnsupportedUdp
    bench = Bench(classify=classify_frame_early)
    assert bench.round(udp4(), udp4(port=53)) == ["ingest"]
    assert bench.stack.frames == [udp4(port=53)]
    assert bench.loop.fates == {FrameFate.DROPPED: 1, FrameFate.INGESTED: 1}
    assert bench.queues.egress_bytes() == len(udp4(port=53))  # a dropped frame is not metered


def test_a_datagram_that_is_allowed_goes_to_the_stack(bench):  # UdpFlow
    assert bench.round(udp4()) == [("allow", FLOW), ("open udp", FLOW), "ingest"]


def test_a_datagram_that_is_denied_is_dropped_and_recorded(bench):  # UdpFlow: denials are recorded
    bench.hooks.allows = False
    assert bench.round(udp4()) == [("allow", FLOW), ("denied", FLOW)]
    assert bench.stack.frames == [] and bench.loop.fates == {FrameFate.DENIED: 1}


def test_a_datagram_without_a_socket_is_dropped_and_not_recorded(bench):  # UdpFlow: slot exists
    bench.hooks.has_socket = False
    assert bench.round(udp4()) == [("allow", FLOW), ("open udp", FLOW)]
    assert bench.stack.frames == [] and bench.loop.fates == {FrameFate.NO_SOCKET: 1}


def test_a_denial_of_port_53_is_not_recorded():  # UdpFlow: except port 53
    def all_flows(frame):
        return classify_frame_early(frame)._replace(frame_class=FrameClass.UDP_FLOW)

    bench = Bench(classify=all_flows)
    bench.hooks.allows = False
    assert bench.round(udp4(port=53)) == [("allow", IpEndpoint(packed(OTHER), 53))]
    assert bench.loop.fates == {FrameFate.DENIED: 1}


@pytest.mark.parametrize("index", [0, 3])
def test_a_packet_for_another_member_is_forwarded_without_its_ethernet_header(index):  # Fabric
    bench = Bench(fabric_index=index)
    frame = tcp4(destination="100.96.5.2")
    assert bench.round(frame) == [("forward", 5, frame[14:])]
    assert bench.stack.frames == [] and bench.queues.egress_bytes() == 0
    assert bench.loop.fates == {FrameFate.FORWARDED: 1}


@pytest.mark.parametrize("result", IngressResult)
@pytest.mark.parametrize("frame", [arp(), tcp4(), udp4(), udp6()], ids=["arp", "syn", "udp4", "udp6"])
def test_a_frame_that_the_stack_does_not_take_is_dropped_and_offered_once(bench, frame, result):
    bench.stack.takes = False
    bench.stack.result = result  # whatever it says
    assert bench.round(frame, arp()).count("ingest") == 2
    assert bench.device.staged_frame is None and len(bench.queues.guest_to_host) == 0
    assert bench.loop.fates == {FrameFate.NOT_TAKEN: 2}
    assert bench.round() == []


def test_what_a_stack_says_it_did_not_take_is_counted_so(bench):  # "nothing received"
    bench.stack.result = IngressResult.NONE
    bench.round(arp())
    assert bench.loop.fates == {FrameFate.NOT_TAKEN: 1}


@pytest.mark.parametrize("hooks", [(), (NetworkHooks(),)], ids=["none", "plain"])
def test_the_hooks_one_does_not_write_allow_datagrams_and_relay_nothing(hooks):
    log = []
    queues = NetworkFrameQueues(16)
    loop = NetworkLoop(VirtioNetworkDevice(queues), Stack(log), *hooks, fabric_index=1)
    for frame in GOOD_FRAMES.values():
        assert queues.guest_to_host.push(frame) is None
    loop.run_once(0)
    assert loop.fates == {FrameFate.FORWARDED: 1, FrameFate.INGESTED: len(GOOD_FRAMES) - 1}


# -- running -----------------------------------------------------------------------------------


@pytest.fixture
def queues():
    queues = shared_frame_queues(64)
    yield queues
    queues.begin_shutdown()
    for name in ("guest_wake", "host_wake", "relay_wake"):
        wake_of(queues, name).close()


def running(loop):
    thread = threading.Thread(target=loop.run, daemon=True)
    thread.start()
    return thread


def ended(thread):
    thread.join(PATIENCE)
    return not thread.is_alive()


def test_a_loop_ends_at_a_shutdown(queues):
    log = []
    loop = NetworkLoop(VirtioNetworkDevice(queues), Stack(log), Hooks(log))
    thread = running(loop)
    queues.begin_shutdown()
    assert ended(thread)


@pytest.mark.parametrize("name", ["guest_wake", "relay_wake"])
def test_a_sleeping_loop_is_woken_by_guest_and_relay(queues, name, monkeypatch):
    monkeypatch.setattr("vmbus.sockets.network_loop.LONGEST_LOOP_SLEEP", PATIENCE * 10.0)
    log, slept, rounds = [], threading.Event(), threading.Event()
    stack = Stack(log)

    def delay(now):
        if slept.is_set():
            rounds.set()
        slept.set()

    stack.delay = delay
    thread = running(NetworkLoop(VirtioNetworkDevice(queues), stack, Hooks(log)))
    assert slept.wait(PATIENCE)
    getattr(queues, name).wake()
    assert rounds.wait(PATIENCE)
    queues.begin_shutdown()
    assert ended(thread)


def test_a_loop_that_fails_begins_the_shutdown(queues):
    log = []
    stack = Stack(log)
    stack.maintenance = lambda now: 1 // 0
    with pytest.raises(ZeroDivisionError):
        NetworkLoop(VirtioNetworkDevice(queues), stack, Hooks(log)).run()
    assert queues.is_shutting_down()


def test_a_loop_needs_a_wake_that_can_be_waited_for(bench):
    with pytest.raises(CallerError, match="guest_wake"):
        bench.loop.run()


# -- all the way -------------------------------------------------------------------------------


class EchoStack:
    """Answers a datagram with itself and a connection with a reset; knows no ports and no timers."""

    def ingest(self, device, now):
        tokens = device.receive(now)
        if tokens is None:
            return IngressResult.NONE
        rx, tx = tokens
        answer = rx.consume(self.answer)
        if answer is not None:
            tx.consume(len(answer), lambda frame: frame.__setitem__(slice(None), answer))
        return IngressResult.PACKET_PROCESSED

    def answer(self, frame):
        if frame[12:14] != b"\x08\x00":
            return None
        source, destination, segment = frame[26:30], frame[30:34], frame[34:]
        ports = segment[2:4] + segment[0:2]
        start = GUEST_MAC + GATEWAY_MAC + frame[12:26] + destination + source
        if frame[23] == 17:
            return start + ports + segment[4:]
        if frame[23] == 6 and segment[13] & 0x02:
            (sequence,) = struct.unpack_from(">I", segment, 4)
            # The makers compute the checksum; addresses are the other way round.
            return start + tcp(
                text(destination),
                text(source),
                int.from_bytes(ports[:2], "big"),
                int.from_bytes(ports[2:], "big"),
                RST | ACK,
                sequence=0,
                ack=sequence + 1,
            )
        return None

    def flush_egress(self, device, now):
        pass

    def maintenance(self, now):
        pass

    def delay(self, now):
        return None


def text(address):
    return ".".join(map(str, address))


class Machine:
    """A guest with its driver, and all that stands behind its network device."""

    def __init__(self, queues, features, small):
        rx_size = least_receive_place(features) if not small else 64
        rx = connected_virtqueues(64, features, request_size=rx_size)
        tx = connected_virtqueues(64, features, request_size=least_transmit_place(features))
        self.queues = queues
        self.driver = NetworkDriver(rx[0], tx[0])
        self.backend = NetworkBackend(rx[1], tx[1], queues)
        self.loop = NetworkLoop(VirtioNetworkDevice(queues), EchoStack(), gateways=GATEWAYS)


@pytest.fixture(params=[(0, False), (int(NetworkFeatures.MRG_RXBUF), True)], ids=["plain", "merged"])
def merging(request):
    return request.param


@pytest.mark.parametrize("packed_format", FORMATS, ids=["split", "packed"])
def test_a_guest_gets_its_answers_through_everything(queues, packed_format, merging):
    features, small = merging
    features |= VERSION_1 | (PACKED if packed_format else 0)
    machine = Machine(queues, features, small)
    sent = [udp4(payload=bytes([number]) * (30 * number)) for number in range(1, 9)]
    sent += [tcp4(source_port=5000), arp(), tcp6(), tcp4(flags=ACK)]
    for frame in sent:
        machine.driver.send(frame)
    assert machine.backend.process_transmit() == len(sent)
    machine.loop.run_once(0)
    assert machine.backend.process_receive() == 9
    echoes = list(machine.driver.received())
    assert len(echoes) == 9
    for frame, echo in zip(sent, echoes[:8], strict=False):
        assert echo[42:] == frame[42:] and echo[26:34] == frame[30:34] + frame[26:30]
        assert echo[34:38] == struct.pack(">HH", 9999, 4000)
    reset = echoes[8]
    assert reset[:14] == GUEST_MAC + GATEWAY_MAC + b"\x08\x00"
    assert (reset[34:38], reset[47]) == (struct.pack(">HH", 443, 5000), RST | ACK)
    assert struct.unpack_from(">I", reset, 42) == (2,)
    assert checksum(pseudo(OTHER, GUEST, 6, 20) + reset[34:]) == 0
    assert queues.egress_bytes() == sum(map(len, sent))


def test_a_guest_gets_its_answers_from_a_loop_that_runs(queues, merging):
    features, small = merging
    machine = Machine(queues, VERSION_1 | features, small)
    thread = running(machine.loop)
    answers = []
    try:
        for number in range(50):
            machine.driver.send(udp4(payload=number.to_bytes(200, "big")))
            machine.backend.process_transmit()
            assert wake_of(queues, "host_wake").wait(PATIENCE)
            machine.backend.process_receive()
            answers += machine.driver.received()
    finally:
        queues.begin_shutdown()
    assert ended(thread)
    assert [int.from_bytes(answer[42:], "big") for answer in answers] == list(range(50))


def test_a_monitor_gets_its_answers_over_a_stream(queues):
    loop = NetworkLoop(VirtioNetworkDevice(queues), EchoStack(), gateways=GATEWAYS)
    monitor, ours = socket.socketpair()
    monitor.settimeout(PATIENCE)
    bodies = [loop.run, lambda: read_frames(ours, queues), lambda: write_frames(ours, queues)]
    threads = [threading.Thread(target=body, daemon=True) for body in bodies]
    with monitor, ours:
        for thread in threads:
            thread.start()
        decoder, answers = FrameStreamDecoder(), []
        for number in range(50):
            monitor.sendall(encode_frame(arp()) + encode_frame(udp4(payload=number.to_bytes(99, "big"))))
            while len(answers) <= number:
                answers += decoder.feed(monitor.recv(4096))
        monitor.shutdown(socket.SHUT_WR)  # the end of the stream is the end of everything
        assert all(ended(thread) for thread in threads)
    assert [int.from_bytes(answer[42:], "big") for answer in answers] == list(range(50))
    assert queues.is_shutting_down()
