"""One fast codec from one schema.

A construct schema says what a structure is and is the only place that says it; parsing with it
takes several microseconds.  FixedCodec reads the schema once, at import, and derives a
struct.Struct and the offset of every field from it.  A test holds both to the same answers.

Enums and flags keep values they have no name for: a reader of dumps must show them.

Source: construct 2.10, whose FormatField, Bytes, Padded and Renamed are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Any, Generic, NoReturn, TypeVar

import construct

__all__ = ["EnumField", "FixedCodec", "OpenIntEnum", "offset_of"]

Record = TypeVar("Record", bound="tuple[Any, ...]")


class OpenIntEnum(IntEnum):
    """An enum of numbers that also holds numbers nobody has named yet.

    >>> class Fruit(OpenIntEnum):
    ...     APPLE = 1
    >>> Fruit(1).label, Fruit(7).label, Fruit(7) == 7
    ('apple', 'unknown-7', True)
    """

    @classmethod
    def _missing_(cls, value: object) -> OpenIntEnum | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"UNKNOWN_{value}"
        member._value_ = value
        return member

    @property
    def label(self) -> str:
        """The name as people and JSON read it."""
        return self.name.lower().replace("_", "-")


class EnumField(construct.Adapter):  # type: ignore[misc]
    """A number of the schema with names: an OpenIntEnum, or an IntFlag that keeps unknown bits."""

    def __init__(self, number: Any, names: type[OpenIntEnum | IntFlag]) -> None:
        super().__init__(number)
        self.names = names

    def _decode(self, obj: int, context: Any, path: str) -> int:
        return self.names(obj)

    def _encode(self, obj: int, context: Any, path: str) -> int:
        return int(obj)


class FixedCodec(Generic[Record]):
    """Packs and unpacks the record of a fixed-size schema in one struct call.

    schema    a construct Struct of integers, Bytes and Padding
    record    a NamedTuple with the same field names in the same order

    struct    the derived struct.Struct
    size      bytes
    offsets   field name to byte offset

    Raises TypeError, at import, when the two do not agree or a field has no fixed form: then the
    code is wrong, not the data.

    >>> from typing import NamedTuple
    >>> class Point(NamedTuple):
    ...     x: int
    ...     y: int
    >>> codec = FixedCodec(construct.Struct("x" / construct.Int16ul, "y" / construct.Int32ul), Point)
    >>> codec.struct.format, codec.offsets, codec.unpack(bytes([1, 0, 2, 0, 0, 0]))
    ('<HL', {'x': 0, 'y': 2}, Point(x=1, y=2))
    """

    def __init__(self, schema: Any, record: type[Record]) -> None:
        self.schema = schema
        self.record = record
        self.offsets: dict[str, int] = {}
        names = []
        formats = []
        end = 0
        for name, field_format in fixed_fields(schema, record):
            if name is not None:
                names.append(name)
                self.offsets[name] = end
            formats.append(field_format)
            end += struct.calcsize("<" + field_format)
        self.struct = struct.Struct("<" + "".join(formats))
        self.size = self.struct.size
        fields = list(getattr(record, "_fields", ()))
        if names != fields:
            refuse(record, f"the schema names {names} and the record {fields}")
        if self.size != schema.sizeof():
            refuse(record, f"the schema has {schema.sizeof()} bytes and the derived format {self.size}")

    def pack(self, record: Record) -> bytes:
        """The bytes of `record`."""
        return self.struct.pack(*record)

    def unpack(self, buffer: bytes | memoryview, offset: int = 0) -> Record:
        """The record at `offset` in `buffer`."""
        return self.record._make(self.struct.unpack_from(buffer, offset))  # type: ignore[attr-defined, no-any-return]


def offset_of(schema: Any, field: str) -> int:
    """Bytes before that field of a construct Struct, of which every field before it has a fixed size.

    >>> offset_of(construct.Struct("x" / construct.Int16ul, "y" / construct.Int32ul), "y")
    2
    """
    offset = 0
    for one in schema.subcons:
        if one.name == field:
            return offset
        offset += one.sizeof()
    raise TypeError(f"the schema has no field {field}")


def fixed_fields(schema: Any, record: type) -> Iterator[tuple[str | None, str]]:
    """Each field of a construct Struct as (name, struct format without byte order).

    Only padding has no name: None.
    """
    if not isinstance(schema, construct.Struct):
        refuse(record, f"the schema is no construct Struct: {schema!r}")
    for field in schema.subcons:
        name, core = field.name, field
        while isinstance(core, (construct.Renamed, EnumField)):
            core = core.subcon
        if isinstance(core, construct.FormatField):
            order, letter = core.fmtstr[0], core.fmtstr[1:]
            if order != "<":
                refuse(record, f"field {name} is not little-endian")
            yield named(name, record), letter
        elif isinstance(core, construct.Bytes) and isinstance(core.length, int):
            yield named(name, record), f"{core.length}s"
        elif is_padding(core) and name is None:
            yield None, f"{core.length}x"
        else:
            refuse(record, f"field {name} has no fixed form: {core!r}")


def named(name: str | None, record: type) -> str:
    return name or refuse(record, "a field of the schema has no name")


def is_padding(core: Any) -> bool:
    """True for construct's Padding of a fixed number of zeros."""
    if not isinstance(core, construct.Padded) or not isinstance(core.length, int):
        return False
    return core.subcon is construct.Pass and core.pattern == bytes(1)


def refuse(record: type, why: str) -> NoReturn:
    raise TypeError(f"no codec for {record.__name__}: {why}")
