"""`vmbus inspect` of a virtqueue: its options, its text and its JSON.

The expected outputs are tests/expected_output/inspect-queue-*.  After a wanted change of them write
them anew, and read each before it is kept:

    python -m tests.cli.test_inspect_queue
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli.running import Ending, run, run_process
from tests.inspection.queue_dumps import BASE, pair
from tests.virtio.by_hand import (
    INDIRECT,
    NEXT,
    VERSION_1,
    WRITE,
    Areas,
    HandDevice,
    HandDriver,
)
from vmbus.memory import GuestMemory
from vmbus.virtio import VSOCK_HEADER, QueueAreas, VsockHeader, VsockOperation

EXPECTED = Path(__file__).parent.parent / "expected_output"

HEADER = VsockHeader(3, 2, 1024, 1234, 5, 1, VsockOperation.RW, 0, 262144, 0)


class Case(NamedTuple):
    """A dump, and the options that say what is in it."""

    image: bytes
    options: Sequence[object]
    status: int


def options_of(areas: Sequence[int], size: int, *others: object) -> list[object]:
    table, driver, device = areas
    return [
        *("--queue-size", size, "--descriptor-table", hex(table)),
        *("--driver-area", hex(driver), "--device-area", hex(device)),
        *others,
    ]


def working_queue(packed: bool) -> Case:
    """A vsock tx queue: six packets used, then two that wait, the second in an indirect table."""
    both = pair(packed)
    for number in range(6):
        both.send(HEADER._replace(fwd_cnt=number), b"hello", pieces=2)
        both.device.add_used(both.device.pop_descriptor_chain().head_index)
        list(both.driver.completions())
    both.send(HEADER._replace(operation=VsockOperation.SHUTDOWN, length=0, flags=3))
    both.send(HEADER._replace(length=26), b"longer than what is shown\n", pieces=3, indirect=True)
    features = [*("--base", hex(BASE)), "--event-idx", "--indirect", *(["--packed"] if packed else [])]
    options = options_of(both.driver.areas, 8, *features, "--vsock", "tx", "--history")
    return Case(bytes(both.memory.read(BASE, 0x8000)), options, 0)


def broken_queue(packed: bool) -> Case:
    """A chain wrong in each of several ways, and control words that mean nothing."""
    areas = Areas(0x1000, 0x1400, 0x1800)
    memory = GuestMemory([(0, bytearray(0x3000))])
    driver = HandDriver(memory, areas, 16, packed)
    memory.write(0x2000, VSOCK_HEADER.pack(HEADER._replace(type=9, length=77)))
    driver.table(0x2400, (0x2000, 44, NEXT, 1), (0x2000, 5, INDIRECT, 0))
    driver.offer((0x2000, 44, 0), (0x2100, 5, 0))
    driver.offer((0x2000, 44, WRITE), (0x2100, 5, 0))
    driver.offer((0x2400, 32, INDIRECT), buffer_id=9)
    driver.offer((0x9000, 44, 0x20))
    driver.offer((2**64 - 16, 17, 0))
    if packed:
        driver.set_driver_event(99, 2)
        HandDevice(memory, areas, 16, True).set_device_event(0, 7)
    else:
        driver.push(99)
        driver.push(0)
        driver.set_avail_flags(5)
        HandDevice(memory, areas, 16).set_used_flags(1)
    options = [*options_of(areas, 16, "--indirect", "--event-idx", "--vsock", "tx"), *["--packed"] * packed]
    return Case(bytes(memory.read(0, 0x3000)), options, 1)


def legacy_queue() -> Case:
    """Only the table is known: the rest lies where legacy devices have it."""
    driver = HandDriver(GuestMemory([(0, bytearray(0x3000))]), Areas(0x1000, 0x1080, 0x2000), 8)
    driver.offer((0x2800, 16, 0), (0x2810, 512, WRITE), (0x2A10, 1, WRITE))
    driver.memory.write(0x2800, bytes(8) + b"\x08")
    image = bytes(driver.memory.read(0, 0x3000))
    return Case(image, ["--queue-size", 8, "--descriptor-table", "4K", "--hexdump"], 0)


CASES = {
    "split": lambda: working_queue(False),
    "packed": lambda: working_queue(True),
    "split-broken": lambda: broken_queue(False),
    "packed-broken": lambda: broken_queue(True),
    "legacy-hexdump": legacy_queue,
    "zeros": lambda: Case(bytes(8192), ["--queue-size", 8, "--descriptor-table", 0], 0),
}

FORMS = {"txt": [], "json": ["--json"]}

EVERYTHING = [(name, form) for name in CASES for form in FORMS if (name, form) != ("legacy-hexdump", "json")]


def show(name: str, *more: object) -> Ending:
    """What the command says of a case; the dump comes through a pipe, so that its name is the same."""
    case = CASES[name]()
    ending = run("inspect", "-", *case.options, *more, stdin=case.image)
    assert ending.status == case.status
    return ending


@pytest.mark.parametrize(("name", "form"), EVERYTHING)
def test_a_queue_is_shown_as_expected(name, form):
    expected = EXPECTED / f"inspect-queue-{name}.{form}"
    assert show(name, *FORMS[form]).out == expected.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in CASES if name != "legacy-hexdump"])
def test_json_lines_hold_the_same_data_as_the_document(name):
    document = show(name, "--json").document
    assert document.keys() == {"schema", "source", "rings", "queues"}
    assert document["rings"] == []
    gathered: dict = {"rings": [], "queues": []}
    lists = {"used": "history", "chain": "chains", "finding": "findings"}
    for one in show(name, "--jsonl").objects:
        kind = one.pop("kind")
        if kind == "queue":
            gathered |= {"schema": one.pop("schema"), "source": one.pop("source")}
            gathered["queues"].append({**one, "history": [], "chains": [], "findings": []})
        else:
            queue = gathered["queues"][-1]
            assert one.pop("queue") == queue["descriptor_table"]
            queue[lists[kind]].append(one)
    assert gathered == document


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_that_may_have_64_bits_come_in_hex_as_well(packed):
    (queue,) = show("packed-broken" if packed else "split-broken", "--json").document["queues"]
    chain = next(one for one in queue["chains"] if one["broken"] == "buffer-outside-memory")
    assert chain["descriptors"][0]["address_hex"] == "0xfffffffffffffff0"
    assert chain["descriptors"][0]["address"] == 2**64 - 16
    pairs = [(queue, "descriptor_table"), (queue, "driver_area"), (queue, "features_value")]
    assert all(holder[f"{name}_hex"] == hex(holder[name]) for holder, name in pairs)


# -- where the queue is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "align", "areas"),
    [
        (128, [], (0x1000, 0x1800, 0x2000)),
        (256, [], (0x1000, 0x2000, 0x3000)),
        (128, ["--align", "64"], (0x1000, 0x1800, 0x1800 + 320)),
        (1024, ["--align", "64"], (0x1000, 0x5000, 0x5000 + 2112)),
        (1024, ["--align", "4K"], (0x1000, 0x5000, 0x6000)),
    ],
    ids=["legacy 128", "legacy 256", "Linux 128", "Linux 1024", "page by name"],
)
def test_areas_that_nobody_names_lie_behind_the_table(tmp_path, size, align, areas):
    path = tmp_path / "zeros.bin"
    path.write_bytes(bytes(0x9000))
    words = ["--json", path, "--queue-size", size, "--descriptor-table", "0x1000", *align]
    (queue,) = run("inspect", *words).document["queues"]
    assert tuple(queue[name] for name in QueueAreas._fields) == areas


def test_base_is_the_address_of_the_first_byte(tmp_path):
    """QEMU's documented example: a queue of 128 at 5217370112, as a dump of a few pages there."""
    table = 5217370112
    driver = HandDriver(
        GuestMemory([(table, bytearray(8192))]), Areas(table, table + 2048, table + 2368), 128
    )
    driver.offer((table + 4096, 44, 0))
    words = ["--base", table, "--queue-size", 128, "--descriptor-table", table, "--align", 64]
    ending = run("inspect", "-", *words, "--json", stdin=bytes(driver.memory.read(table, 8192)))
    (queue,) = ending.document["queues"]
    assert queue["device_area"] == table + 2048 + 320
    assert queue["chains"][0]["in_memory"] is True


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["version-1"]),
        (["--indirect"], ["ring-indirect-desc", "version-1"]),
        (["--features", "0x20000000"], ["ring-event-idx"]),
        (["--features", "0x20000000", "--indirect"], ["ring-indirect-desc", "ring-event-idx"]),
        (["--features", hex(1 << 63 | VERSION_1)], ["version-1", hex(1 << 63)]),
    ],
)
def test_features_are_those_that_were_named(options, names):
    words = ["--queue-size", 8, "--descriptor-table", 0, *options, "--json"]
    (queue,) = run("inspect", "-", *words, stdin=bytes(8192)).document["queues"]
    assert queue["features"] == names


