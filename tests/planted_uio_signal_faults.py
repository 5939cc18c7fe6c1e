"""Faults to plant in the doorbells and signals of a uio channel, and in what they stand on: each a line of the
shipped source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_UIO_SIGNAL_FAULTS"]

ATOMIC = "memory/test_atomic_words.py::test_"
PAGE = "layout/test_monitor_page.py::test_"
MONITOR = "uio/test_monitor.py::test_"
SIGNAL = "uio/test_signal.py::test_"
NODE = "uio/test_node.py::test_"

PLANTED_UIO_SIGNAL_FAULTS = [
    # -- one bit of a shared word ------------------------------------------------------------------
    PlantedFault(
        "load, OR and store where one operation is needed",
        "memory/atomic_words.py",
        "        self._set: Operation = partial(futex, ctypes.byref(word), encoded(SET, bit))",
        '        self._set: Operation = lambda: setattr(word, "value", word.value | 1 << bit)',
        ATOMIC + "what_another_stores_between_any_two_steps_of_an_operation_stays[set]",
    ),
    PlantedFault(
        "load, AND and store where one operation is needed",
        "memory/atomic_words.py",
        "        self._clear: Operation = partial(futex, ctypes.byref(word), encoded(CLEAR, bit))",
        '        self._clear: Operation = lambda: setattr(word, "value", word.value & ~(1 << bit))',
        ATOMIC + "what_another_stores_between_any_two_steps_of_an_operation_stays[clear]",
    ),
    PlantedFault(
        "errno of a system call not kept",
        "memory/atomic_words.py",
        "    system_call = ctypes.PyDLL(None, use_errno=True).syscall",
        "    system_call = ctypes.PyDLL(None).syscall",
        ATOMIC + "memory_that_is_gone_is_an_error_and_does_not_end_the_process",
    ),
    PlantedFault(
        "number of a bit taken for its mask",
        "memory/atomic_words.py",
        "SET, CLEAR = 2 | OPARG_SHIFT, 3 | OPARG_SHIFT",
        "SET, CLEAR = 2, 3",
        ATOMIC + "one_bit_is_set_and_cleared_and_every_other_stays",
    ),
    PlantedFault(
        "bit that keeps its mapping for ever",
        "memory/atomic_words.py",
        "        self._set = self._clear = refuse_released",
        "        self._set = refuse_released",
        ATOMIC + "a_bit_keeps_its_mapping_open_until_it_is_released",
    ),
    PlantedFault(
        "forbidden operation noticed when it is needed",
        "memory/atomic_words.py",
        "    if call(ctypes.byref(tried), encoded(SET, 31)) or tried.value != 1 | 1 << 31:  # such as in a sandbox",
        "    if call(ctypes.byref(tried), encoded(SET, 31)) > 0:",
        ATOMIC + "a_system_that_forbids_the_call_is_refused_when_the_bit_is_made",
    ),
    # -- where the bits are ------------------------------------------------------------------------
    PlantedFault(
        "armed words left out between the pending ones",
        "layout/monitor_page.py",
        "    return BitPlace(FIRST_PENDING + group * GROUP_SIZE, bit)",
        "    return BitPlace(FIRST_PENDING + group * WORD_SIZE, bit)",
        PAGE + "every_monitor_has_a_pending_bit_of_its_own",
    ),
    PlantedFault(
        "channel's bit in the half for the guest",
        "layout/monitor_page.py",
        "    return BitPlace(INTERRUPTS_TO_HOST + word * WORD_SIZE, bit)",
        "    return BitPlace(word * WORD_SIZE, bit)",
        PAGE + "the_bit_for_the_host_is_the_relid_counted_from_the_middle_of_the_page",
    ),
    # -- doorbells ---------------------------------------------------------------------------------
    PlantedFault(
        "monitor 0 taken for no monitor",
        "uio/monitor.py",
        "    if channel.monitor_id is None:",
        "    if not channel.monitor_id:",
        MONITOR + "a_monitored_channel_is_never_signaled_through_the_device[0]",
    ),
    PlantedFault(
        "channel's bit left out",
        "uio/monitor.py",
        "            AtomicBit(interrupt_page, channel.offset, channel.bit),",
        "            # its monitor's alone, as DPDK sets it",
        MONITOR + "a_monitored_channel_sets_its_bit_in_both_pages",
    ),
    PlantedFault(
        "monitor's bit before the channel's",
        "uio/monitor.py",
        "        for bit in self._bits:",
        "        for bit in reversed(self._bits):",
        MONITOR + "the_channels_bit_is_set_before_the_monitors",
    ),
    PlantedFault(
        "device taken apart that raises",
        "uio/monitor.py",
        "GONE = frozenset({errno.EIO, errno.ENODEV, errno.EINVAL})",
        "GONE = frozenset({errno.EIO})",
        "uio/test_signal.py::test_a_revoked_device_ends_one_wait_and_is_never_read_again[ENODEV]",
    ),
    PlantedFault(
        "host that was not told of which nobody hears",
        "uio/monitor.py",
        "            if error.errno in GONE:",
        "            if error.errno in GONE | {errno.EPERM, errno.EBADF}:",
        MONITOR + "a_host_that_could_not_be_told_is_a_device_error[EPERM]",
    ),
    # -- signals -----------------------------------------------------------------------------------
    PlantedFault(
        "error of a revoked device taken for nothing to read",
        "uio/signal.py",
        "        except (BlockingIOError, InterruptedError):",
        "        except OSError:",
        SIGNAL + "a_revoked_device_ends_one_wait_and_is_never_read_again[EIO]",
    ),
    PlantedFault(
        "revocation that whoever waits keeps to itself",
        "uio/signal.py",
        "        self.on_revoked()",
        "        self.wake()",
        SIGNAL + "who_waits_says_at_once_that_the_device_was_revoked_and_says_it_once",
    ),
    PlantedFault(
        "end of file taken for an interrupt",
        "uio/signal.py",
        "            gone = not self._node.read(COUNT_SIZE)",
        "            gone = self._node.read(COUNT_SIZE) is None",
        SIGNAL + "a_revoked_device_ends_one_wait_and_is_never_read_again[end]",
    ),
    PlantedFault(
        "device read when only this side has woken",
        "channel/polled_signal.py",
        "            if descriptor != self._quiet:",
        "            if _ & select.EPOLLIN:",
        SIGNAL + "the_device_is_read_once_for_each_wait_that_it_ends_and_never_else",
    ),
    PlantedFault(
        "copy of the device kept by a forked child",
        "channel/polled_signal.py",
        "    os.register_at_fork(after_in_child=abandon_all)",
        "    os.register_at_fork(after_in_parent=abandon_all)",
        SIGNAL + "a_forked_child_has_no_part_in_a_signal_and_disturbs_nothing",
    ),
    # -- the system calls --------------------------------------------------------------------------
    PlantedFault(
        "private map that nobody shares",
        "uio/node.py",
        "            access=mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ,",
        "            access=mmap.ACCESS_COPY if writable else mmap.ACCESS_READ,",
        NODE + "maps_stand_at_their_offsets_and_are_shared",
    ),
]
