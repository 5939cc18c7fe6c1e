"""Giving devices to uio_hv_generic and back: what is written, and what is left when something goes wrong.

The tests run against the driver core of driver_core.py.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.uio.driver_core import SOCKET, UIO, DriverCore, failure
from vmbus.errors import CallerError, DeviceError
from vmbus.protocols import device_class
from vmbus.uio import NO_DRIVER, GuestDevice, bind, bind_plan, find_device, read_device, unbind, unbind_plan

#: Has a write of a certain number fail.
Trouble = Callable[[DriverCore, int], None]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links")

NIC = "11111111-0000-4000-8000-000000000001"
OTHER_NIC = "22222222-0000-4000-8000-000000000002"
UNKNOWN = "33333333-0000-4000-8000-000000000003"
UNKNOWN_CLASS = "44444444-0000-4000-8000-000000000004"
NETWORK_CLASS = str(device_class("network").class_id)


def guest(folder: Path, **kind: object) -> DriverCore:
    """A guest with two network cards, the second without a driver, and a device that nobody knows."""
    folder.mkdir(exist_ok=True)
    core = DriverCore(folder, **kind)
    core.add_device("network", NIC, 1, driver="hv_netvsc")
    core.add_device("network", OTHER_NIC, 2, driver=None)
    core.add_device("unknown", UNKNOWN, 3, driver=None, class_id=UNKNOWN_CLASS)
    core.say_that_nothing_is_in_use()
    return core


def bound_guest(folder: Path, **kind: object) -> DriverCore:
    """The same, where the first card is bound to uio_hv_generic, and not open."""
    core = guest(folder, **kind)
    bind(device(core), core)
    close(core)
    core.writes.clear()
    return core


def close(core: DriverCore) -> None:
    """What the tree says of a device that no program has open."""
    (core.tree.device_folder(NIC) / "channels/1/out_mask").unlink(missing_ok=True)


def device(core: DriverCore, instance: str = NIC) -> GuestDevice:
    found = read_device(instance, core)
    assert found is not None
    return found


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
    with pytest.raises(
        CallerError, match=f"network {NIC} may be in use: .*ipv6_route cannot be read; .*--force"
    ):
        bind(device(core), core)
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


def test_what_nobody_else_knows_is_left_without_a_driver_or_taken_again(tmp_path):
    core = guest(tmp_path)
    bind(device(core, UNKNOWN), core)
    assert unbind(device(core, UNKNOWN), core) is None
    core.added[UIO] = {UNKNOWN_CLASS}
    assert unbind(device(core, UNKNOWN), core) == UIO


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
    with pytest.raises(CallerError, match=r"is open: a program has /dev/uio0 .*--force"):
        unbind(device(core), core)
    assert core.writes == []
    assert unbind(device(core), core, force=True) == "hv_netvsc"


# -- when something goes wrong -------------------------------------------------------------------------


def set_override_before(core: DriverCore) -> None:
    core.write(f"sys/bus/vmbus/devices/{NIC}/driver_override", "hv_netvsc")


def bound_by_override(core: DriverCore) -> None:
    """The old driver has the device for its override alone, and the override is gone."""
    core.built_in["hv_netvsc"] = []


#: Name, what the guest is like, what happened to it before, and the call.
CHANGES = {
    "bind": (guest, {}, None, bind),
    "bind, with an override": (guest, {}, set_override_before, bind),
    "bind, from a driver without the id": (guest, {}, bound_by_override, bind),
    "bind, no driver": (guest, {}, None, lambda found, core: bind(device(core, OTHER_NIC), core)),
    "bind, no driver_override": (guest, {"override": False}, None, bind),
    "bind, neither": (
        guest,
        {"override": False},
        None,
        lambda found, core: bind(device(core, OTHER_NIC), core),
    ),
    "unbind": (bound_guest, {}, None, unbind),
    "unbind, a driver named": (
        bound_guest,
        {},
        None,
        lambda found, core: unbind(found, core, driver="hv_netvsc"),
    ),
    "unbind, no driver_override": (
        bound_guest,
        {"override": False},
        None,
        lambda found, core: unbind(found, core, remove_id=True),
    ),
    "unbind, no driver": (guest, {}, None, lambda found, core: unbind(device(core, OTHER_NIC), core)),
}


def refuse_at(core: DriverCore, number: int) -> None:
    def before_write(now: int) -> None:
        if now == number:
            raise failure(errno.EIO)

    core.before_write = before_write


def interrupt_after(core: DriverCore, number: int) -> None:
    def after_write(now: int) -> None:
        if now == number:
            signal.raise_signal(signal.SIGINT)

    core.after_write = after_write


def interrupt_twice(core: DriverCore, number: int) -> None:
    """The second time while it is undone."""

    def after_write(now: int) -> None:
        if now in (number, number + 1):
            signal.raise_signal(signal.SIGINT)

    core.after_write = after_write


def interrupt_at_once(core: DriverCore, number: int) -> None:
    """The same in a program with threads, in which no mask keeps it from coming at once."""

    def after_write(now: int) -> None:
        if now in (number, number + 1):
            raise KeyboardInterrupt

    core.after_write = after_write


TROUBLES = [
    (refuse_at, DeviceError),
    (interrupt_after, KeyboardInterrupt),
    (interrupt_twice, KeyboardInterrupt),
    (interrupt_at_once, KeyboardInterrupt),
]


@pytest.fixture(scope="module", autouse=True)
def interrupts():
    """Ctrl-C raises KeyboardInterrupt, also where whoever started the tests had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("make", "kind", "happened", "change"), CHANGES.values(), ids=CHANGES)
