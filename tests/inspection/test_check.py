"""Each check of the control words (checks.py) finds what it is named after and nothing else; each verdict is
that of one small ring built for it.
"""

from __future__ import annotations

import pytest

from tests.helpers import pattern
from tests.inspection.dumps import checks, control_page, look, packet, ring_image
from tests.known_bugs import known_bug
from vmbus.inspection import Finding, Severity, Verdict, check, check_control
from vmbus.inspection.checks import indices_are_valid
from vmbus.memory import FlatRingMem
from vmbus.ring import connected_rings, inspect_ring

SIZE = 16384


def findings_of(size: int = SIZE, **words: object) -> list[tuple[str, Severity, str]]:
    found = check_control(inspect_ring(control_page(**words)), size)  # type: ignore[arg-type]
    assert all(finding.offset is None for finding in found)
    return [(finding.check, finding.severity, finding.message) for finding in found]


def the_finding(**words: object) -> tuple[str, Severity, str]:
    (finding,) = findings_of(**words)
    return finding


# -- nothing wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"features": 0},
        {"mask": 1},
        {"in_offset": 8, "out_offset": SIZE - 8},
        {"pending": 8},
        {"pending": SIZE - 8},
    ],
)
def test_control_words_as_correct_ends_write_them_give_no_finding(words):
    assert findings_of(**words) == []


def test_the_control_words_of_a_ring_in_use_give_no_finding():
    sender, receiver = connected_rings(8192, start=8000)
    for _ in range(50):
        sender.send(bytes(1000))
        sender.set_pending_send_size(5000)
        receiver.receive()
        words = [sender.memory.control[word] for word in range(32)]
        page = b"".join(word.to_bytes(4, "little") for word in words)
        assert check_control(inspect_ring(page), 8192) == []


# -- one finding each ----------------------------------------------------------------------------


@known_bug("B26", "B40")
@pytest.mark.parametrize("name", ["in", "out"])
@pytest.mark.parametrize("value", [4, 12, SIZE, SIZE + 8, 2**31, 2**32 - 8, 2**32 - 1])
def test_an_index_out_of_range_or_unaligned_is_an_error_shown_as_it_is_without_a_sign(name, value):
    check, severity, message = the_finding(**{f"{name}_offset": value})
    assert (check, severity) == ("index-range", Severity.ERROR)
    assert message.startswith(f"{name} is {value:#06x}, and in {SIZE} bytes")
    assert "-" not in message


def test_both_indices_can_be_wrong_at_once():
    found = findings_of(in_offset=1, out_offset=SIZE)
    assert [(check, message.split()[0]) for check, _, message in found] == [
        ("index-range", "in"),
        ("index-range", "out"),
    ]


@pytest.mark.parametrize("size", [4096, 12288, 20480])
def test_the_last_index_is_8_below_the_size(size):
    assert findings_of(size, in_offset=size - 8, out_offset=size - 8) == []
    assert [check for check, *_ in findings_of(size, in_offset=size)] == ["index-range"]


@pytest.mark.parametrize("mask", [2, 3, 0x80000000, 0xFFFFFFFF])
def test_a_mask_that_is_neither_0_nor_1_is_a_warning(mask):
    check, severity, message = the_finding(mask=mask)
    assert (check, severity) == ("interrupt-mask", Severity.WARNING)
    assert f"the interrupt mask is {mask:#x};" in message


@pytest.mark.parametrize("pending", [SIZE, SIZE + 1, 2**32 - 1])
def test_a_pending_size_that_can_never_be_free_is_a_warning(pending):
    check, severity, message = the_finding(pending=pending)
    assert (check, severity) == ("pending-send-size", Severity.WARNING)
    assert f"size is {pending}, and more than {SIZE - 8} bytes are never free" in message


@known_bug("B17")
@pytest.mark.parametrize(("pending", "meant"), [(SIZE - 1, SIZE - 8), (9, 8), (7, 0), (1, 0)])
def test_a_pending_size_with_low_bits_is_noted_with_what_readers_take_it_for(pending, meant):
    check, severity, message = the_finding(pending=pending)
    assert (check, severity) == ("pending-send-size", Severity.NOTE)
    assert f"size {pending} is no multiple of 8: readers take it for {meant}" in message


@pytest.mark.parametrize(("features", "unknown"), [(2, 2), (3, 2), (0xFFFFFFFF, 0xFFFFFFFE)])
def test_feature_bits_without_a_meaning_are_a_warning_that_shows_them(features, unknown):
    check, severity, message = the_finding(features=features)
    assert (check, severity) == ("feature-bits", Severity.WARNING)
    assert f"the feature bits {unknown:#x} have" in message


@pytest.mark.parametrize("word", [4, 15, 17, 31])
def test_a_word_without_a_use_that_is_not_zero_is_a_warning_that_shows_it(word):
    check, severity, message = the_finding(others={word: 0xABCD})
    assert (check, severity) == ("reserved-words", Severity.WARNING)
    assert message.endswith(f": word {word} is 0xabcd")


def test_many_such_words_are_counted():
    _, _, message = the_finding(others={4: 1, 5: 2, 6: 3, 7: 4, 31: 5})
    assert message.endswith(": word 4 is 0x1, word 5 is 0x2, word 6 is 0x3 and 2 more")


