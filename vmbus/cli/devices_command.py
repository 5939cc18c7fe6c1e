"""List the VMBus devices of this Linux guest: what each is, which driver has it, its channels and rings.

-v adds class and instance GUIDs, the rings of the primary channel, and every channel with its processor, masks
and fill.  -vv adds every counter of every channel, monitor words, device ids and paths in sysfs.  What cannot be
read is shown as a dash: masks and fills, for one, can only be read while a channel is open.

DEVICE names a device by its instance, relid, uio node, driver, class, network interface or disk.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from contextlib import suppress

from vmbus.errors import CallerError, DeviceError
from vmbus.layout import Guid
from vmbus.protocols import DEVICE_CLASSES, device_class
from vmbus.uio import NO_DRIVER, UNKNOWN_NAME, GuestDevice, System, find_device, find_devices, read_maps

from .devices_json import DEVICES_SCHEMA, devices_to_json
from .devices_text import devices_to_lines
from .output import number, print_json, print_lines, report

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  vmbus devices
  vmbus devices -v network                         every network card, with its channels and rings
  vmbus devices 14 -vv                             all that is known of the device with relid 14
  vmbus devices eth0                               what has that interface
  vmbus devices --driver none                      devices that no driver has
  vmbus devices --class unknown                    devices of a class that nobody knows
  vmbus devices --class hvsock --json | jq '.devices[].hvsock_port'
  vmbus devices --root sosreport-guest7            a support archive of another machine

RELID is the number of the primary channel on the bus, OPEN the number of channels that are open, NODE the
NUMA node.  The further lines name every number as its file below /sys/bus/vmbus/devices is named; waiting
bytes are those that the reader has not taken yet.

Of several filters all must hold; of one that is given several times, one.
exit status: 0 done; 1 done, and no device passes the filters, as grep does, or a DEVICE is not there; 2 this is
no Linux guest of Hyper-V, or hv_vmbus is not loaded.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    which = parser.add_argument_group("which devices")
    which.add_argument("devices", nargs="*", metavar="DEVICE", help="those alone; by default all")
    which.add_argument(
        "--class",
        dest="classes",
        action="append",
        default=[],
        type=class_name,
        metavar="CLASS",
        help=f"of that class: network, netvsc, scsi, hvsock, or a GUID; {UNKNOWN_NAME}: that nobody knows",
    )
    which.add_argument(
        "--name",
        dest="names",
        action="append",
        default=[],
        metavar="TEXT",
        help="with TEXT somewhere in the name of the class, in what it is or carries, or in the instance",
    )
    which.add_argument(
        "--relid",
        dest="relids",
        action="append",
        default=[],
        type=number,
        metavar="N",
        help="with a channel of that number, the primary one or a subchannel",
    )
    which.add_argument(
        "--driver",
        dest="drivers",
        action="append",
        default=[],
        metavar="NAME",
        help=f"that a driver has, such as hv_netvsc; {NO_DRIVER}: that none has",
    )
    form = parser.add_argument_group("how to show them")
    form.add_argument("-v", "--verbose", action="count", default=0, help="more of each; -vv all of it")
    form.add_argument("--json", action="store_true", help=f"one document, {DEVICES_SCHEMA}, with everything")
    parser.add_argument(
        "--root",
        default="/",
        metavar="DIR",
        help="look at a copy of another machine's /sys and /proc, such as a support archive (default /)",
    )


def execute(arguments: Namespace) -> int:
    """List them; 1 when the filters leave none, or one that was named is not there."""
    system = System(arguments.root)
    found = find_devices(system)
    devices = [device for device in found if is_wanted(device, arguments)]
    maps = {device.uio: read_maps(device.uio, system) for device in devices if device.uio is not None}
    if arguments.json:
        print_json(devices_to_json(system, devices, maps))
    elif devices or not found:
        print_lines(devices_to_lines(system, devices, maps, arguments.verbose))
    missing = [name for name in arguments.devices if not any(device.matches(name) for device in found)]
    for name in missing:
        report(why_missing(name, system))
    return 1 if missing or (found and not devices) else 0


def why_missing(name: str, system: System) -> str:
    """What a command that needs one device says of a name that is none's."""
    with suppress(CallerError):  # it came meanwhile, or several did
        try:
            find_device(name, system)
        except DeviceError as error:
            return error.strerror or str(error)
    return f"device {name} has just come"


def is_wanted(device: GuestDevice, arguments: Namespace) -> bool:
    """Whether a device passes every filter that was given."""

    def passes(given: list[str], matches: Callable[[str], bool]) -> bool:
        return not given or any(map(matches, given))

    return (
        passes(arguments.devices, device.matches)
        and passes(arguments.classes, device.is_of_class)
        and passes(arguments.names, lambda text: text.lower() in names_of(device))
        and passes(arguments.drivers, lambda driver: has_driver(device, driver))
        and (not arguments.relids or not relids_of(device).isdisjoint(arguments.relids))
    )


def names_of(device: GuestDevice) -> str:
    """Every name of a device, a line each."""
    known = device.device_class
    names = (device.name,) if known is None else (known.name, *known.other_names, known.description)
    return "\n".join((*names, device.instance_id, *device.carried)).lower()


def has_driver(device: GuestDevice, driver: str) -> bool:
    if driver == NO_DRIVER:
        return device.driver is None
    return device.driver is not None and device.driver.lower() == driver.lower()


def relids_of(device: GuestDevice) -> set[int | None]:
    """The numbers of a device's channels."""
    return {
        device.id,
        *(channel.relid for channel in device.channels),
        *(relid for relid, _ in device.channel_vp_mapping),
    }


def class_name(text: str) -> str:
    """The name of a class, or of those that nobody knows, or a GUID."""
    if device_class(text) is not None or text.lower() == UNKNOWN_NAME:
        return text
    try:
        Guid.parse(text)
    except CallerError:
        from difflib import get_close_matches

        known = [name for one in DEVICE_CLASSES for name in (one.name, *one.other_names)]
        known.append(UNKNOWN_NAME)
        near = get_close_matches(text.lower(), known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(sorted(known))}, or a GUID"
        raise ArgumentTypeError(f"{text} is no class; {hint}") from None
    return text
