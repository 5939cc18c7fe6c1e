"""The files of a system below a root: what is missing or odd is None, and a refused change says why."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import subprocess

import pytest

from vmbus.errors import DeviceError
from vmbus.uio import System, SystemNode, system_at
from vmbus.uio.system import LONGEST_LIST

posix_only = pytest.mark.skipif(os.name != "posix", reason="needs links and pipes")
pytestmark = posix_only


@pytest.fixture
def system(tmp_path) -> System:
    return System(tmp_path)


def pipe(path) -> None:
    os.mkfifo(path)


def socket_file(path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)  # the whole path may be longer than a socket's can be
        before = os.open(".", os.O_RDONLY)
        try:
            os.fchdir(here)
            listener.bind(path.name)
        finally:
            os.fchdir(before)
            os.close(here)
            os.close(before)


#: What may stand where an attribute is looked for, and is none.
ODD_THINGS = {
    "nothing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a pipe that nobody writes to": pipe,
    "a socket": socket_file,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("odd", ODD_THINGS)
def test_what_is_no_attribute_says_nothing(system, tmp_path, odd):
    ODD_THINGS[odd](tmp_path / "attribute")
    assert system.text("attribute") is None
    assert system.whole_text("attribute") is None
    assert system.number("attribute") is None
    assert system.file_size("attribute") is None
    assert system.names("attribute") == []


def test_a_pipe_in_the_place_of_an_attribute_is_not_opened(system, tmp_path):
    """Whoever waits for a reader would take the look for one."""
    pipe(tmp_path / "attribute")
    system.text("attribute")
    with pytest.raises(OSError) as refused:
        os.open(tmp_path / "attribute", os.O_WRONLY | os.O_NONBLOCK)
    assert refused.value.errno == errno.ENXIO


def test_a_long_list_is_read_to_its_end_and_one_that_is_too_long_not_at_all(system, tmp_path):
    (tmp_path / "mountinfo").write_text("line\n" * 20_000)
    assert system.whole_text("mountinfo") == "line\n" * 20_000
    os.truncate(tmp_path / "mountinfo", LONGEST_LIST + 1)
    assert system.whole_text("mountinfo") is None


def test_an_attribute_that_refuses_to_be_read_says_nothing(system, tmp_path, monkeypatch):
    """As out_mask does of a channel that is not open, with EINVAL."""
    (tmp_path / "out_mask").write_text("0\n")

    def refuse(descriptor, length):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "read", refuse)
    assert system.text("out_mask") is None


@pytest.mark.parametrize("place", ["a\0b", "a" * 5000], ids=["a zero in it", "too long"])
def test_a_name_that_no_file_can_have_names_nothing(system, place):
    assert system.text(place) is None
    assert system.file_size(place) is None
    assert system.link_name(place) is None
    assert system.names(place) == []
    assert not system.exists(place)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{abc}\n", "{abc}"),
        (b"", ""),
        (b" \n", ""),
        (b"14:0\n15:1\n", "14:0\n15:1"),
        (b"\xff\n", "\N{REPLACEMENT CHARACTER}"),
        (b"x" * 100_000, "x" * 65536),
    ],
    ids=["a line", "empty", "blank", "two lines", "not UTF-8", "huge"],
)
def test_an_attribute_says_its_text_without_blanks_around_it(system, tmp_path, content, text):
    (tmp_path / "attribute").write_bytes(content)
    assert system.text("attribute") == text


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0\n", 0),
        ("4294967295\n", 2**32 - 1),
        ("-2147483648\n", -(2**31)),
        ("0x1414\n", 0x1414),
        ("0X1f", 0x1F),
        ("007", 7),
        ("18446744073709551615", 2**64 - 1),
        ("", None),
        ("-", None),
        ("0x", None),
        ("0x1g", None),
        ("1 2", None),
        ("1_000", None),
        ("+1", None),
        ("1.0", None),
        ("\N{ARABIC-INDIC DIGIT THREE}", None),
        ("9" * 5000, None),
        ("(null)", None),
    ],
)
def test_only_one_plain_number_is_a_number(system, tmp_path, text, number):
    (tmp_path / "attribute").write_text(text, encoding="utf-8")
    assert system.number("attribute") == number


def test_the_names_in_a_folder_are_sorted(system, tmp_path):
    for name in ("b", "a", "10", "9"):
        (tmp_path / name).mkdir()
    assert system.names("") == ["10", "9", "a", "b"]


def test_the_size_of_a_file_is_known_without_reading_it(system, tmp_path):
    (tmp_path / "ring").write_bytes(bytes(12345))
    assert system.file_size("ring") == 12345


@pytest.mark.parametrize("target", ["../../drivers/hv_netvsc", "/gone/hv_netvsc", "hv_netvsc/"])
def test_the_name_of_a_link_is_that_of_what_it_points_to(system, tmp_path, target):
    (tmp_path / "driver").symlink_to(target)
    assert system.link_name("driver") == "hv_netvsc"


def test_what_is_no_link_has_no_name(system, tmp_path):
    (tmp_path / "driver").mkdir()
    assert system.link_name("driver") is None
    assert system.link_name("gone") is None


def test_a_place_is_real_where_links_lead_to(system, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "here").symlink_to("there")
    assert system.real_path("here") == os.path.realpath(tmp_path / "there")


# -- what is changed -------------------------------------------------------------------------------


def test_a_write_is_what_the_attribute_gets(system, tmp_path):
    (tmp_path / "unbind").touch()
    system.write("unbind", "one")
    assert (tmp_path / "unbind").read_text() == "one"


def test_a_write_makes_no_attribute_that_is_not_there(system, tmp_path):
    with pytest.raises(DeviceError, match=r"new_id: .* \(writing 'text'\)") as refused:
        system.write("new_id", "text")
    assert refused.value.errno == errno.ENOENT
    assert not (tmp_path / "new_id").exists()


@pytest.mark.parametrize(
    ("odd", "number"), [("a folder", errno.EISDIR), ("a pipe that nobody writes to", errno.ENXIO)]
)
def test_a_write_to_what_is_no_attribute_is_refused_at_once(system, tmp_path, odd, number):
    ODD_THINGS[odd](tmp_path / "bind")
    with pytest.raises(DeviceError) as refused:
        system.write("bind", "text")
    assert refused.value.errno == number


@pytest.mark.parametrize(
    ("ending", "message"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file or directory"), "No such file"),
        (subprocess.TimeoutExpired("modprobe", 60), "no answer within"),
        (subprocess.CompletedProcess([], 1, "", "FATAL: Module not found.\n"), "FATAL: Module not found."),
        (subprocess.CompletedProcess([], 1, "", ""), "refused"),
    ],
    ids=["no modprobe", "hangs", "says why", "says nothing"],
)
def test_a_module_that_cannot_be_loaded_is_the_systems_refusal(system, monkeypatch, ending, message):
    def run(command, **options):
        assert command == ["modprobe", "uio_hv_generic"]
        if isinstance(ending, Exception):
            raise ending
        return ending

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DeviceError, match=f"modprobe uio_hv_generic: .*{message}"):
        system.load_module("uio_hv_generic")


def test_a_module_that_was_loaded_is_well(system, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0, "", ""))
    system.load_module("uio_hv_generic")


def test_a_file_is_mapped_shared(system, tmp_path):
    (tmp_path / "ring").write_bytes(bytes(8192))
    with system.map_file("ring", 8192, writable=True) as mapped:
        mapped[4096] = 7
        assert (tmp_path / "ring").read_bytes()[4096] == 7


def test_nothing_can_be_stored_in_a_map_for_reading(system, tmp_path):
    (tmp_path / "ring").write_bytes(bytes(4096))
    with system.map_file("ring", 4096, writable=False) as mapped, pytest.raises(TypeError):
        mapped[0] = 1


def test_a_file_that_is_not_there_or_too_short_cannot_be_mapped(system, tmp_path):
    with pytest.raises(DeviceError) as refused:
        system.map_file("ring", 4096, writable=False)
    assert refused.value.errno == errno.ENOENT
    (tmp_path / "ring").write_bytes(bytes(4096))
    with pytest.raises(DeviceError, match="8192 bytes"):
        system.map_file("ring", 8192, writable=False)


def test_a_node_is_looked_for_below_the_root(system, tmp_path):
    with pytest.raises(DeviceError, match=str(tmp_path / "dev/uio0")):
        system.open_node("uio0", writable=False)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/uio0").write_bytes(bytes(4096))
    node = system.open_node("uio0", writable=False)
    assert isinstance(node, SystemNode)
    assert node.path == str(tmp_path / "dev/uio0")
    node.close()


# -- which system ----------------------------------------------------------------------------------


def test_a_root_gives_a_system_and_a_system_itself(system, tmp_path):
    assert system_at(system) is system
    assert system_at(tmp_path).path("sys") == system_at(str(tmp_path)).path("sys") == str(tmp_path / "sys")
    assert system_at("/").path("sys/bus") == "/sys/bus"
    assert system.page_size == mmap.PAGESIZE


@pytest.mark.parametrize(("root", "is_this"), [("/", True), ("/.", True), ("/..", True), ("/tmp", False)])
def test_only_the_root_itself_is_this_machine(root, is_this):
    assert System(root).is_this_machine is is_this
