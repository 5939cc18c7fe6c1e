"""What inspect prints becomes the ring again: to the byte with its data, and in all that is listed without.

Specifications by hand are compared with rings spelled byte by byte, and every contradiction names its path.
"""

from __future__ import annotations

import io
import json
import struct
from copy import deepcopy

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.helpers import SAMPLE_NAMES, SAMPLES
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
    look,
    packet,
    ring_image,
    transfer_header,
)
from vmbus.errors import CallerError
from vmbus.inspection import (
    CRAFT_EXAMPLE,
    Selection,
    craft,
    craft_image,
    craft_ring,
    inspect_dump,
    open_dump,
    ring_to_json,
    sample_path,
)
from vmbus.inspection.craft_rings import LARGEST_CRAFTED


def through_json(document: dict) -> dict:
    """A document as it comes out of a file."""
    return json.loads(json.dumps(document))


# -- round trips ------------------------------------------------------------------------------------

payloads = st.binary(max_size=40)
any_words = st.integers(0, 2**16 - 1)


@st.composite
def packets_at(draw: st.DrawFn, offset: int) -> bytes:
    """A packet, mostly sound, that starts at `offset` and is a multiple of 8 bytes long."""
    kind = draw(st.sampled_from([6, 6, 6, 7, 9, 11, 99, 0]))
    header = b""
    if kind == GPA_DIRECT:
        ranges = [gpa_range(200, 4000, 7, 2**64 - 1), gpa_range(1, 0, 9)][: draw(st.integers(1, 2))]
        header = gpa_header(
            *ranges, count=draw(st.sampled_from([None, None, 0, 9])), reserved=draw(any_words)
        )
    elif kind == TRANSFER_PAGES:
        header = transfer_header(draw(any_words), (1514, 7), count=draw(st.sampled_from([None, None, 5])))
    wrong = draw(
        st.sampled_from([{}, {}, {}, {"data_offset8": draw(any_words)}, {"length8": draw(any_words)}])
    )
    footer = draw(st.sampled_from([None, None, bytes(8), b"\xee" * 8]))
    return packet(
        offset,
        draw(payloads),
        kind=kind,
        header=header,
        flags=draw(st.sampled_from([0, 1, 4, 0xFFFF])),
        transaction_id=draw(st.integers(0, 2**64 - 1)),
        footer=footer,
        **wrong,
    )


