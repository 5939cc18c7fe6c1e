"""A real device of a Linux guest: what sysfs says of it, and its rings through uio_hv_generic.

Where to begin:

    find_devices     what there is, as sysfs shows it; below any root
    bind, unbind     give a device to uio_hv_generic, and back
    open_channel     a channel of a device, to talk over or (read_only=True) to watch
    UioDevice        a device held open: several channels, and the buffers of transfer pages
    snapshot         the rings of a device in use, copied
    take_sample, channel_rows   how full and how busy all channels are

Linux alone has these files; everywhere else this part can be imported, and looks at copies of them.
"""

from .binding import NO_DRIVER, Step, bind, bind_plan, refuse_in_use, refuse_open, unbind, unbind_plan
from .binding_steps import AddId
from .buffers import BufferFault, DeviceBuffers, SharedBuffer
from .counters import COUNTERS, ChannelRow, Counter, Fill, Sample, channel_rows, fill_of, take_sample
from .device import UioDevice
from .device_files import STATES, UNKNOWN_NAME, GuestChannel, GuestDevice, MonitorFiles, RingFiles
from .devices import find_device, find_devices, read_device
from .in_use import Use, UseKind, uses_of
from .late import PATIENCE, UIO_DRIVER
from .maps import UioMap, read_maps
from .monitor import Doorbell, InterruptDoorbell, MonitorDoorbell, doorbell_of
from .node import SystemNode, UioNode
from .observing import ChannelObserver
from .opening import open_channel
from .signal import UioSignal
from .snapshots import MovedWord, RingCopy, Snapshot, copy_ring, snapshot
from .system import Root, System, system_at

__all__ = [
    "COUNTERS",
    "NO_DRIVER",
    "PATIENCE",
    "STATES",
    "UIO_DRIVER",
    "UNKNOWN_NAME",
    "AddId",
    "BufferFault",
    "ChannelObserver",
    "ChannelRow",
    "Counter",
    "DeviceBuffers",
    "Doorbell",
    "Fill",
    "GuestChannel",
    "GuestDevice",
    "InterruptDoorbell",
    "MonitorDoorbell",
    "MonitorFiles",
    "MovedWord",
    "RingCopy",
    "RingFiles",
    "Root",
    "Sample",
    "SharedBuffer",
    "Snapshot",
    "Step",
    "System",
    "SystemNode",
    "UioDevice",
    "UioMap",
    "UioNode",
    "UioSignal",
    "Use",
    "UseKind",
    "bind",
    "bind_plan",
    "channel_rows",
    "copy_ring",
    "doorbell_of",
    "fill_of",
    "find_device",
    "find_devices",
    "open_channel",
    "read_device",
    "read_maps",
    "refuse_in_use",
    "refuse_open",
    "snapshot",
    "system_at",
    "take_sample",
    "unbind",
    "unbind_plan",
    "uses_of",
]
