"""Turn packets into another form: those of a ring or of a socket's virtqueue in a dump, or of a capture.

FILE is a capture where it starts like one (pcap or pcapng), and otherwise a dump of a ring or of the
two rings of a channel.  Options that say where a ring or a virtqueue is make it a dump.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import Any, BinaryIO

from vmbus.errors import CallerError, DumpError
from vmbus.inspection import (
    Convertible,
    Dump,
    PcapngWriter,
    PcapWriter,
    Selection,
    inspect_dump,
    is_capture,
    ring_packets,
)

from .inspect_command import address_of, dump_of
from .output import UsageError, number
from .output_file import check_output, write_output
from .queue_options import add_queue_options, asks_for_queue, check_queue_usage, queue_of
from .ring_options import add_ring_options, asks_for_ring

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  vmbus convert --sample --to jsonl                 the packets of a dump that comes with the package
  vmbus convert ring.bin --to pcapng -o ring.pcapng --history
  vmbus convert vsock.pcapng --to jsonl | jq .vsock.operation
  vmbus convert vsock.pcapng --to pcap -o vsock.pcap
  vmbus convert memory.raw --queue-size 128 --descriptor-table 0x7a000 --vsock tx --to pcapng > tx.pcapng
  vmbus convert ring.bin --to raw > payloads

forms:
  pcapng  frames for Wireshark and tcpdump.  Of sockets: link type 271 (vsock).  Of a ring: link type
          147 (USER0), each frame a packet's descriptor, header and payload, with a comment that says
          where it was.  Times that nobody noted are 0.
  pcap    the same in the older form, without comments
  jsonl   an object a line: of a dump the packets, or the chains, of `vmbus inspect --jsonl`
  raw     the payloads, one behind the other

Of a ring, packets that were read already (--history) come before the waiting ones; of two rings, the
first ring's come before the second's.  In an rx queue the waiting chains are empty: take --history.

numbers: 4096, 0x1000, 4_096, 4K (also M and G, all binary).
exit status: 0 done; 1 done, and a finding is an error or a warning; 2 could not be done, and then no file
is written or changed, and nothing printed.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("file", nargs="?", metavar="FILE", help="dump or capture; - for standard input")
    parser.add_argument("--sample", action="store_true", help="use a dump that comes with the package")
    parser.add_argument("--to", choices=list(FORMS), required=True, help="the form to turn it into")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="the file to write; - or nothing for standard output"
    )
    what = parser.add_argument_group("which packets")
    what.add_argument(
        "--history", action="store_true", help="of a dump also packets read already and still there"
    )
    what.add_argument(
        "--limit",
        type=number,
        metavar="N",
        help="at most so many: of a capture the first, of a dump as `vmbus inspect` has it",
    )
    add_ring_options(parser)
    add_queue_options(parser)


def execute(arguments: Namespace) -> int:
    """Convert; 1 when something is wrong with what was converted."""
    check_usage(arguments)
    dump = dump_of(arguments)
    found = packets_of(arguments, dump)
    sound = found.is_sound

    def produce(stream: BinaryIO) -> None:
        nonlocal sound
        if not FORMS[arguments.to](found, stream, dump.path):
            sound = False

    write_output(arguments.output, produce)
    return 0 if sound else 1


def check_usage(arguments: Namespace) -> None:
    """Raise UsageError for options that contradict each other."""
    if arguments.sample and arguments.file is not None:
        raise UsageError(f"--sample is a dump itself; leave out {arguments.file}")
    if not arguments.sample and not arguments.file:
        raise UsageError("which FILE? (- for standard input, --sample for a look at one)")
    if asks_for_queue(arguments):
        if asks_for_ring(arguments):
            raise UsageError(
                "--offset, --address, --data-size and --header-size are for rings, not for a queue"
            )
        check_queue_usage(arguments)
        if arguments.vsock not in ("rx", "tx"):
            raise UsageError(
                "of a virtqueue only packets of sockets are converted: say --vsock rx or --vsock tx"
            )
    check_output(arguments.output, binary=arguments.to != "jsonl")


def packets_of(arguments: Namespace, dump: Dump) -> Convertible:
    """What there is to convert."""
    selection = Selection(limit=arguments.limit, history=arguments.history)
    if asks_for_queue(arguments):
        from vmbus.inspection import inspect_queue, queue_packets

        asked = queue_of(arguments, dump)
        queue = inspect_queue(
            asked.memory, asked.areas, asked.size, asked.features, vsock=asked.vsock, selection=selection
        )
        queued: Convertible = queue_packets(queue)
        return queued
    if is_capture(dump) and not asks_for_ring(arguments):
        from vmbus.inspection import capture_packets

        if arguments.history:
            raise UsageError(f"--history is for dumps, and {dump.path} is a capture")
        captured: Convertible = capture_packets(dump, limit=arguments.limit)
        return captured
    report = inspect_dump(
        dump,
        address=address_of(arguments, dump),
        header_size=arguments.header_size,
        data_size=arguments.data_size,
        selection=selection,
    )
    return ring_packets(report)


def write_pcapng(found: Convertible, stream: BinaryIO, path: str) -> bool:
    writer = PcapngWriter(
        stream, found.link_type, snap_length=0, comment=found.comment, application="vmbus convert"
    )
    for count, packet in enumerate(found.packets(), 1):
        try:
            writer.write(
                packet.frame,
                timestamp=packet.timestamp,
                original_length=packet.original_length,
                comment=packet.comment,
            )
        except CallerError as error:
            raise unfit(count, error, path) from error
    return True


def write_pcap(found: Convertible, stream: BinaryIO, path: str) -> bool:
    writer = PcapWriter(stream, found.link_type)
    for count, packet in enumerate(found.packets(), 1):
        try:
            writer.write(packet.frame, timestamp=packet.timestamp, original_length=packet.original_length)
        except CallerError as error:
            raise unfit(count, error, path) from error
    return True


def unfit(count: int, error: CallerError, path: str) -> DumpError:
    """What to say of a packet that the other form has no room for."""
    return DumpError(f"packet {count} does not fit the other form: {error}", path=path)


def write_json_lines(found: Convertible, stream: BinaryIO, path: str) -> bool:
    """An object a line; False when a finding on one is more than a note."""
    import json

    sound = True
    for packet in found.packets():
        document = packet.document()
        stream.write(json.dumps(document).encode() + b"\n")
        sound = sound and not any(is_serious(finding) for finding in document.get("findings", ()))
    return sound


def is_serious(finding: dict[str, Any]) -> bool:
    return bool(finding["severity"] != "note")


def write_payloads(found: Convertible, stream: BinaryIO, path: str) -> bool:
    stream.writelines(packet.payload for packet in found.packets())
    return True


#: Each form: a function of what there is to convert, a stream, and the input's name for errors.
FORMS: dict[str, Callable[[Convertible, BinaryIO, str], bool]] = {
    "pcapng": write_pcapng,
    "pcap": write_pcap,
    "jsonl": write_json_lines,
    "raw": write_payloads,
}
