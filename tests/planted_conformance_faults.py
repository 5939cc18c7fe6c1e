"""Faults to plant in the conformance checks and in `vmbus fuzz target`: each a line of the shipped source, a wrong
one, and who must notice.

As tests/planted_faults.py, whose list this one goes on with.
"""

from __future__ import annotations

from tests.planted_faults import PlantedFault

__all__ = ["PLANTED_CONFORMANCE_FAULTS"]

CONFORMANCE = "fuzzing/test_conformance.py::test_"
READER = "fuzzing/test_reader_process.py::test_"
COMMAND = "cli/test_fuzz_target.py::test_"

PLANTED_CONFORMANCE_FAULTS = [
    # -- conformance checks --------------------------------------------------------------------------
    PlantedFault(
        "conformance check that finds a difference and passes",
        "fuzzing/conformance_report.py",
        "        return Outcome(check.name, check.sentence, False, error.expected, error.came)",
        "        return Outcome(check.name, check.sentence, True)",
        CONFORMANCE + "a_ring_that_is_wrong_fails_its_check",
    ),
    PlantedFault(
        "order check that takes an acquire for a release",
        "fuzzing/recording_memory.py",
        '    "release": {"release", "fence"},',
        '    "release": {"release", "fence", "acquire"},',
        CONFORMANCE + "an_order_is_kept_where_each_fence_or_a_stronger_one_stands_between",
    ),
    PlantedFault(
        "order check that does not ask for the fence behind in",
        "fuzzing/conformance_order.py",
        'WRITE = ("load out", "acquire", "write", "release", "store in", "fence", "load mask", "acquire", "load out")',
        'WRITE = ("load out", "acquire", "write", "release", "store in", "load mask", "acquire", "load out")',
        CONFORMANCE + "a_ring_without_a_fence_is_told_where_it_lacks",
    ),
    PlantedFault(
        "torn load looked for at its first line alone",
        "fuzzing/conformance_memory.py",
        "            if lines <= moment:",
        "            if lines:",
        CONFORMANCE + "a_memory_that_is_wrong_fails_its_check",
    ),
    PlantedFault(
        "signal check content with a wait that never rests",
        "fuzzing/conformance_signal.py",
        "    return any(not end.wait(0) for _ in range(TRIES))",
        "    return True",
        CONFORMANCE + "a_signal_that_is_wrong_fails_its_check",
    ),
    PlantedFault(
        "channel check that receives messages and does not look at them",
        "fuzzing/conformance_kinds.py",
        '    demand_equal(receive_all(ends, ends.far, payloads, channels.patience), payloads, "messages:")',
        "    receive_all(ends, ends.far, payloads, channels.patience)",
        CONFORMANCE + "a_channel_that_is_wrong_fails_its_check",
    ),
    PlantedFault(
        "checks done although nothing can be made",
        "fuzzing/conformance_report.py",
        "    if not first.passed:",
        "    if False:",
        CONFORMANCE + "a_function_that_makes_the_wrong_thing_is_told_of_once_and_nothing_is_checked",
    ),
    PlantedFault(
        "memory taken for one that lacks what rings use",
        "fuzzing/first_call.py",
        "    missing = [name for name in names if not hasattr(made, name)]",
        "    missing = [name for name in names if made is None]",
        CONFORMANCE + "a_function_that_makes_the_wrong_thing_is_told_of_once_and_nothing_is_checked",
    ),
    PlantedFault(
        "signal asked to wait for an infinite time",
        "fuzzing/conformance_signal.py",
        "    for timeout in (None, 60 * pairs.patience, LONG):",
        '    for timeout in (None, 60 * pairs.patience, float("inf")):',
        CONFORMANCE + "a_signal_need_not_take_a_wait_that_is_infinite",
    ),
    # -- comparing with somebody else's reader -------------------------------------------------------
    PlantedFault(
        "silence in front of a broken packet taken for a refusal",
        "fuzzing/disagreement.py",
        "    if expected.error is not None and (theirs > ours or error is None):",
        "    if expected.error is not None and theirs > ours:",
        READER + "an_answer_that_differs_is_reported_by_its_kind",
    ),
    PlantedFault(
        "payload in capitals taken for another",
        "fuzzing/disagreement.py",
        '    found = {**theirs, "payload": payload.lower()} if isinstance(payload, str) else dict(theirs)',
        "    found = dict(theirs)",
        READER + "an_answer_that_says_the_same_agrees",
    ),
    PlantedFault(
        "flags as a number not looked at",
        "fuzzing/disagreement.py",
        '        found["flags_value"] = found.pop("flags")',
        '        found.pop("flags")',
        READER + "an_answer_that_differs_is_reported_by_its_kind",
    ),
    PlantedFault(
        "signal expected of nobody",
        "fuzzing/disagreement.py",
        "        return Expected(tuple(packets), None, None, ring.commit_read(offset))",
        "        return Expected(tuple(packets), None, None, False)",
        READER + "an_answer_that_says_the_same_agrees",
    ),
    PlantedFault(
        "the same break in every image for a reader",
        "fuzzing/images_for_readers.py",
        "        name = names[(number // 10 * (BROKEN - RIGHT) + turn - RIGHT) % len(names)]",
        "        name = names[0]",
        READER + "the_images_are_what_they_say_and_the_strict_reader_says_the_same",
    ),
    PlantedFault(
        "children of a reader that live on",
        "fuzzing/bounded_process.py",
        "                    os.killpg(self._process.pid, signal.SIGKILL)",
        "                    os.kill(self._process.pid, signal.SIGKILL)",
        READER + "a_reader_that_has_ended_takes_its_children_along[leaves-a-silent-child]",
    ),
    PlantedFault(
        "children left alive by a reader that has ended by itself",
        "fuzzing/bounded_process.py",
        "        if not self._ended:",
        "        if not self._ended and self._process.poll() is None:",
        READER + "a_reader_that_has_ended_takes_its_children_along[leaves-a-silent-child]",
    ),
    PlantedFault(
        "second line of an answer taken for the next answer",
        "fuzzing/reader_process.py",
        '                answer = run.unasked("printed behind the answer", answer.output + b"\\n") or answer',
        "                pass",
        READER + "a_second_line_for_an_image_is_not_taken_for_the_next_answer",
    ),
    PlantedFault(
        "line that nobody asked for taken for the next answer",
        "fuzzing/reader_process.py",
        '        answer = run.unasked("printed before it was given the image")',
        "        answer = None",
        READER + "a_line_that_comes_too_late_is_not_taken_for_the_next_answer",
    ),
    PlantedFault(
        "saved program that lacks the end of the ring",
        "fuzzing/disagreement_script.py",
        "    for start in range(0, len(image), LINE):",
        "    for start in range(0, len(image) - LINE, LINE):",
        READER + "a_saved_program_rebuilds_the_ring_and_proves_what_the_strict_reader_says",
    ),
    PlantedFault(
        "saved program content with any fault",
        "fuzzing/disagreement_script.py",
        '    yield f"assert error is not None and error.kind is {fault}, error"',
        '    yield "assert error is not None, error"',
        READER + "a_saved_program_fails_where_the_strict_reader_says_something_else",
    ),
    PlantedFault(
        "text of the other program that becomes code",
        "fuzzing/disagreement_script.py",
        "    return ascii(text)[1:-1]",
        "    return text",
        READER + "a_saved_program_rebuilds_the_ring_and_proves_what_the_strict_reader_says",
    ),
    PlantedFault(
        "packet size of 0 taken for the default",
        "cli/fuzz_explore.py",
        "    if size is not None and (size % SLOT or not size):",
        "    if size is not None and size % SLOT:",
        "cli/test_fuzz_explore.py::test_what_cannot_be_explored_is_refused_in_one_line",
    ),
    PlantedFault(
        "option of 0 taken for the default",
        "cli/fuzz_explore.py",
        "    return default if value is None else value",
        "    return value or default",
        "cli/test_fuzz_explore.py::test_what_cannot_be_explored_is_refused_in_one_line",
    ),
    PlantedFault(
        "reader that fails without a word taken for an empty ring",
        "fuzzing/bounded_process.py",
        "        elif status and said_no_error:",
        "        elif status and not said_no_error:",
        READER + "a_reader_that_ends_badly_is_reported_and_the_next_image_is_tried",
    ),
    PlantedFault(
        "path of the image appended although it had a place",
        "fuzzing/reader_process.py",
        "        if words == list(self.command):",
        "        if words:",
        READER + "the_path_takes_the_place_of_the_braces",
    ),
    PlantedFault(
        "disagreements reported as none by the exit status",
        "cli/fuzz_target.py",
        "    return 0 if found.agrees else 1",
        "    return 0",
        COMMAND + "json_has_the_same",
    ),
    PlantedFault(
        "program given up although it has answered",
        "fuzzing/reader_run.py",
        "        gave_up = unanswered == tried == reader.gives_up_after",
        "        gave_up = unanswered == reader.gives_up_after",
        READER + "a_run_gives_up_where_none_of_the_first_images_is_answered_and_nowhere_else",
    ),
    PlantedFault(
        "program that does not speak --batch reported as one that disagrees",
        "cli/fuzz_target.py",
        "    if found.gave_up and arguments.batch:",
        "    if False:",
        COMMAND + "a_reader_that_does_not_speak_batch_is_asked_about_three_images_and_no_more",
    ),
    PlantedFault(
        "conformance check that ends the process",
        "fuzzing/conformance_report.py",
        "    except BaseException as error:  # noqa: BLE001 - a finding, whatever it is",
        "    except Exception as error:  # noqa: BLE001 - a finding, whatever it is",
        CONFORMANCE + "what_would_end_the_process_fails_a_check_and_the_others_are_done[SystemExit]",
    ),
    PlantedFault(
        "conformance check that is not closed behind in its own time",
        "fuzzing/conformance_report.py",
        "        subject.tidy(True)",
        "        pass",
        CONFORMANCE + "a_close_behind_a_check_that_would_end_the_process_fails_that_check[ZeroDivisionError]",
    ),
]
