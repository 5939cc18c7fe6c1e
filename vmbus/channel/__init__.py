"""Two rings, a signal, and all the waiting.

Blocking channels for threads and the same three for asyncio, between the threads of one process
(`connected_channels`) or between processes (`SharedChannel`).
"""

from .asynchronous import (
    AsyncByteChannel,
    AsyncChannel,
    AsyncMessageChannel,
    AsyncPacketChannel,
    AsyncWaiters,
    Place,
)
from .asyncio_streams import ChannelTransport, open_streams
from .blocking import BlockingChannel, ByteChannel, MessageChannel, PacketChannel
from .common import Channel, Statistics, check_kind
from .descriptor_signal import Bells, DescriptorSignal, descriptor_signals, signal_ends, signal_over
from .descriptors import close_all, in_child, to_child
from .direction import LONGEST_SLEEP, check_seconds
from .hand_over import HandOverFault
from .kinds import ByteKind, MessageKind, PacketKind
from .local_signal import LocalSignal, local_signals
from .pair import connected_channels
from .peer_link import Life, LinkFault
from .polled_signal import PolledSignal, add_eventfd_waker, do_nothing
from .readiness import RECEIVER_TABLE, SENDER_TABLE, Action, Event, Row, State, table_text
from .shared import SharedChannel
from .signal import Signal
from .streams import ChannelFile
from .waiting import SignalWaiters
from .works import Trace

__all__ = [
    "LONGEST_SLEEP",
    "RECEIVER_TABLE",
    "SENDER_TABLE",
    "Action",
    "AsyncByteChannel",
    "AsyncChannel",
    "AsyncMessageChannel",
    "AsyncPacketChannel",
    "AsyncWaiters",
    "Bells",
    "BlockingChannel",
    "ByteChannel",
    "ByteKind",
    "Channel",
    "ChannelFile",
    "ChannelTransport",
    "DescriptorSignal",
    "Event",
    "HandOverFault",
    "Life",
    "LinkFault",
    "LocalSignal",
    "MessageChannel",
    "MessageKind",
    "PacketChannel",
    "PacketKind",
    "Place",
    "PolledSignal",
    "Row",
    "SharedChannel",
    "Signal",
    "SignalWaiters",
    "State",
    "Statistics",
    "Trace",
    "add_eventfd_waker",
    "check_kind",
    "check_seconds",
    "close_all",
    "connected_channels",
    "descriptor_signals",
    "do_nothing",
    "in_child",
    "local_signals",
    "open_streams",
    "signal_ends",
    "signal_over",
    "table_text",
    "to_child",
]
