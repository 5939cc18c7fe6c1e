"""A ring of any size, from any start, carries what a list carries, refuses the rest and signals exactly when it
must: the machine of the ring trial, over memories of three kinds.

The quick memories run beside one that moves a byte at a time, and every access must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from hypothesis import settings

from tests.helpers import SlowRingMem, TwinRingMem, paged_memory
from vmbus.fuzzing.machines import machine_of
from vmbus.fuzzing.ring_trial import RingTrial
from vmbus.memory import FlatRingMem, RingMem


class RingAgainstList(machine_of(RingTrial)):
    """The machine, over a memory of each class below."""

    make_memory: ClassVar[Callable[[int], RingMem]]

    def make_trial(self, **options: Any) -> RingTrial:
        return RingTrial(**options, make_memory=self.make_memory)

    def teardown(self) -> None:
        memory = self.trial.memory if hasattr(self, "trial") else None
        if isinstance(memory, TwinRingMem):
            memory.read_at(0, memory.size)
        super().teardown()


class RingOverFlatMemory(RingAgainstList):
    make_memory = staticmethod(lambda size: TwinRingMem(FlatRingMem(size)))


class RingOverPages(RingAgainstList):
    make_memory = staticmethod(lambda size: TwinRingMem(paged_memory(size)))


class RingOverSingleBytes(RingAgainstList):
    make_memory = SlowRingMem


in_short = settings(max_examples=50, stateful_step_count=40, deadline=None)

TestRingOverFlatMemory = RingOverFlatMemory.TestCase
TestRingOverFlatMemory.settings = in_short
TestRingOverPages = RingOverPages.TestCase
TestRingOverPages.settings = settings(in_short, max_examples=30)
TestRingOverSingleBytes = RingOverSingleBytes.TestCase
TestRingOverSingleBytes.settings = settings(in_short, max_examples=20)
