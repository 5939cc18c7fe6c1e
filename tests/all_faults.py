"""Every fault of tests/planted_*.py."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from tests.planted_faults import PlantedFault

__all__ = ["ALL_FAULTS"]


def planted() -> Iterator[PlantedFault]:
    """The lists PLANTED_... of all those files, one behind the other."""
    for path in sorted(Path(__file__).parent.glob("planted_*.py")):
        module = import_module(f"tests.{path.stem}")
        lists = [value for name, value in vars(module).items() if name.startswith("PLANTED_")]
        assert lists, f"{path.name} has no list of faults"
        for faults in lists:
            yield from faults


ALL_FAULTS = list(planted())
