"""The pytest plugin: rings and channels for anybody's tests, and two profiles of Hypothesis.

    def test_my_writer(ring_pair):
        sender, receiver = ring_pair
        my_write(sender.memory, b"hello")
        assert receiver.receive()[0].payload == b"hello\\0\\0\\0"

    ring_pair            two ends of one ring whose first packet wraps; at the end the ring must be whole
    connected_channels   two channels that face each other; closed at the end
    hostile_ring         a receiving ring with three packets, and a HostilePeer at its other side

A test that wants something else parametrizes them, `indirect=True`: ring_pair takes the size of the data area,
connected_channels a kind of channel or a dict of options, hostile_ring a plan.

`--vmbus-profile quick` or `long` loads a profile of Hypothesis for a run; without it nothing is loaded.  pytest
imports this file at every start: it imports nothing but pytest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

__all__ = ["connected_channels", "hostile_ring", "pytest_addoption", "pytest_configure", "ring_pair"]

#: What begins the names of the profiles.
PREFIX = "vmbus-"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("vmbus", "fuzzing of VMBus rings")
    group.addoption(
        "--vmbus-profile",
        choices=("quick", "long"),
        help="load the settings profile vmbus-quick or vmbus-long of Hypothesis",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Register the profiles where one is asked for; before Hypothesis' own plugin, which may load it."""
    wanted = config.getoption("--vmbus-profile", default=None)
    named = config.getoption("--hypothesis-profile", default=None) or ""
    if wanted is None and not named.startswith(PREFIX):
        return
    if wanted is not None and named:
        raise pytest.UsageError(f"--vmbus-profile {wanted} and --hypothesis-profile {named}: one of the two")
    try:
        from hypothesis import settings
    except ImportError:
        raise pytest.UsageError("--vmbus-profile needs hypothesis: pip install 'vmbus[fuzzing]'") from None
    from .hypothesis_entry import register_profiles

    register_profiles()
    if wanted is not None:
        settings.load_profile(PREFIX + wanted)


@pytest.fixture
def ring_pair(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """An OutgoingRing and the IncomingRing it sends to; fails when the test leaves the ring broken.

    Parametrized (indirect), the bytes of the data area; 4096 otherwise.
    """
    from .plugin_fixtures import checked_ring_pair

    with checked_ring_pair(getattr(request, "param", 4096)) as pair:
        yield pair


@pytest.fixture
def connected_channels(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """Two connected channels, guest and host; fails when the test leaves one of their rings broken.

    Parametrized (indirect), a kind of channel, or a dict of the options of vmbus.connected_channels.
    """
    from .plugin_fixtures import checked_channels, options_of

    with checked_channels(**options_of(getattr(request, "param", None))) as pair:
        yield pair


@pytest.fixture
def hostile_ring(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """An IncomingRing with three packets in it, and the HostilePeer at its other side.

    Parametrized (indirect), the plan of the peer: a list of Strikes.
    """
    from .plugin_fixtures import hostile_ring as make

    return make(getattr(request, "param", ()))
