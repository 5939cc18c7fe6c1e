"""The quick codec and the schema it was derived from are one statement.

For every codec of vmbus.layout: the same bytes give the same values, field by field, and the same
values give the same bytes, in both directions.  A codec that cannot be derived is refused when it
is made.

The comparison itself is tried on codecs put wrong on purpose: see the last tests.
"""

from __future__ import annotations

import copy
import pickle
import struct
from typing import Any, NamedTuple

import construct
import pytest
from construct import (
    Array,
    BitStruct,
    Bytes,
    Computed,
    Const,
    CString,
    Default,
    GreedyBytes,
    If,
    Int8ub,
    Int8ul,
    Int16ub,
    Int16ul,
    Int24ul,
    Int32sl,
    Int32ub,
    Int32ul,
    Int32un,
    Int64ul,
    Nibble,
    Optional,
    Padded,
    Padding,
    Prefixed,
    Rebuild,
    Struct,
    Union,
    VarInt,
    this,
)
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from vmbus import layout
from vmbus.layout import EnumField, FixedCodec, OpenIntEnum, PacketFlags, PacketType, PipePacketType

CODECS = {name: value for name in layout.__all__ if isinstance(value := getattr(layout, name), FixedCodec)}
every_codec = pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS.keys())

#: Every bit clear, every bit set, the top bit alone, or anything.
bytes_of_a_field = st.sampled_from([b"\0", b"\xff", b"\x80", b"\x01", b"\x7f"]) | st.binary(
    min_size=1, max_size=1
)


def images(size: int) -> st.SearchStrategy[bytes]:
    """Random bytes, rich in the values at which a wrong width or sign shows."""
    return st.lists(bytes_of_a_field, min_size=size, max_size=size).map(b"".join) | st.binary(
        min_size=size, max_size=size
    )


def check_agreement(codec: FixedCodec[Any], image: bytes) -> None:
    """Raise AssertionError where codec and schema differ over `image`."""
    record, parsed = codec.unpack(image), codec.schema.parse(image)
    assert type(record) is codec.record
    for name, value in zip(record._fields, record, strict=True):
        assert parsed[name] == value, name
        assert type(value) in (int, bytes), name
    assert codec.pack(record) == codec.schema.build(parsed) == image
    assert codec.schema.build(record._asdict()) == image
    assert codec.pack(codec.record(**{name: parsed[name] for name in record._fields})) == image
    assert codec.size == codec.schema.sizeof() == len(image)


def check_offsets(codec: FixedCodec[Any], image: bytes, other: bytes) -> None:
    """Raise AssertionError when a field of `other` put into `image` changes other bytes than its own."""
    record, donor = codec.unpack(image), codec.unpack(other)
    ends = [*list(codec.offsets.values())[1:], codec.size]
    for (name, start), end in zip(codec.offsets.items(), ends, strict=True):
        mixed = codec.pack(record._replace(**{name: getattr(donor, name)}))
        assert mixed == image[:start] + other[start:end] + image[end:], name


def test_the_codecs_are_these():
    assert sorted(CODECS) == [
        "CONTROL_PAGE",
        "FOOTER",
        "GPA_DIRECT_HEADER",
        "GPA_RANGE",
        "PACKET_DESCRIPTOR",
        "PARTIAL_PIPE_HEADER",
        "PIPE_HEADER",
        "TRANSFER_PAGE_HEADER",
        "TRANSFER_PAGE_RANGE",
    ]


@every_codec
@settings(deadline=None, max_examples=60, derandomize=True)
@given(data=st.data())
def test_codec_and_schema_agree_on_any_bytes_in_both_directions(codec, data):
    check_agreement(codec, data.draw(images(codec.size)))


@every_codec
@settings(deadline=None, max_examples=30, derandomize=True)
@given(data=st.data())
def test_a_field_fills_its_own_bytes_and_no_others(codec, data):
    check_offsets(codec, data.draw(images(codec.size)), data.draw(images(codec.size)))


