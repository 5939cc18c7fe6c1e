"""Memories, signals, rings and channels that are each wrong in one thing: for each conformance check the twin that
it is made to find.

Each is one of ours but for the few lines that are wrong.
"""

from __future__ import annotations

import time

from vmbus.channel import ByteChannel, LocalSignal, MessageChannel, PacketChannel, connected_channels
from vmbus.errors import CallerError, NotReady, PeerClosed, PeerError, RingEmpty, RingFull, TimedOut
from vmbus.layout import INTERRUPT_MASK_WORD, OUT_WORD, PENDING_SEND_SIZE_WORD
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingPacketType, IncomingRing, OutgoingOffset, OutgoingRing, Packet, PacketSize

FOR_EVER = 3600

# -- memories --------------------------------------------------------------------------------------


class Words:
    """Control words that go through Python, to be made wrong."""

    readonly = False

    def __init__(self, words):
        self.words = words

    def __getitem__(self, word):
        return self.words[word]

    def __setitem__(self, word, value):
        self.words[word] = value


class ReadOnlyWords(Words):
    readonly = True


class SixteenWords(Words):
    def __getitem__(self, word):
        return self.words[word % 16]

    def __setitem__(self, word, value):
        self.words[word % 16] = value


class WordsStoredInHalves(Words):
    def __setitem__(self, word, value):
        self.words[word] = self.words[word] & 0xFFFF0000 | value & 0xFFFF
        self.words[word] = value


class WordsLoadedInHalves(Words):
    def __getitem__(self, word):
        low = self.words[word] & 0xFFFF
        return self.words[word] & 0xFFFF0000 | low


def memory_with(words):
    class Memory(FlatRingMem):
        @property
        def control(self):
            return words(self._control)

    return Memory


class WrongSize(FlatRingMem):
    size = property(lambda self: self._size - 8)


class ControlIsACopy(FlatRingMem):
    @property
    def control(self):
        return memoryview(bytearray(self._control)).cast("I")


class ReadIsAView(FlatRingMem):
    def read_at(self, offset, length):
        return self._data[offset : offset + length]


class NoWrap(FlatRingMem):
    def write_at(self, offset, data):
        room = max(self._size - offset, 0)
        super().write_at(min(offset, self._size), bytes(data)[:room])


class SecondHalfOfAWriteLost(FlatRingMem):
    """A write is torn at a page's edge."""

    def write_at(self, offset, data):
        super().write_at(offset, bytes(data)[: 4096 - offset % 4096])


class DataOverControl(FlatRingMem):
    def __init__(self, size):
        block = bytearray(4096 + size)
        self._data = memoryview(block)[64 : 64 + size]
        self._prepare([block], size, None)


class RecordsTooFarForward(FlatRingMem):
    def packer(self, record):
        return lambda offset, *values: self.write_at(offset + 8, record.pack(*values))


class FenceThatStores(FlatRingMem):
    def __init__(self, size):
        super().__init__(size)
        self.fence = lambda: self._control.__setitem__(0, 0)


MEMORY_TWINS = [
    ("size-is-as-asked", WrongSize),
    ("writable", memory_with(ReadOnlyWords)),
    ("control-words-are-32", memory_with(SixteenWords)),
    ("control-words-are-live", ControlIsACopy),
    ("control-words-are-whole", memory_with(WordsStoredInHalves)),
    ("control-words-are-whole", memory_with(WordsLoadedInHalves)),
    ("read-is-a-copy", ReadIsAView),
    ("accesses-wrap", NoWrap),
    ("accesses-wrap", SecondHalfOfAWriteLost),
    ("data-and-control-are-apart", DataOverControl),
    ("records-are-their-bytes", RecordsTooFarForward),
    ("fences-change-nothing", FenceThatStores),
]

# -- signals ---------------------------------------------------------------------------------------


def pair_of(kind):
    near, far = kind(), kind()
    near._peer, far._peer = far, near
    return near, far


class AlwaysAReason(LocalSignal):
    def wait(self, timeout):
        return True


class IgnoresTheTimeout(LocalSignal):
    def wait(self, timeout):
        return super().wait(0)


class LosesWhatCameBefore(LocalSignal):
    def wait(self, timeout):
        super().wait(0)
        return super().wait(timeout)