def test_everything_wrong_at_once_is_found_in_the_order_of_the_words():
    found = findings_of(in_offset=1, out_offset=2**31, mask=5, pending=2**32 - 1, features=7, others={20: 1})
    assert [check for check, *_ in found] == [
        "index-range",
        "index-range",
        "interrupt-mask",
        "pending-send-size",
        "feature-bits",
        "reserved-words",
    ]


def test_indices_are_valid_where_there_is_no_index_finding():
    for in_offset in (0, 4, 8, 4088, 4096):
        for out_offset in (0, 4, 8, 4088, 4096):
            control = inspect_ring(control_page(in_offset, out_offset))
            found = [finding.check for finding in check_control(control, 4096)]
            assert indices_are_valid(control, 4096) == ("index-range" not in found)


# -- verdicts ------------------------------------------------------------------------------------


def verdict(image: bytes) -> str:
    return look(image).verdict.value


def filled(left: int) -> bytes:
    """A ring of a page with `left` bytes free."""
    return ring_image([packet(0, pattern(4096 - 8 - left - 24))])


@known_bug("B50")
@pytest.mark.parametrize("size", [4096, 20480, 2 * 1024 * 1024])
def test_a_ring_of_zeros_was_never_opened(size):
    ring = look(bytes(4096 + size))
    assert (ring.verdict, ring.findings, ring.packets) == (Verdict.NEVER_OPENED, [], [])


@pytest.mark.parametrize("at", [4096, 4097, 8191])
def test_a_ring_with_a_byte_in_it_was_opened(at):
    image = bytearray(8192)
    image[at] = 1
    assert verdict(image) == "idle"


def test_a_control_word_that_is_not_zero_speaks_against_never_opened():
    for word in (2, 16):
        assert verdict(control_page(features=0, others={word: 1}) + bytes(4096)) == "idle"
    assert verdict(control_page(8, 8, features=0) + bytes(4096)) == "idle"
    assert verdict(control_page(features=0, pending=64) + bytes(4096)) == "idle"
    for word in (4, 31):
        assert verdict(control_page(features=0, others={word: 1}) + bytes(4096)) == "idle"


def test_an_empty_ring_is_idle():
    assert verdict(ring_image([])) == "idle"
    assert verdict(ring_image([], out=4088, mask=1)) == "idle"


def test_a_ring_with_packets_waits_for_its_reader():
    assert verdict(ring_image([packet(0)])) == "waiting-for-reader"
    assert verdict(ring_image([packet(0)], mask=1, pending=4000)) == "waiting-for-reader"


@pytest.mark.parametrize("pending", [8, 4088, 4095])
def test_an_empty_ring_whose_sender_has_the_room_it_asked_for_is_idle(pending):
    """Some senders ask once and never take it back: nothing says that this one waits."""
    ring = look(ring_image([], pending=pending))
    assert (ring.verdict.value, ring.writer_needs_signal) == ("idle", True)


@pytest.mark.parametrize("pending", [4096, 2**32 - 1])
def test_an_empty_ring_whose_sender_asked_for_more_room_than_there_ever_is_waits_for_its_writer(pending):
    ring = look(ring_image([], pending=pending))
    assert (ring.verdict.value, ring.writer_needs_signal) == ("waiting-for-writer", False)


def test_a_pending_size_that_readers_take_for_none_is_not_waited_for():
    ring = look(ring_image([], pending=7))
    assert (ring.verdict.value, ring.writer_needs_signal) == ("idle", False)


@pytest.mark.parametrize(
    ("left", "expected"), [(0, "full"), (8, "full"), (16, "full"), (24, "waiting-for-reader")]
)
def test_a_ring_is_full_when_not_even_an_empty_packet_fits(left, expected):
    ring = look(filled(left))
    assert (ring.free, ring.verdict.value) == (left, expected)


@known_bug("B25", "B27")
def test_an_error_makes_a_ring_corrupt_whatever_else_it_is():
    assert verdict(ring_image([packet(0, kind=0)])) == "corrupt"
    assert verdict(ring_image([packet(0)], in_offset=4096)) == "corrupt"
    assert verdict(ring_image([], out=4)) == "corrupt"
    assert verdict(control_page(2**32 - 1, 0, features=0) + bytes(4096)) == "corrupt"
    broken_and_full = bytearray(filled(0))
    broken_and_full[4096] = 0
    assert verdict(broken_and_full) == "corrupt"


def test_warnings_and_notes_do_not_make_a_ring_corrupt():
    ring = look(ring_image([packet(0, footer=bytes([9] * 8))], mask=7, pending=9, features=3, others={9: 9}))
    assert ring.verdict is Verdict.WAITING_FOR_READER
    assert checks(ring) == ["interrupt-mask", "pending-send-size", "feature-bits", "reserved-words", "footer"]


def test_every_verdict_is_one_of_those_tested_here():
    assert {one.value for one in Verdict} == {
        "never-opened",
        "corrupt",
        "full",
        "waiting-for-reader",
        "waiting-for-writer",
        "idle",
    }


# -- everything at once --------------------------------------------------------------------------


def test_check_gives_all_findings_of_a_ring_those_of_its_words_first():
    image = ring_image([packet(0, kind=99), packet(24, footer=b"\1" * 8)], mask=3)
    found = check(FlatRingMem.over(image))
    assert all(type(one) is Finding for one in found)
    assert [one.check for one in found] == ["interrupt-mask", "descriptor-type", "footer"]
    assert found == look(image).findings
    assert check(FlatRingMem.over(ring_image([packet(0)]))) == []
