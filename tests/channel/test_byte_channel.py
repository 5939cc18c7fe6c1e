"""Two streams of bytes between two channels, each with an end of its own."""

from __future__ import annotations

import io
from contextlib import suppress
from random import Random

import pytest

from tests.channel.helpers import PATIENCE, Running, is_empty, mask_of, pending_of, scripted_pair
from tests.helpers import pattern
from tests.known_bugs import known_bug
from vmbus.channel import ByteChannel, connected_channels
from vmbus.errors import CallerError, PeerClosed, PeerError, TimedOut
from vmbus.ring import OutgoingPacket, Packet


def test_bytes_come_out_as_they_went_in_however_they_are_cut():
    pair = scripted_pair(ByteChannel)
    random = Random(3)
    sent = received = b""
    for n in range(400):
        if random.random() < 0.5:
            data = pattern(random.choice([0, 1, 9, 200, 2100]), seed=n)
            try:
                pair.guest.send(data, timeout=0)
            except TimedOut as error:
                data = data[: error.done]
            sent += data
        elif len(sent) > len(received):
            data = pair.host.receive(random.choice([1, 5, 100, 5000]), timeout=0)
            assert data
            received += data
        else:
            with pytest.raises(TimedOut):
                pair.host.receive(timeout=0)
    while len(received) < len(sent):
        received += pair.host.receive(timeout=0)
    assert received == sent
    assert len(sent) > 20000


@pytest.mark.parametrize("limit", [1, 3, 4, 100])
def test_a_read_takes_a_part_and_leaves_the_rest(limit):
    pair = scripted_pair(ByteChannel)
    pair.guest.send(b"abcd")
    pair.guest.send(b"efgh")
    received = []
    while sum(map(len, received)) < 8:
        received.append(pair.host.receive(limit, timeout=0))
    assert b"".join(received) == b"abcdefgh"
    assert max(map(len, received)) == min(limit, 8)


def test_receive_into_fills_as_much_of_the_buffer_as_there_is():
    pair = scripted_pair(ByteChannel)
    pair.guest.send(b"abcdef")
    buffer = bytearray(4)
    assert pair.host.receive_into(buffer) == 4
    assert pair.host.receive_into(buffer) == 2
    assert buffer == b"efcd"
    pair.guest.send_end()
    assert pair.host.receive_into(buffer) == 0


@pytest.mark.parametrize("limit", [0, -1])
def test_a_read_of_no_bytes_is_refused_for_it_would_look_like_the_end(limit):
    pair = scripted_pair(ByteChannel)
    pair.guest.send(b"bytes")
    with pytest.raises(CallerError, match="at least 1 byte"):
        pair.host.receive(limit)
    with pytest.raises(CallerError, match="at least 1 byte"):
        pair.host.receive_into(bytearray())
    assert pair.host.receive() == b"bytes"


# -- the end of a stream ---------------------------------------------------------------------------


@known_bug("B47")
def test_the_end_is_read_once_and_then_known_and_leaves_nothing_to_read():
    pair = scripted_pair(ByteChannel)
    pair.guest.send(b"last words")
    pair.guest.send_end()
    assert pair.host.receive(100) == b"last words"
    for _ in range(3):
        assert pair.host.receive(100, timeout=0) == b""
        assert is_empty(pair.out)
        assert not pair.host.incoming.can_read(pair.host.incoming.incoming())
    assert pair.host.signal.waits == []


@known_bug("B47")
def test_an_end_that_comes_while_the_reader_sleeps_wakes_it():
    pair = scripted_pair(ByteChannel)
    pair.host.signal.while_asleep.append(pair.guest.send_end)
    assert pair.host.receive() == b""
    assert is_empty(pair.out)


def test_after_its_own_end_a_side_still_receives_and_the_other_still_sends():
    pair = scripted_pair(ByteChannel)
    pair.guest.send_end()
    assert pair.host.receive() == b""
    pair.host.send(b"still here")
    pair.host.send_end()
    assert (pair.guest.receive(), pair.guest.receive()) == (b"still here", b"")


def test_bytes_behind_the_end_are_refused_and_a_second_end_does_nothing():
    pair = scripted_pair(ByteChannel)
    pair.guest.send_end()
    pair.guest.send_end()
    with pytest.raises(CallerError, match="has sent the end of its stream"):
        pair.guest.send(b"more")
    assert len(pair.host.incoming.receive_many()[0]) == 1


def test_the_end_waits_for_room_too():
    pair = scripted_pair(ByteChannel)
    for size in (2000, 2000, 8):  # 2032, 2032 and nothing more: 24 bytes are left, and an end takes 32
        with suppress(TimedOut):
            pair.guest.send(bytes(size), timeout=0)
    with pytest.raises(TimedOut):
        pair.guest.send_end(timeout=1)
    with pytest.raises(TimedOut):
        pair.guest.send_end(timeout=1)
    pair.guest.signal.while_asleep.append(pair.host.receive)
    pair.guest.send_end()
    while pair.host.receive(timeout=0):
        """The bytes before the end."""


