"""The receiving end of a ring.

Order of a read: load in, acquire, load the packet's bytes, release, store out, full fence, load
the pending send size, acquire, load in.  Without the fence the sender could publish its wish and
the receiver its space, and neither see the other's: both would sleep.

Sources: OpenVMM vmbus_ring/src/lib.rs, IncomingRing; Linux drivers/hv/ring_buffer.c,
hv_pkt_iter_close().
"""

from __future__ import annotations

from typing import Any

from vmbus.errors import CallerError, PeerError, RingEmpty
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FEATURE_BITS_WORD,
    FOOTER_SIZE,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PACKET_DESCRIPTOR,
    PENDING_SEND_SIZE_WORD,
    PLAIN_DATA_OFFSET8,
    SMALLEST_PACKET,
    FeatureBits,
    PacketDescriptor,
    PacketType,
)
from vmbus.memory import Buffer, RingMem, copy_into
from vmbus.sizes import SLOT

from .end import RingEnd
from .offsets import advance, free_bytes, is_offset, used_bytes
from .packets import IncomingPacket, IncomingPacketType, Packet
from .parsing import KNOWN_FLAGS, RingFault, parse_packet, read_packet
from .signaling import signal_writer_after_read

__all__ = ["IncomingOffset", "IncomingRing"]

#: Types whose payload follows the descriptor at once: the quick way through `receive`.
PLAIN_TYPES = {
    int(PacketType.IN_BAND): IncomingPacketType.IN_BAND,
    int(PacketType.COMPLETION): IncomingPacketType.COMPLETION,
}

#: A number: Python 3.10 would keep a flag for ever for every value that a hostile sender writes.
PENDING_SEND_SIZE_FEATURE = int(FeatureBits.SUPPORTS_PENDING_SEND_SIZE)

#: How much receive_many copies at once, and how much for each packet of a limit.
STRETCH = 65536
SHORT_STRETCH = 512

#: new_tuple(Packet, (...)) is Packet(...) at half its cost.
new_tuple: Any = tuple.__new__


class IncomingOffset:
    """How far one round of reading has come; made by IncomingRing.incoming."""

    __slots__ = ("_commits", "_ring", "_start", "next_out")

    def __init__(self, ring: IncomingRing, start: int, commits: int) -> None:
        self._ring = ring
        self._start = start
        self._commits = commits
        self.next_out = start

    def revert(self) -> None:
        """Un-read what has not been committed.

        The sender may change those packets meanwhile: do not trust what was seen of them.
        """
        self.next_out = self._start

    def __repr__(self) -> str:
        return f"<IncomingOffset: committed {self._start:#06x}, next {self.next_out:#06x}>"


