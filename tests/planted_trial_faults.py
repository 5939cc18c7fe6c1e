"""Faults in rings, pipes and channels that the trials of vmbus.fuzzing find: see planted_faults.py.

Each must be found as Wrong, by a fixed set of cases (tests/fuzzing/test_trials_find_faults.py): a fault that only
makes something crash does not count.  A number such as B25 is the line of the catalogue of bugs that rings have had
(tests/known_bugs.py); the others are slips that are easy to make in just that line.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_TRIAL_FAULTS"]

FINDS = "fuzzing/test_trials_find_faults.py::test_a_target_finds_nothing_wrong"
RING = f"{FINDS}[ring]"
MESSAGES = f"{FINDS}[message-pipe]"
BYTES = f"{FINDS}[byte-pipe]"
CHANNEL = f"{FINDS}[channel]"
BYTE_CHANNEL = f"{FINDS}[byte-channel]"

PLANTED_TRIAL_FAULTS = [
    # -- rings: what fits, what wraps -------------------------------------------------------------
    PlantedFault(
        "B25: a batch fills the ring until in is out",
        "ring/outgoing.py",
        "            if total > free:",
        "            if total > free + SLOT:",
        RING,
    ),
    PlantedFault(
        "B25: an exact fit refused",
        "ring/outgoing.py",
        "        return self._room(offset.next_in, length) >= length",
        "        return self._room(offset.next_in, length) > length",
        RING,
    ),
    PlantedFault(
        "B28: footer forgotten by the writer",
        "ring/outgoing.py",
        "        total = length + FOOTER_SIZE",
        "        total = length",
        RING,
    ),
    PlantedFault(
        "B29: what lies behind the wrap read as zeros",
        "memory/flat.py",
        "        return self._data[offset:].tobytes() + self._data[: end - size].tobytes()",
        '        return self._data[offset:].tobytes().ljust(length, b"\\0")',
        RING,
    ),
    PlantedFault(
        "B32: padding zeroed only where it is short",
        "ring/outgoing.py",
        "        if packet.size % SLOT:",
        "        if packet.size % SLOT > 4:",
        RING,
    ),
    PlantedFault(
        "B30: what a batch copies at once cut behind the footer",
        "ring/incoming.py",
        "            payload = stretch[at + DESCRIPTOR_SIZE : following - FOOTER_SIZE]",
        "            payload = stretch[at + DESCRIPTOR_SIZE : following]",
        RING,
    ),
    PlantedFault(
        "one packet more than the limit",
        "ring/incoming.py",
        "        while available and (limit is None or len(packets) < limit):",
        "        while available and (limit is None or len(packets) <= limit):",
        RING,
    ),
    PlantedFault(
        "a wish for a completion lost",
        "ring/packets.py",
        "            kind = OutgoingPacketType.IN_BAND_WITH_COMPLETION",
        "            kind = OutgoingPacketType.IN_BAND_NO_COMPLETION",
        RING,
    ),
    # -- rings: signals ---------------------------------------------------------------------------
    PlantedFault(
        "B11: every write signals",
        "ring/outgoing.py",
        "            signal = undecided or signal_reader_after_write(",
        "            signal = True or signal_reader_after_write(",
        RING,
    ),
    PlantedFault(
        "B05: every read signals while the writer waits",
        "ring/incoming.py",
        "        signal = pending != 0 and self._ends_a_wait(pending, end)",
        "        signal = pending != 0",
        RING,
    ),
    PlantedFault(
        "the free space before a read counted behind it",
        "ring/incoming.py",
        "            free_before=free_bytes(self._size, in_offset, self._published),",
        "            free_before=free_bytes(self._size, in_offset, end),",
        RING,
    ),
    PlantedFault(
        "B17: low bits of a pending size believed",
        "ring/signaling.py",
        "    return pending_send_size & ~(SLOT - 1)",
        "    return pending_send_size",
        RING,
    ),
    PlantedFault(
        "interrupts stay masked",
        "ring/incoming.py",
        "        self._control[INTERRUPT_MASK_WORD] = int(self._masked)",
        "        self._control[INTERRUPT_MASK_WORD] = 1",
        RING,
    ),
    # -- rings: rounds ----------------------------------------------------------------------------
    PlantedFault(
        "a revert goes back behind the last commit",
        "ring/incoming.py",
        "        offset._start = offset.next_out",
        "        pass",
        RING,
    ),
    PlantedFault(
        "an offset from before a write taken for a new one",
        "ring/outgoing.py",
        "        self._commits += 1",
        "        pass",
        RING,
    ),
    PlantedFault(
        "B28: footer forgotten by the reader",
        "ring/incoming.py",
        "        offset.next_out = advance(self._size, out, taken)",
        "        offset.next_out = advance(self._size, out, taken - FOOTER_SIZE)",
        RING,
    ),
    # -- pipes ------------------------------------------------------------------------------------
    PlantedFault(
        "B43: the largest message without its header",
        "pipe/framing.py",
        "    return min(MAXIMUM_PIPE_PACKET_SIZE, ring.maximum_packet_size() - PacketSize.in_band(PIPE_HEADER_SIZE))",
        "    return min(MAXIMUM_PIPE_PACKET_SIZE, ring.maximum_packet_size() - PacketSize.in_band(0))",
        MESSAGES,
    ),
    PlantedFault(
        "a part of a stream taken for a message",
        "pipe/framing.py",
        "    if kind == PipePacketType.PARTIAL and partial_allowed:",
        "    if kind == PipePacketType.PARTIAL:",
        MESSAGES,
    ),
    PlantedFault(
        "a length believed that is longer by a byte",
        "pipe/framing.py",
        "    limit = min(present, MAXIMUM_PIPE_PACKET_SIZE)",
        "    limit = min(present + 1, MAXIMUM_PIPE_PACKET_SIZE)",
        MESSAGES,
    ),
    PlantedFault(
        "B47: the end of a stream stays readable",
        "pipe/byte_stream.py",
        "                if parts:",
        "                if True:",
        BYTES,
    ),
    PlantedFault(
        "a packet read to its last byte left as a part",
        "pipe/byte_stream.py",
        "        if consumed + taken < length:",
        "        if taken < length:",
        BYTES,
    ),
    PlantedFault(
        "a read returns more than was asked for",
        "pipe/byte_stream.py",
        "            left -= len(part)",
        "            left -= min(len(part), left - 1)",
        BYTES,
    ),
    # -- channels ---------------------------------------------------------------------------------
    PlantedFault(
        "B07: signals asked for while packets are taken out",
        "channel/readiness.py",
        "            self._ring.set_interrupt_mask(True)",
        "            pass",
        CHANNEL,
    ),
    PlantedFault(
        "just the room for one packet asked for",
        "channel/readiness.py",
        "            self._ring.set_pending_send_size(size_to_ask_for(self._ring.size, self._needed))",
        "            self._ring.set_pending_send_size(self._needed)",
        CHANNEL,
    ),
    PlantedFault(
        "B62: places of requests that were answered never free",
        "channel/transactions.py",
        "        transaction = self._outstanding.pop(packet.transaction_id, None)",
        "        transaction = self._outstanding.get(packet.transaction_id)",
        CHANNEL,
    ),
    PlantedFault(
        "B62: an id used again at once",
        "channel/transactions.py",
        "        self._next_id += 1",
        "        self._next_id += len(self._outstanding) > 1",
        CHANNEL,
    ),
    PlantedFault(
        "B64: an unrelated packet lost while a request waits",
        "channel/works.py",
        "            self.keep(packet)",
        "            pass",
        CHANNEL,
    ),
    PlantedFault(
        "a request that was never sent stays outstanding",
        "channel/blocking.py",
        "                work.transactions.forget(transaction)",
        "                pass",
        CHANNEL,
    ),
    PlantedFault(
        "completions handed out by receive_many",
        "channel/works.py",
        "        packets = [packet for packet in taken if not self.transactions.deliver(packet)]",
        "        packets = taken",
        CHANNEL,
    ),
    PlantedFault(
        "B67: what was sent before the close is lost",
        "channel/direction.py",
        "        if result is NOT_YET and peer_closed:",
        "        if peer_closed:",
        CHANNEL,
    ),
    PlantedFault(
        "a closed channel still sends",
        "channel/blocking.py",
        "                self._sending.close()",
        "                pass",
        CHANNEL,
    ),
    PlantedFault(
        "nobody is told of the room that a reader has made",
        "channel/works.py",
        "        if self.incoming.commit_read(offset):",
        "        if self.incoming.commit_read(offset) and False:",
        BYTE_CHANNEL,
    ),
    PlantedFault(
        "B47: the end of a stream forgotten once it is read",
        "channel/works.py",
        "        self.ended = not data",
        "        pass",
        BYTE_CHANNEL,
    ),
    PlantedFault(
        "a stream ended twice",
        "channel/works.py",
        "        self.end_sent = True  # last: of an interrupted call a second end is harmless, and none is not",
        "        pass",
        BYTE_CHANNEL,
    ),
    PlantedFault(
        "bytes that were sent not counted when there is no more room",
        "channel/blocking.py",
        "            error.done = parts.done",
        "            error.done = 0",
        BYTE_CHANNEL,
    ),
    PlantedFault(
        "packets that answer no request kept without end",
        "channel/works.py",
        "        if self.kept_bytes >= limit:",
        "        if False:",
        "fuzzing/test_channel_trial.py::test_requests_are_refused_from_the_sixteenth_ring_of_kept_packets_on",
    ),
    PlantedFault(
        "bytes kept not counted down when they are received",
        "channel/works.py",
        "        self.kept_bytes -= bytes_in_ring(packet)",
        "        pass",
        "fuzzing/test_channel_trial.py::test_a_request_is_refused_until_so_much_is_received_that_less_than_sixteen_rings_are_kept",
    ),
    PlantedFault(
        "request refused because of a limit that nobody knows",
        "channel/works.py",
        '                argument="unsolicited",',
        '                argument="timeout",',
        "fuzzing/test_channel_trial.py::test_requests_are_refused_from_the_sixteenth_ring_of_kept_packets_on",
    ),
]
