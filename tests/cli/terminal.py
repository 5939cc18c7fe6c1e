"""A terminal for tests: a pseudo-terminal with a program in it, keys to type, and a screen to read.

The screen is kept by a small emulator of what terminfo's `linux`, `xterm` and `vt100` describe: it knows the
cursor, erasing, inserting and deleting, scrolling and looks, and refuses what it does not know, so that nothing
is misread.

Nothing here waits for a time: `until` reads what the program writes until the screen is as wanted, and fails
after a while.
"""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from unicodedata import east_asian_width

from tests.cli.running import environment

#: What is wanted is on the screen long before.
SECONDS = 20.0

#: Where terminfo may be; entries are in folders by the first letter of their name, or its number in hex.
TERMINFO = (
    "/etc/terminfo",
    "/lib/terminfo",
    "/usr/share/terminfo",
    "/usr/lib/terminfo",
    "/usr/share/lib/terminfo",
)

SEQUENCE = re.compile(
    r"\x1b\[(?P<private>[?>!]?)(?P<numbers>[0-9;]*)(?P<final>[A-Za-z@`])"
    r"|\x1b[()][A-Z0-9]|\x1b\](?:R|P.{7}|[0-9][^\x07]*\x07)|\x1b(?P<short>[78=>MDEc])|(?P<text>[^\x1b])",
    re.DOTALL,
)


def knows_terminal(name: str) -> bool:
    folders = [os.environ.get("TERMINFO", ""), os.path.expanduser("~/.terminfo"), *TERMINFO]
    return any(
        os.path.exists(os.path.join(folder, letter, name))
        for folder in folders
        if folder
        for letter in (name[0], f"{ord(name[0]):x}")
    )


