"""The sending end of a ring.

Order of a write: load out, acquire, store the packet's bytes, release, store in, full fence, load
the interrupt mask, acquire, load out.  Without the fence the receiver could unmask and find the
ring empty, the sender find it masked, and the packet would wait for ever.

Sources: OpenVMM vmbus_ring/src/lib.rs, OutgoingRing; Linux drivers/hv/ring_buffer.c,
hv_ringbuffer_write() and hv_signal_on_write().
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NoReturn

from vmbus.errors import CallerError, RingFull
from vmbus.layout import (
    DESCRIPTOR_SIZE,
    FEATURE_BITS_WORD,
    FOOTER,
    FOOTER_SIZE,
    IN_WORD,
    INTERRUPT_MASK_WORD,
    OUT_WORD,
    PACKET_DESCRIPTOR,
    PENDING_SEND_SIZE_WORD,
    PLAIN_DATA_OFFSET8,
    SMALLEST_PACKET,
    FeatureBits,
    Footer,
    PacketDescriptor,
    PacketFlags,
    PacketType,
    whole_packet,
)
from vmbus.memory import Buffer, RingMem, view_bytes
from vmbus.sizes import SLOT, round_up_to_slot

from .end import RingEnd
from .offsets import advance, free_bytes, is_offset, largest_packet
from .packets import OutgoingPacket, PacketSize
from .ranges import RingRange
from .signaling import signal_reader_after_write

__all__ = ["OutgoingOffset", "OutgoingRing"]

IN_BAND = int(PacketType.IN_BAND)
COMPLETION_REQUESTED = int(PacketFlags.COMPLETION_REQUESTED)

#: What is added to a payload's length before rounding down to whole slots, and the mask that rounds.
LARGEST_OVERHEAD = SMALLEST_PACKET + SLOT - 1
WHOLE_SLOTS = ~(SLOT - 1)

#: So many sizes of packet get a function of their own that packs them in one call.
PREPARED_SIZES = 512


class OutgoingOffset:
    """How far one round of writing has come; made by OutgoingRing.outgoing."""

    __slots__ = ("_commits", "_ring", "_start", "next_in")

    def __init__(self, ring: OutgoingRing, start: int, commits: int) -> None:
        self._ring = ring
        self._start = start
        self._commits = commits
        self.next_in = start

    def revert(self) -> None:
        """Take back what has been written and not committed."""
        self.next_in = self._start

    def __repr__(self) -> str:
        return f"<OutgoingOffset: committed {self._start:#06x}, next {self.next_in:#06x}>"


class OutgoingRing(RingEnd):
    """The sending end of one ring.

    `write` puts a packet behind those already there and hands out where its payload goes;
    `commit_write` publishes all that was written since.  `send` and `send_many` do it in one step.

    memory   a RingMem whose size is a non-zero multiple of 4096, and that can be written

    Sets feature bit 0 (it will ask for room by its pending send size) and clears the pending send
    size when it is made.

    Raises CallerError when the size is wrong or the memory is read-only.  Any method may raise
    PeerError when the receiver's index is out of range; nothing has then been published, and every
    later call raises it again until `reset`.

    One thread at a time.

    Sources: OpenVMM vmbus_ring/src/lib.rs, OutgoingRing; Linux struct hv_ring_buffer.
    """

    def __init__(self, memory: RingMem) -> None:
        super().__init__(memory, own_word=IN_WORD, peer_word=OUT_WORD, gap=SLOT)
        if self._control.readonly:
            self._refuse()
        self._write_at = memory.write_at
        self._packers: dict[int, Callable[..., object]] = {}
        self._largest = largest_packet(self._size)
        self._control[FEATURE_BITS_WORD] = int(FeatureBits.SUPPORTS_PENDING_SEND_SIZE)
        self._control[PENDING_SEND_SIZE_WORD] = 0

    def maximum_packet_size(self) -> int:
        """Bytes of the largest packet `write` takes, descriptor, padding and footer included."""
        return self._largest

    # -- one round of writing, in steps ------------------------------------------------------

    def outgoing(self) -> OutgoingOffset:
        """Start a round of writing behind the last committed packet."""
        if self._refusal is not None:
            self._refuse()
        return OutgoingOffset(self, self._own_index, self._commits)

    def can_write(self, offset: OutgoingOffset, length: int) -> bool:
        """True when a packet of `length` bytes fits now (see PacketSize).

        Raises CallerError when it could never fit.
        """
        self._check_fault()
        self._check_current(offset._ring, offset._commits)
        if length > self._largest:
            self._too_large(length)
        return self._room(offset.next_in, length) >= length

    def write(self, offset: OutgoingOffset, packet: OutgoingPacket) -> RingRange:
        """Put a packet's frame behind what is written: where its payload goes.

        Descriptor, ranges, footer and the zeros of the padding are stored; the payload is the
        caller's to store, all of it, through `writer`.  Raises RingFull, which names the bytes
        needed; CallerError when the packet could never fit, its size is negative or a number has too
        many bits.
        """
        if len(packet.extension) % SLOT:
            raise CallerError(
                f"what lies between descriptor and payload is a multiple of {SLOT} bytes, not "
                f"{len(packet.extension)}",
                argument="extension",
                value=len(packet.extension),
                limit=SLOT,
            )
        if packet.size < 0:
            raise CallerError(
                f"a payload has no negative length, and {packet.size} is one",
                argument="size",
                value=packet.size,
                limit=0,
            )
        length = DESCRIPTOR_SIZE + len(packet.extension) + round_up_to_slot(packet.size)
        total = length + FOOTER_SIZE
        if not self.can_write(offset, total):
            self._full(offset.next_in, total)
        start = offset.next_in
        data_offset = DESCRIPTOR_SIZE + len(packet.extension)
        kind, flags = packet.type.value
        head = self._pack_descriptor(kind, data_offset, length, flags, packet.transaction_id)
        self._write_at(start, head + packet.extension)
        if packet.size % SLOT:
            self._write_at(advance(self._size, start, length - SLOT), bytes(SLOT))
        self._write_at(advance(self._size, start, length), FOOTER.pack(Footer(0, start)))
        offset.next_in = advance(self._size, start, total)
        return RingRange(start + data_offset, packet.size)

    def commit_write(self, offset: OutgoingOffset) -> bool:
        """Publish all packets written; True when the receiver must be signaled.

        Never raises PeerError: a packet that was written is published whatever the other side does.
        Where out is found out of range, the answer is False and the next call raises.
        """
        self._check_current(offset._ring, offset._commits)
        if offset.next_in == self._published:
            return False
        signal = self._commit(offset.next_in)
        offset._start = offset.next_in
        offset._commits = self._commits
        return signal

    # -- in one step -------------------------------------------------------------------------

    def send(self, payload: Buffer, transaction_id: int = 0, completion_requested: bool = False) -> bool:
        """Send one in-band packet; True when the receiver must be signaled.

        payload   any buffer; copied, and padded with zeros to a multiple of 8

        Raises RingFull, which names the bytes needed; CallerError when it could never fit.
        """
        if self._refusal is not None:
            self._refuse()
        if payload.__class__ is not bytes:
            payload = copy_of(payload)
        flags = COMPLETION_REQUESTED if completion_requested else 0
        size = self._size
        start = self._own_index
        total = (len(payload) + LARGEST_OVERHEAD) & WHOLE_SLOTS  # PacketSize.in_band()
        used = start - self._peer_index  # used_bytes()
        if used < 0:
            used += size
        if used + total > size - SLOT and self._room(start, total) < total:
            self._full(start, total)
        end = start + total
        pack = self._packers.get(total)
        if pack is None or end > size:
            end = self._put_any(start, total, payload, flags, transaction_id)
        else:
            length8 = (total - FOOTER_SIZE) // SLOT
            try:
                pack(start, IN_BAND, PLAIN_DATA_OFFSET8, length8, flags, transaction_id, payload, 0, start)
            except struct.error:
                bad_transaction_id(transaction_id)
            if end == size:
                end = 0
        return self._commit(end)

    def send_packet(self, packet: OutgoingPacket, payload: Buffer) -> bool:
        """Send one packet of any type; True when the receiver must be signaled.

        payload   exactly the bytes that the packet announces

        Raises as `write`, and CallerError when the payload has another size.

        >>> from vmbus.ring import connected_rings
        >>> sender, receiver = connected_rings()
        >>> sender.send_packet(OutgoingPacket.completion(4, transaction_id=7), b"done")
        True
        """
        data = view_bytes(payload, "payload")
        if len(data) != packet.size:
            raise CallerError(
                f"the packet announces {packet.size} bytes of payload, and {len(data)} were given",
                argument="payload",
                value=len(data),
                limit=packet.size,
            )
        offset = self.outgoing()
        self.write(offset, packet).writer(self).write(data)
        return self.commit_write(offset)

    def send_many(self, payloads: Iterable[Buffer]) -> tuple[int, bool]:
        """Send in-band packets, as many from the first on as fit, in one commit.

        payloads   all of them are taken from the iterable, also those that do not fit now

        Returns how many were sent, and whether the receiver must be signaled.  Raises CallerError,
        before anything is written, when one of them could never fit.
        """
        if self._refusal is not None:
            self._refuse()
        copies = [one if one.__class__ is bytes else copy_of(one) for one in payloads]
        longest = max(map(len, copies), default=0)
        if PacketSize.in_band(longest) > self._largest:
            self._too_large(PacketSize.in_band(longest))
        size = self._size
        packer_for = self._packers.get
        position = self._own_index
        free = free_bytes(size, position, self._peer_index)
        count = 0
        length = -1
        for payload in copies:
            if len(payload) != length:  # the sizes in a batch mostly repeat
                length = len(payload)
                total = (length + LARGEST_OVERHEAD) & WHOLE_SLOTS  # PacketSize.in_band()
                length8 = (total - FOOTER_SIZE) // SLOT
                pack = packer_for(total)
            if total > free:
                free = self._room(position, total)
                if total > free:
                    break
            end = position + total
            if pack is None or end > size:
                position = self._put_any(position, total, payload, 0, 0)
                length = -1  # the size may have been prepared now
            else:
                pack(position, IN_BAND, PLAIN_DATA_OFFSET8, length8, 0, 0, payload, 0, position)
                position = end if end < size else 0
            free -= total
            count += 1
        return count, count > 0 and self._commit(position)

    # -- signals -----------------------------------------------------------------------------

    def set_pending_send_size(self, length: int) -> None:
        """Ask for a signal once `length` bytes are free; 0 asks for none.

        Stored rounded up to a multiple of 8.  Look again (`can_write`) before waiting: room that
        came before the request is never signaled.  Raises CallerError above the size minus 8.
        """
        if self._refusal is not None:
            self._refuse()
        limit = self._size - SLOT
        if not 0 <= length <= limit:
            raise CallerError(
                f"a pending send size is at most {limit} bytes in a ring of {self._size}, not {length}",
                argument="length",
                value=length,
                limit=limit,
            )
        self._control[PENDING_SEND_SIZE_WORD] = round_up_to_slot(length)
        self._fence()

    # -- inside ------------------------------------------------------------------------------

    def _room(self, position: int, total: int) -> int:
        """Free bytes from `position` on; out is loaded again when those known are too few."""
        free = free_bytes(self._size, position, self._peer_index)
        if free < total:
            free = free_bytes(self._size, position, self._load_peer_index())
        return free

    def _put_any(self, start: int, total: int, payload: bytes, flags: int, transaction_id: int) -> int:
        """Store an in-band packet that wraps, or whose size is not prepared; where the next starts."""
        if total > self._largest:
            self._too_large(total)
        head = self._pack_descriptor(IN_BAND, DESCRIPTOR_SIZE, total - FOOTER_SIZE, flags, transaction_id)
        padding = bytes(total - SMALLEST_PACKET - len(payload))
        self._write_at(start, b"".join((head, payload, padding, FOOTER.pack(Footer(0, start)))))
        if total not in self._packers and len(self._packers) < PREPARED_SIZES:
            self._packers[total] = self.memory.packer(whole_packet(total))
        return advance(self._size, start, total)

    def _pack_descriptor(
        self, kind: int, data_offset: int, length: int, flags: int, transaction_id: int
    ) -> bytes:
        descriptor = PacketDescriptor(kind, data_offset // SLOT, length // SLOT, flags, transaction_id)
        try:
            return PACKET_DESCRIPTOR.pack(descriptor)
        except struct.error:
            bad_transaction_id(transaction_id)

    def _commit(self, end: int) -> bool:
        """Publish `end` as the new in; True when the receiver must be signaled."""
        control = self._control
        self._release()  # a call, after which an interrupt may come: nothing has moved yet
        # After an interrupted commit nobody knows where the receiver went to sleep since.
        undecided = self._own_index != self._published
        self._own_index = end
        self._commits += 1
        control[IN_WORD] = end
        self._fence()
        mask = control[INTERRUPT_MASK_WORD]
        signal = False
        if mask == 0:  # else out makes no difference
            self._acquire()
            out_offset = control[OUT_WORD]
            signal = undecided or signal_reader_after_write(
                interrupt_mask=mask, out_offset=out_offset, in_before=self._published
            )
            if not (signal or is_offset(self._size, out_offset)):
                self._remember(self._index_error(OUT_WORD, out_offset))
        self._published = end
        return signal

    def _full(self, position: int, needed: int) -> NoReturn:
        if needed > self._largest:
            self._too_large(needed)
        free = free_bytes(self._size, position, self._peer_index)
        raise RingFull(
            f"a packet of {needed} bytes does not fit into the {free} that are free in this ring of "
            f"{self._size} bytes",
            needed=needed,
            free=free,
        )

    def _too_large(self, length: int) -> NoReturn:
        raise CallerError(
            f"a packet of {length} bytes, descriptor and footer included, never fits into this ring "
            f"of {self._size} bytes: the largest has {self._largest}",
            argument="payload",
            value=length,
            limit=self._largest,
        )


def copy_of(payload: Buffer) -> bytes:
    """The bytes of any buffer; CallerError for what is none."""
    return bytes(view_bytes(payload, "payload"))


def bad_transaction_id(transaction_id: object) -> NoReturn:
    raise CallerError(
        f"a transaction id is a number from 0 to 2**64 - 1, not {transaction_id!r}",
        argument="transaction_id",
        value=transaction_id,
        limit=2**64 - 1,
    )
