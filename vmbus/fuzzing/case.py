"""A case: a trial, its settings, and the operations that are done on it, one behind the other.

The same case has four forms:

    bytes    for coverage-guided fuzzers and their corpora: any bytes are a case
    JSON     to be read and kept: "vmbus.case/1"
    script   a Python program of its own that does the same and ends with an error where the case fails
    Case     to be performed

The keys of "vmbus.case/1": `target`, the trial's name; `settings`, an object; `steps`, a list of pairs, the name of an
operation and an object of its arguments.  Bytes are hexadecimal strings.

Bytes are the settings and then the operations, each the number of the operation and then its arguments, until
they end; in what order arguments stand is the order in which the trial declares them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vmbus.errors import CallerError

from .arguments import Argument, ByteSource
from .trial import Operation, Trial

__all__ = ["CASE_SCHEMA", "MOST_OPERATIONS", "Case", "Step", "operation_of"]

CASE_SCHEMA = "vmbus.case/1"

#: More are not read from bytes: a case ends.
MOST_OPERATIONS = 2000


class Step(NamedTuple):
    """One operation of a case, with its arguments by name."""

    name: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


class Case(NamedTuple):
    """See the top of this file."""

    trial: type[Trial]
    settings: Mapping[str, Any]
    steps: tuple[Step, ...]

    def perform(self) -> Counter[str]:
        """Do it all on a new trial; the corners that were met.

        Raises Wrong where what is tested is wrong.
        """
        trial = self.trial(**self.settings)
        try:
            trial.check()
            for step in self.steps:
                trial.perform(step.name, step.arguments)
            trial.finish()
        finally:
            trial.close()
        return +trial.corners  # those that were met

    # -- as bytes --------------------------------------------------------------------------------

    @classmethod
    def from_bytes(cls, trial: type[Trial], data: bytes) -> Case:
        """The case that these bytes are; all bytes are one."""
        source = ByteSource(data)
        settings = decode(trial.settings, source)
        return cls(trial, settings, tuple(decode_steps(trial.operations(), source)))

    def to_bytes(self) -> bytes:
        """Bytes that are this case; CallerError where it has a value that its trial does not know, or too many steps."""
        if len(self.steps) > MOST_OPERATIONS:
            raise CallerError(
                f"{len(self.steps)} steps are too many: a case in bytes has {MOST_OPERATIONS} at most",
                argument="steps",
                value=len(self.steps),
                limit=MOST_OPERATIONS,
            )
        operations = {operation.name: number for number, operation in enumerate(self.trial.operations())}
        parts = [encode(self.trial.settings, self.settings)]
        for step in self.steps:
            operation = operation_of(self.trial, step.name)
            parts += [bytes([operations[step.name]]), encode(operation.arguments, step.arguments)]
        return b"".join(parts)

    # -- as JSON ---------------------------------------------------------------------------------

    @classmethod
    def from_json(cls, trial: type[Trial], document: Mapping[str, Any]) -> Case:
        """The case of a JSON document; CallerError says what is wrong with one that is none."""
        if document.get("schema") != CASE_SCHEMA or document.get("target") != trial.name:
            raise CallerError(
                f"not a case of {trial.name}: it says {document.get('schema')!r} and {document.get('target')!r}",
                argument="document",
                value=document.get("schema"),
                limit=CASE_SCHEMA,
            )
        steps = document.get("steps", [])
        if not isinstance(steps, list):
            raise CallerError("the steps are no list", argument="steps", value=steps, limit="a list")
        settings = values_from_json(trial.settings, document.get("settings", {}))
        return cls(trial, settings, tuple(step_from_json(trial, entry) for entry in steps))

    def to_json(self) -> dict[str, Any]:
        """The case as JSON has it."""
        return {
            "schema": CASE_SCHEMA,
            "target": self.trial.name,
            "settings": values_to_json(self.trial.settings, self.settings),
            "steps": [
                [step.name, values_to_json(operation_of(self.trial, step.name).arguments, step.arguments)]
                for step in self.steps
            ],
        }

    # -- to be read ------------------------------------------------------------------------------

    def to_script(self) -> str:
        """A Python program that does what this case does, with nothing but vmbus.

        It ends with the error where the case fails, and says so where it no longer does.  Raises CallerError for a
        trial that no script can import: one of the main program, or of a function.
        """
        module, name = self.trial.__module__, self.trial.__qualname__
        if module == "__main__" or "." in name:
            raise CallerError(
                f"{module}.{name} cannot be imported by a script: let it stand at the top of a module of its own",
                argument="trial",
                value=name,
                limit="a class of a module",
            )
        settings = ", ".join(f"{key}={value!r}" for key, value in self.settings.items())
        steps = [f"    trial.{step}\n    trial.check()" for step in self.steps]
        return "\n".join(
            [
                f'"""A case of the target {self.trial.name}: {self.trial.summary}."""',
                "",
                f"from {script_module(module)} import {name}",
                "",
                f"trial = {name}({settings})",
                "try:",
                "    trial.check()",
                *steps,
                "    trial.finish()",
                "finally:",
                "    trial.close()",
                'print("nothing went wrong: this case no longer fails")',
                "",
            ]
        )

    def __str__(self) -> str:
        settings = ", ".join(f"{key}={value!r}" for key, value in self.settings.items())
        return "\n".join([f"{self.trial.name}({settings})", *(f"  {step}" for step in self.steps)])


def script_module(module: str) -> str:
    """Where a script imports a trial from: our own through the front door."""
    return "vmbus.fuzzing" if module.startswith("vmbus.fuzzing.") else module


def operation_of(trial: type[Trial], name: object) -> Operation:
    for operation in trial.operations():
        if operation.name == name:
            return operation
    raise CallerError(
        f"{trial.name} has no operation {name!r}",
        argument="operation",
        value=name,
        limit=tuple(operation.name for operation in trial.operations()),
    )


def step_from_json(trial: type[Trial], entry: object) -> Step:
    """A step, of a list of its name and its values."""
    if not isinstance(entry, list) or len(entry) != 2:
        raise CallerError(
            f"{entry!r} is no step", argument="steps", value=entry, limit="a name and its values"
        )
    name, values = entry
    return Step(name, values_from_json(operation_of(trial, name).arguments, values))


def decode(arguments: Mapping[str, Argument], source: ByteSource) -> dict[str, Any]:
    return {name: argument.decode(source) for name, argument in arguments.items()}


def decode_steps(operations: tuple[Operation, ...], source: ByteSource) -> Iterator[Step]:
    for _ in range(MOST_OPERATIONS):
        if not operations or not source.has_more:
            return
        operation = operations[source.number() % len(operations)]
        yield Step(operation.name, decode(operation.arguments, source))


def encode(arguments: Mapping[str, Argument], values: Mapping[str, Any]) -> bytes:
    check_names(arguments, values)
    return b"".join(argument.encode(values[name]) for name, argument in arguments.items())


def values_to_json(arguments: Mapping[str, Argument], values: Mapping[str, Any]) -> dict[str, Any]:
    check_names(arguments, values)
    return {name: argument.to_json(values[name]) for name, argument in arguments.items()}


def values_from_json(arguments: Mapping[str, Argument], values: object) -> dict[str, Any]:
    given = values if isinstance(values, Mapping) else {}
    check_names(arguments, given)
    return {name: value_from_json(name, argument, given[name]) for name, argument in arguments.items()}


def value_from_json(name: str, argument: Argument, value: object) -> Any:
    try:
        return argument.from_json(value)
    except CallerError as error:
        raise CallerError(f"{name}: {error}", argument=name, value=value, limit=error.limit) from error


def check_names(arguments: Mapping[str, Argument], values: Mapping[str, Any]) -> None:
    if values.keys() != arguments.keys():
        raise CallerError(
            f"the values are to be {', '.join(arguments) or 'none'}, and are {', '.join(values) or 'none'}",
            argument="values",
            value=tuple(values),
            limit=tuple(arguments),
        )
