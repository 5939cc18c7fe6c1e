"""The shape of Hyper-V's storage container: the file of .vmrs, .vmcx and .vsv.

Structures are packed and little-endian; places are bytes from the start of the file.  A checksum is the CRC-32 of zlib
over the whole structure with its own four bytes as zeros.

    0 and 4096   the file header, two copies
    8192         the root object table: where all other objects are
    elsewhere    key tables, file objects, further object tables, the replay log

Sources: OpenVMM's writer of .vmrs files; public readers of .vmcx and .vmrs files.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import NamedTuple
from zlib import crc32

from . import magics

__all__ = [
    "FILE_HEADER",
    "FILE_VALUE",
    "FORMAT_VERSION",
    "HEADER_PLACES",
    "HEADER_SIGNATURE",
    "KEY",
    "KEY_TABLE",
    "KEY_TABLE_SIGNATURE",
    "LENGTH",
    "NODE_SIZE",
    "OBJECT",
    "OBJECT_TABLE",
    "OBJECT_TABLE_SIGNATURE",
    "REPLAY_LOG",
    "REPLAY_LOG_SIGNATURE",
    "ROOT_TABLE",
    "SCALARS",
    "FileHeader",
    "Key",
    "KeyFlag",
    "KeyTable",
    "KeyType",
    "ObjectEntry",
    "ObjectType",
    "ReplayLog",
    "checksum",
]

HEADER_SIGNATURE = int.from_bytes(magics.HYPERV_STORAGE, "little")
OBJECT_TABLE_SIGNATURE = 0x01110001
KEY_TABLE_SIGNATURE = 0x0002
REPLAY_LOG_SIGNATURE = 0x01110003

#: The only version that is read; in earlier ones the key tables are others.
FORMAT_VERSION = 0x0400

HEADER_PLACES = (0, 4096)
ROOT_TABLE = 8192


class FileHeader(NamedTuple):
    """One copy of the file header; of the two the one with the newer sequence counts."""

    signature: int
    checksum: int
    sequence: int
    version: int
    data_version: int
    flags: int
    alignment: int
    replay_log: int
    replay_log_size: int
    replay_log_header_size: int


FILE_HEADER = Struct("<IIHIIIIQQI")

#: An object table: its signature, and how many entries follow.
OBJECT_TABLE = Struct("<II")


class ObjectType(IntEnum):
    """What an entry of an object table stands for; those that are not read have no name here."""

    OBJECT_TABLE = 1
    KEY_TABLE = 2


class ObjectEntry(NamedTuple):
    """Where one object is."""

    type: int
    checksum: int
    place: int
    size: int
    flags: int


OBJECT = Struct("<BIQIB")


class KeyTable(NamedTuple):
    """The start of a key table; entries follow up to its end."""

    signature: int
    number: int
    sequence: int
    checksum: int


KEY_TABLE = Struct("<HHHI")


class KeyType(IntEnum):
    """What the value of a key is."""

    FREE = 1
    INTEGER = 3
    UNSIGNED = 4
    DOUBLE = 5
    STRING = 6
    ARRAY = 7
    BOOLEAN = 8
    NODE = 9


class KeyFlag(IntFlag):
    """IN_FILE_OBJECT: the value is elsewhere in the file, and the key says where."""

    IN_FILE_OBJECT = 1


class Key(NamedTuple):
    """An entry of a key table; its name and its data follow.

    size            bytes of the whole entry, which may be more than it needs
    parent_table    number of the table with the key's parent; 0 for the root, which is not stored
    parent_place    where in that table it begins
    checksum        of this structure, the name and the data
    """

    type: int
    flags: int
    size: int
    parent_table: int
    parent_place: int
    checksum: int
    sequence: int
    name_size: int


KEY = Struct("<BBIHIIIB")

#: The data of the types that have always the same size, and of a string or an array its length.
SCALARS: dict[int, Struct] = {
    KeyType.INTEGER: Struct("<q"),
    KeyType.UNSIGNED: Struct("<Q"),
    KeyType.DOUBLE: Struct("<d"),
    KeyType.BOOLEAN: Struct("<I"),
}
LENGTH = Struct("<I")
NODE_SIZE = 12

#: The data of a value that is a file object: its size, and where it is.
FILE_VALUE = Struct("<IQ")


class ReplayLog(NamedTuple):
    """The start of the replay log.

    entries   changes that were not made when the file was left; 0 in a file that was closed properly
    """

    signature: int
    checksum: int
    entries: int


REPLAY_LOG = Struct("<III22x")


def checksum(structure: bytes, place: int) -> int:
    """The checksum of a structure that has its own at `place`.

    >>> hex(checksum(bytes.fromhex("02 c3f5f851 0030000000000000 00100000 01"), 1))
    '0x51f8f5c3'
    """
    return crc32(structure[place + 4 :], crc32(bytes(4), crc32(structure[:place])))
