"""The terminal of `vmbus top`: curses, and nothing else.

curses is imported when a screen is wanted, since Windows has none.

Sources: X/Open Curses, Issue 7; ncurses, curs_initscr(3X), resizeterm(3X), curs_getch(3X); no-color.org.
"""

from __future__ import annotations

import os
import signal
import sys
from codecs import getincrementaldecoder
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from . import top_keys
from .output import UsageError
from .output_file import signals_as_exits
from .top_loop import REDRAW, TERMINAL_GONE
from .top_table import DIM, HEADING, HIGH, LOW, MIDDLE, PLAIN, SELECTED, SORTED, TITLE, Line
from .top_text import ASCII, BLOCKS, HALVES, Bars

__all__ = ["CursesScreen", "open_screen"]

#: Milliseconds after which an escape is the key, and not the beginning of what another key sends.
ESCAPE_DELAY = 50

#: The longest wait that curses takes, in milliseconds.
LONGEST_WAIT = 2**31 - 1

#: How each of curses' keys is called here.
CURSES_KEYS = {
    "KEY_UP": top_keys.UP,
    "KEY_DOWN": top_keys.DOWN,
    "KEY_PPAGE": top_keys.PAGE_UP,
    "KEY_NPAGE": top_keys.PAGE_DOWN,
    "KEY_HOME": top_keys.HOME,
    "KEY_END": top_keys.END,
    "KEY_ENTER": top_keys.ENTER,
    "KEY_BACKSPACE": top_keys.BACKSPACE,
    "KEY_RESIZE": REDRAW,
}

CHARACTERS = {
    "\n": top_keys.ENTER,
    "\r": top_keys.ENTER,
    "\x1b": top_keys.ESCAPE,
    "\x7f": top_keys.BACKSPACE,
    "\b": top_keys.BACKSPACE,
}

#: ctrl-l
DRAW_ANEW = 0x0C

#: What is larger is a key of curses, and no byte of a character.
LAST_BYTE = 255

COLOURS = {LOW: "COLOR_GREEN", MIDDLE: "COLOR_YELLOW", HIGH: "COLOR_RED"}


@contextmanager
def open_screen() -> Iterator[CursesScreen]:
    """The terminal as a screen; as it was when this ends, however it ends.

    Raises UsageError where there is no terminal, or one that cannot be drawn on.
    """
    hint = "--once prints one table"
    if not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise UsageError(f"this is no terminal, and a live view needs one: {hint}, --json an object a line")
    try:
        import curses
    except ImportError:
        raise UsageError(f"this Python has no curses, and a live view needs it: {hint}") from None
    check_terminal(curses, hint)
    # curses would believe these also when the terminal has been resized.  A library may have set them, such as
    # readline, without os.environ.
    for name in ("LINES", "COLUMNS"):
        os.environ.pop(name, None)
        os.unsetenv(name)
    with signals_as_exits(), stops_cleanly(curses):
        window = curses.initscr()
        try:
            yield CursesScreen(curses, window)
        finally:
            with suppress(curses.error):
                curses.endwin()


@contextmanager
def stops_cleanly(curses: Any) -> Iterator[None]:
    """Have SIGTSTP (ctrl-z) give the terminal back until SIGCONT.

    curses can do that too, but it ignores the signal while it draws, and so now and then.
    """

    def stop(number: int, frame: object) -> None:
        with suppress(curses.error):
            curses.endwin()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Here it goes on, when somebody wants it to.
        signal.signal(number, stop)
        with suppress(curses.error):
            curses.doupdate()

    is_usual = signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL
    try:
        if is_usual:
            signal.signal(signal.SIGTSTP, stop)
        yield
    finally:
        if is_usual:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)


