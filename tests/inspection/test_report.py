"""The report on a ring says what its numbers say, leaves open what cannot be known, and stores nothing.

Control words, levels, counts and selections, over memory of every kind, and the report on a file of
one or two rings.
"""

from __future__ import annotations

import tracemalloc
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, lists, one_of

from tests.helpers import MEMORIES, PACKET_KINDS, SAMPLE_NAMES, padded, pattern, sample, send_packet
from tests.inspection.dumps import (
    HISTORY,
    checks,
    control_page,
    dump_of,
    look,
    packet,
    ring_image,
    sample_dump,
)
from tests.known_bugs import known_bug
from vmbus import inspection
from vmbus.fuzzing.recording_memory import RecordingMemory
from vmbus.images import findings
from vmbus.inspection import RingReport, Selection, Severity, inspect_dump, inspect_memory
from vmbus.inspection.ring_report import MOST_LOOKS
from vmbus.memory import FlatRingMem, PagedRingMem
from vmbus.ring import connected_rings, reader_needs_signal, writer_needs_signal

# -- control words and levels --------------------------------------------------------------------


def test_the_control_words_are_shown_as_they_are():
    ring = look(ring_image([], out=64, mask=3, pending=77, features=0x80000001, others={4: 9, 31: 8}))
    control = ring.control
    assert (control.in_offset, control.out_offset) == (64, 64)
    assert (control.interrupt_mask, control.pending_send_size) == (3, 77)
    assert (control.feature_bits, control.other_words) == (0x80000001, {4: 9, 31: 8})


@pytest.mark.parametrize(
    ("in_offset", "out_offset", "available", "free"),
    [(0, 0, 0, 4088), (128, 64, 64, 4024), (64, 128, 4032, 56), (120, 128, 4088, 0), (4088, 4088, 0, 4088)],
)
def test_available_and_free_are_what_the_indices_say(in_offset, out_offset, available, free):
    ring = look(control_page(in_offset, out_offset) + bytes(4096))
    assert (ring.available, ring.free) == (available, free)


@known_bug("B27", "B40")
@pytest.mark.parametrize(("in_offset", "out_offset"), [(4, 0), (0, 4096), (2**31, 0), (0, 2**32 - 1)])
def test_with_an_index_out_of_range_what_follows_from_it_is_unknown(in_offset, out_offset):
    ring = look(control_page(in_offset, out_offset, pending=8) + bytes(4096), HISTORY)
    assert (ring.available, ring.free) == (None, None)
    assert (ring.reader_needs_signal, ring.writer_needs_signal) == (None, None)
    assert (ring.packets, ring.consumed, ring.waiting) == ([], [], 0)
    assert (ring.control.in_offset, ring.control.out_offset) == (in_offset, out_offset)
    assert ring.verdict.value == "corrupt"


@pytest.mark.parametrize(
    ("mask", "waits", "owed"), [(0, True, True), (0, False, False), (1, True, False), (2, True, False)]
)
def test_a_reader_may_be_owed_a_signal_while_packets_wait_and_it_is_not_masked(mask, waits, owed):
    image = ring_image([packet(0)] if waits else [], mask=mask)
    assert look(image).reader_needs_signal is owed
    assert reader_needs_signal(image[:4096]) is owed


@pytest.mark.parametrize(
    ("pending", "owed"), [(0, False), (7, False), (8, True), (4024, True), (4031, True), (4032, False)]
)
def test_a_writer_may_be_owed_a_signal_when_what_it_asked_for_is_free(pending, owed):
    image = ring_image([packet(0, bytes(40))], pending=pending)  # 64 bytes wait, 4024 are free
    ring = look(image)
    assert ring.free == 4024
    assert ring.writer_needs_signal is owed
    assert writer_needs_signal(image[:4096], 4096) is owed


# -- rings of every kind -------------------------------------------------------------------------


