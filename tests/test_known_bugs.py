"""The catalogue of bugs is whole, and every bug that what is built can have is kept out by a named test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.known_bugs import CATALOGUE, KNOWN_BUGS, known_bug, named_by

TESTS = Path(__file__).parent

#: The bugs that a ring, its memory, its pipes or its inspection can have, as against a driver's.
OF_RINGS = [
    f"B{number:02}"
    for number in (
        *range(4, 10),
        *(17, *range(25, 34), 36, 37, 38),
        *(40, 43, 45, 46, 47, 50),
        *(52, 53, 54, 55, 57, 58, 59, 63),
    )
]


#: The bugs that a channel can have: in signals, waiting, transactions and closing.
OF_CHANNELS = [
    f"B{number:02}"
    for number in (*range(1, 4), 8, *range(10, 17), *range(18, 23), 42, 47, 61, 62, 64, 65, 67)
]


#: The bugs that a virtqueue can have, and what rides on it.
OF_VIRTQUEUES = [f"V{number:02}" for number in range(1, 16)]


def test_the_numbers_are_b01_to_b70_and_v01_to_v15_each_once():
    expected = [f"B{number:02}" for number in range(1, 71)] + [f"V{number:02}" for number in range(1, 16)]
    assert [bug.number for bug in CATALOGUE] == expected
    assert list(KNOWN_BUGS) == expected


def test_every_bug_has_a_sentence_and_a_source():
    for bug in CATALOGUE:
        assert bug.sentence.endswith("."), bug.number
        assert bug.source, bug.number


def test_a_source_becomes_the_addresses_it_stands_for():
    assert KNOWN_BUGS["B04"].addresses == ["https://git.kernel.org/torvalds/c/71b38245"]
    assert KNOWN_BUGS["B27"].addresses == ["https://github.com/QubesOS/qubes-issues/issues/10833"]
    assert KNOWN_BUGS["B63"].addresses == [
        "https://lore.kernel.org/linux-hyperv/1648394710-33480-1-git-send-email-mikelley@microsoft.com/"
    ]
    assert KNOWN_BUGS["V13"].addresses == [
        "https://github.com/microsoft/openvmm/pull/3221",
        "https://github.com/oxidecomputer/propolis/issues/1135",
    ]


def test_a_bug_without_an_address_names_a_file_a_document_or_a_commit_by_its_title():
    for bug in CATALOGUE:
        if not bug.addresses:
            assert re.search(r"\.(c|h|rs|rst)\b|CHANGELOG|commit '", bug.source), bug


def test_every_number_named_anywhere_in_the_tests_is_in_the_catalogue():
    for path in sorted(TESTS.rglob("*.py")):
        named = set(re.findall(r"\b[BV]\d\d\b", path.read_text(encoding="utf-8")))
        assert named <= set(KNOWN_BUGS), path


@pytest.fixture(scope="module")
def tests_of():
    """The tests that name each number; the sources are read once."""
    return named_by()


@pytest.mark.parametrize("number", OF_RINGS + OF_CHANNELS + OF_VIRTQUEUES)
def test_every_bug_of_what_is_built_is_named_by_a_test(tests_of, number):
    assert tests_of[number], KNOWN_BUGS[number]


def test_a_number_that_is_not_in_the_catalogue_cannot_be_named():
    with pytest.raises(ValueError, match="no bug X99"):
        known_bug("B25", "X99")
    with pytest.raises(ValueError, match="without a number"):
        known_bug()


def test_the_mark_carries_the_numbers():
    assert known_bug("B25", "B28").mark.args == ("B25", "B28")
