"""The loop that drives a user-space network stack from a guest's frames.

Each round looks at every frame of the guest before the stack does, and decides by a table whether the
stack gets it; then it lets the stack send, moves what the relays have, and sleeps until there is
something to do.  The stack, and what happens to connections and datagrams outside, are the caller's.

Times are in seconds.

Sources: smolvm smolvm-network, its poll loop; smoltcp src/iface/interface, poll_ingress_single and
poll_egress.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Container, Mapping
from enum import Enum
from typing import Protocol

from vmbus.virtio import (
    DNS_PORT,
    ETHERNET_HEADER,
    Classified,
    FrameClass,
    IpEndpoint,
    VirtioNetworkDevice,
    classify_frame,
)

from .wakes import wake_of

__all__ = [
    "FRAME_ACTIONS",
    "LONGEST_LOOP_SLEEP",
    "FrameAction",
    "FrameFate",
    "IngressResult",
    "NetworkHooks",
    "NetworkLoop",
    "NetworkStack",
]

#: Seconds that the loop sleeps at most: relays without a wake are looked at that often.
LONGEST_LOOP_SLEEP = 0.1


class IngressResult(Enum):
    """What a stack made of the one frame that it was offered."""

    NONE = "it took nothing"
    PACKET_PROCESSED = "it took the frame"
    SOCKET_STATE_CHANGED = "it took the frame, and a socket has changed"


class NetworkStack(Protocol):
    """A TCP/IP stack over a VirtioNetworkDevice."""

    def ingest(self, device: VirtioNetworkDevice, now: float) -> IngressResult:
        """Take the staged frame by `device.receive`, and answer it by the token where that is due."""
        ...

    def flush_egress(self, device: VirtioNetworkDevice, now: float) -> None:
        """Send what is to be sent, by `device.transmit`, until that is nothing or there is no room."""
        ...

    def maintenance(self, now: float) -> None:
        """Let timers run."""
        ...

    def delay(self, now: float) -> float | None:
        """Seconds until the stack has something to do by itself; None for never."""
        ...


class NetworkHooks:
    """What happens outside the stack: who may talk to whom, and the relays that carry it.

    Subclass it and write what you need; what is here allows every datagram, relays nothing and keeps
    no record.

    >>> NetworkHooks().allow_udp(IpEndpoint(bytes([192, 0, 2, 1]), 53))
    True
    """

    def has_connection(self, source: IpEndpoint, destination: IpEndpoint) -> bool:
        """Whether a connection between the two is relayed already."""
        return False

    def open_connection(self, source: IpEndpoint, destination: IpEndpoint) -> bool:
        """Make a listening socket and a relay for it; False when there is no room, or it is denied."""
        return False

    def allow_udp(self, destination: IpEndpoint) -> bool:
        """Whether the guest may send datagrams there."""
        return True

    def open_udp(self, destination: IpEndpoint) -> bool:
        """Have a socket for that destination, a new one or the one there is; False when all are taken."""
        return True

    def denied(self, classified: Classified) -> None:
        """Record that a datagram was not allowed."""

    def forward_to_fabric(self, member: int, packet: bytes) -> None:
        """Hand a bare IPv4 packet to another member."""

    def accept_connections(self, now: float) -> None:
        """Take connections that come from the host."""

    def relay_tcp(self, now: float) -> None:
        """Move the data of connections, both ways."""

    def relay_dns(self, now: float) -> None:
        """Move queries and answers."""

    def relay_udp(self, now: float) -> None:
        """Move datagrams."""

    def relay_icmp(self, now: float) -> None:
        """Move echo requests and replies."""

    def take_established(self, now: float) -> None:
        """Begin to relay what has been connected since."""

    def clean_up(self, now: float) -> None:
        """Let go of what has ended."""


class FrameAction(Enum):
    """What the loop does with a frame."""

    INGEST = "the stack gets it"
    CONNECT = "a relay is made unless there is one, and the stack gets it either way: it may answer a reset"
    ASK = "the stack gets it when the policy allows it and a socket is free; else it is dropped"
    DROP = "it is dropped"
    FORWARD = "its packet goes to another member"


#: What is done with each class of frame.
FRAME_ACTIONS: Mapping[FrameClass, FrameAction] = {
    FrameClass.TCP_SYN: FrameAction.CONNECT,
    FrameClass.DNS_QUERY: FrameAction.INGEST,
    FrameClass.PASSTHROUGH: FrameAction.INGEST,
    FrameClass.UNSUPPORTED_UDP: FrameAction.DROP,
    FrameClass.UDP_FLOW: FrameAction.ASK,
    FrameClass.FABRIC: FrameAction.FORWARD,
}


class FrameFate(Enum):
    """What became of a frame."""

    INGESTED = "ingested"
    NOT_TAKEN = "offered to the stack, which did not take it"
    DROPPED = "dropped: not supported"
    DENIED = "dropped: the policy denies it"
    NO_SOCKET = "dropped: all sockets are taken"
    FORWARDED = "forwarded to the fabric"


class NetworkLoop:
    """The loop over one guest's device.

    device         the guest's frames; its queues' host_wake is woken when there are answers
    stack          the TCP/IP stack
    hooks          policy and relays; by default every datagram is allowed, and nothing relayed
    classify       what a frame is
    gateways, fabric_index   as for `classify_frame`

    `fates` counts what became of the guest's frames.

    One round takes at most as many frames as the queue holds, so that a guest that never stops
    sending does not keep the rest from being done.

    `run` begins the shutdown of the queues however it ends.
    """

    def __init__(
        self,
        device: VirtioNetworkDevice,
        stack: NetworkStack,
        hooks: NetworkHooks | None = None,
        *,
        gateways: Container[bytes] = frozenset(),
        fabric_index: int | None = None,
        classify: Callable[[bytes], Classified] | None = None,
    ) -> None:
        self.device = device
        self.queues = device.queues
        self.stack = stack
        self.hooks = NetworkHooks() if hooks is None else hooks
        self.fates: Counter[FrameFate] = Counter()
        self._classify = classify
        self._gateways = gateways
        self._fabric_index = fabric_index
        self._do: Mapping[FrameAction, Callable[[bytes, Classified, float], FrameFate]] = {
            FrameAction.INGEST: self._ingest,
            FrameAction.CONNECT: self._connect,
            FrameAction.ASK: self._ask,
            FrameAction.DROP: self._drop,
            FrameAction.FORWARD: self._forward,
        }

    def run(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Go round until a shutdown begins, and sleep where there is nothing to do.

        Raises CallerError when nobody can wait for the queues' guest_wake.
        """
        wake = wake_of(self.queues, "guest_wake")
        try:
            while (delay := self.run_once(clock())) is not None:
                wake.wait(delay)
                wake.drain()
        finally:
            self.queues.begin_shutdown()

    def run_once(self, now: float) -> float | None:
        """One round; how many seconds may be slept afterwards, None when a shutdown has begun."""
        if self.queues.is_shutting_down():
            return None
        self._take_frames(now)
        self.hooks.accept_connections(now)
        self.stack.flush_egress(self.device, now)
        self.stack.maintenance(now)
        self._wake_writer()
        self.hooks.relay_tcp(now)
        self.hooks.relay_dns(now)
        self.hooks.relay_udp(now)
        self.hooks.relay_icmp(now)
        self.hooks.take_established(now)
        self.hooks.clean_up(now)
        self.stack.flush_egress(self.device, now)
        self._wake_writer()
        return self._delay(now)

    def _take_frames(self, now: float) -> None:
        for _ in range(self.queues.guest_to_host.capacity):
            frame = self.device.stage_next_frame()
            if frame is None:
                return
            classified = self._class_of(frame)
            fate = self._do[FRAME_ACTIONS[classified.frame_class]](frame, classified, now)
            # Whatever was done: a frame that stays would be staged again and again.
            self.device.drop_staged_frame()
            self.fates[fate] += 1

    def _class_of(self, frame: bytes) -> Classified:
        if self._classify is not None:
            return self._classify(frame)
        return classify_frame(frame, gateways=self._gateways, fabric_index=self._fabric_index)

    def _ingest(self, frame: bytes, classified: Classified, now: float) -> FrameFate:
        result = self.stack.ingest(self.device, now)
        taken = result is not IngressResult.NONE and self.device.staged_frame is None
        return FrameFate.INGESTED if taken else FrameFate.NOT_TAKEN

    def _connect(self, frame: bytes, classified: Classified, now: float) -> FrameFate:
        source, destination = classified.source, classified.destination
        assert source is not None and destination is not None, "TCP has ports"
        if not self.hooks.has_connection(source, destination):
            self.hooks.open_connection(source, destination)
        return self._ingest(frame, classified, now)

    def _ask(self, frame: bytes, classified: Classified, now: float) -> FrameFate:
        destination = classified.destination
        assert destination is not None, "UDP has ports"
        if not self.hooks.allow_udp(destination):
            if destination.port != DNS_PORT:
                self.hooks.denied(classified)
            return FrameFate.DENIED
        if not self.hooks.open_udp(destination):
            return FrameFate.NO_SOCKET
        return self._ingest(frame, classified, now)

    def _drop(self, frame: bytes, classified: Classified, now: float) -> FrameFate:
        return FrameFate.DROPPED

    def _forward(self, frame: bytes, classified: Classified, now: float) -> FrameFate:
        assert classified.member is not None, "it is for a member"
        self.hooks.forward_to_fabric(classified.member, frame[ETHERNET_HEADER.size :])
        return FrameFate.FORWARDED

    def _wake_writer(self) -> None:
        if self.device.take_frames_emitted():
            self.queues.host_wake.wake()

    def _delay(self, now: float) -> float:
        if len(self.queues.guest_to_host):
            return 0.0
        delay = self.stack.delay(now)
        return LONGEST_LOOP_SLEEP if delay is None else min(max(delay, 0.0), LONGEST_LOOP_SLEEP)

    def __repr__(self) -> str:
        return f"<NetworkLoop: {sum(self.fates.values())} frames, over {self.device!r}>"
