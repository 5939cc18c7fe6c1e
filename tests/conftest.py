"""What every test can use: the mark `known_bug` (`pytest -m known_bug`), and a watch on descriptors.

And what every test is spared.  A slow machine is no failure of a property.  And on a build server pytest prints
the whole difference of two values that a test has found to differ: of two pages of memory it looks for that
difference for minutes.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

# Hypothesis looks for a build server when it is imported, here before the variables are gone: on one it draws the
# same examples in every run, which is good to have.
import pytest
from hypothesis import HealthCheck, settings

from tests.descriptors import assert_no_more_than, open_descriptors
from tests.planted_faults import PlantedFault
from tests.planting import Planting

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

#: By these pytest knows a build server.
BUILD_SERVER_VARIABLES = ("CI", "BUILD_NUMBER")

for name in BUILD_SERVER_VARIABLES:
    os.environ.pop(name, None)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "known_bug(*numbers): keeps a bug of the catalogue in tests/known_bugs.py out"
    )
    config.addinivalue_line(
        "markers", "planted: what was done with its `fault` since the session began is judged"
    )


def plants(item: pytest.Item) -> bool:
    return item.get_closest_marker("planted") is not None


def fault_of(item: pytest.Item) -> PlantedFault | None:
    """The fault that a test judges; None for one that looks at all of them, or at none."""
    callspec = getattr(item, "callspec", None)
    return callspec.params["fault"] if callspec and plants(item) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Faults are planted while the other tests go on: those that want to know how it went come last."""
    items.sort(key=plants)


def pytest_collection_finish() -> None:
    """The tests themselves, many thousands of objects, need not be looked at by every garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def planting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Planting | None]:
    """Plants the faults that this run of pytest has been asked for, from its first test on."""
    faults = [fault for item in request.session.items if (fault := fault_of(item)) is not None]
    if not faults:
        yield None
        return
    made = Planting(tmp_path_factory.mktemp("planting"), faults)
    yield made
    made.close()


@pytest.fixture
def no_descriptor_left() -> Iterator[None]:
    """Fails when the test leaves a descriptor behind."""
    before = open_descriptors()
    yield
    assert_no_more_than(before)
