"""Every check there is: its name, how bad what it finds is, what it means, and where that is written.

This is the one list.  A finding's `check` is a name of it, whatever found it; a name keeps its meaning for
good.  `vmbus check --list` prints it.

A check that has two severities gives the first where it is sure and the other where it is not; its
meaning says which.

Sources are named short: lib.rs is OpenVMM's vmbus_ring/src/lib.rs, ring_buffer.c and the other .c and .h
files are Linux's (drivers/hv, include/linux, net/vmw_vsock), virtio is OASIS VIRTIO 1.2.
"""

from __future__ import annotations

from vmbus.images import Check, Severity

from .image_check_list import IMAGE_CHECKS

__all__ = ["CHECKS", "CHECKS_BY_NAME", "Check"]

ERROR, WARNING, NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE


E, W, N = (ERROR,), (WARNING,), (NOTE,)

CHECKS = (
    # -- the control page of a ring ----------------------------------------------------------------
    Check(
        "index-range", E, "ring", "in or out is no multiple of 8 below the data size", "lib.rs, validate()"
    ),
    Check(
        "interrupt-mask", W, "ring", "the interrupt mask is neither 0 nor 1", "ring_buffer.c, hv_begin_read()"
    ),
    Check(
        "pending-send-size",
        (WARNING, NOTE),
        "ring",
        "more room is asked for than there ever is; a note where only its low three bits are odd",
        "lib.rs, set_pending_send_size() and commit_read()",
    ),
    Check("feature-bits", W, "ring", "feature bits are set that have no known meaning", "hyperv.h"),
    Check("reserved-words", W, "ring", "a control word without a known use is not zero", "hyperv.h"),
    Check(
        "size-assumed",
        N,
        "ring",
        "the data size is no more than assumed: the file has bytes left over, or nothing says how large the ring is",
        "our own",
    ),
    Check(
        "maybe-a-pair",
        N,
        "ring",
        "a page inside looks like a second ring's control page, and the rest does not bear it out",
        "channel.c, vmbus_alloc_ring()",
    ),
    Check("ring-moved", N, "ring", "the ring was in use while it was looked at", "our own"),
    Check("missing-memory", W, "ring", "bytes of the ring are not in the image", "our own"),
    Check("more-findings", N, "ring", "there are more findings than are listed", "our own"),
    # -- packets -------------------------------------------------------------------------------------
    Check(
        "data-available",
        E,
        "packet",
        "fewer bytes wait than the smallest packet has",
        "lib.rs, parse_packet()",
    ),
    Check(
        "descriptor-length",
        E,
        "packet",
        "the lengths of a descriptor contradict each other, or the published bytes",
        "lib.rs, parse_packet()",
    ),
    Check(
        "footer-not-published",
        E,
        "packet",
        "a packet ends where the published bytes end, and its footer does not fit",
        "EmclDxe/RingBuffer.c; Linux and OpenVMM step 8 bytes past in",
    ),
    Check(
        "descriptor-flags",
        (ERROR, WARNING),
        "packet",
        "a packet has an unknown flag; of a chain of a queue, a warning",
        "lib.rs; virtio 2.7.5",
    ),
    Check("descriptor-type", E, "packet", "no known packet has this type", "lib.rs, parse_packet()"),
    Check("gpa-range-count", E, "packet", "a GPA-direct packet lists no range", "lib.rs, parse_packet()"),
    Check(
        "gpa-range-missing",
        E,
        "packet",
        "fewer GPA ranges are there than are listed",
        "OpenVMM vmbus_ring/src/gparange.rs",
    ),
    Check("gpa-range-empty", E, "packet", "a GPA range has no bytes", "OpenVMM vmbus_ring/src/gparange.rs"),
    Check(
        "gpa-range-too-few-pages",
        E,
        "packet",
        "a GPA range has fewer page numbers than bytes need",
        "OpenVMM vmbus_ring/src/gparange.rs",
    ),
    Check(
        "gpa-range-offset",
        E,
        "packet",
        "a GPA range begins behind its first page",
        "OpenVMM vmbus_ring/src/gparange.rs",
    ),
    Check(
        "gpa-range-overflow",
        E,
        "packet",
        "offset and length of a GPA range do not fit 32 bits",
        "OpenVMM vmbus_ring/src/gparange.rs",
    ),
    Check(
        "transfer-page-range-count",
        E,
        "packet",
        "more transfer page ranges are listed than have room",
        "lib.rs, parse_packet()",
    ),
    Check(
        "footer",
        N,
        "packet",
        "waiting packets have no footer of their own, which no reader needs",
        "QEMU hw/hyperv/vmbus.c",
    ),
    # -- packets that were read already --------------------------------------------------------------
    Check(
        "history-guess",
        N,
        "history",
        "packets read already were found by lengths alone, without footers",
        "our own",
    ),
    Check(
        "history-cut",
        N,
        "history",
        "the ring is too large to look all through it for packets without footers",
        "our own",
    ),
    # -- signals that are owed -----------------------------------------------------------------------
    Check(
        "stuck-reader",
        E,
        "signals",
        "packets wait, the mask is clear, and nobody is at work: the writer owes the reader a signal",
        "lib.rs, reader_needs_signal()",
    ),
    Check(
        "stuck-writer",
        E,
        "signals",
        "there is the room that was asked for, and nobody is at work: the reader owes the writer a signal",
        "lib.rs, writer_needs_signal()",
    ),
    Check(
        "signal-was-due",
        N,
        "signals",
        "between two snapshots an edge rule must have been true: a signal had to be given",
        "ring_buffer.c, hv_signal_on_write() and hv_pkt_iter_close()",
    ),
    # -- two snapshots of one ring -------------------------------------------------------------------
    Check(
        "index-backwards",
        E,
        "snapshots",
        "in or out is where only new bytes could have brought it, and none was written",
        "ring_buffer.c, hv_pkt_iter_close()",
    ),
    Check(
        "committed-bytes-changed",
        E,
        "snapshots",
        "bytes of a packet that waited before and waits still are not the same",
        "ring_buffer.c, hv_ringbuffer_write()",
    ),
    Check(
        "went-round",
        N,
        "snapshots",
        "the ring was filled anew, once at least, between two snapshots",
        "our own",
    ),
    Check(
        "data-changed",
        N,
        "snapshots",
        "the indices are as they were and the data is not: the ring went round, or somebody was writing",
        "our own",
    ),
    Check(
        "out-inside-a-packet",
        W,
        "snapshots",
        "out moved into the middle of a packet that waited before",
        "hv_balloon.c before 5.17, which cut a packet short",
    ),
    Check(
        "between-unreadable",
        N,
        "snapshots",
        "what was written between two snapshots is no row of packets: the ring went round, or was opened anew",
        "channel.c, vmbus_open()",
    ),
    Check(
        "partly-read",
        N,
        "snapshots",
        "a byte reader has taken more of a packet that waits",
        "OpenVMM vmbus_async/src/pipe.rs",
    ),
    Check(
        "control-changed",
        N,
        "snapshots",
        "feature bits or words without a use are not as they were",
        "hyperv.h",
    ),
    # -- virtqueues ----------------------------------------------------------------------------------
    Check(
        "area-alignment",
        E,
        "queue",
        "an area of the queue is not aligned as a device wants it",
        "virtio 2.7, 2.8",
    ),
    Check("areas-overlap", W, "queue", "two areas of the queue have bytes in common", "virtio 2.7, 2.8"),
    Check("area-outside-memory", E, "queue", "an area of the queue is not in the dump", "virtio 2.7, 2.8"),
    Check("ring-flags", W, "queue", "the flags of a split ring have no meaning", "virtio 2.7.6, 2.7.8"),
    Check("wrap-pattern", W, "queue", "the flags of a packed ring turn over more than once", "virtio 2.8.1"),
    Check(
        "event-flags",
        W,
        "queue",
        "an event suppression structure says what was not negotiated",
        "virtio 2.8.10",
    ),
    Check(
        "event-position", W, "queue", "an event is asked for at a slot that the ring has not", "virtio 2.8.10"
    ),
    Check(
        "available-index-jump",
        E,
        "queue",
        "the available index is further ahead than the queue has entries",
        "virtio 2.7.13",
    ),
    Check("head-out-of-range", E, "queue", "a head is no descriptor of the table", "virtio 2.7.13"),
    Check(
        "head-in-flight", E, "queue", "a chain was made available again before it was used", "virtio 2.7.13"
    ),
    Check(
        "too-many-in-flight", E, "queue", "more descriptors are in flight than the queue has", "virtio 2.7.13"
    ),
    Check("next-out-of-range", E, "queue", "a chain goes on outside its table", "virtio 2.7.5"),
    Check(
        "chain-too-long",
        E,
        "queue",
        "a chain has more descriptors than the queue: it may be a circle",
        "virtio 2.7.5",
    ),
    Check("chain-too-large", E, "queue", "a chain has more bytes than 32 bits count", "virtio 2.7.5"),
    Check(
        "readable-after-writable",
        E,
        "queue",
        "a chain has a readable buffer behind a writable one",
        "virtio 2.7.4",
    ),
    Check("chain-too-short", E, "queue", "a chain has fewer bytes than the device needs", "virtio 2.7.4"),
    Check("buffer-outside-memory", E, "queue", "a buffer is where no memory is", "virtio 2.7.5"),
    Check("buffer-not-there", N, "queue", "buffers of chains are not all in the dump", "our own"),
    Check(
        "indirect-not-negotiated",
        E,
        "queue",
        "a descriptor is indirect, and that was not negotiated",
        "virtio 2.7.5.3",
    ),
    Check("indirect-with-next", E, "queue", "an indirect descriptor also goes on", "virtio 2.7.5.3"),
    Check("nested-indirect", E, "queue", "an indirect table has an indirect descriptor", "virtio 2.7.5.3"),
    Check(
        "indirect-length", E, "queue", "an indirect table is no whole number of descriptors", "virtio 2.7.5.3"
    ),
    Check(
        "indirect-too-long",
        E,
        "queue",
        "an indirect table has more entries than an index can name",
        "virtio 2.7.5.3",
    ),
    Check(
        "indirect-outside-memory",
        (WARNING, ERROR),
        "queue",
        "an indirect table is not in the dump",
        "virtio 2.7.5.3",
    ),
    Check(
        "list-unfinished",
        E,
        "queue",
        "a list of a packed ring goes on in a slot that is not available",
        "virtio 2.8.8",
    ),
    Check(
        "used-index-jump",
        E,
        "queue",
        "the used index is further ahead than chains are outstanding",
        "virtio 2.7.14",
    ),
    Check("used-id-out-of-range", E, "queue", "a used id is no descriptor of the table", "virtio 2.7.8"),
    Check(
        "used-id-not-outstanding", E, "queue", "a used id is of no chain that the device has", "virtio 2.7.8"
    ),
    Check(
        "used-length-too-large",
        (WARNING, ERROR),
        "queue",
        "a used length is larger than the room in the chain",
        "virtio 2.7.8",
    ),
    Check(
        "out-of-order",
        N,
        "queue",
        "chains were used out of order, and which of them wait is not certain",
        "virtio 2.7.8",
    ),
    Check(
        "list-or-rest",
        N,
        "queue",
        "lists of a packed ring wait, or are what is left of used ones",
        "virtio 2.8",
    ),
    Check(
        "too-many-descriptors",
        N,
        "queue",
        "chains have so many descriptors that not all were followed",
        "our own",
    ),
    Check(
        "too-many-bytes",
        N,
        "queue",
        "packets in chains have so many bytes that not all were looked at",
        "our own",
    ),
    Check("queue-moved", N, "queue", "the queue was in use while it was looked at", "our own"),
    # -- packets of sockets --------------------------------------------------------------------------
    Check(
        "vsock-queue",
        (WARNING, NOTE),
        "socket",
        "the chains are those of another queue of a socket device",
        "virtio 5.10.2",
    ),
    Check("vsock-header", E, "socket", "a packet has no room for its header", "virtio 5.10.6"),
    Check("vsock-cid", W, "socket", "a packet comes from a CID that no sender has", "virtio 5.10.4"),
    Check("vsock-type", W, "socket", "a packet has an unknown type", "virtio 5.10.6"),
    Check("vsock-operation", W, "socket", "a packet has an unknown operation", "virtio 5.10.6"),
    Check(
        "vsock-payload", W, "socket", "a packet has a length, and its operation no payload", "virtio 5.10.6"
    ),
    Check(
        "vsock-large", W, "socket", "a packet says that it is larger than receivers take", "virtio_vsock.h"
    ),
    Check(
        "vsock-length", E, "socket", "a packet says that it has more payload than is there", "virtio 5.10.6"
    ),
    Check(
        "vsock-flags", W, "socket", "a packet has flags without a meaning in its operation", "virtio 5.10.6"
    ),
    # -- memory images ------------------------------------------------------------------------------
    *IMAGE_CHECKS,
)

CHECKS_BY_NAME = {check.name: check for check in CHECKS}
