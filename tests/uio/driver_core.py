"""A double of Linux's driver core: a System over a GuestTree that acts on what is written to it.

What each write does, in Linux 6.12 unless said otherwise, and the rule that decides there: what is so -> what is
done or answered, from top to bottom, the first that holds.

    drivers/<name>/bind       drivers/base/bus.c, bind_store():
                                  no such device, or the driver does not match it   -> ENODEV
                              then drivers/base/dd.c, __driver_probe_device():
                                  dev->driver is set   -> EBUSY (ENODEV in kernels before 2021)
                                  else                 -> what the driver's probe returns
    drivers/<name>/unbind     drivers/base/bus.c, unbind_store():
                                  no such device, or dev->driver is another   -> ENODEV
                                  else                                        -> device_driver_detach()
    drivers_probe             drivers/base/bus.c, drivers_probe_store():
                                  no such device       -> ENODEV
                                  dev->driver is set   -> nothing
                                  else                 -> device_attach(): the first driver that matches and whose
                                                          probe does not fail; none is no error
    drivers/<name>/new_id     drivers/hv/vmbus_drv.c, new_id_store():
                                  guid_parse() fails, as of one in braces       -> EINVAL
                                  hv_vmbus_dynid_match(): added before          -> EEXIST; a built-in one is none
                                  else   -> added, then driver_attach(): every device without a driver is tried
    drivers/<name>/remove_id  drivers/hv/vmbus_drv.c, remove_id_store():
                                  guid_parse() fails   -> EINVAL
                                  not among the added  -> ENODEV
                                  else                 -> not among them any more; devices keep their drivers
    driver_override           drivers/hv/vmbus_drv.c, driver_override_store(), and driver_set_override():
                                  up to the first newline; nothing before it clears it, and it reads (null) again
    the name uioN             drivers/uio/uio.c, uio_get_minor(): idr_alloc(), the lowest number that is free
    an empty write            fs/sysfs/file.c, sysfs_kf_write(): count == 0 -> 0, and nobody's store is called
    matching                  drivers/hv/vmbus_drv.c, vmbus_match():
                                  is_hvsock_channel()   -> whether the driver is hv_sock (drv->hvsock)
                                  else                  -> whether hv_vmbus_get_id() finds an id:
                              hv_vmbus_get_id():
                                  driver_override is set and another name   -> none
                                  an id that was added, or a built-in one   -> that
                                  driver_override is set                    -> one that stands for any
                                  else                                      -> none
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

from tests.uio.guest_tree import GuestTree
from vmbus.errors import CallerError, DeviceError
from vmbus.layout import Guid
from vmbus.protocols import device_class
from vmbus.uio import System

__all__ = ["IDLE", "SOCKET", "UIO", "DriverCore"]

UIO = "uio_hv_generic"
DEVICES, DRIVERS = "sys/bus/vmbus/devices", "sys/bus/vmbus/drivers"

#: The lists in /proc of a guest in which nothing is in use.
IDLE = {
    "proc/self/mountinfo": "1 1 0:2 / / rw - rootfs rootfs rw\n",
    "proc/swaps": "Filename\tType\tSize\tUsed\tPriority\n",
    "proc/net/route": "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n",
    "proc/net/ipv6_route": "",
}

#: The driver of sockets, which matches nothing else.
SOCKET = "hv_sock"


class DriverCore(System):
    """A guest whose drivers can be changed.

    tree          its files
    built_in      the kinds that each driver knows, in the order in which drivers were registered
    override      whether the kernel has driver_override, as since 5.0
    busy          what `bind` answers of a device that has a driver

    late          so often the folder `uio` is looked into before the node is there
    probe_errors  what the probe of a driver answers
    writes        everything that was written
    before_write  called with the number of each write, from 0, before it does anything; after_write behind it,
                  whether it was refused or not
    """

    is_this_machine = True

    def __init__(
        self, folder: Path, *, override: bool = True, module_loaded: bool = True, busy: int = errno.EBUSY
    ) -> None:
        root = folder / "root"
        self.tree = GuestTree(root)
        super().__init__(root)
        self.override = override
        self.busy = busy
        self.built_in: dict[str, list[str]] = {"hv_netvsc": ["network"], "hv_storvsc": ["scsi"], SOCKET: []}
        self.added: dict[str, set[str]] = {}
        self.late = 0
        self.probe_errors: dict[str, int] = {}
        self.writes: list[tuple[str, str]] = []
        self.before_write: Callable[[int], None] = lambda number: None
        self.after_write: Callable[[int], None] = lambda number: None
        self.modules_asked_for: list[str] = []
        (root / "sys/bus/vmbus/drivers_probe").touch()
        for driver in self.built_in:
            self.tree.add_driver(driver)
        if module_loaded:
            self.register(UIO)

    # -- what a test does ------------------------------------------------------------------------

    def add_device(
        self, kind: str, instance: str, relid: int, *, driver: str | None, class_id: str | None = None
    ) -> None:
        """A device with the files that have a part in this: to make them takes most of the time.

        What a driver has is open.
        """
        folder = self.tree.device_folder(instance)
        channel = folder / "channels" / str(relid)
        channel.mkdir(parents=True)
        files = {"id": relid, "class_id": f"{{{class_id or device_class(kind).class_id}}}"}
        override = {"driver_override": "(null)"} if self.override else {}
        self.tree.write(folder, {**files, **override})
        if driver is not None:
            self.tree.write(channel, {"out_mask": 0})
            self.tree.set_driver(instance, driver)

    def register(self, driver: str, *kinds: str) -> None:
        """A driver's module is loaded, and tries the devices that have none."""
        self.tree.add_driver(driver)
        self.built_in.setdefault(driver, list(kinds))
        self.attach_all(driver)

    def snapshot(self) -> dict[str, str]:
        """Where everything is, what links and driver_override say, and the ids that were added to drivers.

        Nothing else that a file holds is ever changed.
        """
        found = {f"{driver} ids": " ".join(sorted(ids)) for driver, ids in self.added.items() if ids}
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                place = path[len(self.root) + 1 :]
                if name == "driver":
                    found[place] = os.readlink(path)
                elif name == "driver_override":
                    found[place] = Path(path).read_text()
                else:
                    found[place] = ""
        return found

    def say_that_nothing_is_in_use(self) -> None:
        """The lists in /proc of a guest whose root lies in memory, and that has no default route."""
        for place, text in IDLE.items():
            path = Path(self.root, place)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def driver_of(self, instance: str) -> str | None:
        return self.link_name(f"{DEVICES}/{instance}/driver")

    def override_of(self, instance: str) -> str | None:
        return self.text(f"{DEVICES}/{instance}/driver_override")

    # -- what the package calls ------------------------------------------------------------------

    def load_module(self, name: str) -> None:
        self.modules_asked_for.append(name)
        self.register(name)

    def names(self, place: str) -> list[str]:
        names = super().names(place)
        if place.endswith("/uio") and names and self.late:
            self.late -= 1
            return []
        return names

    def write(self, place: str, text: str) -> None:
        number = len(self.writes)
        self.writes.append((place, text))
        try:
            self.before_write(number)
            if not self.exists(place):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
            try:
                if text:
                    self.store(place, text)
            finally:
                self.after_write(number)
        except OSError as error:
            if isinstance(error, DeviceError):
                raise
            raise DeviceError(
                error.errno, f"{self.path(place)}: {error.strerror} (writing {text.strip()!r})"
            ) from error

    # -- the kernel ------------------------------------------------------------------------------

    def store(self, place: str, text: str) -> None:
        folder, name = os.path.split(place)
        driver = os.path.basename(folder)
        if name == "driver_override":
            line = text.partition("\n")[0]
            Path(self.path(place)).write_text(f"{line or '(null)'}\n")
        elif name == "bind":
            self.bind(driver, self.known(text))
        elif name == "unbind":
            if self.driver_of(self.known(text)) != driver:
                raise failure(errno.ENODEV)
            self.detach(text)
        elif name == "new_id":
            self.new_id(driver, text)
        elif name == "remove_id":
            if plain_guid(text) not in self.added.get(driver, set()):
                raise failure(errno.ENODEV)
            self.added[driver].remove(text)
        elif name == "drivers_probe":
            if self.driver_of(self.known(text)) is None:
                any(self.attach(driver, text) for driver in self.built_in)
        else:
            raise failure(errno.EACCES)

    def known(self, instance: str) -> str:
        if not self.exists(f"{DEVICES}/{instance}"):
            raise failure(errno.ENODEV)
        return instance

    def bind(self, driver: str, instance: str) -> None:
        if not self.matches(driver, instance):
            raise failure(errno.ENODEV)
        if self.driver_of(instance) is not None:
            raise failure(self.busy)
        if driver in self.probe_errors:
            raise failure(self.probe_errors[driver])
        self.attach(driver, instance)

    def new_id(self, driver: str, text: str) -> None:
        added = self.added.setdefault(driver, set())
        if plain_guid(text) in added:
            raise failure(errno.EEXIST)
        added.add(text)
        self.attach_all(driver)

    def attach_all(self, driver: str) -> None:
        for instance in super().names(DEVICES):
            if self.driver_of(instance) is None:
                self.attach(driver, instance)

    def matches(self, driver: str, instance: str) -> bool:
        class_id = guid(self.text(f"{DEVICES}/{instance}/class_id") or "")
        kind = device_class(class_id)
        if kind is not None and kind.name == "hvsock":
            return driver == SOCKET
        wanted = self.override_of(instance)
        if wanted not in (None, "(null)"):
            return wanted == driver
        return class_id in self.added.get(driver, set()) or (
            kind is not None and kind.name in self.built_in[driver]
        )

    def attach(self, driver: str, instance: str) -> bool:
        """Whether the driver matches and has taken it."""
        if driver in self.probe_errors or not self.matches(driver, instance):
            return False
        self.tree.set_driver(instance, driver)
        if driver == UIO:
            taken = {path.name for path in Path(self.root).glob(f"{DEVICES}/*/uio/*")}
            free = next(name for name in map("uio{}".format, count()) if name not in taken)
            (self.tree.device_folder(instance) / "uio" / free).mkdir(parents=True)
        return True

    def detach(self, instance: str) -> None:
        self.tree.set_driver(instance, None)
        shutil.rmtree(self.tree.device_folder(instance) / "uio", ignore_errors=True)


def plain_guid(text: str) -> str:
    """As guid_parse() takes it: without braces."""
    if text.startswith("{"):
        raise failure(errno.EINVAL)
    return guid(text)


def guid(text: str) -> str:
    try:
        return str(Guid.parse(text))
    except CallerError:
        raise failure(errno.EINVAL) from None


def failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))
