"""Faults to plant in what opens devices of a Linux guest, maps their rings and waits for their interrupts: each a
line of the shipped source, a wrong one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_UIO_DEVICE_FAULTS"]

CHANNEL = "uio/test_double_channel.py::test_"
DEVICE = "uio/test_double_device.py::test_"
ASYNCIO = "uio/test_double_asyncio.py::test_"

PLANTED_UIO_DEVICE_FAULTS = [
    # -- the rings in a map ----------------------------------------------------------------------------
    PlantedFault(
        "rings of a device taken to be 16 KiB",
        "uio/device.py",
        "            halves = halves_of(rings.size, self.system.page_size, name)",
        "            halves = halves_of(2 * 0x4000, self.system.page_size, name)",
        DEVICE + "rings_are_as_long_as_the_map_says_behind_a_page_of_the_kernel",
    ),
    PlantedFault(
        "data of a device's rings always 4 KiB behind the control page",
        "uio/rings.py",
        "                FlatRingMem.over(view[:], header_size=halves.header_size) for view in views",
        "                FlatRingMem.over(view[:], header_size=PAGE_SIZE) for view in views",
        DEVICE + "rings_are_as_long_as_the_map_says_behind_a_page_of_the_kernel",
    ),
    PlantedFault(
        "inbound ring of a device laid over the outbound one",
        "uio/rings.py",
        "            all_bytes[size : 2 * size] as inbound,",
        "            all_bytes[:size] as inbound,",
        DEVICE + "the_inbound_ring_lies_behind_the_outbound_one_and_each_has_its_own_bytes",
    ),
    PlantedFault(
        "inbound ring of a device taken to be the first",
        "uio/rings.py",
        "            self.outbound, self.inbound = (",
        "            self.inbound, self.outbound = (",
        DEVICE + "the_inbound_ring_lies_behind_the_outbound_one_and_each_has_its_own_bytes",
    ),
    PlantedFault(
        "map that holds no two rings taken",
        "uio/rings.py",
        "    if rest or data_size <= 0 or data_size % PAGE_SIZE:",
        "    if rest or data_size <= 0:",
        DEVICE + "a_map_that_holds_no_two_rings_is_refused_before_anything_is_stored",
    ),
    PlantedFault(
        "maps of a device counted in pages of 4 KiB",
        "uio/device.py",
        "        return self._node.map(one.number * self.system.page_size, one.size, writable=writable)",
        "        return self._node.map(one.number * 4096, one.size, writable=writable)",
        CHANNEL + "packets_of_transfer_pages_resolve_to_the_bytes_of_the_receive_buffer",
    ),
    PlantedFault(
        "ring file of a subchannel taken to be 4 MiB",
        "uio/late.py",
        "        size = system.file_size(place)",
        "        size = (4 << 20) if system.file_size(place) else None",
        DEVICE + "rings_of_a_subchannel_are_as_long_as_its_file_says",
    ),
    # -- masks and signals -----------------------------------------------------------------------------
    PlantedFault(
        "mask that the kernel has set left as it is",
        "uio/rings.py",
        "        self.set_interrupt_mask(False)",
        "        pass",
        CHANNEL + "whoever_waits_on_has_the_mask_cleared_whoever_has_set_it",
    ),
    PlantedFault(
        "look at a ring before its mask is cleared, and none after",
        "channel/readiness.py",
        "        self._ring.verify_interrupts_unmasked()",
        "        if not self._ring.can_read(self._ring.incoming()): return self._ring.verify_interrupts_unmasked()",
        CHANNEL + "a_packet_that_comes_while_a_mask_of_the_kernel_is_cleared_is_not_slept_over",
    ),
    PlantedFault(
        "monitored channel signaled as if it were not",
        "uio/monitor.py",
        "    return MonitorDoorbell(monitor_page, interrupt_page, monitor_id=channel.monitor_id, relid=channel.relid)",
        "    return InterruptDoorbell(node)",
        CHANNEL + "a_monitored_channel_is_signaled_through_its_bits_alone",
    ),
    # -- what comes late -------------------------------------------------------------------------------
    PlantedFault(
        "node that is not there yet given up",
        "uio/late.py",
        "TOO_EARLY = {errno.ENOENT, errno.ENXIO, errno.ENODEV}",
        "TOO_EARLY = {errno.ENODEV}",
        DEVICE + "a_node_that_cannot_be_opened_yet_is_waited_for",
    ),
    PlantedFault(
        "node that is announced late not waited for",
        "uio/late.py",
        "    uio = device.uio or (wait_for(look, timeout) if device.driver == UIO_DRIVER else None)",
        "    uio = device.uio",
        DEVICE + "a_device_whose_node_is_announced_late_is_waited_for",
    ),
    PlantedFault(
        "rings used before their channel is open",
        "uio/late.py",
        "        return next((one for one in channels() if one.relid == relid and one.is_open), None)",
        "        return next((one for one in channels() if one.relid == relid), None)",
        DEVICE + "a_channel_that_does_not_open_in_time_is_refused_and_nothing_is_stored",
    ),
    # -- the end ---------------------------------------------------------------------------------------
    PlantedFault(
        "rings of a revoked device used on",
        "uio/device.py",
        "            signal.on_revoked = partial(channel.give_up, REVOKED)",
        "            signal.on_revoked = signal.wake",
        CHANNEL + "nothing_is_stored_in_the_rings_once_a_call_has_found_the_device_revoked",
    ),
    PlantedFault(
        "revoked device watched for ever",
        "uio/signal.py",
        "                self._watching.unregister(self._device)",
        "                pass",
        ASYNCIO + "a_loop_does_not_spin_over_a_revoked_device",
    ),
    PlantedFault(
        "device of a channel that was closed held open",
        "uio/opening.py",
        "        return device.open_channel(kind, relid=relid, timeout=timeout, on_close=close_device, **options)",
        "        return device.open_channel(kind, relid=relid, timeout=timeout, on_close=on_close, **options)",
        DEVICE + "closing_a_channel_that_was_opened_in_one_call_closes_the_device",
    ),
    PlantedFault(
        "device opened although another process has it",
        "uio/device.py",
        "        if alone and self.info.is_open:",
        "        if alone and self.info.state == 2:",
        DEVICE + "a_device_that_another_process_has_open_is_refused_unless_it_is_asked_for",
    ),
    # -- buffers ---------------------------------------------------------------------------------------
    PlantedFault(
        "range behind the end of a buffer cut short",
        "uio/buffers.py",
        "    if offset + length > len(data):",
        "    if offset > len(data):",
        CHANNEL + "packets_of_transfer_pages_resolve_to_the_bytes_of_the_receive_buffer",
    ),
    PlantedFault(
        "receive buffer mapped to be written",
        "uio/buffers.py",
        "        return self._buffer(RECEIVE_BUFFER, writable=False)",
        "        return self._buffer(RECEIVE_BUFFER, writable=True)",
        DEVICE + "the_receive_buffer_can_only_be_read",
    ),
]
