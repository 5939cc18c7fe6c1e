"""What `from_schema` draws is built into bytes and parsed back, for every schema of this package and every kind of part.

A schema without a fixed size, or with a part that nobody knows, is refused with the place of that part.
"""

from __future__ import annotations

import math
from typing import Any

import construct
import pytest
from construct import (
    Aligned,
    Array,
    Bit,
    BitsInteger,
    BitStruct,
    Bytes,
    BytesInteger,
    Computed,
    Const,
    CString,
    Default,
    Enum,
    FixedSized,
    Flag,
    FlagsEnum,
    Float32l,
    Float64b,
    GreedyBytes,
    GreedyRange,
    Hex,
    IfThenElse,
    Int8sb,
    Int8ul,
    Int16ub,
    Int16ul,
    Int24ul,
    Int32sl,
    Int32ul,
    Int64ul,
    Mapping,
    Nibble,
    Optional,
    Padded,
    Padding,
    PascalString,
    Prefixed,
    Rebuild,
    Sequence,
    Struct,
    Switch,
    Union,
    VarInt,
    this,
)

from tests.fuzzing.drawing import drawn
from vmbus import layout, protocols, virtio
from vmbus.errors import CallerError
from vmbus.fuzzing.strategies import from_schema, smallest
from vmbus.layout import EnumField, FixedCodec, PacketFlags, PacketType

SIMPLE = {
    "unsigned": Struct("a" / Int8ul, "b" / Int16ub, "c" / Int32ul, "d" / Int64ul, "e" / Int24ul),
    "signed": Struct("a" / Int8sb, "b" / Int32sl, "c" / BytesInteger(5, signed=True)),
    "floats": Struct("a" / Float32l, "b" / Float64b),
    "flag": Struct("a" / Flag),
    "bytes and padding": Struct("a" / Bytes(5), Padding(3), "b" / Padded(4, Int8ul)),
    "constants": Struct("magic" / Const(b"VMBU"), Const(7, Int16ul), "version" / Const(3, Int32ul)),
    "arrays": Struct("a" / Array(3, Int16ul), "b" / Int8ul[2], "c" / Array(0, Int8ul)),
    "structs": Struct("a" / Struct("b" / Struct("c" / Int8ul)), "d" / Array(2, Struct("e" / Int16ul))),
    "sequence": Sequence(Int8ul, Struct("a" / Int8ul), Bytes(2)),
    "enum": Struct("a" / Enum(Int8ul, one=1, two=2, last=255)),
    "enum without names": Struct("a" / Enum(Int8ul)),
    "enum of bits": BitStruct("a" / Enum(Bit, no=0, yes=1), "b" / Enum(BitsInteger(7), some=3)),
    "enum of every number": Struct("a" / Enum(Int8ul, **{f"n{number}": number for number in range(256)})),
    "enum of negative numbers": Struct("a" / Enum(Int8sb, least=-128), "b" / Enum(Int32sl, less=-1)),
    "flags": Struct("a" / FlagsEnum(Int16ul, low=1, middle=8, high=0x8000)),
    "mapping": Struct("a" / Mapping(Int8ul, {"zero": 0, "nine": 9})),
    "bits": BitStruct("a" / Bit, "b" / BitsInteger(3), "c" / Nibble, "d" / BitsInteger(8, signed=True)),
    "wrapped": Struct("a" / Hex(Int32ul), "b" / Aligned(4, Int8ul), "c" / Default(Int8ul, 7)),
    "one number": Int32ul,
    "one array": Array(4, Int8ul),
    "numbers with names": Struct("a" / EnumField(Int16ul, PacketType), "b" / EnumField(Int16ul, PacketFlags)),
}


def schemas_of(part: Any) -> dict[str, Any]:
    return {
        name: value
        for name in part.__all__
        if name.endswith("_SCHEMA") and isinstance(value := getattr(part, name), construct.Construct)
    }


OWN = {**schemas_of(layout), **schemas_of(protocols), **schemas_of(virtio)}
COMPUTED = {"GPA_RANGE_WITH_PAGES_SCHEMA"}
CODECS = {name: value for name in layout.__all__ if isinstance(value := getattr(layout, name), FixedCodec)}
FIXED = SIMPLE | {name: schema for name, schema in OWN.items() if name not in COMPUTED}


