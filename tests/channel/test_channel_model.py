"""Two channels, both directions, against two lists: what arrives, what waits, and who must be signaled.

The machines of the two channel trials, over flat memory and over pages that lie apart.
"""

from __future__ import annotations

from hypothesis import settings

from vmbus.fuzzing.byte_channel_trial import ByteChannelTrial
from vmbus.fuzzing.channel_trial import ChannelTrial
from vmbus.fuzzing.machines import machine_of

in_short = settings(max_examples=60, stateful_step_count=50, deadline=None)


class TestChannelsAgainstLists(machine_of(ChannelTrial).TestCase):
    settings = in_short


class TestByteChannelsAgainstLists(machine_of(ByteChannelTrial).TestCase):
    settings = settings(in_short, max_examples=40)
