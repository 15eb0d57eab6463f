"""A headless Chromium, driven over two pipes by the DevTools protocol: no port, no driver, no package."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
_TIMEOUT = 60.0  # seconds for one answer: the machine may be busy
_HIGH = 10  # file descriptors of our own are moved up here, as those of the child are 3 and 4
_KEYS = {  # name -> Windows' virtual key code
    "Enter": 13,
    "Escape": 27,
    "PageUp": 33,
    "PageDown": 34,
    "End": 35,
    "Home": 36,
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Tab": 9,
}

Message = dict[str, Any]  # of the protocol, whatever it says


class Page:
    """A tab: what is in it, what it has said (console, exceptions, the browser's log), and what it has asked for."""

    def __init__(self, send: Callable[[str, Message], Message], events: list[Message]) -> None:
        self._send = send
        self._events = events
        for domain in ("Page", "Runtime", "Log", "Network"):
            send(f"{domain}.enable", {})

    def open(self, url: str) -> float:
        """Load a page afresh; gives the seconds until it was loaded."""
        self._send("Page.navigate", {"url": "about:blank"})
        self._events.clear()
        started = time.monotonic()
        self._send("Page.navigate", {"url": url})
        self.wait_for(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(url[:12])})")
        return time.monotonic() - started

    def evaluate(self, script: str) -> Any:  # as JSON has it
        """The value of an expression; a promise is waited for."""
        answer = self._send(
            "Runtime.evaluate", {"expression": script, "returnByValue": True, "awaitPromise": True, "userGesture": True}
        )
        if "exceptionDetails" in answer:
            raise AssertionError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Until an expression is true."""
        deadline = time.monotonic() + _TIMEOUT
        while not self.evaluate(condition):
            assert time.monotonic() < deadline, f"never true: {condition}"
            time.sleep(0.01)

    def settle(self) -> None:
        """Until what has been asked for is on the screen."""
        self.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, *keys: str) -> None:
        """Press keys: those with a name, or characters."""
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            common: Message = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, ord(key.upper()[0]))}
            self._send("Input.dispatchKeyEvent", {"type": "keyDown", "text": text, **common})
            self._send("Input.dispatchKeyEvent", {"type": "keyUp", **common})
        self.settle()

    def click(self, selector: str) -> None:
        """Press the mouse's button on the middle of an element, wherever it must be scrolled to."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()"
        self.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{ block: 'center' }})")
        self.settle()
        at = self.evaluate(box)
        self.drag((at["x"] + at["width"] / 2, at["y"] + at["height"] / 2))

    def drag(self, *points: tuple[float, float]) -> None:
        """Press the mouse's button on the first point, and let it go on the last."""
        for kind, (x, y) in (
            ("mousePressed", points[0]),
            *(("mouseMoved", point) for point in points[1:]),
            ("mouseReleased", points[-1]),
        ):
            self._send(
                "Input.dispatchMouseEvent",
                {"type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1},
            )
        self.settle()

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Show the page at this size, in the colours of this scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._send("Emulation.setDeviceMetricsOverride", size)
        self._send(
            "Emulation.setEmulatedMedia",
            {
                "features": [
                    {"name": "prefers-color-scheme", "value": scheme},
                    {"name": "prefers-reduced-motion", "value": "reduce"},
                ]
            },
        )
        self.settle()

    def screenshot(self, file: Path) -> None:
        """Write what is seen as PNG."""
        file.write_bytes(base64.b64decode(self._send("Page.captureScreenshot", {"format": "png"})["data"]))

    @property
    def complaints(self) -> list[str]:
        """Whatever it has said since it was opened."""
        kinds = {
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
            "Page.javascriptDialogOpening",
        }
        return [json.dumps(event["params"]) for event in self._events if event["method"] in kinds]

    @property
    def requests(self) -> list[str]:
        """The addresses that were asked for, those of data left out."""
        asked = (event for event in self._events if event["method"] == "Network.requestWillBeSent")
        urls = [str(event["params"]["request"]["url"]) for event in asked]
        return [url for url in urls if not url.startswith("data:")]


@contextmanager
def browser() -> Iterator[Page]:
    """A tab of a new browser with an empty profile, which ends with the block."""
    assert PROGRAM is not None
    profile = tempfile.mkdtemp(prefix="dinoclassify-chromium-")
    (theirs_in, ours_out), (ours_in, theirs_out) = _pipe(), _pipe()
    process = os.posix_spawn(
        PROGRAM,
        [PROGRAM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_DUP2, theirs_in, 3),
            (os.POSIX_SPAWN_DUP2, theirs_out, 4),
        ],
        setpgroup=0,
    )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield _attach(ours_in, ours_out)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ours_in)
        os.close(ours_out)
        shutil.rmtree(profile, ignore_errors=True)


def _pipe() -> tuple[int, int]:
    ends = os.pipe()
    moved = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _HIGH) for end in ends)
    for end in ends:
        os.close(end)
    return moved[0], moved[1]


def _attach(ours_in: int, ours_out: int) -> Page:
    received = _messages(ours_in)
    events: list[Message] = []
    numbers = iter(range(1, 1 << 30))

    def send(method: str, params: Message, session: str | None = None) -> Message:
        number = next(numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(ours_out, rest) :]
        for answer in received:
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            if "method" in answer:
                events.append(answer)
        raise AssertionError(f"the browser is gone at {method}")

    target = send("Target.createTarget", {"url": "about:blank"})["targetId"]
    session = send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
    return Page(lambda method, params: send(method, params, session), events)


def _messages(descriptor: int) -> Iterator[Message]:
    """What the browser says: JSON with a NUL behind each."""
    rest = b""
    while True:
        *whole, rest = rest.split(b"\0")
        for text in whole:
            yield json.loads(text)
        ready, _, _ = select.select([descriptor], [], [], _TIMEOUT)
        assert ready, f"the browser has said nothing for {_TIMEOUT:g} s"
        chunk = os.read(descriptor, 1 << 20)
        if not chunk:
            return
        rest += chunk
