"""Where in a stretch of memory messages about channels may start: the first, quick look.

A gigabyte has 134 million places.  The low byte of every 64-bit word makes a column, in which C code looks
for the four types; so Python sees one word in a hundred, and only those are looked at closely (in
message_finder.py) whose next words may be a message's too.
"""

from __future__ import annotations

from vmbus.protocols import LARGEST_RELID, MessageType

__all__ = ["LARGEST_BODY_NUMBER", "LARGEST_PAGE", "WORD", "message_places"]

#: Page numbers are below this: 52 bits of address.
LARGEST_PAGE = 2**40

#: The number of the last body message of the longest GPADL.
LARGEST_BODY_NUMBER = 512

WORD = 8
LOW_HALF = 0xFFFFFFFF

#: Bytes of a message that are looked at, and half a word for offers.
LOOKED_AT = 3 * WORD + WORD // 2

#: The byte of a GUID that holds its version: 4 for one made at random, and that of Hyper-V sockets.
USUAL_VERSIONS = {*range(0x40, 0x50), 0x11}
USUAL_VARIANT = 0b10


def message_places(data: bytes, end: int) -> list[int]:
    """Offsets below `end`, a multiple of 8, where the type and the next words look like a message's.

    The low byte of every 64-bit word makes a column, in which C code looks for the types; so only one
    word in many is seen by Python.
    """
    if len(data) < end + LOOKED_AT:
        # Only so that the words behind the last type are there; the close look knows the true length.
        data += bytes(LOOKED_AT)
    words, between = words_from(data, 0), words_from(data, WORD // 2)
    column, column_between = data[:end:WORD], data[WORD // 2 : end : WORD]
    found = [at * WORD for at in offers(words, column)]
    found += [at * WORD + WORD // 2 for at in offers(between, column_between)]
    found += [at * WORD for at in openings(words, column)]
    found += [at * WORD for at in headers(words, column)]
    found += [at * WORD for at in bodies(words, column)]
    return sorted(found)


def words_from(data: bytes, first: int) -> memoryview:
    """The 64-bit words of `data` from offset `first` on."""
    return memoryview(data)[first : first + (len(data) - first & -WORD)].cast("Q")


def of_type(words: memoryview, column: bytes, kind: int) -> list[int]:
    """The numbers of the words that are a type and its padding.

    column   the low byte of every word, as far as is to be looked
    """
    number, letter, find, found = int(kind), bytes([kind]), column.find, []
    at = find(letter)
    while at >= 0:
        if words[at] == number:
            found.append(at)
        at = find(letter, at + 1)
    return found


def offers(words: memoryview, column: bytes) -> list[int]:
    """Where there may be the GUID of a class behind the type."""
    return [
        at
        for at in of_type(words, column, MessageType.OFFER)
        if words[at + 1] >> 56 in USUAL_VERSIONS and words[at + 2] >> 6 & 3 == USUAL_VARIANT
    ]


def openings(words: memoryview, column: bytes) -> list[int]:
    """Where there may be a relid behind the type, and a GPADL behind that."""
    return [
        at
        for at in of_type(words, column, MessageType.OPEN_CHANNEL)
        if 0 < words[at + 1] & LOW_HALF <= LARGEST_RELID and words[at + 2] & LOW_HALF
    ]


def headers(words: memoryview, column: bytes) -> list[int]:
    """Where there may be a relid and a GPADL behind the type."""
    return [
        at
        for at in of_type(words, column, MessageType.GPADL_HEADER)
        if words[at + 1] > LOW_HALF and 0 < words[at + 1] & LOW_HALF <= LARGEST_RELID
    ]


def bodies(words: memoryview, column: bytes) -> list[int]:
    """Where there may be a small number and a GPADL behind the type, and a page number behind those."""
    return [
        at
        for at in of_type(words, column, MessageType.GPADL_BODY)
        if words[at + 1] > LOW_HALF
        and words[at + 1] & LOW_HALF <= LARGEST_BODY_NUMBER
        and 0 < words[at + 2] < LARGEST_PAGE
    ]
