"""An argument reads any bytes, and writes back what it reads."""

from __future__ import annotations

import json
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmbus.errors import CallerError
from vmbus.fuzzing import Argument, Bytes, ByteSource, Choice, Flag, Listing, Number, Rest

ARGUMENTS: list[Argument] = [
    Number(0, 0),
    Number(-3, 3),
    Number(0, 4096, corners=[8, 4088]),
    Number(16, 1 << 40, step=8, corners=[24]),
    Flag(),
    Choice("split", "packed", 7),
    Bytes(5),
    Listing(Number(0, 300, corners=[299]), 4),
    Listing(Bytes(2), 2),
    Rest(9),
]


@pytest.mark.parametrize("argument", ARGUMENTS, ids=repr)
def test_any_bytes_are_a_value_that_is_written_back_in_bytes_and_in_json(argument):
    @given(st.binary(max_size=12))
    @settings(max_examples=100, deadline=None)
    def any_bytes(data):
        value = argument.decode(ByteSource(data))
        assert argument.decode(ByteSource(argument.encode(value))) == value
        assert argument.from_json(json.loads(json.dumps(argument.to_json(value)))) == value

    any_bytes()


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        (Number(0, 9), 10),
        (Number(0, 9), -1),
        (Number(0, 9), True),
        (Number(0, 9), "1"),
        (Number(0, 16, step=8), 4),
        (Flag(), 1),
        (Choice("a"), "b"),
        (Bytes(2), b"abc"),
        (Bytes(2), "ab"),
        (Listing(Flag(), 1), (True, False)),
        (Listing(Flag(), 1), (3,)),
        (Listing(Flag(), 1), True),
        (Rest(1), b"ab"),
    ],
)
def test_a_value_that_an_argument_does_not_have_is_refused(argument, wrong):
    with pytest.raises(CallerError, match="is not a value of"):
        argument.encode(wrong)


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        (Bytes(2), "xy"),
        (Bytes(2), 3),
        (Bytes(1), "aabb"),
        (Rest(2), None),
        (Listing(Flag()), "x"),
        (Flag(), 0),
    ],
)
def test_json_that_an_argument_does_not_have_is_refused(argument, wrong):
    with pytest.raises(CallerError):
        argument.from_json(wrong)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Number(3, 2),
        lambda: Number(0, 9, corners=[10]),
        lambda: Number(0, 9, step=2),
        lambda: Number(0, 999, corners=range(129)),
        lambda: Choice(),
        lambda: Bytes(256),
        lambda: Listing(Flag(), 256),
    ],
)
def test_an_argument_that_has_no_values_or_too_many_is_refused(make):
    with pytest.raises(CallerError):
        make()


def test_half_of_random_bytes_lead_to_a_corner():
    number = Number(0, 1 << 30, corners=[4088, 4096])
    random = Random(1)
    drawn = [number.decode(ByteSource(random.randbytes(8))) for _ in range(1000)]
    assert 400 < sum(value in number.corners for value in drawn) < 600
    assert set(drawn) >= set(number.corners) == {0, 4088, 4096, 1 << 30}


def test_a_source_that_has_ended_reads_as_zeros():
    source = ByteSource(b"\1\2\3")
    assert (source.number(2), source.has_more) == (0x0201, True)
    assert (source.number(2), source.has_more) == (3, False)
    assert (source.number(4), source.rest()) == (0, b"")


@pytest.mark.parametrize("argument", ARGUMENTS, ids=repr)
def test_what_is_simpler_has_a_lower_rank_and_can_be_written(argument):
    @given(st.binary(max_size=12))
    @settings(max_examples=50, deadline=None)
    def any_bytes(data):
        value = argument.decode(ByteSource(data))
        for simpler in argument.simpler(value):
            assert argument.rank(simpler) < argument.rank(value)
            argument.encode(simpler)

    any_bytes()
