"""Giving devices to uio_hv_generic and back: what is written, and who has the device then.

What is left when something goes wrong is in test_binding_undo.py.  The tests run against the driver core of
driver_core.py.
"""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.uio.binding_guest import (
    NETWORK_CLASS,
    NIC,
    OTHER_NIC,
    UNKNOWN,
    UNKNOWN_CLASS,
    bound_guest,
    close,
    device,
    guest,
)
from tests.uio.driver_core import SOCKET, UIO
from vmbus.errors import CallerError, DeviceError
from vmbus.uio import NO_DRIVER, bind, bind_plan, unbind, unbind_plan

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links")


# -- the plan ----------------------------------------------------------------------------------------


def test_the_plan_is_the_documented_procedure_a_line_of_shell_a_step(tmp_path):
    core = guest(tmp_path, module_loaded=False)
    assert [str(step) for step in bind_plan(device(core), core)] == [
        "modprobe uio_hv_generic",
        f"echo -n uio_hv_generic > /sys/bus/vmbus/devices/{NIC}/driver_override",
        f"echo -n {NIC} > /sys/bus/vmbus/drivers/hv_netvsc/unbind",
        f"echo -n {NIC} > /sys/bus/vmbus/drivers/uio_hv_generic/bind",
        f"# /sys/bus/vmbus/devices/{NIC}/uio appears, and in it the node",
    ]
    assert core.writes == [] and core.modules_asked_for == []


def test_without_driver_override_the_plan_names_the_class_without_braces_and_lets_go_of_the_others(tmp_path):
    core = guest(tmp_path, override=False)
    assert [str(step) for step in bind_plan(device(core), core)][:-1] == [
        f"echo -n {NETWORK_CLASS} > /sys/bus/vmbus/drivers/uio_hv_generic/new_id",
        f"echo -n {OTHER_NIC} > /sys/bus/vmbus/drivers/uio_hv_generic/unbind",
        f"echo -n {UNKNOWN} > /sys/bus/vmbus/drivers/uio_hv_generic/unbind",
        f"echo -n {NIC} > /sys/bus/vmbus/drivers/hv_netvsc/unbind",
        f"echo -n {NIC} > /sys/bus/vmbus/drivers/uio_hv_generic/bind",
    ]


def test_the_plan_back_clears_the_override_and_has_the_bus_look_for_a_driver(tmp_path):
    core = bound_guest(tmp_path)
    assert [str(step) for step in unbind_plan(device(core), core)] == [
        f"echo > /sys/bus/vmbus/devices/{NIC}/driver_override",
        f"echo -n {NIC} > /sys/bus/vmbus/drivers/uio_hv_generic/unbind",
        f"echo -n {NIC} > /sys/bus/vmbus/drivers_probe",
    ]


def test_the_lines_of_a_plan_write_in_a_shell_what_the_plan_writes(tmp_path):
    core = guest(tmp_path / "guest")
    plan = [*bind_plan(device(core), core), *unbind_plan(device(bound_guest(tmp_path / "bound")), core.root)]
    bind(device(core), core)
    close(core)
    unbind(device(core), core)
    shell = tmp_path / "shell"
    for number, line in enumerate(step for step in map(str, plan) if not step.startswith("#")):
        path = shell / line.split(" > ")[1].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        moved = line.replace(" > /", f" > '{shell}'/")
        subprocess.run(["sh", "-c", moved], check=True, timeout=30)
        place, text = core.writes[number]
        assert path == shell / place
        assert path.read_text() == text


def test_names_from_sysfs_are_quoted_for_the_shell(tmp_path):
    core = guest(tmp_path)
    core.register("a driver; reboot")
    core.tree.set_driver(NIC, "a driver; reboot")
    lines = [str(step) for step in bind_plan(device(core), core)]
    assert f"echo -n {NIC} > '/sys/bus/vmbus/drivers/a driver; reboot/unbind'" in lines