def test_the_packed_bit_of_features_makes_it_a_packed_queue():
    words = options_of((0, 128, 132), 7, "--features", hex(1 << 34), "--json")
    (queue,) = run("inspect", "-", *words, stdin=bytes(4096)).document["queues"]
    assert queue["format"] == "packed"


# -- what cannot be --------------------------------------------------------------------------------


PLACED = ["--queue-size", 8, "--descriptor-table", 0]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--queue-size", 8], "--descriptor-table"),
        (["--descriptor-table", 0], "--queue-size"),
        (["--vsock", "tx"], "--vsock is of a virtqueue"),
        (["--packed"], "--packed is of a virtqueue"),
        (["--base", 0], "--base is of a virtqueue"),
        ([*PLACED, "--driver-area", 256], "--device-area is missing"),
        ([*PLACED, "--device-area", 256], "--driver-area is missing"),
        ([*options_of((0, 256, 512), 8), "--align", 64], "leave it out"),
        ([*PLACED, "--align", 48], "power of two"),
        ([*PLACED, "--align", 2], "power of two"),
        ([*PLACED, "--packed"], "--driver-area and --device-area"),
        ([*PLACED, "--features", 1 << 34], "--driver-area and --device-area"),
        (["--queue-size", 12, "--descriptor-table", 0], "power of two"),
        (["--queue-size", 0, "--descriptor-table", 0], "1 to 32768"),
        (["--queue-size", 65536, "--descriptor-table", 0], "1 to 32768"),
        ([*PLACED, "--vsock", "control"], "rx"),
        ([*PLACED, "--base", 2**64 - 16], "--base"),
        ([*PLACED, "--base", "0x10000"], "--base says which address"),
        ([*PLACED, "--queue-size", 32768], "driver area would start at"),
        (["--queue-size", 8, "--descriptor-table", "0x9000"], "descriptor table would start at 0x9000"),
        (options_of((0, 0x100, 0x9000), 8), "device area would start at 0x9000"),
        ([*PLACED, "--offset", 0], "--offset is of a ring"),
        ([*PLACED, "--address", 0], "--address is of a ring"),
        ([*PLACED, "--data-size", 4096], "--data-size is of a ring"),
        ([*PLACED, "--header-size", "16K"], "--header-size is of a ring"),
        ([*PLACED, "--type", "in-band"], "--type is of a ring"),
        ([*PLACED, "--transaction", 1], "--transaction is of a ring"),
        ([*PLACED, "--whole", "--json"], "--whole is of a ring"),
    ],
)
def test_what_makes_up_no_queue_is_one_line_that_helps(options, hint):
    ending = run("inspect", "-", *options, stdin=bytes(0x8000))
    assert ending.status == 2
    assert hint in ending.err


