"""A sample of a guest's channels as JSON, "vmbus.top/1": integers stay integers, what is not known is null.

    {"schema", "time", "seconds", "device_count", "problem",
     "channels": [{"instance_id", "class_id", "class_name", "driver", "uio", "interfaces",
                   "disks", "relid", "open", "subchannel_id", "cpu", "out_mask", "in_mask", "monitor_id", "pending", "signal_pending",
                   "outbound": {"used", "data_size", "data_size_assumed", "fraction"},
                   "inbound": {"used", "data_size", "data_size_assumed", "fraction"},
                   <counters>,
                   "rates": {<counters>}}]}

    <counters>          "interrupts", "events", "intr_in_full", "intr_out_empty", "out_full_first", "out_full_total"

    time                seconds since 1970, by the clock of the machine
    seconds             between the samples that rates are of; null without rates
    device_count        how many devices there are, also those that the filter leaves out
    problem             why none can be seen, or null
    channels            those that the filter leaves, in the order asked for
    signal_pending      whether the channel's own bit of `pending` is set
    used, data_size     bytes that wait in a ring, and that it has for data; data_size_assumed: the size is a guess
    fraction            how full it is, from 0 to 1
    rates               of the counters, a second

Of a channel, what comes out of a file of sysfs has the file's name as its key.  What is also in "vmbus.devices/1"
is called the same there, in the device or in its channel.
"""

from __future__ import annotations

from time import time
from typing import Any

from vmbus.uio import ChannelRow, Fill

from .top_view import Picture, View

__all__ = ["SCHEMA", "picture_to_json"]

SCHEMA = "vmbus.top/1"


def picture_to_json(view: View, picture: Picture) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "time": round(time(), 3),
        "seconds": None if picture.seconds is None else round(picture.seconds, 6),
        "device_count": len(picture.sample.devices),
        "problem": picture.sample.problem,
        "channels": [row_to_json(row) for row in view.visible(picture.rows)],
    }


def row_to_json(row: ChannelRow) -> dict[str, Any]:
    device, channel = row.device, row.channel
    return {
        "instance_id": device.instance_id,
        "class_id": None if device.class_id is None else str(device.class_id),
        "class_name": device.class_name,
        "driver": device.driver,
        "uio": device.uio,
        "interfaces": list(device.interfaces),
        "disks": list(device.disks),
        "relid": channel.relid,
        "open": channel.is_open,
        "subchannel_id": channel.subchannel_id,
        "cpu": channel.cpu,
        "out_mask": channel.out_mask,
        "in_mask": channel.in_mask,
        "monitor_id": channel.monitor_id,
        "pending": channel.pending,
        "signal_pending": row.is_signal_pending,
        "outbound": fill_to_json(row.outbound),
        "inbound": fill_to_json(row.inbound),
        **{name: counter.total for name, counter in row.counters.items()},
        "rates": {
            name: None if counter.rate is None else round(counter.rate, 3)
            for name, counter in row.counters.items()
        },
    }


def fill_to_json(fill: Fill) -> dict[str, Any]:
    return {
        "used": fill.used,
        "data_size": fill.data_size,
        "data_size_assumed": fill.assumed,
        "fraction": None if fill.fraction is None else round(fill.fraction, 4),
    }
