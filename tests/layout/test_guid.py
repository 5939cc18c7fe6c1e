"""GUIDs as they lie in memory and as people write them; the standard library's UUID is the other opinion."""

from __future__ import annotations

import pickle
import uuid

import pytest
from hypothesis import given, settings
from hypothesis.strategies import binary, text

from vmbus.errors import CallerError
from vmbus.layout import Guid

WRITTEN = "f8615163-df3e-46c5-913f-f2d2f965ed0e"
IN_MEMORY = bytes.fromhex("635161f8 3edf c546 913f f2d2f965ed0e")


@settings(max_examples=200, deadline=None)
@given(binary(min_size=16, max_size=16))
def test_bytes_and_text_say_what_the_standard_library_says(data):
    guid, other = Guid.from_bytes(data), uuid.UUID(bytes_le=data)
    assert str(guid) == str(other)
    assert guid.version == other.bytes[6] >> 4
    assert guid.is_usual == (other.variant == uuid.RFC_4122)
    assert Guid.parse(str(other)) == guid == Guid.from_bytes(memoryview(data))


@pytest.mark.parametrize("written", [WRITTEN, WRITTEN.upper(), f"{{{WRITTEN}}}"])
def test_a_text_in_either_case_with_or_without_braces_is_taken(written):
    assert Guid.parse(written).wire == IN_MEMORY


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "{}",
        WRITTEN[:-1],
        WRITTEN + "0",
        WRITTEN.replace("-", ""),
        WRITTEN.replace("f", "g", 1),
        "{" + WRITTEN,
        WRITTEN + "}",
        WRITTEN.replace("df3e-", "df3e:"),
        " " + WRITTEN[1:],
        WRITTEN.replace("f861", "f8 1"),
        WRITTEN.replace("f861", "f8  "),
        WRITTEN.replace("f861", "٠861"),  # noqa: RUF001 - a digit, but not one of these
    ],
)
def test_another_text_is_refused_and_quoted(wrong):
    with pytest.raises(CallerError) as caught:
        Guid.parse(wrong)
    assert repr(wrong) in str(caught.value)
    assert caught.value.value == wrong


@settings(max_examples=100, deadline=None)
@given(text(max_size=40))
def test_any_text_is_a_guid_or_refused(written):
    try:
        guid = Guid.parse(written)
    except CallerError:
        return
    assert str(guid) == written.strip("{}").lower()


@pytest.mark.parametrize("length", [0, 15, 17])
def test_other_than_16_bytes_are_refused(length):
    with pytest.raises(CallerError, match="16 bytes"):
        Guid.from_bytes(bytes(length))


def test_guids_are_equal_by_their_bytes_and_can_be_keys_and_pickled():
    guid = Guid.parse(WRITTEN)
    assert {guid: 1}[Guid(IN_MEMORY)] == 1
    assert pickle.loads(pickle.dumps(guid)) == guid
    assert repr(guid) == f"Guid.parse('{WRITTEN}')"
