"""Two channels of packets: what arrives, what waits, who must be signaled, and which request is answered.

The model counts bytes and remembers who has published what; it knows no index and no rule of vmbus.ring.

To try a channel of your own, of the kind of PacketChannel:

>>> from vmbus.channel import PacketChannel
>>> class MyChannel(PacketChannel):
...     pass
>>> trial = ChannelTrial(pages=1, start=0, memory="flat", make_channel=MyChannel)
>>> trial.perform("send", {"side": 0, "length": 40, "id": 7})
>>> trial.perform("receive", {"side": 1})
>>> trial.finish()
>>> trial.close()

Sizes are in bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from vmbus.errors import CallerError, TimedOut
from vmbus.ring import IncomingPacketType, Packet

from .arguments import Flag, Listing, Number
from .channel_calls import MOST_REQUESTS, Carried, ChannelCalls
from .channel_under_test import COMMON_CORNERS, PAGES_OF_CHANNELS, PATIENCE, SIDE
from .differences import demand_packets
from .ring_model import LENGTH, MEMORY, START, total_of
from .trial import operation

__all__ = ["ChannelTrial"]

#: So many rings full of packets that answer no request may wait for `receive`; from then on requests are refused.
MOST_KEPT_RINGS = 16

#: How a request ends that gets no answer.
NO_ANSWER = "no answer"
TOO_MANY_KEPT = "too many packets kept"


class ChannelTrial(ChannelCalls):
    """Two channels of packets and two lists, driven from both sides; sending and receiving are in channel_calls.py.

    pages, start, memory, make_memory   of both rings, as in RingTrial
    make_channel                        makes one of the channels, in place of PacketChannel: called with what
                                        a PacketChannel is called with
    """

    name = "channel"
    summary = "two channels of packets: what arrives, what is refused, who is signaled and answered"
    settings = {"pages": PAGES_OF_CHANNELS, "start": START, "memory": MEMORY}  # noqa: RUF012
    CORNERS = (
        "completion awaited and given",
        "packets kept while a request waited",
        "completion of a request that was given up",
        "completion of no request",
        "transaction ids begin again",
        "id of an outstanding request refused",
        "too many requests outstanding",
        "batch that fits in part",
        "packet that could never fit",
        "buffer too small",
        *COMMON_CORNERS,
    )

    # -- requests --------------------------------------------------------------------------------

    @operation(side=SIDE, length=LENGTH, times=Number(1, 5, corners=[1, 1, 1]))
    def request_and_give_up(self, side: int, length: int, times: int) -> None:
        """Nobody answers: what is in the ring is sorted, and a request that was sent stays outstanding."""
        for _ in range(times):
            self.request_once(side, length)

    def request_once(self, side: int, length: int) -> None:
        packet = self.packet(length, flags=1)
        call = partial(self.ends[side].request, packet.payload, timeout=PATIENCE)
        if self.is_refused(side, call):
            return
        model = self.sides[side]
        if not self.find_place(side):
            self.demand_too_many_kept(call)
            return
        if len(model.outstanding) >= MOST_REQUESTS:
            self.demand_nothing(side, call)
            return
        id = self.new_id(side)
        if self.send_is_refused(side, call):
            return
        if packet.total > model.sends.free:
            model.ask(packet.total)
        elif not self.send_request(side, packet, id):
            self.demand_too_many_kept(call)
            return
        with self.demand_raises(TimedOut, "a request that nobody answers"):
            call()

    def find_place(self, side: int) -> bool:
        """Where too many requests are outstanding, look for completions; False as `sort` says it."""
        outstanding = self.sides[side].outstanding
        if len(outstanding) < MOST_REQUESTS:
            return True
        self.corners["too many requests outstanding"] += 1
        return self.sort(side, lambda: len(outstanding) < MOST_REQUESTS)

    def demand_too_many_kept(self, call: Callable[[], object]) -> None:
        """The call is refused: too many packets that answer no request wait for `receive`.

        No corner: it takes more packets than random cases of a few hundred bytes send.
        """
        with self.demand_raises(CallerError, "a request with too many packets kept"):
            try:
                call()
            except CallerError as error:
                self.demand_equal(error.argument, "unsolicited", "what a request is refused for")
                raise

    @operation(side=SIDE, length=LENGTH, answer=LENGTH, others=Listing(LENGTH, 2), also=Flag())
    def request(self, side: int, length: int, answer: int, others: tuple[int, ...], also: bool) -> None:
        """A request that the other side answers while this one sleeps.

        others   packets that it sends before; and behind, if `also`
        """
        packet = self.packet(length, flags=1)
        model, peer = self.sides[side], self.sides[1 - side]
        full = len(model.outstanding) >= MOST_REQUESTS or packet.total > model.sends.free
        if model.closed or peer.closed or full or self.signals[side].while_asleep:
            return
        id = self.new_id(side)
        model.sends.wanted = 0
        self.send_request(side, packet, id)

        def reply() -> None:
            self.receive_up_to(1 - side, id)
            for more in (*others, None, *(others if also else ())):
                total = self.packet(answer if more is None else more).total
                if total > peer.sends.free:
                    continue
                if more is None:
                    self.send_completion(1 - side, answer, id)
                else:
                    self.send(1 - side, more, 0)

        self.signals[side].while_asleep.append(reply)
        try:
            with self.no_error(side):
                found = self.end_of(partial(self.ends[side].request, packet.payload, timeout=PATIENCE))
        finally:
            self.signals[side].while_asleep.clear()
        expected = self.answer_of(side, id)
        if isinstance(found, Packet) and isinstance(expected, Packet):
            demand_packets([found], [expected], "the answer to a request")
        else:
            self.demand_equal(found, expected, "how a request ends")

    def end_of(self, call: Callable[[], Packet]) -> Packet | str:
        """The answer to a request, or why it has none."""
        try:
            return call()
        except TimedOut:
            return NO_ANSWER
        except CallerError as error:
            if error.argument != "unsolicited":
                raise
            return TOO_MANY_KEPT

    def new_id(self, side: int) -> int:
        model = self.sides[side]
        id = model.new_id()
        if id == 1:
            self.corners["transaction ids begin again"] += 1
        return id

    def send_request(self, side: int, packet: Carried, id: int) -> bool:
        """The model sends a request and looks at all that has come; False as `sort` says it."""
        self.sides[side].outstanding.append(id)
        self.put(side, [packet._replace(transaction_id=id)])
        return self.sort(side, lambda: False)

    def receive_up_to(self, side: int, id: int) -> None:
        """Receive until the request with that id has come."""
        model = self.sides[side]
        while any(packet.transaction_id == id for packet in (*model.inbox, *model.receives.waiting)):
            self.receive(side)

    def answer_of(self, side: int, id: int) -> Packet | str:
        """What the model has for a request whose sleep is over, or why it has nothing."""
        model = self.sides[side]
        waiting = list(model.receives.waiting)
        if not self.sort(side, lambda: id not in model.outstanding):
            return TOO_MANY_KEPT
        for packet in waiting:
            if packet.type is IncomingPacketType.COMPLETION and packet.transaction_id == id:
                self.corners["completion awaited and given"] += 1
                return packet
        return NO_ANSWER

    def sort(self, side: int, is_enough: Callable[[], bool]) -> bool:
        """Each packet of the ring goes to its request or is kept, until it is enough or all are gone.

        False where so many are kept that no further one may be looked at.
        """
        model = self.sides[side]
        kept = total_of(model.inbox)
        while kept < MOST_KEPT_RINGS * self.size:
            if not model.receives.waiting:
                model.sleep()
                return True
            [packet] = self.take(side, 1)
            if not model.answers(packet):
                self.corners["packets kept while a request waited"] += 1
                model.inbox.append(packet)
                kept += packet.total
            if is_enough():
                return True
        return False
