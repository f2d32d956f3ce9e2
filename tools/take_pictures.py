"""Takes the pictures of reports in ``docs/pictures``.

    python tools/take_pictures.py vit_tiny.mge resnet18.mge resnet18_int8.mge

The first model is shown in light and in dark colours, once with an operator chosen and once as a whole, the other two
side by side. Take new ones when the page of reports or the names in it have changed. The figures in the pictures are
those of this machine: let it do nothing else. Needs Chromium and the packages playwright and pillow.
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import sync_playwright

import megengine_lite

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from megengine_lite._core.reports.model_report.report import ModelReport

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
WIDTH, HEIGHT = 1280, 860
COLOURS = 256
TRIES = 10
# The first operator of this kind is chosen in the light picture.
CHOSEN = "FusedAttention"
# How far the graph is zoomed there: boxes show their names.
SCALE = 0.72


def report_of(path: str) -> ModelReport:
    """The report on a model with one thread: of some the fastest without a note on other work of the machine."""
    with megengine_lite.load(path, threads=1) as model:
        reports = [model.report() for _ in range(TRIES)]
    return min(reports, key=lambda r: (bool(only(r)["note"]), only(r)["ms"]["median"]))


def only(report: ModelReport) -> dict[str, Any]:
    """The content of a report on one model."""
    (found,) = report.content["reports"]
    return found


def main() -> int:
    """Takes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a vision transformer, say")
    parser.add_argument("one", help="the first of two models side by side")
    parser.add_argument("two", help="the second")
    args = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    alone, both = report_of(args.model), report_of(args.one).beside(report_of(args.two))
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = opened(browser, alone, "light")
        nodes = only(alone)["nodes"]
        chosen = next((k for k, node in enumerate(nodes) if node["op"] == CHOSEN), len(nodes) // 2)
        page.evaluate(
            """([chosen, scale]) => {
                const { graph } = reportPage;
                reportPage.choose(chosen);
                Object.assign(graph, { scale, left: 8, top: 8, whole: false });
                graph.draw();
            }""",
            [chosen, SCALE],
        )
        take(page, "report.png")
        take(opened(browser, alone, "dark"), "report-dark.png")
        take(opened(browser, both, "light"), "report-of-two.png")
        browser.close()
    return 0


def opened(browser: Browser, report: ModelReport, scheme: str) -> Page:
    """The page of a report."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
    page.set_content(report.to_html())
    page.wait_for_function("() => reportPage.complete")
    return page


def take(page: Page, name: str) -> None:
    """A picture of what is in view, with few colours, so that it is small."""
    page.wait_for_timeout(300)  # until the last frame is painted
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(PICTURES / name, optimize=True)
    print(f"{PICTURES / name}: {(PICTURES / name).stat().st_size} bytes")


if __name__ == "__main__":
    raise SystemExit(main())
