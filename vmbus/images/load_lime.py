"""LiME images, which the module LiME and AVML's older version write.

A file may go on with records of AVML's version 2: then it is read as one of those.

Sources: LiME doc/README.md and src/lime.h.
"""

from __future__ import annotations

from . import load_avml
from .dump import Dump
from .records import RecordWalk
from .source import Source
from .stored import StoredDump

__all__ = ["load"]


def load(source: Source) -> Dump:
    """The memory in a file of records."""
    walk = RecordWalk(source)
    walk.go()
    if walk.framed:
        return load_avml.load(source)
    dump = StoredDump(source, walk.segments, format="lime")
    dump.findings[:0] = walk.findings.to_list()
    return dump