class SleepsWithoutLooking(LocalSignal):
    def wait(self, timeout):
        if not super().wait(0):
            time.sleep(FOR_EVER if timeout is None else min(timeout, FOR_EVER))
            return super().wait(0)
        return True


class MayNotWake(LocalSignal):
    def notify(self):
        """Nobody is told."""


class TellsItself(LocalSignal):
    def notify(self):
        super().notify()
        self.wake()


class KeepsItsReason(LocalSignal):
    def wait(self, timeout):
        found = super().wait(timeout)
        if found:
            self.wake()
        return found


class NotifyWaits(LocalSignal):
    def notify(self):
        while not self._peer._untold.locked():
            time.sleep(0.001)
        super().notify()


class CannotBeWoken(LocalSignal):
    def wake(self):
        if not self.waking_is_lost:
            super().wake()

    waking_is_lost = True

    def notify(self):
        LocalSignal.wake(self._peer)


class WakesSleepersOnly(LocalSignal):
    sleeping = False

    def wait(self, timeout):
        self.sleeping = True
        try:
            return super().wait(timeout)
        finally:
            self.sleeping = False

    def wake(self):
        if self.sleeping:
            super().wake()


class LosesEveryTenth(LocalSignal):
    told = 0

    def notify(self):
        self.told += 1
        if self.told % 10:
            super().notify()


class ThinksItIsAlone(LocalSignal):
    def wait(self, timeout):
        self.peer_closed = True
        return super().wait(timeout)


class ClosesInSilence(LocalSignal):
    def close(self):
        self._peer.peer_closed = True


class DoesNotReportTheClose(LocalSignal):
    def close(self):
        self._peer.wake()


class ClosesOnce(LocalSignal):
    is_closed = False

    def close(self):
        if self.is_closed:
            raise OSError("closed already")
        self.is_closed = True
        super().close()


SIGNAL_TWINS = [
    ("nothing-told-is-no-reason", AlwaysAReason),
    ("wait-lasts-its-time", IgnoresTheTimeout),
    ("earlier-notify-ends-a-wait", LosesWhatCameBefore),
    ("notify-wakes-a-sleeper", SleepsWithoutLooking),
    ("notify-wakes-a-sleeper", MayNotWake),
    ("notify-is-for-the-other-side", TellsItself),
    ("reason-is-taken-by-a-wait", KeepsItsReason),
    ("notify-never-waits", NotifyWaits),
    ("wake-ends-the-own-wait", CannotBeWoken),
    ("earlier-wake-ends-a-wait", WakesSleepersOnly),
    ("no-signal-is-missed", LosesEveryTenth),
    ("nobody-is-closed-yet", ThinksItIsAlone),
    ("close-wakes-the-other-side", ClosesInSilence),
    ("earlier-close-ends-a-wait", DoesNotReportTheClose),
    ("close-again-is-harmless", ClosesOnce),
]

# -- rings -----------------------------------------------------------------------------------------


class ForgetsToMask(IncomingRing):
    def __init__(self, memory):
        super().__init__(memory)
        self._control[INTERRUPT_MASK_WORD] = 0


class EmptyIsAPacket(IncomingRing):
    def receive(self):
        try:
            return super().receive()
        except RingEmpty:
            return Packet(IncomingPacketType.IN_BAND, 0, b""), False


class NoFooter(OutgoingRing):
    def write(self, offset, packet):
        where = super().write(offset, packet)
        self.memory.write_at((offset.next_in - 8) % self.size, bytes(8))
        return where


class DropsFlags(IncomingRing):
    def receive(self):
        packet, signal = super().receive()
        return packet._replace(flags=0), signal


class BatchBackwards(OutgoingRing):
    def send_many(self, payloads):
        return super().send_many(list(payloads)[::-1])


class NeverQuiteFull(OutgoingRing):
    def send(self, payload, transaction_id=0, completion_requested=False):
        total = PacketSize.in_band(len(payload))
        if total + 8 <= self.maximum_packet_size() and not self.can_write(self.outgoing(), total + 8):
            raise RingFull("one slot is kept free", needed=total, free=total)
        return super().send(payload, transaction_id, completion_requested)


class FullWithoutNumbers(OutgoingRing):
    def send(self, *arguments):
        try:
            return super().send(*arguments)
        except RingFull:
            raise RingFull("full") from None