def test_the_sample_is_no_virtqueue():
    ending = run("inspect", "--sample", *PLACED)
    assert ending.status == 2
    assert "--sample is a dump of rings" in ending.err


def test_an_area_whose_end_is_missing_is_shown_as_far_as_it_is():
    ending = run("inspect", "-", *options_of((0, 256, 4080), 16), stdin=bytes(4096))
    assert ending.status == 1
    assert "area-outside-memory" in ending.out
    assert "not all of it is there" in ending.out


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(min_size=1, max_size=600),
    places=st.tuples(*[st.sampled_from([0, 16, 64, 256, 500])] * 3),
    size=st.sampled_from([1, 2, 8]),
    flags=st.lists(st.sampled_from(["--packed", "--event-idx", "--indirect", "--history", "--hexdump"])),
    vsock=st.sampled_from([[], ["--vsock", "rx"], ["--vsock", "tx"], ["--vsock", "event"]]),
)
def test_any_bytes_end_in_0_1_or_2_and_never_in_a_traceback(data, places, size, flags, vsock):
    ending = run("inspect", "-", *options_of(places, size, *flags, *vsock), stdin=data)
    assert ending.status in (0, 1, 2)


# -- help ------------------------------------------------------------------------------------------


def queue_examples() -> list[str]:
    said = run("inspect", "--help").out.partition("\nvirtqueues:\n")[2].partition("\n\n")[0]
    return [line.strip() for line in said.splitlines()]


