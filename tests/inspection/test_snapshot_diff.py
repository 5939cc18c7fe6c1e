"""Two snapshots of one ring tell what a model of the ring knows happened in between; where nothing moved and a
signal is owed they say stuck, and bytes or indices that no correct end leaves are findings.
"""

from __future__ import annotations

import struct
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from hypothesis.strategies import booleans, integers, lists

from tests.helpers import pattern
from tests.inspection.dumps import (
    GPA_DIRECT,
    HISTORY,
    control_page,
    data_area,
    dump_of,
    look,
    packet,
    ring_image,
)
from tests.known_bugs import known_bug
from vmbus.errors import CallerError, RingFull
from vmbus.images import BytesSource, Segment, StoredDump
from vmbus.inspection import (
    DumpRingMem,
    RingDiff,
    RingPlace,
    Severity,
    Trust,
    diff,
    diff_reports,
    inspect_dump,
    inspect_memory,
    memory_of,
    recover,
)
from vmbus.memory import FlatRingMem
from vmbus.ring import connected_rings

SIZE = 4096


def compare(before: bytes, after: bytes) -> RingDiff:
    return diff(look(before), look(after))


def names(found: RingDiff) -> list[str]:
    return [finding.check for finding in found.findings]


def offsets(packets) -> list[int] | None:
    return None if packets is None else [one.offset for one in packets]


FOUR = [packet(32 * number, bytes([number]) * 8) for number in range(4)]


def snapshot(first: int, last: int, **words: int) -> bytes:
    """Of a ring to which the same packets are written one after the other: those from `first` up to `last` wait."""
    content = data_area(SIZE, (0, b"".join(FOUR[:last])))
    return control_page(32 * last, 32 * first, **words) + content


# -- progress ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "read", "written", "still"),
    [
        ((0, 2), (0, 2), [], [], [0, 32]),
        ((0, 2), (0, 3), [], [64], [0, 32]),
        ((0, 2), (1, 2), [0], [], [32]),
        ((0, 2), (1, 4), [0], [64, 96], [32]),
        ((0, 2), (2, 2), [0, 32], [], []),
        ((0, 2), (3, 4), [0, 32, 64], [64, 96], []),
        ((0, 0), (2, 2), [0, 32], [0, 32], []),
        ((1, 1), (4, 4), [32, 64, 96], [32, 64, 96], []),
    ],
)
def test_what_was_read_and_written_in_between_and_what_waits_still(before, after, read, written, still):
    found = compare(snapshot(*before, mask=1), snapshot(*after, mask=1))
    assert (offsets(found.read), offsets(found.written)) == (read, written)
    assert offsets(found.still_waiting) == still
    assert found.bytes_written == 32 * (after[1] - before[1])
    assert found.bytes_read == 32 * (after[0] - before[0])
    assert found.moved == (before != after)
    assert names(found) == []
    assert found.is_sound


def test_memories_can_be_compared_as_they_are():
    before, after = (FlatRingMem.over(snapshot(0, last)) for last in (1, 2))
    assert offsets(diff(before, after).written) == [32]


def test_rings_of_different_sizes_are_not_one_ring():
    with pytest.raises(CallerError, match="4096 bytes of data and the later 8192: they are not one ring"):
        compare(ring_image([]), ring_image([], size=8192))


@pytest.mark.parametrize("index", ["in_offset", "out_offset"])
def test_with_an_index_out_of_range_nothing_is_compared_and_nothing_is_stuck(index):
    for images in (
        (ring_image([packet(0)]), ring_image([], **{index: 4})),
        (ring_image([], **{index: 5000}),) * 2,
    ):
        found = compare(*images)
        assert (found.moved, found.written, found.read, found.bytes_written) == (None, None, None, None)
        assert (found.stuck, found.is_sound) == ([], False)


def test_a_change_of_the_mask_or_of_the_pending_size_is_a_move():
    assert compare(ring_image([], mask=1), ring_image([])).moved is True
    assert compare(ring_image([]), ring_image([], pending=64)).moved is True


def test_words_that_nobody_changes_are_noted_when_they_did():
    found = compare(ring_image([], features=0), ring_image([]))
    assert names(found) == ["control-changed"]
    assert names(compare(ring_image([]), ring_image([], others={9: 1}))) == ["control-changed"]


# -- stuck ---------------------------------------------------------------------------------------


