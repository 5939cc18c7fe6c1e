"""A device and one of its channels, opened in one call."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

from vmbus.channel import Channel, PacketChannel
from vmbus.errors import CallerError

from .device import UioDevice
from .late import PATIENCE
from .observing import ChannelObserver
from .system import Root

__all__ = ["open_channel"]

Kind = TypeVar("Kind", bound=Channel)


@overload
def open_channel(
    which: str | int,
    *,
    relid: int | None = ...,
    root: Root = ...,
    timeout: float | None = ...,
    read_only: Literal[False] = ...,
    **options: Any,
) -> PacketChannel: ...


@overload
def open_channel(
    which: str | int,
    kind: type[Kind],
    *,
    relid: int | None = ...,
    root: Root = ...,
    timeout: float | None = ...,
    read_only: Literal[False] = ...,
    **options: Any,
) -> Kind: ...


@overload
def open_channel(
    which: str | int,
    *,
    relid: int | None = ...,
    root: Root = ...,
    timeout: float | None = ...,
    read_only: Literal[True],
) -> ChannelObserver: ...


@overload
def open_channel(
    which: str | int,
    *,
    relid: int | None = ...,
    root: Root = ...,
    timeout: float | None = ...,
    read_only: bool,
) -> PacketChannel | ChannelObserver: ...


def open_channel(
    which: str | int,
    kind: type[Any] = PacketChannel,
    *,
    relid: int | None = None,
    root: Root = "/",
    timeout: float | None = PATIENCE,
    read_only: bool = False,
    **options: Any,
) -> Any:
    """A channel of a device bound to uio_hv_generic; closing it closes the device.

    which       the device: its instance, relid, uio node or kind, as find_device takes it
    kind        PacketChannel, MessageChannel, ByteChannel or one of the three for asyncio
    relid       of a subchannel; None for the primary channel
    timeout     seconds for what appears late
    read_only   True: a ChannelObserver instead, which stores nothing; of a channel that somebody has open
    options     of that kind: spin, trace, ...

    Opening waits in the calling thread: in an event loop, call it through asyncio.to_thread.

    Who wants several channels of a device, or its buffers, makes a UioDevice.

    Raises as UioDevice and its open_channel do.
    """
    if read_only:
        given = ", ".join([*([] if kind is PacketChannel else [kind.__name__]), *options])
        if given:
            raise CallerError(
                f"read_only=True only watches, and takes no kind of channel and none of its options: leave out {given}",
                argument="read_only",
                value=given,
            )
        return ChannelObserver(which, relid=relid, root=root, timeout=timeout)
    device = UioDevice(which, root=root, timeout=timeout)
    on_close = options.pop("on_close", None)

    def close_device() -> None:
        device.close()
        if on_close is not None:
            on_close()

    try:
        return device.open_channel(kind, relid=relid, timeout=timeout, on_close=close_device, **options)
    except BaseException:
        device.close()
        raise
