"""Errors say who must act, show the value, the limit and the place, and survive pickling."""

from __future__ import annotations

import ast
import copy
import errno
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import vmbus.errors
from vmbus.errors import (
    BufferTooSmall,
    CallerError,
    ChannelClosed,
    ConnectionRefused,
    DeviceError,
    DumpError,
    NotReady,
    PeerClosed,
    PeerError,
    RingEmpty,
    RingFull,
    TimedOut,
    VmbusError,
)
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import (
    GpaRangeFault,
    IncomingRing,
    MultiPagedRangeBuf,
    OutgoingPacket,
    PagedRange,
    RingFault,
    RingRange,
    connected_rings,
    inspect_ring,
)


def half_done(error: TimedOut | ChannelClosed | PeerClosed) -> VmbusError:
    error.done = 3
    return error


#: One of each, with every attribute set.
EXAMPLES = (
    RingEmpty("nothing waits"),
    RingFull("no room", needed=64, free=56),
    CallerError("wrong", argument="size", value=4095, limit=4096),
    BufferTooSmall("small", needed=16, value=8),
    PeerError("bad", kind=RingFault.INVALID_RING_POINTER, offset=None, found=9, allowed=4088),
    PeerError("bad", kind=GpaRangeFault.OVERFLOW, offset=64, found=1, allowed="a sentence"),
    half_done(TimedOut("over")),
    half_done(ChannelClosed("closed here")),
    half_done(PeerClosed("closed there")),
    ConnectionRefused("nobody listens"),
    DumpError("not a ring", path="a file", place=4096),
    DeviceError(errno.EACCES, "no permission"),
)


