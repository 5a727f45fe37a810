"""How long a person waits in the viewer, LiteMedSAM in both precisions: ``python -m tests.app.latency [ROUNDS]``.

From the release of the mouse to both masks drawn, in the page's own clock: on a slice whose embeddings are there, and
on one that has just come, drawn at once. Medians and the longest of all rounds; the start page has been open for some
seconds, in which the models load. Run it on a machine that does nothing else. ROUNDS is at most 20.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from dfqsam.bench.run import machine
from tests.app.browser import CHROMIUM, Visitor, viewer
from tests.full_precision import shipped_with_full_precision

START_PAGE = 5
SLICES = 20
LIVER = (34, 74, 142, 160)
WATCH = """root => {
    root.addEventListener("pointerup", () => (window.released = performance.now()), true);
    let before = root.dataset.answered;
    new MutationObserver(() => {
        const { answered, revision } = root.dataset;
        if (answered !== before && answered === revision) window.drawn = performance.now();
        before = answered;
    }).observe(root, { attributes: true, attributeFilter: ["data-answered", "data-revision"] });
}"""


def waited(visitor: Visitor, number: int) -> float:
    """Seconds from the release of a box, a little different each time, to its masks."""
    page = visitor.page
    page.evaluate("window.released = window.drawn = null")
    x0, y0, x1, y1 = LIVER
    visitor.drag((x0 + number % 7, y0), (x1, y1 - number % 5))
    page.wait_for_function("window.drawn !== null", timeout=60_000)
    return float(page.evaluate("window.drawn - window.released")) / 1000


def cleared(visitor: Visitor) -> None:
    visitor.page.locator(".dq button", has_text="Clear").click()
    visitor.settled()


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    if not 1 <= rounds <= SLICES:
        raise SystemExit(f"ROUNDS is 1 to {SLICES}.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        bundle = shipped_with_full_precision(home / "bundle")
        (home / "run").mkdir()
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        with viewer(home / "run", "--bundle", bundle.path) as address:
            visitor = Visitor(browser.new_context(viewport={"width": 1280, "height": 900}), address)
            page = visitor.page
            opens = page.get_by_role("button", name="Open the CT phantom")
            opens.wait_for()
            page.wait_for_timeout(START_PAGE * 1000)
            opens.click()
            study, _, k = visitor.settled()["epoch"].split("/")
            page.locator(".dq").evaluate(WATCH)
            there: list[float] = []
            new: list[float] = []
            at, seen = int(k), {int(k)}
            for number in range(rounds):
                at += 1 if number < rounds // 2 else -1
                page.locator(".dq").press("ArrowDown" if number < rounds // 2 else "ArrowUp")
                page.locator(f'.dq[data-epoch="{study}/axial/{at}"]').wait_for()
                (there if at in seen else new).append(waited(visitor, number))
                seen.add(at)
                cleared(visitor)
                there.append(waited(visitor, number + 1))
                cleared(visitor)
        browser.close()
    print(machine(0))
    for name, found in (("embeddings there", there), ("a slice that has just come", new)):
        print(*(f"{seconds:.2f}" for seconds in found))
        print(f"{name}: {statistics.median(found):.2f} s, at most {max(found):.2f} s ({len(found)} rounds)")


if __name__ == "__main__":
    main()
