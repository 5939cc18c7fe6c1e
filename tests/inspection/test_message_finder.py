"""Messages about channels are found at every place where they may start, once each, and lookalikes are not."""

from __future__ import annotations

import struct
import uuid
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, booleans, integers, lists, sampled_from, tuples

from tests.inspection.wire_messages import (
    INSTANCE,
    NETWORK,
    gpadl_body,
    gpadl_header,
    offer,
    open_channel,
)
from vmbus.inspection import MessageFinder
from vmbus.inspection.message_finder import MOST_PLACES_A_PAGE
from vmbus.protocols import GpadlBody, GpadlHeader, Offer, OpenChannel

PAGES = [*range(0x1234, 0x1234 + 30), *range(0x9000, 0x9000 + 30)]
HVSOCK_SERVICE = uuid.UUID("00000400-facb-11e6-bd58-64006a7986d3")
OWN_SERVICE = uuid.UUID("3049197c-9a4e-4fbf-9367-97f792f16994")

MESSAGES = {
    "offer": offer(3),
    "offer of a socket": offer(2047, HVSOCK_SERVICE, flags=0x2011, user_defined=b"\0\0\0\0\1"),
    "offer of a class of its own": offer(1, OWN_SERVICE, reserved=b"\xff" * 16, monitor_allocated=1),
    "open channel": open_channel(3, 0xE1E10, 9),
    "open channel, other open id": open_channel(3, 0xE1E10, 2, open_id=0, processor=2**32 - 1),
    "open channel with user data": open_channel(2047, 1, 8189, user_data=bytes(range(120))),
    "GPADL header": gpadl_header(3, 0xE1E10, PAGES),
    "GPADL header of one page": gpadl_header(1, 1, [2**40 - 1]),
    "GPADL header with two ranges": gpadl_header(
        3, 5, [7, 8, 9], range_count=2, range_buflen=48, byte_count=5000, byte_offset=4000
    ),
    "GPADL body": gpadl_body(0xE1E10, PAGES[26:54]),
    "GPADL body of one page": gpadl_body(0xE1E10, [7], number=2),
}

KINDS = {"offer": Offer, "open": OpenChannel, "GPADL header": GpadlHeader, "GPADL body": GpadlBody}


def kind_of(name: str) -> type:
    return next(kind for start, kind in KINDS.items() if name.startswith(start))


def all_in(address: int, memory: bytes) -> list:
    finder = MessageFinder()
    return finder.feed(address, memory) + finder.finish()


def seen(found: list) -> list[tuple[int, type]]:
    return [(one.address, type(one.message)) for one in found]


# -- where ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_found_at_every_multiple_of_8_and_an_offer_halfway_too(name):
    message = MESSAGES[name]
    for place in range(600):
        memory = bytes(place) + message + bytes(40)
        wanted = [(0x10000 + place, kind_of(name))]
        halfway = place % 8 == 4 and kind_of(name) is Offer
        assert seen(all_in(0x10000, memory)) == (wanted if place % 8 == 0 or halfway else []), place


@pytest.mark.parametrize("name", MESSAGES)
def test_only_the_address_of_a_message_counts_and_not_where_its_piece_starts(name):
    for before in range(1, 17):
        (found,) = all_in(0x10000 - before, bytes(before) + MESSAGES[name] + bytes(300))
        assert found.address == 0x10000


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_found_as_long_as_no_byte_of_it_is_missing(name):
    message = MESSAGES[name]
    assert seen(all_in(0, message)) == [(0, kind_of(name))]
    shortened = all_in(0, message[:-1])
    if kind_of(name) is GpadlBody and len(message) > 24:
        assert shortened[0].rest == message[16:-8]  # only its header says how long it should be
    elif len(message) < 240:
        assert shortened == []


def test_fields_and_what_follows_them_come_with_the_message():
    memory = b"".join(MESSAGES[name].ljust(256, b"\0") for name in ("offer", "GPADL header", "GPADL body"))
    one, two, three = all_in(0, memory)
    assert (one.message.relid, one.rest) == (3, b"")
    assert one.message.class_bytes == NETWORK.bytes_le
    assert one.message.instance_bytes == INSTANCE.bytes_le
    assert two.rest == struct.pack("<II26Q", len(PAGES) * 4096, 0, *PAGES[:26])
    assert three.rest == struct.pack("<28Q", *PAGES[26:54])


