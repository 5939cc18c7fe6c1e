"""`vmbus COMMAND`: finds the command, runs it, and turns every ending into an exit status.

    0     done
    1     done, and something is wrong with what was looked at
    2     could not be done: bad usage, unreadable input, nothing recognised
    130   interrupted
    129, 143   ended by SIGHUP or SIGTERM while it wrote a file, of which nothing is left

Results go to standard output, everything else to standard error.  A command's own module is
imported only when the command is used: `vmbus --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from types import ModuleType
from typing import Any, NoReturn

from vmbus.errors import DeviceError, VmbusError
from vmbus.version import VERSION

from .commands import Command, CommandTable
from .output import UsageError, forget_if_gone, printable, report

__all__ = ["main", "printable", "run"]

DONE, FOUND_SOMETHING, FAILED, INTERRUPTED = 0, 1, 2, 130


def load_convert() -> ModuleType:
    from . import convert_command

    return convert_command


def load_inspect() -> ModuleType:
    from . import inspect_command

    return inspect_command


def load_scan() -> ModuleType:
    from . import scan_command

    return scan_command


def load_check() -> ModuleType:
    from . import check_command

    return check_command


def load_diff() -> ModuleType:
    from . import diff_command

    return diff_command


def load_craft() -> ModuleType:
    from . import craft_command

    return craft_command


def load_fuzz() -> ModuleType:
    from . import fuzz_command

    return fuzz_command


def load_devices() -> ModuleType:
    from . import devices_command

    return devices_command


def load_top() -> ModuleType:
    from . import top_command

    return top_command


def load_bind() -> ModuleType:
    from . import bind_command

    return bind_command


def load_unbind() -> ModuleType:
    from . import unbind_command

    return unbind_command


COMMANDS = {
    "inspect": Command(
        "show a ring, a live device or a virtqueue: indices, what waits, what is wrong",
        "vmbus inspect ring.bin --history",
        load_inspect,
    ),
    "scan": Command(
        "find the rings in memory images of any format",
        "vmbus scan memory.elf --why",
        load_scan,
    ),
    "check": Command(
        "judge rings: every check, and whose turn it is",
        "vmbus check ring.bin",
        load_check,
    ),
    "diff": Command(
        "compare two snapshots of a ring: what moved, and what is stuck",
        "vmbus diff before.bin after.bin",
        load_diff,
    ),
    "convert": Command(
        "turn dumps and captures into pcapng, pcap, JSON lines or payloads, and images into raw memory",
        "vmbus convert ring.bin --to pcapng -o ring.pcapng",
        load_convert,
    ),
    "craft": Command(
        "make a ring image from JSON, as `vmbus inspect --json` prints it",
        "vmbus craft ring.json -o ring.bin",
        load_craft,
    ),
    "devices": Command(
        "list the VMBus devices of this Linux guest, their channels and their drivers",
        "vmbus devices -v",
        load_devices,
    ),
    "top": Command(
        "watch the channels of this Linux guest: how full, how busy",
        "vmbus top --sort int/s",
        load_top,
    ),
    "bind": Command(
        "give a device of this Linux guest to programs: to uio_hv_generic",
        "vmbus bind file-copy --dry-run",
        load_bind,
    ),
    "unbind": Command(
        "give a device back to the kernel's driver",
        "vmbus unbind file-copy",
        load_unbind,
    ),
    "fuzz": Command(
        "fuzz ring corner cases, in this package and in programs of your own",
        "vmbus fuzz run ring --seconds 10",
        load_fuzz,
    ),
}

TABLE = CommandTable(
    program="vmbus",
    description="Hyper-V VMBus ring buffers and virtqueues: look into dumped ones, and fuzz what reads them.",
    commands=COMMANDS,
    examples=("vmbus inspect --sample",),
    epilog=(
        "exit status: 0 done; 1 done, and something is wrong with what was looked at; 2 could not be\n"
        "done.  `vmbus COMMAND --help` says more of each command."
    ),
)


class Parser(ArgumentParser):
    """An ArgumentParser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        report(f"{message} (try '{self.prog} --help')")
        raise SystemExit(FAILED)

    def _print_message(self, message: str, file: Any = None) -> None:
        """As ArgumentParser's, which keeps to itself that the output is gone."""
        print(message, end="", file=file or sys.stderr)


def formatter(prog: str) -> RawDescriptionHelpFormatter:
    """What lays out help as wide as the terminal; argparse would import shutil, and with it much else, to know."""
    try:
        width = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        width = 0
    try:
        width = width if width > 0 else os.get_terminal_size(1).columns
    except OSError:  # standard output is no terminal
        width = 0
    return RawDescriptionHelpFormatter(prog, width=(width or 80) - 2)


def main(arguments: list[str] | None = None) -> int:
    """Run one command line, by default the process's own; its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            status = run_command(words)
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
        return status
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        forget_if_gone(sys.stdout)
        return DONE
    except MemoryError:
        report("this takes more memory than there is; --limit and --data-size make it less")
        return FAILED
    except (VmbusError, OSError) as error:
        forget_if_gone(sys.stdout)
        report(describe(error))
        return FAILED


def run() -> NoReturn:
    """The console command."""
    sys.exit(main())


def run_command(words: list[str], table: CommandTable = TABLE) -> int:
    if sys.stdout is None:
        report("standard output is closed: there is nowhere to print to")
        return FAILED
    name = words[0] if words else ""
    command = table.commands.get(name)
    if command is None:
        if name and not name.startswith("-"):
            unknown_command(name, table)
        overview_parser(table).parse_args(words or ["--help"])
        return DONE
    module = command.load()
    inner: CommandTable | None = getattr(module, "TABLE", None)
    if inner is not None:
        return run_command(words[1:], inner)
    parser = Parser(
        prog=f"{table.program} {name}",
        description=module.__doc__,
        formatter_class=formatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    try:
        status: int = module.execute(parser.parse_args(words[1:]))
    except UsageError as error:
        parser.error(str(error))
    return status


def overview_parser(table: CommandTable = TABLE) -> Parser:
    """What answers `vmbus --help`, `vmbus fuzz --help` and `vmbus --version`."""
    width = max(map(len, table.commands))
    commands = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in table.commands.items())
    examples = (*table.examples, *(command.example for command in table.commands.values()))
    parser = Parser(
        prog=table.program,
        usage=f"{table.program} COMMAND [options]",
        description=table.description,
        epilog="\n\n".join(
            [
                f"commands:\n{commands}",
                "\n".join(["examples:", *(f"  {one}" for one in examples)]),
                table.epilog,
            ]
        ),
        formatter_class=formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"vmbus {VERSION}")
    return parser


def unknown_command(name: str, table: CommandTable) -> NoReturn:
    from difflib import get_close_matches

    near = get_close_matches(name, table.commands, 1)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(table.commands)}"
    report(f"{name}: no such command; {hint} (try '{table.program} --help')")
    raise SystemExit(FAILED)


def describe(error: VmbusError | OSError) -> str:
    if isinstance(error, DeviceError):
        return error.strerror or str(error)  # which says all; str() puts the number before it
    if isinstance(error, OSError) and not isinstance(error, VmbusError):
        return f"{error.filename or 'standard output'}: {error.strerror or error}"
    return str(error)
