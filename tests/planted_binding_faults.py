"""Faults to plant in the way from one driver to another: each a line of the shipped source, a wrong one, and who
must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_BINDING_FAULTS"]

BINDING = "uio/test_binding.py::test_"
UNDO = "uio/test_binding_undo.py::test_"
WHATEVER = UNDO + "whatever_write_fails_the_tree_is_afterwards_as_it_was"
IN_USE = "uio/test_in_use.py::test_"
NIC = "11111111-0000-4000-8000-000000000001"
COMMAND = "cli/test_bind.py::test_"
INSPECT = "cli/test_inspect_uio.py::test_"

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
        UNDO + "a_driver_whose_refusal_is_not_heard_of_is_noticed",
    ),
    # -- and taken back ----------------------------------------------------------------------------
    PlantedFault(
        "steps undone in the order in which they were done",
        "uio/carrying_out.py",
        "    for step in reversed(begun):",
        "    for step in begun:",
        WHATEVER + "[bind]",
    ),
    PlantedFault(
        "step that was interrupted not undone",
        "uio/carrying_out.py",
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
        UNDO + "a_class_that_was_known_before_stays_known[refuse_at-DeviceError]",
    ),
    PlantedFault(
        "Ctrl-C between a write and the note of it",
        "uio/carrying_out.py",
        "            with nullcontext() if step.takes_long else signals_held():",
        "            with nullcontext():",
        UNDO + "a_class_that_was_known_before_stays_known[interrupt_after-KeyboardInterrupt]",
    ),
    PlantedFault(
        "second Ctrl-C that ends the undoing",
        "uio/carrying_out.py",
        "        except (KeyboardInterrupt, SystemExit):",
        "        except ZeroDivisionError:",
        WHATEVER + "[bind]",
    ),
    PlantedFault(
        "second Ctrl-C that forgets what became of it",
        "uio/carrying_out.py",
        "            second.args = (outcome,)",
        "            pass",
        WHATEVER + "[bind]",
    ),
    PlantedFault(
        "undoing that failed kept quiet",
        "uio/carrying_out.py",
        "            problems.append(words_of(error))",
        "            pass",
        UNDO + "in_any_order_a_device_is_with_the_driver_asked_for_or_where_it_was",
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
        '            check_rights("bind")',
        "            pass",
        COMMAND + "those_who_are_not_root_are_told_before_anything_is_written",
    ),
    PlantedFault(
        "lines for a shell of what is refused",
        "cli/bind_command.py",
        "        if steps and not arguments.force:",
        "        if steps and not arguments.force and not arguments.dry_run:",
        COMMAND + "a_dry_run_prints_nothing_for_a_shell_where_the_command_refuses_but_the_same_error",
    ),
    PlantedFault(
        "lines for a shell of a device that is open",
        "cli/unbind_command.py",
        "        if steps and not arguments.force:",
        "        if steps and not arguments.force and not arguments.dry_run:",
        COMMAND + "a_dry_run_prints_nothing_for_a_shell_where_the_command_refuses_but_the_same_error",
    ),
    PlantedFault(
        "name of an interface cut where only Python sees a blank",
        "uio/lists_in_proc.py",
        '    return BLANKS.split(line.strip(" \\t"))',
        "    return line.split()",
        IN_USE + "a_name_may_hold_what_only_python_takes_for_a_blank_or_the_end_of_a_line[em space]",
    ),
    PlantedFault(
        "list cut where only Python sees the end of a line",
        "uio/lists_in_proc.py",
        '    lines = text.split("\\n")',
        "    lines = text.splitlines()",
        IN_USE + "a_name_may_hold_what_only_python_takes_for_a_blank_or_the_end_of_a_line[line separator]",
    ),
    PlantedFault(
        "path that no system has ends the look",
        "uio/system.py",
        "        except (OSError, ValueError, RecursionError):",
        "        except (OSError, RecursionError):",
        IN_USE + "a_name_that_no_path_can_have_counts_as_a_guess",
    ),
    PlantedFault(
        "too many file systems looked at in part and nothing said",
        "uio/in_use.py",
        "    if len(found) > MOST_MOUNTED:",
        "    if len(found) < 0:",
        IN_USE + "of_more_file_systems_than_anybody_has_nobody_can_tell",
    ),
    # -- what did not do what it said ---------------------------------------------------------------
    PlantedFault(
        "undoing ended by an error that nobody has foreseen",
        "uio/carrying_out.py",
        "        except Exception as error:  # noqa: BLE001 - the steps before it have to be undone all the same",
        "        except DeviceError as error:",
        UNDO + "an_error_that_nobody_has_foreseen_does_not_end_the_taking_back_and_is_named",
    ),
    PlantedFault(
        "such an error without what became of the rest",
        "uio/carrying_out.py",
        "        if isinstance(error, Exception):",
        "        if isinstance(error, DeviceError):",
        UNDO + "a_step_that_ends_in_such_an_error_has_all_put_back_and_said",
    ),
    PlantedFault(
        "driver that has not let go taken for done",
        "uio/binding_steps.py",
        "        if driver_of(system, self.instance) == self.driver:",
        "        if driver_of(system, self.instance) is self:",
        BINDING + "a_driver_that_does_not_let_go_is_an_error_that_names_it[none]",
    ),
    PlantedFault(
        "device that uio_hv_generic takes again given back",
        "uio/binding_steps.py",
        "        if driver_of(system, self.instance) == UIO_DRIVER:",
        "        if driver_of(system, self.instance) is self:",
        BINDING + "what_uio_hv_generic_takes_again_is_an_error_that_names_it",
    ),
    # -- what is said in the words of a command line --------------------------------------------------
    PlantedFault(
        "parameter of the package in a message of a command",
        "cli/option_names.py",
        "        if option is not None:",
        "        if option is None:",
        COMMAND + "a_device_that_the_system_needs_is_refused_by_what_it_is_for_unless_forced",
    ),
    PlantedFault(
        "parameter in what only binding itself finds",
        "cli/bind_command.py",
        '    with options_named(force="--force"):',
        "    with options_named():",
        COMMAND + "what_is_in_use_only_when_it_is_taken_is_refused_by_the_option_too",
    ),
    PlantedFault(
        "parameter of a snapshot in a message of a command",
        "cli/uio_input.py",
        '    with options_named(even_if_closed="--open"):',
        "    with options_named():",
        INSPECT + "a_device_that_nobody_has_open_is_refused_and_what_open_would_do_is_said[check]",
    ),
]
