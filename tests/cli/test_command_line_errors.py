"""What the command refuses, and how: status 2, nothing on standard output, one line on standard error.

`run` holds every ending to that; here stand the command lines and files, and what the line must say.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

import pytest

from tests.cli.running import control_page, ring_with, run, run_process
from tests.helpers import SAMPLE_NAMES, SAMPLES, sample
from vmbus.inspection import sample_path

SOME_RING = str(SAMPLES / "ring-4-pages.bin")


def refused(*words: object, stdin: bytes = b"") -> str:
    """The line with which a command line is refused."""
    ending = run(*words, stdin=stdin)
    assert ending.status == 2
    return ending.err


# -- the command line -----------------------------------------------------------------------------

REFUSED = [
    # what was typed, and what the line must say of it
    ("xyz", "xyz: no such command; there is inspect"),
    ("insepct ring.bin", "insepct: no such command; did you mean inspect?"),
    ("INSPECT ring.bin", "INSPECT: no such command"),
    ("inspec --help", "did you mean inspect?"),
    ("-x", "unrecognized arguments: -x", "'vmbus --help'"),
    ("--verbose", "unrecognized arguments: --verbose", "'vmbus --help'"),
    ("--vers", "unrecognized arguments: --vers"),
    ("--sample", "unrecognized arguments: --sample"),
    ("inspect", "which FILE?", "- for standard input", "--sample"),
    ("inspect --json", "which FILE?"),
    ("inspect FILE second", "unrecognized arguments: second", "'vmbus inspect --help'"),
    ("inspect FILE --smaple", "unrecognized arguments: --smaple", "'vmbus inspect --help'"),
    ("inspect FILE -j", "unrecognized arguments: -j"),
    ("inspect FILE --hist", "unrecognized arguments: --hist"),
    ("inspect FILE --trans 5", "unrecognized arguments: --trans"),
    ("inspect FILE --json=yes", "argument --json: ignored explicit argument 'yes'"),
    ("inspect FILE --offset", "argument --offset: expected one argument"),
    ("inspect FILE --type", "argument --type: expected one argument"),
    ("inspect FILE --offset ten", "argument --offset: 'ten' is no number: write 4096, 0x1000"),
    ("inspect FILE --offset -8", "argument --offset: '-8' is negative"),
    ("inspect FILE --offset=-8", "argument --offset: '-8' is negative"),
    ("inspect FILE --address 0xg", "argument --address: '0xg' is no number"),
    ("inspect FILE --data-size 4KB", "argument --data-size: '4KB' is no number"),
    ("inspect FILE --header-size 4.5K", "argument --header-size: '4.5K' is no number"),
    ("inspect FILE --limit all", "argument --limit: 'all' is no number"),
    ("inspect FILE --transaction -1", "argument --transaction: '-1' is negative"),
    ("inspect FILE --transaction 0x10000000000000000", "argument --transaction:", "more than 64 bits"),
    ("inspect FILE --data-size 0x" + "f" * 9999, "argument --data-size:", "more than 64 bits"),
    ("inspect FILE --header-size " + "9" * 4299 + "G", "argument --header-size:", "more than 64 bits"),
    ("inspect FILE --limit " + "9" * 9999, "argument --limit:", "is no number"),
    ("inspect FILE --type inband", "argument --type: 'inband' is no packet type", "in-band", "unknown-N"),
    ("inspect FILE --type gpadl", "argument --type: 'gpadl' is no packet type"),
    ("inspect FILE --type 65536", "argument --type: '65536' is no packet type"),
    ("inspect FILE --type unknown-65536", "argument --type: 'unknown-65536' is no packet type"),
    ("inspect FILE --type=-6", "argument --type: '-6' is no packet type"),
    ("inspect FILE --type " + "9" * 9999, "is no packet type"),
    ("inspect FILE --type unknown", "argument --type: 'unknown' is no packet type"),
    ("inspect FILE --type unknown-", "is no packet type"),
    ("inspect FILE --type unknown-x", "is no packet type"),
    ("inspect FILE --header-size 5000", "argument --header-size:", "4, 16 or 64 KiB", "not 5000 bytes"),
    ("inspect FILE --header-size 0", "argument --header-size:", "4, 16 or 64 KiB", "not 0 bytes"),
    ("inspect FILE --header-size 32K", "argument --header-size:", "4, 16 or 64 KiB", "not 32768 bytes"),
    ("inspect FILE --data-size 0", "argument --data-size:", "a multiple of 4096 bytes", "this one has 0"),
    ("inspect FILE --data-size 5000", "argument --data-size:", "a multiple of 4096 bytes", "has 5000"),
    ("inspect FILE --data-size 2G", "argument --data-size:", "from 4096 to 2147479552", "has 2147483648"),
    # options that contradict each other
    ("inspect FILE --sample", "--sample is a dump itself; leave out"),
    ("inspect - --sample", "--sample is a dump itself; leave out -"),
    ("inspect FILE --offset 0 --address 0", "argument --address: not allowed with argument --offset"),
    ("inspect FILE --json --jsonl", "argument --jsonl: not allowed with argument --json"),
    ("inspect FILE --json --hexdump", "argument --hexdump: not allowed with argument --json"),
    ("inspect FILE --hexdump --jsonl", "argument --jsonl: not allowed with argument --hexdump"),
    ("inspect FILE --whole", "--whole goes with --json or --jsonl"),
    ("inspect FILE --whole --hexdump", "--whole goes with --json or --jsonl"),
    # places where the file has no ring, in a file of 20,480 bytes
    ("inspect FILE --offset 20480", "FILE: has 20480 bytes, and no ring can be at 0x5000"),
    (
        "inspect FILE --offset 0xffff_ffff_ffff_ffff",
        "FILE: has 20480 bytes, and no ring can be at 0xffffffffffffffff",
    ),
    ("inspect FILE --address 1M", "FILE: has 20480 bytes, and no ring can be at 0x100000"),
    ("inspect FILE --offset 20479", "FILE: the 1 bytes from 0x4fff on are no ring"),
    (
        "inspect FILE --offset 12296",
        "FILE: the 8184 bytes from 0x3008 on are no ring",
        "a control page of 4096",
    ),
    ("inspect FILE --offset 16K", "FILE: the 4096 bytes from 0x4000 on are no ring"),
    ("inspect FILE --address 8", "FILE: no ring at 0x8: a ring starts on a 4096-byte boundary (0x0 is"),
    ("inspect FILE --address 0x2fff", "FILE: no ring at 0x2fff:", "(0x2000 is the one below)"),
    (
        "inspect FILE --data-size 20K",
        "FILE: a ring of 20480 bytes at 0x0 ends at 0x6000, and the file has 20480",
    ),
    ("inspect FILE --data-size 16K --offset 8", "and the file has 20480 bytes; --data-size 12288 takes what"),
    ("inspect FILE --data-size 0xffff_ffff_ffff_f000", "argument --data-size:", "has 18446744073709547520"),
    ("inspect FILE --offset 4K --data-size 16K", "FILE: a ring of 16384 bytes at 0x1000 ends at 0x6000"),
    ("inspect FILE --header-size 16K --data-size 8K", "ends at 0x6000, and the file has 20480 bytes"),
    (
        "inspect FILE --header-size 64K",
        "FILE: the 20480 bytes from 0x0 on are no ring",
        "control page of 65536 bytes",
    ),
    ("inspect FILE --header-size 64K --offset 4K", "FILE: the 16384 bytes from 0x1000 on are no ring"),
]


@pytest.mark.parametrize(
    ("line", "said"), [(line, said) for line, *said in REFUSED], ids=lambda one: str(one)[:60]
)
def test_a_command_line_is_refused_in_one_line_that_says_why(line, said):
    err = refused(*(SOME_RING if word == "FILE" else word for word in line.split()))
    for part in said:
        assert part.replace("FILE:", f"{SOME_RING}:") in err
    is_about_the_file = f"vmbus: {SOME_RING}: " in err
    assert ("(try 'vmbus" in err) != is_about_the_file


@pytest.mark.parametrize(
    "line",
    [
        "inspect",
        "inspect FILE --sample",
        "inspect FILE --whole",
        "inspect FILE --data-size 1",
        "inspect FILE -x",
    ],
)
def test_whatever_is_wrong_with_the_usage_of_a_command_the_line_ends_with_its_help(line):
    err = refused(*(SOME_RING if word == "FILE" else word for word in line.split()))
    assert err.endswith(" (try 'vmbus inspect --help')\n")


def test_an_empty_word_is_no_file_and_no_command():
    assert "which FILE?" in refused("inspect", "")
    assert "leave out" in refused("inspect", "--sample", "")
    assert "unrecognized arguments" in refused("")


def test_every_type_that_the_refusal_offers_is_taken():
    offered = refused("inspect", SOME_RING, "--type", "x").partition("there is ")[2].partition(" or a")[0]
    names = offered.replace("unknown-N", "unknown-77").split(", ")
    assert names == ["completion", "gpa-direct", "in-band", "transfer-pages", "unknown-77"]
    for name in names:
        assert run("inspect", SOME_RING, "--type", name).status == 0


# -- files that are none --------------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path):
    file = tmp_path / "missing.bin"
    assert refused("inspect", file) == f"vmbus: {file}: cannot be read: No such file or directory\n"


def test_a_file_below_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be read: Not a directory" in refused("inspect", tmp_path / "file" / "ring.bin")


def test_a_name_that_is_too_long():
    assert "cannot be read: File name too long" in refused("inspect", "x" * 5000)


def test_a_name_with_a_zero_byte():
    assert "a\\x00b: cannot be read: its name holds a zero byte" in refused("inspect", "a\0b")


def test_a_directory(tmp_path):
    assert refused("inspect", tmp_path) == f"vmbus: {tmp_path}: is a directory; a dump is a file\n"


def test_a_link_to_itself(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(link)
    assert "cannot be read: Too many levels of symbolic links" in refused("inspect", link)


def test_an_empty_file(tmp_path):
    file = tmp_path / "empty.bin"
    file.write_bytes(b"")
    assert refused("inspect", file) == f"vmbus: {file}: is empty\n"
    assert refused("inspect", file, "--offset", 0) == f"vmbus: {file}: is empty\n"
    assert refused("inspect", os.devnull) == f"vmbus: {os.devnull}: is empty\n"


def test_empty_standard_input():
    assert refused("inspect", "-") == "vmbus: standard input: is empty\n"
    assert (
        refused("inspect", "-", "--offset", "0", "--data-size", "4K") == "vmbus: standard input: is empty\n"
    )


@pytest.mark.skipif(os.name != "posix", reason="here a file without permissions can still be read")
@pytest.mark.parametrize("what", ["file", "its directory"])
def test_a_file_without_permission(tmp_path, what):
    folder = tmp_path / "folder"
    folder.mkdir()
    file = folder / "ring.bin"
    file.write_bytes(Path(SOME_RING).read_bytes())
    assert run("inspect", file).status == 0  # and everything that it takes is imported
    closed = file if what == "file" else folder
    with mode(closed, 0), as_nobody(tmp_path):
        err = refused("inspect", file)
    assert err == f"vmbus: {file}: cannot be read: Permission denied\n"


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    """The permissions of a file or directory, for a while."""
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Without the rights of root, who may read everything; the way to `folder` stays open."""
    if os.geteuid() != 0:
        yield
        return
    with ExitStack() as stack:
        for path in (folder, *folder.parents[:2]):  # pytest makes these three for their owner alone
            stack.enter_context(mode(path, path.stat().st_mode | 0o011))
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)


