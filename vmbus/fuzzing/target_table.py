"""Everything that can be fuzzed here, by name."""

from __future__ import annotations

from functools import cache

from vmbus.errors import CallerError

from .case import Case
from .trial import Trial

__all__ = ["fuzz_one", "target_named", "targets"]


@cache
def targets() -> dict[str, type[Trial]]:
    """The trials by name; imported when they are first asked for."""
    from .byte_channel_trial import ByteChannelTrial
    from .byte_pipe_trial import BytePipeTrial
    from .channel_trial import ChannelTrial
    from .hostile_channel_trial import HostileChannelTrial
    from .hostile_queue_trial import HostileQueueTrial
    from .hostile_ring_trial import HostileRingTrial
    from .image_trial import ImageTrial
    from .pipe_trial import MessagePipeTrial
    from .queue_trial import PackedQueueTrial, SplitQueueTrial
    from .ring_trial import RingTrial

    trials: tuple[type[Trial], ...] = (
        RingTrial,
        MessagePipeTrial,
        BytePipeTrial,
        ChannelTrial,
        ByteChannelTrial,
        ImageTrial,
        SplitQueueTrial,
        PackedQueueTrial,
        HostileRingTrial,
        HostileChannelTrial,
        HostileQueueTrial,
    )
    return {trial.name: trial for trial in trials}


def target_named(name: str) -> type[Trial]:
    """The trial of that name; CallerError names those there are."""
    found = targets().get(name)
    if found is None:
        raise CallerError(
            f"no target is called {name!r}; there are {', '.join(targets())}",
            argument="target",
            value=name,
            limit=tuple(targets()),
        )
    return found


def fuzz_one(data: bytes | bytearray | memoryview, target: str | None = None) -> None:
    """Perform the case that some bytes are: what coverage-guided fuzzers call.

    data     any bytes
    target   the name of what is tested; without one the first byte chooses

    Raises Wrong where the trial finds something wrong.  Anything else that comes out is a finding just as well: an
    error that the trial did not expect.

    >>> fuzz_one(b"any bytes are a case", target="ring")
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise CallerError(
            f"a case is made of bytes, not of {type(data).__name__}",
            argument="data",
            value=type(data),
            limit="bytes",
        )
    data = bytes(data)
    if target is None:
        names = tuple(targets())
        target, data = names[data[0] % len(names) if data else 0], data[1:]
    Case.from_bytes(target_named(target), data).perform()
