"""Functions of the user's own, named on the command line as MODULE:FUNCTION."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

from .output import UsageError

__all__ = ["function_named", "wrong_parameters"]


def function_named(text: str) -> Callable[..., Any]:
    """The function that `MODULE:FUNCTION` names; MODULE is a dotted name, or the path of a .py file.

    Modules are looked for in the current directory first, and beside a .py file.

    Raises UsageError when there is none, or the module cannot be imported.
    """
    name, _, function = text.rpartition(":")
    if not name or not function:
        raise UsageError(f"{text!r} names no function: write my_module:my_side or path/to/file.py:my_side")
    module = imported(name)
    found = getattr(module, function, None)
    if not callable(found):
        names = [one for one, value in vars(module).items() if callable(value) and not one.startswith("_")]
        raise UsageError(f"{name} has no function {function!r}; it has {', '.join(names) or 'none'}")
    return found  # type: ignore[no-any-return]


def wrong_parameters(side: Callable[..., Any], count: int) -> str:
    """What a function takes that cannot be given so many arguments; empty for one that can."""
    from inspect import signature  # slow to import, for those alone who have sides of their own

    try:
        parameters = signature(side)
    except (TypeError, ValueError):
        return ""  # of some that are written in C nothing is known
    try:
        parameters.bind(*range(count))
    except TypeError:
        shown = str(parameters.replace(return_annotation=parameters.empty))
        return "no arguments" if shown == "()" else shown
    return ""


def imported(name: str) -> ModuleType:
    """The module of that dotted name or path."""
    path = Path(name)
    is_file = path.suffix == ".py"
    sys.path.insert(0, str(path.resolve().parent if is_file else Path.cwd()))
    try:
        found: ModuleType = executed(path) if is_file else resolve_name(f"{name}:")
    except OSError as error:
        raise UsageError(f"{error.filename or name}: {error.strerror or error}") from error
    except Exception as error:
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    return found


def executed(path: Path) -> ModuleType:
    """A file as a module, once; its name is its path, so that it is no other module."""
    name = str(path.resolve())
    known = sys.modules.get(name)
    if known is not None:
        return known
    module = ModuleType(name)
    module.__file__ = name
    code = compile(path.read_bytes(), str(path), "exec")
    sys.modules[name] = module  # some of what a module does on its way looks itself up there
    try:
        exec(code, module.__dict__)  # noqa: S102 - the user names code to be run
    except BaseException:
        del sys.modules[name]
        raise
    return module
