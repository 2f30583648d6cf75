"""Makes the pictures of the handbook: real runs, their pages, and Chromium's screenshots of them.

``python docs/pictures.py`` writes docs/pictures/*.png in about two minutes. It needs TensorFlow
and the dependency group "docs" (Playwright and Pillow), and drives the Chromium that is installed.
The runs are small and have fixed seeds: the pictures change when what they show does.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from lossfuzz.comparison import compare
from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.own import own_path
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.plan import Plan
from lossfuzz.reports import html, html_comparison
from lossfuzz.running import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lossfuzz.harness.results.run import RunResult

PICTURES = Path(__file__).parent / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
READY = "document.documentElement.dataset.ready === 'yes'"
WIDTH, SHARPNESS, EDGE = 1120, 1.25, 12
PHONE = 390
COLOURS = 256
SHAPES = ((128, 2), (128, 10), (64, 33), (32, 257))

LOSSES = (
    "softmax cross-entropy with an integer label",
    "binary cross-entropy",
    "categorical focal loss, alpha 0.25, gamma 2",
    "KL divergence of a softmax",
)
LABELLED = LOSSES[0]
CLIPPING = "keras/function/softmax-op"


def report() -> RunResult:
    """A run of four losses of TensorFlow and Keras."""
    paths = paths_matching(["tf.nn/*", "keras/*"])
    chosen = tuple(path for path in paths if path.loss.name in LOSSES)
    modes = ("eager", "graph")
    return run(Plan(paths=chosen, modes=modes, devices=("CPU:0",), shapes=SHAPES, rows=8500))


def clipped(least: float) -> RunResult:
    """A run of a loss of one's own, the shares clipped."""
    import tensorflow as tf

    def loss(logits: Any, labels: Any) -> Any:
        shares = tf.clip_by_value(tf.nn.softmax(logits), least, 1.0)
        return -tf.math.log(tf.gather(shares, labels, batch_dims=labels.shape.rank))

    path = own_path(loss, loss_named("softmax-cross-entropy"), name="my_losses:clipped")
    modes = ("eager", "graph")
    formats = (BINARY32,)
    return run(Plan(paths=(path,), formats=formats, modes=modes, devices=("CPU:0",), rows=6000))


def pages(folder: Path) -> tuple[Path, Path]:
    """The report's and the comparison's page, written into a folder."""
    before, after = clipped(1e-7), clipped(1e-4)
    texts = {
        "report.html": html.render(report()),
        "comparison.html": html_comparison.render(
            compare(before, after, level=0.01), before, after, names=("before", "after")
        ),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "report.html", folder / "comparison.html"


@contextmanager
def opened(
    browser: Browser, file: Path, *, width: int = WIDTH, theme: str = "light"
) -> Iterator[Page]:
    """A page whose plots are drawn, and whose bar of links does not lie over the pictures."""
    page = browser.new_page(
        viewport={"width": width, "height": 844},
        color_scheme="dark" if theme == "dark" else "light",
        device_scale_factor=SHARPNESS if width == WIDTH else 2,
    )
    page.goto(file.as_uri())
    page.wait_for_function(READY)
    page.add_style_tag(content="nav { position: static !important }")
    yield page
    page.close()


def first_screen(page: Page) -> None:
    """The verdict, the matrix with one loss unfolded, and the advice."""
    page.locator(".fold").first.click()
    cut(page, "report", page.locator("header"), page.locator(".matrix"))


def a_square(page: Page) -> None:
    """What a square of the matrix shows."""
    square = page.locator("tr.path", has_text=CLIPPING).first.locator(".square")
    page.locator(".fold").first.click()
    square.last.click()
    cut(page, "square", page.locator("#detail"))


def distributions(page: Page) -> None:
    """The errors of all paths of one loss in float32."""
    cut(
        page,
        "distributions",
        page.locator("#distributions h2"),
        page.locator("#distribution-plots"),
    )


def stability(page: Page) -> None:
    """Where the clip breaks, by margin and number of classes."""
    choose(page, "cell", path=CLIPPING, format="float32", mode="eager")
    cut(page, "stability", page.locator("#closely h2"), page.locator("#stability-plots"))


def causes(page: Page) -> None:
    """The causes that are in most cells."""
    choose(page, "cause", loss=LABELLED)
    cut(page, "causes", page.locator("#causes h2"), page.locator("#cause-list details").nth(9))


def a_finding(page: Page) -> None:
    """The worst row of the clip, with its script."""
    choose(page, "finding", loss=LABELLED, kind="gradient collapse")
    shown = page.locator("#findings details.finding:not([hidden])").first
    shown.evaluate("one => one.open = true")
    cut(page, "finding", page.locator("#findings h2"), shown)


def choose(page: Page, section: str, **choices: str) -> None:
    """Set the filters of a section."""
    for name, value in choices.items():
        page.select_option(f"#{section}-controls select[name={name}]", value)


def cut(page: Page, name: str, *parts: Locator) -> None:
    """A picture of the smallest rectangle that holds the parts, with an edge above and beside."""
    boxes = [part.bounding_box() for part in parts]
    found = [box for box in boxes if box is not None]
    top = max(min(box["y"] for box in found) - EDGE, 0)
    left = max(min(box["x"] for box in found) - EDGE, 0)
    bottom = max(box["y"] + box["height"] for box in found)
    right = max(box["x"] + box["width"] for box in found) + EDGE
    clip = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    save(page.screenshot(clip=clip, full_page=True), name)  # type: ignore[arg-type]


def save(screenshot: bytes, name: str) -> None:
    """Write a picture with few colours, which takes a third of the bytes."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    small = picture.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(PICTURES / f"{name}.png", optimize=True)


REPORT: tuple[Callable[[Page], None], ...] = (
    first_screen,
    distributions,
    stability,
    causes,
    a_finding,
    a_square,
)


def main() -> int:
    """Make all pictures and say how large they are."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        print(f"no Chromium is installed here: looked for {', '.join(BROWSERS)}", file=sys.stderr)
        return 2
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        report_page, comparison_page = pages(Path(folder))
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        for draw in REPORT:
            with opened(browser, report_page) as page:
                draw(page)
        with opened(browser, report_page, width=PHONE, theme="dark") as page:
            save(page.screenshot(), "phone")
        with opened(browser, comparison_page) as page:
            cut(page, "comparison", page.locator("header"), page.locator("#cell-plots"))
        browser.close()
    for file in sorted(PICTURES.glob("*.png")):
        print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
