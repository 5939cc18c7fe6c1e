"""Faults to plant where a channel's other side goes and takes the memory with it, and where one is only watched.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_UIO_FAULTS"]

GIVE_UP = "channel/test_give_up.py::test_"
ENDS_ALL = GIVE_UP + "a_channel_that_was_given_up_ends_every_call_and_touches_no_ring"
OBSERVING = "uio/test_observing.py::test_"

PLANTED_UIO_FAULTS = [
    PlantedFault(
        "given up, and said to be closed here",
        "channel/direction.py",
        "        self._ending = PeerClosed",
        "        self._ending = ChannelClosed",
        ENDS_ALL,
    ),
    PlantedFault(
        "ring touched after its memory is gone",
        "channel/direction.py",
        "        self.closed = True  # the last: whoever sees it finds why",
        "        pass",
        ENDS_ALL,
    ),
    PlantedFault(
        "closed here, and said to be the other side's doing",
        "channel/direction.py",
        "        self._ending = ChannelClosed",
        "        pass",
        ENDS_ALL,
    ),
    PlantedFault(
        "ring shown after its memory is gone",
        "channel/common.py",
        "        if self._given_up:",
        "        if False:",
        ENDS_ALL,
    ),
    PlantedFault(
        "observer that looks at a revoked device",
        "uio/observing.py",
        "            self._gone = True",
        "            pass",
        OBSERVING + "a_revoked_device_ends_a_wait_and_is_looked_at_no_more",
    ),
    PlantedFault(
        "observer that may store",
        "uio/snapshots.py",
        "        return MappedRings(system.map_file(ring_file(device, channel), rings.size, writable=False), halves)",
        "        return MappedRings(system.map_file(ring_file(device, channel), rings.size, writable=True), halves)",
        OBSERVING + "what_waits_is_seen_and_stays_and_nothing_is_stored",
    ),
    PlantedFault(
        "observer that opens a channel nobody has open",
        "uio/observing.py",
        "        self.channel = channel_when_open(self._system, self.info, wanted.relid, timeout)",
        "        self.channel = wanted",
        OBSERVING + "of_a_channel_that_nobody_has_open_nothing_is_opened",
    ),
]