def test_help_names_every_option_of_a_queue():
    said = run("inspect", "--help").out
    options = (
        "--queue-size --descriptor-table --driver-area --device-area --align --packed --event-idx "
        "--indirect --features --base --vsock"
    )
    for option in options.split():
        assert re.search(rf"^ +{option}\b", said, re.MULTILINE), option


@pytest.mark.parametrize("example", queue_examples())
def test_every_example_of_a_queue_in_the_help_runs(example, tmp_path, monkeypatch):
    memory = GuestMemory([(0, bytearray(0x3F_4000))])
    driver = HandDriver(memory, Areas(0x3F_0000, 0x3F_0800, 0x3F_0800 + 320), 128)
    memory.write(0x3F_3000, VSOCK_HEADER.pack(HEADER._replace(length=0)))
    driver.offer((0x3F_3000, 44, 0))
    small = GuestMemory([(0, bytearray(0x1000))])
    HandDriver(small, Areas(0, 0x80, 0x84), 8, packed=True).offer((0x800, 44, 0))
    (tmp_path / "memory.raw").write_bytes(memory.read(0, 0x3F_4000))
    (tmp_path / "tx.bin").write_bytes(small.read(0, 0x1000))
    (tmp_path / "pages.bin").write_bytes(memory.read(0x3F_0000, 0x4000))
    monkeypatch.chdir(tmp_path)
    words = shlex.split(example)
    assert words[0] == "vmbus"
    ending = run(*words[1:])
    assert ending.status == 0
    if "--json" in words:
        assert ending.document["queues"][0]["chains"]
    else:
        assert "\n1 chain, 0 findings\n" in ending.out or "\n1 list, 0 findings\n" in ending.out


def test_there_are_examples_of_queues():
    assert len(queue_examples()) >= 3


# -- what it costs ---------------------------------------------------------------------------------


def test_looking_at_a_ring_does_not_import_virtqueues():
    code = (
        "import sys; from vmbus.cli.main import main; status = main(sys.argv[1:]);"
        "print(status, *sys.modules, file=sys.stderr)"
    )
    for words in (["--sample"], ["--help"], ["-", "--base", "0"]):
        ending = run_process("inspect", *words, command=[sys.executable, "-c", code], stdin=bytes(8192))
        modules = ending.err.split()
        assert "vmbus.inspection.report" in modules
        assert not [name for name in modules if name.startswith(("vmbus.virtio", "vmbus.inspection.queue"))]
        assert not [name for name in modules if "pcapng" in name]  # captures are known by their start, later
    words = ["-", *map(str, PLACED)]
    ending = run_process("inspect", *words, command=[sys.executable, "-c", code], stdin=bytes(8192))
    assert "vmbus.virtio" in ending.err.split()


def write_expected() -> None:
    for name, form in EVERYTHING:
        path = EXPECTED / f"inspect-queue-{name}.{form}"
        path.write_text(show(name, *FORMS[form]).out, encoding="utf-8")
        if form == "json":
            json.loads(path.read_text(encoding="utf-8"))
        print(path)


if __name__ == "__main__":
    write_expected()
