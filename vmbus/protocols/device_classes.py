"""What kinds of devices a host offers, by the GUID of their class.

A class has a short name, which is what people write, and perhaps other names under which some drivers
know it.  A Hyper-V socket has no class of its own: where a device has its class, an offer for a socket
has the GUID of the service, and Linux's services are a template with the port in its first group.

Sources: Linux include/linux/hyperv.h, HV_NIC_GUID and those that follow; Linux
net/vmw_vsock/hyperv_transport.c, srv_id_template; OpenVMM, the offers of vm/devices/vmbus and of
vm/devices/get.
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.errors import CallerError
from vmbus.layout import Guid

__all__ = ["DEVICE_CLASSES", "HVSOCK", "DeviceClass", "device_class", "hvsock_port", "hvsock_service"]


class DeviceClass(NamedTuple):
    """A kind of device.

    name          what people write: lowercase, with dashes
    class_id      the GUID that offers of such devices carry
    description   what it is, in a few words
    other_names   under which it is known to drivers
    """

    name: str
    class_id: Guid
    description: str
    other_names: tuple[str, ...] = ()


def _class(name: str, class_id: str, description: str, *other_names: str) -> DeviceClass:
    return DeviceClass(name, Guid.parse(class_id), description, other_names)


#: A socket between host and guest; its class is each service's own, this one that of port 0.
HVSOCK = _class("hvsock", "00000000-facb-11e6-bd58-64006a7986d3", "Hyper-V socket", "vsock")

DEVICE_CLASSES = (
    _class("network", "f8615163-df3e-46c5-913f-f2d2f965ed0e", "synthetic network card", "netvsc", "nic"),
    _class("scsi", "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f", "synthetic SCSI controller", "storvsc"),
    _class("ide", "32412632-86cb-44a2-9b5c-50d1417354f5", "accelerated IDE disk"),
    _class("fibre-channel", "2f9bcc4a-0069-4af3-b76b-6fd0be528cda", "synthetic fibre channel adapter", "fc"),
    _class("network-direct", "8c2eaf3d-32a7-4b09-ab99-bd1f1c86b501", "network direct (RDMA)", "nd"),
    _class("pci", "44c4f61d-4444-4400-9d52-802e27ede19f", "PCI device passed through", "vpci"),
    _class("mouse", "cfa8b69e-5b4a-4cc0-b98b-8ba1a1f3f95a", "mouse", "hid"),
    _class("keyboard", "f912ad6d-2b17-48ea-bd65-f927a61c7684", "keyboard", "kbd"),
    _class("video", "da0a7802-e377-4aac-8e77-0558eb1073f8", "synthetic video"),
    _class("balloon", "525074dc-8985-46e2-8057-a307dc18a502", "dynamic memory", "dynamic-memory", "dm"),
    _class("shutdown", "0e0b6031-5213-4934-818b-38d90ced39db", "integration service: shutdown"),
    _class("time-sync", "9527e630-d0ae-497b-adce-e80ab0175caf", "integration service: time", "timesync"),
    _class("heartbeat", "57164f39-9115-4e78-ab55-382f3bd5422d", "integration service: heartbeat"),
    _class(
        "key-value", "a9a0f4e7-5a45-4d96-b827-8a841e8c03e6", "integration service: key-value pairs", "kvp"
    ),
    _class("backup", "35fa2e29-ea23-4236-96ae-3a6ebacba440", "integration service: backup", "vss"),
    _class("file-copy", "34d14be3-dee4-41c8-9ae7-6b174977c192", "guest services: file copy", "fcopy"),
    _class("remote-desktop", "276aacf4-ac15-426c-98dd-7521ad3f01fe", "remote desktop", "rdv"),
    _class("activation", "f8e65716-3cb3-4a06-9a60-1889c5cccab5", "automatic activation", "avma"),
    _class("inherited-activation", "3375baf4-9e15-4b30-b765-67acb10d607b", "inherited activation", "avma2"),
    _class("file-system", "c376c1c3-d276-48d2-90a9-c04748072c60", "file system for boot", "vmbfs", "imc"),
    _class("uart", "8b60ccf6-709f-4c11-90b5-229c959a9e6a", "serial port"),
    _class("guest-emulation", "8dedd1aa-9056-49e4-bfd6-1bf90dc38ef0", "guest emulation transport", "get"),
    _class("guest-emulation-log", "aa5de534-d149-487a-9053-05972ba20a7c", "log of guest emulation", "gel"),
    _class("crash-dump", "427b03e7-4ceb-4286-b5fc-486f4a1dd439", "crash dump of the guest"),
    HVSOCK,
)

_BY_ID = {one.class_id.wire: one for one in DEVICE_CLASSES}
_BY_NAME = {name: one for one in DEVICE_CLASSES for name in (one.name, *one.other_names)}

#: Where the port stands in a service's GUID, and what is the same in all of them.
_PORT_SIZE = 4
_TEMPLATE = HVSOCK.class_id.wire[_PORT_SIZE:]

LARGEST_PORT = 2**32 - 1


def device_class(which: Guid | str) -> DeviceClass | None:
    """The class with this GUID or this name (a GUID as text too), or None where nobody knows it.

    >>> device_class("netvsc").name
    'network'
    >>> device_class(Guid.parse("57164f39-9115-4e78-ab55-382f3bd5422d")).name
    'heartbeat'
    >>> device_class(hvsock_service(1024)).name
    'hvsock'
    """
    if isinstance(which, str):
        known = _BY_NAME.get(which.lower())
        if known is not None:
            return known
        try:
            which = Guid.parse(which)
        except CallerError:
            return None
    if hvsock_port(which) is not None:
        return HVSOCK
    return _BY_ID.get(which.wire)


def hvsock_port(service: Guid) -> int | None:
    """The port in the GUID of a Linux service, or None for any other GUID.

    >>> hvsock_port(Guid.parse("00000400-facb-11e6-bd58-64006a7986d3"))
    1024
    """
    if service.wire[_PORT_SIZE:] != _TEMPLATE:
        return None
    return int.from_bytes(service.wire[:_PORT_SIZE], "little")


def hvsock_service(port: int) -> Guid:
    """The GUID of a Linux service; CallerError for what is no port.

    >>> str(hvsock_service(1024))
    '00000400-facb-11e6-bd58-64006a7986d3'
    """
    if not 0 <= port <= LARGEST_PORT:
        raise CallerError(
            f"a port is a number up to {LARGEST_PORT}, not {port}",
            argument="port",
            value=port,
            limit=LARGEST_PORT,
        )
    return Guid(port.to_bytes(_PORT_SIZE, "little") + _TEMPLATE)