SIGNED = {
    "a byte": (Int8sb, -128, 127),
    "32 bits": (Int32sl, -(2**31), 2**31 - 1),
    "40 bits": (BytesInteger(5, signed=True), -(2**39), 2**39 - 1),
}


@pytest.mark.parametrize(("schema", "least", "largest"), SIGNED.values(), ids=SIGNED)
def test_numbers_with_a_sign_are_drawn_up_to_both_ends_and_no_further(schema, least, largest):
    found = drawn(from_schema(schema), 100)
    assert (min(found), max(found)) == (least, largest)


@pytest.mark.parametrize("schema", FIXED.values(), ids=FIXED)
def test_what_is_drawn_is_built_and_parsed_back(schema):
    for value in drawn(from_schema(schema), 8, batch=8):
        data = schema.build(value)
        assert len(data) == schema.sizeof()
        assert schema.parse(data) == value


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_of_a_codec_its_records_are_drawn(codec):
    for record in drawn(from_schema(codec), 8, batch=8):
        assert type(record) is codec.record
        assert codec.unpack(codec.pack(record)) == record


def test_this_package_has_schemas_to_be_tried():
    assert len(OWN) > 10
    assert set(OWN) >= COMPUTED


# -- corners -------------------------------------------------------------------------------------------------

CORNERS = {
    "least and greatest number": (Int16ul, {0, 0xFFFF, 0x8000, 0x7FFF}),
    "negative numbers": (Int8sb, {0, -1, -128, 127}),
    "every bit": (Bytes(2), {b"\0\0"}),
    "every name, and a number without one": (Enum(Int8ul, one=1, two=2), {"one", "two"}),
    "both values of a flag": (Flag, {True, False}),
    "named types": (EnumField(Int16ul, PacketType), set(map(int, PacketType))),
}


@pytest.mark.parametrize("name", CORNERS)
def test_four_hundred_values_have_each_corner(name):
    schema, corners = CORNERS[name]
    assert corners <= set(drawn(from_schema(schema), 400, batch=40))


def test_numbers_without_a_name_are_drawn_for_an_enum():
    schema = Enum(Int8ul, **{f"n{number}": number for number in range(250)})
    found = drawn(from_schema(schema), 60)
    assert any(isinstance(value, int) and value >= 250 for value in found)
    assert any(isinstance(value, str) for value in found)


def test_floats_are_never_something_that_is_not_equal_to_itself():
    assert not any(math.isnan(value) for value in drawn(from_schema(Float32l), 100))


def test_the_smallest_value_is_all_zeros():
    schema = Struct("a" / Int16ul, "b" / Bytes(3), "c" / Array(2, Int32sl), "d" / Flag)
    assert smallest(from_schema(schema), lambda value: True) == {
        "a": 0,
        "b": bytes(3),
        "c": [0, 0],
        "d": False,
    }


# -- what is refused -----------------------------------------------------------------------------------------


class Odd(construct.Adapter):  # type: ignore[misc]
    """Somebody's own class: what it builds is not known."""


REFUSED = {
    "bytes to the end": (Struct("a" / Int8ul, "b" / GreedyBytes), "field b", "GreedyBytes"),
    "a range to the end": (Struct("a" / GreedyRange(Int8ul)), "field a", "GreedyRange"),
    "a string": (Struct("a" / Struct("b" / CString("ascii"))), "field a, field b", "StringEncoded"),
    "a string with a length": (Struct("a" / PascalString(Int8ul, "ascii")), "field a", "StringEncoded"),
    "something with a length": (Struct("a" / Prefixed(Int8ul, GreedyBytes)), "field a", "Prefixed"),
    "a computed length": (Struct("a" / Int8ul, "b" / Bytes(this.a)), "field b", "length is computed"),
    "a computed count": (Struct("a" / Int8ul, "b" / Array(this.a, Int8ul)), "field b", "count is computed"),
    "a computed padding": (
        Struct("a" / Int8ul, "b" / Padded(this.a, Int8ul)),
        "field b",
        "length is computed",
    ),
    "a choice": (Struct("a" / Int8ul, "b" / Switch(this.a, {})), "field b", "Switch"),
    "a condition": (Struct("b" / IfThenElse(True, Int8ul, Int8ul)), "field b", "IfThenElse"),
    "something that may be missing": (Struct("a" / Optional(Int8ul)), "field a", "Select"),
    "a union": (Struct("a" / Union(0, "b" / Int8ul, "c" / Int8ul)), "field a", "Union"),
    "a number of any length": (Struct("a" / VarInt), "field a", "VarInt"),
    "a computed value": (Struct("a" / Computed(7)), "field a", "Computed"),
    "a rebuilt value": (Struct("a" / Rebuild(Int8ul, 7)), "field a", "Rebuild"),
    "a field without a name": (Struct("a" / Int8ul, Int16ul), "field 1", "no name"),
    "an item of an array": (Array(2, GreedyBytes), "an item of the schema", "GreedyBytes"),
    "an item of a sequence": (Sequence(Int8ul, GreedyBytes), "item 1", "GreedyBytes"),
    "a class of somebody": (Struct("a" / Odd(Int8ul)), "field a", "Odd"),
    "a lambda": (OWN["GPA_RANGE_WITH_PAGES_SCHEMA"], "field page_numbers", "count is computed"),
    "no schema": (7, "the schema", "int"),
}

