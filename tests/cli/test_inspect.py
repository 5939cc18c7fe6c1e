"""`vmbus inspect`: every option, and the whole of what other software wrote into a ring.

The images in tests/samples come from an independent implementation, each with a list of what was
written; everything else here is spelled by hand with struct.
"""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from random import Random
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.running import Ending, control_page, packet, ring_with, run, run_process
from tests.helpers import SAMPLE_NAMES, SAMPLES, pattern, sample
from tests.known_bugs import known_bug
from vmbus.cli.main import main
from vmbus.inspection import sample_path

SOME_RING = SAMPLES / "ring-4-pages.bin"

IN_BAND, TRANSFER_PAGES, GPA_DIRECT, COMPLETION = 6, 7, 9, 11
TYPE_LABELS = {
    IN_BAND: "in-band",
    TRANSFER_PAGES: "transfer-pages",
    GPA_DIRECT: "gpa-direct",
    COMPLETION: "completion",
}


def ring_shown(*words: object) -> dict:
    """The only ring that --json shows."""
    return run("inspect", "--json", *words).ring


def every_packet(ring: dict) -> list[dict]:
    return ring["consumed"] + ring["packets"]


def words_of(ring: dict) -> bytes:
    """The control words as they lie in memory."""
    control = ring["control"]
    words = dict.fromkeys(range(32), 0)
    words |= {0: control["in"], 1: control["out"], 2: control["interrupt_mask"]}
    words |= {3: control["pending_send_size"], 16: control["feature_bits"]}
    words |= {int(word): value for word, value in control["other_words"].items()}
    return struct.pack("<32I", *words.values())


