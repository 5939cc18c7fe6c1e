"""One image looked through by several processes, each with a part of it.

Every process opens the file for itself.  What is unpacked first (gzip and its like) would be unpacked by each:
such a file is looked through here.
"""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, wait

from vmbus.images import BytesSource, Dump, SpaceDump, open_dump

from .sighting import Progress, Sighting, look_through, parts_of, present_bytes
from .workers import worker_pool

__all__ = ["can_be_opened_again", "look_through_apart"]

#: Each process gets so many parts, so that all end at about the same time and progress shows.
PARTS_PER_JOB = 8


def look_through_apart(
    dump: Dump, start: int, end: int, jobs: int, *, memory_map: str | None, progress: Progress | None
) -> list[Sighting]:
    """What there is to see in each part of a dump that can be opened again."""
    parts = parts_of(dump, start, end, jobs * PARTS_PER_JOB)
    total = present_bytes(dump, start, end)
    done = 0
    with worker_pool(jobs) as pool:
        tasks = [pool.submit(look_through_part, dump.path, memory_map, part) for part in parts]
        pending = set(tasks)
        while pending:
            finished, pending = wait(pending, return_when=FIRST_COMPLETED)
            done += sum(task.result().looked_at for task in finished)
            if progress is not None:
                progress(done, total)
        return [task.result() for task in tasks]


def can_be_opened_again(dump: Dump) -> bool:
    """Whether another process finds the same bytes under the dump's name, without unpacking them again."""
    from_file = not isinstance(dump.source, BytesSource) and not isinstance(dump, SpaceDump)
    return from_file and not dump.source.unpacked


def look_through_part(path: str, memory_map: str | None, part: tuple[int, int]) -> Sighting:
    """One task."""
    with open_dump(path, memory_map=memory_map) as dump:
        return look_through(dump, *part)
