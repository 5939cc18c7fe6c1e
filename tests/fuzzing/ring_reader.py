"""The reader that agrees: what `vmbus fuzz target` asks of a COMMAND, in a few lines of this package.

python ring_reader.py             one image on standard input
python ring_reader.py IMAGE       one image in a file
python ring_reader.py --batch     images on standard input, each behind its length
"""

import json
import sys

from vmbus.errors import PeerError, RingEmpty
from vmbus.memory import FlatRingMem
from vmbus.ring import IncomingRing

NAMES = {6: "in-band", 7: "transfer-pages", 9: "gpa-direct", 11: "completion"}


def answer(image: bytes) -> list[dict[str, object]]:
    ring = IncomingRing(FlatRingMem.over(bytearray(image)))
    found: list[dict[str, object]] = []
    try:
        offset = ring.incoming()
        while True:
            packet = ring.read(offset)
            found.append(
                {
                    "type": NAMES[packet.type],
                    "transaction_id": packet.descriptor.transaction_id,
                    "flags": packet.descriptor.flags,
                    "payload": packet.payload.reader(ring).read_all().hex(),
                }
            )
    except RingEmpty:
        return [*found, {"signal": ring.commit_read(offset)}]
    except PeerError as error:
        return [*found, {"error": str(error)}]


if "--batch" in sys.argv:
    while length := sys.stdin.buffer.read(4):
        print(json.dumps(answer(sys.stdin.buffer.read(int.from_bytes(length, "little")))), flush=True)
else:
    given = open(sys.argv[1], "rb") if len(sys.argv) > 1 else sys.stdin.buffer  # noqa: SIM115 - it ends soon
    for line in answer(given.read()):
        print(json.dumps(line))