# -- images that are none -------------------------------------------------------------------------

#: Where an image is cut: bytes that are left of it.
CUTS = {
    "in the word in": 2,
    "behind the word in": 4,
    "behind the word out": 8,
    "in the feature word": 66,
    "behind the control words": 128,
    "in the control page": 2048,
    "one byte before the control page ends": 4095,
    "behind the control page": 4096,
    "in the first descriptor": 4096 + 5,
    "in the first data page": 6001,
    "one slot before the first data page ends": 8184,
    "behind the first data page": 8192,
    "in the second data page": 8193,
    "behind the second data page": 12288,
    "in the third data page": 12288 + 2048,
    "behind the third data page": 16384,
    "one page before the end": -4096,
    "one slot before the end": -8,
    "one byte before the end": -1,
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_a_cut_image_is_no_ring_or_a_smaller_one(tmp_path, name, cut):
    image, written = sample(name)
    file = tmp_path / "cut.bin"
    file.write_bytes(image[:cut])
    length = len(image[:cut])
    data_size = length - 4096
    control = written["control"]
    ending = run("inspect", file, "--json")
    if data_size <= 0 or data_size % 4096:
        assert ending.status == 2
        assert f"the {length} bytes from 0x0 on are no ring: " in ending.err
    elif control["in"] >= data_size:
        assert ending.status == 2
        assert f"in is {control['in']:#x}, which is no multiple of 8 below {data_size:#x}" in ending.err
    elif control["out"] >= data_size:
        assert ending.status == 2
        assert f"out is {control['out']:#x}, which is no multiple of 8 below {data_size:#x}" in ending.err
    else:
        # Nothing says that it was larger; what waits is sound only where it did not reach the cut.
        is_whole = control["out"] < control["in"] or data_size == written["data_size"]
        assert ending.status == (0 if is_whole else 1)
        assert ending.ring["data_size"] == data_size


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("name", SAMPLE_NAMES)
def test_a_cut_image_whose_size_is_said_is_refused_with_the_size_that_is_there(tmp_path, name, cut):
    image, written = sample(name)
    file = tmp_path / "cut.bin"
    file.write_bytes(image[:cut])
    words = ["inspect", file, "--data-size", written["data_size"]]
    if len(image[:cut]) == len(image):
        assert run(*words).status == 0
    else:
        assert f"ends at {len(image):#x}, and the file has {len(image[:cut])} bytes" in refused(*words)


def test_a_cut_pair_is_never_taken_for_a_sound_pair(tmp_path):
    image = Path(sample_path()).read_bytes()
    file = tmp_path / "pair.bin"
    for length in [*range(1, 200, 13), *range(4096, len(image), 512), len(image) - 1]:
        file.write_bytes(image[:length])
        ending = run("inspect", file, "--json")
        if ending.status != 2:
            assert [ring["role"] for ring in ending.document["rings"]] == [None]


@pytest.mark.parametrize(
    "data", [bytes(4096), control_page(64), b"\xff" * 4096], ids=["zeros", "control", "ones"]
)
def test_a_file_of_one_page_has_no_room_for_a_ring(tmp_path, data):
    file = tmp_path / "page.bin"
    file.write_bytes(data)
    for place in ([], ["--offset", "0"], ["--address", "0"]):
        assert "the 4096 bytes from 0x0 on are no ring: " in refused("inspect", file, *place)
    assert "a ring of 4096 bytes at 0x0 ends at 0x2000" in refused("inspect", file, "--data-size", "4K")


@pytest.mark.parametrize("seed", range(8))
def test_random_bytes_are_no_ring_and_shown_as_a_corrupt_one_on_request(tmp_path, seed):
    file = tmp_path / "noise.bin"
    file.write_bytes(Random(seed).randbytes(20480))
    err = refused("inspect", file)
    assert "no ring at 0x0: in is 0x" in err
    assert "--offset 0x0 shows it as one all the same" in err
    for form in ([], ["--hexdump", "--history"], ["--json", "--history"], ["--jsonl"]):
        ending = run("inspect", file, "--offset", 0, *form)
        assert ending.status == 1
        assert "corrupt" in ending.out
        assert "index-range" in ending.out


def test_a_text_file_is_no_ring():
    assert "bytes from 0x0 on are no ring: it is a control page of 4096 bytes" in refused("inspect", __file__)


@pytest.mark.parametrize(
    ("control", "said"),
    [
        ({"mask": 2}, "the interrupt mask is 0x2, and only 0 and 1 are written there"),
        ({"mask": 2**32 - 1}, "the interrupt mask is 0xffffffff, and only 0 and 1 are written there"),
        ({"out_offset": 4096}, "out is 0x1000, which is no multiple of 8 below 0x1000"),
        ({"out_offset": 4}, "out is 0x4, which is no multiple of 8 below 0x1000"),
        ({"out_offset": 2**32 - 8}, "out is 0xfffffff8, which is no multiple of 8 below 0x1000"),
    ],
)
def test_control_words_of_no_ring_are_refused_unless_somebody_says_that_it_is_one(tmp_path, control, said):
    file = tmp_path / "ring.bin"
    file.write_bytes(ring_with((6, bytes(8)), **control))
    assert f"no ring at 0x0: {said}" in refused("inspect", file)
    assert run("inspect", file, "--offset", 0).status == 1
    assert run("inspect", file, "--data-size", "4K").status == 1


# -- large files ----------------------------------------------------------------------------------

GIBIBYTE = 1 << 30


@pytest.fixture(scope="module")
def gibibyte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 1 GiB that is nothing but a hole; one for all tests, as reading it once takes longest."""
    file = tmp_path_factory.mktemp("sparse") / "hole.bin"
    with open(file, "wb") as stream:
        stream.truncate(GIBIBYTE)
    return file


def begin_with(file: Path, start: bytes) -> None:
    with open(file, "r+b") as stream:
        stream.write(start)


def test_a_sparse_gibibyte_of_zeros_is_no_ring(gibibyte):
    begin_with(gibibyte, bytes(20480))
    ending = run_process("inspect", str(gibibyte)).check()
    assert ending.status == 2
    assert f"{gibibyte}: no ring at 0x0: all bytes are zero; --offset 0x0 shows it" in ending.err


def test_a_large_sparse_file_with_a_ring_at_its_start_is_one_large_ring(tmp_path):
    size = GIBIBYTE // 8
    large = tmp_path / "large"
    large.write_bytes(Path(SOME_RING).read_bytes())
    os.truncate(large, size)
    ending = run_process("inspect", str(large)).check()
    assert ending.status == 0
    assert ending.out.startswith(f"ring at 0x0, {size - 4096} bytes of data\n")
    assert ending.out.endswith("\n22 packets, 0 findings\n")


def test_a_ring_in_a_sparse_gibibyte_is_shown_where_its_size_is_said(gibibyte):
    begin_with(gibibyte, Path(SOME_RING).read_bytes())
    ring = run("inspect", gibibyte, "--data-size", "16K", "--history", "--json").ring
    assert ring == run("inspect", SOME_RING, "--history", "--json").ring
    words = ["inspect", gibibyte, "--offset", "512M", "--data-size", "1M", "--json"]
    assert run(*words).ring["verdict"] == "never-opened"
