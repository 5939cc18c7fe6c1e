"""A Hypothesis strategy of what any fixed-size schema of construct can build: `from_schema`.

What it draws is built into bytes and parsed back into an equal value.  A Struct is drawn as a dict without its
unnamed padding, an Enum as a name or as a number that has none, a FlagsEnum as a dict of all its flags.

Schemas are told by the names of construct's classes: this package's own schemas lie in `vmbus.layout` and
`vmbus.protocols`, and nobody else imports construct.

Source: construct 2.10, core.py.  Needs hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from vmbus.errors import CallerError
from vmbus.layout import EnumField, FixedCodec

from .value_strategies import numbers

__all__ = ["from_schema"]

#: Letters of `struct` and their bits; a capital has no sign.
INTEGERS = {"b": 8, "h": 16, "l": 32, "i": 32, "q": 64}
FLOATS = {"e": 16, "f": 32, "d": 64}

#: Classes whose value is that of what they wrap.
TRANSPARENT = {
    *("Renamed", "Restreamed", "Default"),
    *("Hex", "HexDump", "Compiled", "Rebuffered"),
}

#: Larger schemas are refused.
LARGEST_SIZE = 0x10000  # bytes

#: So many bytes of a field are drawn one by one; longer ones repeat a few, for Hypothesis draws some 8 KiB at most.
MOST_DRAWN = 1024


def from_schema(schema: Any) -> SearchStrategy[Any]:
    """Values that a fixed-size schema builds; of a FixedCodec of this package its records.

    Raises CallerError that names the part of the schema that has no fixed size, that cannot be built (a name for a
    number that its field cannot hold, say), or that it does not know; and for a schema of more than 64 KiB.

    >>> from vmbus.fuzzing.strategies import smallest
    >>> from vmbus.layout import FOOTER, FOOTER_SCHEMA
    >>> smallest(from_schema(FOOTER_SCHEMA), lambda value: value["packet_offset"] > 9)
    {'reserved': 0, 'packet_offset': 10}
    >>> smallest(from_schema(FOOTER), lambda footer: True)
    Footer(reserved=0, packet_offset=0)
    """
    if isinstance(schema, FixedCodec):
        return of_codec(schema)
    return of_whole(schema)


def of_whole(schema: Any) -> SearchStrategy[Any]:
    values = of_part(schema, "the schema")
    demand_small(size_of(schema, "the schema"), "the schema")
    return values


def of_codec(codec: FixedCodec[Any]) -> SearchStrategy[Any]:
    return of_whole(codec.schema).map(
        lambda fields: codec.record._make(fields[name] for name in codec.record._fields)
    )


def of_part(part: Any, path: str) -> SearchStrategy[Any]:
    """The values of one part of a schema; `path` is where it stands."""
    if isinstance(part, EnumField):
        return of_enum_field(part, path)
    for base in type(part).__mro__:
        if base.__module__.partition(".")[0] != "construct":
            break  # somebody's own class may do anything
        if base.__name__ in TRANSPARENT:
            return of_part(part.subcon, path)
        make = KINDS.get(base.__name__)
        if make is not None:
            return make(part, path)
    raise unknown(path, f"{type(part).__name__} is not known to be of fixed size")


def unknown(path: str, why: str) -> CallerError:
    return CallerError(
        f"no strategy for {path}: {why}", argument="schema", value=path, limit="a fixed-size schema"
    )


def fixed_number(value: object, path: str, what: str, least: int = 0) -> int:
    """A length or a count that does not depend on what was parsed."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise unknown(path, f"its {what} is computed while parsing, by {value!r}")
    if value < least:
        raise unknown(path, f"its {what} is {value}, and must be {least} or more")
    return value


def size_of(part: Any, path: str) -> int:
    """The size of a part, in bytes; within a BitStruct in bits."""
    try:
        return int(part.sizeof())
    except Exception as error:
        raise unknown(path, f"it has no size: {error}") from error


def demand_small(size: int, path: str) -> None:
    if size > LARGEST_SIZE:
        raise unknown(path, f"its size is {size}, and may be {LARGEST_SIZE} at most")


def demand_built(part: Any, value: object, path: str, what: str) -> None:
    """Refuse a part that cannot build a value which its schema itself names."""
    try:
        part.build(value)
    except Exception as error:
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise unknown(path, f"{what} cannot be built: {reason[0]}") from error


# -- numbers and bytes -----------------------------------------------------------------------------


def of_integer(bits: int, signed: object) -> SearchStrategy[int]:
    if not signed:
        return numbers(bits)
    half = 1 << (bits - 1)
    corners = st.sampled_from([0, half - 1, -half, -1])
    return st.one_of(st.integers(-half, half - 1), corners)


def of_format(part: Any, path: str) -> SearchStrategy[Any]:
    letter: str = part.fmtstr[1:]
    if letter in FLOATS:
        # Floats without NaN, which is equal to nothing.
        return st.floats(width=FLOATS[letter], allow_nan=False)  # type: ignore[arg-type]
    if letter.lower() in INTEGERS:
        return of_integer(INTEGERS[letter.lower()], signed=letter.islower())
    raise unknown(path, f"the format {part.fmtstr!r} is no number")


def of_bytes_integer(part: Any, path: str) -> SearchStrategy[int]:
    return of_integer(8 * fixed_number(part.length, path, "length", least=1), part.signed)


def of_bits_integer(part: Any, path: str) -> SearchStrategy[int]:
    bits = fixed_number(part.length, path, "length", least=1)
    demand_built(part, 0, path, "a number of it")  # swapped ones have whole bytes
    return of_integer(bits, part.signed)


