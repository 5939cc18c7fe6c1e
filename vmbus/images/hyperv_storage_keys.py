"""The keys of a Hyper-V storage container: a tree of names, kept in tables.

A key is known by the place of its entry: the number of its table and an offset in that.  Its parent is named
likewise and may be in any table, so that all tables are read before the tree can be made.  The root has no entry.

At most MOST_KEYS keys are taken, of tables with at most MOST_TABLE_BYTES in all; a key DEEPEST levels below the
root, and those under it, can be asked for by path but are not listed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from .findings import Finding, Severity
from .hyperv_storage_layout import (
    FILE_VALUE,
    KEY,
    KEY_TABLE,
    LENGTH,
    NODE_SIZE,
    SCALARS,
    Key,
    KeyFlag,
    KeyType,
    checksum,
)

__all__ = ["DEEPEST", "MOST_KEYS", "MOST_TABLE_BYTES", "Entry", "KeyTree", "Notes", "Table"]

MOST_KEYS = 1 << 20
MOST_TABLE_BYTES = 1 << 27
DEEPEST = 16

#: The place of the root, which has no entry; and where keys are put whose parent is not in the file.
ROOT, ORPHANS = 0, -1

#: Their name in paths.
ORPHAN_NAME = "?"

CHECKSUM_PLACE = 12


class Notes:
    """What is wrong with a container, counted: of each kind one finding, with the first place."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._first: dict[tuple[str, str], int] = {}

    def add(self, check: str, what: str, place: int) -> None:
        """Note one `what`, a sentence without an end, at a place in the file."""
        self._counts[check, what] += 1
        self._first.setdefault((check, what), place)

    def findings(self) -> list[Finding]:
        found = []
        for (check, what), count in self._counts.items():
            times = f" ({count} times)" if count > 1 else ""
            message = f"{what}, at {self._first[check, what]:#x} in the file{times}"
            found.append(Finding(check, Severity.WARNING, None, message))
        return found


class Table(NamedTuple):
    """A key table, header included.

    number     what its keys and those of other tables know it by
    sequence   of two tables with one number the higher counts
    place      where in the file it begins
    """

    number: int
    sequence: int
    place: int
    data: bytes


class Entry(NamedTuple):
    """A key, and where in its table its data begins and ends, with padding."""

    key: Key
    table: Table
    start: int
    end: int


class KeyTree:
    """All keys of the tables."""

    def __init__(self, tables: dict[int, Table], notes: Notes) -> None:
        self._tables = tables
        self._children: dict[int, dict[str, int]] = {}
        self._notes = notes
        self._count = 0
        for table in tables.values():
            for offset, key in entries_of(table):
                self._take(table, offset, key)
        self._adopt_orphans()
        self._check_reach()

    def __len__(self) -> int:
        return self._count

    def find(self, path: str) -> int | None:
        """The place of a key; None when there is none of that path."""
        place = ROOT
        names = path.split("/")
        if names[0]:
            return None
        for depth, name in enumerate(names[1:]):
            if not depth and name == ORPHAN_NAME and ORPHANS in self._children:
                place = ORPHANS
                continue
            found = self._children.get(place, {}).get(name)
            if found is None:
                return None
            place = found
        return None if place in (ROOT, ORPHANS) else place

    def walk(self) -> Iterator[tuple[str, int]]:
        """Every key as path and place, parents before their children."""
        for prefix, start in (("", ROOT), (f"/{ORPHAN_NAME}", ORPHANS)):
            levels = [(prefix, iter(self._children.get(start, {}).items()))]
            while levels:
                above, names = levels[-1]
                name, place = next(names, ("", ROOT))
                if place == ROOT:
                    levels.pop()
                    continue
                path = f"{above}/{name}"
                yield path, place
                children = self._children.get(place)
                if children and len(levels) < DEEPEST:
                    levels.append((path, iter(children.items())))

    def entry(self, place: int) -> Entry:
        """The key at a place that `find` or `walk` gave."""
        table, offset = self._tables[place >> 32], place & 0xFFFFFFFF
        key = Key(*KEY.unpack_from(table.data, offset))
        return Entry(key, table, offset + KEY.size + key.name_size, offset + key.size)

    # -- making the tree -----------------------------------------------------------------------

    def _take(self, table: Table, offset: int, key: Key) -> None:
        if self._count >= MOST_KEYS:
            self._notes.add(
                "storage-keys", f"there are more than {MOST_KEYS} keys; the rest is left out", table.place
            )
            return
        name_end = offset + KEY.size + key.name_size
        data = data_size(table.data, name_end, key)
        content = table.data[offset : min(name_end + data, offset + key.size)]
        place = table.place + offset
        if checksum(content, CHECKSUM_PLACE) != key.checksum:
            self._notes.add("storage-checksum", "a key has a wrong checksum", place)
        name = key_name(table.data[offset + KEY.size : name_end])
        parent = key.parent_table << 32 | key.parent_place if key.parent_table else ROOT
        siblings = self._children.setdefault(parent, {})
        if name in siblings:
            self._notes.add("storage-keys", "a key is there twice; the first counts", place)
            return
        siblings[name] = table.number << 32 | offset
        self._count += 1

    def _adopt_orphans(self) -> None:
        """Give the keys whose parent does not exist one of their own."""
        unknown = self._children.keys() - {ROOT}
        for table in self._tables.values():
            if unknown:
                unknown -= {table.number << 32 | offset for offset, _ in entries_of(table)}
        for place in sorted(unknown):
            adopted = self._children.setdefault(ORPHANS, {})
            for name, child in self._children.pop(place).items():
                adopted.setdefault(name, child)
                table, offset = self._tables[child >> 32], child & 0xFFFFFFFF
                self._notes.add("storage-keys", "a key's parent is not in the file", table.place + offset)

    def _check_reach(self) -> None:
        """Note keys that no path leads to: those of a loop, and those too deep."""
        waiting = [(place, 0) for place in (ROOT, ORPHANS)]
        reached = 0
        while waiting:
            place, depth = waiting.pop()
            children = self._children.get(place, {})
            reached += len(children)
            if depth + 1 < DEEPEST:
                waiting += [(child, depth + 1) for child in children.values() if child in self._children]
        if reached < self._count:
            what = f"{self._count - reached} keys are their own parents, or deeper than {DEEPEST} levels"
            self._notes.add("storage-keys", what, next(iter(self._tables.values())).place)


def entries_of(table: Table) -> Iterator[tuple[int, Key]]:
    """The keys of a table and their offsets in it, without what is free, up to the first that cannot be."""
    data, offset = table.data, KEY_TABLE.size
    while offset + KEY.size <= len(data):
        key = Key(*KEY.unpack_from(data, offset))
        if key.size < KEY.size or offset + key.size > len(data):
            return
        if key.type != KeyType.FREE and KEY.size + key.name_size <= key.size:
            yield offset, key
        offset += key.size


def data_size(data: bytes, start: int, key: Key) -> int:
    """How many bytes of an entry are data; what follows is padding."""
    if key.flags & KeyFlag.IN_FILE_OBJECT:
        return FILE_VALUE.size
    if key.type in (KeyType.STRING, KeyType.ARRAY):
        return LENGTH.size + int.from_bytes(data[start : start + LENGTH.size], "little")
    if key.type == KeyType.NODE:
        return NODE_SIZE
    return SCALARS[key.type].size if key.type in SCALARS else key.size


def key_name(data: bytes) -> str:
    """A name without its final NUL; a slash in it, which would end a level of the path, as its code."""
    name = data[:-1] if data[-1:] == b"\0" else data
    return name.decode(errors="replace").replace("/", "%2F")
