"""How a Linux 6.12 guest takes a ring.

It copies each packet once into a private buffer, repairs the lengths in the copy where they cannot be,
and goes on.  So almost nothing is an error, and a wrong length moves it to a wrong place.

Source: Linux 6.12 drivers/hv/ring_buffer.c: hv_pkt_iter_first(), __hv_pkt_iter_next(), hv_pkt_iter_close(),
hv_ringbuffer_write() and hv_signal_on_write().
"""

from __future__ import annotations

from vmbus.errors import CallerError
from vmbus.layout import DESCRIPTOR_SIZE, FOOTER_SIZE

from .model import Answer, Model, RingView, Signal, Step, Write, WriteAnswer
from .model_arithmetic import readable, signal_writer, wake_reader, writable

__all__ = ["LinuxModel"]


class LinuxModel(Model):
    """The ring code of a Linux guest; its drivers look at packet types, some of them.

    packet_buffer   bytes of the channel's private buffer, from 80 (storvsc) to 16416 (hvsock), 4096 for most; a
                    longer packet is cut to it.  None: as large as the ring, so that nothing is cut
    """

    name = "linux"
    title = "Linux 6.12 guest"
    source = "drivers/hv/ring_buffer.c: hv_pkt_iter_first(), hv_pkt_iter_close(), hv_ringbuffer_write()"
    unverified = (
        "what it reads after a step past in: follows from its arithmetic, and was not tried",
        "what each driver does with a packet type; only the ring's own code is here",
    )

    def __init__(self, packet_buffer: int | None = None) -> None:
        if packet_buffer is not None and packet_buffer < DESCRIPTOR_SIZE:
            raise CallerError(
                f"a packet buffer has {DESCRIPTOR_SIZE} bytes or more, not {packet_buffer}",
                argument="packet_buffer",
                value=packet_buffer,
                limit=DESCRIPTOR_SIZE,
            )
        self.packet_buffer = packet_buffer

    def opens(self, ring: RingView) -> Step | None:
        if ring.out_offset < ring.size:
            return None
        why = "it goes by an index of its own, which no image shows, and only stores out"
        return Step(ring.out_offset, Answer.UNKNOWN, why).inferred()

    def take(self, ring: RingView, out: int) -> Step:
        available = readable(ring.size, ring.in_offset, out)
        if available == 0:
            return Step(out, Answer.EMPTY)
        if available < DESCRIPTOR_SIZE:
            return Step(out, Answer.STALLS, "fewer than 16 bytes are no packet to it")
        most = min(available, ring.size if self.packet_buffer is None else self.packet_buffer)
        descriptor = ring.descriptor_at(out)
        length, data_offset = descriptor.length, descriptor.data_offset
        notes = []
        if length < DESCRIPTOR_SIZE or length > most:
            notes.append(f"a length of {length} becomes the {most} bytes that it sees")
            length = most
        elif length + FOOTER_SIZE > available:
            notes.append("the footer need not be published")
        if data_offset < DESCRIPTOR_SIZE or data_offset > length:
            notes.append(f"a payload at byte {data_offset} is looked for at 16")
            data_offset = DESCRIPTOR_SIZE
        if out + length > 2 * ring.size:  # the data is mapped twice, one copy behind the other
            return Step(out, Answer.UNDEFINED, "it copies from behind its double mapping").inferred()
        return Step.takes(out, length, data_offset, step_over(ring.size, out, length), " and ".join(notes))

    def signal_after_read(self, ring: RingView, before: int, after: int) -> Signal:
        return signal_writer(ring, before, after)

    def write(self, ring: RingView, size: int) -> Write:
        if ring.in_offset >= ring.size:
            why = "it reads its own in back from the ring, unchecked, and copies there"
            return Write(WriteAnswer.UNDEFINED, None, why)
        free = writable(ring.size, ring.in_offset, ring.out_offset)
        why = f"it counts {free} bytes free and wants more than the packet"
        if free <= size:
            return Write(WriteAnswer.NO_ROOM, None, why)
        return Write(WriteAnswer.WRITES, wake_reader(ring), why)


def step_over(size: int, out: int, length: int) -> int:
    """The private read index behind a packet and its footer: the size is subtracted once at most."""
    following = out + length + FOOTER_SIZE
    return following - size if following >= size else following
