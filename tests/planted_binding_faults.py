"""Faults to plant in the way from one driver to another: each a line of the shipped source, a wrong one, and who
must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_BINDING_FAULTS"]

BINDING = "uio/test_binding.py::test_"
WHATEVER = BINDING + "whatever_write_fails_the_tree_is_afterwards_as_it_was"
IN_USE = "uio/test_in_use.py::test_"
NIC = "11111111-0000-4000-8000-000000000001"
COMMAND = "cli/test_bind.py::test_"

PLANTED_BINDING_FAULTS = [
    # -- what is written ---------------------------------------------------------------------------
    PlantedFault(
        "override cleared by an empty write",
        "uio/binding_steps.py",
        'NO_OVERRIDE = "\\n"',
        'NO_OVERRIDE = ""',
        BINDING + "a_device_goes_back_to_the_driver_that_knows_it_or_that_is_named[None-hv_netvsc]",
    ),
    PlantedFault(
        "id that is there already taken for an error",
        "uio/binding_steps.py",
        "        if error.errno != errno.EEXIST:",
        "        if error.errno:",
        BINDING + "a_class_that_the_driver_was_told_to_take_before_is_no_error",
    ),
    PlantedFault(
        "other devices of the class kept",
        "uio/binding_steps.py",
        "        take(system, self.instance, UIO_DRIVER)",
        "        pass",
        BINDING
        + f"a_bound_device_has_a_node_and_no_other_device_has_changed[{1:08}-False]".replace(
            f"{1:08}", "11111111-0000-4000-8000-000000000001-16"
        ),
    ),
    PlantedFault(
        "answer of the driver not checked",
        "uio/binding_steps.py",
        '        raise DeviceError(errno.ENODEV, f"{system.path(place)}: {driver} has not taken {instance}")',
        "        pass",
        BINDING + "a_driver_whose_refusal_is_not_heard_of_is_noticed",
    ),
    # -- and taken back ----------------------------------------------------------------------------
    PlantedFault(
        "steps undone in the order in which they were done",
        "uio/binding.py",
        "    for step in reversed(begun):",
        "    for step in begun:",
        WHATEVER + "[bind]",
    ),
    PlantedFault(
        "step that was interrupted not undone",
        "uio/binding.py",
        "                outcome = take_back(begun, system)",
        "                outcome = take_back(begun[:-1], system)",
        WHATEVER + "[bind]",
    ),
    PlantedFault(
        "old driver refused its device by the override",
        "uio/binding_steps.py",
        "        system.write(override, self.driver)",
        "        pass",
        WHATEVER + "[bind, from a driver without the id]",
    ),
    PlantedFault(
        "id removed that was there before",
        "uio/binding_steps.py",
        "            self.had_it = True",
        "            self.had_it = False",
        BINDING + "a_class_that_was_known_before_stays_known[refuse_at-DeviceError]",
    ),
    PlantedFault(
        "Ctrl-C between a write and the note of it",
        "uio/binding.py",
        "            with nullcontext() if step.takes_long else signals_held():",
        "            with nullcontext():",
        BINDING + "a_class_that_was_known_before_stays_known[interrupt_after-KeyboardInterrupt]",
    ),
    PlantedFault(
        "second Ctrl-C that ends the undoing",
        "uio/binding.py",
        "        except (KeyboardInterrupt, SystemExit):",
        "        except ZeroDivisionError:",
        WHATEVER + "[bind]",
    ),
    PlantedFault(
        "second Ctrl-C that forgets what became of it",
        "uio/binding.py",
        "            second.args = (outcome,)",
        "            pass",
        WHATEVER + "[bind]",
    ),
    # -- what must not be taken away ---------------------------------------------------------------
    PlantedFault(
        "device in use taken without force",
        "uio/binding.py",
        "    if steps and not force:",
        "    if steps and force:",
        BINDING + "a_device_that_the_system_needs_is_refused_unless_forced",
    ),
    PlantedFault(
        "open device taken from its program",
        "uio/binding.py",
        "    if device.driver == UIO_DRIVER and device.is_open:",
        "    if device.driver == UIO_DRIVER and device.is_open and device.uio is None:",
        BINDING + "a_device_that_a_program_holds_open_is_refused_unless_forced",
    ),
    PlantedFault(
        "list of mounts cut after one read",
        "uio/in_use.py",
        "    mounts = mounts_in(system.whole_text(MOUNTS))",
        "    mounts = mounts_in(system.text(MOUNTS))",
        IN_USE + "a_list_longer_than_one_read_gives_is_read_to_its_end",
    ),
    PlantedFault(
        "list that cannot be read taken for an empty one",
        "uio/lists_in_proc.py",
        "    return None if text is None else mounts",
        "    return mounts",
        IN_USE
        + "a_list_that_is_not_there_or_makes_no_sense_counts_as_use_of_what_could_be_in_it"
        + "[None-proc/self/mountinfo-could_carry0]",
    ),
    PlantedFault(
        "no rights asked for",
        "cli/bind_command.py",
        '        check_rights("bind")',
        "        pass",
        COMMAND + "those_who_are_not_root_are_told_before_anything_is_written",
    ),
]
