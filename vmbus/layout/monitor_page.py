"""The pages through which a guest tells its host to look at a channel, without a hypercall.

A guest shares two monitor pages with its host: the first is written by the host and the second by the guest.
A channel that is monitored has a number, its monitor id.  Its bit in `pending` of the second page tells the
hypervisor, which looks every so often (`latency`), clears the bit and signals the host.

    trigger group   32 monitors: group = id / 32, bit = id % 32; `armed` is the hypervisor's own
    trigger state   which of the four groups are in use, a bit each
    latency         in units of 100 ns
    parameter       the connection that is signaled, and the flag

The interrupt page has a bit for each channel, by relid: the first half for signals to the guest, the second
for signals to the host.  Linux sets the channel's bit there before the one in the monitor page.

Both pages are of all channels of the guest, and others change them meanwhile: what is unpacked is no moment.

Sources: Linux include/linux/hyperv.h and drivers/hv/hyperv_vmbus.h (struct hv_monitor_page,
MAX_NUM_CHANNELS), drivers/hv/connection.c vmbus_setevent(); DPDK drivers/bus/vmbus/rte_vmbus_reg.h.
"""

from __future__ import annotations

from enum import IntFlag
from typing import NamedTuple

from construct import Bytes, Int16ul, Int32ul, Struct

from vmbus.errors import CallerError
from vmbus.sizes import PAGE_SIZE

from .codec import EnumField, FixedCodec

__all__ = [
    "INTERRUPTS_TO_HOST",
    "LATENCY_UNIT",
    "MONITOR_COUNT",
    "MONITOR_PAGE",
    "MONITOR_PAGE_SCHEMA",
    "MONITOR_PARAMETER",
    "MONITOR_PARAMETER_SCHEMA",
    "RELID_COUNT",
    "TRIGGER_GROUP",
    "TRIGGER_GROUP_SCHEMA",
    "BitPlace",
    "MonitorPage",
    "MonitorParameter",
    "TriggerGroup",
    "TriggerState",
    "interrupt_place",
    "monitor_place",
]

GROUP_COUNT = 4
WORD_BITS = 32
WORD_SIZE = 4

#: Monitor ids are below this.
MONITOR_COUNT = GROUP_COUNT * WORD_BITS

#: Seconds that a latency of 1 is.
LATENCY_UNIT = 100e-9

#: Where in the interrupt page the bits for the host begin; before it stand those for the guest.
INTERRUPTS_TO_HOST = PAGE_SIZE // 2

#: Relids that have a bit are below this.
RELID_COUNT = 8 * (PAGE_SIZE - INTERRUPTS_TO_HOST)


class TriggerState(IntFlag):
    """Which trigger groups are in use."""

    GROUP_0 = 1
    GROUP_1 = 2
    GROUP_2 = 4
    GROUP_3 = 8


TRIGGER_GROUP_SCHEMA = Struct(
    "pending" / Int32ul,  # u32 pending: a bit for each monitor, set by who signals
    "armed" / Int32ul,  # u32 armed
)


class TriggerGroup(NamedTuple):
    """32 monitors, a bit each."""

    pending: int
    armed: int


TRIGGER_GROUP = FixedCodec(TRIGGER_GROUP_SCHEMA, TriggerGroup)

MONITOR_PARAMETER_SCHEMA = Struct(
    "connection_id" / Int32ul,  # union hv_connection_id: u32 id:24, reserved:8
    "flag_number" / Int16ul,  # u16 flag_number
    "reserved" / Int16ul,  # u16 rsvd
)


class MonitorParameter(NamedTuple):
    """What the hypervisor signals for a monitor; the connection id has 24 bits."""

    connection_id: int
    flag_number: int
    reserved: int


MONITOR_PARAMETER = FixedCodec(MONITOR_PARAMETER_SCHEMA, MonitorParameter)

LATENCY_SIZE = 2

