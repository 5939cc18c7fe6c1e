"""The single steps that take a device from one driver to another, each with its way back.

Most are one write to a file of sysfs; str() of a step is a line of shell that would do the same.

A way back looks at what is there first: the step may have been done, or not, or only half, as when Ctrl-C came
while the kernel was at it.

Sources: Linux drivers/base/bus.c, bind_store(), unbind_store() and drivers_probe_store(); drivers/hv/vmbus_drv.c,
vmbus_match(), driver_override_store(), new_id_store() and remove_id_store(); fs/sysfs/file.c, sysfs_kf_write().
"""

from __future__ import annotations

import errno
import shlex

from vmbus.errors import DeviceError
from vmbus.layout import Guid

from .device_files import BUS, DEVICES
from .devices import override_of, read_device
from .late import UIO_DRIVER, node_of
from .system import System

__all__ = [
    "DRIVERS",
    "AddId",
    "AwaitNode",
    "Bind",
    "LoadModule",
    "Probe",
    "Release",
    "RemoveId",
    "SetOverride",
    "Step",
    "Unbind",
    "driver_of",
]

DRIVERS = f"{BUS}/drivers"
NEW_ID, REMOVE_ID = f"{DRIVERS}/{UIO_DRIVER}/new_id", f"{DRIVERS}/{UIO_DRIVER}/remove_id"

#: What to write to driver_override where any driver may have the device: sysfs hands an empty write to nobody.
NO_OVERRIDE = "\n"


def shell_line(place: str, text: str) -> str:
    """The write, in shell; always of the machine that it is meant for, whatever the root of a copy."""
    what = "echo" if text == "\n" else f"echo -n {shlex.quote(text)}"
    return f"{what} > {shlex.quote('/' + place)}"


def driver_of(system: System, instance: str) -> str | None:
    return system.link_name(f"{DEVICES}/{instance}/driver")


def give(system: System, instance: str, driver: str) -> None:
    """Bind a device that has no driver; that this driver has it already is well."""
    place = f"{DRIVERS}/{driver}/bind"
    if driver_of(system, instance) != driver:
        system.write(place, instance)
    # Of kernels before 2021 an empty answer may be all that is heard of a driver that has refused.
    if driver_of(system, instance) != driver:
        raise DeviceError(errno.ENODEV, f"{system.path(place)}: {driver} has not taken {instance}")


def take(system: System, instance: str, driver: str) -> None:
    """Unbind a device from a driver, if that has it."""
    if driver_of(system, instance) == driver:
        system.write(f"{DRIVERS}/{driver}/unbind", instance)


def add_id(system: System, class_id: Guid) -> bool:
    """Have uio_hv_generic take a class of devices; False where it does already.

    It takes at once every device that it knows and that has no driver, also of other classes.
    """
    try:
        system.write(NEW_ID, str(class_id))
    except DeviceError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def remove_id(system: System, class_id: Guid) -> bool:
    """Have uio_hv_generic leave a class of devices, but for those that it has; False where it did not take it."""
    try:
        system.write(REMOVE_ID, str(class_id))
    except DeviceError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    return True


class Step:
    """One step.

    takes_long   whether it waits: then Ctrl-C is not kept waiting until it is done
    """

    takes_long = False

    def do(self, system: System) -> None:
        """Raises DeviceError when the system refuses; it may then be half done."""
        raise NotImplementedError

    def undo(self, system: System) -> None:
        """Have it as it was before, whether the step was done or not.  Raises DeviceError too."""


class LoadModule(Step):
    """The module stays: loaded it does no harm, and somebody else may want it by now."""

    takes_long = True

    def __str__(self) -> str:
        return f"modprobe {UIO_DRIVER}"

    def do(self, system: System) -> None:
        system.load_module(UIO_DRIVER)
        place = f"{DRIVERS}/{UIO_DRIVER}"
        if not system.exists(place):
            raise DeviceError(
                errno.ENOENT, f"{system.path(place)} is not there, although the module was loaded"
            )


class SetOverride(Step):
    """Say which driver alone may have a device; None: any."""

    def __init__(self, instance: str, driver: str | None, before: str | None) -> None:
        self.place = f"{DEVICES}/{instance}/driver_override"
        self.text = driver or NO_OVERRIDE
        self.before = before

    def __str__(self) -> str:
        return shell_line(self.place, self.text)

    def do(self, system: System) -> None:
        system.write(self.place, self.text)

    def undo(self, system: System) -> None:
        if override_of(system.text(self.place)) != self.before:
            system.write(self.place, self.before or NO_OVERRIDE)