@known_bug("B36")
@pytest.mark.parametrize("header_size", [4096, 16384, 65536])
def test_the_control_page_may_fill_a_larger_page(header_size):
    sent = [packet(4080, pattern(40), transaction_id=3), packet(48, flags=1, transaction_id=4)]
    image = ring_image(sent, out=4080, header_size=header_size)
    assert len(image) == header_size + 4096
    ring = look(image, header_size=header_size)
    assert [one.descriptor.transaction_id for one in ring.packets] == [3, 4]
    assert ring.packets[0].payload == pattern(40)
    (same,) = inspect_dump(dump_of(image), header_size=header_size).rings
    assert (same.place.header_size, same.place.data_size) == (header_size, 4096)
    assert same.packets == ring.packets


@known_bug("B37", "B38")
@pytest.mark.parametrize("pages", [1, 3, 5, 127])
def test_the_data_has_any_number_of_pages(pages):
    size = 4096 * pages
    sender, receiver = connected_rings(size, start=size - 8)
    for number in range(20):
        sender.send(pattern(700, seed=number))
        if number < 18:
            receiver.receive()
    ring = inspect_memory(sender.memory, selection=HISTORY)
    assert (ring.place.data_size, ring.place.header_size) == (size, 4096)
    assert [one.payload for one in ring.packets] == [padded(pattern(700, seed=n)) for n in (18, 19)]
    assert ring.findings == []


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_paged_memory_gives_the_report_that_flat_memory_gives(name):
    image = sample(name)[0]
    flat = look(image, HISTORY)
    pages = [image[at : at + 4096] for at in range(0, len(image), 4096)]
    paged = inspect_memory(PagedRingMem(pages), selection=HISTORY)
    for field in (
        "control",
        "available",
        "free",
        "reader_needs_signal",
        "writer_needs_signal",
        "verdict",
        "packets",
        "consumed",
        "waiting",
        "findings",
    ):
        assert getattr(paged, field) == getattr(flat, field)


@pytest.mark.parametrize("make_memory", MEMORIES.values(), ids=MEMORIES)
def test_a_ring_in_use_can_be_looked_at_and_nothing_is_stored(make_memory):
    memory = RecordingMemory(make_memory(4096))
    sender, receiver = connected_rings(memory=memory, start=4000)
    for kind in PACKET_KINDS.values():
        send_packet(sender, pattern(40), kind.outgoing(40))
    receiver.receive()
    memory.take()
    ring = inspect_memory(memory, selection=HISTORY)
    accesses = memory.take()
    assert {access.what for access in accesses} == {"load", "read", "acquire"}
    assert (len(ring.packets), len(ring.consumed)) == (4, 1)


@pytest.mark.parametrize("make_memory", MEMORIES.values(), ids=MEMORIES)
def test_control_words_are_loaded_once_before_the_packets_out_before_in_and_the_indices_again_after(
    make_memory,
):
    memory = RecordingMemory(make_memory(4096))
    sender, receiver = connected_rings(memory=memory)
    for payload in (b"first", b"second", b"third"):
        sender.send(payload)
    receiver.receive()
    memory.take()
    inspect_memory(memory, selection=HISTORY)
    accesses = [str(access) for access in memory.take()]
    first, second = (at for at, access in enumerate(accesses) if access == "acquire")
    words, packets, again = accesses[:first], accesses[first + 1 : second], accesses[second + 1 :]
    assert len(words) == len(set(words)) == 32  # each word once: they may be changing
    assert words.index("load out") < words.index("load in")
    assert packets == ["read"] * len(packets) != []
    assert again == ["load out", "load in"]


# -- rings that move -----------------------------------------------------------------------------


def moving_ring(times: int, *, kind: int = 6, mask: int = 0) -> RecordingMemory:
    """A ring in which a packet waits, and that is written on at the first access to packets, `times` times."""
    image = bytearray(ring_image([packet(0, kind=kind)], mask=mask))
    memory = RecordingMemory(FlatRingMem.over(image))
    moved = 0

    def move(access) -> None:
        nonlocal moved
        if access.what == "load" and access.place == "word 31":  # a look begins
            move.may_act = moved < times
        elif access.what == "acquire" and move.may_act:
            moved += 1
            move.may_act = False
            at = 24 * moved
            image[4096 + at : 4096 + at + 24] = packet(at, transaction_id=moved)
            image[0:4] = (at + 24).to_bytes(4, "little")

    move.may_act = False
    memory.after = move
    return memory