def test_a_body_ends_before_the_first_number_that_is_no_page():
    for wrong in (0, 2**40):
        (found,) = all_in(0, gpadl_body(5, [7, 8, wrong, 9]).ljust(256, b"\0"))
        assert found.rest == struct.pack("<2Q", 7, 8)


# -- in pieces -----------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    planted=lists(tuples(sampled_from(list(MESSAGES)), integers(0, 40), booleans()), max_size=8),
    cuts=lists(integers(0, 3000), max_size=8),
    start=integers(0, 16),
)
def test_memory_in_pieces_gives_each_message_once_as_the_whole_gives_it(planted, cuts, start):
    memory = bytearray()
    wanted = []
    for name, gap, halfway in planted:
        memory += bytes(-(start + len(memory)) % 8 + 8 * gap)
        if halfway and kind_of(name) is Offer:
            memory += bytes(4)
        wanted.append((start + len(memory), kind_of(name)))
        memory += MESSAGES[name]
    whole = all_in(start, bytes(memory))
    assert seen(whole) == wanted
    places = sorted({0, len(memory), *(cut % (len(memory) + 1) for cut in cuts)})
    finder = MessageFinder()
    found = []
    for low, high in pairwise(places):
        found += finder.feed(start + low, memoryview(memory)[low:high])
    assert found + finder.finish() == whole
    assert finder.finish() == []


def test_memory_behind_a_hole_is_not_taken_for_the_end_of_what_was_before():
    message = open_channel(3, 0xE1E10, 9)
    finder = MessageFinder()
    found = finder.feed(0x1000, message[:96]) + finder.feed(0x5000, message[96:] + message[:92])
    assert found + finder.feed(0x9000, message) + finder.finish() == all_in(0x9000, message)


def test_a_message_that_ends_at_a_hole_is_found_when_the_next_piece_comes():
    finder = MessageFinder()
    assert finder.feed(0x1000, MESSAGES["open channel"]) == []
    assert seen(finder.feed(0x9000, bytes(4096))) == [(0x1000, OpenChannel)]


# -- lookalikes ----------------------------------------------------------------------------------

NOT_MESSAGES = {
    "offer with padding": offer(3, padding=1),
    "offer without a relid": offer(0),
    "offer with a large relid": offer(2048),
    "offer with an unknown flag": offer(3, flags=0x20),
    "offer with a strange monitor bit": offer(3, monitor_allocated=2),
    "offer with a strange interrupt bit": offer(3, dedicated=2),
    "offer without an instance": offer(3, instance_id=uuid.UUID(int=0)),
    "offer without a class": offer(3, uuid.UUID(int=0)),
    "offer with a class that nobody makes": offer(3, uuid.UUID("3049197c-9a4e-1fbf-9367-97f792f16994")),
    "offer with a class made from time": offer(3, uuid.UUID("3049197c-9a4e-11bf-9367-97f792f16994")),
    "offer with a class of a strange variant": offer(3, uuid.UUID("3049197c-9a4e-4fbf-1367-97f792f16994")),
    "open with padding": open_channel(3, 5, 9, padding=1),
    "open without a relid": open_channel(0, 5, 9),
    "open with a large relid": open_channel(2048, 5, 9),
    "open without a GPADL": open_channel(3, 0, 9),
    "open with a strange processor": open_channel(3, 5, 9, processor=2**16),
    "open whose first ring has no data": open_channel(3, 5, 1),
    "open whose first ring is too long": open_channel(3, 5, 8190),
    "open with another open id and user data": open_channel(3, 5, 9, open_id=4, user_data=b"x"),
    "header with padding": gpadl_header(3, 5, PAGES, padding=1),
    "header without a relid": gpadl_header(0, 5, PAGES),
    "header with a large relid": gpadl_header(2048, 5, PAGES),
    "header without a GPADL": gpadl_header(3, 0, PAGES),
    "header without a range": gpadl_header(3, 5, PAGES, range_count=0),
    "header that says more bytes than pages": gpadl_header(3, 5, PAGES, byte_count=61 * 4096),
    "header that says fewer bytes than pages": gpadl_header(3, 5, PAGES, byte_count=59 * 4096),
    "header of half pages": gpadl_header(3, 5, PAGES, byte_count=59 * 4096 + 1),
    "header that does not start with its page": gpadl_header(3, 5, PAGES, byte_offset=8),
    "header with an odd length": gpadl_header(3, 5, PAGES, range_buflen=8 + 8 * 60 + 1),
    "header without pages": gpadl_header(3, 5, [], range_buflen=8),
    "header with more ranges than pages": gpadl_header(
        3, 5, [7, 8], range_count=3, range_buflen=40, byte_count=4096
    ),
    "header with a range that starts behind its page": gpadl_header(
        3, 5, [7, 8, 9], range_count=2, range_buflen=40, byte_count=4096, byte_offset=4096
    ),
    "header with an empty range": gpadl_header(3, 5, [7, 8, 9], range_count=2, range_buflen=40, byte_count=0),
    "header with page 0": gpadl_header(3, 5, [7, 0, 9]),
    "header with a page that no memory has": gpadl_header(3, 5, [7, 2**40, 9]),
    "body with padding": gpadl_body(5, [7], padding=1),
    "body without a GPADL": gpadl_body(0, [7]),
    "body with a large number": gpadl_body(5, [7], number=513),
    "body with page 0": gpadl_body(5, [0, 7]),
    "body with a page that no memory has": gpadl_body(5, [2**40]),
    "small numbers": struct.pack("<40Q", *range(40)),
    "pairs of small numbers": struct.pack("<80I", *range(80)),
}


