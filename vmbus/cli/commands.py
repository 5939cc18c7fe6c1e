"""Tables of commands, as `vmbus` and `vmbus fuzz` have one each.

Plain classes: every command begins with them, and named tuples take ten times as long to be made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType

__all__ = ["Command", "CommandTable"]


class Command:
    """A line of a table.

    load   imports the command's module when it is used.  It has either `add_arguments(parser)` and
           `execute(arguments) -> exit status`, or `TABLE`, where the command is a table itself
    """

    def __init__(self, summary: str, example: str, load: Callable[[], ModuleType]) -> None:
        self.summary = summary
        self.example = example
        self.load = load


class CommandTable:
    """Commands that share their first words.

    program       those words
    description   what the commands are for
    commands      each under its name
    examples      shown before those of the commands
    epilog        what the help ends with
    """

    def __init__(
        self,
        program: str,
        description: str,
        commands: Mapping[str, Command],
        examples: tuple[str, ...] = (),
        epilog: str = "",
    ) -> None:
        self.program = program
        self.description = description
        self.commands = commands
        self.examples = examples
        self.epilog = epilog
