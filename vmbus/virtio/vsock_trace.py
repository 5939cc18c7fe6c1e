"""A VsockCarrier that shows every packet that goes through it: for captures, logs and checks."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

from .vsock_carrier import CarrierStatistics, VsockArrival, VsockCarrier
from .vsock_layout import VSOCK_HEADER, VsockHeader

__all__ = ["TracedCarrier", "VsockTrace"]

#: Called with the header and the payload of each packet; its addresses say which way it goes.
VsockTrace = Callable[[VsockHeader, "bytes | memoryview"], object]

log = logging.getLogger("vmbus.virtio")


class TracedCarrier(VsockCarrier):
    """The carrier that it is made of, and `trace` is called with every packet, after the fact.

    What `trace` raises is logged and goes no further; of the first time a RuntimeWarning tells.  It must not use the carrier, nor keep the payload
    without a copy: one that is sent is the sender's own buffer.

    >>> from vmbus.virtio import VsockEndpoint, VsockOperation, connected_vsock
    >>> guest, host = connected_vsock()
    >>> def trace(header, payload):
    ...     print(header.src_cid, VsockOperation(header.operation).name)
    >>> host = VsockEndpoint(TracedCarrier(host.carrier, trace), 2, peer_cid=3)
    >>> client = guest.connect(1234)
    >>> host.pump()
    3 REQUEST
    2 RST
    True
    """

    def __init__(self, carrier: VsockCarrier, trace: VsockTrace) -> None:
        self._carrier = carrier
        self._trace = trace
        self._warned = False

    def room(self) -> int:
        return self._carrier.room()

    def send(self, header: bytes, payload: bytes | memoryview = b"") -> None:
        self._carrier.send(header, payload)
        self._show(VSOCK_HEADER.unpack(header), payload)

    def receive(self) -> VsockArrival | None:
        arrival = self._carrier.receive()
        if arrival is not None:
            self._show(*arrival)
        return arrival

    def take_reset(self) -> bool:
        return self._carrier.take_reset()

    def must_notify(self) -> bool:
        return self._carrier.must_notify()

    def prepare_to_sleep(self) -> bool:
        return self._carrier.prepare_to_sleep()

    def stay_awake(self) -> None:
        self._carrier.stay_awake()

    def statistics(self) -> CarrierStatistics:
        return self._carrier.statistics()

    def _show(self, header: VsockHeader, payload: bytes | memoryview) -> None:
        try:
            self._trace(header, payload)
        except Exception as error:
            log.exception("the trace of a vsock packet failed")
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"the trace of a vsock packet failed, {error!r}: see the log {log.name!r}",
                    RuntimeWarning,
                    stacklevel=3,
                )

    def __repr__(self) -> str:
        return f"<TracedCarrier: {self._carrier!r}>"
