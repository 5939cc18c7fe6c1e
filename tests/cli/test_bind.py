"""`vmbus bind` and `vmbus unbind`: what they print, what they refuse, and how they end.

What happens to the drivers is held by tests/uio/test_binding.py.  Nobody needs to be root, or may not be it.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest

from tests.cli.running import run
from tests.uio.driver_core import UIO, DriverCore
from vmbus.cli.main import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links")

NIC = "11111111-0000-4000-8000-000000000001"
FILE_COPY = "22222222-0000-4000-8000-000000000002"
NIC_PLACE = f"sys/bus/vmbus/devices/{NIC}"

#: How a refusal ends that an option would change.
BY_FORCE = "; it is left where it is: --force takes it all the same"


class Machine:
    """A guest that the commands take for this machine."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, override: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.core = DriverCore(folder, override=override)
        self.core.add_device("network", NIC, 14, driver="hv_netvsc")
        self.core.add_device("file-copy", FILE_COPY, 15, driver=None)
        self.core.say_that_nothing_is_in_use()
        for command in ("bind", "unbind"):
            monkeypatch.setattr(f"vmbus.cli.{command}_command.System", lambda root: self.core)
        self.become(0, monkeypatch)

    @staticmethod
    def become(user: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)

    def lines(self, *words: str, status: int = 0) -> list[str]:
        ending = run(*words)
        assert ending.status == status, ending
        return ending.out.splitlines()

    def refusal(self, *words: str) -> str:
        """What is said of a command line that may not change anything."""
        before = len(self.core.writes)
        ending = run(*words)
        assert ending.status == 2
        assert len(self.core.writes) == before
        return ending.err

    def close(self) -> None:
        """No program has the card open."""
        (Path(self.core.root) / NIC_PLACE / "channels/14/out_mask").unlink()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    return Machine(tmp_path, monkeypatch)


def carry_the_default_route(machine: Machine) -> None:
    root = Path(machine.core.root)
    (root / NIC_PLACE / "net/eth0").mkdir(parents=True)
    (root / "sys/class/net").mkdir()
    (root / "sys/class/net/eth0").symlink_to(f"../../../{NIC_PLACE}/net/eth0")
    with (root / "proc/net/route").open("a") as routes:
        routes.write("eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")


def test_it_says_who_has_the_device_and_which_node_it_has(machine):
    assert machine.lines("bind", "network") == [
        f"network {NIC}: uio_hv_generic has it, as /dev/uio0; hv_netvsc had it before"
    ]
    assert machine.core.driver_of(NIC) == UIO
    assert machine.lines("bind", "15") == [
        f"file-copy {FILE_COPY}: uio_hv_generic has it, as /dev/uio1; no driver had it"
    ]
    machine.close()
    assert machine.lines("unbind", "uio0") == [f"network {NIC}: hv_netvsc has it now"]
    assert machine.lines("unbind", "/dev/uio1", "--driver", "none") == [
        f"file-copy {FILE_COPY}: no driver has it now"
    ]


def test_without_driver_override_it_says_what_else_has_changed(tmp_path, monkeypatch):
    machine = Machine(tmp_path, monkeypatch, override=False)
    says = machine.lines("bind", "network")
    assert len(says) == 2 and says[1].endswith(f"until `vmbus unbind {NIC} --remove-id`")
    machine.close()
    assert machine.lines("unbind", NIC, "--remove-id") == [f"network {NIC}: hv_netvsc has it now"]
    assert machine.core.added[UIO] == set()


def test_a_device_that_is_bound_already_is_done_and_needs_no_rights(machine, monkeypatch):
    machine.lines("bind", NIC)
    machine.become(1000, monkeypatch)
    writes = len(machine.core.writes)
    assert machine.lines("bind", NIC) == [f"network {NIC}: uio_hv_generic has it already, as /dev/uio0"]
    assert machine.lines("bind", NIC, "--dry-run") == [f"# network {NIC}: uio_hv_generic has it already"]
    assert len(machine.core.writes) == writes


def test_a_device_that_another_driver_has_needs_no_unbinding(machine, monkeypatch):
    machine.become(1000, monkeypatch)
    says = [f"network {NIC}: hv_netvsc has it: there is nothing to take back"]
    assert machine.lines("unbind", NIC) == says
    assert machine.lines("unbind", NIC, "--dry-run") == [f"# {says[0]}"]


def test_a_driver_that_takes_it_again_is_an_error_that_says_what_would_keep_it_from_that(machine):
    machine.lines("bind", "file-copy")
    machine.core.built_in[UIO] = ["file-copy"]
    before = machine.core.snapshot()
    ending = run("unbind", "file-copy", "--force")
    assert ending.status == 2 and ending.out == ""
    assert f"uio_hv_generic has taken {FILE_COPY} again" in ending.err
    assert f"`vmbus unbind {FILE_COPY} --remove-id`" in ending.err
    assert ending.err.endswith("; all is as it was before\n")
    assert machine.core.snapshot() == before


@pytest.mark.parametrize("command", ["bind", "unbind"])
def test_a_dry_run_prints_lines_of_shell_changes_nothing_and_needs_no_rights(machine, monkeypatch, command):
    if command == "unbind":
        machine.lines("bind", NIC)
        machine.close()
    machine.become(1000, monkeypatch)
    before = machine.core.snapshot()
    lines = machine.lines(command, NIC, "--dry-run")
    assert machine.core.snapshot() == before
    assert len(lines) >= 3
    assert all(line.startswith(("echo ", "# ")) for line in lines)
    assert f"echo -n {NIC} > /sys/bus/vmbus/drivers/{UIO}/{command}" in lines


