"""Waiting over virtqueues: vsock sockets, and the network's poll loop."""

from .async_bridge import async_bridge, serve_async_bridge
from .asynchronous import AsyncVsockLink, AsyncVsockListener, AsyncVsockMessages, AsyncVsockStream
from .bridge import MOST_BRIDGES, BridgeEnd, BridgeResult, Relay, Way, bridge, serve_bridge
from .frame_io import Sending, StreamReport, read_frames, write_frames, write_whole
from .link import VsockLink
from .network_loop import (
    FRAME_ACTIONS,
    LONGEST_LOOP_SLEEP,
    FrameAction,
    FrameFate,
    IngressResult,
    NetworkHooks,
    NetworkLoop,
    NetworkStack,
)
from .shared import SharedVsock
from .vsock import VsockListener, VsockMessages, VsockSocket, VsockStream
from .wakes import PollWake, shared_frame_queues, wake_of

__all__ = [
    "FRAME_ACTIONS",
    "LONGEST_LOOP_SLEEP",
    "MOST_BRIDGES",
    "AsyncVsockLink",
    "AsyncVsockListener",
    "AsyncVsockMessages",
    "AsyncVsockStream",
    "BridgeEnd",
    "BridgeResult",
    "FrameAction",
    "FrameFate",
    "IngressResult",
    "NetworkHooks",
    "NetworkLoop",
    "NetworkStack",
    "PollWake",
    "Relay",
    "Sending",
    "SharedVsock",
    "StreamReport",
    "VsockLink",
    "VsockListener",
    "VsockMessages",
    "VsockSocket",
    "VsockStream",
    "Way",
    "async_bridge",
    "bridge",
    "read_frames",
    "serve_async_bridge",
    "serve_bridge",
    "shared_frame_queues",
    "wake_of",
    "write_frames",
    "write_whole",
]
