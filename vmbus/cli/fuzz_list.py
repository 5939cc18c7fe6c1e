"""List what can be fuzzed: each target, what it holds beside what, and the corners that a run counts."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from typing import Any

from vmbus.fuzzing import Trial, targets

from .fuzz_targets import chosen
from .output import print_json, print_lines

__all__ = ["add_arguments", "execute"]

#: The keys: `targets`, a list of objects: `name`, `summary`; `settings`, an object of what each can be, in words;
#: `operations`, an object of the arguments of each, the same way; `corners`, a list of names.
SCHEMA = "vmbus.targets/1"

EXAMPLES = """\
examples:
  vmbus fuzz list
  vmbus fuzz list ring            its settings, operations and corners
  vmbus fuzz list --json | jq -r '.targets[].name'
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("target", nargs="?", metavar="TARGET", help="only this one, with all it can do")
    parser.add_argument("--json", action="store_true", help=f"one document, {SCHEMA}")


def execute(arguments: Namespace) -> int:
    trials = [chosen(arguments.target)] if arguments.target else list(targets().values())
    if arguments.json:
        print_json({"schema": SCHEMA, "targets": [to_json(trial) for trial in trials]})
    elif arguments.target:
        print_lines(detail_lines(trials[0]))
    else:
        width = max(len(trial.name) for trial in trials)
        print_lines(f"{trial.name:<{width}}  {trial.summary}" for trial in trials)
    return 0


def to_json(trial: type[Trial]) -> dict[str, Any]:
    return {
        "name": trial.name,
        "summary": trial.summary,
        "settings": {name: str(argument) for name, argument in trial.settings.items()},
        "operations": {
            operation.name: {name: str(argument) for name, argument in operation.arguments.items()}
            for operation in trial.operations()
        },
        "corners": list(trial.CORNERS),
    }


def detail_lines(trial: type[Trial]) -> Iterator[str]:
    yield f"{trial.name}: {trial.summary}"
    for title, parts in (
        ("settings", [f"{name}: {argument}" for name, argument in trial.settings.items()]),
        ("operations", [call_text(operation.name, operation.arguments) for operation in trial.operations()]),
        ("corners", list(trial.CORNERS)),
    ):
        yield ""
        yield title
        yield from (f"  {part}" for part in parts)


def call_text(name: str, arguments: Any) -> str:
    return f"{name}({', '.join(f'{key}: {argument}' for key, argument in arguments.items())})"
