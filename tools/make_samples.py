"""Make the dump that comes with the package: python tools/make_samples.py [FILE]

Both rings of a channel, one behind the other, as they lie in a guest's memory: a page of control
words and a page of data each.  The guest has sent a request with a buffer in its own memory and two
messages; the host has answered one and sent a notice.  Both rings have wrapped, so that packets
that were read already can be recovered.  Nothing is random: the file is always the same.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from vmbus import (
    FlatRingMem,
    IncomingRing,
    MessagePipe,
    OutgoingPacket,
    OutgoingRing,
    PagedRange,
    connected_rings,
)
from vmbus.inspection import sample_path

RING_SIZE = 8192


def send_messages(sender: OutgoingRing, receiver: IncomingRing, messages: Sequence[str]) -> None:
    pipe = MessagePipe(receiver, sender)
    offset = sender.outgoing()
    for message in messages:
        pipe.write(offset, message.encode())
    sender.commit_write(offset)


def guest_to_host(image: memoryview) -> None:
    """Three messages read, then a request and two messages that wait."""
    sender, receiver = connected_rings(memory=FlatRingMem.over(image), start=3880)
    send_messages(
        sender, receiver, ["hello, host", "are you there?", "this line ends close to the ring's end"]
    )
    receiver.receive_many()
    buffer = PagedRange(0x200, 6000, [0x1F3A0, 0x1F3A1])
    sender.send_packet(OutgoingPacket.gpa_direct([buffer], 16, transaction_id=0x17), bytes(range(16)))
    send_messages(sender, receiver, ["and now something longer: " + "ring " * 12, "good-bye"])


def host_to_guest(image: memoryview) -> None:
    """A completion read, then another and a notice that wait; the guest masks interrupts."""
    sender, receiver = connected_rings(memory=FlatRingMem.over(image), start=4000)
    sender.send_packet(OutgoingPacket.completion(8, transaction_id=0x16), bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    receiver.receive()
    sender.send_packet(OutgoingPacket.completion(8, transaction_id=0x17), bytes([1, 0, 0, 0, 2, 0, 0, 0]))
    send_messages(sender, receiver, ["link up"])
    receiver.set_interrupt_mask(True)


def sample() -> bytes:
    image = bytearray(2 * RING_SIZE)
    guest_to_host(memoryview(image)[:RING_SIZE])
    host_to_guest(memoryview(image)[RING_SIZE:])
    return bytes(image)


if __name__ == "__main__":
    path = sys.argv[1] if len(sys.argv) > 1 else sample_path()
    with open(path, "wb") as file:
        file.write(sample())
    print(f"{path}: {2 * RING_SIZE} bytes")
