"""The devices of a guest as JSON, "vmbus.devices/1": integers stay integers, what is missing is null.

    {"schema", "root", "hibernation",
     "devices": [{"instance_id", "path", "class_name", "class_description", "hvsock_port", "driver", "uio",
                  "interfaces", "disks", "open", "state_name", <files of the device>, "out_data_size", "in_data_size",
                  "channel_vp_mapping": [{"relid", "cpu"}],
                  "channels": [{"relid", "open", <files of the channel>, "ring_size"}],
                  "maps": [{"number", "name", "size", "addr", "addr_hex", "offset"}]}]}

What comes out of a file has the file's name as its key, such as "numa_node", "out_write_index" or
"server_monitor_pending"; GUIDs are text without braces.  Interfaces and disks are names, such as eth0.  Addresses come a second time in hex under a key
ending in _hex: jq and browsers round above 2**53.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vmbus.uio import STATES, GuestChannel, GuestDevice, System, UioMap

__all__ = ["DEVICES_SCHEMA", "devices_to_json"]

DEVICES_SCHEMA = "vmbus.devices/1"

#: Whether the host lets this guest hibernate: the one file of the bus itself.
HIBERNATION = "sys/bus/vmbus/hibernation"


def devices_to_json(
    system: System, devices: list[GuestDevice], maps: Mapping[str, list[UioMap]]
) -> dict[str, Any]:
    """The document; `maps` are those of the uio devices, by their names."""
    return {
        "schema": DEVICES_SCHEMA,
        "root": system.root,
        "hibernation": system.number(HIBERNATION),
        "devices": [
            {
                **device_to_json(device, system.path(device.place)),
                "maps": [map_to_json(one) for one in maps.get(device.uio or "", [])],
            }
            for device in devices
        ],
    }


def device_to_json(device: GuestDevice, path: str) -> dict[str, Any]:
    """One item of the document's "devices", without its maps."""
    known = device.device_class
    return {
        "instance_id": device.instance_id,
        "path": path,
        "class_name": device.class_name,
        "class_description": None if known is None else known.description,
        "hvsock_port": device.hvsock_port,
        "driver": device.driver,
        "uio": device.uio,
        "interfaces": list(device.interfaces),
        "disks": list(device.disks),
        "open": device.is_open,
        "state_name": None if device.state is None else STATES.get(device.state),
        "id": device.id,
        "class_id": text_or_null(device.class_id),
        "device_id": text_or_null(device.device_id),
        "vendor": device.vendor,
        "device": device.device,
        "state": device.state,
        "modalias": device.modalias,
        "numa_node": device.numa_node,
        "driver_override": device.driver_override,
        "monitor_id": device.monitor_id,
        **prefixed("out", device.outbound._asdict()),
        "out_data_size": device.outbound.data_size,
        **prefixed("in", device.inbound._asdict()),
        "in_data_size": device.inbound.data_size,
        **prefixed("server_monitor", device.server._asdict()),
        **prefixed("client_monitor", device.client._asdict()),
        "channel_vp_mapping": [{"relid": relid, "cpu": cpu} for relid, cpu in device.channel_vp_mapping],
        "channels": [channel_to_json(channel) for channel in device.channels],
    }


def channel_to_json(channel: GuestChannel) -> dict[str, Any]:
    """One item of a device's "channels"."""
    files = channel._asdict()
    return {"relid": files.pop("relid"), "open": channel.is_open, **files}


def map_to_json(one: UioMap) -> dict[str, Any]:
    """One item of a device's "maps"."""
    return {
        "number": one.number,
        "name": one.name,
        "size": one.size,
        "addr": one.address,
        "addr_hex": None if one.address is None else f"{one.address:#x}",
        "offset": one.offset,
    }


def prefixed(start: str, fields: Mapping[str, int | None]) -> dict[str, int | None]:
    """The files that those fields are of: their names start so."""
    return {f"{start}_{name}": value for name, value in fields.items()}


def text_or_null(value: object | None) -> str | None:
    return None if value is None else str(value)
