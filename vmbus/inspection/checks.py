"""What can be wrong with a control page, and the verdict on a ring.

Sources: OpenVMM vmbus_ring/src/lib.rs, validate(); Linux drivers/hv/ring_buffer.c for what it
writes; Microsoft mu_msvm EmclDxe, which asks for the ring's size minus 1.
"""

from __future__ import annotations

from enum import Enum

from vmbus.images import Finding, Severity
from vmbus.layout import SMALLEST_PACKET, ControlPage, FeatureBits
from vmbus.ring import RingFault, free_bytes, is_offset, used_bytes, wanted_space
from vmbus.sizes import SLOT

__all__ = ["Verdict", "check_control", "indices_are_valid", "judge", "room_is_missing"]

#: A plain number: the complement of a flag has, from Python 3.11 on, no bits without a name.
KNOWN_FEATURES = int(FeatureBits.SUPPORTS_PENDING_SEND_SIZE)


class Verdict(Enum):
    """The state of a ring in one snapshot, which cannot tell a slow ring from a stuck one.

    Each says whose turn it is.  A pending send size alone does not make it the writer's: some writers set
    one for good (Linux's hvsock asks for 4120 bytes once and for all).  A writer waits only where less is
    free than it asked for; and while packets are there to be read, the ring waits for its reader first.
    """

    NEVER_OPENED = "never-opened"
    CORRUPT = "corrupt"
    FULL = "full"
    WAITING_FOR_READER = "waiting-for-reader"
    WAITING_FOR_WRITER = "waiting-for-writer"
    IDLE = "idle"


def indices_are_valid(control: ControlPage, size: int) -> bool:
    """True when in and out can be used; else nothing in the data area can be found."""
    return is_offset(size, control.in_offset) and is_offset(size, control.out_offset)


def check_control(control: ControlPage, size: int) -> list[Finding]:
    """Everything wrong or odd about the control words of a ring of `size` bytes.

    >>> from vmbus.ring import inspect_ring
    >>> [finding.check for finding in check_control(inspect_ring(b"\\xff" * 128), 4096)][:3]
    ['index-range', 'index-range', 'interrupt-mask']
    """
    findings = []

    def found(check: str, severity: Severity, message: str) -> None:
        findings.append(Finding(check, severity, None, message))

    for name, index in (("in", control.in_offset), ("out", control.out_offset)):
        if not is_offset(size, index):
            message = f"{name} is {index:#06x}, and in {size} bytes it is a multiple of {SLOT} below that"
            found(RingFault.INVALID_RING_POINTER.value, Severity.ERROR, message)
    if control.interrupt_mask > 1:
        message = (
            f"the interrupt mask is {control.interrupt_mask:#x}; writers use 0 and 1, readers test for 0"
        )
        found("interrupt-mask", Severity.WARNING, message)
    pending = control.pending_send_size
    if wanted_space(pending) > size - SLOT:
        message = f"the pending send size is {pending}, and more than {size - SLOT} bytes are never free"
        found("pending-send-size", Severity.WARNING, message)
    elif pending % SLOT:
        message = f"the pending send size {pending} is no multiple of {SLOT}: readers take it for {wanted_space(pending)}"
        found("pending-send-size", Severity.NOTE, message)
    unknown = control.feature_bits & ~KNOWN_FEATURES
    if unknown:
        found("feature-bits", Severity.WARNING, f"the feature bits {unknown:#x} have no known meaning")
    others = [f"word {word} is {value:#x}" for word, value in control.other_words.items()]
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        message = f"control words that no implementation is known to use: {', '.join(others[:3])}{more}"
        found("reserved-words", Severity.WARNING, message)
    return findings


def judge(control: ControlPage, size: int, *, has_errors: bool, all_zero: bool) -> Verdict:
    """The verdict on a ring with these control words.

    has_errors   whether anything that was found in it is an error
    all_zero     whether control words and data are nothing but zeros
    """
    if has_errors:
        return Verdict.CORRUPT
    if all_zero:
        return Verdict.NEVER_OPENED
    if free_bytes(size, control.in_offset, control.out_offset) < SMALLEST_PACKET:
        return Verdict.FULL
    if used_bytes(size, control.in_offset, control.out_offset):
        return Verdict.WAITING_FOR_READER
    return Verdict.WAITING_FOR_WRITER if room_is_missing(control, size) else Verdict.IDLE


def room_is_missing(control: ControlPage, size: int) -> bool:
    """True when less is free than the writer has asked for: it waits until more is."""
    free = free_bytes(size, control.in_offset, control.out_offset)
    return wanted_space(control.pending_send_size) > free
