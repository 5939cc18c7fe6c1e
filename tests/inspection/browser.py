"""Drives a Chromium without a window, so that tests can see a page as its reader does.

The browser speaks the Chrome DevTools Protocol over two pipes, descriptors 3 and 4 of its process: JSON
objects, each with a zero byte behind it.  Nothing but the standard library is needed, and no port is
opened.  Every wait ends: at the latest after LONGEST_WAIT seconds, with an AssertionError.

POSIX only: elsewhere `find_browser` finds none.

Source: Chrome DevTools Protocol (chromedevtools.github.io), the domains Target, Page, Runtime, Log,
Network, Input and Emulation.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["NAMES", "Browser", "Page", "find_browser"]

#: What it may be called, on PATH.
NAMES = ("chromium", "chromium-browser", "google-chrome")

LONGEST_WAIT = 30.0  # seconds, for an answer; only a browser that is lost takes so long

READ_SIZE = 1 << 16

#: Makes the two pipes descriptors 3 and 4, whatever they were, and becomes the browser.
LAUNCHER = """\
import fcntl, os, sys
commands, answers = (fcntl.fcntl(int(fd), fcntl.F_DUPFD, 10) for fd in sys.argv[1:3])
os.dup2(commands, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

FLAGS = (
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",  # tests may run as root; the only page is our own
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--disable-breakpad",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--force-prefers-reduced-motion",
    "--window-size=1200,900",
)

#: Keys by the name that the protocol has for them, with their code on Windows, which it wants.
KEY_CODES = {
    "Tab": 9,
    "Enter": 13,
    "Escape": 27,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
}


def find_browser() -> str | None:
    """The path of a browser, or None."""
    if os.name != "posix":
        return None
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """A browser in a process of its own; its files are in `directory`, which is the caller's.

    events   everything that it told without being asked, in order
    """

    def __init__(self, program: str, directory: Path) -> None:
        self.directory = directory
        self.events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}
        self._last = 0
        self._rest = b""
        command_end, self._commands = os.pipe()
        self._told, answer_end = os.pipe()
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, str(command_end), str(answer_end)]
        with open(directory / "stderr", "wb") as errors:
            self._process = subprocess.Popen(
                [*launcher, program, *FLAGS, f"--user-data-dir={directory / 'profile'}", "about:blank"],
                pass_fds=(command_end, answer_end),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "HOME": str(directory)},
                start_new_session=True,
            )
        os.close(command_end)
        os.close(answer_end)

    def open_page(self) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, target, session)

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """Ask for something and wait for the answer."""
        self._last += 1
        number = self._last
        message: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + LONGEST_WAIT
        while number not in self._answers:
            self._listen(deadline, method)
        answer = self._answers.pop(number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]  # type: ignore[no-any-return]

    def wait_for(self, method: str, session: str, since: int) -> None:
        """Wait until the page has told an event, which is not among the first `since` ones."""
        deadline = time.monotonic() + LONGEST_WAIT
        while not any(
            event["method"] == method and event.get("sessionId") == session for event in self.events[since:]
        ):
            self._listen(deadline, method)

    def _listen(self, deadline: float, what: str) -> None:
        """Take in what comes next."""
        ready, _, _ = select.select([self._told], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"the browser has not answered in {LONGEST_WAIT} seconds: {what}; {self._errors()}"
        data = os.read(self._told, READ_SIZE)
        assert data, f"the browser is gone: {what}; {self._errors()}"
        *messages, self._rest = (self._rest + data).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self.events.append(message)

    def _errors(self) -> str:
        return (self.directory / "stderr").read_text(errors="replace")[-2000:]

    def close(self) -> None:
        """End the browser and everything that it started."""
        with suppress(OSError, AssertionError):
            self.call("Browser.close")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(LONGEST_WAIT)
        os.close(self._commands)
        os.close(self._told)


class Page:
    """One page of a browser.

    The pointer and the keys come to it as if a reader moved and pressed them.
    """

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self._browser = browser
        self._target = target
        self._session = session
        self._start = len(browser.events)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def open(self, url: str) -> None:
        """Load a page and wait until all of it is there."""
        since = len(self._browser.events)
        self.call("Page.navigate", url=url)
        self._browser.wait_for("Page.loadEventFired", self._session, since)

    def forget(self) -> None:
        """As if it were a new page: what was told so far is forgotten, and so is how it was to be shown."""
        self.call("Page.navigate", url="about:blank")
        self.call("Emulation.setEmulatedMedia", media="", features=[])
        self.call("Emulation.clearDeviceMetricsOverride")
        self.point(0, 0)
        self._start = len(self._browser.events)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript, or of what it promises."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def settle(self) -> None:
        """Let the page do what it has put off: what comes next sees the result."""
        self.evaluate("new Promise((done) => setTimeout(done, 0))")

    def press(self, key: str) -> None:
        text = {"text": "\r"} if key == "Enter" else {}
        both = {"key": key, "code": key, "windowsVirtualKeyCode": KEY_CODES[key]}
        self.call("Input.dispatchKeyEvent", type="keyDown", **both, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **both)
        self.settle()

    def point(self, x: float, y: float) -> None:
        """Move the pointer there; in pixels from the upper left corner of the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.settle()

    def picture(self, x: float, y: float, width: float, height: float) -> bytes:
        """A part of the page as it is seen, as a PNG file."""
        clip = {"x": x, "y": y, "width": width, "height": height, "scale": 1}
        answer = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(answer["data"])

    def told(self, method: str) -> list[dict[str, Any]]:
        """The events of one kind since the page was made, or made as new."""
        return [
            event["params"]
            for event in self._browser.events[self._start :]
            if event["method"] == method and event.get("sessionId") == self._session
        ]

    def complaints(self) -> list[str]:
        """Exceptions nobody caught, errors that scripts printed, and what the browser itself complained of."""
        thrown = [str(one["exceptionDetails"]) for one in self.told("Runtime.exceptionThrown")]
        printed = [
            str(one["args"])
            for one in self.told("Runtime.consoleAPICalled")
            if one["type"] in ("error", "warning", "assert")
        ]
        logged = [
            str(one["entry"])
            for one in self.told("Log.entryAdded")
            if one["entry"]["level"] in ("error", "warning")
        ]
        return thrown + printed + logged

    def requests(self) -> list[str]:
        """What was asked for, wherever it is: addresses, in order."""
        return [one["request"]["url"] for one in self.told("Network.requestWillBeSent")]

    def close(self) -> None:
        self._browser.call("Target.closeTarget", targetId=self._target)