@every_codec
def test_a_record_is_unpacked_where_it_lies(codec):
    image = bytes(range(1, codec.size + 1))
    for buffer in (b"before" + image + b"behind", memoryview(b"before" + image)):
        assert codec.unpack(buffer, 6) == codec.unpack(image)
    with pytest.raises(struct.error):
        codec.unpack(image, 1)


@every_codec
def test_a_value_that_does_not_fit_its_field_is_refused_by_both(codec):
    record = codec.unpack(bytes(codec.size))
    for name in record._fields:
        if isinstance(getattr(record, name), bytes):
            continue
        for value in (-1, 2**64):
            wrong = record._replace(**{name: value})
            with pytest.raises(struct.error):
                codec.pack(wrong)
            with pytest.raises(construct.ConstructError):
                codec.schema.build(wrong._asdict())


@every_codec
def test_every_field_is_named_alike_in_schema_and_record(codec):
    named = [field.name for field in codec.schema.subcons if field.name is not None]
    assert named == list(codec.record._fields) == list(codec.offsets)


# -- enums and flags -------------------------------------------------------------------------


@pytest.mark.parametrize("names", [PacketType, PipePacketType])
@pytest.mark.parametrize("value", [14, 99, 0xFFFF, 0xFFFF_FFFF])
def test_a_number_without_a_name_is_kept(names, value):
    unknown = names(value)
    assert unknown == value and isinstance(unknown, names)
    assert (unknown.name, unknown.label) == (f"UNKNOWN_{value}", f"unknown-{value}")
    assert hash(unknown) == hash(value)
    assert pickle.loads(pickle.dumps(unknown)) == copy.deepcopy(unknown) == unknown
    assert value not in list(names)


def test_a_number_with_a_name_has_a_label_for_people():
    assert [kind.label for kind in (PacketType.IN_BAND, PacketType.GPA_DIRECT)] == ["in-band", "gpa-direct"]
    assert PacketType(6) is PacketType.IN_BAND
    assert all(kind.label == kind.name.lower().replace("_", "-") for kind in PacketType)


@pytest.mark.parametrize("value", ["in-band", None, 6.5, b"6"])
def test_what_is_no_number_is_no_type(value):
    with pytest.raises(ValueError):
        PacketType(value)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(type_value=st.integers(0, 0xFFFF), flags_value=st.integers(0, 0xFFFF))
def test_unknown_types_and_flag_bits_go_through_schema_and_codec_unchanged(type_value, flags_value):
    image = struct.pack("<HHHHQ", type_value, 2, 3, flags_value, 0)
    parsed = layout.PACKET_DESCRIPTOR_SCHEMA.parse(image)
    assert (int(parsed.type), int(parsed.flags)) == (type_value, flags_value)
    assert isinstance(parsed.type, PacketType) and isinstance(parsed.flags, PacketFlags)
    assert bool(parsed.flags & PacketFlags.COMPLETION_REQUESTED) == bool(flags_value & 1)
    assert layout.PACKET_DESCRIPTOR_SCHEMA.build(parsed) == image
    record = layout.PACKET_DESCRIPTOR.unpack(image)
    assert (record.type, record.flags) == (type_value, flags_value)
    assert layout.PACKET_DESCRIPTOR.pack(record._replace(type=parsed.type, flags=parsed.flags)) == image


def test_unknown_feature_bits_and_pipe_types_are_kept_by_the_schema():
    page = layout.CONTROL_PAGE_SCHEMA.parse(bytes(64) + b"\xff\xff\xff\xff" + bytes(60))
    assert int(page.feature_bits) == 0xFFFF_FFFF
    assert layout.CONTROL_PAGE_SCHEMA.build(page)[64:68] == b"\xff\xff\xff\xff"
    header = layout.PIPE_HEADER_SCHEMA.parse(b"\x09\x00\x00\x80" + bytes(4))
    assert header.packet_type == 0x80000009
    assert header.packet_type.label == "unknown-2147483657"


# -- what no codec can be made of ------------------------------------------------------------


class Pair(NamedTuple):
    """The record of the refusals."""

    first: int
    second: int


