"""Make the image of a ring, or of several, from JSON: the inverse of `vmbus inspect --json`.

SPEC is what inspect prints, or a few lines by hand: nearly everything may be left out.  With the bytes of the
data area (inspect --whole) the image is exact; without, it is exact in the control words and in every byte
of a listed packet, and zero elsewhere.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any, BinaryIO, NoReturn

from vmbus.errors import CallerError, DumpError

from .output import UsageError, print_json, report
from .output_file import check_not_input, check_output, write_output

__all__ = ["add_arguments", "execute"]

#: The most bytes of a SPEC: all of it is held in memory.
LARGEST_SPEC = 1 << 30

EXAMPLES = """\
examples:
  vmbus craft --example > spec.json                a small SPEC with comments, to begin with
  vmbus craft spec.json -o ring.bin
  vmbus inspect ring.bin --json --whole | vmbus craft - -o same.bin
  echo '{"data_size": 16384, "packets": [{"payload": "68656c6c6f"}]}' | vmbus craft - | vmbus inspect -

of a ring:
  data_size     must be there, or data
  header_size   4096, where nothing is said
  control       in and out follow from the packets, feature_bits is 1, all other words are 0
  packets       those that wait, one behind the other from out on where they have no offset
  consumed      those read already, up to out
  data          all bytes of the data area, in hex
of a packet:
  type or type_value, flags or flags_value, transaction_id, payload (hex, padded with zeros to 8 bytes),
  header (hex) or ranges and transfer_page_set_id; "footer": null leaves the footer out, as QEMU does;
  raw (hex) is all bytes of a packet that no reader takes.  A packet whose bytes the image did not have (broken:
  missing-memory) is left out, which a line on standard error says

What else inspect prints (verdict, findings, …) is passed over.  "comment" may stand anywhere.  What is said
twice must agree.  Several rings lie as far apart as their addresses say, the lowest at the start of OUT;
those without an address, and those whose pages were scattered, lie behind them.
OUT has at most 4 GiB, and SPEC 1 GiB.

exit status: 0 done; 1 done, and packets were left out; 2 could not be done, and then no file is written or
changed.
"""


def add_arguments(parser: ArgumentParser) -> None:
    parser.epilog = EXAMPLES
    parser.add_argument("spec", nargs="?", metavar="SPEC", help="JSON; - for standard input")
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="the file to write; - or nothing for standard output"
    )
    parser.add_argument("--example", action="store_true", help="print a small SPEC that works, and end")


def execute(arguments: Namespace) -> int:
    """Make the image, or print the example; 1 when packets had to be left out."""
    from vmbus.inspection import CRAFT_EXAMPLE, craft_image

    if arguments.example:
        if arguments.spec is not None or arguments.output is not None:
            raise UsageError("--example prints a SPEC and takes nothing else")
        print_json(CRAFT_EXAMPLE)
        return 0
    if not arguments.spec:
        raise UsageError("which SPEC? (- for standard input, --example for one to begin with)")
    check_output(arguments.output, binary=True)
    check_not_input(arguments.output, arguments.spec)
    name = "standard input" if arguments.spec == "-" else arguments.spec
    document = document_in(spec_bytes(arguments.spec, name), name)
    try:
        image = craft_image(document)
    except CallerError as error:
        raise DumpError(str(error), path=name) from error
    to_file = arguments.output not in (None, "-")
    write_output(arguments.output, lambda stream: image.write(stream, holes=to_file))
    if not image.left_out:
        return 0
    report(f"{name}: {left_out_words(image.left_out)}")
    return 1


def left_out_words(count: int) -> str:
    """What to say of packets that were passed over."""
    which = (
        "1 packet is left out: its bytes were"
        if count == 1
        else f"{count} packets are left out: their bytes were"
    )
    return f"{which} not in the image, and zeros stand there"


def spec_bytes(given: str, name: str) -> bytes:
    """All of the SPEC; DumpError where it is not to be had, or too long."""
    try:
        if given != "-":
            with open(given, "rb") as stream:
                return limited(stream, name)
        if sys.stdin is None:
            raise DumpError("is closed", path=name)
        return limited(sys.stdin.buffer, name)
    except (OSError, ValueError) as error:  # a name may hold a zero byte
        raise DumpError(f"cannot be read: {getattr(error, 'strerror', None) or error}", path=name) from error


def limited(stream: BinaryIO, name: str) -> bytes:
    data = stream.read(LARGEST_SPEC + 1)
    if len(data) > LARGEST_SPEC:
        raise DumpError(f"has more than {LARGEST_SPEC} bytes, and all of a SPEC is held in memory", path=name)
    return data


def document_in(data: bytes, name: str) -> Any:
    """The document; DumpError that says where it stops being JSON."""
    import json

    def no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        document: dict[str, Any] = {}
        for key, value in pairs:
            if key in document:
                raise DumpError(f"an object has the key {key!r} twice", path=name)
            document[key] = value
        return document

    def no_number(text: str) -> NoReturn:
        raise DumpError(f"{text} is no number of JSON", path=name)

    try:
        return json.loads(data, object_pairs_hook=no_twins, parse_constant=no_number)
    except json.JSONDecodeError as error:
        message = f"is no JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        raise DumpError(message, path=name, place=error.pos) from error
    except (ValueError, RecursionError) as error:  # bytes of no encoding, a number of thousands of digits
        raise DumpError(f"is no JSON that can be read: {error}", path=name) from error