@known_bug("B08", "B12")
def test_a_ring_where_nothing_moves_and_its_reader_was_not_told_is_stuck():
    found = compare(snapshot(0, 2), snapshot(0, 2))
    assert [(one.to, one.owed_by, one.rule, one.edge) for one in found.stuck] == [
        ("reader", "writer", "reader_needs_signal", "signal_reader_after_write")
    ]
    assert names(found) == ["stuck-reader"]
    assert not found.is_sound


@known_bug("B01")
def test_a_ring_where_nothing_moves_and_its_writer_was_not_told_is_stuck():
    found = compare(snapshot(1, 1, pending=2000), snapshot(1, 1, pending=2000))
    assert [(one.to, one.owed_by) for one in found.stuck] == [("writer", "reader")]
    assert names(found) == ["stuck-writer"]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ((0, 2), (0, 3), {}),
        ((0, 2), (1, 2), {}),
        ((0, 2), (0, 2), {"mask": 1}),
        ((1, 1), (1, 1), {}),
        ((1, 1), (1, 1), {"pending": 4120}),
    ],
)
def test_a_ring_that_moves_or_where_nobody_is_owed_anything_is_not_stuck(before, after, words):
    size_words = dict(words)
    found = compare(snapshot(*before, **size_words), snapshot(*after, **size_words))
    assert found.stuck == []
    assert not any(name.startswith("stuck") for name in names(found))


def test_a_reader_that_has_just_cleared_its_mask_is_not_stuck_yet():
    assert compare(snapshot(0, 2, mask=1), snapshot(0, 2)).stuck == []


# -- edge rules ----------------------------------------------------------------------------------


def test_a_first_packet_in_an_empty_ring_with_the_mask_clear_was_due_a_signal():
    found = compare(snapshot(1, 1), snapshot(1, 3))
    assert names(found) == ["signal-was-due"]
    assert (
        "signal_reader_after_write when it published the first packet at 0x0020" in found.findings[0].message
    )
    assert found.is_sound


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (snapshot(0, 1), snapshot(0, 3)),
        (snapshot(1, 1, mask=1), snapshot(1, 3)),
        (snapshot(1, 1), snapshot(1, 3, mask=1)),
        (snapshot(1, 1), snapshot(2, 3)),
    ],
)
def test_a_write_that_no_edge_rule_speaks_of_for_sure_was_due_nothing(before, after):
    assert names(compare(before, after)) == []


def test_freed_room_that_reaches_what_was_asked_for_was_due_a_signal():
    asked = 4096 - 8 - 64
    found = compare(snapshot(0, 4, pending=asked, mask=1), snapshot(2, 4, pending=asked, mask=1))
    assert names(found) == ["signal-was-due"]
    assert (
        f"signal_writer_after_read: {asked} bytes of room were asked for, 3960 were free, and 4024 are"
        in (found.findings[0].message)
    )
    for before, after in (((0, 4), (1, 4)), ((2, 4), (3, 4))):  # not yet, and already
        assert (
            names(compare(snapshot(*before, pending=asked, mask=1), snapshot(*after, pending=asked, mask=1)))
            == []
        )


# -- what no correct end leaves ------------------------------------------------------------------


def changed(image: bytes, *places: int) -> bytes:
    altered = bytearray(image)
    for place in places:
        altered[4096 + place] ^= 0xFF
    return bytes(altered)


@pytest.mark.parametrize("after", [(0, 2), (0, 3), (1, 4)])
@pytest.mark.parametrize("place", [32, 40, 48, 55, 63])
def test_a_byte_of_a_waiting_packet_that_changed_is_an_error(after, place):
    found = compare(snapshot(0, 3, mask=1), changed(snapshot(after[0], max(3, after[1]), mask=1), place))
    assert "committed-bytes-changed" in names(found)
    (finding,) = [one for one in found.findings if one.check == "committed-bytes-changed"]
    assert finding[1:3] == (Severity.ERROR, 32)
    assert f"1 byte of the packet changed while it waited, the first at {place:#06x}" in finding.message
    assert 32 not in offsets(found.still_waiting)
    assert (found.moved, found.is_sound) == (True, False)


def test_a_byte_behind_in_or_of_a_packet_that_was_read_may_change():
    assert names(compare(snapshot(0, 2, mask=1), changed(snapshot(1, 2, mask=1), 8, 2000))) == []