class Color(OpenIntEnum):
    """An enum for a field."""

    RED = 1


def test_the_codec_of_a_good_pair_is_made():
    schema = Struct("first" / Int16ul, Padding(2), "second" / EnumField(Int32ul, Color))
    codec = FixedCodec(schema, Pair)
    assert (codec.struct.format, codec.size, codec.offsets) == ("<H2xL", 8, {"first": 0, "second": 4})
    check_agreement(codec, bytes([1, 2, 0, 0, 1, 0, 0, 0]))
    assert codec.pack(Pair(1, Color(9))) == bytes([1, 0, 0, 0, 9, 0, 0, 0])


DISAGREEING = {
    "a name that differs": Struct("first" / Int16ul, "other" / Int16ul),
    "the other order": Struct("second" / Int16ul, "first" / Int16ul),
    "a field too few": Struct("first" / Int16ul),
    "no field": Struct(),
    "a field too many": Struct("first" / Int16ul, "second" / Int16ul, "third" / Int16ul),
    "a name twice": Struct("first" / Int16ul, "second" / Int16ul, "second" / Int16ul),
    "a number without a name": Struct("first" / Int16ul, Int16ul, "second" / Int16ul),
    "bytes without a name": Struct("first" / Int16ul, Bytes(2), "second" / Int16ul),
    "an enum without a name": Struct("first" / Int16ul, EnumField(Int16ul, Color), "second" / Int16ul),
}

NOT_FIXED = {
    "big-endian": Int16ub,
    "big-endian byte": Int8ub,
    "big-endian 32 bits": Int32ub,
    "big-endian in an enum": EnumField(Int16ub, Color),
    "order of the machine": Int32un,
    "24 bits": Int24ul,
    "a number of any length": VarInt,
    "all that is left": GreedyBytes,
    "a length from elsewhere": Bytes(this.first),
    "a length that is computed": Bytes(lambda context: 4),
    "a length in front": Prefixed(Int8ul, GreedyBytes),
    "up to a zero": CString("ascii"),
    "an array": Array(2, Int16ul),
    "an array by its length": Int16ul[2],
    "a structure": Struct("inner" / Int16ul),
    "bits": BitStruct("high" / Nibble, "low" / Nibble),
    "a choice": If(this.first, Int16ul),
    "perhaps nothing": Optional(Int16ul),
    "a constant": Const(b"ab"),
    "a default": Default(Int16ul, 1),
    "a value of its own": Computed(7),
    "built from elsewhere": Rebuild(Int16ul, this.first),
    "padding with a name": Padding(2),
    "construct's own enum": construct.Enum(Int16ul, red=1),
    "construct's own flags": construct.FlagsEnum(Int16ul, red=1),
}

NO_STRUCT = {
    "one number": Int16ul,
    "a sequence": construct.Sequence("first" / Int16ul, "second" / Int16ul),
    "a union": Union(0, "first" / Int16ul, "second" / Int16ul),
    "bits": BitStruct("first" / Nibble, "second" / Nibble),
    "nothing": None,
}

NOT_JUST_PADDING = {
    "padding of any length": Struct("first" / Int16ul, Padding(this.first), "second" / Int16ul),
    "padding that is not zero": Struct("first" / Int16ul, Padding(2, b"\xff"), "second" / Int16ul),
    "padding around a number": Struct("first" / Int16ul, Padded(4, Int16ul), "second" / Int16ul),
}


@pytest.mark.parametrize("schema", DISAGREEING.values(), ids=DISAGREEING.keys())
def test_a_schema_and_a_record_that_differ_are_refused_when_the_codec_is_made(schema):
    with pytest.raises(TypeError, match="no codec for Pair"):
        FixedCodec(schema, Pair)


@pytest.mark.parametrize("field", NOT_FIXED.values(), ids=NOT_FIXED.keys())
@pytest.mark.parametrize("place", ["first", "second"])
def test_a_field_without_a_fixed_form_is_refused_when_the_codec_is_made(field, place):
    fields = {"first": Int16ul, "second": Int16ul, place: field}
    schema = Struct(*(name / kind for name, kind in fields.items()))
    with pytest.raises(TypeError, match=f"no codec for Pair: field {place} "):
        FixedCodec(schema, Pair)


