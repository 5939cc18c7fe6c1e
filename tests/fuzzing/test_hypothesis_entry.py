"""Hypothesis draws the types of this package as it is told, and nothing else differently than before."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Hashable, Iterable, Sized
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from tests.fuzzing.drawing import drawn
from vmbus.fuzzing import PacketImage, RingImage, hypothesis_entry
from vmbus.fuzzing.strategies import smallest
from vmbus.layout import ControlPage, Footer, GpaRange, Guid, PacketDescriptor, PipeHeader, TransferPageRange
from vmbus.ring import IncomingRing, OutgoingPacket, Packet, PagedRange

ROOT = Path(__file__).parents[2]

SMALLEST = {
    PacketImage: PacketImage.in_band(),
    RingImage: RingImage(),
    OutgoingPacket: OutgoingPacket.in_band(0),
    Packet: PacketImage.in_band().as_received(),
    PagedRange: PagedRange(0, 1, [0]),
    GpaRange: GpaRange(0, 0),
    TransferPageRange: TransferPageRange(0, 0),
    Guid: Guid(bytes(16)),
    ControlPage: ControlPage(0, 0, 0, 0, bytes(48), 0, bytes(60)),
    PipeHeader: PipeHeader(0, 0),
    Footer: Footer(0, 0),
}


@pytest.fixture(scope="module", autouse=True)
def registered() -> None:
    hypothesis_entry.setup()
    hypothesis_entry.setup()  # again is harmless


@pytest.mark.parametrize("kind", SMALLEST, ids=lambda kind: kind.__name__)
def test_a_type_is_drawn_by_its_strategy(kind):
    assert smallest(st.from_type(kind), lambda value: True) == SMALLEST[kind]
    assert all(type(value) is kind for value in drawn(st.from_type(kind), 20))


def test_descriptors_are_drawn_with_numbers_that_fit():
    assert all(0 <= one.length8 <= 0xFFFF for one in drawn(st.from_type(PacketDescriptor), 20))


def test_what_takes_such_a_type_is_built_of_it():
    def waiting(image: RingImage) -> list[Packet]:
        return IncomingRing(image.memory()).receive_many()[0]

    assert any(drawn(st.builds(waiting), 20))


@pytest.mark.parametrize("kind", [Hashable, Sized, Iterable, tuple[int, int], object], ids=str)
def test_types_of_others_are_not_drawn_as_ours(kind):
    def is_ours(value: Any) -> bool:
        return type(value).__module__.startswith("vmbus")

    assert not any(map(is_ours, drawn(st.from_type(kind), 40)))


def test_profiles_are_registered_and_none_is_loaded():
    before = settings().max_examples
    hypothesis_entry.register_profiles()
    assert settings().max_examples == before
    assert (
        settings.get_profile("vmbus-quick").max_examples
        < 100
        < settings.get_profile("vmbus-long").max_examples
    )
    assert settings.get_profile("vmbus-long").deadline is None


def test_an_import_that_fails_is_not_hypothesis_problem(monkeypatch):
    monkeypatch.setitem(sys.modules, "vmbus.fuzzing.ring_images", None)
    hypothesis_entry.setup()


def test_setup_does_not_import_the_strategies():
    code = (
        "import sys; from vmbus.fuzzing.hypothesis_entry import setup; "
        "assert 'hypothesis' not in sys.modules; setup(); print('vmbus.fuzzing.value_strategies' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")