def pipe(kind: int, length: int, content: bytes, consumed: int = 0) -> bytes:
    second = length | consumed << 16
    return struct.pack("<II", kind, second) + content


def test_a_byte_reader_that_takes_a_part_of_a_packet_does_no_harm_and_moves():
    before = ring_image([packet(0, pipe(1, 16, pattern(16)))])
    part = ring_image([packet(0, pipe(2, 16, pattern(16), consumed=5))])
    more = ring_image([packet(0, pipe(2, 16, pattern(16), consumed=9))])
    for earlier, later, count in ((before, part, 5), (part, more, 4)):
        found = compare(earlier, later)
        assert names(found) == ["partly-read"]
        assert f"has taken {count} of them" in found.findings[0].message
        assert (found.moved, found.stuck, found.is_sound) == (True, [], True)


@pytest.mark.parametrize(
    "later",
    [
        packet(0, pipe(2, 24, pattern(16), consumed=5)),  # another length
        packet(0, pipe(2, 16, pattern(16, seed=2), consumed=5)),  # other content
        packet(0, pipe(1, 16, pattern(16)), transaction_id=1),  # another descriptor
        packet(0, pipe(2, 16, pattern(16), consumed=5), kind=GPA_DIRECT),
    ],
)
def test_any_other_change_of_a_pipe_packet_is_an_error(later):
    found = compare(ring_image([packet(0, pipe(1, 16, pattern(16)))]), ring_image([later]))
    assert names(found) == ["committed-bytes-changed"]


def test_less_of_a_packet_taken_than_before_is_an_error():
    images = [ring_image([packet(0, pipe(2, 16, pattern(16), consumed=count))]) for count in (9, 5)]
    assert names(compare(*images)) == ["committed-bytes-changed"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1, 2), (0, 2)),  # out went back
        ((0, 2), (0, 1)),  # in went back
        ((0, 2), (3, 2)),  # out went past in
        ((2, 3), (1, 2)),  # both went back
    ],
)
def test_an_index_that_went_where_only_new_bytes_could_bring_it_is_an_error(before, after):
    """As when the two dumps are given the wrong way round."""
    data = snapshot(0, 4)[4096:]
    found = compare(snapshot(*before)[:4096] + data, snapshot(*after)[:4096] + data)
    assert "index-backwards" in names(found)
    assert (found.written, found.stuck, found.is_sound) == (None, [], False)


def test_a_ring_that_was_filled_anew_is_no_error():
    sender, receiver = connected_rings(SIZE)
    random = Random(4)
    sender.send(random.randbytes(1000))
    before = image_of(sender)
    for number in range(40):
        receiver.receive()
        sender.send(random.randbytes(8 * (number * 7 % 40) + 1000))
    found = compare(before, image_of(sender))
    assert not any(finding.severity is Severity.ERROR for finding in found.findings)
    assert (found.moved, found.is_sound) == (True, True)


def test_a_channel_that_was_opened_anew_is_no_error():
    used = snapshot(2, 3, mask=1)
    found = compare(used, control_page() + used[4096:])
    assert not any(finding.severity is Severity.ERROR for finding in found.findings)
    assert found.written is None