def test_a_dry_run_prints_nothing_for_a_shell_where_the_command_refuses_but_the_same_error(machine):
    carry_the_default_route(machine)
    for command, why in (
        ("bind", "carries the default route (IPv4 through eth0); "),
        ("unbind", "is open: "),
    ):
        ending = run(command, NIC, "--dry-run")
        assert (ending.status, ending.out) == (2, "")
        assert ending.err == run(command, NIC).err
        assert ending.err.startswith(f"vmbus: network {NIC} {why}") and ending.err.endswith(f"{BY_FORCE}\n")
        lines = machine.lines(command, NIC, "--dry-run", "--force")
        assert f"echo -n {NIC} > /sys/bus/vmbus/drivers/{UIO}/{command}" in lines
        machine.lines(command, NIC, "--force")


def test_a_dry_run_looks_at_a_copy_and_nothing_else_does(tmp_path):
    core = DriverCore(tmp_path)
    core.add_device("network", NIC, 14, driver="hv_netvsc")
    core.say_that_nothing_is_in_use()
    before = core.snapshot()
    for command in ("bind", "unbind"):
        ending = run(command, NIC, "--root", core.root)
        assert ending.status == 2 and "is a copy" in ending.err
        assert run(command, NIC, "--root", core.root, "--dry-run").status == 0
    assert core.snapshot() == before


def test_those_who_are_not_root_are_told_before_anything_is_written(machine, monkeypatch):
    machine.lines("bind", NIC)
    machine.close()
    machine.become(1000, monkeypatch)
    assert "`sudo vmbus bind ...`" in machine.refusal("bind", FILE_COPY)
    assert "`sudo vmbus unbind ...`" in machine.refusal("unbind", NIC)


def test_a_device_that_the_system_needs_is_refused_by_what_it_is_for_unless_forced(machine):
    carry_the_default_route(machine)
    said = machine.refusal("bind", NIC)
    assert f"network {NIC} carries the default route (IPv4 through eth0){BY_FORCE}\n" in said
    assert machine.lines("bind", NIC, "--force")
    said = machine.refusal("unbind", NIC)
    assert "a program has /dev/uio0" in said and said.endswith(f"{BY_FORCE}\n")
    assert machine.lines("unbind", NIC, "--force") == [f"network {NIC}: hv_netvsc has it now"]


def test_what_is_in_use_only_when_it_is_taken_is_refused_by_the_option_too(machine, monkeypatch):
    monkeypatch.setattr("vmbus.cli.bind_command.refuse_in_use", lambda device, system: None)
    carry_the_default_route(machine)
    assert machine.refusal("bind", NIC).endswith(f"{BY_FORCE}\n")


def test_a_socket_is_refused_with_what_opens_it(machine):
    socket = "33333333-0000-4000-8000-000000000003"
    machine.core.add_device("hvsock", socket, 16, driver="hv_sock")
    assert "AF_VSOCK" in machine.refusal("bind", socket)
    assert "AF_VSOCK" in machine.refusal("unbind", socket)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bind"], "required: DEVICE"),
        (["bind", " "], "DEVICE is empty: which device?"),
        (["bind", NIC, FILE_COPY], f"unrecognized arguments: {FILE_COPY}"),
        (["bind", "scsi"], "no device scsi; there are file-copy, network"),
        (["bind", NIC, "--timeout", "soon"], "soon: seconds, from 0 to 3600"),
        (["bind", NIC, "--timeout", "nan"], "nan: seconds"),
        (["bind", NIC, "--timeout", "-1"], "seconds"),
        (["unbind", NIC, "--driver", "hv_balloon"], "is bound to hv_netvsc, from which it is not taken"),
        (["unbind", FILE_COPY, "--driver", "hv_fcopy"], "no driver hv_fcopy; there are "),
    ],
)
def test_a_command_line_that_cannot_be_done_is_one_line_and_status_2(machine, words, says):
    assert says in machine.refusal(*words)


def test_a_refusal_of_the_system_says_that_all_is_as_it_was(machine):
    before = machine.core.snapshot()
    machine.core.probe_errors[UIO] = errno.ENOMEM
    ending = run("bind", NIC)
    assert ending.status == 2
    assert "uio_hv_generic/bind: " in ending.err and "all is as it was before" in ending.err
    assert machine.core.snapshot() == before


def test_a_node_is_waited_for_as_long_as_was_said(machine):
    machine.core.late = 1000
    ending = run("bind", NIC, "--timeout", "0")
    assert ending.status == 2 and "no node has appeared after 0 s; all is as it was before" in ending.err


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_in_the_middle_has_all_put_back_and_says_so(machine, capsys, name, status):
    number = getattr(signal, name)
    before = machine.core.snapshot()
    machine.core.after_write = lambda write: signal.raise_signal(number) if write == 1 else None
    # Whoever started the tests may have had it ignored.
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    ignored = signal.signal(number, usual)
    try:
        assert main(["bind", NIC]) == status
    finally:
        signal.signal(number, ignored)
    assert capsys.readouterr().err == "vmbus: interrupted; all is as it was before\n"
    assert machine.core.snapshot() == before


def test_the_help_has_examples(capsys):
    for command in ("bind", "unbind"):
        assert main([command, "--help"]) == 0
        assert f"sudo vmbus {command} " in capsys.readouterr().out
