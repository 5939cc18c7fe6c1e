"""`vmbus inspect` of a virtqueue."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from vmbus.inspection import Selection
from vmbus.sizes import PAGE_SIZE

from .dump_input import dump_of
from .output import UsageError, print_json, print_json_lines, print_lines
from .queue_options import check_queue_usage, queue_of

__all__ = ["execute_queue"]


def execute_queue(arguments: Namespace) -> int:
    """Inspect a queue and print; 1 when something is wrong with it."""
    check_queue_usage(arguments)
    check_no_ring(arguments)
    from vmbus.inspection import inspect_queue_dump, queue_report_to_lines

    dump = dump_of(arguments)
    queue = queue_of(arguments, dump)
    selection = Selection(limit=arguments.limit, history=arguments.history)
    report = inspect_queue_dump(
        dump, queue.memory, queue.areas, queue.size, queue.features, vsock=queue.vsock, selection=selection
    )
    if arguments.json:
        print_json(report.to_json())
    elif arguments.jsonl:
        print_json_lines(queue_json_lines(report.to_json()))
    else:
        print_lines(queue_report_to_lines(report, with_hexdump=arguments.hexdump))
    return 0 if report.is_sound else 1


def check_no_ring(arguments: Namespace) -> None:
    """Raise UsageError for options that only a ring has."""
    for name in ("offset", "address", "pages", "data_size", "type", "transaction", "device"):
        if getattr(arguments, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is of a ring, and --queue-size makes it a virtqueue; leave one out")
    if arguments.header_size != PAGE_SIZE:
        raise UsageError("--header-size is of a ring, and --queue-size makes it a virtqueue; leave one out")
    if arguments.whole:
        raise UsageError("--whole is of a ring; a queue's buffers are shown with --hexdump")
    if arguments.uio is not None:
        raise UsageError("--uio is a device with rings; a virtqueue takes a FILE")
    if arguments.sample:
        raise UsageError("--sample is a dump of rings; a virtqueue takes a FILE")


def queue_json_lines(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The document of a queue object by object, each with its kind and the address of its queue's table."""
    for queue in document["queues"]:
        lists = {key: queue.pop(key) for key in ("history", "chains", "findings")}
        yield {"schema": document["schema"], "kind": "queue", "source": document["source"], **queue}
        for key, kind in (("history", "used"), ("chains", "chain"), ("findings", "finding")):
            for one in lists[key]:
                yield {"kind": kind, "queue": queue["descriptor_table"], **one}