#: What construct takes, and cannot build.
NEVER_BUILT = {
    "seven bits": (Struct("a" / BitStruct("b" / BitsInteger(7))), "field a", "its 7 bits are no whole bytes"),
    "name that is too large": (
        Struct("a" / Enum(Int8ul, b=300)),
        "field a",
        "'b', which is 300, cannot be built",
    ),
    "name without a sign": (Enum(Int8ul, b=-1), "the schema", "'b', which is -1, cannot be built"),
    "flag that is too large": (
        Struct("a" / FlagsEnum(Int8ul, b=256)),
        "field a",
        "'b', which is 256, cannot",
    ),
    "mapping that is too large": (
        Struct("a" / Mapping(Int8ul, {"b": 300})),
        "field a",
        "'b', which is 300, ",
    ),
    "mapping of nothing": (Struct("a" / Mapping(Int8ul, {})), "field a", "it names no value"),
    "constant that is too large": (Struct("a" / Const(300, Int8ul)), "field a", "the constant 300 cannot be"),
    "constant that is too long": (
        Struct(Const(b"abcd", Bytes(3))),
        "field 0",
        "the constant b'abcd' cannot be",
    ),
    "one name twice": (
        Struct("a" / Int8ul, "b" / Struct("c" / Int8ul, "c" / Flag)),
        "field b, field c",
        "another",
    ),
    "fewer bytes than none": (Struct("a" / Bytes(-1)), "field a", "its length is -1, and must be 0 or more"),
    "fewer items than none": (Struct("a" / Array(-1, Int8ul)), "field a", "its count is -1"),
    "number of no bytes": (
        Struct("a" / BytesInteger(0)),
        "field a",
        "its length is 0, and must be 1 or more",
    ),
    "number of no bits": (
        BitStruct("a" / BitsInteger(0)),
        "field a",
        "its length is 0, and must be 1 or more",
    ),
    "swapped half bytes": (
        BitStruct("a" / BitsInteger(12, swapped=True), Padding(4)),
        "field a",
        "cannot be built",
    ),
    "padding that is too short": (
        Struct("a" / Padded(1, Int16ul)),
        "field a",
        "its size is 2, and its length 1",
    ),
    "frame that is too short": (
        Struct("a" / FixedSized(1, Int16ul)),
        "field a",
        "its size is 2, and its length 1",
    ),
    "aligned to nothing": (Struct("a" / Aligned(1, Int8ul)), "field a", "its alignment is 1, and must be 2"),
    "bytes that are too many": (
        Struct("a" / Bytes(1 << 20)),
        "field a",
        "its size is 1048576, and may be 65536",
    ),
    "parts that are too many": (
        Array(2, Bytes(40_000)),
        "the schema",
        "its size is 80000, and may be 65536 at",
    ),
}
REFUSED |= NEVER_BUILT


def test_the_largest_schema_is_drawn():
    found = drawn(from_schema(Bytes(0x10000)), 20)
    assert {len(value) for value in found} == {0x10000}
    assert len(set(found)) > 2


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_fixed_size_or_cannot_be_built_is_refused_by_its_place_and_why(name):
    schema, place, why = REFUSED[name]
    with pytest.raises(CallerError) as caught:
        from_schema(schema)
    assert place in str(caught.value)
    assert why in str(caught.value)
    assert caught.value.argument == "schema"