@st.composite
def ring_images(draw: st.DrawFn) -> tuple[bytes, int]:
    """A ring of packets and of anything, and its header size."""
    size = 4096 * draw(st.integers(1, 2))
    header_size = draw(st.sampled_from([4096, 4096, 16384, 65536]))
    start = 8 * draw(st.integers(0, size // 8 - 1))
    content = b""
    ends = [0]
    for _ in range(draw(st.integers(0, 8))):
        content += draw(packets_at((start + len(content)) % size))
        ends.append(len(content))
    content = content[: size - 8]
    taken = draw(st.sampled_from(ends))
    pieces = [(start, content)]
    if draw(st.booleans()):
        pieces.append((draw(st.integers(0, size - 1)), draw(st.binary(max_size=200))))
    words = {
        "in_offset": (start + len(content)) % size
        if draw(st.booleans())
        else draw(st.integers(0, 2**32 - 1)),
        "out_offset": (start + min(taken, len(content))) % size,
        "mask": draw(st.sampled_from([0, 1, 2**32 - 1])),
        "pending": draw(st.sampled_from([0, 8, 4095, 2**32 - 1])),
        "features": draw(st.sampled_from([0, 1, 3])),
        "others": draw(
            st.dictionaries(st.sampled_from([4, 15, 17, 31]), st.integers(1, 2**32 - 1), max_size=2)
        ),
    }
    if draw(st.booleans()):
        words["in_offset"] -= words["in_offset"] % 8
    return control_page(**words, header_size=header_size) + data_area(size, *pieces), header_size


def report_on(image: bytes, header_size: int) -> dict:
    """The document of one ring, all that inspect has of it."""
    data_size = len(image) - header_size
    report = inspect_dump(
        dump_of(image), address=0, header_size=header_size, data_size=data_size, selection=HISTORY
    )
    return report.to_json(whole=True)


@settings(max_examples=200, deadline=None)
@given(ring_images())
@example((bytes(8192), 4096))
@example((ring_image([packet(4072, b"over the end")], out=4072), 4096))
def test_a_ring_comes_back_to_the_byte_from_its_json_with_data(made):
    image, header_size = made
    document = through_json(report_on(image, header_size))
    crafted = craft(document)
    assert crafted == image
    assert report_on(crafted, header_size) == document


@settings(max_examples=200, deadline=None)
@given(ring_images())
@example((ring_image([packet(4072, b"over the end")], out=4072), 4096))
def test_without_data_it_comes_back_in_the_control_words_and_every_listed_packet(made):
    image, header_size = made
    (ring,) = report_on(image, header_size)["rings"]
    del ring["data"]
    crafted = craft_ring(through_json(ring))
    assert len(crafted) == len(image)
    assert crafted[:header_size] == image[:header_size]
    size = len(image) - header_size
    listed = bytearray(size)
    for one in [*ring["packets"], *ring["consumed"]]:
        taken = one["bytes"] if one["broken"] is None else len(one["raw"]) // 2
        for at in range(one["offset"], one["offset"] + taken):
            listed[at % size] = 1
    expected = bytes(
        byte if is_listed else 0 for byte, is_listed in zip(image[header_size:], listed, strict=True)
    )
    assert crafted[header_size:] == expected


@settings(max_examples=150, deadline=None)
@given(ring_images())
def test_what_inspect_says_of_the_crafted_ring_is_what_it_said_of_the_first(made):
    image, header_size = made
    (ring,) = report_on(image, header_size)["rings"]
    data = ring.pop("data")
    (again,) = report_on(craft_ring(through_json(ring)), header_size)["rings"]
    again.pop("data")
    if ring["verdict"] == "idle" and again["verdict"] == "never-opened":
        # Nothing is left of a ring in which only bytes that belong to no packet were not zero.
        assert ring["packets"] == ring["consumed"] == [] and data.strip("0")
        ring["verdict"] = again["verdict"]
    if any(one["trust"] in ("length-only", "guess") for one in ring["consumed"]):
        # How many other chains of lengths compete depends on bytes that are not listed.
        for one in (ring, again):
            one["findings"] = [found for found in one["findings"] if "history" not in found["check"]]
            del one["consumed"]
    assert again == ring


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_every_sample_comes_back(name):
    image = (SAMPLES / f"{name}.bin").read_bytes()
    document = inspect_dump(open_dump(SAMPLES / f"{name}.bin")).to_json(whole=True)
    assert craft(through_json(document)) == image


def test_a_pair_comes_back_whole_with_what_is_said_of_its_packets():
    report = inspect_dump(open_dump(sample_path()), selection=HISTORY)
    image = craft(through_json(report.to_json(whole=True)))
    with open(sample_path(), "rb") as file:
        assert image == file.read()
    again = inspect_dump(dump_of(craft(through_json(report.to_json()))), selection=HISTORY)
    assert [ring_to_json(ring) for ring in again.rings] == [ring_to_json(ring) for ring in report.rings]


def test_what_was_left_out_by_limits_is_zero_and_the_rest_is_there():
    image = ring_image([packet(0, b"first..."), packet(32, b"second.."), packet(64, b"third...")])
    report = inspect_dump(dump_of(image), selection=Selection(limit=2))
    crafted = craft(report.to_json())
    assert crafted[:4160] == image[:4160]
    assert crafted[4160:] == bytes(4032)


# -- by hand ----------------------------------------------------------------------------------------

FOUR_PAGES = {"data_size": 16384}

BY_HAND = {
    "nothing but a size": ({}, control_page() + bytes(16384)),
    "one payload": (
        {"packets": [{"payload": "68656c6c6f"}]},
        ring_image([packet(0, b"hello")], size=16384),
    ),
    "hex with spaces": ({"packets": [{"payload": "68 65"}]}, ring_image([packet(0, b"he")], size=16384)),
    "one behind the other from out on, over the end": (
        {"control": {"out": 16360}, "packets": [{"payload": "01"}, {"payload": "02"}]},
        ring_image([packet(16360, b"\1"), packet(8, b"\2")], out=16360, size=16384),
    ),
    "out where the first packet says": (
        {"packets": [{"offset": 64, "payload": "01"}, {}]},
        ring_image([packet(64, b"\1"), packet(96)], out=64, size=16384),
    ),
    "consumed ones before the waiting": (
        {"consumed": [{"payload": "01"}, {}], "packets": [{"payload": "02"}]},
        control_page(88, 56) + data_area(16384, (0, packet(0, b"\1") + packet(32) + packet(56, b"\2"))),
    ),
    "consumed ones end at out": (
        {"control": {"out": 16, "in": 16}, "consumed": [{"payload": "01"}]},
        control_page(16, 16) + data_area(16384, (16368, packet(16368, b"\1"))),
    ),
    "every type by name": (
        {
            "packets": [
                {"type": "completion", "transaction_id": 2**64 - 1},
                {"type": "in-band", "flags": ["completion-requested", "0x4"], "transaction_id_hex": "0x7"},
                {"type": "unknown-99", "flags_value": 1},
                {
                    "type": "gpa-direct",
                    "ranges": [{"byte_count": 200, "byte_offset": 4000, "pages_hex": ["0x7", "0x9"]}],
                },
                {
                    "type": "transfer-pages",
                    "transfer_page_set_id": 51966,
                    "ranges": [{"byte_count": 1514, "byte_offset": 7}],
                },
            ]
        },
        ring_image(
            [
                packet(0, kind=COMPLETION, transaction_id=2**64 - 1),
                packet(24, flags=5, transaction_id=7),
                packet(48, kind=99, flags=1),
                packet(72, kind=GPA_DIRECT, header=gpa_header(gpa_range(200, 4000, 7, 9))),
                packet(128, kind=TRANSFER_PAGES, header=transfer_header(0xCAFE, (1514, 7))),
            ],
            size=16384,
        ),
    ),
    "a footer of another, and none": (
        {"packets": [{"footer": {"value": 9, "reserved": 7}}, {"footer": None}]},
        ring_image([packet(0, footer=struct.pack("<II", 7, 9)), packet(24, footer=bytes(8))], size=16384),
    ),
    "control words": (
        {
            "control": {
                "in": 5,
                "interrupt_mask": 1,
                "pending_send_size": 64,
                "feature_bits": 0,
                "other_words": {"4": 7, "31": 2**32 - 1},
            }
        },
        control_page(5, mask=1, pending=64, features=0, others={4: 7, 31: 2**32 - 1}) + bytes(16384),
    ),
    "a broken packet by its bytes": (
        {"control": {"in": 40}, "packets": [{"offset": 0, "raw": "ff" * 40, "broken": "descriptor-length"}]},
        control_page(40) + data_area(16384, (0, b"\xff" * 40)),
    ),
    "64 KiB before the data": (
        {"header_size": 65536, "packets": [{}]},
        control_page(24, header_size=65536) + data_area(16384, (0, packet(0))),
    ),
    "comments anywhere": (
        {"comment": "x", "control": {"comment": ["x", 1]}, "packets": [{"comment": None}]},
        ring_image([packet(0)], size=16384),
    ),
    "data alone": ({"data_size": None, "data": "11" * 4096}, control_page() + b"\x11" * 4096),
}


@pytest.mark.parametrize(("spec", "image"), BY_HAND.values(), ids=BY_HAND)
def test_what_is_left_out_follows_from_the_rest(spec, image):
    assert craft_ring({**FOUR_PAGES, **spec}) == image
    assert craft({"rings": [{**FOUR_PAGES, **spec}]}) == image


def test_the_example_is_a_ring_that_inspect_reads():
    report = inspect_dump(dump_of(craft(CRAFT_EXAMPLE)), data_size=16384, selection=HISTORY)
    (ring,) = report.rings
    assert [one.broken for one in ring.packets] == [None] * 4 + ["descriptor-type"]
    assert [one.payload.rstrip(b"\0") for one in ring.consumed] == [b"read"]
    assert ring.packets[0].payload == b"waiting!" * 4
    assert ring.packets[0].offset + ring.packets[0].packet_size > 16384


# -- several rings ----------------------------------------------------------------------------------

SMALL = {"data_size": 4096}


def test_rings_lie_as_far_apart_as_their_addresses_say():
    first, second = {**SMALL, "address": 0x7000, "control": {"out": 8}}, {**SMALL, "address_hex": "0x1000"}
    image = craft({"rings": [first, second]})
    assert image == craft_ring(second) + bytes(0x4000) + craft_ring({**SMALL, "control": {"out": 8}})


def test_rings_without_an_address_lie_in_order_behind_all_that_have_one():
    other = {**SMALL, "control": {"out": 8}}
    low, high = {**SMALL, "address": 0x9000}, {**other, "address": 0xB000}
    made = craft_ring(SMALL) + craft_ring(other)
    assert craft({"rings": [low, SMALL, other]}) == craft_ring(SMALL) + made
    assert craft({"rings": [SMALL, other, high, low]}) == made + made


def test_of_a_scattered_pair_the_outbound_ring_is_written_first():
    def scattered(role: str, out: int, address: int, pair: int | None) -> dict:
        place = {"address": address, "pages": [address], "role": role, "pair": pair}
        return {**SMALL, **place, "control": {"out": out}}

    rings = [
        scattered("inbound", 8, 0x5000, 0x7000),
        scattered("inbound", 16, 0x6000, None),
        scattered("inbound", 24, 0x8000, 0x9000),
        scattered("inbound", 32, 0xA000, 0x7000),
        {**SMALL, "address": 0x9000},
        scattered("outbound", 40, 0x9000, 0x8000),
        scattered("outbound", 48, 0x7000, 0x5000),
    ]
    image = craft({"rings": rings})
    assert [image[at + 4] for at in range(0, len(image), 8192)] == [0, 48, 8, 16, 40, 24, 32]


def test_a_scattered_ring_is_put_together_behind_the_others():
    scattered = {**SMALL, "address": 0x100000000000, "pages": [0x100000000000, 0x5000], "packets": [{}]}
    image = craft({"rings": [{**SMALL, "address": 0x3000}, scattered]})
    assert image == craft_ring(SMALL) + ring_image([packet(0)])


def test_the_image_written_to_a_file_or_a_pipe_is_the_same():
    made = craft_image({"rings": [{**SMALL, "address": 0}, {**SMALL, "address": 0x300000}]})
    stream, gone = io.BytesIO(), io.BytesIO()
    made.write(stream)
    made.write(gone, holes=False)
    assert stream.getvalue() == gone.getvalue() == made.to_bytes()
    assert len(made.to_bytes()) == made.size == 0x302000


# -- what is refused --------------------------------------------------------------------------------

GPA = {"type": "gpa-direct", "ranges": [{"byte_count": 9, "byte_offset": 0, "pages": [7]}]}

REFUSED = {
    "no size": ({"data_size": None}, "data_size: is missing"),
    "size of no ring": ({"data_size": 4097}, "data_size: a ring's data area is a multiple of 4096"),
    "size as a text": ({"data_size": "16K"}, "data_size: is a whole number, not a text"),
    "size that is true": ({"data_size": True}, "data_size: is a whole number, not true or false"),
    "size in floating point": ({"data_size": 4096.0}, "data_size: is a whole number, not 4096.0"),
    "header of no ring": ({"header_size": 8192}, "header_size: the data area starts 4, 16 or 64 KiB"),
    "data of another size": ({"data": "00" * 4096}, "data: has 4096 bytes, and data_size is 16384"),
    "half a byte": ({"data": "000"}, "data: is bytes in hex"),
    "unknown key": ({"packet": []}, "packet: is no key here; did you mean packets?"),
    "unknown key like no other": ({"zzzzzz": 1}, "zzzzzz: is no key here; there are address, address_hex, "),
    "unknown key of a range": (
        {"packets": [{"type": "gpa-direct", "ranges": [{"length": 1}]}]},
        "packets[0].ranges[0].length: is no key here; there are byte_count, byte_offset, pages, pages_hex",
    ),
    "another schema": ({"schema": "vmbus.inspect/2"}, "schema: is vmbus.inspect/1, not 'vmbus.inspect/2'"),
    "unknown word": ({"control": {"outt": 1}}, "control.outt: is no key here; did you mean out?"),
    "word with a name": ({"control": {"other_words": {"16": 1}}}, "control.other_words.16: is no key here; "),
    "word with no near one": (
        {"control": {"other_words": {"x": 1}}},
        "control.other_words.x: is no key here; there are 4, 5",
    ),
    "word of 33 bits": ({"control": {"in": 2**32}}, "control.in: is 0 to 4294967295, not 4294967296"),
    "packets that are none": ({"packets": {}}, "packets: is a list, not an object"),
    "packet that is none": ({"packets": [7]}, "packets[0]: is an object, not 7"),
    "address twice": ({"address": 1, "address_hex": "0x2"}, "address_hex: is 2, and address is 1"),
    "out where nothing begins": (
        {"control": {"out": 4}, "packets": [{}]},
        "control.out: is 4, where no packet can begin",
    ),
    "in that is not where packets end": (
        {"control": {"in": 32}, "packets": [{}]},
        "control.in: is 32, and the packets end at 24",
    ),
    "offset between slots": (
        {"packets": [{}, {"offset": 28}]},
        "packets[1].offset: is a multiple of 8 below 16384, not 28",
    ),
    "offset behind the ring": ({"packets": [{"offset": 16384}]}, "packets[0].offset: is a multiple of 8"),
    "consumed with and without offsets": (
        {"consumed": [{}, {"offset": 64}]},
        "consumed[0].offset: is missing, and others in the list have one",
    ),
    "too many packets": (
        {"packets": [{"payload": "00" * 8000}] * 3},
        "packets: take 24072 bytes, and the ring holds 16376 at most",
    ),
    "two packets in one place": (
        {"packets": [{"payload": "01"}, {"offset": 8, "payload": "02"}]},
        "packets[1]: says other bytes than packets[0] at 0x0008",
    ),
    "packets and data that differ": (
        {"data": "00" * 16384, "packets": [{"offset": 8}]},
        "packets[0]: says other bytes than data at 0x0008",
    ),
    "length": (
        {"packets": [{}, {"length": 24}]},
        "packets[1].length: is 24, and header and payload make it 16",
    ),
    "bytes": (
        {"packets": [{"bytes": 16}]},
        "packets[0].bytes: is 16, and header, payload and footer make it 24",
    ),
    "payload length": (
        {"packets": [{"payload": "0102", "payload_length": 3}]},
        "packets[0].payload_length: is 3, and payload and its padding make it 8",
    ),
    "data offset": ({"packets": [{"data_offset": 24}]}, "packets[0].data_offset: is 24, and type and header"),
    "type": ({"packets": [{"type": "in_band"}]}, "packets[0].type: is completion, gpa-direct, in-band"),
    "types": (
        {"packets": [{"type": "in-band", "type_value": 7}]},
        "packets[0].type: is in-band, and type_value",
    ),
    "flags": ({"packets": [{"flags": ["urgent"]}]}, "packets[0].flags: lists completion-requested and"),
    "flags twice": (
        {"packets": [{"flags": [], "flags_value": 1}]},
        "packets[0].flags: are 0x0, and flags_value",
    ),
    "transaction of 65 bits": (
        {"packets": [{"transaction_id": 2**64}]},
        "packets[0].transaction_id: is 0 to",
    ),
    "transaction twice": (
        {"packets": [{"transaction_id": 5, "transaction_id_hex": "0x6"}]},
        "packets[0].transaction_id_hex: is 6, and transaction_id is 5",
    ),
    "hex that is none": (
        {"packets": [{"transaction_id_hex": "-1"}]},
        "packets[0].transaction_id_hex: is a number",
    ),
    "payload that is no hex": ({"packets": [{"payload": "hello"}]}, "packets[0].payload: is bytes in hex"),
    "payload of no packet": (
        {"data_size": 2**20, "packets": [{"payload": "00" * 2**19}]},
        "packets[0]: has 524312 bytes with its footer, and 524288 is the most",
    ),
    "header between slots": (
        {"packets": [{"header": "0102"}]},
        "packets[0].header: has a multiple of 8 bytes",
    ),
    "gpa-direct without ranges": ({"packets": [{"type": "gpa-direct"}]}, "packets[0].ranges: are missing"),
    "ranges of an in-band packet": (
        {"packets": [{**GPA, "type": "in-band"}]},
        "packets[0].ranges: are of gpa-direct and transfer-pages packets",
    ),
    "too few pages": (
        {"packets": [{"type": "gpa-direct", "ranges": [{"byte_count": 4097, "pages": [1]}]}]},
        "packets[0].ranges[0].pages: are 1, and 4097 bytes from 0 on touch 2",
    ),
    "page of 65 bits": (
        {"packets": [{"type": "gpa-direct", "ranges": [{"byte_count": 1, "pages": [2**64]}]}]},
        "packets[0].ranges[0].pages[0]: is a page number",
    ),
    "ranges that are not the header's": (
        {"packets": [{**GPA, "header": gpa_header(gpa_range(8, 0, 7)).hex()}]},
        "packets[0].ranges: are not those of header",
    ),
    "set id of a packet that has none": (
        {"packets": [{"transfer_page_set_id": 5}]},
        "packets[0].transfer_page_set_id: is 5, and type and header make it None",
    ),
    "footer elsewhere": (
        {"packets": [{"footer": {"at": 8}}]},
        "packets[0].footer.at: is 8, and offset and length",
    ),
    "footer with an unknown key": ({"packets": [{"footer": {"val": 8}}]}, "packets[0].footer.val: is no key"),
    "broken without its bytes": (
        {"packets": [{"broken": "x"}]},
        "packets[0].broken: is said of a packet whose",
    ),
    "empty raw": ({"packets": [{"raw": ""}]}, "packets[0].raw: is empty"),
    "raw of another type": (
        {"packets": [{"raw": packet(0).hex(), "type_value": 7}]},
        "packets[0].type_value: is 0x7, and raw has 0x6",
    ),
    "raw with another payload": (
        {"packets": [{"raw": packet(0, b"payload!").hex(), "payload": "00" * 8}]},
        "packets[0].payload: is not the one in raw",
    ),
    "raw with another footer": (
        {"packets": [{"raw": packet(0).hex(), "footer": {"value": 8}}]},
        "packets[0].footer.value: is 8, and the last bytes of raw make it 0",
    ),
    "raw too short for a length": (
        {"packets": [{"raw": "00" * 8, "length": 8}]},
        "packets[0].length: is not in the 8 bytes of raw",
    ),
}


@pytest.mark.parametrize(("spec", "message"), REFUSED.values(), ids=REFUSED)
def test_what_makes_no_sense_is_refused_with_its_path(spec, message):
    ring = {**FOUR_PAGES, **spec}
    with pytest.raises(CallerError) as caught:
        craft_ring(ring)
    assert str(caught.value).startswith(message), str(caught.value)
    with pytest.raises(CallerError) as caught:
        craft({"rings": [SMALL, ring]})
    path = message.partition(":")[0]
    assert str(caught.value).startswith(f"rings[1].{path}: "), str(caught.value)


DOCUMENTS = {
    "a list": ([], "the document: is an object, not a list"),
    "no rings": ({"rings": []}, "rings: is empty"),
    "another schema": ({"schema": "vmbus.check/1", "rings": [SMALL]}, "schema: is vmbus.inspect/1, not"),
    "another schema with other keys": (
        {"schema": "vmbus.scan/1", "looked_at": 1, "rings": []},
        "schema: is vmbus.insp",
    ),
    "an unknown key": ({"rings": [SMALL], "ring": 1}, "ring: is no key here; did you mean rings?"),
    "rings in one place": (
        {"rings": [{**SMALL, "address": 0}, {**SMALL, "address": 4096}]},
        "rings[1].address: it begins inside rings[0], whose 8192 bytes end at 0x2000",
    ),
    "rings too far apart": (
        {"rings": [{**SMALL, "address": 0}, {**SMALL, "address": LARGEST_CRAFTED}]},
        "the image would have 4294975488 bytes, and 4294967296 (4 GiB) is the most",
    ),
}


@pytest.mark.parametrize(("document", "message"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_that_makes_no_sense_is_refused(document, message):
    for make in (craft_image, craft):  # the first makes no bytes: those that are asked for may be very many
        with pytest.raises(CallerError) as caught:
            make(document)
        assert str(caught.value).startswith(message), str(caught.value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 2**65)
    | st.floats()
    | st.text(max_size=4)
    | st.just("00" * 16),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["in", "4", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_document_with_anything_changed_is_crafted_or_refused_with_a_path(data):
    report = look(BROKEN, HISTORY)
    document = {"rings": [deepcopy(ring_to_json(report))]}
    place = document
    for _ in range(5):  # a walk to somewhere inside
        keys = [*place] if isinstance(place, dict) else [*range(len(place))]
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and data.draw(st.integers(0, 4)):
            place = place[key]
            continue
        place[key] = data.draw(json_values)
        break
    try:
        craft(document)
    except CallerError as error:
        assert ": " in str(error)


BROKEN = ring_image(
    [
        packet(0, b"payload!", flags=1),
        packet(32, kind=GPA_DIRECT, header=gpa_header(gpa_range(200, 4000, 7, 9))),
        packet(88, kind=TRANSFER_PAGES, header=transfer_header(5, (1514, 7), count=9)),
        packet(128, kind=99),
        packet(152, length8=900),
    ],
    others={20: 7},
)