@pytest.mark.parametrize("times", [0, 1, 2])
def test_a_ring_that_moves_while_it_is_looked_at_is_looked_at_again(times):
    ring = inspect_memory(moving_ring(times))
    assert [one.descriptor.transaction_id for one in ring.packets] == list(range(times + 1))
    assert (ring.control.in_offset, ring.waiting, ring.findings) == (24 * (times + 1), times + 1, [])
    assert ring.verdict.value == "waiting-for-reader"


def test_a_ring_that_never_stands_still_is_looked_at_three_times_and_says_so():
    memory = moving_ring(1000)
    ring = inspect_memory(memory)
    assert [access.what for access in memory.take()].count("acquire") == 2 * MOST_LOOKS == 6
    assert checks(ring) == ["ring-moved"]
    assert ring.findings[0].severity is Severity.NOTE
    assert "in or out moved while looking, 3 times" in ring.findings[0].message
    assert ring.is_sound
    assert len(ring.packets) == 3  # those of the last look's own in and out


def test_what_packets_seem_to_be_while_a_ring_moves_is_no_error_and_what_its_words_are_still_is():
    still = inspect_memory(moving_ring(0, kind=99, mask=7))
    assert [(one.check, one.severity.value) for one in still.findings] == [
        ("interrupt-mask", "warning"),
        ("descriptor-type", "error"),
    ]
    assert (still.verdict.value, still.is_sound) == ("corrupt", False)
    moving = inspect_memory(moving_ring(1000, kind=99))
    assert [(one.check, one.severity.value) for one in moving.findings] == [
        ("ring-moved", "note"),
        ("descriptor-type", "note"),
    ]
    assert (moving.verdict.value, moving.is_sound) == ("waiting-for-reader", True)
    masked = inspect_memory(moving_ring(1000, mask=7))
    assert (checks(masked), masked.is_sound) == (["interrupt-mask", "ring-moved"], False)


def test_out_that_moves_is_a_ring_that_moves():
    image = bytearray(ring_image([packet(24 * number) for number in range(9)]))
    memory = RecordingMemory(FlatRingMem.over(image))

    def read_on(access) -> None:
        if access.what == "acquire":
            image[4:8] = (int.from_bytes(image[4:8], "little") % 192 + 24).to_bytes(4, "little")

    memory.after = read_on
    assert checks(inspect_memory(memory)) == ["ring-moved"]


# -- many findings -------------------------------------------------------------------------------


def test_footers_that_are_not_their_packets_own_are_one_note_however_many_they_are():
    sent = [packet(64 + 24 * n, footer=None if n in (0, 3) else b"\x07" * 8) for n in range(10)]
    ring = look(ring_image(sent, out=64))
    (finding,) = ring.findings
    assert finding[:3] == ("footer", Severity.NOTE, 64 + 24)
    assert finding.message.startswith(
        "8 of 10 waiting packets have no footer of their own, the first at 0x0058: QEMU writes none"
    )
    assert [one.footer_agrees for one in ring.packets] == [n in (0, 3) for n in range(10)]


def test_a_note_on_footers_counts_packets_that_are_not_shown_and_none_that_are_torn():
    sent = [packet(0, footer=b"\1" * 8), packet(24), packet(48, length8=50)]
    ring = look(ring_image(sent), Selection(limit=0))
    assert checks(ring) == ["descriptor-length", "footer"]
    assert ring.findings[1].message.startswith("1 of 3 waiting packets has no footer")


@pytest.mark.parametrize("count", [999, 1000, 1001, 2500])
def test_a_thousand_findings_are_kept_and_the_rest_is_counted(count):
    ring = look(ring_image([packet(24 * n, kind=99) for n in range(count)], size=65536))
    assert len(ring.findings) == (count if count <= 1000 else 1001)
    assert checks(ring)[:1000] == ["descriptor-type"] * min(count, 1000)
    assert (ring.waiting, ring.verdict.value, ring.is_sound) == (count, "corrupt", False)
    if count > 1000:
        assert ring.findings[-1].check == "more-findings"
        assert f"{count - 1000} more findings" in ring.findings[-1].message


