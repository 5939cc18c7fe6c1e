"""What every test of devices can use: a kernel, and the host behind it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.uio.kernel import LATE, Kernel
from tests.uio.machine import Machine

#: Files in memory, where the system has a place for them: a test makes some fifty.
QUICK_FOLDER = Path("/dev/shm")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """The process in which the kernels of a file of tests run."""
    with Machine() as made:
        yield made


@pytest.fixture
def kernel(request: pytest.FixtureRequest, machine: Machine, no_descriptor_left: None) -> Iterator[Kernel]:
    """One of the age that the test asks for with parametrize(..., indirect=True); else a late one."""
    age = getattr(request, "param", LATE)
    with (
        TemporaryDirectory(dir=QUICK_FOLDER if QUICK_FOLDER.is_dir() else None) as folder,
        machine.boot(Path(folder), age) as made,
    ):
        yield made