def state(error: BaseException) -> tuple[Any, ...]:
    return type(error), error.args, str(error), vars(error), getattr(error, "errno", None)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_pickles_with_its_attributes(error, protocol):
    assert state(pickle.loads(pickle.dumps(error, protocol))) == state(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_every_error_copies_with_its_attributes(error):
    assert state(copy.copy(error)) == state(copy.deepcopy(error)) == state(error)


def test_the_examples_here_are_all_errors_but_the_bases():
    defined = {getattr(vmbus.errors, name) for name in vmbus.errors.__all__}
    assert defined - {type(error) for error in EXAMPLES} == {VmbusError, NotReady}


def test_errors_are_sorted_by_who_must_act():
    assert issubclass(RingEmpty, NotReady) and issubclass(RingFull, NotReady)
    assert issubclass(TimedOut, NotReady) and issubclass(TimedOut, TimeoutError)
    assert issubclass(CallerError, ValueError)
    assert issubclass(BufferTooSmall, CallerError)
    assert issubclass(DeviceError, OSError)
    for one in (NotReady, CallerError, PeerError, ChannelClosed, PeerClosed, DumpError, DeviceError):
        assert issubclass(one, VmbusError)
    assert not issubclass(PeerError, ValueError)
    assert not issubclass(NotReady, (CallerError, PeerError))


def test_a_device_error_has_the_systems_number_and_words():
    error = DeviceError(errno.ENOENT, "cannot open the device")
    assert error.errno == errno.ENOENT
    assert "cannot open the device" in str(error)


def test_the_two_bases_are_never_raised():
    for path in Path(vmbus.errors.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and node.exc is not None:
                assert not ast.unparse(node.exc).startswith(("VmbusError", "NotReady")), path


def raised(call: Callable[[], object]) -> VmbusError:
    with pytest.raises(VmbusError) as error:
        call()
    return error.value


def broken_ring(word: int | None = None, value: int = 0, **fields: int) -> IncomingRing:
    """A receiver of one 32-byte packet at 64 in a ring of 4096, with a word or a field overwritten."""
    sender, receiver = connected_rings(start=64)
    sender.send(bytes(8))
    places = {"type": 64, "data_offset8": 66, "length8": 68, "flags": 70}
    for name, number in fields.items():
        sender.memory.write_at(places[name], number.to_bytes(2, "little"))
    if word is not None:
        sender.memory.control[word] = value
    receiver.reset()
    return receiver


def write(packet: OutgoingPacket) -> None:
    sender, _ = connected_rings()
    sender.write(sender.outgoing(), packet)


def fill_and_send(length: int) -> None:
    """Send so many bytes into a ring of 4096 where 1064 are free."""
    sender, _ = connected_rings()
    sender.send(bytes(3000))
    sender.send(bytes(length))


#: What goes wrong, and the value, the limit and the place that its message must show.
MESSAGES: dict[str, tuple[Callable[[], object], tuple[str, ...]]] = {
    "in out of range": (broken_ring(IN_WORD, 0x2000).receive, ("in is 0x2000", "4096 bytes", "0x0ff8")),
    "out not a multiple of 8": (
        broken_ring(OUT_WORD, 0x41).receive,
        ("out is 0x0041", "multiple of 8", "0x0ff8"),
    ),
    "type": (broken_ring(type=12).receive, ("packet at 0x0040", "type 12", "6, 7, 9, 11", "ring of 4096")),
    "flags": (broken_ring(flags=6).receive, ("packet at 0x0040", "0x6", "0x1", "in 0x0060, out 0x0040")),
    "payload too early": (
        broken_ring(data_offset8=1).receive,
        ("packet at 0x0040", "8 bytes", "16 is the least"),
    ),
    "payload behind the end": (
        broken_ring(data_offset8=9).receive,
        ("packet at 0x0040", "72 bytes", "24 bytes"),
    ),
    "too long": (broken_ring(length8=512).receive, ("packet at 0x0040", "4104 bytes", "published 32")),
    "footer missing": (broken_ring(length8=4).receive, ("packet at 0x0040", "40 bytes", "published 32")),
    "less than a packet": (
        broken_ring(IN_WORD, 80).receive,
        ("packet at 0x0040", "16 bytes", "24 is the least"),
    ),
    "empty": (connected_rings()[1].receive, ("4096 bytes",)),
    "full": (lambda: fill_and_send(1041), ("packet of 1072 bytes", "1064", "4096")),
    "never fits": (lambda: connected_rings()[0].send(bytes(4065)), ("4096 bytes", "the largest has 4088")),
    "transaction id": (lambda: connected_rings()[0].send(b"", 2**64), ("2**64 - 1", str(2**64))),
    "pending size": (lambda: connected_rings()[0].set_pending_send_size(4089), ("4089", "4088", "4096")),
    "buffer": (lambda: broken_ring().receive_into(bytearray(7)), ("8 bytes", "buffer 7")),
    "data size": (lambda: FlatRingMem(4097), ("4097", "4096", str(2**31 - 4096))),
    "header size": (lambda: FlatRingMem.over(bytes(12288), header_size=8192), ("8192", "4, 16 or 64 KiB")),
    "page": (lambda: PagedRingMem([bytes(4096), bytes(4095)]), ("page 1", "4095", "4096")),
    "control page": (lambda: inspect_ring(bytes(127)), ("127", "128")),
    "words": (lambda: RingRange(0, 16).write_aligned_full(broken_ring(), [1]), ("8 bytes", "16")),
    "range": (lambda: PagedRange(0, 4097, [1]), ("1 pages", "4096", "4097")),
    "negative size": (lambda: write(OutgoingPacket.in_band(-8)), ("-8",)),
    "GPA range": (lambda: MultiPagedRangeBuf.from_range_buffer(1, [4096 << 32 | 1, 7]), ("range 0", "4096")),
    "start": (lambda: connected_rings(start=4), ("4096", "not at 4")),
}


@pytest.mark.parametrize(("call", "shown"), MESSAGES.values(), ids=MESSAGES)
def test_a_message_shows_the_value_the_limit_and_the_place(call, shown):
    error = raised(call)
    assert [part for part in shown if part not in str(error)] == [], str(error)


@pytest.mark.parametrize(("call", "shown"), MESSAGES.values(), ids=MESSAGES)
def test_the_numbers_stand_in_attributes_too_and_pickle(call, shown):
    error = raised(call)
    if isinstance(error, CallerError):
        assert error.argument and error.value is not None and error.limit is not None
    if isinstance(error, PeerError):
        assert error.kind is not None and error.found is not None and error.allowed is not None
    assert state(pickle.loads(pickle.dumps(error))) == state(error)


def test_a_peer_error_names_the_packet_and_a_wrong_index_belongs_to_no_packet():
    assert raised(broken_ring(type=12).receive).offset == 64
    assert raised(broken_ring(IN_WORD, 0x2000).receive).offset is None


def test_ring_full_carries_what_to_ask_for_and_what_is_free():
    error = raised(lambda: fill_and_send(1041))
    assert (error.needed, error.free) == (1072, 1064)
    fill_and_send(1040)
