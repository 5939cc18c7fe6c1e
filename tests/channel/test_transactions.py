"""Requests and their ids: never 0, never one that is still outstanding, wrapping at the last of 64 bits."""

from __future__ import annotations

import logging
from random import Random

import pytest

from tests.known_bugs import known_bug
from vmbus.channel.transactions import FIRST_ID, LARGEST_ID, Transaction, Transactions
from vmbus.errors import CallerError
from vmbus.ring import IncomingPacketType, Packet


def completion(id: int, payload: bytes = b"") -> Packet:
    return Packet(IncomingPacketType.COMPLETION, id, payload)


@known_bug("B61")
@pytest.mark.parametrize("first_id", [0, 1, LARGEST_ID - 3, LARGEST_ID, LARGEST_ID + 1, 2**65])
def test_ids_are_64_bits_and_never_0(first_id):
    transactions = Transactions(100, first_id)
    ids = [transactions.begin().id for _ in range(10)]
    assert all(1 <= id <= LARGEST_ID for id in ids)
    assert len(set(ids)) == len(ids)


def test_ids_count_up_from_above_those_that_people_choose():
    transactions = Transactions(100)
    assert [transactions.begin().id for _ in range(3)] == [FIRST_ID, FIRST_ID + 1, FIRST_ID + 2]


@known_bug("B61")
def test_behind_the_last_id_comes_1_and_not_0():
    transactions = Transactions(100, LARGEST_ID - 1)
    assert [transactions.begin().id for _ in range(4)] == [LARGEST_ID - 1, LARGEST_ID, 1, 2]


def test_an_id_that_is_outstanding_is_passed_over_when_the_count_comes_round_again():
    transactions = Transactions(100, 1)
    first, second, third = (transactions.begin() for _ in range(3))
    transactions.deliver(completion(second.id))
    again = Transactions(100, LARGEST_ID)
    again._outstanding = transactions._outstanding
    assert [again.begin().id for _ in range(3)] == [LARGEST_ID, 2, 4]
    assert (first.id, third.id) == (1, 3)


def test_a_completion_goes_to_the_request_with_its_id_in_any_order():
    transactions = Transactions(100)
    requests = [transactions.begin() for _ in range(20)]
    shuffled = Random(20).sample(requests, 20)
    for number, request in enumerate(shuffled):
        assert not request.answered()
        assert transactions.deliver(completion(request.id, b"%d" % request.id)) is True
        assert request.answered()
        assert len(transactions) == 19 - number
    assert [request.answer.payload for request in requests] == [b"%d" % request.id for request in requests]


def test_a_completion_nobody_waits_for_is_delivered_to_nobody():
    transactions = Transactions(100)
    request = transactions.begin()
    assert transactions.deliver(completion(request.id + 1)) is False
    assert transactions.deliver(completion(0)) is False
    assert transactions.deliver(completion(request.id)) is True
    assert transactions.deliver(completion(request.id)) is False


@pytest.mark.parametrize(
    "kind", [one for one in IncomingPacketType if one is not IncomingPacketType.COMPLETION]
)
def test_only_a_completion_answers_a_request(kind):
    transactions = Transactions(100)
    request = transactions.begin()
    assert transactions.deliver(Packet(kind, request.id, b"")) is False
    assert not request.answered()
    assert len(transactions) == 1


def test_an_answer_after_the_request_was_given_up_is_dropped_with_a_line_in_the_log(caplog):
    transactions = Transactions(100)
    request, other = transactions.begin(), transactions.begin()
    request.given_up = True
    with caplog.at_level(logging.INFO, logger="vmbus"):
        transactions.deliver(completion(other.id))
        assert not caplog.records
        assert transactions.deliver(completion(request.id)) is True
    assert [f"{request.id:#x}" in record.getMessage() for record in caplog.records] == [True]
    assert len(transactions) == 0


def test_there_is_room_for_as_many_as_the_maximum_and_given_up_ones_count():
    transactions = Transactions(3)
    requests = []
    while transactions.has_room():
        requests.append(transactions.begin())
    assert len(requests) == len(transactions) == 3
    requests[0].given_up = True
    assert not transactions.has_room()
    transactions.deliver(completion(requests[0].id))
    assert transactions.has_room()


def test_a_request_that_was_never_sent_frees_its_place_and_nothing_else():
    transactions = Transactions(2)
    request, other = transactions.begin(), transactions.begin()
    transactions.forget(request)
    transactions.forget(request)
    assert transactions.has_room()
    assert transactions.deliver(completion(request.id)) is False
    assert transactions.deliver(completion(other.id)) is True


@pytest.mark.parametrize("maximum", [0, -1])
def test_a_maximum_below_1_is_refused(maximum):
    with pytest.raises(CallerError, match=f"at least 1 request may be outstanding, not {maximum}") as caught:
        Transactions(maximum)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == (
        "maximum_outstanding",
        maximum,
        1,
    )


def test_an_id_in_use_is_refused_by_name_and_free_ones_are_not():
    transactions = Transactions(2)
    request = transactions.begin()
    transactions.check_unused(request.id + 1)
    with pytest.raises(CallerError, match=rf"{request.id:#x} belongs to a request") as caught:
        transactions.check_unused(request.id)
    assert (caught.value.value, caught.value.limit) == (request.id, FIRST_ID - 1)
    transactions.deliver(completion(request.id))
    transactions.check_unused(request.id)


@known_bug("B62")
def test_two_tables_know_nothing_of_each_other():
    mine, theirs = Transactions(2), Transactions(2)
    request, other = mine.begin(), theirs.begin()
    assert request.id == other.id
    assert mine.deliver(completion(request.id, b"mine")) is True
    assert request.answer.payload == b"mine"
    assert not other.answered()


@known_bug("B61", "B62")
def test_over_a_long_random_life_no_two_outstanding_requests_share_an_id():
    """A plain model beside it: the set of ids that are out, over a count that wraps on the way."""
    random = Random(61)
    transactions = Transactions(40, LARGEST_ID - 500)
    out: dict[int, Transaction] = {}
    seen_small = False
    for _ in range(3000):
        if transactions.has_room() and random.random() < 0.55:
            request = transactions.begin()
            assert request.id not in out
            assert 1 <= request.id <= LARGEST_ID
            seen_small |= request.id < 1000
            out[request.id] = request
        elif out:
            request = out.pop(random.choice([*out]))
            if random.random() < 0.2:
                transactions.forget(request)
            else:
                assert transactions.deliver(completion(request.id)) is True
                assert request.answer.transaction_id == request.id
        assert len(transactions) == len(out) <= 40
    assert seen_small
