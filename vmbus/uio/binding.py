"""Giving a device to uio_hv_generic, the driver for programs, and giving it back.

    bind     the module is loaded, driver_override names uio_hv_generic, the old driver lets go, the new one takes
             the device, and its node appears
    unbind   uio_hv_generic lets go, driver_override is cleared, and the bus looks for a driver, or one is named

A kernel before 5.0 has no driver_override.  There uio_hv_generic is told to take the device's class, and goes on
to take every new device of the class, until `unbind` is told to remove that.

Both make a plan from what sysfs shows, and carry it out; when a step fails, or Ctrl-C comes, all that was done is
taken back, the last first.  The module alone stays loaded, and a device that comes back to uio_hv_generic may have
another node.  Nothing of it lasts over a reboot.

Both need root's rights.  Timeouts are in seconds.

Sources: Linux Documentation/driver-api/uio-howto.rst (Generic Hyper-V UIO driver), drivers/hv/vmbus_drv.c,
drivers/base/bus.c, net/vmw_vsock/hyperv_transport.c (hv_sock, which has the sockets); see also binding_steps.
"""

from __future__ import annotations

import errno

from vmbus.errors import CallerError, DeviceError
from vmbus.layout import Guid

from .binding_steps import (
    DRIVERS,
    AddId,
    AwaitNode,
    Bind,
    LoadModule,
    Probe,
    Release,
    RemoveId,
    SetOverride,
    Step,
    Unbind,
    driver_of,
)
from .carrying_out import carry_out
from .devices import GuestDevice, find_devices, read_device
from .in_use import uses_of
from .late import PATIENCE, UIO_DRIVER, node_of
from .system import Root, System, system_at

__all__ = ["NO_DRIVER", "Step", "bind", "bind_plan", "refuse_in_use", "refuse_open", "unbind", "unbind_plan"]

#: In place of a driver's name: none, so that the device is left without.
NO_DRIVER = "none"

#: The driver of all Hyper-V sockets.
SOCKET_DRIVER = "hv_sock"

#: How many uses of a device a message names.
MOST_NAMED = 3


# -- binding ---------------------------------------------------------------------------------------


def bind_plan(device: GuestDevice, root: Root = "/", *, timeout: float = PATIENCE) -> list[Step]:
    """What has to be done to give a device to uio_hv_generic; nothing where that has it.

    str() of a step is a line of shell that does the same.

    Raises CallerError for a Hyper-V socket, which that driver never gets; DeviceError for a device that is gone.
    """
    system = system_at(root)
    return steps_to_bind(as_it_is_now(device, system), system, timeout)


def steps_to_bind(device: GuestDevice, system: System, timeout: float) -> list[Step]:
    if device.driver == UIO_DRIVER:
        return []
    instance = device.instance_id
    steps: list[Step] = [] if system.exists(f"{DRIVERS}/{UIO_DRIVER}") else [LoadModule()]
    if has_override(device, system):
        steps.append(SetOverride(instance, UIO_DRIVER, device.driver_override))
    else:
        unbound = without_driver(system)
        steps.append(AddId(class_of(device), unbound))
        steps += [Release(other) for other in unbound if other != instance]
    if device.driver is not None:
        steps.append(Unbind(instance, device.driver))
    return [*steps, Bind(instance, UIO_DRIVER), AwaitNode(instance, timeout)]


def bind(device: GuestDevice, root: Root = "/", *, force: bool = False, timeout: float = PATIENCE) -> str:
    """Give a device to uio_hv_generic; the name of its node, such as "uio0".

    force     even a device that the system needs: see uses_of
    timeout   for the node to appear

    Raises CallerError for a device in use, and for a Hyper-V socket; DeviceError when the system refuses: the
    message says whether all is as it was before.  So does the argument of a KeyboardInterrupt.
    """
    system = system_at(root)
    device = as_it_is_now(device, system)
    steps = steps_to_bind(device, system, timeout)
    if steps and not force:
        refuse_in_use(device, system)
    carry_out(steps, system)
    return node_of(as_it_is_now(device, system), system, timeout)


def refuse_in_use(device: GuestDevice, root: Root = "/") -> None:
    """Raise CallerError for a device that the system needs, with what for: the error of `bind` without force."""
    uses = uses_of(device, root)
    if not uses:
        return
    more = len(uses) - MOST_NAMED
    named = [use.text for use in uses[:MOST_NAMED]] + ([f"and {more} more"] if more > 0 else [])
    raise CallerError(
        f"{device.name} {device.instance_id} {'; '.join(named)}; it is left where it is: force=True takes it all "
        "the same",
        argument="force",
        value=False,
        limit=True,
    )


