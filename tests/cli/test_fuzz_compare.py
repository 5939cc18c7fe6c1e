"""`vmbus fuzz compare`: the table, the differences beneath it, and what ends it with which status."""

from __future__ import annotations

import struct

import pytest

from tests.acceptance.test_models import CONDITIONS, victim
from tests.acceptance.test_models import ring as ring_image
from tests.cli.running import run, run_process
from vmbus.fuzzing import BREAKS, PacketImage, RingImage

NO_FOOTER = ring_image(victim(), in_offset=64)


@pytest.fixture
def saved(tmp_path):
    """Saves an image and gives its path."""

    def save(image: bytes, name: str = "ring.bin") -> str:
        path = tmp_path / name
        path.write_bytes(image)
        return str(path)

    return save


TABLE = """\
ring at 0x0, 4096 bytes of data
  in 0x0040   out 0x0000   interrupt mask 0x0
  pending send size 0   features 0x1

                vmbus     linux   openvmm    dpdk  freebsd   uefi    qemu
  0x0000            8         8         8       8        8      8       8
  0x0020            -        16        16       -        -      -       -
  then          error  past in?  past in?  stalls   stalls  error  stalls
  wakes, first     no        no        no      no       no     no      no
  writes 24     quiet     quiet     quiet   quiet    quiet  quiet   quiet

1 difference
  0x0020    acceptance  vmbus: error (it raises footer-not-published); linux and openvmm: takes a packet of 32 bytes \
(the footer need not be published); dpdk and freebsd: stalls (it waits for 32 bytes and their footer (EAGAIN)); uefi: \
error (a whole packet and its footer must be published); qemu: stalls (a packet that is not published whole, with its \
footer, is none yet)
"""


def test_the_table_has_a_column_for_each_implementation_and_a_row_for_each_packet(saved):
    ending = run("fuzz", "compare", saved(NO_FOOTER))
    assert (ending.status, ending.out) == (1, TABLE)


AGREE = """\
ring at 0x0, 4096 bytes of data
  in 0x0048   out 0x0000   interrupt mask 0x0
  pending send size 4095   features 0x1

                vmbus  linux  openvmm   dpdk  freebsd   uefi   qemu
  0x0000            8      8        8      8        8      8      8
  0x0020           16     16       16     16       16     16     16
  then          empty  empty    empty  empty    empty  empty  empty
  wakes, first     no     no       no     no       no     no     no
  wakes, all      yes    yes      yes    yes      yes    yes    no?
  writes 24     quiet  quiet    quiet  quiet    quiet  quiet  quiet

all agree, as far as is known
"""


def test_what_is_not_verified_has_a_question_mark_and_no_difference(saved):
    ending = run("fuzz", "compare", saved(ring_image(victim(), pending=4095)))
    assert (ending.status, ending.out) == (0, AGREE)


