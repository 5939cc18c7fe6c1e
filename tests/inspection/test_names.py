"""Types, flags and features have the names that reports promise, and what has none shows its number."""

from __future__ import annotations

import pytest

from vmbus.inspection import TYPE_NAMES, type_label
from vmbus.inspection.names import bit_names
from vmbus.layout import FeatureBits, PacketFlags, PacketType
from vmbus.ring import IncomingPacketType


def test_only_the_four_types_that_rings_carry_have_a_name():
    named = {6: "in-band", 7: "transfer-pages", 9: "gpa-direct", 11: "completion"}
    for kind in [*range(20), 99, 0x7FFF, 0xFFFF]:
        assert type_label(kind) == named.get(kind, f"unknown-{kind}")
    assert sorted(named.values()) == TYPE_NAMES
    assert set(named) == set(IncomingPacketType) < set(PacketType)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (0, []),
        (1, ["completion-requested"]),
        (5, ["completion-requested", "0x4"]),
        (0xFFFE, ["0xfffe"]),
        (0xFFFF, ["completion-requested", "0xfffe"]),
    ],
)
def test_flags_have_names_and_the_others_are_one_number(flags, names):
    assert bit_names(PacketFlags, flags) == names
    assert bit_names(PacketFlags, PacketFlags(flags)) == names


def test_features_have_names_and_the_others_are_one_number():
    assert bit_names(FeatureBits, 1) == ["pending-send-size"]
    assert bit_names(FeatureBits, 0x80000001) == ["pending-send-size", "0x80000000"]


@pytest.mark.parametrize("kind", [PacketFlags, FeatureBits])
def test_every_bit_that_the_layout_names_has_a_name(kind):
    for bit in kind:
        (name,) = bit_names(kind, bit)
        assert not name.startswith("0x")
