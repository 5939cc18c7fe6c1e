"""One bit of a word that others change at the same moment.

The monitor page and the interrupt page are of all devices of a guest: the kernel, other programs and the
hypervisor set and clear bits in the very same 32-bit words.  A load, an OR and a store would put back what
another has changed in between, and its signal would be lost.  The processor has one instruction for it, and
Python has none that reaches into a mapping.

Linux has it behind futex(2): FUTEX_WAKE_OP changes a word in one atomic operation, and then wakes whoever
sleeps for it, which nobody does here.  It takes about 2 us.  Two more things speak for it: it needs no
library, and memory that is gone (a file cut short, a device revoked) is an error and does not end the process
with SIGBUS.

Only on 64-bit Linux, on x86-64 and arm64; elsewhere no means is known.

Sources: futex(2), FUTEX_WAKE_OP; Linux include/uapi/linux/futex.h, FUTEX_OP().
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NoReturn

from vmbus.errors import CallerError, DeviceError

from .barrier import machine_name
from .ring_memory import Buffer, view_bytes

__all__ = ["AtomicBit"]

WORD_SIZE = 4
WORD_BITS = 8 * WORD_SIZE

#: The number of futex(2), by machine.
FUTEX_CALL = {"x86_64": 202, "aarch64": 98}

#: Of this process alone, which says who might sleep and not who shares the bytes: nothing else is looked up.
FUTEX_WAKE_OP_PRIVATE = 5 | 128

#: What is done to the word: one bit, given by its number, is set or cleared.  (FUTEX_OP_OR, FUTEX_OP_ANDN)
OPARG_SHIFT = 8
SET, CLEAR = 2 | OPARG_SHIFT, 3 | OPARG_SHIFT

#: Woken are so many.
NOBODY = 0

Operation = Callable[[], int]


class AtomicBit:
    """One bit of an aligned little-endian 32-bit word in shared memory.

    buffer   bytes that can be written, such as a mapping; they cannot be closed before `release`
    offset   of the word, in bytes: a multiple of 4
    bit      its number in the word, 0 to 31

    Raises CallerError for a word that is not in the buffer, DeviceError where this system has no such operation.
    """

    def __init__(self, buffer: Buffer, offset: int, bit: int) -> None:
        view = view_bytes(buffer, "buffer", writable=True)
        check_place(len(view), offset, bit)
        import ctypes  # slow to import, and few programs come here

        self.place = f"bit {bit} of the word at {offset:#x}"
        futex = futex_call()
        word = ctypes.c_uint32.from_buffer(view, offset)
        check_alignment(ctypes.addressof(word))
        # What is prepared holds the word, and the word the buffer.
        self._set: Operation = partial(futex, ctypes.byref(word), encoded(SET, bit))
        self._clear: Operation = partial(futex, ctypes.byref(word), encoded(CLEAR, bit))

    def set(self) -> None:
        """Set the bit: one atomic operation, before and after which everything stays in order.

        Raises DeviceError (EFAULT) when the memory behind the mapping is gone; CallerError after `release`.
        """
        if self._set():
            self._refuse()

    def clear(self) -> None:
        """Clear the bit, as `set` sets it: what the other side of such a page does."""
        if self._clear():
            self._refuse()

    def release(self) -> None:
        """Let go of the buffer, so that it can be closed; again is harmless."""
        self._set = self._clear = refuse_released

    def _refuse(self) -> NoReturn:
        import ctypes

        number = ctypes.get_errno()
        raise DeviceError(number, f"{self.place} cannot be changed: {os.strerror(number)}")

    def __repr__(self) -> str:
        return f"<AtomicBit: {self.place}{', released' if self._set is refuse_released else ''}>"


def encoded(operation: int, bit: int) -> int:
    """What FUTEX_WAKE_OP is to do; its comparison (with 0) decides who else is woken, which is nobody.

    >>> hex(encoded(SET, 31))
    '0xa001f000'
    """
    return operation << 28 | bit << 12


def refuse_released() -> NoReturn:
    raise CallerError("this bit was released", argument="self", value="released", limit="not released")


def check_place(length: int, offset: int, bit: int) -> None:
    """Raise CallerError unless the word lies in a buffer of `length` bytes, and the bit in the word."""
    if not 0 <= offset <= length - WORD_SIZE or offset % WORD_SIZE:
        raise CallerError(
            f"a word of {WORD_SIZE} bytes stands at a multiple of {WORD_SIZE} inside the buffer of {length} bytes, "
            f"not at {offset:#x}",
            argument="offset",
            value=offset,
            limit=length - WORD_SIZE,
        )
    if not 0 <= bit < WORD_BITS:
        raise CallerError(
            f"a word has the bits 0 to {WORD_BITS - 1}, and not {bit}",
            argument="bit",
            value=bit,
            limit=WORD_BITS - 1,
        )


def check_alignment(address: int) -> None:
    if address % WORD_SIZE:
        raise CallerError(
            f"the shared word is at address {address:#x} of this process; it needs a multiple of {WORD_SIZE}",
            argument="buffer",
            value=address,
            limit=WORD_SIZE,
        )


@cache
def futex_call() -> Callable[[Any, int], int]:
    """A function of a word and what to do to it: 0 when it is done, else errno says why not.

    Raises DeviceError where it does not work.
    """
    import ctypes

    machine = machine_name().lower()
    number = FUTEX_CALL.get(machine)
    if number is None or sys.platform != "linux" or sys.maxsize < 2**32 or sys.byteorder != "little":
        raise DeviceError(
            errno.ENOSYS,
            f"no atomic operation on shared words is known for {sys.platform} on {machine} "
            f"({'64' if sys.maxsize > 2**32 else '32'} bits); it is known for 64-bit Linux on {', '.join(FUTEX_CALL)}",
        )
    # PyDLL: the interpreter's lock is kept, as giving it up would take longer than the call.
    system_call = ctypes.PyDLL(None, use_errno=True).syscall
    system_call.restype = ctypes.c_long
    system_call.argtypes = (
        ctypes.c_long,  # the number of the call
        ctypes.c_void_p,  # u32 *uaddr: a word that somebody may sleep for
        ctypes.c_long,  # int futex_op
        ctypes.c_long,  # u32 val: how many of those are woken
        ctypes.c_long,  # u32 val2: how many that sleep for the other word
        ctypes.c_void_p,  # u32 *uaddr2: the word that is changed
        ctypes.c_long,  # u32 val3: how
    )
    unused = ctypes.c_uint32()

    def call(word: Any, what: int) -> int:
        return int(
            system_call(number, ctypes.byref(unused), FUTEX_WAKE_OP_PRIVATE, NOBODY, NOBODY, word, what)
        )

    tried = ctypes.c_uint32(1)
    if call(ctypes.byref(tried), encoded(SET, 31)) or tried.value != 1 | 1 << 31:  # such as in a sandbox
        refused = ctypes.get_errno() or errno.ENOSYS
        raise DeviceError(refused, f"futex(FUTEX_WAKE_OP) does not work here: {os.strerror(refused)}")
    return call