# -- what other software wrote --------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_json_with_history_gives_every_packet_that_was_written_to_the_byte(name):
    _, written = sample(name)
    ring = ring_shown("--history", SAMPLES / f"{name}.bin")
    assert {key: ring["control"][key] for key in written["control"]} == written["control"]
    assert ring["data_size"] == written["data_size"]
    assert every_packet(ring) == [
        shown
        | {
            "offset": one["offset"],
            "type": TYPE_LABELS[one["type"]],
            "type_value": one["type"],
            "flags": ["completion-requested"] if one["flags"] else [],
            "flags_value": one["flags"],
            "transaction_id": one["transaction_id"],
            "transaction_id_hex": hex(one["transaction_id"]),
            "data_offset": one["data_offset8"] * 8,
            "length": one["length8"] * 8,
            "bytes": one["length8"] * 8 + 8,
            "header": one["extra_header"],
            "payload": one["payload"],
            "payload_length": len(one["payload"]) // 2,
            "broken": None,
        }
        for shown, one in zip(every_packet(ring), written["packets"], strict=True)
    ]
    assert len(ring["consumed"]) == sum(one["consumed"] for one in written["packets"])
    assert {one["trust"] for one in ring["consumed"]} == {"intact"}
    assert not any("trust" in one for one in ring["packets"])


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_the_numbers_of_a_packet_in_json_are_its_bytes_in_the_image(name):
    image, _ = sample(name)
    ring = ring_shown("--history", SAMPLES / f"{name}.bin")
    data = image[4096:] * 2
    for one in every_packet(ring):
        numbers = (one["type_value"], one["data_offset"] // 8, one["length"] // 8, one["flags_value"])
        descriptor = struct.pack("<4HQ", *numbers, one["transaction_id"])
        body = descriptor + bytes.fromhex(one["header"]) + bytes.fromhex(one["payload"])
        footer = struct.pack("<II", one["footer"]["reserved"], one["footer"]["value"])
        assert body + footer == data[one["offset"] : one["offset"] + one["bytes"]]
        assert one["footer"]["at"] == (one["offset"] + one["length"]) % ring["data_size"]
        assert one["footer"]["ok"] is True


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_the_ranges_of_a_packet_in_json_are_the_bytes_of_its_header(name):
    for one in every_packet(ring_shown("--history", SAMPLES / f"{name}.bin")):
        header = bytes.fromhex(one["header"])
        assert bool(header) == bool(one["ranges"])
        if one["type_value"] == GPA_DIRECT:
            listed = struct.pack("<I", len(one["ranges"]))
            for part in one["ranges"]:
                assert part["pages_hex"] == [hex(page) for page in part["pages"]]
                listed += struct.pack("<II", part["byte_count"], part["byte_offset"])
                listed += struct.pack(f"<{len(part['pages'])}Q", *part["pages"])
            assert header[4:] == listed
        if one["type_value"] == TRANSFER_PAGES:
            numbers = [
                number for part in one["ranges"] for number in (part["byte_count"], part["byte_offset"])
            ]
            assert header[:2] == struct.pack("<H", one["transfer_page_set_id"])
            assert header[4:] == struct.pack(f"<I{len(numbers)}I", len(one["ranges"]), *numbers)


@pytest.mark.parametrize("name", SAMPLE_NAMES)
@pytest.mark.parametrize("options", [[], ["--history", "--whole"]], ids=["plain", "history-whole"])
def test_json_lines_hold_the_same_data_as_the_document(name, options):
    path = SAMPLES / f"{name}.bin"
    document = run("inspect", "--json", *options, path).document
    assert gathered(run("inspect", "--jsonl", *options, path)) == document


def test_json_lines_of_a_pair_name_the_ring_that_each_belongs_to():
    document = run("inspect", "--sample", "--history", "--json").document
    ending = run("inspect", "--sample", "--history", "--jsonl")
    assert gathered(ending) == document
    assert len(document["rings"]) == 2
    assert {one["ring"] for one in ending.objects if one["kind"] != "ring"} == {0, 0x2000}


def gathered(ending: Ending) -> dict:
    """The document that the lines of --jsonl make up."""
    rings: dict[int, dict] = {}
    document: dict = {"rings": [], "findings": []}
    places = {"packet": "packets", "consumed": "consumed", "finding": "findings"}
    for one in ending.objects:
        kind = one.pop("kind")
        if kind == "ring":
            document |= {"schema": one.pop("schema"), "source": one.pop("source")}
            document["rings"].append(one)
            one.update({key: [] for key in places.values()})
            rings[one["address"]] = one
        elif one["ring"] is None:
            document["findings"].append(one)
        else:
            rings[one.pop("ring")][places[kind]].append(one)
    return document


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_whole_adds_the_data_that_rebuilds_the_image_with_the_control_words(name):
    image, _ = sample(name)
    ring = ring_shown("--whole", SAMPLES / f"{name}.bin")
    assert words_of(ring).ljust(4096, b"\0") + bytes.fromhex(ring["data"]) == image


def test_whole_rebuilds_a_pair_with_words_that_nobody_uses(tmp_path):
    image = bytearray(Path(sample_path()).read_bytes())
    struct.pack_into("<I", image, 4 * 5, 0xDEADBEEF)
    struct.pack_into("<I", image, 4 * 31, 1)
    file = tmp_path / "ring.bin"
    file.write_bytes(image)
    ending = run("inspect", "--json", "--whole", file)
    assert ending.status == 1
    rings = ending.document["rings"]
    assert [ring["control"]["other_words"] for ring in rings] == [{"5": 0xDEADBEEF, "31": 1}, {}]
    assert (
        b"".join(words_of(ring).ljust(4096, b"\0") + bytes.fromhex(ring["data"]) for ring in rings) == image
    )


def test_without_whole_no_data_area_is_printed():
    assert "data" not in ring_shown(SOME_RING)
    assert "data" not in run("inspect", "--jsonl", SOME_RING).objects[0]


# -- which bytes ----------------------------------------------------------------------------------


def test_a_file_is_shown_as_text():
    ending = run("inspect", SOME_RING)
    assert ending.status == 0
    lines = ending.out.splitlines()
    assert lines[0] == "ring at 0x0, 16384 bytes of data"
    assert lines[1] == "  in 0x2148   out 0x0508   7232 bytes waiting   9144 bytes free"
    assert lines[-1] == "22 packets, 0 findings"


def test_a_document_says_where_it_comes_from():
    document = run("inspect", "--json", SOME_RING).document
    assert document["schema"] == "vmbus.inspect/1"
    assert document["source"] == {"path": str(SOME_RING), "format": "raw", "size": 20480}


def test_a_dash_is_standard_input():
    from_file = run("inspect", "--json", "--history", SOME_RING).document
    from_pipe = run("inspect", "--json", "--history", "-", stdin=SOME_RING.read_bytes()).document
    assert from_pipe["source"] == from_file["source"] | {"path": "standard input"}
    assert from_pipe["rings"] == from_file["rings"]


def test_standard_input_may_be_a_real_pipe():
    ending = run_process("inspect", "-", stdin=SOME_RING.read_bytes()).check()
    assert ending == run("inspect", SOME_RING)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_read_to_its_end(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = Thread(target=fifo.write_bytes, args=[SOME_RING.read_bytes()], daemon=True)
    writer.start()  # and waits until somebody opens the pipe to read
    assert run("inspect", fifo) == run("inspect", SOME_RING)
    writer.join()


def test_sample_is_the_pair_that_comes_with_the_package():
    assert run("inspect", "--sample") == run("inspect", sample_path())
    rings = run("inspect", "--sample", "--json", "--history").document["rings"]
    assert [(ring["role"], ring["address"]) for ring in rings] == [("outbound", 0), ("inbound", 0x2000)]
    assert [(len(ring["consumed"]), len(ring["packets"])) for ring in rings] == [(3, 3), (1, 2)]


def test_a_file_whose_name_looks_like_an_option_is_taken_behind_two_dashes(tmp_path, monkeypatch):
    (tmp_path / "--json").write_bytes(SOME_RING.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert run("inspect", "--", "--json").out == run("inspect", SOME_RING).out


@pytest.mark.parametrize("option", ["--json", "--jsonl", "--hexdump", "--history"])
def test_options_may_stand_before_and_behind_the_file(option):
    assert run("inspect", option, SOME_RING) == run("inspect", SOME_RING, option)


# -- where the ring is ----------------------------------------------------------------------------


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """A file with a ring at 0x3000, another at the odd place 0x9abd, and noise around both."""
    image = bytearray(Random(1).randbytes(0x10000))
    image[0x3000 : 0x3000 + 20480] = SOME_RING.read_bytes()
    one_page = (SAMPLES / "ring-1-page.bin").read_bytes()
    image[0x9ABD : 0x9ABD + len(one_page)] = one_page
    file = tmp_path / "memory.raw"
    file.write_bytes(image)
    return file


@pytest.mark.parametrize("option", ["--offset", "--address"])
@pytest.mark.parametrize("spelling", ["0x3000", "12288", "12K", "12k", "12_288", "0x30_00"])
def test_offset_and_address_say_where_a_ring_is(memory, option, spelling):
    ring = ring_shown("--history", memory, option, spelling, "--data-size", "16K")
    assert ring["address"] == 0x3000
    assert ring["address_hex"] == "0x3000"
    assert ring == ring_shown("--history", SOME_RING) | {"address": 0x3000, "address_hex": "0x3000"}


def test_an_offset_may_be_any_byte(memory):
    ring = ring_shown("--history", memory, "--offset", "0x9abd", "--data-size", "4096")
    one_page = ring_shown("--history", SAMPLES / "ring-1-page.bin")
    assert ring == one_page | {"address": 0x9ABD, "address_hex": "0x9abd"}
    assert run("inspect", memory, "--offset", "0x9abd", "--data-size", "4K").out.startswith(
        "ring at 0x9abd, "
    )


def test_without_a_data_size_the_ring_reaches_to_the_end_of_the_file(tmp_path):
    file = tmp_path / "memory.raw"
    file.write_bytes(bytes(0x1234) + SOME_RING.read_bytes())
    ring = ring_shown(file, "--offset", "0x1234")
    assert (ring["address"], ring["data_size"]) == (0x1234, 16384)


def test_with_an_offset_the_rest_of_a_file_may_be_a_pair(tmp_path):
    file = tmp_path / "memory.raw"
    file.write_bytes(bytes(8) + Path(sample_path()).read_bytes())
    rings = run("inspect", "--json", file, "--offset", "8").document["rings"]
    assert [ring["address"] for ring in rings] == [8, 0x2008]


def test_bytes_left_over_behind_a_ring_are_noted_and_the_size_is_not_known(tmp_path):
    file = tmp_path / "memory.raw"
    file.write_bytes(SOME_RING.read_bytes() + bytes(100))
    assert run("inspect", file).status == 2
    for option in ("--offset", "--address"):
        ending = run("inspect", "--json", file, option, 0)
        assert ending.status == 0
        assert (ending.ring["data_size"], ending.ring["data_size_known"]) == (16384, False)
        assert [one["check"] for one in ending.ring["findings"]] == ["size-assumed"]
        assert ending.ring["packets"] == ring_shown(SOME_RING)["packets"]
    assert ring_shown(file, "--data-size", "16K")["data_size_known"] is True


def test_data_size_alone_takes_the_first_ring_of_a_pair():
    pair = run("inspect", "--sample", "--json").document["rings"]
    ring = ring_shown("--sample", "--data-size", "4K")
    assert ring == pair[0] | {"role": None, "pair": None}


def test_data_size_alone_shows_what_does_not_look_like_a_ring(tmp_path):
    file = tmp_path / "noise.bin"
    file.write_bytes(Random(2).randbytes(8192))
    assert run("inspect", file).status == 2
    ending = run("inspect", file, "--data-size", "4K")
    assert ending.status == 1
    assert "corrupt" in ending.out


@pytest.mark.parametrize(("spelling", "header_size"), [("4K", 4096), ("16K", 16384), ("0x10000", 65536)])
def test_the_data_starts_header_size_bytes_behind_the_control_page(tmp_path, spelling, header_size):
    image = SOME_RING.read_bytes()
    file = tmp_path / "ring.bin"
    file.write_bytes(image[:4096].ljust(header_size, b"\0") + image[4096:])
    ring = ring_shown("--history", file, "--header-size", spelling)
    assert ring == ring_shown("--history", SOME_RING) | {"header_size": header_size}


def test_header_size_goes_with_offset_and_data_size(tmp_path):
    image = SOME_RING.read_bytes()
    file = tmp_path / "memory.raw"
    file.write_bytes(bytes(77) + image[:4096].ljust(16384, b"\0") + image[4096:] + bytes(77))
    ring = ring_shown(file, "--offset", 77, "--data-size", 16384, "--header-size", 16384)
    assert ring["packets"] == ring_shown(SOME_RING)["packets"]


# -- what to show ---------------------------------------------------------------------------------


def test_without_history_no_packet_that_was_read_is_shown():
    assert ring_shown(SOME_RING)["consumed"] == []
    assert "read already" not in run("inspect", SOME_RING).out


def test_history_shows_the_packets_that_were_read_oldest_first():
    text = run("inspect", "--history", SOME_RING).out
    assert text.index("\nread already, oldest first\n") < text.index("\nwaiting\n")
    assert text.endswith("\n22 packets, 9 read already, 0 findings\n")
    shown = [int(offset, 16) for offset in re.findall(r"^  (0x[0-9a-f]+) ", text, re.MULTILINE)]
    _, written = sample("ring-4-pages")
    assert shown == [one["offset"] for one in written["packets"]]


@pytest.mark.parametrize("kind", TYPE_LABELS)
@pytest.mark.parametrize("spell", [str, str.upper, lambda name: name.replace("-", "_")])
def test_type_shows_only_packets_of_that_type(kind, spell):
    whole = ring_shown("--history", SOME_RING)
    ring = ring_shown("--history", SOME_RING, "--type", spell(TYPE_LABELS[kind]))
    for key in ("packets", "consumed"):
        assert ring[key] == [one for one in whole[key] if one["type_value"] == kind]
        assert ring[key]


def test_a_type_without_a_name_is_shown_and_chosen_by_its_number(tmp_path):
    file = tmp_path / "ring.bin"
    file.write_bytes(ring_with((IN_BAND, bytes(8)), (31337, pattern(16)), (8, bytes(8))))
    (one,) = ring_shown(file, "--type", "unknown-31337")["packets"]
    assert (one["type"], one["type_value"], one["payload"]) == ("unknown-31337", 31337, pattern(16).hex())
    assert ring_shown(file, "--type", "31337")["packets"] == [one]
    (one,) = ring_shown(file, "--type", "8")["packets"]
    assert (one["type"], one["type_value"]) == ("unknown-8", 8)
    assert ring_shown(file, "--type", "unknown-99")["packets"] == []


@pytest.mark.parametrize("kind", TYPE_LABELS)
@pytest.mark.parametrize("spell", [str, hex, "unknown-{}".format])
def test_a_type_may_be_given_by_its_number(kind, spell):
    words = ["inspect", "--json", "--history", SOME_RING, "--type"]
    assert run(*words, spell(kind)) == run(*words, TYPE_LABELS[kind])


@pytest.mark.parametrize("spell", [str, hex])
def test_transaction_shows_only_packets_of_that_id(spell):
    whole = ring_shown("--history", SOME_RING)
    for wanted in {0, whole["packets"][0]["transaction_id"], whole["consumed"][0]["transaction_id"]}:
        ring = ring_shown("--history", SOME_RING, "--transaction", spell(wanted))
        for key in ("packets", "consumed"):
            assert ring[key] == [one for one in whole[key] if one["transaction_id"] == wanted]


def test_the_largest_transaction_id_can_be_asked_for(tmp_path):
    file = tmp_path / "ring.bin"
    data = packet(0, COMPLETION, bytes(8), transaction_id=2**64 - 1)
    file.write_bytes(control_page(len(data)) + data.ljust(4096, b"\0"))
    (one,) = ring_shown(file, "--transaction", "0xffff_ffff_ffff_ffff")["packets"]
    assert (one["transaction_id"], one["transaction_id_hex"]) == (2**64 - 1, "0xffffffffffffffff")


@pytest.mark.parametrize("limit", [0, 1, 5, 9, 10, 22, 23, 1 << 40])
def test_limit_keeps_the_next_packets_and_the_last_ones_read(limit):
    whole = ring_shown("--history", SOME_RING)
    ring = ring_shown("--history", SOME_RING, "--limit", limit)
    assert ring["packets"] == whole["packets"][:limit]
    assert ring["consumed"] == whole["consumed"][max(0, 9 - limit) :]


def test_a_limit_says_how_many_packets_it_hides():
    assert run("inspect", SOME_RING, "--limit", 3).out.endswith("\n22 packets (3 shown), 0 findings\n")
    assert run("inspect", SOME_RING, "--limit", 22).out.endswith("\n22 packets, 0 findings\n")


def test_type_transaction_limit_and_history_choose_together():
    path = SAMPLES / "ring-4-pages-wrapped.bin"
    whole = ring_shown("--history", path)
    options = ["--history", "--type", "in-band", "--transaction", 0, "--limit", 2]
    ring = ring_shown(path, *options)
    chosen = {
        key: [one for one in whole[key] if (one["type"], one["transaction_id"]) == ("in-band", 0)]
        for key in ("packets", "consumed")
    }
    assert min(len(packets) for packets in chosen.values()) > 2
    assert ring["packets"] == chosen["packets"][:2]
    assert ring["consumed"] == chosen["consumed"][-2:]
    kinds = [one["kind"] for one in run("inspect", "--jsonl", path, *options).objects]
    assert kinds == ["ring"] + ["consumed"] * 2 + ["packet"] * 2


def test_a_choice_of_packets_hides_no_finding_and_keeps_the_status(tmp_path):
    file = tmp_path / "ring.bin"
    file.write_bytes(ring_with((IN_BAND, bytes(8)), (5, bytes(8))))
    for options in (["--type", "in-band"], ["--limit", 0], ["--transaction", 9]):
        ending = run("inspect", "--json", file, *options)
        assert ending.status == 1
        assert [one["check"] for one in ending.ring["findings"]] == ["descriptor-type"]


# -- how to show it -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_hexdump_shows_every_byte_of_every_packet(name):
    path = SAMPLES / f"{name}.bin"
    image, _ = sample(name)
    text = run("inspect", "--history", "--hexdump", path).out
    shown = [dumped_bytes(part) for part in re.split(r"^  0x", text, flags=re.MULTILINE)[1:]]
    packets = every_packet(ring_shown("--history", path))
    data = image[4096:] * 2
    assert shown == [data[one["offset"] : one["offset"] + one["bytes"]] for one in packets]


def dumped_bytes(text: str) -> bytes:
    """The bytes of the rows of a hexdump in which none is folded."""
    rows = re.findall(r"^    [ ^][0-9a-f]{8}  (.*?)  \|(.*)\|$", text, re.MULTILINE)
    for columns, characters in rows:
        plain = [chr(byte) if 32 <= byte < 127 else "." for byte in bytes.fromhex(columns)]
        assert characters == "".join(plain)
    return b"".join(bytes.fromhex(columns) for columns, _ in rows)


def test_without_hexdump_no_packet_is_dumped():
    assert "|" not in re.sub("completion-requested", "", run("inspect", "--history", SOME_RING).out)


def test_a_broken_packet_is_shown_as_far_as_it_goes(tmp_path):
    good = packet(0, IN_BAND, b"readable")
    torn = struct.pack("<HHHHQ", IN_BAND, 2, 500, 0, 7) + pattern(24)
    file = tmp_path / "ring.bin"
    file.write_bytes(control_page(len(good + torn)) + (good + torn).ljust(4096, b"\0"))

    ending = run("inspect", "--json", file)
    assert ending.status == 1
    assert ending.ring["verdict"] == "corrupt"
    first, second = ending.ring["packets"]
    assert (first["broken"], first["payload"]) == (None, b"readable".hex())
    assert (second["broken"], second["raw"]) == ("descriptor-length", torn.hex())
    assert (second["transaction_id"], second["length"], second["payload"]) == (7, 4000, None)
    (finding,) = ending.ring["findings"]
    assert (finding["check"], finding["severity"], finding["offset"]) == ("descriptor-length", "error", 32)

    text = run("inspect", "--hexdump", file)
    assert text.status == 1
    assert "broken: descriptor-length" in text.out
    assert dumped_bytes(text.out.partition("  0x0020 ")[2]) == torn


def test_the_status_is_1_for_a_warning_and_0_for_a_note(tmp_path):
    file = tmp_path / "ring.bin"
    file.write_bytes(ring_with((IN_BAND, bytes(8)), features=5))
    warned = run("inspect", "--json", file)
    assert (warned.status, [one["severity"] for one in warned.ring["findings"]]) == (1, ["warning"])
    file.write_bytes(ring_with((IN_BAND, bytes(8)), pending=33))
    noted = run("inspect", "--json", file)
    assert (noted.status, [one["severity"] for one in noted.ring["findings"]]) == (0, ["note"])


# -- bugs that inspectors have had ----------------------------------------------------------------


@known_bug("B40")
@pytest.mark.parametrize("index", [0x7FFF_FFF8, 0x8000_0000, 0x8000_0008, 0xFFFF_FFF8, 0xFFFF_FFFF])
@pytest.mark.parametrize("name", ["in", "out"])
def test_an_index_above_the_middle_of_32_bits_is_shown_without_a_sign(tmp_path, index, name):
    file = tmp_path / "ring.bin"
    file.write_bytes(control_page(**{f"{name}_offset": index}) + bytes(4096))
    text = run("inspect", file, "--offset", 0)
    assert text.status == 1
    assert re.search(rf"\b{name} {index:#x}$|\b{name} {index:#x} ", text.out, re.MULTILINE)
    assert not re.search(r"-\d|-0x", text.out)
    ending = run("inspect", "--json", file, "--offset", 0)
    assert ending.ring["control"][name] == index
    assert ending.ring["verdict"] == "corrupt"
    assert [one["check"] for one in ending.ring["findings"]] == ["index-range"]
    refusal = run("inspect", file)
    assert refusal.status == 2
    assert f"{name} is {index:#x}, which is no multiple of 8 below 0x1000" in refusal.err


@known_bug("B50")
@pytest.mark.parametrize("where", [["--offset", "0"], ["--address", "0"], ["--data-size", "16K"]])
def test_a_ring_of_zeros_that_somebody_points_at_was_never_opened(tmp_path, where):
    file = tmp_path / "ring.bin"
    file.write_bytes(bytes(20480))
    ending = run("inspect", "--json", "--history", file, *where)
    assert ending.status == 0
    assert (ending.ring["verdict"], ending.ring["data_size"]) == ("never-opened", 16384)
    assert ending.ring["packets"] == ending.ring["consumed"] == ending.ring["findings"] == []
    assert "never opened: all bytes are zero" in run("inspect", file, *where).out


@known_bug("B50")
def test_a_file_of_zeros_that_nobody_vouches_for_is_no_ring_and_the_error_says_what_shows_it(tmp_path):
    file = tmp_path / "ring.bin"
    file.write_bytes(bytes(20480))
    ending = run("inspect", file)
    assert ending.status == 2
    assert "all bytes are zero" in ending.err
    hint = re.search(r"(--offset) (0x0) shows it", ending.err)
    assert hint is not None
    assert run("inspect", file, *hint.groups()).status == 0


# -- any bytes ------------------------------------------------------------------------------------

numbers_of_descriptors = st.tuples(
    st.sampled_from([IN_BAND, TRANSFER_PAGES, GPA_DIRECT, COMPLETION, 0, 8, 65535]),
    st.sampled_from([2, 2, 3, 4, 5, 0, 1, 65535]),
    st.integers(0, 9) | st.sampled_from([511, 512, 1023, 65535]),
    st.sampled_from([0, 0, 1, 2, 65535]),
    st.sampled_from([0, 1, 2**64 - 1]),
)

#: What follows a descriptor: counts of ranges that fit and that do not, a pipe header, page numbers.
words_behind = st.lists(st.sampled_from([0, 1, 2, 8, 4095, 4096, 0x20000, 2**32 - 1]), max_size=16).map(
    lambda words: struct.pack(f"<{len(words)}I", *words)
)

hostile_packets = st.tuples(
    numbers_of_descriptors.map(lambda numbers: struct.pack("<4HQ", *numbers)), words_behind
)
good_packets = st.tuples(
    st.sampled_from([IN_BAND, COMPLETION]), st.integers(0, 9).map(lambda slots: bytes(8 * slots))
)


@st.composite
def images(draw: st.DrawFn) -> bytes:
    """Mostly a ring, or what was one: good packets and hostile ones laid over zeros or noise."""
    size = draw(st.sampled_from([4096, 8192]))
    slots = st.integers(0, size // 8 - 1)
    bad_index = st.sampled_from([0, 8, size - 8, size - 16, size, 4, 2**31, 2**32 - 8])
    data = bytearray(Random(draw(st.integers(0, 3))).randbytes(size) if draw(st.booleans()) else size)
    ends = [at := 8 * draw(slots)]
    for one in draw(st.lists(good_packets | good_packets | hostile_packets, max_size=8)):
        body = packet(at, *one) if isinstance(one[0], int) else b"".join(one)
        for place, byte in enumerate(body, at):
            data[place % size] = byte
        (length8,) = struct.unpack_from("<H", body, 4)
        ends.append(at := (at + 8 * max(length8, 2) + 8) % size)
    is_usual = st.sampled_from([True, True, True, False])
    page = control_page(
        at if draw(is_usual) else draw(bad_index),
        draw(st.sampled_from(ends)) if draw(is_usual) else draw(bad_index),
        mask=draw(st.sampled_from([0, 0, 0, 1, 1, 1, 2, 2**32 - 1])),
        pending=draw(st.sampled_from([0, 0, 64, 33, size, 2**32 - 1])),
        features=draw(st.sampled_from([1, 1, 0, 2**32 - 1])),
    )
    image = page + bytes(data)
    if draw(is_usual):
        return image * draw(st.integers(1, 2))
    return image[: draw(st.integers(0, len(image)) | st.sampled_from([0, 4096, 8192, len(image) - 8]))]


@pytest.mark.parametrize("option", ["--html", "--pcapng"])
def test_what_is_wrong_with_an_output_names_its_option(option, tmp_path):
    file = tmp_path / "ring.bin"
    ring = control_page() + bytes(4096)
    file.write_bytes(ring)
    nothing = run("inspect", file, option, "")
    assert nothing.err.startswith(
        f"vmbus: {option} is followed by nothing: which file? (- for standard output)"
    )
    itself = run("inspect", file, option, file)
    assert f"would be overwritten: give {option} another name" in itself.err
    assert (nothing.status, itself.status, file.read_bytes()) == (2, 2, ring)


PLACES = ([], [], ["--offset", "0"], ["--data-size", "4K"], ["--offset", "8", "--data-size", "4K"])
FORMS = ([], ["--hexdump"], ["--json", "--whole"], ["--jsonl"])
CHOICES = ([], ["--history"], ["--history", "--limit", "2"], ["--history", "--type", "in-band"])


CAPTURES = {
    "pcap": bytes.fromhex("d4c3b2a1 02000400 00000000 00000000 00000400 0f010000"),
    "pcapng": bytes.fromhex("0a0d0d0a 1c000000 4d3c2b1a 01000000 ffffffffffffffff 1c000000"),
}


@pytest.mark.parametrize("size", [0, 40, 8192], ids=["no packets", "short", "as large as a ring"])
@pytest.mark.parametrize("capture", CAPTURES.values(), ids=CAPTURES)
def test_of_a_capture_it_is_said_which_command_reads_it(capture, size, tmp_path, capsys):
    file = tmp_path / "cap"
    file.write_bytes(capture.ljust(size, b"\0"))
    said = "is a capture, not a dump: `vmbus convert` reads it, with --to jsonl for its packets as text\n"
    assert run("inspect", file) == Ending(2, "", f"vmbus: {file}: {said}")
    assert run("inspect", "-", stdin=file.read_bytes()) == Ending(2, "", f"vmbus: standard input: {said}")
    for command in ("check", "scan"):
        assert run(command, file) == Ending(2, "", f"vmbus: {file}: {said}")
        assert run(command, "-", stdin=file.read_bytes()) == Ending(2, "", f"vmbus: standard input: {said}")
    raw_image = run("convert", file, "--to", "raw-image", "-o", tmp_path / "out")
    assert raw_image == Ending(2, "", f"vmbus: {file}: {said}")
    assert not (tmp_path / "out").exists()
    assert main(["scan", str(file), str(file), "--jobs", "2"]) == 2
    assert capsys.readouterr().err == f"vmbus: {file}: {said}" * 2


def test_whoever_says_where_a_ring_is_gets_a_ring_whatever_the_file_looks_like(tmp_path):
    file = tmp_path / "cap"
    file.write_bytes(CAPTURES["pcapng"].ljust(8192, b"\0"))
    assert run("inspect", file, "--offset", 0).status == 1
    assert "the 4096 bytes from 0x1000 on are no ring" in run("inspect", file, "--offset", 4096).err


def test_any_bytes_are_shown_or_refused_in_one_line(tmp_path):
    file = tmp_path / "image.bin"
    seen: set[object] = set()

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(images(), st.sampled_from(PLACES), st.sampled_from(FORMS), st.sampled_from(CHOICES))
    def any_bytes(image, place, form, choice):
        file.write_bytes(image)
        words = ["inspect", file, *place, *choice]
        ending = run(*words, "--json")
        assert run(*words, *form).status == ending.status
        seen.add(ending.status)
        if ending.status != 2:
            seen.update(ring["verdict"] for ring in ending.document["rings"])
            seen.add(f"{len(ending.document['rings'])} rings")
            seen.update(key for ring in ending.document["rings"] for key, value in ring.items() if value)

    any_bytes()
    assert seen >= {0, 1, 2, "1 rings", "2 rings", "packets", "consumed", "findings"}
    assert seen >= {"corrupt", "waiting-for-reader", "waiting-for-writer", "idle"}


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=200).map(lambda start: start.ljust(8192, b"\0")) | st.binary(max_size=20000))
def test_any_bytes_from_a_pipe_are_shown_or_refused_in_one_line(image):
    ending = run("inspect", "-", "--json", "--history", stdin=image)
    if ending.status != 2:
        assert ending.document["source"]["size"] == len(image)