class Screen:
    """Cells, and a cursor; `colours` are all the colours that were ever asked for."""

    def __init__(self, columns: int, lines: int) -> None:
        self.colours: set[int] = set()
        self.cursor_shown = True
        self._rest = ""
        self.resize(columns, lines)

    def resize(self, columns: int, lines: int) -> None:
        self.columns, self.height = columns, lines
        self.cells = [[" "] * columns for _ in range(lines)]
        self.x = self.y = 0
        self.top, self.bottom = 0, lines - 1

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self.cells]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def feed(self, text: str) -> None:
        """Obey what a program has written; an unfinished sequence waits for its end."""
        text, at = self._rest + text, 0
        while at < len(text):
            found = SEQUENCE.match(text, at)
            if found is None:
                assert len(text) - at < 32, f"unknown sequence {text[at : at + 32]!r}"
                break
            at = found.end()
            if found["text"]:
                self.character(found["text"])
            elif found["final"]:
                numbers = [int(number or 0) for number in found["numbers"].split(";")]
                self.obey(found["private"], found["final"], numbers)
            elif found["short"] == "M":
                self.scroll(-1) if self.y == self.top else self.move(0, -1)
        self._rest = text[at:]

    def character(self, one: str) -> None:
        if one == "\r":
            self.x = 0
        elif one == "\n":
            self.scroll(1) if self.y == self.bottom else self.move(0, 1)
        elif one == "\b":
            self.x = max(0, min(self.columns - 1, self.x) - 1)
        elif one == "\t":
            self.x = min(self.columns - 1, self.x // 8 * 8 + 8)
        elif one >= " ":
            self.put(one)

    def put(self, one: str) -> None:
        width = 2 if east_asian_width(one) in "WF" else 1
        if self.x + width > self.columns:
            self.x = 0
            self.character("\n")
        self.cells[self.y][self.x : self.x + width] = [one, *[""] * (width - 1)][: self.columns - self.x]
        self.x += width

    def move(self, right: int, down: int) -> None:
        self.x = max(0, min(self.columns - 1, self.x + right))
        self.y = max(0, min(self.height - 1, self.y + down))

    def scroll(self, lines: int, top: int | None = None) -> None:
        """Move the region up, or down for a negative number."""
        top = self.top if top is None else top
        for _ in range(abs(lines)):
            gone, new = (top, self.bottom) if lines > 0 else (self.bottom, top)
            del self.cells[gone]
            self.cells.insert(new, [" "] * self.columns)

    def obey(self, private: str, final: str, numbers: list[int]) -> None:
        first = numbers[0]
        many = max(1, first)
        row = self.cells[self.y]
        if final != "m":  # behind the last cell the cursor still stands on it, until the next character
            self.x = min(self.columns - 1, self.x)
        if private or final in "hlt":
            if private == "?" and 25 in numbers:
                self.cursor_shown = final == "h"
        elif final in "Hf":
            self.y, self.x = 0, 0
            self.move((numbers[1] if len(numbers) > 1 else 1) - 1, many - 1)
        elif final in "ABCD":
            right, down = {"A": (0, -1), "B": (0, 1), "C": (1, 0), "D": (-1, 0)}[final]
            self.move(right * many, down * many)
        elif final in "G`":
            self.x = min(self.columns, many) - 1
        elif final == "d":
            self.y = min(self.height, many) - 1
        elif final == "J":
            self.erase_line(first)
            for number in range(self.height):
                if first == 2 or (number > self.y if first == 0 else number < self.y):
                    self.cells[number] = [" "] * self.columns
        elif final == "K":
            self.erase_line(first)
        elif final == "X":
            row[self.x : self.x + many] = [" "] * min(many, self.columns - self.x)
        elif final == "P":
            self.cells[self.y] = (row[: self.x] + row[self.x + many :] + [" "] * many)[: self.columns]
        elif final == "@":
            self.cells[self.y] = (row[: self.x] + [" "] * many + row[self.x :])[: self.columns]
        elif final == "b":
            for _ in range(many):
                self.put(row[self.x - 1])
        elif final in "LM":
            self.scroll(-many if final == "L" else many, self.y)
        elif final in "ST":
            self.scroll(many if final == "S" else -many)
        elif final == "r":
            self.top, self.bottom = many - 1, (numbers[1] if len(numbers) > 1 else self.height) - 1
            self.x = self.y = 0
        elif final == "m":
            self.colours |= {number % 10 for number in numbers if 30 <= number <= 37 or 40 <= number <= 47}
        elif final not in "cn":
            raise AssertionError(f"unknown sequence, which ends with {final}")

    def erase_line(self, which: int) -> None:
        start, end = {0: (self.x, self.columns), 1: (0, self.x + 1), 2: (0, self.columns)}[which]
        self.cells[self.y][start:end] = [" "] * (end - start)


class Program:
    """A program in a terminal of its own; a context manager that ends it.

    run         what it is: a function, in a copy of this process, or the words of a command
    variables   of its environment, besides the usual ones
    """

    def __init__(
        self,
        run: Callable[[], int] | list[str],
        *,
        columns: int = 80,
        lines: int = 24,
        variables: Mapping[str, str | None] | None = None,
    ) -> None:
        import fcntl
        import pty
        import termios

        self.screen = Screen(columns, lines)
        self.status: int | None = None
        wanted = {**environment(), "TERM": "linux", "LC_ALL": "C.UTF-8", **(variables or {})}
        wait, go = os.pipe()
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            status = 70
            try:
                os.close(go)
                os.read(wait, 1)  # until the other end is closed, and how the terminal looks is known
                os.close(wait)
                fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
                os.environ.clear()
                os.environ.update({name: value for name, value in wanted.items() if value is not None})
                signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
                if not callable(run):
                    os.execvp(run[0], run)
                status = run_here(run)
            finally:
                os._exit(status)
        self._looks = termios.tcgetattr(self.master)
        os.close(wait)
        os.close(go)

    def __enter__(self) -> Program:  # noqa: PYI034 - Self came with Python 3.11
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.master >= 0:
            os.close(self.master)

    def type(self, keys: str | bytes) -> None:
        os.write(self.master, keys.encode() if isinstance(keys, str) else keys)

    def resize(self, columns: int, lines: int) -> None:
        import fcntl
        import termios

        self.screen.resize(columns, lines)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))

    def until(self, wanted: str | Callable[[Screen], bool]) -> Screen:
        """The screen, as soon as that text is on it, or it is as wanted."""
        is_there = wanted if callable(wanted) else lambda screen: wanted in screen.text
        deadline = monotonic() + SECONDS
        while not is_there(self.screen):
            if not self.read(deadline):
                raise AssertionError(f"{wanted} is not on the screen:\n{self.screen.text}")
        return self.screen

    def read(self, deadline: float) -> bool:
        """Read what is written next; False at the end, or when it is too late."""
        if not select.select([self.master], [], [], max(0.0, deadline - monotonic()))[0]:
            return False
        try:
            data = os.read(self.master, 1 << 16)
        except OSError:  # what Linux says when nobody holds the other end
            return False
        self.screen.feed(data.decode("utf-8", "replace"))
        return bool(data)

    def ended(self) -> int:
        """The exit status, or for a signal its number, negative."""
        deadline = monotonic() + SECONDS
        while self.read(deadline):
            pass
        assert monotonic() < deadline, f"it goes on:\n{self.screen.text}"
        return self.wait()

    def wait(self) -> int:
        """As `ended`, of one that is known to end."""
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def is_restored(self) -> bool:
        """Whether the terminal is as it was before the program."""
        import termios

        return termios.tcgetattr(self.master) == self._looks and self.screen.cursor_shown

    def hang_up(self) -> None:
        """Take the terminal away."""
        os.close(self.master)
        self.master = -1


def run_here(run: Callable[[], int]) -> int:
    """Run a function with the standard streams of the terminal."""
    import locale

    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")  # noqa: SIM115 - until the end
    locale.setlocale(locale.LC_CTYPE, "")
    signal.signal(signal.SIGWINCH, signal.SIG_DFL)  # readline, which pytest has imported, has taken it
    try:
        return run()
    except BaseException:  # noqa: BLE001 - this process ends here, whatever it was
        traceback.print_exc()
        return 70
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def is_on_linux() -> bool:
    return sys.platform == "linux" and Path("/dev/ptmx").exists()
