"""What `vmbus top --json` prints: an object a sample.

    time      seconds since 1970, by the clock of the machine
    seconds   between the samples that rates are of; null without rates
    devices   how many there are
    problem   why none can be seen, or null
    channels  those that the filter leaves, in the order asked for

Of a channel, numbers have the names of their files in sysfs; `rates` are a second, of the counters of the same
names.  What is not known is null.
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
        "devices": len(picture.sample.devices),
        "problem": picture.sample.problem,
        "channels": [row_to_json(row) for row in view.visible(picture.rows)],
    }


def row_to_json(row: ChannelRow) -> dict[str, Any]:
    device, channel = row.device, row.channel
    return {
        "instance_id": device.instance_id,
        "class_id": None if device.class_id is None else str(device.class_id),
        "name": device.name,
        "driver": device.driver,
        "uio": device.uio,
        "relid": channel.relid,
        "subchannel_id": channel.subchannel_id,
        "cpu": channel.cpu,
        "open": channel.is_open,
        "outbound": fill_to_json(row.outbound),
        "inbound": fill_to_json(row.inbound),
        "out_mask": channel.out_mask,
        "in_mask": channel.in_mask,
        "monitor_id": channel.monitor_id,
        "pending": channel.pending,
        "signal_pending": row.is_signal_pending,
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
