"""Hyper-V's storage container: values by the path of their key.

    storage = Storage(source)
    storage.value("/savedstate/VmVersion")     # 0xA00
    storage.stored("/savedstate/RamBlock0")    # where in the file, and how many bytes: nothing is read

Only version 4.0 is read.  A wrong checksum is a finding, and what it belongs to is used all the same.  The
replay log is not replayed: where it has entries, the last change to the file was not finished.

At most MOST_OBJECTS entries of object tables are looked at, and a value of more than LARGEST_VALUE bytes is not read
whole.

Sources: as hyperv_storage_layout.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn, TypeAlias

from vmbus.errors import CallerError, DumpError

from .findings import Finding
from .hyperv_storage_keys import MOST_TABLE_BYTES, KeyTree, Notes, Table
from .hyperv_storage_layout import (
    FILE_HEADER,
    FILE_VALUE,
    FORMAT_VERSION,
    HEADER_PLACES,
    HEADER_SIGNATURE,
    KEY_TABLE,
    KEY_TABLE_SIGNATURE,
    LENGTH,
    OBJECT,
    OBJECT_TABLE,
    OBJECT_TABLE_SIGNATURE,
    REPLAY_LOG,
    REPLAY_LOG_SIGNATURE,
    ROOT_TABLE,
    SCALARS,
    FileHeader,
    KeyFlag,
    KeyTable,
    KeyType,
    ObjectEntry,
    ObjectType,
    ReplayLog,
    checksum,
)
from .source import Source

__all__ = ["LARGEST_VALUE", "MOST_OBJECTS", "Storage", "Value"]

MOST_OBJECTS = 1 << 22
LARGEST_VALUE = 1 << 26

#: Entries of an object table that are read at once.
ENTRIES_AT_ONCE = 1 << 15

Value: TypeAlias = "int | float | bool | str | bytes | None"


class Storage:
    """The keys of a container, and what they hold.

    source     the file
    header     the copy of the file header that counts
    findings   what is wrong with the file

    Raises DumpError when it is no such file, or of another version.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self._notes = Notes()
        self.header = self._header()
        self._check_replay_log()
        self._tree = KeyTree(self._tables(), self._notes)

    @property
    def findings(self) -> list[Finding]:
        return self._notes.findings()

    # -- values --------------------------------------------------------------------------------

    def keys(self) -> Iterator[str]:
        """The paths of all keys; those whose parent is not in the file are below "/?"."""
        return (path for path, _ in self._tree.walk())

    def walk(self) -> Iterator[tuple[str, int]]:
        """The same, each path with a number that `value_at` and `stored_at` take."""
        return self._tree.walk()

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._tree.find(path) is not None

    def __len__(self) -> int:
        return len(self._tree)

    def value(self, path: str) -> Value:
        """What a key holds: a number, a string, the bytes of an array; None of a node, which has only children."""
        return self.value_at(self._find(path))

    def stored(self, path: str) -> tuple[int, int]:
        """Where in the file a key's value is, and how many bytes it has; of a string or an array without its length."""
        return self.stored_at(self._find(path))

    def type_at(self, number: int) -> int:
        """What kind of value a key has, as KeyType."""
        return self._tree.entry(number).key.type

    def stored_at(self, number: int) -> tuple[int, int]:
        """`stored` of the key that `walk` has given this number."""
        key, table, start, end = self._tree.entry(number)
        if key.flags & KeyFlag.IN_FILE_OBJECT:
            self._check_room(table, start, end, FILE_VALUE.size)
            size, offset = FILE_VALUE.unpack_from(table.data, start)
            return offset, size
        if key.type not in (KeyType.STRING, KeyType.ARRAY):
            return table.place + start, SCALARS[key.type].size if key.type in SCALARS else end - start
        self._check_room(table, start, end, LENGTH.size)
        (size,) = LENGTH.unpack_from(table.data, start)
        start += LENGTH.size
        self._check_room(table, start, end, size)
        return table.place + start, size

    def value_at(self, number: int) -> Value:
        """`value` of the key that `walk` has given this number."""
        kind = self.type_at(number)
        if kind == KeyType.NODE:
            return None
        offset, size = self.stored_at(number)
        if size > LARGEST_VALUE:
            self._refuse(f"has a value of {size} bytes; up to {LARGEST_VALUE} are read whole", offset)
        data = self.source.read(offset, size)
        if kind == KeyType.ARRAY:
            return data
        if kind == KeyType.STRING:
            text = data[: size // 2 * 2].decode("utf-16-le", errors="replace")
            return text.removesuffix("\0")
        if kind not in SCALARS or size < SCALARS[kind].size:
            self._refuse(f"has a value of {size} bytes and type {kind}, which means nothing", offset)
        value: int | float = SCALARS[kind].unpack_from(data)[0]
        return bool(value) if kind == KeyType.BOOLEAN else value

    def _find(self, path: str) -> int:
        number = self._tree.find(path)
        if number is None:
            raise CallerError(f"{self.source.path} has no key {path!r}", argument="path", value=path)
        return number

    def _check_room(self, table: Table, start: int, end: int, size: int) -> None:
        if size > end - start:
            message = f"has a key whose value of {size} bytes is longer than its entry"
            self._refuse(message, table.place + start)

    def _refuse(self, message: str, place: int) -> NoReturn:
        raise DumpError(message, path=self.source.path, place=place)

    # -- the header ----------------------------------------------------------------------------

    def _header(self) -> FileHeader:
        """The copy of the file header that counts: with a right checksum, and the newer one."""
        copies = [copy for place in HEADER_PLACES for copy in self._header_at(place)]
        if not copies:
            self._refuse("does not begin as a Hyper-V storage container does, nor does its second page", 0)
        header, good = copies[0]
        for other, other_good in copies[1:]:
            if (other_good, newer(other.sequence, header.sequence)) > (good, False):
                header, good = other, other_good
        if header.version != FORMAT_VERSION:
            version = f"{header.version >> 8}.{header.version & 0xFF}"
            self._refuse(f"is a Hyper-V storage container of version {version}; only 4.0 is read", 10)
        return header

    def _header_at(self, place: int) -> Iterator[tuple[FileHeader, bool]]:
        """The copy at a place, when there is one, and whether its checksum is right."""
        if self.source.size < place + FILE_HEADER.size:
            return
        data = self.source.read(place, FILE_HEADER.size)
        header = FileHeader(*FILE_HEADER.unpack(data))
        if header.signature != HEADER_SIGNATURE:
            self._notes.add("storage-header", "a copy of the file header is none", place)
            return
        good = checksum(data, 4) == header.checksum
        if not good:
            self._notes.add("storage-checksum", "a copy of the file header has a wrong checksum", place)
        yield header, good

    def _check_replay_log(self) -> None:
        place = self.header.replay_log
        if not self.header.replay_log_size:
            return
        if place + REPLAY_LOG.size > self.source.size:
            self._notes.add("image-cut-short", "the replay log lies behind the end of the file", place)
            return
        data = self.source.read(place, REPLAY_LOG.size)
        log = ReplayLog(*REPLAY_LOG.unpack(data))
        if log.signature != REPLAY_LOG_SIGNATURE:
            self._notes.add("storage-replay-log", "there is no replay log where it should be", place)
            return
        if checksum(data, 4) != log.checksum:
            self._notes.add("storage-checksum", "the replay log has a wrong checksum", place)
        if log.entries:
            what = (
                f"the last change to the file was not finished: {log.entries} entries are in its replay log"
            )
            self._notes.add("storage-dirty", what, place)

    # -- tables --------------------------------------------------------------------------------

    def _tables(self) -> dict[int, Table]:
        """The key tables by their number; of two with one number the higher sequence counts."""
        tables: dict[int, Table] = {}
        seen = set()
        left = MOST_TABLE_BYTES
        for entry in self._objects():
            if entry.type != ObjectType.KEY_TABLE or entry.place in seen:
                continue
            seen.add(entry.place)
            table = self._table(entry, left)
            if table is None:
                continue
            left -= len(table.data)
            if table.number not in tables or table.sequence > tables[table.number].sequence:
                tables[table.number] = table
        return tables

    def _table(self, entry: ObjectEntry, left: int) -> Table | None:
        """A key table, as much of it as there is; None where there is none."""
        size = min(entry.size, max(self.source.size - entry.place, 0))
        if size < entry.size:
            self._notes.add("image-cut-short", "a key table ends behind the end of the file", entry.place)
        if size < KEY_TABLE.size:
            return None
        head = self.source.read(entry.place, KEY_TABLE.size)
        header = KeyTable(*KEY_TABLE.unpack(head))
        if header.signature != KEY_TABLE_SIGNATURE:
            self._notes.add("storage-table", "there is no key table where one should be", entry.place)
            return None
        if checksum(head, 6) != header.checksum:
            self._notes.add("storage-checksum", "a key table has a wrong checksum", entry.place)
        if size > left:
            what = f"key tables have more than {MOST_TABLE_BYTES} bytes; the rest is left out"
            self._notes.add("storage-table", what, entry.place)
            return None
        return Table(header.number, header.sequence, entry.place, self.source.read(entry.place, size))

    def _objects(self) -> Iterator[ObjectEntry]:
        """The object tables and key tables that the object tables list."""
        waiting, seen = [ROOT_TABLE], {ROOT_TABLE}
        left = MOST_OBJECTS
        while waiting:
            place = waiting.pop()
            count = self._entry_count(place)
            if count > left:
                what = f"object tables have more than {MOST_OBJECTS} entries; the rest is left out"
                self._notes.add("storage-table", what, place)
                count = left
            left -= count
            for entry in self._entries(place + OBJECT_TABLE.size, count):
                if entry.type == ObjectType.OBJECT_TABLE and entry.place not in seen:
                    seen.add(entry.place)
                    waiting.append(entry.place)
                yield entry

    def _entry_count(self, place: int) -> int:
        """How many entries of an object table the file has."""
        there = self.source.size - place - OBJECT_TABLE.size
        if there >= 0:
            signature, count = OBJECT_TABLE.unpack(self.source.read(place, OBJECT_TABLE.size))
            if signature == OBJECT_TABLE_SIGNATURE:
                if count * OBJECT.size > there:
                    self._notes.add(
                        "image-cut-short", "an object table ends behind the end of the file", place
                    )
                return min(int(count), there // OBJECT.size)
        if place == ROOT_TABLE:
            self._refuse("has no object table, which would say where everything is", place)
        self._notes.add("storage-table", "there is no object table where one should be", place)
        return 0

    def _entries(self, place: int, count: int) -> Iterator[ObjectEntry]:
        """Those of `count` entries that are tables."""
        for first in range(0, count, ENTRIES_AT_ONCE):
            start = place + first * OBJECT.size
            data = self.source.read(start, min(ENTRIES_AT_ONCE, count - first) * OBJECT.size)
            for number, fields in enumerate(OBJECT.iter_unpack(data)):
                if fields[0] in TABLES:
                    entry, at = ObjectEntry(*fields), number * OBJECT.size
                    if checksum(data[at : at + OBJECT.size], 1) != entry.checksum:
                        what = "an entry of an object table has a wrong checksum"
                        self._notes.add("storage-checksum", what, start + at)
                    yield entry


TABLES = frozenset((ObjectType.OBJECT_TABLE, ObjectType.KEY_TABLE))


def newer(sequence: int, other: int) -> bool:
    """Whether a sequence of 16 bits follows another one.

    >>> newer(2, 1), newer(0, 65535), newer(7, 7)
    (True, True, False)
    """
    if (sequence - other) & 0xFFFF == 1:
        return True
    return sequence > other and (other - sequence) & 0xFFFF != 1
