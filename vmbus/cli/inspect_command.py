"""Show rings: the control page, the packets that wait, what is wrong, and whose turn it is.

A raw file is taken for one ring, or for the two rings of a channel, when it looks like that.  With
--offset, --address, --pages or --data-size it is taken for a ring whatever it looks like.  Of a memory
image (`vmbus scan --help` lists the formats) every ring that is found is shown, or the one at --address.

With --queue-size and --descriptor-table it is a virtqueue that is shown: indices, the chains that
the device has, what is wrong, and with --vsock the packets in them.

With --uio it is both rings of a live device, on a Linux guest where uio_hv_generic has it: copied while
somebody has it open, and nothing is stored in them.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator
from typing import Any, BinaryIO

from vmbus.errors import CallerError, DumpError
from vmbus.inspection import (
    SCHEMA,
    TYPE_NAMES,
    Dump,
    Report,
    Selection,
    report_to_lines,
    sample_path,
    type_label,
)

from .dump_input import dump_of, refuse_capture
from .output import UsageError, number, print_json, print_json_lines, print_lines
from .queue_options import add_queue_options, asks_for_queue
from .ring_options import add_ring_options, asks_for_ring, rings_of
from .uio_options import add_uio_options, asks_for_uio, check_uio_usage

__all__ = ["add_arguments", "execute"]

EXAMPLES = """\
examples:
  vmbus inspect --sample                        a dump that comes with the package
  vmbus inspect ring.bin --history --hexdump    read packets too, every byte of each
  vmbus inspect ring.bin --history --html ring.html
  vmbus inspect memory.raw --address 0x3f2000 --data-size 16K
  vmbus inspect memory.elf                      every ring in a memory image
  vmbus inspect memory.elf --pages 0x5000,0x9000*2,0x17000
  vmbus inspect ring.bin --json | jq '.rings[].packets[].transaction_id_hex'
  dd if=memory.raw skip=16 count=5 bs=4096 | vmbus inspect - --type completion

live devices, on a Linux guest:
  vmbus inspect --uio 0 --history               both rings of /dev/uio0
  vmbus inspect --uio 0 --save before.bin       keep the copy too, for `vmbus diff before.bin after.bin`
  vmbus inspect --uio file-copy --json
  vmbus inspect --uio 1 --channel 23            a subchannel

virtqueues:
  vmbus inspect memory.raw --queue-size 128 --descriptor-table 0x3f0000 --align 64 --vsock tx
  vmbus inspect tx.bin --queue-size 8 --descriptor-table 0 --driver-area 0x80 --device-area 0x84 --packed
  vmbus inspect pages.bin --base 0x3f0000 --queue-size 128 --descriptor-table 0x3f0000 --history --json

TRUST says how far a packet that was read already can be trusted: intact, footer and descriptor agree;
footer-only, only the footer names its start.  - is a transaction id without a meaning.  In a hexdump
^ marks the row at which the ring begins anew, and * stands for rows like the one before.

Of a virtqueue only the chains that wait are to be trusted: what --history shows may be anything by now.
What was in a used chain it shows of a split queue, until the driver has offered a buffer of it, or of one
used after it, again; of a packed queue never.

Of a live device the rings are copied up to three times, until one stands still.  One that does not is shown
with a note that says what moved, and with those indices between which no packet changed meanwhile.

