"""Ways to break a ring before somebody else does.

`explore` goes through every schedule of two sides of a channel; `explore_sides` does it for anything
that shares words, bytes and signals.
"""

from .explore import (
    ExploredMemory,
    ExploredSignal,
    RingSide,
    explore,
    stopped_clock,
)
from .machine import Violation, ViolationKind
from .packet_sides import WrongMessage, channel_sides
from .search import Result, explore_sides
from .shared import Wish, Word
from .sides import Script, Side

__all__ = [
    "ExploredMemory",
    "ExploredSignal",
    "Result",
    "RingSide",
    "Script",
    "Side",
    "Violation",
    "ViolationKind",
    "Wish",
    "Word",
    "WrongMessage",
    "channel_sides",
    "explore",
    "explore_sides",
    "stopped_clock",
]
