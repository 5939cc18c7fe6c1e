"""Turn packets into another form: those of a ring or of a socket's virtqueue in a dump, or of a capture.
Or turn a memory image of any format into a raw one (--to raw-image).

FILE is a capture where it starts like one (pcap or pcapng), and otherwise a dump of a ring or of the
two rings of a channel.  Options that say where a ring or a virtqueue is make it a dump.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, NamedTuple

from vmbus.errors import CallerError, DumpError
from vmbus.inspection import (
    Convertible,
    Dump,
    Finding,
    PcapWriter,
    Selection,
    Severity,
    is_capture,
    ring_packets,
    sample_path,
)

from .dump_input import dump_of
from .output import UsageError, number, report
from .output_file import check_not_input, check_output, write_output
from .queue_options import add_queue_options, asks_for_queue, check_queue_usage, queue_of
from .raw_image_output import IMAGE_FORM, add_image_options, check_image_usage, execute_raw_image
from .ring_options import add_ring_options, asks_for_ring, rings_of

__all__ = ["add_arguments", "execute"]

#: The queues of a socket device that have packets; the third has events.
PACKET_QUEUES = ("rx", "tx")

EXAMPLES = """\
examples:
  vmbus convert --sample --to jsonl                 the packets of a dump that comes with the package
  vmbus convert ring.bin --to pcapng -o ring.pcapng --history
  vmbus convert vsock.pcapng --to jsonl | jq .vsock.operation
  vmbus convert vsock.pcapng --to pcap -o vsock.pcap
  vmbus convert memory.raw --queue-size 128 --descriptor-table 0x7a000 --vsock tx --to pcapng > tx.pcapng
  vmbus convert ring.bin --to raw > payloads
  vmbus convert guest.core --to raw-image -o guest.raw

forms:
  pcapng  frames for Wireshark and tcpdump.  Of sockets: link type 271 (vsock).  Of a ring: link type
          147 (USER0), an interface a ring, each frame 48 bytes that say which ring, offset, direction and
          state, then a packet's descriptor, header and payload; what it carries through a pipe follows in a
          frame of its own, of link type 252.  Times that nobody noted are 0.
  pcap    the same in the older form, without interfaces, comments and pipes
  jsonl   an object a line: of a dump the packets, or the chains, of `vmbus inspect --jsonl`; of a capture
          of rings the same, with "capture": where it stood
  raw     the payloads, one behind the other
  raw-image   not packets but the memory of the image: byte n of OUT is that of the guest-physical address n,
          or n behind --start.  OUT is sparse: holes and zeros take no room.  What the image lacks is a hole
          as well, and is told with its addresses.

Of a ring, packets that were read already (--history) come before the waiting ones; of two rings, the
first ring's come before the second's.

In an rx queue the waiting chains are empty.  Packets in used ones --history finds in a split queue, until
the driver has offered a buffer of theirs, or of one used after them, again; in a packed queue never.

numbers: 4096, 0x1000, 4_096, 4K (also M and G, all binary).
exit status: 0 done; 1 done, and a finding is an error or a warning, or a capture is cut off: then the
packets before are written, and a line on standard error says so; 2 could not be done, and then no file is
written or changed, and nothing printed.  OUT is never FILE.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("file", nargs="?", metavar="FILE", help="dump or capture; - for standard input")
    parser.add_argument("--sample", action="store_true", help="use a dump that comes with the package")
    parser.add_argument("--to", choices=[*FORMS, IMAGE_FORM], required=True, help="the form to turn it into")
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
    add_image_options(parser)
    add_ring_options(parser)
    add_queue_options(parser, PACKET_QUEUES)


class Serious(NamedTuple):
    """Findings that are errors or warnings: how many, and the first of them."""

    number: int
    first: str

    def __str__(self) -> str:
        what = "finding is an error or a warning" if self.number == 1 else "findings are errors or warnings"
        return f"{self.number} {what}, the first {self.first}"


