"""Faults that only an enemy at the other side brings to light: each a line of the shipped source, a wrong one, and
who must notice.

As tests/planted_faults.py, whose list this one goes on with.  A number such as B52 is the line of the catalogue of
bugs that rings have had (tests/known_bugs.py); the others are slips that are easy to make in just that line.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_HOSTILE_FAULTS"]

LAW = "fuzzing/test_hostile_trials.py::test_a_victim_keeps_the_law_whatever_is_struck_and_every_corner_is_met"
RING = f"{LAW}[hostile-ring]"
CHANNEL = f"{LAW}[hostile-channel]"
QUEUE = f"{LAW}[hostile-queue]"
DEEP = "fuzzing/test_hostile_trials.py::test_a_victim_keeps_the_law_where_random_cases_seldom_come"
SLOW = "fuzzing/test_slow_memory.py::test_"
PEER = "fuzzing/test_hostile_peer.py::test_"

PLANTED_HOSTILE_FAULTS = [
    # -- rings -------------------------------------------------------------------------------------
    PlantedFault(
        "B52: length looked at again behind its check",
        "ring/incoming.py",
        "            payload = self._read_at(out + DESCRIPTOR_SIZE, taken - SMALLEST_PACKET)",
        "            payload = self._read_at(out + 16, max(read_packet(self.memory, out, available)[1] - 24, 0))",
        RING,
    ),
    PlantedFault(
        "B52: length of a packet with ranges looked at again",
        "ring/parsing.py",
        "    return packet, descriptor.packet_size",
        "    return packet, PACKET_DESCRIPTOR.unpack(memory.read_at(offset, DESCRIPTOR_SIZE)).packet_size",
        RING,
    ),
    PlantedFault(
        "round of reading that begins at the out in the ring",
        "ring/incoming.py",
        "        return IncomingOffset(self, self._own_index, self._commits)",
        "        return IncomingOffset(self, self._control[OUT_WORD] & ~7, self._commits)",
        RING,
    ),
    PlantedFault(
        "index that is no multiple of 8 taken",
        "ring/incoming.py",
        "            if published >= size or published % SLOT:  # is_offset()",
        "            if published >= size:",
        f"{DEEP}[in that is no multiple of 8]",
    ),
    PlantedFault(
        "commit of a read that raises",
        "ring/incoming.py",
        "            self._remember(self._index_error(IN_WORD, in_offset))",
        "            self._fail(self._index_error(IN_WORD, in_offset))",
        RING,
    ),
    PlantedFault(
        "later error in place of the first",
        "ring/end.py",
        "        if self._fault is None:",
        "        if True:",
        f"{DEEP}[second error behind the first]",
    ),
    PlantedFault(
        "bad index at a commit of a write forgotten",
        "ring/outgoing.py",
        "                self._remember(self._index_error(OUT_WORD, out_offset))",
        "                pass",
        RING,
    ),
    # -- channels ----------------------------------------------------------------------------------
    PlantedFault(
        "completion of a foreign request taken for an answer",
        "channel/transactions.py",
        "        transaction = self._outstanding.pop(packet.transaction_id, None)",
        "        transaction = self._outstanding.popitem()[1] if self._outstanding else None",
        CHANNEL,
    ),
    PlantedFault(
        "call without time that sleeps",
        "channel/direction.py",
        "        return deadline is not None and self._clock() >= deadline",
        "        return deadline is not None and self._clock() > deadline",
        CHANNEL,
    ),
    # -- queues ------------------------------------------------------------------------------------
    PlantedFault(
        "split descriptor looked at again",
        "virtio/walking.py",
        "        chain.add(index, address, length, flags)",
        "        chain.add(index, address, fetch(index * DESCRIPTOR_SIZE)[1], flags)",
        QUEUE,
    ),
    PlantedFault(
        "chain popped twice",
        "virtio/split_device.py",
        "        if head in held or len(held) + self.unknown >= self._size:",
        "        if len(held) + self.unknown >= self._size:",
        f"{DEEP}[head that the device has already]",
    ),
    PlantedFault(
        "used index that jumped believed",
        "virtio/split_driver.py",
        "        if ahead > len(self.outstanding):",
        "        if ahead > 65535:",
        QUEUE,
    ),
    PlantedFault(
        "used length longer than its room believed",
        "virtio/split_driver.py",
        "        if chain is None or length > chain[1]:",
        "        if chain is None:",
        QUEUE,
    ),
    # -- slow memory and the peer ------------------------------------------------------------------
    PlantedFault(
        "part that is told of only behind it",
        "fuzzing/slow_memory.py",
        '            access = Access("read", start, size, None, False, begins)',
        '            access = Access("read", start, size, None, True, begins)',
        SLOW + "whoever_acts_in_the_middle_of_a_read_is_seen_by_its_second_half_alone",
    ),
    PlantedFault(
        "strike that comes one access late",
        "fuzzing/hostile_peer.py",
        "        while self._waiting and self._waiting[0][0] <= self.accesses:",
        "        while self._waiting and self._waiting[0][0] < self.accesses:",
        PEER + "a_strike_comes_after_so_many_accesses_and_before_the_next",
    ),
]