class TooLargeIsFull(OutgoingRing):
    def send(self, *arguments):
        try:
            return super().send(*arguments)
        except CallerError:
            raise RingFull("full") from None


class RevertForgotten(OutgoingRing):
    class Offset(OutgoingOffset):
        __slots__ = ()

        def revert(self):
            """Nothing is taken back."""

    def outgoing(self):
        return self.Offset(self, self._own_index, self._commits)


class SignalsAlwaysAfterAWrite(OutgoingRing):
    def _commit(self, end):
        super()._commit(end)
        return True


class NeverSignalsAfterAWrite(OutgoingRing):
    def _commit(self, end):
        super()._commit(end)
        return False


class IgnoresTheMask(OutgoingRing):
    def _commit(self, end):
        before = self._published
        super()._commit(end)
        return self._control[OUT_WORD] == before


class SignalsAlwaysAfterARead(IncomingRing):
    def _commit(self, end):
        super()._commit(end)
        return True


class NeverSignalsAfterARead(IncomingRing):
    def _commit(self, end):
        super()._commit(end)
        return False


class PendingNotRounded(OutgoingRing):
    def set_pending_send_size(self, length):
        super().set_pending_send_size(length)
        self._control[PENDING_SEND_SIZE_WORD] = length


class ReadsItsIndexBack(IncomingRing):
    def receive(self):
        self._own_index = self._published = self._control[OUT_WORD]
        return super().receive()


class BadIndexIsEmpty(IncomingRing):
    def receive(self):
        try:
            return super().receive()
        except PeerError as error:
            raise RingEmpty(str(error)) from None


class StepsOverTheBroken(IncomingRing):
    def receive(self):
        try:
            return super().receive()
        except PeerError:
            self.reset()
            self._commit(self._control[0])
            return super().receive()


class CutsToTheBuffer(IncomingRing):
    def receive_into(self, buffer):
        packet, signal = self.receive()
        buffer[:] = packet.payload[: len(buffer)]
        return len(buffer), signal


def without(end, fence):
    """An end of a ring that leaves out one kind of fence."""

    class Unfenced(end):
        def __init__(self, memory):
            super().__init__(memory)
            setattr(self, f"_{fence}", bool)

    return Unfenced


class MasksWithoutAFence(IncomingRing):
    def set_interrupt_mask(self, masked):
        self._masked = masked
        self._control[INTERRUPT_MASK_WORD] = int(masked)


class AsksWithoutAFence(OutgoingRing):
    def set_pending_send_size(self, length):
        self._control[PENDING_SEND_SIZE_WORD] = length


class IndexBeforeBytes(OutgoingRing):
    def send(self, payload, transaction_id=0, completion_requested=False):
        signal = super().send(payload, transaction_id, completion_requested)
        self.memory.write_at((self._own_index - 8) % self.size, bytes(8))
        return signal


class PublishesEachOfABatch(OutgoingRing):
    def send_many(self, payloads):
        signals = []
        for payload in payloads:
            try:
                signals.append(self.send(payload))
            except NotReady:
                break
        return len(signals), any(signals)


class ReadsTheDescriptorTwice(IncomingRing):
    def receive(self):
        self.memory.read_at(self._own_index, 16)
        return super().receive()