class AddId(Step):
    """Have uio_hv_generic take a class of devices, where the kernel has no driver_override.

    unbound   all devices without a driver: it takes at once those that it knows, by this id or another one
    """

    def __init__(self, class_id: Guid, unbound: tuple[str, ...]) -> None:
        self.class_id = class_id
        self.unbound = unbound
        self.had_it = False  # as long as nobody knows, the write is taken for done

    def __str__(self) -> str:
        return shell_line(NEW_ID, str(self.class_id))

    def do(self, system: System) -> None:
        try:
            self.had_it = not add_id(system, self.class_id)
        except DeviceError:
            self.had_it = True
            raise

    def undo(self, system: System) -> None:
        if not self.had_it:
            remove_id(system, self.class_id)
        for instance in self.unbound:
            take(system, instance, UIO_DRIVER)


class Release(Step):
    """Let go of a device that AddId may have taken with the one that was meant."""

    def __init__(self, instance: str) -> None:
        self.instance = instance

    def __str__(self) -> str:
        return shell_line(f"{DRIVERS}/{UIO_DRIVER}/unbind", self.instance)

    def do(self, system: System) -> None:
        take(system, self.instance, UIO_DRIVER)


class RemoveId(Step):
    """Have uio_hv_generic take no further devices of a class; `unbound` as of AddId."""

    def __init__(self, class_id: Guid, unbound: tuple[str, ...]) -> None:
        self.class_id = class_id
        self.unbound = unbound
        self.had_it = True  # as long as nobody knows, the write is taken for done

    def __str__(self) -> str:
        return shell_line(REMOVE_ID, str(self.class_id))

    def do(self, system: System) -> None:
        try:
            self.had_it = remove_id(system, self.class_id)
        except DeviceError:
            self.had_it = False
            raise

    def undo(self, system: System) -> None:
        if self.had_it:
            add_id(system, self.class_id)
        for instance in self.unbound:
            take(system, instance, UIO_DRIVER)


class Unbind(Step):
    """Take a device from its driver, which lets go before the write is over."""

    def __init__(self, instance: str, driver: str) -> None:
        self.instance = instance
        self.driver = driver

    def __str__(self) -> str:
        return shell_line(f"{DRIVERS}/{self.driver}/unbind", self.instance)

    def do(self, system: System) -> None:
        place = f"{DRIVERS}/{self.driver}/unbind"
        system.write(place, self.instance)
        if driver_of(system, self.instance) == self.driver:
            raise DeviceError(errno.EBUSY, f"{system.path(place)}: {self.driver} still has {self.instance}")

    def undo(self, system: System) -> None:
        holder = driver_of(system, self.instance)
        if holder == self.driver:
            return
        if holder is not None:
            raise DeviceError(errno.EBUSY, f"{holder} has taken {self.instance} meanwhile")
        override = f"{DEVICES}/{self.instance}/driver_override"
        if not system.exists(override):
            give(system, self.instance, self.driver)
            return
        # Whatever ids it has by now and whoever is named there: so it takes the device back.
        before = override_of(system.text(override))
        system.write(override, self.driver)
        try:
            give(system, self.instance, self.driver)
        finally:
            system.write(override, before or NO_OVERRIDE)


class Bind(Step):
    """Give a device that has no driver to one."""

    def __init__(self, instance: str, driver: str) -> None:
        self.instance = instance
        self.driver = driver

    def __str__(self) -> str:
        return shell_line(f"{DRIVERS}/{self.driver}/bind", self.instance)

    def do(self, system: System) -> None:
        give(system, self.instance, self.driver)

    def undo(self, system: System) -> None:
        take(system, self.instance, self.driver)


class Probe(Step):
    """Have the bus look for a driver that knows a device; that there is none is no error, but uio_hv_generic is."""

    def __init__(self, instance: str) -> None:
        self.instance = instance

    def __str__(self) -> str:
        return shell_line(f"{BUS}/drivers_probe", self.instance)

    def do(self, system: System) -> None:
        system.write(f"{BUS}/drivers_probe", self.instance)
        if driver_of(system, self.instance) == UIO_DRIVER:
            raise DeviceError(
                errno.EBUSY,
                f"{UIO_DRIVER} has taken {self.instance} again, as it knows its class: `vmbus unbind {self.instance} "
                "--remove-id` has it leave the class, --driver names another driver or none",
            )

    def undo(self, system: System) -> None:
        holder = driver_of(system, self.instance)
        if holder is not None:
            take(system, self.instance, holder)


class AwaitNode(Step):
    """Wait for the node of a device."""

    takes_long = True

    def __init__(self, instance: str, timeout: float) -> None:
        self.instance = instance
        self.timeout = timeout

    def __str__(self) -> str:
        return f"# {shlex.quote(f'/{DEVICES}/{self.instance}/uio')} appears, and in it the node"

    def do(self, system: System) -> None:
        device = read_device(self.instance, system)
        if device is None:
            raise DeviceError(errno.ENODEV, f"{system.path(f'{DEVICES}/{self.instance}')} is gone")
        node_of(device, system, self.timeout)