# -- binding -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("override", [True, False])
@pytest.mark.parametrize("busy", [errno.EBUSY, errno.ENODEV])
@pytest.mark.parametrize("instance", [NIC, OTHER_NIC, UNKNOWN])
def test_a_bound_device_has_a_node_and_no_other_device_has_changed(tmp_path, instance, override, busy):
    core = guest(tmp_path, override=override, busy=busy)
    others = {one: core.driver_of(one) for one in (NIC, OTHER_NIC, UNKNOWN) if one != instance}
    assert bind(device(core, instance), core) == "uio0"
    assert core.driver_of(instance) == UIO
    assert {one: core.driver_of(one) for one in others} == others
    assert core.override_of(instance) == (UIO if override else None)


def test_a_node_that_appears_late_is_waited_for(tmp_path):
    core = guest(tmp_path)
    core.late = 3
    assert bind(device(core), core, timeout=30) == "uio0"
    assert core.late == 0


def test_a_device_that_is_bound_already_is_left_alone(tmp_path):
    core = bound_guest(tmp_path)
    before = core.snapshot()
    assert bind_plan(device(core), core) == []
    assert bind(device(core), core) == "uio0"
    assert core.snapshot() == before and core.writes == []


def test_a_class_that_the_driver_was_told_to_take_before_is_no_error(tmp_path):
    core = guest(tmp_path, override=False)
    core.added[UIO] = {NETWORK_CLASS}
    assert bind(device(core), core) == "uio0"


def test_a_missing_module_is_loaded_and_only_then(tmp_path):
    core = guest(tmp_path / "without", module_loaded=False)
    assert bind(device(core), core) == "uio0"
    assert core.modules_asked_for == [UIO]
    core = guest(tmp_path / "with")
    bind(device(core), core)
    assert core.modules_asked_for == []


@pytest.mark.parametrize("driver", [None, SOCKET])
def test_a_hyper_v_socket_is_refused_with_what_opens_it(tmp_path, driver):
    core = guest(tmp_path)
    socket = "55555555-0000-4000-8000-000000000005"
    if driver is None:
        core.add_device("hvsock", socket, 9, driver=driver)
    else:  # a service that has a GUID of its own
        core.add_device("unknown", socket, 9, driver=driver, class_id=UNKNOWN_CLASS)
    for refused in (bind_plan, bind, unbind_plan, unbind):
        with pytest.raises(CallerError, match="AF_VSOCK"):
            refused(device(core, socket), core)
    assert core.writes == []


def test_a_device_that_the_system_needs_is_refused_unless_forced(tmp_path):
    core = guest(tmp_path)
    Path(core.root, "proc/net/ipv6_route").write_text("what is this\n")
    message = (
        f"network {NIC} may be in use: .*ipv6_route cannot be read; .*: force=True takes it all the same"
    )
    with pytest.raises(CallerError, match=message) as caught:
        bind(device(core), core)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("force", False, True)
    assert core.writes == []
    assert bind(device(core), core, force=True) == "uio0"


def test_a_device_that_is_gone_is_said_to_be_gone(tmp_path):
    core = guest(tmp_path)
    found = device(core)
    core.tree.device_folder(NIC).rename(tmp_path / "gone")
    for call in (bind_plan, bind, unbind_plan, unbind):
        with pytest.raises(DeviceError, match=f"{NIC} is gone"):
            call(found, core)


# -- giving it back ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "gets"), [(None, "hv_netvsc"), ("hv_netvsc", "hv_netvsc"), (NO_DRIVER, None)]
)
def test_a_device_goes_back_to_the_driver_that_knows_it_or_that_is_named(tmp_path, asked, gets):
    core = bound_guest(tmp_path)
    assert unbind(device(core), core, driver=asked) == gets
    assert core.driver_of(NIC) == gets
    assert core.override_of(NIC) == "(null)"


def test_bind_and_unbind_leave_the_tree_as_it_was(tmp_path):
    core = guest(tmp_path)
    before = core.snapshot()
    bind(device(core), core)
    unbind(device(core), core, force=True)
    assert core.snapshot() == before