def is_terminal(stream: Any) -> bool:
    """Whether a standard stream is a terminal; closed ones are none."""
    try:
        return os.isatty(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return False


def check_terminal(curses: Any, hint: str) -> None:
    """Raise UsageError where terminfo does not tell how to draw on this terminal: curses would end the process."""
    term = os.environ.get("TERM", "")
    try:
        curses.setupterm(term=term or None, fd=sys.stdout.fileno())
        can_draw = bool(term) and curses.tigetstr("cup") is not None
    except curses.error:
        can_draw = False
    if not can_draw:
        called = f"TERM is {term!r}, a terminal that" if term else "TERM is not set, so the terminal"
        raise UsageError(f"{called} cannot be drawn on, as far as is known here: {hint}")


class CursesScreen:
    """The terminal, drawn on by curses."""

    def __init__(self, curses: Any, window: Any) -> None:
        self._curses, self._window = curses, window
        with suppress(curses.error, AttributeError):
            curses.set_escdelay(ESCAPE_DELAY)
        curses.noecho()
        curses.cbreak()
        window.keypad(True)
        with suppress(curses.error):
            curses.curs_set(0)
        self.bars = self._bars()
        self._styles = self._looks()
        self._keys = {getattr(curses, name): key for name, key in CURSES_KEYS.items()}
        # Bytes are put together here: curses takes a byte that begins no character for the first of one, and then
        # all keys behind it for the rest.
        self._characters = getincrementaldecoder(window.encoding)("ignore")

    def _bars(self) -> Bars:
        """Blocks, where curses and the locale know them, and parts of them where the terminal's font does."""
        try:
            "".join(BLOCKS).encode(self._window.encoding)
        except (UnicodeError, LookupError):
            return ASCII
        if not hasattr(self._window, "get_wch"):
            return ASCII
        return HALVES if os.environ.get("TERM") == "linux" else BLOCKS

    def _looks(self) -> dict[str, int]:
        curses = self._curses
        looks = {
            PLAIN: curses.A_NORMAL,
            TITLE: curses.A_BOLD,
            HEADING: curses.A_UNDERLINE,
            SORTED: curses.A_UNDERLINE | curses.A_BOLD,
            SELECTED: curses.A_REVERSE,
            DIM: curses.A_DIM,
            LOW: curses.A_NORMAL,
            MIDDLE: curses.A_NORMAL,
            HIGH: curses.A_BOLD,
        }
        if os.environ.get("NO_COLOR") or not curses.has_colors():
            return looks
        with suppress(curses.error):
            curses.start_color()
            curses.use_default_colors()
            for pair, (style, colour) in enumerate(COLOURS.items(), start=1):
                curses.init_pair(pair, getattr(curses, colour), -1)
                looks[style] |= curses.color_pair(pair)
        return looks

    def size(self) -> tuple[int, int]:
        lines, columns = self._window.getmaxyx()
        return columns, lines

    def show(self, lines: list[Line]) -> None:
        curses, window = self._curses, self._window
        window.erase()
        for row, one in enumerate(lines):
            # The terminal may have shrunk since it was asked for its size; and a character in the last cell of all
            # is drawn, but then curses finds no place for the cursor.
            with suppress(curses.error):
                window.move(row, 0)
                for part in one.parts:
                    window.addstr(self._drawable(part.text), self._styles[part.style])
        window.refresh()

    def _drawable(self, text: str) -> str:
        encoding = self._window.encoding
        drawable: str = text.encode(encoding, "replace").decode(encoding)
        return drawable

    def key(self, seconds: float) -> str | None:
        self._window.timeout(min(LONGEST_WAIT, round(seconds * 1000)))
        typed = self._window.getch()
        if typed == -1:
            # Without a terminal there is nothing to wait for, and curses no longer waits.
            return None if is_terminal(sys.stdin) else TERMINAL_GONE
        key = REDRAW if typed == DRAW_ANEW else self._keys.get(typed)
        if key == REDRAW:
            # Terminals differ in what they leave on a screen that gets another size.
            self._window.clearok(True)
        if key is not None:
            return key
        if typed > LAST_BYTE:
            return REDRAW
        character = self._characters.decode(bytes([typed]))
        return CHARACTERS.get(character, character) or None