# -- giving it back --------------------------------------------------------------------------------


def unbind_plan(
    device: GuestDevice, root: Root = "/", *, driver: str | None = None, remove_id: bool = False
) -> list[Step]:
    """What has to be done to take a device from uio_hv_generic; nothing where another driver has it.

    driver      who gets it: a driver's name, or NO_DRIVER; None: whom the bus finds
    remove_id   also have uio_hv_generic leave the device's class, where it was told to take it

    Raises CallerError for a Hyper-V socket, and for a driver that another one would have to make place for;
    DeviceError for a driver that is not there, and for a device that is gone.
    """
    system = system_at(root)
    return steps_to_unbind(as_it_is_now(device, system), system, driver, remove_id)


def steps_to_unbind(device: GuestDevice, system: System, driver: str | None, remove_id: bool) -> list[Step]:
    check_driver(device, driver, system)
    instance = device.instance_id
    steps: list[Step] = []
    if device.driver in (None, UIO_DRIVER):
        if device.driver_override == UIO_DRIVER:
            steps.append(SetOverride(instance, None, device.driver_override))
        if device.driver is not None:
            steps.append(Unbind(instance, device.driver))
    if remove_id:
        steps.append(RemoveId(class_of(device), without_driver(system)))
    if device.driver in (None, UIO_DRIVER) and driver != NO_DRIVER:
        steps.append(Probe(instance) if driver is None else Bind(instance, driver))
    return steps


def unbind(
    device: GuestDevice,
    root: Root = "/",
    *,
    driver: str | None = None,
    remove_id: bool = False,
    force: bool = False,
) -> str | None:
    """Take a device from uio_hv_generic; the driver that has it then, which is another, or None where none has.

    driver, remove_id   as of unbind_plan
    force               even a device that a program holds open, whose rings are then gone

    Raises what unbind_plan raises; CallerError for a device that is open; DeviceError when the system refuses, and
    when uio_hv_generic would have the device again, as bind does.
    """
    system = system_at(root)
    device = as_it_is_now(device, system)
    steps = steps_to_unbind(device, system, driver, remove_id)
    if not force:
        refuse_open(device)
    carry_out(steps, system)
    return driver_of(system, device.instance_id)


def refuse_open(device: GuestDevice) -> None:
    """Raise CallerError for a device that a program holds open: the error of `unbind` without force."""
    if device.driver == UIO_DRIVER and device.is_open:
        raise CallerError(
            f"{device.name} {device.instance_id} is open: a program has /dev/{device.uio or 'uio*'} and would lose its "
            "rings; it is left where it is: force=True takes it all the same",
            argument="force",
            value=False,
            limit=True,
        )


def check_driver(device: GuestDevice, driver: str | None, system: System) -> None:
    """Raise an error for a driver that a device cannot be given to."""
    if driver == UIO_DRIVER:
        raise CallerError(
            f"{UIO_DRIVER} is the driver that the device is taken from", argument="driver", value=driver
        )
    if device.driver not in (None, UIO_DRIVER, driver) and driver is not None:
        raise CallerError(
            f"{device.name} {device.instance_id} is bound to {device.driver}, from which it is not taken",
            argument="driver",
            value=driver,
            limit=device.driver,
        )
    # Folders have names, and not paths.
    known = system.names(DRIVERS)
    if driver not in (None, NO_DRIVER, *known):
        raise DeviceError(
            errno.ENOENT, f"no driver {driver}; there are {', '.join(known)} (is its module loaded?)"
        )


# -- what both need --------------------------------------------------------------------------------


def as_it_is_now(device: GuestDevice, system: System) -> GuestDevice:
    """What sysfs says of a device now; an error for one that is gone, and for a socket."""
    now = read_device(device.instance_id, system)
    if now is None:
        raise DeviceError(errno.ENODEV, f"{device.name} {device.instance_id} is gone")
    if now.hvsock_port is not None or now.driver == SOCKET_DRIVER:
        raise CallerError(
            f"{device.instance_id} is a Hyper-V socket, which {UIO_DRIVER} never gets; programs open those with "
            "AF_VSOCK, which needs none of this",
            argument="device",
            value=device.instance_id,
            limit="a device that is no socket",
        )
    return now


def has_override(device: GuestDevice, system: System) -> bool:
    return system.exists(f"{device.place}/driver_override")


def class_of(device: GuestDevice) -> Guid:
    if device.class_id is None:
        raise DeviceError(errno.ENODEV, f"{device.instance_id} does not say of what class it is")
    return device.class_id


def without_driver(system: System) -> tuple[str, ...]:
    """The instances of all devices that have no driver."""
    return tuple(other.instance_id for other in find_devices(system) if other.driver is None)