def test_a_narrow_terminal_has_the_columns_one_below_the_other(saved, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = run("fuzz", "compare", saved(NO_FOOTER)).out.splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[4] == "                vmbus     linux   openvmm    dpdk  freebsd"
    assert lines[11] == "                 uefi    qemu"
    assert lines[19] == "  0x0020    acceptance  vmbus: error (it raises footer-not-"


def test_the_buffers_that_linux_and_dpdk_copy_to_can_be_small(saved):
    path = saved(ring_image(victim()))
    models = run("fuzz", "compare", path, "--packet-buffer", 24, "--caller-buffer", 24, "--json").ring[
        "models"
    ]
    ways = {
        model["name"]: ([one["payload_length"] for one in model["packets"]], model["end"]) for model in models
    }
    assert ways["linux"][0][:2] == [8, 8]
    assert (ways["dpdk"][0], ways["dpdk"][1]["answer"]) == ([8], "error")


@pytest.mark.parametrize("name", BREAKS)
def test_every_break_of_a_ring_has_a_table(name, saved):
    broken = BREAKS[name].apply(RingImage(waiting=(PacketImage.in_band(b"payload!"),)))
    path = saved(broken.to_bytes())
    ending = run("fuzz", "compare", path)
    assert ending.status == 1
    vmbus = run("fuzz", "compare", path, "--json").ring["models"][0]
    assert vmbus["end"]["answer"] == "error"
    assert vmbus["end"]["why"].endswith(str(broken.fault.value))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_status_says_whether_all_agree(condition, saved):
    image, expected = CONDITIONS[condition]
    ending = run("fuzz", "compare", saved(image))
    assert ending.status == int(len(set(expected)) > 1)
    assert ("all agree" in ending.out) == (ending.status == 0)


def test_the_document_has_the_rings_and_what_differs(saved):
    path = saved(NO_FOOTER)
    ending = run("fuzz", "compare", path, "--json")
    document = ending.document
    assert (ending.status, document["schema"], document["agree"]) == (1, "vmbus.compare/1", False)
    assert document["source"] == {"path": path, "format": "raw", "size": 8192}
    ring = ending.ring
    assert (ring["address"], ring["address_hex"], ring["data_size"]) == (0, "0x0", 4096)
    assert [model["name"] for model in ring["models"]] == TABLE.splitlines()[4].split()
    assert [one["kind"] for one in ring["differences"]] == ["acceptance"]


def test_of_a_pair_each_ring_has_a_table():
    ending = run("fuzz", "compare", "--sample")
    assert (ending.status, ending.out.count("all agree")) == (0, 2)
    assert ending.out.count("ring at") == 2


def test_a_write_and_a_packet_buffer_are_asked_for(saved):
    empty = saved(ring_image(in_offset=0))
    assert run("fuzz", "compare", empty).status == 0
    ending = run("fuzz", "compare", empty, "--write", "4088")
    assert ending.status == 1
    assert "  writes 4088  wakes  wakes  no room  wakes    wakes  wakes  wakes" in ending.out
    full = saved(ring_image(victim()))
    assert run("fuzz", "compare", full).status == 0
    cut = run("fuzz", "compare", full, "--packet-buffer", "24")
    assert (cut.status, "length" in cut.out) == (1, True)


def test_where_the_ring_lies_is_said_as_to_the_other_commands(saved):
    path = saved(bytes(4096) + NO_FOOTER)
    ending = run("fuzz", "compare", path, "--offset", "4096")
    assert ending.out == TABLE.replace("ring at 0x0,", "ring at 0x1000,")
    larger = saved(NO_FOOTER[:4096] + bytes(12288) + NO_FOOTER[4096:])
    assert run("fuzz", "compare", larger, "--header-size", "16K").out == TABLE


@pytest.mark.parametrize("word", [0, 1, 2])
def test_a_raw_file_of_whole_pages_is_a_ring_whatever_its_control_words_say(word, saved):
    image = bytearray(NO_FOOTER)
    struct.pack_into("<I", image, 4 * word, 0xFFFF_FFF1)
    assert run("fuzz", "compare", saved(bytes(image))).status == 1


def test_each_model_is_listed_with_its_source_and_what_is_unverified():
    lines = run("fuzz", "compare", "--list").out.splitlines()
    assert lines[1].startswith("linux     Linux 6.12 guest: drivers/hv/ring_buffer.c")
    assert all(line.split()[0] == "unverified:" for line in lines[2:4])
    listed = run("fuzz", "compare", "--list", "--json").document["models"]
    assert [model["name"] for model in listed] == TABLE.splitlines()[4].split()
    assert listed[6]["unverified"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which IMAGE?"),
        (["--sample", "ring.bin"], "which IMAGE?"),
        (["--sample", "--write", "23"], "24 bytes or more, a multiple of 8, and not 23"),
        (["--sample", "--packet-buffer", "8"], "16 bytes or more, not 8"),
        (["/nowhere/ring.bin"], "/nowhere/ring.bin: "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(words, message):
    ending = run("fuzz", "compare", *words)
    assert ending.status == 2
    assert message in ending.err


@pytest.mark.parametrize("size", [0, 100, 4096, 10000])
def test_a_file_that_no_ring_fills_is_unreadable(size, saved):
    assert run("fuzz", "compare", saved(b"\xff" * size)).status == 2


def test_the_ring_may_come_from_standard_input():
    assert run("fuzz", "compare", "-", stdin=NO_FOOTER).out == TABLE


def test_the_command_runs_in_a_process_of_its_own(saved):
    ending = run_process("fuzz", "compare", saved(NO_FOOTER)).check()
    assert (ending.status, ending.out) == (1, TABLE)
