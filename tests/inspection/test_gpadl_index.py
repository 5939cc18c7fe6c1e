"""Messages put together are the rings of a channel, page by page; what cannot be known is left out."""

from __future__ import annotations

import uuid
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, randoms, sampled_from

from tests.inspection.wire_messages import (
    DISK,
    INSTANCE,
    NETWORK,
    gpadl_bodies,
    gpadl_body,
    gpadl_header,
    gpadl_messages,
    offer,
    open_channel,
)
from vmbus.inspection import MessageFinder, RingPages, channel_rings
from vmbus.layout import Guid

GPADL = 0xE1E10


def found_in(messages: list[bytes]) -> list:
    """The messages, each in a page of its own with what was there before behind it."""
    finder = MessageFinder()
    return finder.feed(0x10000, b"".join(one.ljust(4096, b"\0") for one in messages)) + finder.finish()


def only_channel(messages: list[bytes]):
    (one,) = channel_rings(found_in(messages))
    return one


def contiguous(count: int, first: int = 0x5000) -> list[int]:
    return list(range(first, first + count))


def scattered(count: int, seed: int = 1) -> list[int]:
    return Random(seed).sample(range(1, 2**20, 3), count)


# -- channels ------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [4, 5, 25, 26, 27, 54, 55, 82, 83, 256, 1024, 8190])
@pytest.mark.parametrize("numbered", [False, True])
def test_the_rings_of_a_linux_guest_are_put_together_whatever_their_size(count, numbered):
    pages = contiguous(count)
    messages = [
        offer(3, NETWORK),
        open_channel(3, GPADL, count // 2),
        *gpadl_messages(3, GPADL, pages, numbered=numbered),
    ]
    rings = only_channel(messages)
    assert rings.outbound_pages == tuple(pages[: count // 2])
    assert rings.inbound_pages == tuple(pages[count // 2 :])
    assert (rings.relid, rings.gpadl, rings.subchannel_index) == (3, GPADL, 0)
    assert str(rings.class_id) == str(NETWORK) and str(rings.instance_id) == str(INSTANCE)
    assert rings.control_pages == (pages[0], pages[count // 2])
    assert rings.doubts == ()


@pytest.mark.parametrize("count", [26, 27, 54])
def test_scattered_pages_are_put_together_where_at_most_one_body_is_needed(count):
    pages = scattered(count)
    rings = only_channel([offer(3), open_channel(3, GPADL, 5), *gpadl_messages(3, GPADL, pages)])
    assert rings.outbound_pages + rings.inbound_pages == tuple(pages)
    assert rings.doubts == ()


def test_scattered_pages_in_numbered_bodies_are_put_together_from_any_order():
    pages = scattered(26 + 28 * 5 + 3)
    bodies = gpadl_bodies(GPADL, pages, numbered=True)
    rings = only_channel([offer(3), *bodies[::-1], open_channel(3, GPADL, 5), gpadl_header(3, GPADL, pages)])
    assert rings.outbound_pages + rings.inbound_pages == tuple(pages)
    assert rings.doubts == ()


def test_bodies_whose_order_nothing_tells_are_left_out_and_doubted():
    pages = scattered(26 + 28 * 2)
    rings = only_channel([offer(3), open_channel(3, GPADL, 9), *gpadl_messages(3, GPADL, pages)])
    assert rings.outbound_pages == tuple(pages[:9])  # from the header alone
    assert rings.inbound_pages == ()
    assert rings.control_pages == (pages[0], pages[9])
    (doubt,) = rings.doubts
    assert "of 2 body messages, 2 are not found or have no sure place" in doubt


def test_a_body_that_is_missing_leaves_its_ring_out():
    pages = contiguous(26 + 28 * 3)
    messages = gpadl_messages(3, GPADL, pages)
    del messages[2]
    (one,) = RingPages(found_in(messages)).page_lists(3, GPADL)
    assert one.pages == (*pages[:54], *[None] * 56)
    rings = only_channel([offer(3), open_channel(3, GPADL, 30), *messages])
    assert (rings.outbound_pages, rings.inbound_pages) == (tuple(pages[:30]), ())
    assert len(rings.doubts) == 1


def test_a_list_without_an_open_channel_message_is_a_list_all_the_same():
    pages = contiguous(30)
    (one,) = RingPages(found_in(gpadl_messages(3, GPADL, pages))).page_lists(3, GPADL)
    assert (one.relid, one.gpadl, one.pages, one.doubts) == (3, GPADL, tuple(pages), ())
    assert one.address == 0x10000
    assert channel_rings(found_in(gpadl_messages(3, GPADL, pages))) == []


def test_a_channel_without_an_offer_has_rings_and_no_device():
    rings = only_channel([open_channel(3, GPADL, 2), gpadl_header(3, GPADL, contiguous(4))])
    assert (rings.class_id, rings.instance_id, rings.subchannel_index) == (None, None, None)
    assert len(rings.outbound_pages) == len(rings.inbound_pages) == 2
    assert "no offer of relid 3" in rings.doubts[0]


@pytest.mark.parametrize(
    "header", [[], gpadl_messages(4, GPADL, contiguous(9)), gpadl_messages(3, 7, contiguous(9))]
)
def test_a_channel_whose_header_is_not_there_has_no_pages(header):
    rings = only_channel([offer(3), open_channel(3, GPADL, 4), *header])
    assert (rings.outbound_pages, rings.inbound_pages) == ((), ())
    assert f"no header of GPADL {GPADL:#x}" in rings.doubts[0]
    assert rings.class_id == Guid.parse(str(NETWORK))


@pytest.mark.parametrize(("offset", "allowed"), [(2, True), (7, True), (8, False), (9, False), (100, False)])
def test_the_second_ring_starts_inside_the_list_with_room_for_a_page_of_data(offset, allowed):
    pages = contiguous(9)
    rings = only_channel([offer(3), open_channel(3, GPADL, offset), gpadl_header(3, GPADL, pages)])
    if allowed:
        assert rings.outbound_pages + rings.inbound_pages == tuple(pages)
    else:
        assert (rings.outbound_pages, rings.inbound_pages) == ((), ())
        assert f"at page {offset} of 9" in rings.doubts[0]


# -- old messages --------------------------------------------------------------------------------


def test_copies_of_a_message_change_nothing():
    pages = contiguous(60)
    messages = [offer(3), open_channel(3, GPADL, 30), *gpadl_messages(3, GPADL, pages)]
    assert channel_rings(found_in(messages * 5)) == channel_rings(found_in(messages))


def test_a_body_is_the_same_whatever_lies_behind_its_last_page():
    pages = scattered(28)
    bodies = [gpadl_body(GPADL, pages[26:] + rest) for rest in ([], [77], [88, 99])]
    messages = [offer(3), open_channel(3, GPADL, 14), *bodies, gpadl_header(3, GPADL, pages)]
    assert only_channel(messages).inbound_pages == tuple(pages[14:])


def test_bodies_of_an_earlier_list_with_the_same_number_are_told_apart_by_their_pages():
    old, new = contiguous(60, 0x900), contiguous(60, 0x5000)
    messages = [offer(3), *gpadl_bodies(GPADL, old), open_channel(3, GPADL, 30)]
    rings = only_channel([*messages, *gpadl_messages(3, GPADL, new)])
    assert rings.outbound_pages + rings.inbound_pages == tuple(new)


def test_of_two_headers_with_the_same_number_both_are_given_and_doubted():
    old, new = contiguous(6, 0x900), contiguous(8, 0x5000)
    headers = [gpadl_header(3, GPADL, pages) for pages in (old, new)]
    one, other = channel_rings(found_in([offer(3), open_channel(3, GPADL, 3), *headers]))
    assert [len(one.inbound_pages), len(other.inbound_pages)] == [3, 5]
    assert all("2 different headers" in rings.doubts[0] for rings in (one, other))


def test_a_channel_that_was_opened_twice_comes_twice_with_a_doubt():
    lists = [gpadl_header(3, GPADL + number, contiguous(8, 0x900 * (number + 1))) for number in (0, 1)]
    opens = [open_channel(3, GPADL + number, 4) for number in (0, 1)]
    one, other = channel_rings(found_in([*lists, *opens[::-1], offer(3)]))
    assert (one.gpadl, other.gpadl) == (GPADL, GPADL + 1)
    assert all("opened in 2 ways" in rings.doubts[0] for rings in (one, other))


def test_of_two_devices_with_the_same_relid_only_what_they_share_is_said():
    header, opening = gpadl_header(3, GPADL, contiguous(8)), open_channel(3, GPADL, 4)
    rings = only_channel([offer(3, NETWORK), offer(3, DISK), header, opening])
    assert (rings.class_id, str(rings.instance_id)) == (None, str(INSTANCE))
    assert "2 devices were offered as relid 3" in rings.doubts[0]
    other = uuid.UUID(int=9)
    rings = only_channel([offer(3, NETWORK), offer(3, NETWORK, other, subchannel=1), header, opening])
    assert (str(rings.class_id), rings.instance_id) == (str(NETWORK), None)
    assert rings.subchannel_index is None


def test_a_page_that_is_listed_twice_is_doubted():
    rings = only_channel([offer(3), open_channel(3, GPADL, 2), gpadl_header(3, GPADL, [7, 8, 9, 7])])
    assert "listed twice" in rings.doubts[0]


def test_a_list_of_several_ranges_is_no_ring():
    header = gpadl_header(3, GPADL, [7, 8, 9], range_count=2, range_buflen=40, byte_count=4096)
    assert list(RingPages(found_in([header])).page_lists(3, GPADL)) == []


@settings(max_examples=150, deadline=None)
@given(
    counts=sampled_from([(4, 4), (9, 9), (20, 30), (40, 60), (100, 100)]),
    in_one_piece=booleans(),
    numbered=booleans(),
    lost=integers(0, 3),
    random=randoms(use_true_random=False),
)
def test_rings_are_right_or_left_out_whatever_is_lost_and_in_whatever_order(
    counts, in_one_piece, numbered, lost, random
):
    truth, messages = {}, []
    for number, relid in enumerate((3, 4, 2047)):
        first, second = random.choice([counts, counts[::-1]])
        pages = contiguous(first + second, 0x1000 * (number + 1))
        if not in_one_piece:
            pages = random.sample(range(1, 2**30), first + second)
        truth[relid] = (tuple(pages[:first]), tuple(pages[first:]))
        messages += [offer(relid), open_channel(relid, GPADL + number, first)]
        messages += gpadl_messages(relid, GPADL + number, pages, numbered=numbered)
    random.shuffle(messages)
    kept = messages[lost:]
    for rings in channel_rings(found_in(kept)):
        outbound, inbound = truth[rings.relid]
        assert rings.outbound_pages in ((), outbound)
        assert rings.inbound_pages in ((), inbound)
        assert rings.doubts or (rings.outbound_pages, rings.inbound_pages) == (outbound, inbound)
    if not lost and (in_one_piece or numbered):
        assert {
            one.relid: (one.outbound_pages, one.inbound_pages) for one in channel_rings(found_in(kept))
        } == truth


# -- bounds --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda number: offer(3, uuid.UUID(int=number + 1, version=4)),
        lambda number: open_channel(3, GPADL + number, 4),
        lambda number: gpadl_header(3, GPADL, [7, number + 8]),
    ],
    ids=["offers of a relid", "openings of a relid", "headers of a GPADL"],
)
def test_of_one_thing_four_versions_are_kept_and_the_others_counted(make):
    index = RingPages(found_in([make(number) for number in range(9)]))
    assert index.left_out == 5
    assert len(list(index.channels())) + len(list(index.page_lists(3, GPADL))) <= 4


def test_of_the_bodies_of_a_gpadl_so_many_are_kept_and_the_others_counted():
    index = RingPages(found_in([gpadl_body(GPADL, [number + 1]) for number in range(515)]))
    assert index.left_out == 3
