"""Finding the rings in memory images: `scan` one, or `scan_many`.

An image is looked through once, in pieces, for pages that look like control pages and for the messages with
which a guest opens channels.  What was seen is little, and is judged afterwards (scan_rings).  So parts of an
image can be looked through apart, by several processes, or by one that goes on where another one stopped.

    >>> from .sample import sample_path
    >>> report = scan(sample_path())
    >>> [(ring.address, ring.data_size, ring.role) for ring in report.rings]
    [(0, 4096, 'outbound'), (8192, 4096, 'inbound')]
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import NamedTuple

from vmbus.errors import CallerError, DumpError
from vmbus.images import TOP, ChannelPages, Dump, Finding, Run, Severity, dump_over, open_dump
from vmbus.layout import Guid
from vmbus.memory import AddressSpace

from .data_area import MOST_EFFORT, Effort
from .found_ring import FoundRing
from .gpadl_index import ChannelRings, RingPages
from .message_finder import FoundMessage
from .scan_jobs import can_be_opened_again, look_through_apart
from .scan_rings import rings_of
from .sighting import MOST_CANDIDATES, Progress, Sighting, joined, look_through

__all__ = ["ScanOptions", "ScanReport", "scan", "scan_many"]


class ScanOptions(NamedTuple):
    """What to look at.

    start, end   addresses: only rings whose control page is between them are found
    memory_map   the file that says where a raw file's stretches belong
    jobs         processes that look through one image
    everything   also report what only looks like a ring
    """

    start: int = 0
    end: int = TOP
    memory_map: str | None = None
    jobs: int = 1
    everything: bool = False


class ScanReport(NamedTuple):
    """The rings of one image.

    path, format, size   the file
    start, end           the addresses between which control pages were looked for
    looked_at            bytes of memory looked through; the rest is holes and zeros
    rings                in the order of their addresses
    unsure               how many pages only look like a control page; not in `rings` unless asked for
    missing              memory that the image should have and has not
    unlisted             bytes of it beyond those listed
    findings             what is wrong with the file, and limits that were reached
    """

    path: str
    format: str
    size: int
    start: int
    end: int
    looked_at: int
    rings: list[FoundRing]
    unsure: int
    missing: list[Run]
    unlisted: int
    findings: list[Finding]


def scan(
    image: Dump | AddressSpace | str | os.PathLike[str],
    options: ScanOptions | None = None,
    *,
    progress: Progress | None = None,
) -> ScanReport:
    """The rings of one image: a Dump, an AddressSpace, or the name of a file.

    progress   told how many bytes of how many were looked through, at every piece

    Raises DumpError when the file cannot be read as an image.
    """
    wanted = options or ScanOptions()
    if wanted.start < 0 or wanted.start >= wanted.end:
        raise CallerError(
            f"no memory lies from {wanted.start:#x} {'on' if wanted.end == TOP else f'to {wanted.end:#x}'}",
            argument="start",
            value=wanted.start,
            limit=wanted.end,
        )
    if isinstance(image, (Dump, AddressSpace)):
        return scan_dump(dump_over(image), wanted, progress)
    with open_dump(image, memory_map=wanted.memory_map, progress=progress) as dump:
        return scan_dump(dump, wanted, progress)


def scan_many(
    paths: Iterable[str | os.PathLike[str]],
    options: ScanOptions | None = None,
    *,
    executor: Executor | None = None,
) -> Iterator[ScanReport | DumpError]:
    """The report on each image, in the order of the paths; of one that cannot be read, why.

    executor   any executor of concurrent.futures, or one that has its interface, such as those of Dask and
               MPI: each image is one task, and tasks and results pickle.  None: here, in as many processes as
               the options say

    >>> from .sample import sample_path
    >>> [len(report.rings) for report in scan_many([sample_path(), sample_path()])]
    [2, 2]
    """
    names = [os.fspath(path) for path in paths]
    wanted = (options or ScanOptions())._replace(jobs=1)
    if executor is None:
        if options is None or options.jobs == 1 or len(names) < 2:
            for name in names:
                yield scan_or_say_why(name, options or wanted)
            return
        from .workers import worker_pool

        with worker_pool(min(options.jobs, len(names))) as pool:
            yield from scan_many(names, wanted, executor=pool)
        return
    tasks: list[Future[ScanReport | DumpError]] = [
        executor.submit(scan_or_say_why, name, wanted) for name in names
    ]
    try:
        for task in tasks:
            yield task.result()
    finally:
        for task in tasks:
            task.cancel()


def scan_or_say_why(path: str, options: ScanOptions) -> ScanReport | DumpError:
    """One task of scan_many."""
    try:
        return scan(path, options)
    except DumpError as error:
        return error


def scan_dump(dump: Dump, options: ScanOptions, progress: Progress | None) -> ScanReport:
    if options.jobs > 1 and can_be_opened_again(dump):
        sightings = look_through_apart(
            dump, options.start, options.end, options.jobs, memory_map=options.memory_map, progress=progress
        )
    else:
        sightings = [look_through(dump, options.start, options.end, progress=progress)]
    return judged(dump, joined(sightings), options)


def judged(dump: Dump, seen: Sighting, options: ScanOptions) -> ScanReport:
    """The report on what was seen."""
    channels, doubts = channels_of(dump, seen.messages)
    findings = [*dump.findings, *limits_of(seen), *doubts]
    effort = Effort()
    rings = rings_of(dump, seen.candidates[:MOST_CANDIDATES], channels, effort)
    if effort.is_spent:
        message = (
            f"there is so much that looks like rings that what came after {MOST_EFFORT} steps was looked at only "
            "briefly: sizes may be unknown, and rings may be missing (--start and --end look at less)"
        )
        findings.append(Finding("too-much-to-judge", Severity.WARNING, None, message))
    inside = [ring for ring in rings if options.start <= ring.address < options.end]
    believed = [ring for ring in inside if ring.is_ring]
    return ScanReport(
        path=dump.path,
        format=dump.format,
        size=dump.size,
        start=options.start,
        end=options.end,
        looked_at=seen.looked_at,
        rings=inside if options.everything else believed,
        unsure=len(inside) - len(believed),
        missing=seen.missing,
        unlisted=seen.unlisted,
        findings=findings,
    )


def limits_of(seen: Sighting) -> Iterator[Finding]:
    """What was not looked at, or is not judged, because there is so much of it."""
    if len(seen.candidates) > MOST_CANDIDATES:
        message = (
            f"more than {MOST_CANDIDATES} pages look like control pages; those from "
            f"{seen.candidates[MOST_CANDIDATES].address:#x} on are not judged (--start goes on there)"
        )
        yield Finding("too-many-candidates", Severity.WARNING, None, message)
    if seen.unread_from is not None:
        message = (
            f"there are so many messages about channels that those from {seen.unread_from:#x} on were not all "
            "looked for"
        )
        yield Finding("too-many-messages", Severity.NOTE, None, message)
    if seen.first_cut is not None:
        message = (
            f"{seen.pages_cut} pages, the first at {seen.first_cut:#x}, have so much in them that looks like a "
            "message about a channel that not all of it was looked at"
        )
        yield Finding("too-many-lookalikes", Severity.NOTE, None, message)


def channels_of(dump: Dump, messages: list[FoundMessage]) -> tuple[list[ChannelRings], list[Finding]]:
    """The channels whose rings' pages are known: from messages, and from what a saved state says itself."""
    index = RingPages(messages)
    channels = list(index.channels())
    findings = [
        Finding("channel-doubt", Severity.NOTE, None, f"channel {channel.relid}: {doubt}")
        for channel in channels
        for doubt in channel.doubts
    ]
    if index.left_out:
        message = f"{index.left_out} messages about channels were too many to be kept"
        findings.append(Finding("too-many-messages", Severity.NOTE, None, message))
    saved = getattr(dump, "channels", None)
    if saved is not None:
        known = {channel.outbound_pages for channel in channels}
        for one in map(saved_channel, filter(is_open, saved())):
            if one.outbound_pages in known:
                continue
            if len(one.outbound_pages) < 2 or len(one.inbound_pages) < 2:
                message = f"channel {one.relid}: its second ring does not begin inside its pages"
                findings.append(Finding("channel-doubt", Severity.NOTE, None, message))
                continue
            channels.append(one)
    return channels, findings


def is_open(channel: ChannelPages) -> bool:
    """Whether a saved channel has rings."""
    return bool(channel.pages)


def saved_channel(channel: ChannelPages) -> ChannelRings:
    """A channel as a Hyper-V saved state lists it."""
    second = channel.second_ring_page
    return ChannelRings(
        channel.channel_id,
        Guid.from_bytes(channel.interface_id),
        Guid.from_bytes(channel.instance_id),
        channel.pages[:second],
        channel.pages[second:],
        doubts=(),
        gpadl=0,
        subchannel_index=None,
    )