def execute(arguments: Namespace) -> int:
    """Convert; 1 when something is wrong with what was converted, which one line then says."""
    check_usage(arguments)
    dump = dump_of(arguments)
    if arguments.to == IMAGE_FORM:
        return execute_raw_image(arguments, dump)
    breaks: list[DumpError] = []
    found = packets_of(arguments, dump, breaks.append)
    in_objects: Serious | None = None

    def produce(stream: BinaryIO) -> None:
        nonlocal in_objects
        breaks.clear()  # what goes to standard output is made twice
        in_objects = FORMS[arguments.to](found, stream, dump.path)

    write_output(arguments.output, produce)
    if breaks:
        report(f"{breaks[0]}; the packets before are converted")
    elif not found.is_sound:
        what = serious_of(found.findings)
        report(f"{dump.path}: {what} (`vmbus inspect` with the same options shows them)")
    elif in_objects is not None:
        report(f"{dump.path}: {in_objects} (the objects show them)")
    else:
        return 0
    return 1


def serious_of(findings: Sequence[Finding]) -> Serious:
    """Those of a report; where it lists none of them, its last finding says how many it left out."""
    listed = [one for one in findings if one.severity is not Severity.NOTE]
    first = listed[0] if listed else findings[-1]
    return Serious(len(listed), f"{first.check}: {first.message}")


def check_usage(arguments: Namespace) -> None:
    """Raise UsageError for options that contradict each other."""
    if arguments.sample and arguments.file is not None:
        raise UsageError(f"--sample is a dump itself; leave out {arguments.file}")
    if not arguments.sample and not arguments.file:
        raise UsageError("which FILE? (- for standard input, --sample for a look at one)")
    check_image_usage(arguments)
    if arguments.to == IMAGE_FORM and (asks_for_queue(arguments) or asks_for_ring(arguments)):
        raise UsageError(
            f"--to {IMAGE_FORM} takes the whole image: options of rings and queues are for packets"
        )
    if asks_for_queue(arguments):
        if asks_for_ring(arguments):
            raise UsageError(
                "--offset, --address, --data-size and --header-size are for rings, not for a queue"
            )
        check_queue_usage(arguments)
        if arguments.vsock is None:
            raise UsageError(
                "of a virtqueue only packets of sockets are converted: say --vsock rx or --vsock tx"
            )
    check_output(arguments.output, binary=arguments.to != "jsonl")
    check_not_input(arguments.output, sample_path() if arguments.sample else arguments.file)


def packets_of(arguments: Namespace, dump: Dump, on_break: Callable[[DumpError], object]) -> Convertible:
    """What there is to convert; `on_break` is told where a capture is cut off."""
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
        captured: Convertible = capture_packets(dump, limit=arguments.limit, on_break=on_break)
        return captured
    return ring_packets(rings_of(arguments, dump, selection))


def write_pcapng(found: Convertible, stream: BinaryIO, path: str) -> None:
    try:
        found.write_pcapng(stream, application="vmbus convert")
    except CallerError as error:
        raise DumpError(str(error), path=path) from error


def write_pcap(found: Convertible, stream: BinaryIO, path: str) -> None:
    writer = PcapWriter(stream, found.link_type)
    for count, packet in enumerate(found.packets(), 1):
        try:
            writer.write(packet.frame, timestamp=packet.timestamp, original_length=packet.original_length)
        except CallerError as error:
            raise unfit(count, error, path) from error


def unfit(count: int, error: CallerError, path: str) -> DumpError:
    """What to say of a packet that the other form has no room for."""
    return DumpError(f"packet {count} does not fit the other form: {error}", path=path)


def write_json_lines(found: Convertible, stream: BinaryIO, path: str) -> Serious | None:
    """An object a line; the findings in them that are more than notes, if there are any."""
    import json

    count, first = 0, ""
    for packet in found.packets():
        document = packet.document()
        stream.write(json.dumps(document).encode() + b"\n")
        for finding in filter(is_serious, document.get("findings", ())):
            first = first or f"{finding['check']}: {finding['message']}"
            count += 1
    return Serious(count, first) if count else None


def is_serious(finding: dict[str, Any]) -> bool:
    return bool(finding["severity"] != "note")


def write_payloads(found: Convertible, stream: BinaryIO, path: str) -> None:
    stream.writelines(packet.payload for packet in found.packets())


#: Each form: a function of what there is to convert, a stream, and the input's name for errors.  One that
#: shows findings returns the serious ones.
FORMS: dict[str, Callable[[Convertible, BinaryIO, str], Serious | None]] = {
    "pcapng": write_pcapng,
    "pcap": write_pcap,
    "jsonl": write_json_lines,
    "raw": write_payloads,
}
