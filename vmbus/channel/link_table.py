"""What one side of a link knows of the other, and what each message and each event does to that.

A table; peer_link.py reads the messages and walks it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

__all__ = ["LINK_TABLE", "LinkAction", "LinkEvent", "LinkRow", "LinkState"]


class LinkState(Enum):
    """What this side knows of the other."""

    ALONE = "alone"  # nobody has attached yet
    MET = "met"  # one has, in the queue that is being read
    LEFT = "left"  # and has closed again, in the same queue
    JOINED = "joined"  # one is there
    OVER = "over"  # it has closed or is gone, for good


class LinkEvent(Enum):
    """What came out of the link, or what was noticed.

    A message is astray when its `known` is neither ours nor 0: its sender belongs to another
    attachment of our side, which is no more.
    """

    HELLO = "a hello of somebody new"
    BYE = "a bye of the one we know, or of the first we hear of"
    ASTRAY = "the one we know belongs to another attachment of our side"
    NO_MORE = "the queue has been read"
    GONE = "the process of the one we know has ended"
    END = "end of the link, or a message that no correct side sends"


class LinkAction(Enum):
    """What to do then."""

    NOTHING = "nothing"
    ADOPT = "know it, and watch its process"
    DROP = "know nobody, and watch no process"
    ANSWER = "send hello unless it knows us"
    STOP = "say that the other side is closed, and watch nothing any more"
    LEAVE = "the same, and leave the message in the queue"


class LinkRow(NamedTuple):
    state: LinkState
    event: LinkEvent
    action: LinkAction
    following: LinkState
    why: str


ROWS = (
    LinkRow(
        LinkState.ALONE,
        LinkEvent.HELLO,
        LinkAction.ADOPT,
        LinkState.MET,
        "the other side has attached",
    ),
    LinkRow(
        LinkState.ALONE,
        LinkEvent.BYE,
        LinkAction.NOTHING,
        LinkState.LEFT,
        "its hello was read by one of our side that was killed; what it sent is in the ring",
    ),
    LinkRow(
        LinkState.ALONE,
        LinkEvent.NO_MORE,
        LinkAction.NOTHING,
        LinkState.ALONE,
        "who has not attached yet is not closed",
    ),
    LinkRow(
        LinkState.ALONE,
        LinkEvent.END,
        LinkAction.STOP,
        LinkState.OVER,
        "nobody holds the other end any more, so nobody will come",
    ),
    LinkRow(
        LinkState.MET,
        LinkEvent.HELLO,
        LinkAction.ADOPT,
        LinkState.MET,
        "the one before was killed before anybody here knew of it",
    ),
    LinkRow(
        LinkState.MET,
        LinkEvent.BYE,
        LinkAction.NOTHING,
        LinkState.LEFT,
        "it came, perhaps sent something, and left; unless another comes, that is the end",
    ),
    LinkRow(
        LinkState.MET,
        LinkEvent.ASTRAY,
        LinkAction.DROP,
        LinkState.ALONE,
        "it was never ours: it waits for one of our side that is gone, and will find out by itself",
    ),
    LinkRow(
        LinkState.MET,
        LinkEvent.NO_MORE,
        LinkAction.ANSWER,
        LinkState.JOINED,
        "our first hello may have been read by one of its side that was killed",
    ),
    LinkRow(
        LinkState.MET,
        LinkEvent.END,
        LinkAction.STOP,
        LinkState.OVER,
        "it came, and all its side is gone",
    ),
    LinkRow(
        LinkState.LEFT,
        LinkEvent.HELLO,
        LinkAction.ADOPT,
        LinkState.MET,
        "another came after it, and nobody here was told of the first",
    ),
    LinkRow(
        LinkState.LEFT,
        LinkEvent.NO_MORE,
        LinkAction.STOP,
        LinkState.OVER,
        "it came and left, and no other came",
    ),
    LinkRow(
        LinkState.LEFT,
        LinkEvent.END,
        LinkAction.STOP,
        LinkState.OVER,
        "and no other will",
    ),
    LinkRow(
        LinkState.JOINED,
        LinkEvent.HELLO,
        LinkAction.LEAVE,
        LinkState.OVER,
        "two are never attached at once, so ours is gone; the hello is for our next attachment",
    ),
    LinkRow(
        LinkState.JOINED,
        LinkEvent.BYE,
        LinkAction.STOP,
        LinkState.OVER,
        "it has closed",
    ),
    LinkRow(
        LinkState.JOINED,
        LinkEvent.ASTRAY,
        LinkAction.DROP,
        LinkState.ALONE,
        "as in MET",
    ),
    LinkRow(
        LinkState.JOINED,
        LinkEvent.NO_MORE,
        LinkAction.NOTHING,
        LinkState.JOINED,
        "it is still there",
    ),
    LinkRow(
        LinkState.JOINED,
        LinkEvent.GONE,
        LinkAction.STOP,
        LinkState.OVER,
        "it was killed, or ended without closing",
    ),
    LinkRow(
        LinkState.JOINED,
        LinkEvent.END,
        LinkAction.STOP,
        LinkState.OVER,
        "it and all its side are gone",
    ),
)

#: A pair that is not in it changes nothing.  In OVER nothing is read any more.
LINK_TABLE: Mapping[tuple[LinkState, LinkEvent], LinkRow] = {(row.state, row.event): row for row in ROWS}