@pytest.mark.parametrize("schema", NO_STRUCT.values(), ids=NO_STRUCT.keys())
def test_what_is_no_struct_of_construct_is_refused(schema):
    with pytest.raises(TypeError, match="no construct Struct"):
        FixedCodec(schema, Pair)


@pytest.mark.parametrize("schema", NOT_JUST_PADDING.values(), ids=NOT_JUST_PADDING.keys())
def test_padding_that_the_codec_would_fill_otherwise_is_refused(schema):
    with pytest.raises(TypeError, match="no codec for Pair"):
        FixedCodec(schema, Pair)


@pytest.mark.parametrize("record", [tuple, dict, Color], ids=lambda record: record.__name__)
def test_a_record_without_named_fields_is_refused(record):
    with pytest.raises(TypeError, match=f"no codec for {record.__name__}"):
        FixedCodec(Struct("first" / Int16ul, "second" / Int16ul), record)


# -- the comparison finds what is wrong ------------------------------------------------------


def broken(name: str, **attributes: object) -> FixedCodec[Any]:
    """A copy of a codec with something of it replaced."""
    codec = copy.copy(CODECS[name])
    codec.__dict__.update(attributes)
    return codec


def swapped_record(record: type) -> type:
    """The same record with its last two fields exchanged."""
    fields = list(record._fields)
    fields[-2:] = fields[:-3:-1]
    return NamedTuple(record.__name__, [(field, Any) for field in fields])


BROKEN = {
    "two widths exchanged": broken("TRANSFER_PAGE_HEADER", struct=struct.Struct("<LHH")),
    "big-endian": broken("PACKET_DESCRIPTOR", struct=struct.Struct(">HHHHQ")),
    "signed": broken("PACKET_DESCRIPTOR", struct=struct.Struct("<HHHHq")),
    "a signed half": broken("FOOTER", struct=struct.Struct("<Ll")),
    "one byte too many": broken("GPA_RANGE", struct=struct.Struct("<LLx")),
    "padding for a field": broken("GPA_RANGE", struct=struct.Struct("<L2xH")),
    "two fields exchanged": broken("FOOTER", record=swapped_record(layout.Footer)),
    "another schema": broken("FOOTER", schema=Struct("reserved" / Int32ul, "packet_offset" / Int32sl)),
    "a schema of other names": broken("FOOTER", schema=Struct("reserved" / Int32ul, "offset" / Int32ul)),
    "a longer schema": broken("FOOTER", schema=layout.FOOTER_SCHEMA + Struct("more" / Int64ul)),
    "a wrong size": broken("FOOTER", size=16),
}
WRONG_OFFSETS = {
    "an offset too large": broken("FOOTER", offsets={"reserved": 0, "packet_offset": 5}),
    "all in the same place": broken("FOOTER", offsets={"reserved": 0, "packet_offset": 0}),
}


@pytest.mark.parametrize("codec", BROKEN.values(), ids=BROKEN.keys())
def test_a_codec_that_disagrees_with_its_schema_is_found(codec):
    @settings(deadline=None, max_examples=60, derandomize=True, phases=[Phase.generate])
    @given(image=images(codec.schema.sizeof()))
    def compare(image):
        check_agreement(codec, image)

    with pytest.raises((AssertionError, KeyError, struct.error, construct.ConstructError)):
        compare()


@pytest.mark.parametrize("codec", WRONG_OFFSETS.values(), ids=WRONG_OFFSETS.keys())
def test_a_wrong_offset_is_found(codec):
    @settings(deadline=None, max_examples=30, derandomize=True, phases=[Phase.generate])
    @given(image=images(codec.size), other=images(codec.size))
    def compare(image, other):
        check_offsets(codec, image, other)

    with pytest.raises(AssertionError):
        compare()
