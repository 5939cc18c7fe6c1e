"""Faults to plant in what reads and lists the devices of a guest: each a line of the shipped source, a wrong one,
and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_UIO_DEVICES_FAULTS"]

SYSTEM = "uio/test_system.py::test_"
DEVICES = "uio/test_devices.py::test_"
FINDING = "uio/test_finding_devices.py::test_"
REMOVED = FINDING + "what_is_removed_at_any_moment_is_shown_whole_or_left_out"
ATTACHED = "uio/test_attached.py::test_"
COMMAND = "cli/test_devices.py::test_"

PLANTED_UIO_DEVICES_FAULTS = [
    # -- the files of a system -----------------------------------------------------------------------
    PlantedFault(
        "pipe in the place of an attribute opened",
        "uio/system.py",
        "    return stat.S_ISREG(os.stat(path).st_mode)",
        "    return not stat.S_ISDIR(os.stat(path).st_mode)",
        SYSTEM + "what_is_no_attribute_says_nothing",
    ),
    PlantedFault(
        "folder in the place of a ring has a size",
        "uio/system.py",
        "        return found.st_size if stat.S_ISREG(found.st_mode) else None",
        "        return found.st_size",
        SYSTEM + "what_is_no_attribute_says_nothing[a folder]",
    ),
    # -- the files of a device -----------------------------------------------------------------------
    PlantedFault(
        "index shown with the sign that the kernel prints",
        "uio/devices.py",
        "    return None if number is None or not -(2**31) <= number < 2**32 else number % 2**32",
        "    return None if number is None or not -(2**31) <= number < 2**32 else number",
        DEVICES + "a_word_of_shared_memory_has_no_sign",
    ),
    PlantedFault(
        "size of a ring with a wild index not in 32 bits",
        "uio/device_files.py",
        "            return check_data_size((self.read_bytes_avail + self.write_bytes_avail) % 2**32)",
        "            return check_data_size(self.read_bytes_avail + self.write_bytes_avail)",
        DEVICES + "a_wild_index_does_not_hide_the_size_of_its_ring",
    ),
    PlantedFault(
        "numbers of a ring that moved taken together",
        "uio/devices.py",
        "MOST_LOOKS = 3",
        "MOST_LOOKS = 1",
        DEVICES + "a_ring_that_moved_during_the_look_is_looked_at_again",
    ),
    PlantedFault(
        "removed device shown by what was read of it before",
        "uio/devices.py",
        "    return device if system.exists(place) else None",
        "    return device",
        REMOVED + "[device]",
    ),
    PlantedFault(
        "removed channel shown by what was read of it before",
        "uio/devices.py",
        "        if system.exists(folder):",
        "        if any(value is not None for value in files.values()):",
        REMOVED + "[channel]",
    ),
    PlantedFault(
        "folder 007 taken for channel 7",
        "uio/devices.py",
        'RELID = re.compile(r"0|[1-9][0-9]{0,9}")',
        'RELID = re.compile(r"[0-9]{1,10}")',
        DEVICES + "what_has_no_relid_for_a_name_is_no_channel",
    ),
    PlantedFault(
        "processor of thousands of digits",
        "uio/devices.py",
        'MAPPING = re.compile(rf"({RELID.pattern}):([0-9]{{1,10}})")',
        'MAPPING = re.compile(rf"({RELID.pattern}):([0-9]+)")',
        DEVICES + "a_file_that_is_missing_or_garbled_hides_no_other",
    ),
    PlantedFault(
        "closed device called open",
        "uio/device_files.py",
        "        return any(channel.is_open for channel in self.channels)",
        "        return bool(self.channels)",
        DEVICES + "masks_and_fills_of_a_closed_channel_are_missing",
    ),
    PlantedFault(
        "empty name matches a device without a driver",
        "uio/device_files.py",
        "        return wanted in {str(name).lower() for name in names if name is not None} or self.is_of_class(wanted)",
        '        return wanted in {str(name or "").lower() for name in names} or self.is_of_class(wanted)',
        FINDING + "a_device_has_these_names",
    ),
    PlantedFault(
        "service of one port taken for those of all",
        "uio/device_files.py",
        "            return self.class_id == wanted",
        "            return device_class(wanted) == self.device_class",
        FINDING + "a_service_is_of_the_class_of_sockets_and_of_its_own",
    ),
    PlantedFault(
        "kind that nobody knows found by no name",
        "uio/device_files.py",
        "            return self.device_class is None",
        "            return False",
        FINDING + "a_device_has_these_names",
    ),
    # -- what hangs below it ---------------------------------------------------------------------------
    PlantedFault(
        "links to other devices followed",
        "uio/system.py",
        "                return sorted(one.name for one in entries if one.is_dir(follow_symlinks=False))",
        "                return sorted(one.name for one in entries if one.is_dir())",
        ATTACHED + "links_are_not_followed",
    ),
    PlantedFault(
        "disk of an NVMe controller not found",
        "uio/attached.py",
        '    return around if around in (INTERFACE, DISK) else system.link_name(f"{place}/subsystem")',
        "    return around",
        ATTACHED + "what_a_pci_device_carries_is_found_below_it",
    ),
    PlantedFault(
        "every folder of a device looked into",
        "uio/attached.py",
        "            elif len(waiting) < MOST_FOLDERS:",
        "            elif len(waiting) < 2 * MOST_FOLDERS:",
        ATTACHED + "no_more_than_so_many_folders_are_looked_into",
    ),
    PlantedFault(
        "interface not taken for a name of its card",
        "uio/device_files.py",
        "        return self.interfaces + self.disks",
        "        return self.disks",
        ATTACHED + "of_two_network_cards_each_has_its_own_interface",
    ),
    # -- the command ---------------------------------------------------------------------------------
    PlantedFault(
        "zero shown as missing",
        "cli/devices_text.py",
        '    return MISSING if value is None or value == "" else str(value)',
        "    return str(value) if value else MISSING",
        COMMAND + "the_text_is_as_expected[devices-v]",
    ),
    PlantedFault(
        "unknown refused as the name of a class",
        "cli/devices_command.py",
        "    if device_class(text) is not None or text.lower() == UNKNOWN_NAME:",
        "    if device_class(text) is not None:",
        COMMAND + "filters_leave_these_devices",
    ),
    PlantedFault(
        "devices without a driver not found",
        "cli/devices_command.py",
        "        return device.driver is None",
        "        return device.driver == driver",
        COMMAND + "filters_leave_these_devices",
    ),
    PlantedFault(
        "named device not there and all is well",
        "cli/devices_command.py",
        "        report(why_missing(name, system))",
        "        pass",
        COMMAND + "a_device_that_is_named_and_not_there_is_told",
    ),
    PlantedFault(
        "kind that is known taken for a slip of the pen",
        "uio/naming.py",
        "    near = None if device_class(wanted) is not None else nearest(wanted, devices)",
        "    near = nearest(wanted, devices)",
        FINDING + "a_device_that_is_not_there_cannot_be_found",
    ),
    PlantedFault(
        "no device left and all is well",
        "cli/devices_command.py",
        "    return 1 if missing or (found and not devices) else 0",
        "    return 1 if missing else 0",
        COMMAND + "filters_that_leave_nothing_end_as_grep_does",
    ),
]
