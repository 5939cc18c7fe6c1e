"""The trials of pipes: the corners that their cases meet, and what they say of pipes that are wrong."""

from __future__ import annotations

import pytest
from hypothesis import settings

from tests.fuzzing.corners import SEEDS, corners_not_met
from vmbus.fuzzing.byte_pipe_trial import BytePipeTrial
from vmbus.fuzzing.machines import machine_of
from vmbus.fuzzing.pipe_trial import MessagePipeTrial
from vmbus.fuzzing.trial import Wrong
from vmbus.pipe import BytePipe, MessagePipe


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("trial", [MessagePipeTrial, BytePipeTrial])
def test_a_few_hundred_cases_of_random_bytes_meet_every_corner_of_a_pipe(trial, seed):
    assert corners_not_met(trial, seed) == set()


TestMessagePipe = machine_of(MessagePipeTrial).TestCase
TestMessagePipe.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)


class JoinsMessages(MessagePipe):
    """Two messages are read as one."""

    def read(self, offset):
        first = super().read(offset)
        return first + super().read(offset) if self.incoming.can_read(offset) else first


class TakesAnything(MessagePipe):
    def read(self, offset):
        return self.incoming.read(offset).payload.reader(self.incoming).read_all()[8:]


class ForgetsTheEnd(BytePipe):
    def read(self, offset, limit):
        found = super().read(offset, limit)
        return found or super().read(offset, limit)


class CountsTooMany(BytePipe):
    def write(self, offset, data):
        return super().write(offset, data) and len(data)


def test_a_pipe_that_joins_messages_is_found():
    trial = MessagePipeTrial(pages=1, start=0, memory="paged", raw=False, make_pipe=JoinsMessages)
    for length in (10, 20):
        trial.perform("write", {"length": length, "pieces": 1, "commit": True})
    with pytest.raises(Wrong, match="a message: 30 bytes instead of 10"):
        trial.perform("read", {"commit": True})


def test_a_pipe_that_takes_what_is_no_message_is_found():
    trial = MessagePipeTrial(pages=1, start=0, memory="flat", raw=False, make_pipe=TakesAnything)
    trial.perform("write_what_is_no_message", {"what": "unknown type"})
    trial.perform("commit_write", {})
    with pytest.raises(Wrong, match="a packet with pipe-type: nothing was raised instead of PeerError"):
        trial.perform("read", {"commit": False})


def test_a_stream_whose_end_is_forgotten_is_found():
    trial = BytePipeTrial(pages=1, start=0, memory="flat", make_pipe=ForgetsTheEnd)
    trial.perform("write_end", {"commit": True})
    with pytest.raises(Wrong, match="read: RingEmpty where nothing is wrong"):
        trial.perform("read", {"limit": 10, "into": False})


def test_a_write_that_says_more_than_it_did_is_found():
    trial = BytePipeTrial(pages=1, start=0, memory="flat", make_pipe=CountsTooMany)
    with pytest.raises(Wrong, match="bytes written: 9000 instead of 2048"):
        trial.perform("write", {"length": 9000, "commit": True})


def test_a_part_that_was_read_stands_in_the_ring_and_is_compared_there():
    trial = BytePipeTrial(pages=1, start=510, memory="paged")
    trial.perform("write", {"length": 40, "commit": True})
    trial.perform("read", {"limit": 7, "into": True})
    assert trial.memory.read_at(510 * 8 + 16, 8).hex() == "0200000028000700"
    trial.check_bytes()
    trial.memory.write_at(510 * 8 + 16 + 6, b"\x08")
    with pytest.raises(Wrong, match="from byte 22 of "):
        trial.check_bytes()
