"""Examples of a strategy, the same ones at every run."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

QUICK = settings(
    database=None,
    deadline=None,
    derandomize=True,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)


def drawn(strategy: st.SearchStrategy[Any], count: int, batch: int = 20) -> list[Any]:
    """So many examples, the same ones every time.

    In batches: Hypothesis tries several variations of each example, and within one more is new.  The
    first batch is the simplest value over and over.
    """
    found: list[Any] = []

    @settings(QUICK, max_examples=1 + (count + batch - 1) // batch)
    @given(st.lists(strategy, min_size=batch, max_size=batch))
    def keep(values):
        found.extend(values)

    keep()
    return found[batch : batch + count]
