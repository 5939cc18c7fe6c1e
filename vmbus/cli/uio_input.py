"""The rings of a live device, copied, as a dump: byte n of it is byte n of what the kernel maps."""

from __future__ import annotations

from argparse import Namespace

from vmbus.inspection import (
    Finding,
    RawDump,
    Report,
    RingDevice,
    RingPlace,
    Selection,
    Severity,
    inspect_memory,
    memory_of,
)
from vmbus.layout import IN_WORD, OUT_WORD
from vmbus.uio import RingCopy, Snapshot, snapshot, system_at

from .option_names import options_named

__all__ = ["UioDump", "live_dump", "report_on"]


class UioDump(RawDump):
    """Both rings of a channel, the outbound one first.

    path       of the device's node
    snapshot   the copies, and whose they are
    """

    format = "uio"

    def __init__(self, path: str, taken: Snapshot) -> None:
        super().__init__(path, memoryview(taken.content))
        self.snapshot = taken

    @property
    def places(self) -> tuple[RingPlace, RingPlace]:
        """Where its rings are, and whose."""
        return place_of(self.snapshot, "outbound"), place_of(self.snapshot, "inbound")


def live_dump(arguments: Namespace) -> UioDump:
    """The rings of the device that the command line names, copied."""
    system = system_at(arguments.root or "/")
    with options_named(even_if_closed="--open"):
        taken = snapshot(arguments.uio, root=system, relid=arguments.channel, even_if_closed=arguments.open)
    return UioDump(system.path(f"dev/{taken.device.uio}"), taken)


def report_on(dump: UioDump, selection: Selection | None = None) -> Report:
    """Its rings, looked at."""
    rings = [
        inspect_memory(memory_of(dump, place), place=place, selection=selection) for place in dump.places
    ]
    return Report(dump.path, dump.format, dump.size, rings)


def place_of(taken: Snapshot, role: str) -> RingPlace:
    """Where one of the rings is in the dump of both."""
    outbound, inbound = 0, len(taken.outbound.content)
    is_outbound = role == "outbound"
    copy = taken.outbound if is_outbound else taken.inbound
    return RingPlace(
        address=outbound if is_outbound else inbound,
        header_size=copy.header_size,
        data_size=len(copy.content) - copy.header_size,
        role=role,
        findings=(moved_finding(copy),) if copy.moved else (),
        device=owner_of(taken),
        pair=inbound if is_outbound else outbound,
    )


def owner_of(taken: Snapshot) -> RingDevice:
    device = taken.device
    known = device.device_class
    return RingDevice(
        class_id=None if device.class_id is None else str(device.class_id),
        class_name=None if known is None else known.name,
        instance_id=device.instance_id,
        channel_id=taken.channel.relid,
    )


def moved_finding(copy: RingCopy) -> Finding:
    """What moved while a ring was copied, and what of the copy is to be trusted."""
    words = ", ".join(f"{one.name} from {one.before:#x} to {one.after:#x}" for one in copy.moved)
    message = f"moved during each of {copy.tries} copies, the last time {words}"
    if copy.passed:
        message += "; all that had waited was read meanwhile, so that the ring is shown empty"
    elif {one.word for one in copy.moved} & {IN_WORD, OUT_WORD}:
        message += (
            "; shown are in as it was before and out as it was after: the packets in between stood still"
        )
    return Finding("ring-moved", Severity.NOTE, None, message)