def test_an_error_counts_for_verdict_and_status_though_it_is_left_out(monkeypatch):
    monkeypatch.setattr(findings, "MOST_FINDINGS", 1)
    image = ring_image([packet(0, kind=99)], pending=4095)
    ring = look(image)
    assert checks(ring) == ["pending-send-size", "more-findings"]
    assert all(one.severity is Severity.NOTE for one in ring.findings)
    assert (ring.verdict.value, inspect_dump(dump_of(image)).is_sound) == ("corrupt", False)


@pytest.mark.parametrize("history", [False, True])
def test_of_very_many_packets_only_those_that_are_shown_are_kept(history):
    size = 1 << 19
    data = b"".join(packet(at, kind=99, flags=8, footer=None) for at in range(0, size - 24, 24))
    indices = (len(data), len(data)) if history else (len(data), 0)
    memory = FlatRingMem.over(control_page(*indices) + data.ljust(size, b"\0"))
    tracemalloc.start()
    try:
        ring = inspect_memory(memory, selection=Selection(limit=3, history=history))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (ring.recovered if history else ring.waiting) == len(data) // 24 > 20000
    assert len(ring.consumed if history else ring.packets) == 3
    assert peak < 1 << 20


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    seed=integers(0, 2**32),
    words=lists(
        one_of(integers(0, 512).map(lambda slot: 8 * slot), integers(0, 2**32 - 1)), min_size=5, max_size=5
    ),
    few=integers(2, 256),
    history=booleans(),
)
def test_any_bytes_give_a_report_and_stay_as_they_were(seed, words, few, history):
    data = bytes(byte % few for byte in Random(seed).randbytes(4096))
    in_offset, out_offset, mask, pending, features = words
    page = control_page(in_offset, out_offset, mask=mask, pending=pending, features=features)
    image = bytearray(page + data)
    before = bytes(image)
    ring = look(image, Selection(history=history))
    assert image == before
    assert len(ring.packets) + len(ring.consumed) <= 4096 // 8
    assert ring.waiting == len(ring.packets)
    assert {finding.severity for finding in ring.findings} <= set(Severity)
    assert (ring.verdict.value == "corrupt") == any(
        finding.severity is Severity.ERROR for finding in ring.findings
    )
    covered = sum(one.shown_bytes for one in ring.packets)
    assert covered <= (ring.available or 0)


# -- choosing packets ----------------------------------------------------------------------------

MIXED = [
    packet(0, transaction_id=1),
    packet(24, transaction_id=2, kind=11),
    packet(48, transaction_id=2, kind=99),
    packet(72, transaction_id=3, flags=4),
    packet(96, transaction_id=1),
]


def offsets(ring: RingReport) -> list[int]:
    return [one.offset for one in ring.packets]


@pytest.mark.parametrize(
    ("selection", "shown"),
    [
        (Selection(), [0, 24, 48, 72, 96]),
        (Selection(packet_type="in-band"), [0, 72, 96]),
        (Selection(packet_type="completion"), [24]),
        (Selection(packet_type="unknown-99"), [48]),
        (Selection(packet_type="gpa-direct"), []),
        (Selection(transaction_id=2), [24, 48]),
        (Selection(transaction_id=0), []),
        (Selection(transaction_id=1, packet_type="in-band"), [0, 96]),
        (Selection(limit=2), [0, 24]),
        (Selection(limit=0), []),
        (Selection(limit=99), [0, 24, 48, 72, 96]),
        (Selection(limit=1, transaction_id=2), [24]),
    ],
)
def test_a_selection_chooses_packets_and_hides_no_finding(selection, shown):
    ring = look(ring_image(MIXED), selection)
    assert offsets(ring) == shown
    assert ring.waiting == 5
    assert checks(ring) == ["descriptor-type", "descriptor-flags"]
    assert ring.verdict.value == "corrupt"