def test_a_side_that_closes_without_an_end_is_an_error_and_not_an_end():
    pair = scripted_pair(ByteChannel)
    pair.guest.send(b"half a sen")
    pair.guest.close()
    assert pair.host.receive() == b"half a sen"
    with pytest.raises(PeerClosed):
        pair.host.receive()


def test_an_end_before_the_close_is_an_end_for_ever():
    pair = scripted_pair(ByteChannel)
    pair.guest.send_end()
    pair.guest.close()
    assert [pair.host.receive() for _ in range(3)] == [b""] * 3


def test_iteration_gives_chunks_until_the_end():
    guest, host = connected_channels(kind=ByteChannel)
    guest.send(pattern(5000))
    guest.send_end()
    assert b"".join(host) == pattern(5000)


# -- sending much ----------------------------------------------------------------------------------


def test_a_send_that_is_given_up_says_how_many_bytes_went_and_just_those_arrive():
    pair = scripted_pair(ByteChannel)
    data = pattern(20000)
    with pytest.raises(TimedOut) as caught:
        pair.guest.send(data, timeout=0)
    done = caught.value.done
    assert 2000 < done < 4096
    received = b""
    while len(received) < done:
        received += pair.host.receive(timeout=0)
    assert received == data[:done]
    with pytest.raises(TimedOut):
        pair.host.receive(timeout=0)


def test_a_send_ended_by_the_other_sides_close_says_how_many_bytes_went():
    pair = scripted_pair(ByteChannel)
    pair.guest.signal.while_asleep.append(pair.host.close)
    with pytest.raises(PeerClosed) as caught:
        pair.guest.send(pattern(20000))
    assert 2000 < caught.value.done < 4096


def test_no_bytes_send_no_packet():
    pair = scripted_pair(ByteChannel)
    pair.guest.send(b"")
    assert is_empty(pair.out)


def test_a_megabyte_goes_through_a_small_ring_between_two_threads():
    guest, host = connected_channels(size=4096, kind=ByteChannel)
    data = pattern(1 << 18)

    def write() -> None:
        guest.send(data, timeout=PATIENCE)
        guest.send_end(timeout=PATIENCE)

    writer = Running(write)
    received = []
    while chunk := host.receive(10000, timeout=PATIENCE):
        received.append(chunk)
    writer.result()
    assert b"".join(received) == data


def test_two_senders_do_not_mix_their_bytes():
    """A send is one stretch of the stream, however many packets it takes."""
    guest, host = connected_channels(size=4096, kind=ByteChannel)
    senders = [Running(guest.send, bytes([65 + who]) * 9000, timeout=PATIENCE) for who in range(3)]
    received = b""
    while len(received) < 27000:
        received += host.receive(3000, timeout=PATIENCE)
    for sender in senders:
        sender.result()
    assert sorted([received[:9000], received[9000:18000], received[18000:]]) == [
        bytes([65 + who]) * 9000 for who in range(3)
    ]


def test_a_sender_that_was_given_up_can_send_less():
    pair = scripted_pair(ByteChannel)
    with pytest.raises(TimedOut):
        pair.guest.send(bytes(20000), timeout=0)
    assert pending_of(pair.out) >= 1024
    while True:
        try:
            pair.host.receive(timeout=0)
        except TimedOut:
            break
    assert pair.host.signal.notified == 1
    pair.guest.send(b"little")
    assert pending_of(pair.out) == 0
    assert mask_of(pair.out) == 0
    assert pair.host.receive() == b"little"


# -- everything else -------------------------------------------------------------------------------


def test_the_trace_sees_the_bytes_of_each_call_and_the_end():
    seen: list[tuple[str, Packet]] = []
    pair = scripted_pair(ByteChannel, trace=lambda what, packet: seen.append((what, packet)))
    pair.guest.send(b"bytes")
    pair.guest.send_end()
    pair.host.receive(3)
    pair.host.receive()
    pair.host.receive()
    assert [(what, packet.payload) for what, packet in seen] == [
        ("sent", b"bytes"),
        ("sent", b""),
        ("received", b"byt"),
        ("received", b"es"),
        ("received", b""),
    ]


def test_a_packet_that_is_no_stream_is_an_error_of_the_other_side():
    pair = scripted_pair(ByteChannel)
    pair.guest.outgoing.send_packet(OutgoingPacket.completion(8, transaction_id=1), bytes(8))
    with pytest.raises(PeerError, match="pipes use in-band"):
        pair.host.receive(timeout=0)


def test_a_channel_is_a_file_to_code_that_reads_and_writes_files():
    guest, host = connected_channels(kind=ByteChannel)
    with io.TextIOWrapper(io.BufferedWriter(guest.makefile("wb")), encoding="utf-8") as lines:
        print("one line", "another", sep="\n", file=lines)
    assert list(io.BufferedReader(host.makefile("rb"))) == [b"one line\n", b"another\n"]
    host.send(b"the channel is still open")
    assert guest.receive() == b"the channel is still open"
