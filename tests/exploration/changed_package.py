"""The package with some lines changed, imported beside the real one.

    with changed_package([Change("ring/outgoing.py", old, new)]) as exploration:
        fuzzing.explore(*exploration.channel_sides())

Inside, every module of the package is imported anew, the changed ones from the changed source; outside,
nothing is different.  No file is written.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

__all__ = ["Change", "changed_package"]

PACKAGE = Path(__file__).parents[2] / "vmbus"


class Change(NamedTuple):
    """Whole lines of one file, which stand there once, and those that take their place."""

    file: str
    old: str
    new: str

    @property
    def module(self) -> str:
        return "vmbus." + self.file.removesuffix(".py").replace("/", ".")

    def apply(self, source: str) -> str:
        count = f"\n{source}".count(f"\n{self.old}\n")
        assert count == 1, f"{self.file} has these lines {count} times:\n{self.old}"
        return f"\n{source}".replace(f"\n{self.old}\n", f"\n{self.new}\n")[1:]


class ChangedSource(SourceLoader):
    """Loads one module from its changed source; nothing compiled is kept of it."""

    def __init__(self, changes: list[Change]) -> None:
        self.changes = changes

    def get_filename(self, fullname: str) -> str:
        return str(PACKAGE / self.changes[0].file)

    def get_data(self, path: str) -> bytes:
        source = Path(path).read_text(encoding="utf-8")
        for change in self.changes:
            source = change.apply(source)
        return source.encode()


class ChangedModules(MetaPathFinder):
    """Finds the modules that are changed."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = changes

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        changes = [change for change in self.changes if change.module == fullname]
        return spec_from_loader(fullname, ChangedSource(changes)) if changes else None


@contextmanager
def changed_package(changes: Sequence[Change], anew: Sequence[str] = ()) -> Iterator[ModuleType]:
    """`vmbus.exploration` over the changed package.

    anew   the modules to import anew where not all are, which takes longer: those that are changed, and
           all on the way from them to what is used.  What is used is then imported by its own name
    """
    for change in changes:
        assert not anew or change.module in anew, f"{change.module} is not imported anew: {anew}"
    finder = ChangedModules(changes)
    ours = take_out(anew)
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module("vmbus.exploration")
    finally:
        sys.meta_path.remove(finder)
        take_out(anew)
        put_back(ours)


def take_out(anew: Sequence[str]) -> dict[str, ModuleType]:
    """These modules of the package, or all, no longer imported."""
    names = [name for name in sys.modules if name == "vmbus" or name.startswith("vmbus.")]
    return {name: sys.modules.pop(name) for name in names if not anew or name in anew}


def put_back(modules: dict[str, ModuleType]) -> None:
    """Import them again as they were, also where they are looked up as a name of their parent."""
    sys.modules.update(modules)
    for name, module in modules.items():
        parent, _, own = name.rpartition(".")
        if parent and isinstance(getattr(sys.modules[parent], own, None), ModuleType):
            setattr(sys.modules[parent], own, module)  # unless that name is a function of the same name
