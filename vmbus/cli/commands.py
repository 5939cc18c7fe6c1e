"""Tables of commands, as `vmbus` and `vmbus fuzz` have one each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NamedTuple

__all__ = ["Command", "CommandTable"]


class Command(NamedTuple):
    """A line of a table.

    load   imports the command's module when it is used.  It has either `add_arguments(parser)` and
           `execute(arguments) -> exit status`, or `TABLE`, where the command is a table itself
    """

    summary: str
    example: str
    load: Callable[[], ModuleType]


class CommandTable(NamedTuple):
    """Commands that share their first words.

    program       those words
    description   what the commands are for
    commands      each under its name
    examples      shown before those of the commands
    epilog        what the help ends with
    """

    program: str
    description: str
    commands: Mapping[str, Command]
    examples: tuple[str, ...] = ()
    epilog: str = ""