def test_whatever_write_fails_the_tree_is_afterwards_as_it_was(tmp_path, make, kind, happened, change):
    core = make(tmp_path, **kind)
    if happened is not None:
        happened(core)
    before = core.snapshot()
    for trouble, error in TROUBLES:
        number = 0
        while fails(core, lambda: change(device(core), core), trouble, number, error):
            assert core.snapshot() == before, (trouble.__name__, number)
            number += 1
        assert number == len(core.writes) >= 1
        restore(core, before)


def fails(core: DriverCore, change: Callable[[], object], trouble: Trouble, number: int, error: type) -> bool:
    """Whether there is such a write, and so the change has failed and says that all is well."""
    core.writes.clear()
    trouble(core, number)
    try:
        change()
    except error as caught:
        assert "all is as it was before" in str(caught)
        return True
    finally:
        core.before_write = core.after_write = lambda number: None
    return False


def restore(core: DriverCore, before: dict[str, str]) -> None:
    """Have the tree as it was then, by hand."""
    for instance in (NIC, OTHER_NIC, UNKNOWN):
        core.detach(instance)
        folder = core.tree.device_folder(instance)
        place = f"sys/bus/vmbus/devices/{instance}"
        link = before.get(f"{place}/driver")
        if link is not None:
            core.tree.set_driver(instance, os.path.basename(link))
        for name in before:
            if name.startswith(f"{place}/uio/"):
                Path(core.root, name).mkdir(parents=True)
        if core.override:
            (folder / "driver_override").write_text(before[f"{place}/driver_override"])
    core.added = {driver: set(before.get(f"{driver} ids", "").split()) for driver in core.built_in}
    assert core.snapshot() == before


@pytest.mark.parametrize(("trouble", "error"), TROUBLES[:2])
def test_a_class_that_was_known_before_stays_known(tmp_path, trouble, error):
    core = guest(tmp_path, override=False)
    core.added[UIO] = {NETWORK_CLASS}
    before = core.snapshot()
    number = 0
    while fails(core, lambda: bind(device(core), core), trouble, number, error):
        assert core.snapshot() == before, number
        number += 1
    assert number == 3


def test_a_refusal_names_the_write_and_its_errno(tmp_path):
    core = guest(tmp_path)
    core.probe_errors[UIO] = errno.ENOMEM
    with pytest.raises(DeviceError, match=rf"uio_hv_generic/bind: .*\(writing '{NIC}'\); all is") as caught:
        bind(device(core), core)
    assert caught.value.errno == errno.ENOMEM


def test_a_driver_whose_refusal_is_not_heard_of_is_noticed(tmp_path):
    core = guest(tmp_path)
    before = core.snapshot()
    core.bind = lambda driver, instance: None if driver == UIO else DriverCore.bind(core, driver, instance)
    with pytest.raises(DeviceError, match=r"uio_hv_generic has not taken .*; all is as it was before"):
        bind(device(core), core)
    assert core.snapshot() == before


def test_a_node_that_never_appears_has_everything_put_back(tmp_path):
    core = guest(tmp_path)
    before = core.snapshot()
    core.late = 1000
    with pytest.raises(DeviceError, match="no node has appeared in 0 s; all is as it was before"):
        bind(device(core), core, timeout=0)
    core.late = 0
    assert core.snapshot() == before


def test_a_module_that_cannot_be_loaded_leaves_the_device_alone(tmp_path):
    core = guest(tmp_path, module_loaded=False)
    before = core.snapshot()

    def load_module(name: str) -> None:
        raise DeviceError(None, f"modprobe {name}: not found")

    core.load_module = load_module
    with pytest.raises(DeviceError, match=r"modprobe uio_hv_generic: not found; all is as it was before$"):
        bind(device(core), core)
    core.load_module = lambda name: None
    with pytest.raises(DeviceError, match="is not there, although the module was loaded"):
        bind(device(core), core)
    assert core.snapshot() == before


def test_the_module_alone_stays_and_is_mentioned(tmp_path):
    core = guest(tmp_path, module_loaded=False)
    before = core.snapshot()
    core.probe_errors[UIO] = errno.ENODEV
    with pytest.raises(DeviceError, match="as it was before, but the module uio_hv_generic is loaded"):
        bind(device(core), core)
    after = {name: text for name, text in core.snapshot().items() if not name.startswith(f"{DRIVERS}/{UIO}")}
    assert after == before


DRIVERS = "sys/bus/vmbus/drivers"


