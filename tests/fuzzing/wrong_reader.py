"""Readers that are each wrong in one way: python wrong_reader.py HOW [--batch].

HOW is "no" for one that is right as far as it goes (it knows no ranges), or the name of what it does wrong.
Nothing of vmbus is imported, so that it starts quickly.
"""

import json
import os
import struct
import sys
import threading
import time

HOW = sys.argv[1]
NAMES = {6: "in-band", 7: "transfer-pages", 9: "gpa-direct", 11: "completion"}
SMALLEST = {7: 24, 9: 24}


def answer(image):
    end, out = struct.unpack_from("<II", image)
    data = image[4096:]
    size = len(data)
    if HOW == "refuses-a-wrap" and end < out:
        return [{"error": "in is before out"}]
    if HOW != "believes-indices" and not (end < size > out and end % 8 == 0 == out % 8):
        return [{"error": "an index"}]
    found = []
    while (left := (end - out) % size) > 0:
        packet = (data[out:] + data[:out])[: min(left + 8, size)]
        kind, offset8, length8, flags, transaction_id = struct.unpack_from("<HHHHQ", packet)
        offset, length = 8 * offset8, 8 * length8
        footer = 0 if HOW == "accepts-a-missing-footer" else 8
        if left < 24 or not SMALLEST.get(kind, 16) <= offset <= length <= left - footer:
            return [*found, {"error": "a length"}]
        if HOW != "takes-any-type" and (kind not in NAMES or flags > 1):
            return [*found, {"error": "a type or a flag"}]
        start = 16 if HOW == "ignores-data-offset" else offset
        payload = packet[start : length - (8 if HOW == "drops-the-last-slot" else 0)]
        if HOW == "wraps-to-zeros":
            payload = payload[: max(size - out - start, 0)].ljust(len(payload), b"\0")
        found.append(
            {
                "type": "in-band" if HOW == "knows-one-type" else NAMES.get(kind, f"unknown-{kind}"),
                "transaction_id": transaction_id & (0xFFFFFFFF if HOW == "cuts-the-id" else -1),
                "flags": 0 if HOW == "forgets-flags" else flags,
                "payload": payload.hex(),
            }
        )
        if HOW == "shifts-the-place":
            found[-1]["offset"] = out + 8
        if HOW == "knows-no-ranges":
            found[-1]["ranges"] = []
        out = (out + length + 8) % size
    if HOW == "forgets-the-last":
        return found[:-1]
    if HOW == "repeats-the-last":
        return found + found[-1:]
    if HOW == "turns-them-round":
        return found[::-1]
    if HOW == "always-signals":
        return [*found, {"signal": True}]
    return found


def leave_a_child(path, silent=False):
    """Start a process that sleeps with a lock on that file, and return once it has it.

    silent   it does not keep standard output and standard error open
    """
    import fcntl

    ready, tell = os.pipe()
    if os.fork() == 0:
        if silent:
            os.close(1)
            os.close(2)
        held = open(path, "w")  # noqa: SIM115 - held until the end
        fcntl.flock(held, fcntl.LOCK_EX)
        os.write(tell, b"x")
        time.sleep(20)
        os._exit(0)
    os.read(ready, 1)


def print_what_comes(path):
    """Print what somebody writes to that named pipe."""
    print(open(path).read(), flush=True)  # noqa: SIM115 - it ends soon


def act(image):
    if HOW == "crashes":
        os.abort()
    if HOW == "fails":
        sys.exit("something went wrong: exit status 1")
    if HOW == "hangs":
        time.sleep(1000)
    if HOW.endswith("-a-child"):
        leave_a_child(sys.argv[2])
    if HOW.endswith("-a-silent-child"):
        leave_a_child(sys.argv[2], silent=True)
    if HOW.startswith("prints-for-ever"):
        while True:
            os.write(1, b"x" * 65536)
    if HOW == "prints-garbage":
        return "packet 1: hello"
    if HOW == "prints-numbers":
        return "17"
    if HOW == "answers-twice":
        return "[]\n[]"
    if HOW == "answers-once-more-later":
        threading.Thread(target=print_what_comes, args=[sys.argv[2]], daemon=True).start()
        return "[]"
    return json.dumps(answer(image)) if "--batch" in sys.argv else "\n".join(map(json.dumps, answer(image)))


if "--batch" in sys.argv:
    while length := sys.stdin.buffer.read(4):
        print(act(sys.stdin.buffer.read(int.from_bytes(length, "little"))), flush=True)
else:
    text = act(sys.stdin.buffer.read())
    if text:
        print(text)
