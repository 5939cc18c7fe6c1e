"""Who is owed a signal, and by which rule: what makes a ring that does not move a stuck one.

Two kinds of rules say when one side must wake the other (vmbus/ring/signaling.py):

    edge rules    about the moment of a commit, for who runs a ring: signal_reader_after_write,
                  signal_writer_after_read
    level rules   about the control words as they are now, for who looks at a ring:
                  reader_needs_signal, writer_needs_signal

A snapshot shows the levels alone.  Where a level rule is true the signal may be owed, or it may be on its
way, or whoever was woken is at work: a channel that drains with the mask clear looks like that all the
time.  So one snapshot says "may be owed"; *stuck* is said only where somebody vouches that nobody ran when
it was taken, or where a second one, taken later, shows that nothing has moved.

A writer that keeps its pending send size set for good has nothing to wait for once there is room: Linux's
hvsock sets 4120 when the socket opens and never clears it.  That value is never called stuck.

Sources: Linux drivers/hv/ring_buffer.c, hv_signal_on_write() and hv_pkt_iter_close(), which gives no signal
where the feature bit is clear; Linux net/vmw_vsock/hyperv_transport.c, hvs_set_channel_pending_send_size();
OpenVMM vmbus_ring/src/lib.rs, reader_needs_signal() and writer_needs_signal().
"""

from __future__ import annotations

from typing import NamedTuple

from vmbus.images import Finding, Severity
from vmbus.layout import FeatureBits
from vmbus.ring import wanted_space

from .checks import Verdict
from .ring_report import RingReport

__all__ = ["STANDING_REQUEST", "OwedSignal", "asks_for_good", "owed_signals", "stuck_findings"]

#: The pending send size that Linux's hvsock sets for good: a packet of 4088 bytes and what goes with it.
STANDING_REQUEST = 4120

#: Who writes and who reads a ring of a channel.
ENDS = {"outbound": ("the guest", "the host"), "inbound": ("the host", "the guest")}


class OwedSignal(NamedTuple):
    """A signal that a level rule says is owed.

    to        "reader" or "writer"
    owed_by   the other one
    rule      the name of the level rule
    edge      the name of the edge rule by which a correct other end would have given it
    message   one sentence: what the control words say
    """

    to: str
    owed_by: str
    rule: str
    edge: str
    message: str


def owed_signals(ring: RingReport) -> list[OwedSignal]:
    """The signals that are owed if nobody is at work on the ring.

    >>> from vmbus.ring import connected_rings
    >>> from .ring_report import inspect_memory
    >>> sender, receiver = connected_rings()
    >>> receiver.set_interrupt_mask(False)
    >>> owed_signals(inspect_memory(sender.memory))
    []
    >>> sender.send(b"of which nobody was told")
    True
    >>> [(owed.to, owed.owed_by, owed.rule) for owed in owed_signals(inspect_memory(sender.memory))]
    [('reader', 'writer', 'reader_needs_signal')]
    """
    if ring.verdict in (Verdict.CORRUPT, Verdict.NEVER_OPENED):
        return []
    owed = []
    if ring.reader_needs_signal:
        owed.append(owed_to_reader(ring))
    if ring.writer_needs_signal and not asks_for_good(ring):
        owed.append(owed_to_writer(ring))
    return owed


def asks_for_good(ring: RingReport) -> bool:
    """True when the pending send size is the one that a writer leaves set while it waits for nothing."""
    return ring.control.pending_send_size == STANDING_REQUEST


def stuck_findings(ring: RingReport) -> list[Finding]:
    """The signals owed as errors, for a ring of which it is known that nobody is at work on it."""
    return [
        Finding("stuck-reader" if owed.to == "reader" else "stuck-writer", Severity.ERROR, None, owed.message)
        for owed in owed_signals(ring)
    ]


def owed_to_reader(ring: RingReport) -> OwedSignal:
    control = ring.control
    message = (
        f"{named(ring, 'writer')} owes {named(ring, 'reader')} a signal by the level rule "
        f"reader_needs_signal: the interrupt mask is 0, and {ring.available} bytes wait from out "
        f"{control.out_offset:#06x} to in {control.in_offset:#06x}"
    )
    return OwedSignal("reader", "writer", "reader_needs_signal", "signal_reader_after_write", message)


def owed_to_writer(ring: RingReport) -> OwedSignal:
    control = ring.control
    message = (
        f"{named(ring, 'reader')} owes {named(ring, 'writer')} a signal by the level rule "
        f"writer_needs_signal: {wanted_space(control.pending_send_size)} bytes of room were asked for, and "
        f"{ring.free} are free"
    )
    if not control.feature_bits & FeatureBits.SUPPORTS_PENDING_SEND_SIZE:
        message += "; the feature bit is clear, and Linux's readers then never give this signal"
    return OwedSignal("writer", "reader", "writer_needs_signal", "signal_writer_after_read", message)


def named(ring: RingReport, end: str) -> str:
    """The reader or the writer, and whether that is the guest or the host, where it is known."""
    ends = ENDS.get(ring.place.role or "")
    return f"the {end} ({ends[end == 'reader']})" if ends else f"the {end}"