def test_a_piece_too_short_for_a_descriptor_is_shown_unless_something_is_asked_for():
    image = ring_image([packet(0), bytes(8)])
    assert offsets(look(image)) == [0, 24]
    assert offsets(look(image, Selection(packet_type="in-band"))) == [0]
    assert offsets(look(image, Selection(transaction_id=0))) == [0]


def test_a_limit_keeps_the_first_that_wait_and_the_last_that_were_read():
    sender, receiver = connected_rings()
    for number in range(10):
        sender.send(b"", transaction_id=number)
    for _ in range(5):
        receiver.receive()
    ring = inspect_memory(sender.memory, selection=Selection(history=True, limit=2))
    assert [one.descriptor.transaction_id for one in ring.consumed] == [3, 4]
    assert [one.descriptor.transaction_id for one in ring.packets] == [5, 6]
    assert ring.waiting == 5
    none = inspect_memory(sender.memory, selection=Selection(history=True, limit=0))
    assert (none.consumed, none.packets) == ([], [])


def test_history_is_given_only_when_it_is_asked_for_and_is_chosen_from_alike():
    sender, receiver = connected_rings()
    sender.send(b"", transaction_id=1)
    sender.send(b"", transaction_id=2)
    receiver.receive_many()
    memory = sender.memory
    assert inspect_memory(memory).consumed == []
    assert len(inspect_memory(memory, selection=HISTORY).consumed) == 2
    (one,) = inspect_memory(memory, selection=Selection(history=True, transaction_id=2)).consumed
    assert one.offset == 24
    assert inspect_memory(memory, selection=Selection(history=True, packet_type="completion")).consumed == []


# -- the report on a file ------------------------------------------------------------------------


def test_a_report_names_its_source_and_has_its_rings_in_the_order_of_the_file():
    dump = dump_of(ring_image([packet(0)]) + ring_image([], out=8), "some/where.bin")
    report = inspect_dump(dump)
    assert (report.path, report.format, report.size) == ("some/where.bin", "raw", 16384)
    assert [ring.place.address for ring in report.rings] == [0, 8192]


@pytest.mark.parametrize(
    ("image", "sound"),
    [
        (ring_image([packet(0)]), True),
        (ring_image([packet(0, footer=b"\1" * 8)]), True),  # a note
        (ring_image([], pending=4095), True),
        (ring_image([], mask=1, features=3), False),  # a warning
        (ring_image([packet(0, kind=0)]), False),
        (ring_image([]) + ring_image([packet(0, kind=0)]), False),
        (ring_image([]) + ring_image([packet(0)]), True),
    ],
)
def test_a_report_is_sound_while_there_are_notes_at_most(image, sound):
    assert inspect_dump(dump_of(image)).is_sound is sound


def test_what_was_found_in_locating_a_ring_is_among_its_findings():
    report = inspect_dump(dump_of(ring_image([packet(0)]) + ring_image([], in_offset=8)))
    assert [checks(ring) for ring in report.rings] == [["maybe-a-pair"]]
    assert report.is_sound


def test_a_dump_is_not_changed_by_looking():
    for name in SAMPLE_NAMES:
        image = bytearray(sample(name)[0])
        before = bytes(image)
        inspect_dump(dump_of(image), selection=HISTORY).to_json(whole=True)
        assert image == before


def test_a_selection_is_passed_on_to_every_ring():
    report = inspect_dump(sample_dump("ring-4-pages"), selection=Selection(limit=3, history=True))
    (ring,) = report.rings
    assert (len(ring.packets), len(ring.consumed), ring.waiting) == (3, 3, 22)


def test_the_memory_of_a_report_can_only_be_read():
    (ring,) = inspect_dump(dump_of(bytearray(ring_image([packet(0)])))).rings
    assert ring.memory.control.readonly
    assert isinstance(ring.memory, FlatRingMem)


@pytest.mark.parametrize("name", ["inspect_queue", "PcapngWriter", "read_capture", "examine_vsock_packet"])
def test_the_front_door_says_where_the_names_are_that_it_imports_later(name):
    assert name in (inspection.__doc__ or "")
    assert name in dir(inspection)
    assert getattr(inspection, name).__name__ == name
