"""Five people at once for three minutes, LiteMedSAM in both precisions: no error, no cross-talk, memory bounded."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from dfqsam.app.embeddings import LIMIT
from dfqsam.app.samples import abdomen
from dfqsam.imaging import open_study
from dfqsam.runtime import Predictor
from tests.app.browser import CHROMIUM, MISSING, Visitor, viewer
from tests.full_precision import shipped_with_full_precision
from tests.imaging import made

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason=MISSING)]
SECONDS = float(os.environ.get("DFQSAM_LOAD_SECONDS", "180"))
PEOPLE, KNOWN = 5, (9, 12, 15)
LIVER = np.array((34, 74, 142, 160))
SLACK = 300 << 20  # both models, their arenas, five sessions with a study each, and what Python keeps for itself


def study(path: Path, number: int) -> Path:
    """The CT phantom moved to the right and down, for each person by another distance."""
    array = np.roll(abdomen().array, (5 * number, 7 * number), axis=(1, 2))
    affine = abdomen().affine[:, [2, 1, 0, 3]]
    return made.nifti(path, array.transpose(2, 1, 0), affine)


def box(number: int, k: int) -> tuple[int, ...]:
    """Around the liver, a little different on each slice."""
    return tuple(int(v) for v in LIVER + np.array((7, 5, 7, 5)) * number + np.array((k % 3, 0, 0, k % 2)))


def memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) << 10


def viewer_pid(address: str) -> int:
    """The process that was started for this address."""
    port = address.rsplit(":", 1)[1]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"app" in words and port.encode() in words and b"dfqsam" in words:
                return int(entry.name)
    raise AssertionError("the viewer does not run")


class Person:
    """One of them: goes from slice to slice, draws a box on some, and knows which mask has to come."""

    def __init__(self, browser, address: str, number: int, path: Path, areas: dict[int, str]) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 900})
        self.visitor = Visitor(self.context, address)
        self.visitor.page.set_default_timeout(60_000)
        self.visitor.upload(path)
        self.number, self.areas = number, areas
        self.study = self.visitor.settled()["epoch"].split("/")[0]
        self.rng = np.random.default_rng(number)
        self.at, self.revisions, self.checked = 12, dict.fromkeys(range(24), 0), 0

    def act(self) -> None:
        """Ask for something, and do not wait for it."""
        picture = self.visitor.page.locator(".dq")
        step = int(self.rng.choice([-3, -2, -1, 1, 2, 3]))
        self.at = min(max(self.at + step, 0), 23)
        for _ in range(abs(step)):
            picture.press("ArrowDown" if step > 0 else "ArrowUp")

    def check(self) -> None:
        """What came is what was asked for, of one's own study."""
        visitor = self.visitor
        state = self.wait(self.revisions[self.at])
        if self.at not in self.areas or state["objects"]:
            return
        x0, y0, x1, y1 = box(self.number, self.at)
        visitor.drag((x0, y0), (x1, y1))
        self.revisions[self.at] += 1
        state = self.wait(self.revisions[self.at])
        assert state["objects"] == [{"box": [x0, y0, x1, y1], "points": []}]
        assert visitor.figure("Area, quantized") == self.areas[self.at]
        self.checked += 1
        visitor.page.locator(".dq button", has_text="Clear").click()
        self.revisions[self.at] += 1
        assert self.wait(self.revisions[self.at])["objects"] == []

    def wait(self, revision: int) -> dict:
        return self.visitor.settled(revision, f"{self.study}/axial/{self.at}", seconds=60)


def test_five_people_for_three_minutes(browser, tmp_path):
    bundle = shipped_with_full_precision(tmp_path / "bundle")
    predictor = Predictor(bundle)
    paths, areas = [], []
    for number in range(PEOPLE):
        paths.append(study(tmp_path / f"{number}.nii.gz", number))
        volume = open_study(paths[-1])
        view = volume.view("axial")
        found = {}
        for k in KNOWN:
            predictor.set_image(volume.picture(k, view))
            mask = predictor.predict(box=box(number, k))[0][0]
            found[k] = f"{mask.sum() * 1.4**2 / 100:.1f} cm²"
        areas.append(found)
    (tmp_path / "run").mkdir()
    with viewer(tmp_path / "run", "--bundle", bundle.path) as address:
        pid = viewer_pid(address)
        people = [
            Person(browser, address, n, path, area) for n, (path, area) in enumerate(zip(paths, areas, strict=True))
        ]
        before, sizes, rounds = memory(pid), [], 0
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            for person in people:
                person.act()
            for person in people:
                person.check()
            sizes.append(memory(pid))
            rounds += 1
        for person in people:
            assert person.visitor.faults == []
            assert person.visitor.page.get_by_role("alert").count() == 0
            person.context.close()
        log = (tmp_path / "run" / "viewer.log").read_text()
    checked = [person.checked for person in people]
    print(f"{rounds} rounds, masks checked {checked}, {before >> 20} MB at first, {max(sizes) >> 20} MB at most")
    assert "Traceback" not in log
    assert "error" not in log.lower()
    assert sum(checked) >= PEOPLE
    assert max(sizes) < before + LIMIT + SLACK
