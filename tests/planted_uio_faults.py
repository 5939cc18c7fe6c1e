"""Faults to plant where a channel's other side goes and takes the memory with it, and where one is only watched.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_UIO_FAULTS"]

GIVE_UP = "channel/test_give_up.py::test_"
ENDS_ALL = GIVE_UP + "a_channel_that_was_given_up_ends_every_call_and_touches_no_ring"
SENDER = "uio/test_double_revoked.py::test_a_sender_that_never_waits_stores_no_more_once_a_signal_found_the_device_gone[late-interrupt]"
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
        "        self.signal.peer_closed = True",
        ENDS_ALL,
    ),
    PlantedFault(
        "closed here, and said to be the other side's doing",
        "channel/direction.py",
        "        self._ending = ChannelClosed",
        "        self._ending = self._ending or ChannelClosed",
        ENDS_ALL,
    ),
    PlantedFault(
        "ring shown after its memory is gone",
        "channel/common.py",
        "        if self._given_up:",
        "        if self._given_up and self.peer_closed:",
        ENDS_ALL,
    ),
    PlantedFault(
        "observer that looks at memory that is somebody else's",
        "uio/observing.py",
        "        if revoked or now is None or not now.is_open:",
        "        if revoked:",
        OBSERVING + "memory_that_was_given_to_somebody_else_is_not_looked_at",
    ),
    PlantedFault(
        "observer that opens again what its user has closed",
        "uio/observing.py",
        "                self._check_open()  # or to open the device would open the channel, and empty its rings",
        "                pass",
        OBSERVING + "a_channel_that_its_user_has_closed_is_not_opened_again_to_listen",
    ),
    PlantedFault(
        "bytes copied without asking whether they are there",
        "uio/fading_memory.py",
        "            copied = os.pwrite(self._descriptor, view, 0)",
        "            copied = os.pwrite(self._descriptor, bytes(view), 0)",
        OBSERVING + "memory_that_is_taken_away_is_an_error_and_not_the_end_of_the_process",
    ),
    PlantedFault(
        "wait of an observer that outlives it",
        "uio/observing.py",
        "            waiters.close(self._held.close)",
        "            self._held.close()",
        OBSERVING + "closing_ends_the_waits_of_other_threads[None]",
    ),
    PlantedFault(
        "sender that is not told that the device is gone",
        "uio/signal.py",
        "        if self._ring() is False:",
        "        if self._ring() is None:",
        SENDER,
    ),
    PlantedFault(
        "observer that may store",
        "uio/snapshots.py",
        "            system.map_file(device.ring_file(channel.relid), rings.size, writable=False), halves",
        "            system.map_file(device.ring_file(channel.relid), rings.size, writable=True), halves",
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