def of_bytes(part: Any, path: str) -> SearchStrategy[bytes]:
    length = fixed_number(part.length, path, "length")
    demand_small(length, path)
    if length <= MOST_DRAWN:
        values = st.binary(min_size=length, max_size=length)
    else:
        values = st.binary(min_size=1, max_size=64).map(lambda few: (few * (length // len(few) + 1))[:length])
    return st.one_of(st.just(bytes(length)), values)


def of_padded(part: Any, path: str) -> SearchStrategy[Any]:
    length = fixed_number(part.length, path, "length")
    values = of_part(part.subcon, path)
    if (size := size_of(part.subcon, path)) > length:
        raise unknown(path, f"its size is {size}, and its length {length}")
    return values


def of_aligned(part: Any, path: str) -> SearchStrategy[Any]:
    fixed_number(part.modulus, path, "alignment", least=2)
    return of_part(part.subcon, path)


def of_transformed(part: Any, path: str) -> SearchStrategy[Any]:
    """What is turned into as many bytes, or from bytes into bits and back."""
    values = of_part(part.subcon, path)
    size = size_of(part.subcon, path)
    if part.decodeamount not in (size, 8 * size, size / 8):
        raise unknown(path, f"its {size} bits are no whole bytes")
    return values


def of_const(part: Any, path: str) -> SearchStrategy[Any]:
    demand_built(part, part.value, path, f"the constant {part.value!r}")
    return st.just(part.value)


# -- names for numbers -----------------------------------------------------------------------------


def of_enum(part: Any, path: str) -> SearchStrategy[Any]:
    """A name, or a number that has none."""
    kinds = []
    if part.encmapping:
        demand_names_built(part, path)
        names = sorted(part.encmapping, key=part.encmapping.__getitem__)
        kinds.append(st.sampled_from(list(map(str, names))))
    few = all_numbers(part.subcon)
    unnamed = [number for number in few if number not in part.decmapping]
    if unnamed:
        kinds.append(st.sampled_from(unnamed))
    elif not few:
        kinds.append(of_part(part.subcon, path).filter(lambda number: number not in part.decmapping))
    return st.one_of(kinds)


def demand_names_built(part: Any, path: str) -> None:
    for name, number in part.encmapping.items():
        demand_built(part.subcon, number, path, f"{str(name)!r}, which is {number!r},")


def all_numbers(part: Any) -> range:
    """All that a number of a byte or less can be; nothing for larger ones, of which most have no name."""
    kind = type(part).__name__
    signed, bits = False, 0
    if kind == "FormatField" and part.fmtstr[1:] in ("B", "b"):
        signed, bits = part.fmtstr[1:] == "b", 8
    elif kind == "BitsInteger" and isinstance(part.length, int) and part.length <= 8:
        signed, bits = part.signed, part.length
    if not bits:
        return range(0)
    half = 1 << (bits - 1)
    return range(-half, half) if signed else range(2 * half)


def of_flags_enum(part: Any, path: str) -> SearchStrategy[dict[str, bool]]:
    for name, number in part.flags.items():
        demand_built(part.subcon, number, path, f"{str(name)!r}, which is {number!r},")
    return st.fixed_dictionaries({str(name): st.booleans() for name in part.flags})


def of_mapping(part: Any, path: str) -> SearchStrategy[Any]:
    if not part.encmapping:
        raise unknown(path, "it names no value")
    demand_names_built(part, path)
    return st.sampled_from(list(part.encmapping))


def of_enum_field(part: EnumField, path: str) -> SearchStrategy[int]:
    """A number of an OpenIntEnum or an IntFlag: named ones as often as others."""
    named = st.sampled_from([int(member) for member in part.names] or [0])
    return st.one_of(named, of_part(part.subcon, path)).map(part.names)


# -- several parts -----------------------------------------------------------------------------------


def of_array(part: Any, path: str) -> SearchStrategy[list[Any]]:
    count = fixed_number(part.count, path, "count")
    return st.lists(of_part(part.subcon, f"an item of {path}"), min_size=count, max_size=count)


def of_struct(part: Any, path: str) -> SearchStrategy[dict[str, Any]]:
    fields = {}
    for number, field in enumerate(part.subcons):
        place = f"{path}, field {field.name or number}"
        values = of_part(field, place)
        if field.name in fields:
            raise unknown(place, "another field has that name")
        if field.name:
            fields[field.name] = values
        elif not field.flagbuildnone:
            raise unknown(place, "it has no name, so nothing can be built for it")
    return st.fixed_dictionaries(fields)


def of_sequence(part: Any, path: str) -> SearchStrategy[list[Any]]:
    parts = [of_part(one, f"{path}, item {number}") for number, one in enumerate(part.subcons)]
    return st.tuples(*parts).map(list)


#: How the values of a class of construct are drawn, by its name.
KINDS: dict[str, Callable[[Any, str], SearchStrategy[Any]]] = {
    "FormatField": of_format,
    "BytesInteger": of_bytes_integer,
    "BitsInteger": of_bits_integer,
    "Bytes": of_bytes,
    "Padded": of_padded,
    "FixedSized": of_padded,
    "Aligned": of_aligned,
    "Transformed": of_transformed,
    "Pass": lambda part, path: st.none(),
    "Flag": lambda part, path: st.booleans(),
    "Const": of_const,
    "Enum": of_enum,
    "FlagsEnum": of_flags_enum,
    "Mapping": of_mapping,
    "Array": of_array,
    "Struct": of_struct,
    "Sequence": of_sequence,
}
