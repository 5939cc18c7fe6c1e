"""Whether a test has left a descriptor open."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

OWN_DESCRIPTORS = Path("/proc/self/fd")

needs_proc = pytest.mark.skipif(not OWN_DESCRIPTORS.is_dir(), reason="this system does not list descriptors")


def open_descriptors() -> int:
    return len(list(OWN_DESCRIPTORS.iterdir()))


def assert_no_more_than(before: int) -> None:
    """Fail when more descriptors are open than `before`.

    What nobody can reach any more may be closed only when it is collected, which takes long and is
    mostly not needed.
    """
    if open_descriptors() > before:
        gc.collect()
    assert open_descriptors() <= before