numbers: 4096, 0x1000, 4_096, 4K (also M and G, all binary).
exit status: 0 done; 1 done, and a finding is an error or a warning; 2 could not be done.
"""

#: A packet's type has 16 bits.
LARGEST_TYPE = 0xFFFF


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("file", nargs="?", metavar="FILE", help="the dump; - for standard input")
    parser.add_argument("--sample", action="store_true", help="use a dump that comes with the package")

    add_ring_options(parser)
    add_uio_options(parser, with_save=True)
    add_queue_options(parser)

    what = parser.add_argument_group("what to show")
    what.add_argument("--history", action="store_true", help="also packets read already and still there")
    what.add_argument(
        "--type",
        type=packet_type,
        metavar="NAME",
        help="only packets of this type: in-band, completion, …, or its number",
    )
    what.add_argument(
        "--device",
        metavar="CLASS",
        help="of an image only the rings of devices of this class: a name such as network, or a GUID",
    )
    what.add_argument("--transaction", type=number, metavar="ID", help="only packets of this transaction id")
    what.add_argument(
        "--limit",
        type=number,
        metavar="N",
        help="at most so many packets: of the waiting the first, of those read already the last",
    )

    how = parser.add_argument_group("how to show it")
    form = how.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help=f"one document, {SCHEMA}")
    form.add_argument("--jsonl", action="store_true", help="an object a line: rings, packets, findings")
    form.add_argument("--hexdump", action="store_true", help="with every byte of each packet")
    form.add_argument("--html", metavar="OUT", help="one page with a picture of each ring, written to OUT")
    form.add_argument("--pcapng", metavar="OUT", help="the packets for Wireshark, written to OUT")
    how.add_argument(
        "--whole", action="store_true", help="with --json or --jsonl: all bytes of the data area"
    )


def execute(arguments: Namespace) -> int:
    """Inspect and print; 1 when something is wrong with a ring, or a queue."""
    check_usage(arguments)
    if asks_for_queue(arguments):
        from .inspect_queue import execute_queue

        return execute_queue(arguments)
    report = shown_rings(arguments)
    if arguments.html is not None:
        write_html(arguments, report)
    elif arguments.pcapng is not None:
        write_pcapng(arguments, report)
    elif arguments.json:
        print_json(report.to_json(whole=arguments.whole))
    elif arguments.jsonl:
        print_json_lines(json_lines(report, whole=arguments.whole))
    else:
        print_lines(report_to_lines(report, with_hexdump=arguments.hexdump))
    return 0 if report.is_sound else 1


def write_html(arguments: Namespace, report: Report) -> None:
    from vmbus.inspection import report_to_html

    from .output_file import write_output

    def produce(stream: BinaryIO) -> None:
        stream.writelines(piece.encode() for piece in report_to_html(report))

    write_output(arguments.html, produce)


def write_pcapng(arguments: Namespace, report: Report) -> None:
    from vmbus.inspection import write_ring_capture

    from .output_file import write_output

    def produce(stream: BinaryIO) -> None:
        write_ring_capture(report, stream)

    write_output(arguments.pcapng, produce)


def shown_rings(arguments: Namespace) -> Report:
    """The rings that are asked for, of a dump or a device."""
    selection = Selection(
        packet_type=arguments.type,
        transaction_id=arguments.transaction,
        limit=arguments.limit,
        history=arguments.history,
    )
    if asks_for_uio(arguments):
        report = live_rings(arguments, selection)
    else:
        report = dumped_rings(arguments, dump_of(arguments), selection)
    return of_device(report, arguments.device)


def live_rings(arguments: Namespace, selection: Selection) -> Report:
    """The rings of a live device, saved too where that is asked for."""
    from .uio_input import live_dump, report_on

    dump = live_dump(arguments)
    if arguments.save is not None:
        from .output_file import write_output

        write_output(arguments.save, lambda stream: stream.write(dump.data))
    return report_on(dump, selection)


def dumped_rings(arguments: Namespace, dump: Dump, selection: Selection) -> Report:
    """The rings of a dump; DumpError that names the other command for a capture."""
    try:
        return rings_of(arguments, dump, selection)
    except DumpError:
        if asks_for_ring(arguments):
            raise
        refuse_capture(dump)
        raise


def of_device(report: Report, device: str | None) -> Report:
    """Only the rings that belong to a device of this class; DumpError where there are none."""
    if device is None:
        return report
    from vmbus.layout import Guid
    from vmbus.protocols import device_class

    known = device_class(device)
    try:
        class_id = str(Guid.parse(device))
        rings = [
            ring for ring in report.rings if ring.place.device and ring.place.device.class_id == class_id
        ]
    except CallerError:
        if known is None:
            raise UsageError(
                f"--device {device}: no class has this name, and it is no GUID (`vmbus scan` shows the names)"
            ) from None
        name = known.name
        rings = [ring for ring in report.rings if ring.place.device and ring.place.device.class_name == name]
    if not rings:
        raise DumpError(f"no ring in it is known to belong to a device of class {device}", path=report.path)
    return report._replace(rings=rings)


def check_usage(arguments: Namespace) -> None:
    """Raise UsageError for options that contradict each other."""
    if arguments.sample and arguments.file is not None:
        raise UsageError(f"--sample is a dump itself; leave out {arguments.file}")
    check_uio_usage(arguments, [arguments.file] if arguments.file else [])
    if not arguments.sample and not arguments.file and not asks_for_uio(arguments):
        raise UsageError("which FILE? (- for standard input, --sample for a look at one)")
    if arguments.whole and not (arguments.json or arguments.jsonl):
        raise UsageError("--whole goes with --json or --jsonl")
    if arguments.save is not None:
        check_saved(arguments)
    for option in ("html", "pcapng"):
        if getattr(arguments, option) is not None:
            check_written(arguments, option)


def check_saved(arguments: Namespace) -> None:
    """Raise UsageError for a copy of no device, or one that would go where the report goes."""
    from .output_file import check_output

    check_output(arguments.save, binary=True, option="--save")
    if arguments.save == "-":
        raise UsageError("--save needs a file: standard output has the report")
    if arguments.save in (arguments.html, arguments.pcapng):
        raise UsageError(f"{arguments.save} is to be written twice: give --save another name")


def check_written(arguments: Namespace, option: str) -> None:
    """Raise UsageError for a file that cannot be written, or is the one that is looked at."""
    from .output_file import check_not_input, check_output

    if asks_for_queue(arguments):
        raise UsageError(f"--{option} is of rings, and --queue-size makes it a virtqueue")
    path, name = getattr(arguments, option), f"--{option}"
    check_output(path, binary=option == "pcapng", option=name)
    if not asks_for_uio(arguments):
        check_not_input(path, sample_path() if arguments.sample else arguments.file, option=name)


def packet_type(text: str) -> str:
    """The label of a packet type, from its name, unknown-N or the number alone."""
    name = text.lower().replace("_", "-")
    if name in TYPE_NAMES:
        return name
    try:
        kind = number(name.removeprefix("unknown-"))
    except ArgumentTypeError:
        kind = -1
    if not 0 <= kind <= LARGEST_TYPE:
        raise ArgumentTypeError(
            f"{text!r} is no packet type; there is {', '.join(TYPE_NAMES)}, unknown-N or a number of 16 bits"
        )
    return type_label(kind)


def json_lines(report: Report, *, whole: bool) -> Iterator[dict[str, Any]]:
    """The report's document object by object, each with its kind and its ring's address."""
    document = report.to_json(whole=whole)
    for finding in document["findings"]:
        yield {"kind": "finding", "ring": None, **finding}
    for ring in document["rings"]:
        lists = {key: ring.pop(key) for key in ("consumed", "packets", "findings")}
        yield {"schema": document["schema"], "kind": "ring", "source": document["source"], **ring}
        for key, kind in (("consumed", "consumed"), ("packets", "packet"), ("findings", "finding")):
            for one in lists[key]:
                yield {"kind": kind, "ring": ring["address"], **one}
