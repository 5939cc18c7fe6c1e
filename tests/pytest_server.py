"""pytest over and over, each run a fork of a process that has imported it once.

A short run of pytest is mostly the import of pytest and hypothesis.  Where there is no fork, each run is a
process of its own.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from threading import Timer

CAN_FORK = hasattr(os, "fork")


class PytestServer:
    """Runs pytest in a directory, one run at a time.

    directory     where; the package and the tests to run are found there
    environment   of every run
    longest       seconds after which a run is ended, and TimeoutError raised

    seconds       of processor time that the last run took; 0 where there is no fork
    """

    def __init__(self, directory: Path, environment: dict[str, str], longest: float) -> None:
        self._directory = directory
        # Where the package is installed Hypothesis would import its rings, before anything in them is changed.
        self._environment = {**environment, "HYPOTHESIS_NO_PLUGINS": "1"}
        self._longest = longest
        self._process: subprocess.Popen[str] | None = None
        self.seconds = 0.0

    def run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """One run: its exit status and all that it printed."""
        if not CAN_FORK:
            return self._run_alone(arguments)
        output = self._directory / "output.txt"
        process = self._process or self._start()
        watch = Timer(self._longest, os.killpg, (process.pid, signal.SIGKILL))
        watch.start()
        try:
            process.stdin.write(json.dumps([str(output), *arguments]) + "\n")
            process.stdin.flush()
            ended = process.stdout.readline().split()
        finally:
            watch.cancel()
        if not ended:
            self.close()
            raise TimeoutError(f"pytest {' '.join(arguments)} was ended after {self._longest} seconds")
        printed = output.read_text(encoding="utf-8", errors="replace")
        status, self.seconds = int(ended[0]), float(ended[1])
        return subprocess.CompletedProcess(["pytest", *arguments], status, printed, "")

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # so that a run that loops can be ended with its own children
        )
        return self._process

    def _run_alone(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pytest", *arguments],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            timeout=self._longest,
            check=False,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def close(self) -> None:
        """End the process; again is harmless."""
        process, self._process = self._process, None
        if process is not None:
            process.stdin.close()
            process.wait()
            process.stdout.close()


def serve() -> None:
    """Take orders from standard input, a line each: a file for the output, and pytest's arguments."""
    import asyncio  # noqa: F401 - with the others, what every run would import for itself

    import construct  # noqa: F401
    import hypothesis.stateful  # noqa: F401
    import pytest

    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere),
        redirect_stderr(nowhere),
    ):
        pytest.main(["--version"])  # imports its own plugins
    gc.collect()
    gc.freeze()  # pytest collects at the end of every run, and need not look at all this again

    already = [name for name in sys.modules if name.partition(".")[0] == "vmbus"]
    assert not already, f"what is to be changed has been imported: {already}"
    for line in sys.stdin:
        output, *arguments = json.loads(line)
        child = os.fork()
        if not child:
            run_in_child(pytest.main, output, arguments)
        _, status, used = os.wait4(child, 0)
        print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, flush=True)


def run_in_child(main: object, output: str, arguments: list[str]) -> None:
    """One run of pytest, whose output goes to a file; does not return."""
    status = 70  # of a run that did not even end as pytest does
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        status = int(main(arguments))  # type: ignore[operator]
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    # A script's own folder comes first, and tests/ is no place to import from.
    sys.path.pop(0)
    serve()
