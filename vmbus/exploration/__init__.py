"""Every schedule of two sides that share rings, queues, or anything made of words, bytes and signals.

    explore          two sides of a channel, or of a pair of rings: ring_sides, channel_sides are ready-made ones
    explore_queue    a driver and a device over a virtqueue: queue_sides
    explore_sides    any two scripts

search.py says what is explored and what is not.
"""

from .explored_guest_memory import ExploredGuestMemory
from .machine import Violation, ViolationKind
from .packet_sides import WrongMessage, channel_sides, ring_sides
from .queue_explorer import QUEUE_FORMATS, QueueSide, explore_queue
from .request_sides import WrongRequest, queue_sides
from .ring_explorer import ExploredMemory, ExploredSignal, RingSide, explore, stopped_clock
from .search import MAXIMUM_STATES, MAXIMUM_STEPS, Result, explore_sides
from .shared import Wish, Word
from .sides import Script, Side

__all__ = [
    "MAXIMUM_STATES",
    "MAXIMUM_STEPS",
    "QUEUE_FORMATS",
    "ExploredGuestMemory",
    "ExploredMemory",
    "ExploredSignal",
    "QueueSide",
    "Result",
    "RingSide",
    "Script",
    "Side",
    "Violation",
    "ViolationKind",
    "Wish",
    "Word",
    "WrongMessage",
    "WrongRequest",
    "channel_sides",
    "explore",
    "explore_queue",
    "explore_sides",
    "queue_sides",
    "ring_sides",
    "stopped_clock",
]
