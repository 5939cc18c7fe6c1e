"""When something goes wrong while a device changes its driver: what is left of it, and what is said.

The tests run against the driver core of driver_core.py.
"""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.uio.binding_guest import (
    NETWORK_CLASS,
    NIC,
    OTHER_NIC,
    UNKNOWN,
    bound_guest,
    device,
    guest,
)
from tests.uio.driver_core import UIO, DriverCore, failure
from vmbus.errors import CallerError, DeviceError
from vmbus.uio import NO_DRIVER, bind, find_device, unbind

#: Has a write of a certain number fail.
Trouble = Callable[[DriverCore, int], None]

DRIVERS = "sys/bus/vmbus/drivers"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs links")


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
    with pytest.raises(DeviceError, match="no node has appeared after 0 s; all is as it was before"):
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


def test_an_error_that_nobody_has_foreseen_does_not_end_the_taking_back_and_is_named(tmp_path):
    core = guest(tmp_path)
    before = core.snapshot()
    core.probe_errors[UIO] = errno.ENODEV

    def before_write(number: int) -> None:
        if number == 3:  # the first that takes something back
            raise MemoryError

    core.before_write = before_write
    with pytest.raises(
        DeviceError, match=r"uio_hv_generic/bind: .*; not all could be put back: MemoryError$"
    ):
        bind(device(core), core)
    del before[f"sys/bus/vmbus/devices/{NIC}/driver"]
    assert core.snapshot() == before


def test_a_step_that_ends_in_such_an_error_has_all_put_back_and_said(tmp_path):
    core = guest(tmp_path)
    before = core.snapshot()

    def before_write(number: int) -> None:
        if number == 2:
            raise ValueError("embedded null byte")

    core.before_write = before_write
    with pytest.raises(DeviceError) as caught:
        bind(device(core), core)
    assert caught.value.strerror == "ValueError: embedded null byte; all is as it was before"
    assert isinstance(caught.value.__cause__, ValueError)
    assert core.snapshot() == before


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


def bound_and_then_given(instance: str, *, to: str, at: int) -> list[tuple[str, str, Trouble | None, int]]:
    """A device is bound, and then given to somebody, when a write is refused, be it one of the undoing."""
    return [(instance, "bind", None, 0), (instance, to, refuse_at, at)]


@settings(max_examples=40, deadline=None)
@example(override=False, calls=bound_and_then_given(NIC, to="unbind to hv_netvsc", at=3))
@example(override=False, calls=bound_and_then_given(OTHER_NIC, to="unbind to hv_netvsc", at=3))
@example(override=False, calls=bound_and_then_given(UNKNOWN, to="unbind to hv_netvsc", at=3))
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
