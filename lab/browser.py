"""A real headless Chromium, driven through its DevTools protocol."""

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from lab.server import bare_environment

# Keys, with their codes in Windows, which Chromium acts by.
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowRight": 39}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Page:
    """One tab: what it asked the network for, and what it complained of."""

    connection: ClientConnection
    requests: list[str] = field(default_factory=list)  # URLs
    complaints: list[str] = field(
        default_factory=list
    )  # errors of scripts, and of the content security policy
    _number: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The result of one DevTools command; events that come meanwhile are kept."""
        self._number += 1
        self.connection.send(
            json.dumps({"id": self._number, "method": method, "params": parameters})
        )
        while True:
            message = json.loads(self.connection.recv(timeout=30))
            if message.get("id") == self._number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        match event["method"], event["params"]:
            case "Network.requestWillBeSent", parameters:
                self.requests.append(parameters["request"]["url"])
            case "Log.entryAdded", {"entry": {"level": "error" | "warning"} as entry}:
                self.complaints.append(entry["text"])
            case "Runtime.exceptionThrown", parameters:
                self.complaints.append(str(parameters["exceptionDetails"]))
            case "Audits.issueAdded", {"issue": {"code": "ContentSecurityPolicyIssue"} as issue}:
                self.complaints.append(str(issue["details"]))

    def open(self, url: str) -> None:
        for domain in ("Page", "Network", "Runtime", "Log", "Audits"):
            self.call(f"{domain}.enable")
        self.call("Page.navigate", url=url)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, or of its promise."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        return self.call("Runtime.evaluate", **asked)["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"!!({expression})"):
            assert time.monotonic() < deadline, (
                f"{expression} did not become true; {self.complaints}"
            )
            time.sleep(0.1)

    def press(self, key: str, times: int = 1) -> None:
        """Press one of KEYS, as a keyboard does."""
        text = {"Enter": "\r", " ": " "}.get(key)
        known = {"key": key, "windowsVirtualKeyCode": KEYS[key]}
        down = {"type": "keyDown", "text": text} if text else {"type": "rawKeyDown"}
        for _ in range(times):
            self.call("Input.dispatchKeyEvent", **known, **down)
            self.call("Input.dispatchKeyEvent", **known, type="keyUp")

    def enter(self, text: str) -> None:
        """Put a text into the field that has the focus, as an input method does."""
        self.call("Input.insertText", text=text)

    def point_at(self, x: float, y: float) -> None:
        """Move the pointer to a place in the window, in pixels."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def screenshot(self, file: Path) -> Path:
        file.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return file


@contextmanager
def browser(directory: Path) -> Iterator[Page]:
    """An empty tab of a new Chromium with a profile of its own in `directory`."""
    program = next(filter(None, map(shutil.which, CHROMIUM)), None)
    assert program, "Chromium is not installed. On Debian: apt-get install chromium"
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # it refuses to run as root with one
    command = [
        program,
        "--headless=new",
        "--window-size=1280,1600",
        "--remote-debugging-port=0",
        *QUIET,
        *sandbox,
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--user-data-dir={directory}", "about:blank"],
            env=bare_environment() | {"HOME": str(directory)},
            stdout=log,
            stderr=log,
        )
    try:
        with connect(_tab(directory / "DevToolsActivePort"), max_size=None) as connection:
            yield Page(connection)
    finally:
        process.terminate()
        process.wait(10)


def _tab(port_file: Path) -> str:
    """The WebSocket of the first tab, once there is one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if port_file.exists() and (port := port_file.read_text().split("\n")[0]):
            tabs = httpx.get(f"http://127.0.0.1:{port}/json/list").json()
            if urls := [tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"]:
                return str(urls[0])
        time.sleep(0.1)
    raise AssertionError(f"Chromium did not start:\n{port_file.with_name('log').read_text()}")