MONITOR_PAGE_SCHEMA = Struct(
    "trigger_state" / EnumField(Int32ul, TriggerState),  # u32 trigger_state
    "reserved" / Bytes(4),
    "trigger_groups" / Bytes(GROUP_COUNT * TRIGGER_GROUP.size),  # trigger_group[4]
    "reserved_after_groups" / Bytes(24),
    "next_check_times" / Bytes(MONITOR_COUNT * 4),  # s32 next_checktime[4][32]
    "latencies" / Bytes(MONITOR_COUNT * LATENCY_SIZE),  # u16 latency[4][32]
    "reserved_after_latencies" / Bytes(256),
    "parameters" / Bytes(MONITOR_COUNT * MONITOR_PARAMETER.size),  # parameter[4][32]
    "reserved_at_end" / Bytes(1984),
)


class MonitorPage(NamedTuple):
    """One of the two monitor pages; the arrays are as they stand in memory, and methods look into them."""

    trigger_state: int
    reserved: bytes
    trigger_groups: bytes
    reserved_after_groups: bytes
    next_check_times: bytes
    latencies: bytes
    reserved_after_latencies: bytes
    parameters: bytes
    reserved_at_end: bytes

    def group(self, number: int) -> TriggerGroup:
        """One of the four trigger groups."""
        check_below(number, GROUP_COUNT, "number", "trigger group")
        return TRIGGER_GROUP.unpack(self.trigger_groups, number * TRIGGER_GROUP.size)

    def is_pending(self, monitor_id: int) -> bool:
        """Whether the bit of that monitor is set."""
        place = monitor_place(monitor_id)
        return bool(self.group(monitor_id // WORD_BITS).pending >> place.bit & 1)

    def latency(self, monitor_id: int) -> int:
        """How often the hypervisor looks, in units of 100 ns."""
        check_monitor(monitor_id)
        start = monitor_id * LATENCY_SIZE
        return int.from_bytes(self.latencies[start : start + LATENCY_SIZE], "little")

    def parameter(self, monitor_id: int) -> MonitorParameter:
        """What it then signals."""
        check_monitor(monitor_id)
        return MONITOR_PARAMETER.unpack(self.parameters, monitor_id * MONITOR_PARAMETER.size)


MONITOR_PAGE = FixedCodec(MONITOR_PAGE_SCHEMA, MonitorPage)
assert MONITOR_PAGE.size == PAGE_SIZE


class BitPlace(NamedTuple):
    """Where a bit stands in a page.

    offset   of its 32-bit word, in bytes
    bit      its number in the word
    """

    offset: int
    bit: int


def monitor_place(monitor_id: int) -> BitPlace:
    """The pending bit of a monitor, in the monitor page.

    >>> monitor_place(0), monitor_place(33)
    (BitPlace(offset=8, bit=0), BitPlace(offset=16, bit=1))
    """
    check_monitor(monitor_id)
    group, bit = divmod(monitor_id, WORD_BITS)
    pending = MONITOR_PAGE.offsets["trigger_groups"] + TRIGGER_GROUP.offsets["pending"]
    return BitPlace(pending + group * TRIGGER_GROUP.size, bit)


def interrupt_place(relid: int) -> BitPlace:
    """The bit that tells the host of a channel, in the interrupt page.

    >>> interrupt_place(0), interrupt_place(33)
    (BitPlace(offset=2048, bit=0), BitPlace(offset=2052, bit=1))
    """
    check_below(relid, RELID_COUNT, "relid", "relid with a bit in the interrupt page")
    word, bit = divmod(relid, WORD_BITS)
    return BitPlace(INTERRUPTS_TO_HOST + word * WORD_SIZE, bit)


def check_monitor(monitor_id: int) -> None:
    check_below(monitor_id, MONITOR_COUNT, "monitor_id", "monitor id")


def check_below(number: int, count: int, argument: str, what: str) -> None:
    """Raise CallerError unless `number` is from 0 to `count` minus 1."""
    if not 0 <= number < count:
        raise CallerError(
            f"a {what} is from 0 to {count - 1}, and not {number}",
            argument=argument,
            value=number,
            limit=count - 1,
        )
