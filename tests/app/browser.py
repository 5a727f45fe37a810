"""A viewer in a process of its own, and a real Chromium to look at it with."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
MISSING = "Chromium is not installed (apt-get install chromium): the viewer was NOT tested in a browser"
SHOTS = Path(__file__).parents[2] / "build" / "viewer"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def viewer(home: Path, *arguments: str | Path, port: int | None = None) -> Iterator[str]:
    """``dfqsam app`` with these arguments; yields its address."""
    port = port or free_port()
    command = [sys.executable, "-m", "dfqsam", "app", "--port", str(port), *map(str, arguments)]
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(home)}
    environment["XDG_DATA_HOME"] = environment["LOCALAPPDATA"] = str(home / "data")
    with (home / "viewer.log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=home)
        try:
            for _ in range(300):
                assert process.poll() is None, (home / "viewer.log").read_text()
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(20)


class Visitor:
    """One person at the viewer: what they do with the mouse, and what they see."""

    def __init__(self, context: Any, address: str) -> None:
        self.page = context.new_page()
        self.asked: list[str] = []
        self.faults: list[str] = []
        self.received: list[bytes] = []  # what the server sent to this page
        self.page.on("websocket", lambda socket: socket.on("framereceived", self._hear))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("console", lambda line: self.faults.append(line.text) if line.type == "error" else None)
        self.page.set_default_timeout(30_000)
        self.page.goto(address)
        self.page.get_by_role("button", name="Open the ultrasound").wait_for()

    def _hear(self, frame: str | bytes) -> None:
        self.received.append(frame.encode() if isinstance(frame, str) else frame)

    def state(self) -> dict[str, Any]:
        """What the component says of itself."""
        found = self.page.locator(".dq").evaluate("root => ({...root.dataset})")
        return {name: found[name] if name == "epoch" else json.loads(found[name]) for name in found}

    def settled(self, change: int | None = None, epoch: str | None = None, seconds: int = 20) -> dict[str, Any]:
        """Wait until what was drawn is answered (the given change, on the given slice)."""
        self.page.locator(".dq canvas").first.wait_for()
        for _ in range(20 * seconds):
            if self.page.locator(".dq[data-answered]").count():
                state = self.state()
                right = (change is None or state["revision"] == change) and (epoch is None or state["epoch"] == epoch)
                if right and state["revision"] == state["answered"]:
                    self.page.wait_for_timeout(600)  # the figures follow, on a busy machine in another message
                    return state
            self.page.wait_for_timeout(50)
        raise AssertionError(f"not answered: {self.state()}")

    def place(self, x: float, y: float, panel: int = 0) -> tuple[float, float]:
        """Where a point of the picture is on the screen."""
        t, frame = self.state()["transform"], self.page.locator(".dq canvas").nth(panel).bounding_box()
        return frame["x"] + t["tx"] + x * t["sx"], frame["y"] + t["ty"] + y * t["sy"]

    def drag(self, start: tuple[float, float], end: tuple[float, float], panel: int = 0) -> None:
        """With the left button, from one point of the picture to another."""
        (x0, y0), (x1, y1) = self.place(*start, panel), self.place(*end, panel)
        mouse = self.page.mouse
        mouse.move(x0, y0)
        mouse.down()
        mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
        mouse.move(x1, y1)
        mouse.up()

    def choose(self, label: str, option: str | None = None) -> None:
        """Take an option of a list, the last one where none is named."""
        field = self.page.get_by_role("combobox", name=label)
        field.scroll_into_view_if_needed()
        self.page.wait_for_timeout(400)  # a list closes when the page scrolls
        field.click()
        options = self.page.get_by_role("option")
        (options.last if option is None else self.page.get_by_role("option", name=option)).click()

    def take(self, label: str, option: str) -> None:
        """Take an option of the list with exactly this label."""
        field = self.page.get_by_test_id("stSelectbox").filter(has=self.page.get_by_text(label, exact=True))
        field.scroll_into_view_if_needed()
        self.page.wait_for_timeout(400)  # a list closes when the page scrolls
        field.locator("input").click()
        self.page.get_by_role("option", name=option).click()

    def upload(self, *files: Path) -> None:
        self.page.locator("input[type=file]").set_input_files([str(file) for file in files])
        self.page.locator(".dq canvas").first.wait_for()

    def figure(self, title: str) -> str:
        """The figure under this title."""
        card = self.page.locator(".dqf > div", has=self.page.get_by_text(title, exact=True))
        return card.locator("b").inner_text()

    def pixels(self, panel: int, x: float, y: float) -> tuple[int, int, int]:
        """The colour that a panel's canvas shows at a point of the picture."""
        code = """(canvas, [x, y]) => { const s = canvas.width / canvas.clientWidth;
            return [...canvas.getContext("2d").getImageData(Math.round(x * s), Math.round(y * s), 1, 1).data] }"""
        t = self.state()["transform"]
        at = [t["tx"] + x * t["sx"], t["ty"] + y * t["sy"]]
        red, green, blue, _ = self.page.locator(".dq canvas").nth(panel).evaluate(code, at)
        return red, green, blue

    def download(self, folder: Path, button: str = "Download") -> Path:
        """Press the button; the file that comes."""
        # A button whose page is still being drawn would give what was there before.
        self.page.locator("[data-test-script-state=notRunning]").wait_for()
        with self.page.expect_download() as coming:
            self.page.get_by_role("button", name=button).click()
        path = folder / coming.value.suggested_filename
        coming.value.save_as(path)
        return path

    def shot(self, name: str) -> Path:
        """Keep what is seen."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.wait_for_timeout(400)
        path = SHOTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path
