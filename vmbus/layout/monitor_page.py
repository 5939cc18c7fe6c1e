"""The pages through which a guest tells its host to look at a channel, without a hypercall.

A guest shares two monitor pages with its host: the first is written by the host and the second by the guest.
A channel that is monitored has a number, its monitor id.  Its bit in `pending` of the second page tells the
hypervisor, which looks every so often, clears the bit and signals the host.

    trigger group   32 monitors: group = id / 32, bit = id % 32; `armed` is the hypervisor's own
    trigger state   which of the four groups are in use, a bit each

The interrupt page has a bit for each channel, by relid: the first half for signals to the guest, the second
for signals to the host.  Linux sets the channel's bit there before the one in the monitor page.

Both pages are of all channels of the guest, and others change them meanwhile: what is unpacked is no moment.

Sources: Linux include/linux/hyperv.h and drivers/hv/hyperv_vmbus.h (struct hv_monitor_page,
MAX_NUM_CHANNELS), drivers/hv/connection.c vmbus_setevent(); DPDK drivers/bus/vmbus/rte_vmbus_reg.h.
"""

from __future__ import annotations

from typing import NamedTuple

from construct import Array, Bytes, Int32ul, Struct

from vmbus.errors import CallerError
from vmbus.sizes import PAGE_SIZE

from .codec import offset_of

__all__ = [
    "INTERRUPTS_TO_HOST",
    "MONITOR_COUNT",
    "MONITOR_PAGE_HEAD_SCHEMA",
    "RELID_COUNT",
    "TRIGGER_GROUP_SCHEMA",
    "BitPlace",
    "interrupt_place",
    "monitor_place",
]

GROUP_COUNT = 4
WORD_BITS = 32
WORD_SIZE = 4

#: Monitor ids are below this.
MONITOR_COUNT = GROUP_COUNT * WORD_BITS

#: Where in the interrupt page the bits for the host begin; before it stand those for the guest.
INTERRUPTS_TO_HOST = PAGE_SIZE // 2

#: Relids that have a bit are below this.
RELID_COUNT = 8 * (PAGE_SIZE - INTERRUPTS_TO_HOST)


TRIGGER_GROUP_SCHEMA = Struct(
    "pending" / Int32ul,  # u32 pending: a bit for each monitor, set by who signals
    "armed" / Int32ul,  # u32 armed
)


#: The start of a monitor page; behind it stand latencies and parameters, which the hypervisor alone reads.
MONITOR_PAGE_HEAD_SCHEMA = Struct(
    "trigger_state" / Int32ul,  # u32 trigger_state: bits 0 to 3, the groups in use
    "reserved" / Bytes(4),
    "trigger_groups" / Array(GROUP_COUNT, TRIGGER_GROUP_SCHEMA),  # trigger_group[4]
)


#: Where the first `pending` stands, and how far the next one is behind it.
FIRST_PENDING = offset_of(MONITOR_PAGE_HEAD_SCHEMA, "trigger_groups") + offset_of(
    TRIGGER_GROUP_SCHEMA, "pending"
)
GROUP_SIZE: int = TRIGGER_GROUP_SCHEMA.sizeof()


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
    return BitPlace(FIRST_PENDING + group * GROUP_SIZE, bit)


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