#: The check, and sender and receiver.
RING_TWINS = [
    ("construction-writes-what-it-must", OutgoingRing, ForgetsToMask),
    ("empty-ring-is-empty", OutgoingRing, EmptyIsAPacket),
    ("packets-lie-as-the-format-says", NoFooter, IncomingRing),
    ("packets-come-out-as-they-went-in", OutgoingRing, DropsFlags),
    ("one-step-does-what-the-steps-do", BatchBackwards, IncomingRing),
    ("ring-fills-to-its-last-slot", NeverQuiteFull, IncomingRing),
    ("full-ring-says-what-is-needed", FullWithoutNumbers, IncomingRing),
    ("too-large-is-the-callers-error", TooLargeIsFull, IncomingRing),
    ("reverted-is-undone", RevertForgotten, IncomingRing),
    ("reader-is-signaled-when-an-emptiness-ends", SignalsAlwaysAfterAWrite, IncomingRing),
    ("reader-is-signaled-when-an-emptiness-ends", NeverSignalsAfterAWrite, IncomingRing),
    ("mask-silences-the-sender", IgnoresTheMask, IncomingRing),
    ("writer-is-signaled-once-there-is-room", OutgoingRing, SignalsAlwaysAfterARead),
    ("writer-is-signaled-once-there-is-room", OutgoingRing, NeverSignalsAfterARead),
    ("pending-size-counts-whole-slots", PendingNotRounded, IncomingRing),
    ("own-index-is-private", OutgoingRing, ReadsItsIndexBack),
    ("bad-index-is-the-peers-error", OutgoingRing, BadIndexIsEmpty),
    ("broken-packet-is-the-peers-error", OutgoingRing, StepsOverTheBroken),
    ("small-buffer-leaves-the-packet", OutgoingRing, CutsToTheBuffer),
    ("write-goes-in-order", without(OutgoingRing, "fence"), IncomingRing),
    ("write-goes-in-order", without(OutgoingRing, "release"), IncomingRing),
    ("write-goes-in-order", without(OutgoingRing, "acquire"), IncomingRing),
    ("write-goes-in-order", IndexBeforeBytes, IncomingRing),
    ("read-goes-in-order", OutgoingRing, without(IncomingRing, "fence")),
    ("read-goes-in-order", OutgoingRing, without(IncomingRing, "release")),
    ("read-goes-in-order", OutgoingRing, without(IncomingRing, "acquire")),
    ("unmasking-is-fenced", OutgoingRing, MasksWithoutAFence),
    ("asking-for-room-is-fenced", AsksWithoutAFence, IncomingRing),
    ("batch-publishes-once", PublishesEachOfABatch, IncomingRing),
    ("descriptor-is-read-once", OutgoingRing, ReadsTheDescriptorTwice),
]

# -- channels --------------------------------------------------------------------------------------


class Truncates(PacketChannel):
    def send(self, payload, *arguments, **named):
        super().send(payload[:64], *arguments, **named)


class Reorders(MessageChannel):
    def receive(self, timeout=None):
        if not hasattr(self, "later"):
            self.later = super().receive(timeout)
            return super().receive(timeout)
        later, self.later = self.later, b""
        return later or super().receive(timeout)


class ReceivesForEver(PacketChannel):
    def receive(self, timeout=None):
        return super().receive(None)


class ReceiverSleepsUnseen(PacketChannel):
    def receive(self, timeout=None):
        try:
            return super().receive(0)
        except TimedOut:
            time.sleep(FOR_EVER if timeout is None else min(timeout, FOR_EVER))
            return super().receive(0)


class LosesWhatDoesNotFit(PacketChannel):
    def send(self, payload, *arguments, timeout=None):
        try:
            super().send(payload, *arguments, timeout=0)
        except TimedOut:
            """The packet is lost."""


class SenderSleepsUnseen(PacketChannel):
    def send(self, payload, *arguments, timeout=None):
        try:
            super().send(payload, *arguments, timeout=0)
        except TimedOut:
            if timeout != 0:
                time.sleep(FOR_EVER)
            raise


class LosesOneOfMany(PacketChannel):
    sent = 0

    def send(self, *arguments, **named):
        self.sent += 1
        if self.sent != 150:
            super().send(*arguments, **named)


class SignalsThreeTimes(PacketChannel):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.signals_left = 3
        self._work._notify = self.notify

    def notify(self):
        self.signals_left -= 1
        if self.signals_left >= 0:
            self.signal.notify()


class ForgetsWhatWasSent(PacketChannel):
    def receive(self, timeout=None):
        self.signal.wait(0)
        if self.peer_closed:
            raise PeerClosed("the other side is closed")
        return super().receive(timeout)


class ClosesWithoutAWord(PacketChannel):
    def _finish_closing(self):
        """The signal is not closed."""


class LeavesItsOwnWaits(PacketChannel):
    def close(self):
        self.signal.close()


class TakesWhatIsLate(PacketChannel):
    def send(self, *arguments, **named):
        if not self.closed:
            super().send(*arguments, **named)


class StaysOpenBehindWith(PacketChannel):
    def __exit__(self, *error):
        """Left open."""


class TooLongTimesOut(PacketChannel):
    def send(self, *arguments, **named):
        try:
            super().send(*arguments, **named)
        except CallerError:
            raise TimedOut("it did not fit") from None


