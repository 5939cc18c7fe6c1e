"""What the keys of `vmbus top` do to the view.

A key is the character that it types, or one of the names in NAMED_KEYS.  A key that means nothing does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vmbus.uio import ChannelRow

from .top_view import View

__all__ = ["NAMED_KEYS", "press"]

UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, END = "up", "down", "page up", "page down", "home", "end"
ENTER, ESCAPE, BACKSPACE = "enter", "escape", "backspace"

NAMED_KEYS = (UP, DOWN, PAGE_UP, PAGE_DOWN, HOME, END, ENTER, ESCAPE, BACKSPACE)

#: Typed while a filter is typed: all of it goes.
CLEAR = "\x15"

#: A filter is no longer than this.
LONGEST_FILTER = 200

#: How far each key goes: in rows, in pages, or as far as it gets.
STEPS = {UP: -1, "k": -1, DOWN: 1, "j": 1}
PAGES = {PAGE_UP: -1, PAGE_DOWN: 1}
FAR = {HOME: -1, "g": -1, END: 1, "G": 1}
FIRST = {HOME, "g"}
LARGEST_STEP = 1 << 30


def press(view: View, key: str, rows: Sequence[ChannelRow]) -> None:
    """Do what a key does; `rows` are those that the view shows."""
    if view.typed is not None:
        type_filter(view, key)
    elif view.help:
        press_in_help(view, key)
    elif (step := step_of(view, key)) is not None:
        view.select(view.index + step, rows)
        if key in FIRST:
            view.release()
    elif key in ACTIONS:
        ACTIONS[key](view)


def step_of(view: View, key: str) -> int | None:
    """How many rows a key goes down; None for one that goes nowhere."""
    if key in STEPS:
        return STEPS[key]
    if key in PAGES:
        return PAGES[key] * view.page
    return FAR[key] * LARGEST_STEP if key in FAR else None


def press_in_help(view: View, key: str) -> None:
    """Scroll, or leave the help."""
    step = step_of(view, key)
    if step is None:
        view.help, view.help_top = False, 0
    else:
        view.help_top = max(0, view.help_top + step)


def type_filter(view: View, key: str) -> None:
    typed = view.typed or ""
    if key == ENTER:
        view.filter, view.typed = typed, None
    elif key == ESCAPE:
        view.typed = None
    elif key == BACKSPACE:
        view.typed = typed[:-1]
    elif key == CLEAR:
        view.typed = ""
    elif len(key) == 1 and key.isprintable():
        view.typed = (typed + key)[:LONGEST_FILTER]


def leave(view: View) -> None:
    view.done = True


def show_help(view: View) -> None:
    view.help = True


def pause(view: View) -> None:
    view.paused = not view.paused


def hide(view: View) -> None:
    view.hide_quiet = not view.hide_quiet


def start_filter(view: View) -> None:
    view.typed = ""


def drop_filter(view: View) -> None:
    view.filter = ""


ACTIONS: dict[str, Callable[[View], None]] = {
    "q": leave,
    "h": show_help,
    "?": show_help,
    "r": View.turn_round,
    "p": pause,
    " ": pause,
    "i": hide,
    "/": start_filter,
    ESCAPE: drop_filter,
    "s": lambda view: view.next_column(1),
    ">": lambda view: view.next_column(1),
    "S": lambda view: view.next_column(-1),
    "<": lambda view: view.next_column(-1),
    "+": lambda view: view.next_interval(1),
    "=": lambda view: view.next_interval(1),  # the key of + on many keyboards
    "-": lambda view: view.next_interval(-1),
}