class IncomingRing(RingEnd):
    """The receiving end of one ring.

    `read` hands out a packet; `commit_read` gives its space back to the sender.  Until then the
    bytes stay in the ring and the sender may change them: copy first, then check the copy.
    `receive`, `receive_many` and `receive_into` do it all in one step.

    memory   a RingMem whose size is a non-zero multiple of 4096

    Masks interrupts when it is made: a new receiver looks before it waits.  Over read-only memory
    nothing is stored and nothing can be committed; `incoming` and `read` work.

    An offset is a number of bytes from the start of the data area: a multiple of 8, less than the
    memory's size.  The ring never holds more than its size minus 8, so that a full ring can be
    told from an empty one.

    Raises CallerError when the size is wrong.  Any method may raise PeerError when the control
    page or a packet is not what a correct sender writes; nothing has then been read, and every
    later call raises it again until `reset`.

    One thread at a time.

    Sources: OpenVMM vmbus_ring/src/lib.rs, IncomingRing; Linux struct hv_ring_buffer.
    """

    def __init__(self, memory: RingMem) -> None:
        super().__init__(memory, own_word=OUT_WORD, peer_word=IN_WORD, gap=0)
        self._read_at = memory.read_at
        self._unpack_descriptor = memory.unpacker(PACKET_DESCRIPTOR.struct)
        self._masked = not self._control.readonly
        if self._masked:
            self._control[INTERRUPT_MASK_WORD] = 1

    # -- one round of reading, in steps ------------------------------------------------------

    def incoming(self) -> IncomingOffset:
        """Start a round of reading at the first packet not yet committed."""
        self._check_fault()
        return IncomingOffset(self, self._own_index, self._commits)

    def can_read(self, offset: IncomingOffset) -> bool:
        """True when `read` will find a packet, or will find it broken."""
        self._check_fault()
        self._check_current(offset._ring, offset._commits)
        return offset.next_out != self._peer_index or offset.next_out != self._load_peer_index()

    def read(self, offset: IncomingOffset) -> IncomingPacket:
        """The next packet, and `offset` moved behind it.  Raises RingEmpty when there is none.

        The payload is not copied: `packet.payload.reader(ring)` reads it in place.
        """
        if not self.can_read(offset):
            raise self._empty()
        out = offset.next_out
        try:
            packet, taken = read_packet(self.memory, out, used_bytes(self._size, self._peer_index, out))
        except PeerError as error:
            self._fail(error)
        offset.next_out = advance(self._size, out, taken)
        return packet

    def commit_read(self, offset: IncomingOffset) -> bool:
        """Give the space of all packets read back; True when the sender must be signaled.

        Never raises PeerError: where in is out of range, the answer is False and the next call
        raises.  Raises CallerError when the memory is read-only.
        """
        self._check_current(offset._ring, offset._commits)
        if self._refusal is not None and self._refusal is not self._fault:
            self._refuse()
        if offset.next_out == self._published:
            return False
        signal = self._commit(offset.next_out)
        offset._start = offset.next_out
        offset._commits = self._commits
        return signal

    # -- in one step -------------------------------------------------------------------------

    def receive(self) -> tuple[Packet, bool]:
        """Take one packet out: the packet, copied, and whether the sender must be signaled.

        Raises RingEmpty when there is none.  An interrupt (a signal handler that raises) behind the
        commit loses what would have been returned: where that matters use `read`, note what it
        gave, and then `commit_read`.
        """
        if self._refusal is not None:
            self._refuse()
        size = self._size
        out = self._own_index
        published = self._peer_index
        if published == out:
            published = self._control[IN_WORD]
            self._acquire()
            if published == out:
                raise self._empty()
            if published >= size or published % SLOT:  # is_offset()
                self._fail(self._index_error(IN_WORD, published))
            self._peer_index = published
        available = published - out  # used_bytes()
        if available < 0:
            available += size
        if out + DESCRIPTOR_SIZE <= size:
            descriptor = self._unpack_descriptor(out)
        else:
            descriptor = PACKET_DESCRIPTOR.unpack(self._read_at(out, DESCRIPTOR_SIZE))
        kind, data_offset8, length8, flags, transaction_id = descriptor
        plain_type = PLAIN_TYPES.get(kind)
        taken = length8 * SLOT + FOOTER_SIZE
        # descriptor_fault(), for the types without ranges
        if (
            plain_type is None
            or not PLAIN_DATA_OFFSET8 == data_offset8 <= length8
            or taken > available
            or flags > KNOWN_FLAGS
        ):
            try:
                packet, taken = self._parse_odd(out, available, PacketDescriptor(*descriptor))
            except PeerError as error:
                self._fail(error)
        else:
            payload = self._read_at(out + DESCRIPTOR_SIZE, taken - SMALLEST_PACKET)
            packet = new_tuple(Packet, (plain_type, transaction_id, payload, (), flags, None))
        end = out + taken  # advance()
        return packet, self._commit(end if end < size else end - size)

    def receive_many(self, limit: int | None = None) -> tuple[list[Packet], bool]:
        """Take out all packets published by now, or `limit` of them, in one commit.

        Returns them, an empty list from an empty ring, and whether the sender must be signaled.
        The good packets before a broken one are returned; the next call raises its PeerError.
        """
        if self._refusal is not None:
            self._refuse()
        if limit is not None and limit < 0:
            raise CallerError(
                f"a limit of {limit} packets: 0 is the least", argument="limit", value=limit, limit=0
            )
        packets: list[Packet] = []
        out = self._own_index
        # Loaded although some may be known already: all that are published by now are wanted.
        available = used_bytes(self._size, self._load_peer_index(), out)
        broken = None
        while available and (limit is None or len(packets) < limit):
            taken, odd = self._take_run(out, available, packets, limit)
            out = advance(self._size, out, taken)
            available -= taken
            if taken and odd is None:
                continue
            try:
                packet, taken = self._parse_odd(out, available, odd)
            except PeerError as error:
                broken = error
                break
            packets.append(packet)
            out = advance(self._size, out, taken)
            available -= taken
        if broken is not None:
            self._remember(broken)
            if not packets:
                self._refuse()
        return packets, bool(packets) and self._commit(out)

    def receive_into(self, buffer: Buffer) -> tuple[int, bool]:
        """Take one packet out, its payload into `buffer`: the payload's length, and the signal.

        Raises RingEmpty; BufferTooSmall, which names the length, and then the packet stays.
        """
        if self._refusal is not None:
            self._refuse()
        offset = self.incoming()
        payload = self.read(offset).payload
        length = copy_into(buffer, payload.size, payload.reader(self).read_all)
        return length, self.commit_read(offset)

    # -- signals -----------------------------------------------------------------------------

    def supports_pending_send_size(self) -> bool:
        """True when the sender says that it asks for room and wants a signal then."""
        self._check_fault()
        return bool(self._control[FEATURE_BITS_WORD] & PENDING_SEND_SIZE_FEATURE)

    def set_interrupt_mask(self, masked: bool) -> None:
        """Tell the sender not to signal, or to signal again, when packets end an emptiness.

        After unmasking look again (`can_read`) before waiting: a packet that came while masked
        is never signaled.  Raises CallerError when the memory is read-only.
        """
        if self._refusal is not None:
            self._refuse()
        self._masked = bool(masked)
        self._control[INTERRUPT_MASK_WORD] = int(self._masked)
        if not masked:
            self._fence()

    def verify_interrupts_unmasked(self) -> None:
        """Raise PeerError when somebody else has masked the interrupts that this end unmasked.

        Raises CallerError when this end masked them itself.
        """
        self._check_fault()
        if self._masked:
            raise CallerError(
                "this end masks interrupts itself: set_interrupt_mask(False) comes first",
                argument="interrupt_mask",
                value=1,
                limit=0,
            )
        mask = self._control[INTERRUPT_MASK_WORD]
        if mask:
            self._find_masked(mask)

    # -- inside ------------------------------------------------------------------------------

    def _find_masked(self, mask: int) -> None:
        """The interrupt mask that this end had cleared is set.

        For rings whose mask others may set a subclass does here what is right then.
        """
        error = PeerError(
            f"the interrupt mask is {mask:#x}, and this end had cleared it",
            kind=RingFault.INTERRUPTS_EXTERNALLY_MASKED,
            found=mask,
            allowed=0,
        )
        self._fail(error)

    def _empty(self) -> RingEmpty:
        return RingEmpty(f"no packet waits in this ring of {self._size} bytes (in = out)")

    def _take_run(
        self, out: int, available: int, packets: list[Packet], limit: int | None
    ) -> tuple[int, PacketDescriptor | None]:
        """Append the plain packets from `out` on, up to `limit` in all.

        Copies a stretch of the ring once and works on the copy, in which nothing wraps.  Returns the
        bytes taken, and the descriptor of the packet it stopped at: one that is not plain, is broken
        or does not lie whole in the stretch; None where the stretch or the limit ended the run.
        """
        room = limit if limit is None else limit - len(packets)
        longest = STRETCH if room is None else min(STRETCH, room * SHORT_STRETCH)
        stretch = self._read_at(out, min(available, longest))
        end = len(stretch)
        unpack_descriptor = PACKET_DESCRIPTOR.struct.unpack_from
        plain_types = PLAIN_TYPES.get
        append = packets.append
        at = 0
        for _ in range(end // SMALLEST_PACKET if room is None else room):
            if at + SMALLEST_PACKET > end:
                break
            descriptor = unpack_descriptor(stretch, at)
            kind, data_offset8, length8, flags, transaction_id = descriptor
            plain_type = plain_types(kind)
            following = at + length8 * SLOT + FOOTER_SIZE
            # descriptor_fault(), for the types without ranges
            if (
                plain_type is None
                or not PLAIN_DATA_OFFSET8 == data_offset8 <= length8
                or following > end
                or flags > KNOWN_FLAGS
            ):
                return at, PacketDescriptor(*descriptor)
            payload = stretch[at + DESCRIPTOR_SIZE : following - FOOTER_SIZE]
            append(new_tuple(Packet, (plain_type, transaction_id, payload, (), flags, None)))
            at = following
        return at, None

    def _parse_odd(self, out: int, available: int, descriptor: PacketDescriptor | None) -> tuple[Packet, int]:
        """A packet off the quick way, copied, and the bytes it takes; PeerError when it is broken."""
        if descriptor is None:
            packet, taken = read_packet(self.memory, out, available)
        else:
            packet, taken = parse_packet(self.memory, out, available, descriptor)
        return self._copy(packet), taken

    def _copy(self, packet: IncomingPacket) -> Packet:
        """The packet with its payload copied out of the ring."""
        return Packet(
            packet.type,
            packet.descriptor.transaction_id,
            self._read_at(packet.payload.offset, packet.payload.size),
            packet.ranges,
            packet.descriptor.flags,
            packet.transfer_page_set_id,
        )

    def _commit(self, end: int) -> bool:
        """Publish `end` as the new out; True when the sender must be signaled."""
        control = self._control
        self._release()  # a call, after which an interrupt may come: nothing has moved yet
        self._own_index = end
        self._commits += 1
        control[OUT_WORD] = end
        self._fence()
        pending = control[PENDING_SEND_SIZE_WORD]
        signal = pending != 0 and self._ends_a_wait(pending, end)
        self._published = end
        return signal

    def _ends_a_wait(self, pending: int, end: int) -> bool:
        """True when the space just freed is what the sender waits for."""
        self._acquire()
        in_offset = self._control[IN_WORD]
        if not is_offset(self._size, in_offset):
            self._remember(self._index_error(IN_WORD, in_offset))
            return False
        return signal_writer_after_read(
            pending_send_size=pending,
            free_before=free_bytes(self._size, in_offset, self._published),
            free_after=free_bytes(self._size, in_offset, end),
        )