class CutsPacketsToTheBuffer(PacketChannel):
    def receive_into(self, buffer, timeout=None):
        payload = self.receive(timeout).payload[: len(buffer)]
        buffer[: len(payload)] = payload
        return len(payload)


class CutsMessagesToTheBuffer(MessageChannel):
    def receive_into(self, buffer, timeout=None):
        message = self.receive(timeout)[: len(buffer)]
        buffer[: len(message)] = message
        return len(message)


class IteratesIntoTheClose(PacketChannel):
    def __iter__(self):
        while True:
            yield self.receive()


class ForgetsTheId(PacketChannel):
    def send(self, payload, transaction_id=0, completion_requested=False, timeout=None):
        super().send(payload, 0, completion_requested, timeout)


class TakesAnyAnswer(PacketChannel):
    def request(self, payload, timeout=None):
        self.send(payload, 1, timeout=timeout)
        return self.receive(timeout)


class IgnoresTheLimit(PacketChannel):
    def receive_many(self, limit=None, timeout=None):
        return super().receive_many(None, timeout)


class PadsMessages(MessageChannel):
    def send(self, *buffers, timeout=None):
        whole = b"".join(buffers)
        super().send(whole + bytes(-len(whole) % 8), timeout=timeout)


class PromisesTooMuch(MessageChannel):
    @property
    def maximum_message_size(self):
        return super().maximum_message_size + 1


class EndIsTheWholeClose(ByteChannel):
    def send_end(self, timeout=None):
        super().send_end(timeout)
        self.close()


class LosesTheEnd(ByteChannel):
    def send_end(self, timeout=None):
        """Half a close that nobody hears of."""


class CloseLooksLikeTheEnd(ByteChannel):
    def receive(self, limit=65536, timeout=None):
        try:
            return super().receive(limit, timeout)
        except PeerClosed:
            return b""


class GivesMoreThanAskedFor(ByteChannel):
    def receive(self, limit=65536, timeout=None):
        return super().receive(65536, timeout)


CHANNEL_TWINS = [
    ("payloads-arrive-in-order", Truncates),
    ("payloads-arrive-in-order", Reorders),
    ("empty-wait-ends-in-time", ReceivesForEver),
    ("sleeping-receiver-is-woken", ReceiverSleepsUnseen),
    ("full-channel-pushes-back", LosesWhatDoesNotFit),
    ("sleeping-sender-is-woken", SenderSleepsUnseen),
    ("nothing-is-lost-both-ways-at-once", LosesOneOfMany),
    ("no-wake-up-is-lost", SignalsThreeTimes),
    ("sent-before-a-close-is-received", ForgetsWhatWasSent),
    ("close-ends-the-other-sides-waits", ClosesWithoutAWord),
    ("close-ends-the-own-waits", LeavesItsOwnWaits),
    ("closed-channel-refuses-calls", TakesWhatIsLate),
    ("with-statement-closes", StaysOpenBehindWith),
    ("too-long-is-the-callers-error", TooLongTimesOut),
    ("small-buffer-leaves-it", CutsPacketsToTheBuffer),
    ("small-buffer-leaves-it", CutsMessagesToTheBuffer),
    ("iteration-ends-at-a-close", IteratesIntoTheClose),
    ("packets-keep-what-they-say", ForgetsTheId),
    ("request-gets-its-completion", TakesAnyAnswer),
    ("requests-are-told-apart", TakesAnyAnswer),
    ("batches-arrive-whole", IgnoresTheLimit),
    ("messages-keep-their-length", PadsMessages),
    ("longest-message-goes-through", PromisesTooMuch),
    ("end-is-half-a-close", EndIsTheWholeClose),
    ("end-wakes-the-receiver", LosesTheEnd),
    ("close-is-not-the-end-of-a-stream", CloseLooksLikeTheEnd),
    ("bytes-go-in-any-portions", GivesMoreThanAskedFor),
]

KINDS = {PacketChannel: "packets", MessageChannel: "messages", ByteChannel: "bytes"}


def carries(kind):
    """What a kind of channel carries, as check_channel calls it."""
    return next(word for base, word in KINDS.items() if issubclass(kind, base))


def channels_of(kind):
    return lambda: connected_channels(4096, kind=kind)
