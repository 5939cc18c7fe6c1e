"""The options that say where a virtqueue lies in a dump, for every command that looks at one.

    add_queue_options(parser)        adds them, in a group of their own; `vsock` names the queues to offer
    asks_for_queue(arguments)        whether any of them was given: then the command is about a queue
    check_queue_usage(arguments)     raises UsageError where they contradict each other
    queue_of(arguments, dump)        the queue that they describe, in the bytes of a dump: a QueueAsked

What comes back goes as it is into `vmbus.inspection.inspect_queue`:

    inspect_queue(memory, areas, size, features, *, vsock=None | "rx" | "tx" | "event", selection=None)

This module and what it returns cost nothing until a queue is asked for: vmbus.virtio is imported then.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from typing import Any, NamedTuple

from vmbus.errors import CallerError, DumpError
from vmbus.images import DumpMemory
from vmbus.inspection import Dump, RawDump
from vmbus.memory import AddressSpace

from .output import UsageError, number

__all__ = ["QueueAsked", "add_queue_options", "asks_for_queue", "check_queue_usage", "queue_of"]

#: Every option of the group: its name in the arguments, and how it is written.
OPTIONS = {
    "queue_size": "--queue-size",
    "descriptor_table": "--descriptor-table",
    "driver_area": "--driver-area",
    "device_area": "--device-area",
    "align": "--align",
    "packed": "--packed",
    "event_idx": "--event-idx",
    "indirect": "--indirect",
    "features": "--features",
    "base": "--base",
    "vsock": "--vsock",
}

#: Where a device area starts that nobody has said anything of, as legacy devices have it.
LEGACY_ALIGNMENT = 4096

VSOCK_QUEUES = ("rx", "tx", "event")


class QueueAsked(NamedTuple):
    """A queue as the command line describes it.

    memory     the dump, its first byte at --base
    areas      a QueueAreas
    size       descriptors
    features   VERSION_1 and those that were named
    vsock      which queue of a socket device it is, or None
    """

    memory: AddressSpace | DumpMemory
    areas: Any
    size: int
    features: int
    vsock: str | None


def add_queue_options(parser: ArgumentParser, vsock: Sequence[str] = VSOCK_QUEUES) -> None:
    """Add the options; their defaults are None or False, so that it shows which were given."""
    group = parser.add_argument_group(
        "a virtqueue instead of a ring (addresses are guest-physical: see --base)"
    )
    group.add_argument("--queue-size", type=number, metavar="N", help="how many descriptors it has")
    group.add_argument("--descriptor-table", type=number, metavar="ADDRESS", help="its first area")
    group.add_argument(
        "--driver-area",
        type=number,
        metavar="ADDRESS",
        help="the available ring; packed: the driver's event structure (default: behind the table)",
    )
    group.add_argument(
        "--device-area",
        type=number,
        metavar="ADDRESS",
        help="the used ring; packed: the device's event structure (default: the next multiple of --align)",
    )
    group.add_argument(
        "--align",
        type=alignment,
        metavar="N",
        help="where only the table is known: what the used ring's address is a multiple of, "
        "4096 in legacy devices, 64 in Linux's modern ones (default 4096)",
    )
    group.add_argument("--packed", action="store_true", help="it is a packed queue")
    group.add_argument("--event-idx", action="store_true", help="RING_EVENT_IDX was negotiated")
    group.add_argument("--indirect", action="store_true", help="RING_INDIRECT_DESC was negotiated")
    group.add_argument(
        "--features", type=number, metavar="BITS", help="all features in one number, 0x130000000 for instance"
    )
    group.add_argument(
        "--base", type=number, metavar="ADDRESS", help="the address of the file's first byte (default 0)"
    )
    group.add_argument(
        "--vsock", choices=vsock, help="it is this queue of a socket device: decode its packets"
    )


def alignment(text: str) -> int:
    """A power of two from the command line."""
    value = number(text)
    if value < 4 or value & (value - 1):
        raise ArgumentTypeError(f"{text!r} is no power of two from 4 on: write 64, 4096 or 4K")
    return value


def asks_for_queue(arguments: Namespace) -> bool:
    """Whether the command line is about a virtqueue."""
    return any(was_given(arguments, name) for name in OPTIONS)


def was_given(arguments: Namespace, name: str) -> bool:
    value = getattr(arguments, name)
    return value is not None and value is not False


def check_queue_usage(arguments: Namespace) -> None:
    """Raise UsageError for options that do not make up a queue."""
    if arguments.queue_size is None or arguments.descriptor_table is None:
        first = next(option for name, option in OPTIONS.items() if was_given(arguments, name))
        raise UsageError(
            f"{first} is of a virtqueue, which takes both --queue-size and --descriptor-table "
            "(QEMU tells them: info virtio-queue-status, vring-num and vring-desc)"
        )
    areas = [was_given(arguments, "driver_area"), was_given(arguments, "device_area")]
    if any(areas) != all(areas):
        missing = "--device-area" if areas[0] else "--driver-area"
        raise UsageError(f"{missing} is missing: give both areas, or neither for a legacy layout")
    if all(areas) and arguments.align is not None:
        raise UsageError("--align is for a queue of which only the table is known; leave it out")
    if is_packed(arguments) and not all(areas):
        raise UsageError(
            "a packed queue's event structures can be anywhere: give --driver-area and --device-area"
        )


def is_packed(arguments: Namespace) -> bool:
    from vmbus.virtio import VirtioFeatures

    return bool(arguments.packed or (arguments.features or 0) & VirtioFeatures.RING_PACKED)


def queue_of(arguments: Namespace, dump: Dump) -> QueueAsked:
    """The queue that the options describe, which check_queue_usage has let pass.

    Raises UsageError for a size that no queue has, and DumpError when an area starts outside the
    dump: then --base, or the address, is not what it should be.
    """
    from vmbus.virtio import check_queue_size

    features = features_of(arguments)
    try:
        size = check_queue_size(arguments.queue_size, packed=is_packed(arguments))
    except CallerError as error:
        raise UsageError(f"argument --queue-size: {error}") from error
    areas = areas_of(arguments, size)
    memory = memory_of(arguments, dump, areas)
    return QueueAsked(memory, areas, size, features, arguments.vsock)


def memory_of(arguments: Namespace, dump: Dump, areas: Any) -> AddressSpace | DumpMemory:
    """The dump at the addresses that the device sees; DumpError when an area starts outside it."""
    if not isinstance(dump, RawDump):
        if arguments.base is not None:
            raise UsageError(f"--base is for raw files, and {dump.path} says itself where its memory is")
        image = DumpMemory(dump)
        for address in areas:
            image.read(address, 1)
        return image
    base = arguments.base or 0
    try:
        memory = AddressSpace([(base, dump.data)])
    except CallerError as error:
        raise UsageError(f"argument --base: {error}") from error
    for name, address in zip(areas._fields, areas, strict=True):
        if memory.find_region(address) is None:
            raise DumpError(
                f"has {dump.size} bytes from {base:#x} on, and the {name.replace('_', ' ')} would start at "
                f"{address:#x} (--base says which address the first byte has)",
                path=dump.path,
                place=address,
            )
    return memory


def features_of(arguments: Namespace) -> int:
    """The features that were named, in one number."""
    from vmbus.virtio import VirtioFeatures

    features = int(VirtioFeatures.VERSION_1) if arguments.features is None else arguments.features
    for name, feature in (
        ("packed", VirtioFeatures.RING_PACKED),
        ("event_idx", VirtioFeatures.RING_EVENT_IDX),
        ("indirect", VirtioFeatures.RING_INDIRECT_DESC),
    ):
        if getattr(arguments, name):
            features |= int(feature)
    return int(features)


def areas_of(arguments: Namespace, size: int) -> Any:
    """Where the three areas are: as given, or one behind the other as legacy devices have them."""
    from vmbus.virtio import QueueAreas

    table = arguments.descriptor_table
    if arguments.driver_area is not None:
        return QueueAreas(table, arguments.driver_area, arguments.device_area)
    multiple = arguments.align or LEGACY_ALIGNMENT
    sizes = QueueAreas.sizes(size, packed=False)
    driver_area = table + sizes.descriptor_table
    end = driver_area + sizes.driver_area
    return QueueAreas(table, driver_area, -(-end // multiple) * multiple)
