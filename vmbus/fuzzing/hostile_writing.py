"""The sending end of a ring under attack, judged after every call.

Whatever the receiver writes into out, a sender stores exactly the bytes of its packets, only where an out that it was
shown leaves room, moves in behind exactly what it was asked to send, and stores no word that is not its own.

Sizes, offsets and lengths are in bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from vmbus.errors import VmbusError
from vmbus.layout import FEATURE_BITS_WORD, IN_WORD, INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import RingMem
from vmbus.ring import IncomingRing, OutgoingOffset, OutgoingRing, advance, free_bytes, is_offset

from .arguments import Choice, Flag, Number
from .hostile_reading import EACH_PACKET, ONE_PACKET, PATIENCE
from .hostile_trial import HostileTrial, Outcome, RingVictim
from .packet_kinds import PACKET_KINDS, PacketKind
from .trial import operation, pattern

__all__ = ["HostileWriting", "WritingVictim"]

LENGTH = Number(0, 1400, corners=[0, 1, 8, 16, 40, 1000])

#: Packets of one send_many.
MOST_IN_BATCH = 12

Spelled = tuple[PacketKind, bytes]


class WritingVictim(RingVictim):
    """An OutgoingRing, and what is known of it.

    in_offset   where its committed packets end
    at          where its open round has come
    shown       the outs that it may work with: the last one that it loaded to find room, and the last at all
    shown_now   these, as they were before the last call, and all that it has loaded
    sent        payloads that an honest receiver must get, as long as nothing is struck
    """

    def __init__(self, inside: RingMem) -> None:
        super().__init__("the writer", inside)
        self.receiver = IncomingRing(inside)
        self.receiver.set_interrupt_mask(False)
        self.ring = OutgoingRing(self.memory)
        self.sent: deque[bytes] = deque()
        self.count = 0
        self.began()

    def began(self) -> None:
        self.in_offset = self.loads(IN_WORD)[-1]
        # Until it has looked it takes nothing for free.
        self.shown = dict.fromkeys(
            ("for room", "last"), advance(self.ring.size, self.in_offset % self.ring.size, 8)
        )
        self.new_round(None)

    def new_round(self, offset: OutgoingOffset | None) -> None:
        self.offset = offset
        self.at = self.in_offset
        self.round: list[Spelled] = []

    def note_shown(self) -> None:
        """The outs that the last call has loaded; the one behind a look at the mask decides about a signal."""
        self.shown_now = set(self.shown.values())
        self.bad = []
        before = -1
        for access in self.accesses:
            if access.what != "load":
                continue
            if access.place == OUT_WORD and not is_offset(self.ring.size, access.value):
                if before != INTERRUPT_MASK_WORD:
                    self.bad.append(access.value)
                elif self.fault is None:
                    self.owed = access.value
            elif access.place == OUT_WORD and is_offset(self.ring.size, access.value):
                self.shown_now.add(access.value)
                self.shown["last"] = access.value
                if before != INTERRUPT_MASK_WORD:
                    self.shown["for room"] = access.value
            before = access.place


class HostileWriting(HostileTrial):
    """The writing half of the trial of a hostile ring."""

    writer: WritingVictim

    # -- the honest past -------------------------------------------------------------------------

    @operation()
    def honest_receive(self) -> None:
        """An honest receiver takes all there is."""
        writer = self.writer
        try:
            packets, _ = writer.receiver.receive_many()
        except VmbusError as error:
            self.demand(
                not writer.quiet, f"an honest receiver of a writer that nobody attacked raised {error}"
            )
            writer.receiver.reset()
            return
        if writer.quiet:
            found = [packet.payload for packet in packets]
            self.demand_equal(found, list(writer.sent), "what an honest receiver got")
            writer.sent.clear()

    # -- in one step -----------------------------------------------------------------------------

    @operation(length=LENGTH, completion_requested=Flag())
    def send(self, length: int, completion_requested: bool) -> None:
        writer = self.writer
        payload = self.new_payload(length)
        kind = PACKET_KINDS["in-band-with-completion" if completion_requested else "in-band"]
        outcome = self.write_call(
            "send",
            lambda: writer.ring.send(payload, kind.transaction_id, completion_requested),
            ONE_PACKET,
        )
        self.wrote([] if outcome.error else [(kind, payload)], at=writer.in_offset)
        if outcome.error is None:
            self.published([(kind, payload)], outcome.result)

    @operation(count=Number(0, MOST_IN_BATCH), length=LENGTH)
    def send_many(self, count: int, length: int) -> None:
        writer = self.writer
        payloads = [self.new_payload(length) for _ in range(count)]
        most = ONE_PACKET + EACH_PACKET * count
        outcome = self.write_call("send_many", lambda: writer.ring.send_many(payloads), most)
        sent, signal = outcome.result or (0, False)
        kind = PACKET_KINDS["in-band"]._replace(transaction_id=0)
        packets = [(kind, payload) for payload in payloads[:sent]]
        # What a batch had stored when an error came is not published: nobody will read it.
        if outcome.error is None:
            self.wrote(packets, at=writer.in_offset)
            if packets:
                self.published(packets, signal)
            else:
                self.demand(signal is False, "nothing was sent, and a signal asked for")

    # -- in steps --------------------------------------------------------------------------------

    @operation(kind=Choice(*PACKET_KINDS), length=LENGTH)
    def write(self, kind: str, length: int) -> None:
        """One packet of a round, filled at once."""
        writer = self.writer
        payload = self.new_payload(length)
        spelled = PACKET_KINDS[kind]
        outcome = self.write_call("write", lambda: self.write_next(spelled, payload), ONE_PACKET)
        at = writer.at
        self.wrote([] if outcome.error else [(spelled, payload)], at=at)
        if outcome.error is None:
            writer.at = advance(writer.ring.size, at, spelled.size(length))
            writer.round.append((spelled, payload))

    def write_next(self, kind: PacketKind, payload: bytes) -> None:
        writer = self.writer
        if writer.offset is None:
            writer.new_round(writer.ring.outgoing())
        assert writer.offset is not None
        where = writer.ring.write(writer.offset, kind.outgoing(len(payload)))
        where.writer(writer.ring).write(payload)

    @operation()
    def revert_write(self) -> None:
        if self.writer.offset is not None:
            self.writer.offset.revert()
            self.writer.new_round(self.writer.offset)

    @operation()
    def commit_write(self) -> None:
        writer = self.writer
        offset, packets = writer.offset, writer.round
        if offset is None:
            return
        outcome = self.write_call(
            "commit_write", lambda: writer.ring.commit_write(offset), ONE_PACKET, commits=True
        )
        self.wrote([], at=writer.in_offset)
        if packets:
            self.published(packets, outcome.result)

    # -- what publishes nothing ------------------------------------------------------------------

    @operation(length=Number(0, 4088, corners=[0, 8, 40, 4088]))
    def pending(self, length: int) -> None:
        ring = self.writer.ring
        self.write_call("set_pending_send_size", lambda: ring.set_pending_send_size(length), 2)
        stored = self.writer.stores(PENDING_SEND_SIZE_WORD)
        self.demand(
            all(length <= value < length + 8 for value in stored), f"pending size {stored} for {length}"
        )

    @operation(length=LENGTH)
    def ask_writer(self, length: int) -> None:
        ring = self.writer.ring
        self.write_call("can_write", lambda: ring.can_write(ring.outgoing(), length), 2)

    @operation()
    def reset_writer(self) -> None:
        writer = self.writer
        if writer.fault is None:
            return
        writer.fault = None
        writer.refusals = 0
        self.write_call("reset", writer.ring.reset, 1)
        writer.began()

    # -- judging ---------------------------------------------------------------------------------

    def write_call(
        self, call: str, function: Callable[[], Any], most: int, *, parts: bool = False, **options: Any
    ) -> Outcome:
        """A call of the writer; `parts`: it leaves it at what it could write, and the next one raises."""
        writer = self.writer
        outcome = self.attempt(writer, call, function, most=most, **options)
        self.check_stores(writer, (IN_WORD, PENDING_SEND_SIZE_WORD, FEATURE_BITS_WORD))
        writer.note_shown()
        self.check_index(writer, call, outcome, writer.bad, parts)
        if outcome.error is not None:
            self.demand(not writer.stores(IN_WORD), f"{call} raised an error and moved in")
        if writer.refusals >= PATIENCE:
            self.put_writer_right()
        return outcome

    def put_writer_right(self) -> None:
        """Somebody empties the ring where the writer is, and all trust it again."""
        writer = self.writer
        control = writer.inside.control
        control[IN_WORD] = control[OUT_WORD] = (
            writer.in_offset if is_offset(writer.ring.size, writer.in_offset) else 0
        )
        writer.receiver.reset()
        writer.put_right()
        writer.sent.clear()
        self.write_call("reset", writer.ring.reset, 1)
        writer.began()

    def wrote(self, packets: Sequence[Spelled], *, at: int) -> None:
        """The last call has stored the bytes of these packets from `at` on, where there was room, and no others."""
        writer = self.writer
        size = writer.ring.size
        expected, found = Stored(size), Stored(size)
        end = at
        for kind, payload in packets:
            total = kind.size(len(payload))
            # Judged by itself: a receiver that moves out into a round that is not committed harms itself alone.
            room = max(free_bytes(size, end, out) for out in writer.shown_now)
            self.demand(total <= room, f"{total} bytes were stored at {end:#x}, with {room} free")
            expected.store(end, kind.whole(payload, end))
            end = advance(size, end, total)
        for access in writer.accesses:
            if access.what == "write":
                found.store(access.place, access.value)
        self.demand(
            found.data == expected.data, f"{len(packets)} packets at {at:#x} are not the bytes stored"
        )
        self.demand(
            found.where == expected.where, f"bytes were stored beside {len(packets)} packets at {at:#x}"
        )

    def published(self, packets: Sequence[Spelled], signal: object) -> None:
        """In has moved behind these packets, once."""
        writer = self.writer
        size = writer.ring.size
        end = writer.in_offset
        for kind, payload in packets:
            end = advance(size, end, kind.size(len(payload)))
        self.demand_equal(writer.stores(IN_WORD), [end], "the values stored in in")
        self.demand(signal in (True, False), f"a signal is asked for or not, and not {signal!r}")
        writer.in_offset = end
        writer.new_round(None)
        if writer.quiet:
            writer.sent += [kind.received(payload).payload for kind, payload in packets]

    def new_payload(self, length: int) -> bytes:
        self.writer.count += 1
        return pattern(length, self.writer.count)


class Stored:
    """Which bytes of a ring were stored, and what."""

    def __init__(self, size: int) -> None:
        self.data = bytearray(size)
        self.where = bytearray(size)

    def store(self, offset: int, data: bytes) -> None:
        size = len(self.data)
        offset %= size
        first = size - offset
        for at, part in ((offset, data[:first]), (0, data[first:])):
            self.data[at : at + len(part)] = part
            self.where[at : at + len(part)] = b"\1" * len(part)