@known_bug("B43")
def test_an_out_that_moved_into_a_packet_is_a_warning():
    before = ring_image([packet(0), packet(24, pattern(200)), packet(248)])
    after = control_page(272, 24 + 100 // 8 * 8) + before[4096:]
    assert "out-inside-a-packet" in names(compare(before, after))
    assert "out-inside-a-packet" not in names(compare(before, control_page(272, 24) + before[4096:]))


# -- dumps ---------------------------------------------------------------------------------------


def report(image: bytes, **options: object):
    return inspect_dump(dump_of(image), **options)  # type: ignore[arg-type]


def test_the_rings_of_a_pair_are_compared_each_with_itself():
    pair = [snapshot(0, 2), snapshot(1, 3)], [snapshot(0, 2), snapshot(2, 4)]
    found = diff_reports(*(report(b"".join(images)) for images in pair))
    assert [(one.before.place.role, one.after.place.role) for one in found.rings] == [
        ("outbound", "outbound"),
        ("inbound", "inbound"),
    ]
    assert [one.moved for one in found.rings] == [False, True]
    assert (found.only_a, found.only_b, found.is_sound) == ([], [], False)


def test_single_rings_are_compared_wherever_they_lie():
    later = report(bytes(4096) + snapshot(0, 2), address=4096)
    (ring,) = diff_reports(report(snapshot(0, 1)), later).rings
    assert (ring.before.place.address, ring.after.place.address) == (0, 4096)


def test_rings_that_only_one_dump_has_are_named():
    pair = report(ring_image([packet(0)]) + ring_image([packet(0)]))
    one = pair._replace(rings=[])
    found = diff_reports(pair, one)
    assert ([ring.place.address for ring in found.only_a], found.rings) == ([0, 8192], [])
    assert found.to_json()["only_a"] == [0, 8192]
    assert "ring at 0x2000: only in the earlier dump" in list(found.to_lines())


def test_the_document_has_its_keys_and_the_same_facts():
    found = diff_reports(report(snapshot(0, 2)), report(snapshot(0, 2)))
    document = found.to_json()
    assert document["schema"] == "vmbus.diff/1"
    assert list(document) == ["schema", "a", "b", "rings", "only_a", "only_b"]
    (ring,) = document["rings"]
    assert list(ring) == [
        "a",
        "b",
        "moved",
        "bytes_written",
        "bytes_read",
        "written",
        "read",
        "still_waiting",
        "stuck",
        "findings",
    ]
    assert (ring["moved"], ring["still_waiting"], ring["written"]) == (False, 2, [])
    (stuck,) = ring["stuck"]
    assert list(stuck) == ["to", "owed_by", "rule", "edge_rule", "message"]
    assert [finding["check"] for finding in ring["findings"]] == ["stuck-reader"]
    assert ring["b"]["control"]["in"] == 64


# -- against a model -----------------------------------------------------------------------------


def image_of(end) -> bytes:
    """A snapshot of the ring that an end works on."""
    memory = end.memory
    words = struct.pack("<32I", *(memory.control[word] for word in range(32)))
    return words.ljust(4096, b"\0") + memory.read_at(0, memory.size)


class TwoSnapshots(RuleBasedStateMachine):
    """What diff and recover tell of a ring in use is what a list of all that was written and read knows.

    Positions count all bytes ever written: a packet's is its place in the ring and the laps before it.
    """

    @initialize(start=integers(0, 511), footers=booleans())
    def empty(self, start, footers):
        self.start = 8 * start
        self.sender, self.receiver = connected_rings(SIZE, start=self.start)
        self.footers = footers
        self.packets = []  # (position, end, payload) of every packet ever written
        self.position = self.start
        self.taken = 0  # how many were read
        self.number = 0
        self.look()

    def look(self):
        self.before = image_of(self.sender)
        self.had, self.had_taken = len(self.packets), self.taken

    @rule(slots=integers(0, 100))
    def send(self, slots):
        self.send_one(slots)

    def send_one(self, slots):
        self.number += 1
        payload = pattern(8 * slots, seed=self.number)
        try:
            self.sender.send(payload, transaction_id=self.number)
        except RingFull:
            return
        end = self.position + 16 + len(payload) + 8
        if not self.footers:
            self.sender.memory.write_at((end - 8) % SIZE, b"\xa5" * 8)
        self.packets.append((self.position, end, payload))
        self.position = end

    @rule(slots=lists(integers(0, 9), min_size=2, max_size=8))
    def send_several(self, slots):
        for one in slots:
            self.send_one(one)

    @precondition(lambda self: self.taken < len(self.packets))
    @rule(count=integers(1, 5))
    def receive(self, count):
        received, _ = self.receiver.receive_many(count)
        self.taken += len(received)

    @rule()
    def snapshot(self):
        self.look()

    @rule()
    def compare(self):
        found = compare(self.before, image_of(self.sender))
        written, read = self.packets[self.had :], self.packets[self.had_taken : self.taken]
        laps = sum(end - start for start, end, _ in written) >= SIZE
        assert not any(finding.severity is not Severity.NOTE for finding in found.findings) or found.stuck
        if not laps:
            assert [(one.offset, one.payload) for one in found.written] == [
                (start % SIZE, payload) for start, _, payload in written
            ]
            assert [(one.offset, one.payload) for one in found.read] == [
                (start % SIZE, payload) for start, _, payload in read
            ]
            still = self.packets[self.taken : self.had]
            assert offsets(found.still_waiting) == [start % SIZE for start, *_ in still]
            assert found.moved == bool(written or read)
            waiting = len(self.packets) > self.taken
            masked = self.sender.memory.control[2]
            assert bool(found.stuck) == (not found.moved and waiting and not masked)

    @rule(masked=booleans())
    def mask(self, masked):
        self.receiver.set_interrupt_mask(masked)
        self.look()

    @rule()
    def recover(self):
        """With footers or without: what was read and not written over since comes back, and no other."""
        control = self.sender.memory.control
        found = recover(self.sender.memory, control[0], control[1], guess=True)
        whole = [one for one in self.packets[: self.taken] if one[0] >= self.position - SIZE]
        expected = [start % SIZE for start, *_ in whole]
        assert [one.packet.offset for one in found] == expected
        trust = {one.trust for one in found[1:]}
        assert trust <= ({Trust.INTACT} if self.footers else {Trust.LENGTH_ONLY})
        if found:
            assert found[0].trust is (Trust.INTACT if self.footers else Trust.GUESS)


TestTwoSnapshots = TwoSnapshots.TestCase
TestTwoSnapshots.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- any bytes, and bytes that are not there -----------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(
    seed=integers(0, 2**32),
    words=lists(integers(0, 511).map(lambda slot: 8 * slot), min_size=4, max_size=4),
    same=booleans(),
    nearly=booleans(),
)
def test_over_any_bytes_nothing_is_raised(seed, words, same, nearly):
    random = Random(seed)
    data = b"".join(
        struct.pack("<HHHH", random.choice([0, 6, 9]), random.randint(0, 4), random.randint(0, 60), 0)
        for _ in range(SIZE // 8)
    )
    later = data if same else data[:2048] + random.randbytes(2048) if nearly else random.randbytes(SIZE)
    before, after = control_page(*words[:2]) + data, control_page(*words[2:]) + later
    found = compare(before, after)
    for packets in (found.read, found.written, found.still_waiting):
        assert sum(one.shown_bytes for one in packets or ()) <= 2 * SIZE
    report = diff_reports(inspect_dump(dump_of(before), address=0), inspect_dump(dump_of(after), address=0))
    assert list(report.to_lines())
    assert report.to_json()


def partial(image: bytes, start: int, end: int) -> DumpRingMem:
    """The ring of an image that does not have its data from `start` to `end`."""
    kept = [Segment(0, 4096 + start, 0), Segment(4096 + end, len(image) - 4096 - end, 4096 + end)]
    dump = StoredDump(BytesSource("image", memoryview(image)), kept)
    memory = memory_of(dump, RingPlace(0, 4096, len(image) - 4096))
    assert isinstance(memory, DumpRingMem)
    return memory


@pytest.mark.parametrize(("first", "waits"), [(0, []), (32, [0]), (64, [0, 32])])
def test_packets_behind_bytes_that_an_image_lacks_are_not_looked_for(first, waits):
    ring = inspect_memory(partial(snapshot(0, 3), first, 3000), selection=HISTORY)
    assert [one.offset for one in ring.packets] == waits
    assert [finding.check for finding in ring.findings] == ["missing-memory"]
    assert ring.verdict.value == "waiting-for-reader"


def test_a_packet_with_bytes_that_an_image_lacks_is_shown_without_them():
    ring = inspect_memory(partial(snapshot(0, 3), 48, 56))
    assert [(one.offset, one.broken, one.payload) for one in ring.packets] == [
        (0, None, bytes(8)),
        (32, "missing-memory", None),
        (64, None, bytes([2]) * 8),
    ]
    assert ring.packets[1].descriptor is not None
    assert ring.verdict.value == "waiting-for-reader"


def test_history_ends_where_bytes_are_missing_and_is_sought_around_them():
    assert recover(partial(snapshot(3, 3), 0, 64), 96, 96, guess=True) != []
    lacking = inspect_memory(partial(snapshot(3, 3), 40, 56), selection=HISTORY)
    assert [one.offset for one in lacking.consumed][-1] == 64


def test_snapshots_that_lack_bytes_are_not_compared_and_nothing_is_stuck():
    lacking = partial(snapshot(0, 2), 32, 4096)
    found = diff(lacking, lacking)
    assert (found.moved, found.stuck, found.is_sound) == (None, [], False)
    assert [finding.check for finding in found.findings] == ["missing-memory"]