def test_where_the_old_driver_does_not_take_it_back_the_rest_is_put_back_and_the_error_says_so(tmp_path):
    core = guest(tmp_path)
    before = core.snapshot()
    core.probe_errors = {UIO: errno.ENODEV, "hv_netvsc": errno.ENOMEM}
    with pytest.raises(DeviceError, match=r"not all could be put back: .*hv_netvsc/bind: ") as caught:
        bind(device(core), core)
    assert "all is as it was" not in str(caught.value)
    assert caught.value.errno == errno.ENODEV
    del before[f"sys/bus/vmbus/devices/{NIC}/driver"]
    assert core.snapshot() == before


def test_a_device_that_somebody_else_has_taken_meanwhile_stays_there(tmp_path):
    core = guest(tmp_path)

    def before_write(number: int) -> None:
        if core.writes[number][0].endswith(f"{UIO}/bind"):
            core.tree.set_driver(NIC, "hv_storvsc")
            raise failure(errno.EBUSY)

    core.before_write = before_write
    with pytest.raises(DeviceError, match=f"not all could be put back: hv_storvsc has taken {NIC} meanwhile"):
        bind(device(core), core)
    assert core.driver_of(NIC) == "hv_storvsc"
    assert core.override_of(NIC) == "(null)"


def test_a_device_that_vanishes_in_the_middle_is_an_error_and_no_hang(tmp_path):
    core = guest(tmp_path)

    def after_write(number: int) -> None:
        if number == 1:
            core.tree.device_folder(NIC).rename(tmp_path / "gone")

    core.after_write = after_write
    with pytest.raises(DeviceError, match="not all could be put back") as caught:
        bind(device(core), core)
    assert caught.value.errno == errno.ENODEV


def test_ctrl_c_takes_along_what_could_not_be_put_back(tmp_path):
    core = guest(tmp_path)
    core.probe_errors["hv_netvsc"] = errno.ENOMEM
    interrupt_after(core, 1)
    with pytest.raises(KeyboardInterrupt, match=r"not all could be put back: .*hv_netvsc/bind"):
        bind(device(core), core)


def test_an_exit_that_a_signal_asks_for_keeps_its_status(tmp_path):
    core = guest(tmp_path)
    before = core.snapshot()

    def after_write(number: int) -> None:
        if number == 1:
            raise SystemExit(143)

    core.after_write = after_write
    with pytest.raises(SystemExit) as caught:
        bind(device(core), core)
    assert caught.value.code == 143 and "all is as it was" in caught.value.args[0]
    assert core.snapshot() == before


# -- any order of all that -----------------------------------------------------------------------------


CALLS = st.tuples(
    st.sampled_from([NIC, OTHER_NIC, UNKNOWN]),
    st.sampled_from(["bind", "unbind", "unbind to hv_netvsc", "leave without"]),
    st.sampled_from([None, refuse_at, interrupt_after]),
    st.integers(0, 4),
)


@pytest.fixture(scope="module")
def cores(tmp_path_factory):
    """Guests of both ages, each with what it was like at first."""
    made = [guest(tmp_path_factory.mktemp("any-order"), override=override) for override in (False, True)]
    return [(core, core.snapshot()) for core in made]


def without_numbers(snapshot: dict[str, str]) -> dict[str, str]:
    return {re.sub(r"/uio/uio[0-9]+$", "/uio/uioN", name): text for name, text in snapshot.items()}


@settings(max_examples=40, deadline=None)
@given(override=st.booleans(), calls=st.lists(CALLS, min_size=2, max_size=6))
def test_in_any_order_a_device_is_with_the_driver_asked_for_or_where_it_was(cores, override, calls):
    core, at_first = cores[override]
    restore(core, at_first)
    for instance, name, trouble, at in calls:
        core.writes.clear()
        core.before_write = core.after_write = lambda number: None
        if trouble is not None:
            trouble(core, at)
        before = core.snapshot()
        others = {one: core.driver_of(one) for one in (NIC, OTHER_NIC, UNKNOWN) if one != instance}
        found = find_device(instance, core)
        try:
            if name == "bind":
                assert bind(found, core).startswith("uio")
                assert core.driver_of(instance) == UIO
            else:
                asked = {"unbind to hv_netvsc": "hv_netvsc", "leave without": NO_DRIVER}.get(name)
                now = unbind(found, core, driver=asked, remove_id=True, force=True)
                assert now == core.driver_of(instance) != UIO
                if asked is not None and found.driver in (None, UIO):
                    assert now == (None if asked == NO_DRIVER else asked)
        except (DeviceError, KeyboardInterrupt, CallerError) as caught:
            lost = str(caught).partition("not all could be put back")[2]
            if lost:
                # Either a write of the undoing itself was refused; or, without driver_override, nothing binds a
                # device again by an id that was removed meanwhile.
                unknown = str(found.class_id) not in before.get(f"{UIO} ids", "")
                assert os.strerror(errno.EIO) in lost or (not override and found.driver == UIO and unknown)
                restore(core, before)
            # A device that comes back to uio_hv_generic gets the lowest number that is free then.
            assert without_numbers(core.snapshot()) == without_numbers(before)
        assert {one: core.driver_of(one) for one in others} == others