def test_a_class_goes_back_too_where_that_is_asked_for(tmp_path):
    core = bound_guest(tmp_path, override=False)
    assert core.added[UIO] == {NETWORK_CLASS}
    assert unbind(device(core), core, remove_id=True) == "hv_netvsc"
    assert core.added[UIO] == set()
    assert unbind(device(core), core, remove_id=True) == "hv_netvsc"  # again: it has no such id


def test_what_nobody_else_knows_is_left_without_a_driver(tmp_path):
    core = guest(tmp_path)
    bind(device(core, UNKNOWN), core)
    assert unbind(device(core, UNKNOWN), core) is None


def test_what_uio_hv_generic_takes_again_is_an_error_that_names_it(tmp_path):
    core = guest(tmp_path)
    bind(device(core, UNKNOWN), core)
    core.added[UIO] = {UNKNOWN_CLASS}
    before = core.snapshot()
    message = f"uio_hv_generic has taken {UNKNOWN} again, as it knows its class: .*; all is as it was before"
    with pytest.raises(DeviceError, match=message) as caught:
        unbind(device(core, UNKNOWN), core)
    assert caught.value.errno == errno.EBUSY
    assert core.snapshot() == before
    assert unbind(device(core, UNKNOWN), core, remove_id=True) is None


@pytest.mark.parametrize("asked", [None, "hv_netvsc", NO_DRIVER])
def test_a_driver_that_does_not_let_go_is_an_error_that_names_it(tmp_path, asked):
    core = bound_guest(tmp_path)
    before = core.snapshot()
    core.detach = lambda instance: None
    with pytest.raises(DeviceError, match=f"uio_hv_generic still has {NIC}; all is as it was before"):
        unbind(device(core), core, driver=asked)
    assert core.snapshot() == before


def test_an_override_that_names_another_driver_is_left_alone(tmp_path):
    core = bound_guest(tmp_path)
    core.write(f"sys/bus/vmbus/devices/{NIC}/driver_override", "hv_netvsc")
    assert unbind(device(core), core) == "hv_netvsc"
    assert core.override_of(NIC) == "hv_netvsc"


def test_a_device_that_another_driver_has_is_left_alone(tmp_path):
    core = guest(tmp_path)
    assert unbind_plan(device(core), core) == []
    assert unbind(device(core), core, driver="hv_netvsc") == "hv_netvsc"
    with pytest.raises(CallerError, match="bound to hv_netvsc, from which it is not taken"):
        unbind(device(core), core, driver="hv_storvsc")
    assert core.writes == []


@pytest.mark.parametrize(
    ("driver", "error", "says"),
    [
        ("hv_pci", DeviceError, "no driver hv_pci; there are hv_netvsc, "),
        ("../../../x", DeviceError, "no driver "),
        (UIO, CallerError, "that the device is taken from"),
    ],
)
def test_a_driver_that_cannot_get_it_is_refused_before_anything_is_written(tmp_path, driver, error, says):
    core = bound_guest(tmp_path)
    with pytest.raises(error, match=says):
        unbind(device(core), core, driver=driver)
    assert core.writes == []


def test_a_driver_that_does_not_know_the_device_leaves_it_where_it_was(tmp_path):
    core = bound_guest(tmp_path)
    before = core.snapshot()
    with pytest.raises(DeviceError, match=r"hv_storvsc/bind: .*all is as it was before") as caught:
        unbind(device(core), core, driver="hv_storvsc")
    assert caught.value.errno == errno.ENODEV
    assert core.snapshot() == before


def test_a_device_that_a_program_holds_open_is_refused_unless_forced(tmp_path):
    core = guest(tmp_path)
    bind(device(core), core)
    core.writes.clear()
    message = r"is open: a program has /dev/uio0 .*: force=True takes it all the same"
    with pytest.raises(CallerError, match=message) as caught:
        unbind(device(core), core)
    assert (caught.value.argument, caught.value.value, caught.value.limit) == ("force", False, True)
    assert core.writes == []
    assert unbind(device(core), core, force=True) == "hv_netvsc"