@pytest.mark.parametrize("name", NOT_MESSAGES)
def test_a_lookalike_is_not_found(name):
    assert all_in(0x10000, NOT_MESSAGES[name].ljust(512, b"\0")) == []


@pytest.mark.parametrize("name", ["zeros", "noise", "ones", "text"])
def test_memory_without_messages_holds_none(name):
    size = 1 << 18
    memory = {
        "zeros": bytes(size),
        "noise": Random(5).randbytes(size),
        "ones": struct.pack("<Q", 1) * (size // 8),
        "text": b"the quick brown fox\n" * (size // 20),
    }[name]
    assert all_in(0, memory) == []


@settings(max_examples=150, deadline=None)
@given(
    lists(
        sampled_from(
            [struct.pack("<I", number) for number in (0, 1, 3, 5, 8, 9, 0xE1E10, 0x10000, 2**32 - 1)]
        ),
        max_size=120,
    ),
    binary(max_size=9),
    integers(0, 9),
)
def test_any_bytes_give_messages_that_lie_in_them_in_order_and_nothing_else(words, rest, start):
    memory = b"".join(words) + rest
    found = all_in(start, memory)
    addresses = [one.address for one in found]
    assert addresses == sorted(set(addresses))
    for one in found:
        place = one.address - start
        length = 16 if isinstance(one.message, GpadlBody) else 20
        assert 0 <= place <= len(memory) - length
        assert struct.unpack_from("<I", memory, place)[0] == one.message.type
        assert one.rest in memory[place : place + 240]


# -- bounds --------------------------------------------------------------------------------------


def test_of_a_page_full_of_lookalikes_only_so_many_are_looked_at_and_the_page_is_counted():
    lookalikes = struct.pack("<QQ", 9, 5 << 32) + struct.pack("<Q", 7)
    page = (lookalikes * 171)[:4096]
    finder = MessageFinder()
    behind = bytes(8) + MESSAGES["open channel"]
    found = finder.feed(0x4000, page + bytes(4096) + page) + finder.feed(0x7000, behind) + finder.finish()
    assert [one.address for one in found if one.address < 0x5000] == [
        0x4000 + 24 * number for number in range(MOST_PLACES_A_PAGE)
    ]
    assert len(found) == 2 * MOST_PLACES_A_PAGE + 1
    assert found[-1].address == 0x7008
    assert (finder.pages_cut, finder.first_cut) == (2, 0x4000)


def test_the_bound_is_for_a_page_however_it_is_cut_into_pieces():
    page = (struct.pack("<QQQ", 9, 5 << 32, 7) * 171)[:4096]
    finder = MessageFinder()
    found = []
    for place in range(0, 4096, 512):
        found += finder.feed(0x4000 + place, page[place : place + 512])
    assert len(found + finder.finish()) == MOST_PLACES_A_PAGE
    assert (finder.pages_cut, finder.first_cut) == (1, 0x4000)


def test_the_fullest_real_page_is_seen_whole():
    page = b"".join(gpadl_body(5, range(7, 35)) for _ in range(17)).ljust(4096, b"\0")
    finder = MessageFinder()
    assert len(finder.feed(0, page) + finder.finish()) == 17
    assert finder.pages_cut == 0
