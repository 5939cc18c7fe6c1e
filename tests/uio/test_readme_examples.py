"""The README's examples that need a device: file copy, served by a program; and a card with two channels."""

from __future__ import annotations

import runpy
import struct

from tests.channel.children import needs_linux
from tests.channel.helpers import PATIENCE, Running
from tests.test_examples import blocks_in_readme, is_python
from tests.uio.kernel import RELID
from vmbus.layout import TransferPageRange
from vmbus.ring import IncomingPacketType
from vmbus.uio import find_device
from vmbus.uio.waiting import wait_for

pytestmark = needs_linux

TRANSACTION, REQUEST, RESPONSE = 7, 3, 5
NEGOTIATE, FILE_COPY = 0, 7
START, WRITE, COMPLETE = 0, 1, 2


def frame(kind, body):
    """A frame of the host: pipe header, then versions, message type, size, status, id and flags, then the body."""
    head = struct.pack("<HHHHHHIBB2x", 3, 0, kind, 1, 1, len(body), 0x80004005, TRANSACTION, REQUEST)
    return struct.pack("<II", 1, len(head) + len(body)) + head + body


def step(number, rest):
    """A message of file copy: the step, two GUIDs that Linux does not look at, and what the step needs."""
    return frame(FILE_COPY, struct.pack("<I32x", number) + rest)


def start_of(name, size):
    text = name.encode("utf-16-le").ljust(520, b"\0")
    return step(START, text + bytes(520) + struct.pack("<IQ", 1, size))


def piece(offset, data):
    return step(WRITE, struct.pack("<4xQI", offset, len(data)) + data.ljust(6144, b"\0"))


def example(name, folder):
    """That function of the README."""
    blocks = [one.values[0] for one in blocks_in_readme(is_python)]
    (text,) = (block.text for block in blocks if f"def {name}(" in block.text)
    script = folder / "example.py"
    script.write_text(text, encoding="utf-8")
    return runpy.run_path(str(script))[name]


def test_the_example_of_the_readme_copies_a_file_and_ends_when_the_device_is_revoked(kernel, tmp_path):
    kernel.add_device("file-copy", ring_size=5 * 4096)
    copying = Running(example("copy_files", tmp_path), str(tmp_path), root=kernel.system)
    assert wait_for(lambda: find_device("file-copy", kernel.system).is_open or None, PATIENCE)
    versions = frame(NEGOTIATE, struct.pack("<HHI4H", 2, 1, 0, 1, 0, 3, 0) + struct.pack("<HH", 1, 1))
    messages = [
        versions,
        start_of("notes.txt", 11),
        piece(0, b"hello "),
        piece(6, b"world"),
        step(COMPLETE, b""),
    ]
    answers = []
    for number, message in enumerate(messages, start=1):
        kernel.send(RELID, message, number)
        answers += kernel.await_received(RELID, number)

    assert (tmp_path / "notes.txt").read_bytes() == b"hello world"
    assert [answer.transaction_id for answer in answers] == [1, 2, 3, 4, 5]
    for message, answer in zip(messages, answers, strict=True):
        assert len(answer.payload) == -(-len(message) // 8) * 8
        status, transaction, flags = struct.unpack_from("<IBB", answer.payload, 20)
        assert (status, transaction, flags) == (0, TRANSACTION, RESPONSE)
        assert answer.payload[8:20] == message[8:20]
    assert struct.unpack_from("<HHIHHHH", answers[0].payload, 28) == (1, 1, 0, 3, 0, 1, 1)

    kernel.revoke(RELID)
    copying.result()


def test_the_example_of_a_card_sends_back_on_its_second_channel_what_came_in_the_receive_buffer(
    kernel, tmp_path
):
    kernel.add_device("network", buffers={"recv:7": 65536})
    kernel.fill_map(RELID, 3, 4096, b"a frame." + b"another.")
    running = Running(example("send_back", tmp_path), root=kernel.system)
    assert wait_for(lambda: find_device("network", kernel.system).is_open or None, PATIENCE)
    assert kernel.offer_subchannel(RELID, 1) == 15
    kernel.send_transfer_pages(RELID, 0xCAFE, [TransferPageRange(8, 4096), TransferPageRange(8, 4104)])
    (completion,) = kernel.await_received(RELID, 1)
    assert completion.type is IncomingPacketType.COMPLETION
    assert [packet.payload for packet in kernel.await_received(15, 2)] == [b"a frame.", b"another."]
    kernel.revoke(RELID)
    running.result()
