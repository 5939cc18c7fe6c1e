"""The JSON is a promise: exactly these keys, of these types, bytes in lowercase hex, unknown is null.

The document "vmbus.inspect/1" is compared key by key; one whole document is spelled out here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.helpers import SAMPLE_NAMES, padded, sample
from tests.inspection.dumps import (
    COMPLETION,
    GPA_DIRECT,
    HISTORY,
    TRANSFER_PAGES,
    control_page,
    data_area,
    dump_of,
    gpa_header,
    gpa_range,
    packet,
    ring_image,
    sample_dump,
    transfer_header,
)
from tests.known_bugs import known_bug
from vmbus.inspection import (
    SCHEMA,
    Selection,
    finding_to_json,
    inspect_dump,
    open_dump,
    packet_to_json,
    ring_to_json,
    sample_path,
)

#: Key to type; a tuple where null is possible.
DOCUMENT = {"schema": str, "source": dict, "rings": list, "findings": list}
SOURCE = {"path": str, "format": str, "size": int}
RING = {
    "address": int,
    "address_hex": str,
    "header_size": int,
    "data_size": int,
    "data_size_known": bool,
    "role": (str, None),
    "pair": (int, None),
    "device": (dict, None),
    "pages": (list, None),
    "control": dict,
    "available": (int, None),
    "free": (int, None),
    "reader_needs_signal": (bool, None),
    "writer_needs_signal": (bool, None),
    "verdict": str,
    "packets": list,
    "consumed": list,
    "findings": list,
}
CONTROL = {
    "in": int,
    "out": int,
    "interrupt_mask": int,
    "pending_send_size": int,
    "feature_bits": int,
    "other_words": dict,
}
PACKET = {
    "offset": int,
    "type": (str, None),
    "type_value": (int, None),
    "flags": (list, None),
    "flags_value": (int, None),
    "transaction_id": (int, None),
    "transaction_id_hex": (str, None),
    "data_offset": (int, None),
    "length": (int, None),
    "bytes": (int, None),
    "header": (str, None),
    "payload_length": (int, None),
    "payload": (str, None),
    "ranges": (list, None),
    "footer": (dict, None),
    "broken": (str, None),
    "description": (str, None),
}
FOOTER = {"at": int, "value": int, "reserved": int, "ok": bool}
GPA_RANGE = {"byte_count": int, "byte_offset": int, "pages": list, "pages_hex": list}
TRANSFER_RANGE = {"byte_count": int, "byte_offset": int}
FINDING = {"check": str, "severity": str, "offset": (int, None), "message": str}


def document_of(image: bytes, *, whole: bool = False, **options: object) -> dict[str, Any]:
    options.setdefault("selection", HISTORY)
    document = inspect_dump(dump_of(image), **options).to_json(whole=whole)  # type: ignore[arg-type]
    assert json.loads(json.dumps(document)) == document  # nothing but JSON's own types
    return document


def ring_of(image: bytes, **options: object) -> dict[str, Any]:
    (ring,) = document_of(image, **options)["rings"]
    return ring


def check_shape(found: dict[str, Any], expected: dict[str, Any], more: dict[str, Any] | None = None) -> None:
    expected = {**expected, **(more or {})}
    assert set(found) == set(expected)
    for key, kinds in expected.items():
        allowed = kinds if isinstance(kinds, tuple) else (kinds,)
        assert any(found[key] is None if kind is None else type(found[key]) is kind for kind in allowed), key


def check_packet(found: dict[str, Any], *, consumed: bool) -> None:
    more: dict[str, Any] = {}
    if found["type"] == "transfer-pages" and found["broken"] is None:
        more["transfer_page_set_id"] = int
    if found["broken"] is not None:
        more["raw"] = str
    if consumed:
        more["trust"] = str
    check_shape(found, PACKET, more)
    if found["footer"] is not None:
        check_shape(found["footer"], FOOTER)
    assert (found["ranges"] is None) == (found["header"] is None)
    for one in found["ranges"] or []:
        check_shape(one, GPA_RANGE if found["type"] == "gpa-direct" else TRANSFER_RANGE)
    for key in ("header", "payload", "raw"):
        if found.get(key) is not None:
            assert bytes.fromhex(found[key]).hex() == found[key]
    if found["payload"] is not None:
        assert found["payload_length"] == len(found["payload"]) // 2


def check_document(document: dict[str, Any], *, whole: bool = False) -> None:
    check_shape(document, DOCUMENT)
    check_shape(document["source"], SOURCE)
    for ring in document["rings"]:
        check_shape(ring, RING, {"data": str} if whole else None)
        check_shape(ring["control"], CONTROL)
        assert all(
            type(word) is str and type(value) is int for word, value in ring["control"]["other_words"].items()
        )
        for one in ring["packets"]:
            check_packet(one, consumed=False)
        for one in ring["consumed"]:
            check_packet(one, consumed=True)
        for one in ring["findings"]:
            check_shape(one, FINDING)
            assert one["severity"] in ("error", "warning", "note")


# -- the whole document --------------------------------------------------------------------------


@known_bug("B57")
def test_one_document_spelled_out():
    ranges = gpa_header(gpa_range(200, 4000, 7, 2**63), reserved=0x11223344)
    pages = transfer_header(0xCAFE, (1514, 64), (60, 1600))
    waiting = packet(32, b"pay", kind=GPA_DIRECT, header=ranges, flags=1, transaction_id=2**64 - 1)
    waiting += packet(32 + len(waiting), kind=TRANSFER_PAGES, header=pages, flags=5)
    read = packet(0, b"answered", kind=COMPLETION, transaction_id=7)
    end = 32 + len(waiting)
    image = control_page(end, 32, pending=4095, others={20: 0xABCD}) + data_area(4096, (0, read + waiting))

    assert document_of(image) == {
        "schema": "vmbus.inspect/1",
        "source": {"path": "ring.bin", "format": "raw", "size": 8192},
        "findings": [],
        "rings": [
            {
                "address": 0,
                "address_hex": "0x0",
                "header_size": 4096,
                "data_size": 4096,
                "data_size_known": True,
                "role": None,
                "pair": None,
                "device": None,
                "pages": None,
                "control": {
                    "in": 144,
                    "out": 32,
                    "interrupt_mask": 0,
                    "pending_send_size": 4095,
                    "feature_bits": 1,
                    "other_words": {"20": 0xABCD},
                },
                "available": 112,
                "free": 3976,
                "reader_needs_signal": True,
                "writer_needs_signal": False,
                "verdict": "corrupt",
                "packets": [
                    {
                        "offset": 32,
                        "type": "gpa-direct",
                        "type_value": 9,
                        "flags": ["completion-requested"],
                        "flags_value": 1,
                        "transaction_id": 18446744073709551615,
                        "transaction_id_hex": "0xffffffffffffffff",
                        "data_offset": 48,
                        "length": 56,
                        "bytes": 64,
                        "header": "4433221101000000c8000000a00f000007000000000000000000000000000080",
                        "payload_length": 8,
                        "payload": "7061790000000000",
                        "ranges": [
                            {
                                "byte_count": 200,
                                "byte_offset": 4000,
                                "pages": [7, 9223372036854775808],
                                "pages_hex": ["0x7", "0x8000000000000000"],
                            }
                        ],
                        "footer": {"at": 88, "value": 32, "reserved": 0, "ok": True},
                        "broken": None,
                        "description": None,
                    },
                    {
                        "offset": 96,
                        "type": "transfer-pages",
                        "type_value": 7,
                        "flags": ["completion-requested", "0x4"],
                        "flags_value": 5,
                        "transaction_id": 0,
                        "transaction_id_hex": "0x0",
                        "data_offset": 40,
                        "length": 40,
                        "bytes": 48,
                        "header": "feca000002000000ea050000400000003c00000040060000",
                        "payload_length": 0,
                        "payload": "",
                        "ranges": [
                            {"byte_count": 1514, "byte_offset": 64},
                            {"byte_count": 60, "byte_offset": 1600},
                        ],
                        "footer": {"at": 136, "value": 96, "reserved": 0, "ok": True},
                        "broken": "descriptor-flags",
                        "description": None,
                        "transfer_page_set_id": 0xCAFE,
                        "raw": waiting[64:].hex(),
                    },
                ],
                "consumed": [
                    {
                        "offset": 0,
                        "type": "completion",
                        "type_value": 11,
                        "flags": [],
                        "flags_value": 0,
                        "transaction_id": 7,
                        "transaction_id_hex": "0x7",
                        "data_offset": 16,
                        "length": 24,
                        "bytes": 32,
                        "header": "",
                        "payload_length": 8,
                        "payload": "616e737765726564",
                        "ranges": [],
                        "footer": {"at": 24, "value": 0, "reserved": 0, "ok": True},
                        "broken": None,
                        "description": None,
                        "trust": "intact",
                    }
                ],
                "findings": [
                    {
                        "check": "pending-send-size",
                        "severity": "note",
                        "offset": None,
                        "message": "the pending send size 4095 is no multiple of 8: readers take it for 4088",
                    },
                    {
                        "check": "reserved-words",
                        "severity": "warning",
                        "offset": None,
                        "message": "control words that no implementation is known to use: word 20 is 0xabcd",
                    },
                    {
                        "check": "descriptor-flags",
                        "severity": "error",
                        "offset": 96,
                        "message": "the packet has the flags 0x5, and only 0x1 is known",
                    },
                ],
            }
        ],
    }


def test_the_keys_come_in_the_order_in_which_people_read_them():
    ring = ring_of(ring_image([packet(0)]))
    assert list(ring) == list(RING)
    assert list(ring["control"]) == list(CONTROL)
    assert list(ring["packets"][0]) == list(PACKET)


# -- every kind of document ----------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_the_document_of_a_sample_has_every_packet_to_the_byte(name):
    written = sample(name)[1]
    document = inspect_dump(sample_dump(name), selection=HISTORY).to_json()
    check_document(document)
    (ring,) = document["rings"]
    assert {key: ring["control"][key] for key in written["control"]} == written["control"]
    assert ring["data_size"] == written["data_size"]
    for consumed, key in ((False, "packets"), (True, "consumed")):
        expected = [
            {
                "offset": one["offset"],
                "type_value": one["type"],
                "flags_value": one["flags"],
                "transaction_id": one["transaction_id"],
                "transaction_id_hex": hex(one["transaction_id"]),
                "data_offset": 8 * one["data_offset8"],
                "length": 8 * one["length8"],
                "bytes": 8 * one["length8"] + 8,
                "header": one["extra_header"],
                "payload": one["payload"],
                "broken": None,
                **({"trust": "intact"} if consumed else {}),
            }
            for one in written["packets"]
            if one["consumed"] is consumed
        ]
        assert [{name: one[name] for name in expected[0]} for one in ring[key]] == expected
    assert ring["findings"] == []


def test_the_document_of_the_sample_that_is_shipped_has_the_promised_shape():
    report = inspect_dump(open_dump(sample_path()), selection=HISTORY)
    check_document(report.to_json())
    assert [ring["role"] for ring in report.to_json()["rings"]] == ["outbound", "inbound"]


BROKEN_IMAGES = {
    "every kind of wrong": ring_image(
        [
            packet(0, kind=99, flags=4),
            packet(24, kind=GPA_DIRECT, header=gpa_header()),
            packet(56, kind=TRANSFER_PAGES, header=transfer_header(1, count=3)),
            packet(88, data_offset8=0),
            packet(112, footer=b"\xee" * 8),
            packet(136, length8=0xFFFF),
        ],
        mask=9,
        pending=2**32 - 1,
        features=0xFFFFFFFF,
        others={4: 1, 31: 2},
    ),
    "a piece of eight bytes": ring_image([packet(0), bytes(8)]),
    "a piece of sixteen bytes": ring_image([packet(0), bytes(16)]),
    "bad indices": control_page(2**32 - 1, 2**31) + bytes(4096),
    "zeros": bytes(8192),
}


@pytest.mark.parametrize("name", BROKEN_IMAGES)
def test_the_document_of_a_broken_ring_has_the_promised_shape(name):
    check_document(document_of(BROKEN_IMAGES[name], data_size=4096))


@known_bug("B40")
def test_what_cannot_be_known_is_null_and_indices_have_no_sign():
    ring = ring_of(BROKEN_IMAGES["bad indices"], data_size=4096)
    assert (ring["control"]["in"], ring["control"]["out"]) == (4294967295, 2147483648)
    for key in ("available", "free", "reader_needs_signal", "writer_needs_signal", "role", "device"):
        assert ring[key] is None
    assert (ring["packets"], ring["consumed"]) == ([], [])


def test_of_a_packet_that_is_not_all_there_what_is_missing_is_null():
    piece = ring_of(BROKEN_IMAGES["a piece of eight bytes"])["packets"][1]
    known = {"offset": 24, "broken": "data-available", "raw": bytes(8).hex()}
    assert piece == {**dict.fromkeys(PACKET), **known}

    torn = ring_of(ring_image([packet(0, b"payload!", length8=9)]))["packets"][0]
    assert (torn["length"], torn["bytes"], torn["data_offset"]) == (72, 80, 16)
    for key in ("header", "payload", "payload_length", "ranges", "footer", "description"):
        assert torn[key] is None
    assert (torn["broken"], torn["raw"]) == ("descriptor-length", packet(0, b"payload!", length8=9).hex())


@known_bug("B58")
def test_unknown_types_and_flags_are_shown_by_their_numbers():
    shown = ring_of(ring_image([packet(0, b"payload!", kind=0x1234, flags=0xFFF1)]))["packets"][0]
    assert (shown["type"], shown["type_value"]) == ("unknown-4660", 4660)
    assert (shown["flags"], shown["flags_value"]) == (["completion-requested", "0xfff0"], 0xFFF1)
    assert (shown["payload"], shown["broken"]) == (b"payload!".hex(), "descriptor-flags")


def test_of_a_packet_whose_payload_would_be_outside_it_neither_header_nor_ranges_are_known():
    shown = ring_of(ring_image([packet(0, b"payload!", data_offset8=9)]))["packets"][0]
    for key in ("header", "payload", "payload_length", "ranges"):
        assert shown[key] is None
    assert shown["raw"] == packet(0, b"payload!", data_offset8=9).hex()


def test_a_type_that_has_a_name_and_is_not_for_rings_is_unknown():
    kinds = (0, 1, 2, 3, 4, 5, 8, 10, 12, 13)
    ring = ring_of(ring_image([packet(24 * n, kind=kind) for n, kind in enumerate(kinds)]))
    assert [one["type"] for one in ring["packets"]] == [f"unknown-{kind}" for kind in kinds]


def test_a_packet_known_by_its_footer_alone_has_the_footers_extent_and_its_descriptors_length():
    torn = packet(24, b"payload!", length8=100)
    image = control_page(80, 80) + data_area(4096, (0, packet(0) + torn + packet(56)))
    shown = ring_of(image)["consumed"][1]
    check_packet(shown, consumed=True)
    assert (shown["offset"], shown["bytes"], shown["length"]) == (24, 32, 800)
    assert shown["footer"] == {"at": 48, "value": 24, "reserved": 0, "ok": True}
    assert (shown["trust"], shown["broken"], shown["raw"]) == ("footer-only", "descriptor-length", torn.hex())


def test_the_data_size_is_known_unless_the_file_leaves_it_open():
    one, broken = ring_image([packet(0)]), ring_image([], in_offset=8)
    assert ring_of(one)["data_size_known"] is True
    assert ring_of(one, data_size=4096)["data_size_known"] is True
    assert ring_of(one + b"more", address=0)["data_size_known"] is False
    maybe_a_pair = ring_of(one + broken)
    assert [finding["check"] for finding in maybe_a_pair["findings"]] == ["maybe-a-pair"]
    assert maybe_a_pair["data_size_known"] is False
    assert ring_of(one + broken, data_size=4096)["data_size_known"] is True
    pair = document_of(one + one)["rings"]
    assert [ring["data_size_known"] for ring in pair] == [True, True]


@known_bug("B50")
def test_a_ring_that_was_never_opened_is_an_empty_document_and_no_error():
    ring = ring_of(bytes(8192), address=0)
    assert ring["verdict"] == "never-opened"
    assert ring["control"] == {**dict.fromkeys(CONTROL, 0), "other_words": {}}
    assert (ring["available"], ring["free"]) == (0, 4088)
    assert (ring["reader_needs_signal"], ring["writer_needs_signal"]) == (False, False)
    assert (ring["packets"], ring["consumed"], ring["findings"]) == ([], [], [])


def test_a_footer_is_shown_as_it_is_and_whether_it_is_right():
    image = ring_image([packet(4072, b"payload!", footer=b"\x05\0\0\0\xe0\x0f\0\0")], out=4072)
    assert ring_of(image)["packets"][0]["footer"] == {"at": 0, "value": 0x0FE0, "reserved": 5, "ok": False}


# -- the parts of it -----------------------------------------------------------------------------


def test_whole_adds_every_byte_of_the_data_area():
    image = ring_image([packet(4080, b"payload!")], out=4080)
    document = document_of(image, whole=True)
    check_document(document, whole=True)
    assert document["rings"][0].pop("data") == image[4096:].hex()
    assert document == document_of(image)


def test_without_history_the_list_of_consumed_packets_is_there_and_empty():
    image = ring_image([], out=24)[:4096] + data_area(4096, (0, packet(0)))
    assert len(ring_of(image)["consumed"]) == 1
    assert ring_of(image, selection=Selection())["consumed"] == []


def test_a_ring_inside_a_file_has_its_address_in_both_forms():
    image = bytes(0x3000) + ring_image([packet(0)], header_size=16384)
    ring = ring_of(image, address=0x3000, header_size=16384)
    assert (ring["address"], ring["address_hex"], ring["header_size"]) == (12288, "0x3000", 16384)


def test_rings_packets_and_findings_can_be_had_one_by_one():
    report = inspect_dump(dump_of(ring_image([packet(0, kind=3)])), selection=HISTORY)
    (ring,) = report.rings
    whole = report.to_json()["rings"][0]
    assert SCHEMA == "vmbus.inspect/1"
    assert ring_to_json(ring) == whole
    assert [packet_to_json(one) for one in ring.packets] == whole["packets"]
    assert [finding_to_json(one) for one in ring.findings] == whole["findings"]


def test_a_payload_in_json_has_its_padding():
    (shown,) = ring_of(ring_image([packet(0, b"five5")]))["packets"]
    assert shown["payload"] == padded(b"five5").hex()
