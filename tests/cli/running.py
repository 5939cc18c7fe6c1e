"""How the tests of the command run it, in this process or as one of its own, and rings to show it.

Every ending is held to what the command promises, whatever the test is about: `Ending.check`.
"""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

import vmbus
from vmbus.cli.main import main

#: The directory that holds the package under test.
ROOT = Path(vmbus.__file__).resolve().parents[1]

#: How the command is started as a process.
COMMAND = [sys.executable, "-m", "vmbus"]

#: No test waits so long; one that hangs ends.
SECONDS = 60

#: Variables that change how Python or argparse print; a test that wants one sets it.
UNWANTED = (
    "COLUMNS",
    "FORCE_COLOR",
    "LC_ALL",
    "NO_COLOR",
    "PYTHONIOENCODING",
    "PYTHONUNBUFFERED",
    "PYTHONUTF8",
)

posix_only = pytest.mark.skipif(os.name != "posix", reason="redirects as a POSIX shell does")
needs_dev_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")


class Ending(NamedTuple):
    """How a run of the command ended, and what it printed."""

    status: int
    out: str
    err: str

    def check(self) -> Ending:
        """What is promised of every ending that was not interrupted."""
        assert "Traceback" not in self.err
        assert "\x1b" not in self.out + self.err
        if self.status == 2:
            assert self.out == ""
            assert_one_line(self.err)
        elif self.status == 1 and self.err:  # of convert, whose output does not show what it found
            assert_one_line(self.err)
        else:
            assert self.status in (0, 1)
            assert self.err == ""
        return self

    @property
    def document(self) -> dict[str, Any]:
        """What --json printed."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def ring(self) -> dict[str, Any]:
        """The only ring of what --json printed."""
        (ring,) = self.document["rings"]
        return ring

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What --jsonl printed."""
        return [json.loads(line) for line in self.out.splitlines()]


def assert_one_line(err: str) -> None:
    """What an expected error prints."""
    assert err.startswith("vmbus: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1, err


def run(*words: object, stdin: bytes = b"") -> Ending:
    """Run one command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(stdin))
    with redirect_stdout(out), redirect_stderr(err), mock.patch.object(sys, "stdin", given):
        status = main([str(word) for word in words])
    ending = Ending(status, out.getvalue(), err.getvalue()).check()
    assert status == 2 or not ending.err or words[0] in ("convert", "craft", "devices")
    return ending


def run_process(
    *words: str | bytes,
    command: Sequence[str] = COMMAND,
    redirected: str = "",
    variables: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
) -> Ending:
    """Run one command line in a process of its own; its ending, not yet checked.

    redirected   as a POSIX shell writes it: ">/dev/full"
    variables    of the environment, besides the usual ones
    stdin        the bytes of standard input; without them there are none
    """
    call = [*command, *words]
    if redirected:
        call = ["sh", "-c", f'exec "$@" {redirected}', "sh", *call]
    done = subprocess.run(
        call,
        input=b"" if stdin is None else stdin,
        capture_output=True,
        env=environment(variables),
        timeout=SECONDS,
        check=False,
    )
    return Ending(done.returncode, done.stdout.decode(), done.stderr.decode())


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of this process without those that change what is printed, and with `variables`."""
    usual = {name: value for name, value in os.environ.items() if name not in UNWANTED}
    return {**usual, "PYTHONPATH": str(ROOT), **(variables or {})}


def control_page(
    in_offset: int = 0,
    out_offset: int = 0,
    *,
    mask: int = 0,
    pending: int = 0,
    features: int = 1,
    size: int = 4096,
) -> bytes:
    """A control page with these words, `size` bytes long."""
    words = struct.pack("<4I48xI", in_offset, out_offset, mask, pending, features)
    return words.ljust(size, b"\0")


def packet(offset: int, kind: int, payload: bytes, *, flags: int = 0, transaction_id: int = 0) -> bytes:
    """A packet without a header of its own, as it lies at `offset`: payload of a multiple of 8 bytes."""
    descriptor = struct.pack("<HHHHQ", kind, 2, 2 + len(payload) // 8, flags, transaction_id)
    return descriptor + payload + struct.pack("<II", 0, offset)


def ring_with(*packets: tuple[int, bytes], data_size: int = 4096, **control: int) -> bytes:
    """The image of a ring in which packets of (kind, payload) wait from offset 0 on."""
    data = b""
    for kind, payload in packets:
        data += packet(len(data), kind, payload)
    return control_page(len(data), **control) + data.ljust(data_size, b"\0")
