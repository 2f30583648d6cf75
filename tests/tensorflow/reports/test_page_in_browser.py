"""The pages in a real browser: plots, filters, themes, narrow screens, paper, hostile names."""

import math
import shutil
from dataclasses import replace

import pytest

from lossfuzz.comparison import compare
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.route import Route
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results.run import CellResult
from lossfuzz.memory import costs
from lossfuzz.plan import Plan
from lossfuzz.reports import html, html_comparison
from lossfuzz.running import run

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: no browser test"
)

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
NAMES = ["tf.nn/fused", "keras/function/softmax-op", "tf.nn/naive", "tf.nn/binary/fused"]
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
READY = "document.documentElement.dataset.ready === 'yes'"


@pytest.fixture(scope="module")
def browser():
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no Chromium is installed here: looked for {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def result(tf):
    return run(
        Plan(
            paths=tuple(paths_matching(NAMES)),
            formats=(BINARY16, BINARY32),
            modes=("eager", "graph"),
            devices=("CPU:0",),
            shapes=((64, 3), (64, 10)),
            rows=2048,
        )
    )


@pytest.fixture(scope="module")
def memory(tf):
    paths = paths_matching(NAMES[:3])
    return list(costs(paths, [BINARY32], ["eager", "graph"], "CPU:0", (64, 100)))


@pytest.fixture(scope="module")
def page_file(result, memory, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(html.render(result, memory=memory), encoding="utf-8")
    return path


class Opened:
    """A page, what it asked for and what it complained of."""

    def __init__(self, browser, path, *, width=1280, theme="light"):
        self.page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme=theme, permissions=[]
        )
        self.requests, self.problems = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on(
            "console",
            lambda told: self.problems.append(told.text) if told.type != "log" else None,
        )
        self.page.on("dialog", self._dialog)
        self.page.goto(path.as_uri())
        self.page.wait_for_function(READY)

    def _dialog(self, dialog):
        self.problems.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def count(self, selector):
        return self.page.locator(selector).count()

    def texts(self, selector):
        return self.page.locator(selector).all_text_contents()


@pytest.fixture
def opened(browser, page_file):
    made = []

    def make(path=page_file, **options):
        made.append(Opened(browser, path, **options))
        return made[-1]

    yield make
    for one in made:
        one.page.close()
        assert one.problems == []
        assert all(url.startswith(("file:", "data:")) for url in one.requests)
        assert len([url for url in one.requests if url.startswith("file:")]) == 1


def test_every_plot_has_marks(opened):
    page = opened()
    assert page.count("#distribution-plots svg") == 2
    assert page.count("#distribution-plots svg [aria-label='line'] path") >= 2 * 3
    assert page.count("#stability-plots svg") == 3
    assert page.count("#stability-plots svg rect") > 60
    assert page.count("#family-plots svg rect") > 60
    assert page.count("#memory-plots svg [aria-label='bar'] rect") >= 4


def test_filters_choose_the_cells_that_are_drawn(opened):
    page = opened()
    formats = "#distribution-table td:nth-child(2)"
    assert set(page.texts(formats)) == {"float32"}
    page.page.select_option("#distribution-controls select[name=format]", "float16")
    assert set(page.texts(formats)) == {"float16"}
    page.page.select_option("#distribution-controls select[name=mode]", "all")
    assert set(page.texts("#distribution-table td:nth-child(3)")) == {"eager", "graph"}
    page.page.select_option("#distribution-controls select[name=path]", "tf.nn/naive")
    assert set(page.texts("#distribution-table td:nth-child(1)")) == {"tf.nn/naive"}
    assert page.count("#distribution-plots svg [aria-label='line'] path") == 2 * 2


def test_figures_of_the_distributions_are_the_summaries(opened, result):
    page = opened()
    shown = page.page.locator("#distribution-table tbody tr").first.locator("td")
    cell = next(
        one
        for one in result.cells
        if one.cell.name == " ".join(shown.nth(at).text_content() for at in range(4))
    )
    median = cell.summary.loss_ulp.quantile(0.5)
    assert float(shown.nth(4).text_content()) == pytest.approx(median, rel=1e-2)
    largest = cell.summary.largest["gradient_ulp"]
    assert float(shown.nth(11).text_content()) == pytest.approx(largest, rel=6e-2)


def test_a_family_has_distributions_of_its_own(opened, result):
    page = opened()
    page.page.select_option("#distribution-controls select[name=path]", "tf.nn/fused")
    whole = page.texts("#distribution-table tbody td")
    page.page.select_option("#distribution-controls select[name=family]", "zeros")
    assert page.texts("#distribution-table tbody td") != whole
    page.page.select_option("#distribution-controls select[name=view]", "histogram")
    summary = next(
        one.summary for one in result.cells if one.cell.name == "tf.nn/fused float32 eager CPU:0"
    )
    bars = page.count("#distribution-plots svg [aria-label='rect'] rect")
    zeros = summary.families["zeros"]
    assert bars == len(zeros.loss_ulp.counts) + len(zeros.gradient_ulp.counts)


def test_a_loss_unfolds_to_paths_and_a_square_shows_its_figures(opened):
    page = opened()
    row = page.page.locator("tr.path", has_text="tf.nn/naive")
    assert not row.is_visible()
    page.page.locator(".fold").first.click()
    assert row.is_visible()
    row.locator(".square").first.click()
    panel = page.page.locator("#detail")
    assert panel.is_visible()
    assert "tf.nn/naive" in panel.text_content()
    assert "log of softmax" in panel.text_content()
    panel.get_by_text("this cell closely").click()
    assert not panel.is_visible()
    chosen = "#cell-controls select[name=path]"
    assert page.page.locator(chosen).input_value() == "tf.nn/naive"


def test_the_map_says_where_the_cliff_is(opened):
    page = opened()
    page.page.select_option("#cell-controls select[name=path]", "keras/function/softmax-op")
    texts = page.texts("#stability-plots li")
    assert len(texts) == 2
    assert texts[1].startswith("10 classes: from margins of 1")


def test_findings_are_filtered_and_their_scripts_copied(opened, result):
    page = opened()
    visible = "details.finding[data-tier]:not([hidden])"
    kinds = set(page.page.locator(visible).evaluate_all("all => all.map(one => one.dataset.tier)"))
    assert kinds == {"defect"}
    page.page.select_option("#finding-controls select[name=tier]", "all")
    assert page.count(visible) == len(result.worst)
    button = page.page.locator("#findings .copy").first
    button.click()
    playwright.expect(button).to_have_text("copied")


def test_causes_open_to_a_row_and_a_script(opened, result):
    page = opened()
    assert page.count("#cause-list details") == min(
        25, sum(cause.tier == "defect" for cause in result.causes)
    )
    page.page.locator("#cause-list summary").first.click()
    assert "import tensorflow as tf" in page.page.locator("#cause-list code").first.text_content()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction_alone(opened, theme):
    page = opened(width=390, theme=theme)
    page.page.locator("#unfold").click()
    for details in page.page.locator("details:visible").all():
        details.evaluate("one => one.open = true")
    assert page.page.evaluate("document.documentElement.scrollWidth") == 390
    page.page.set_viewport_size({"width": 800, "height": 900})
    page.page.wait_for_function(
        "document.querySelector('#stability-plots svg').getAttribute('width') > 500"
    )


def brightness(page):
    color = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, color.removeprefix("rgb(").removesuffix(")").split(",")))


def test_the_theme_is_the_systems_until_it_is_chosen(opened):
    dark, light = opened(theme="dark"), opened(theme="light")
    assert brightness(light) > brightness(dark) + 450
    for _ in range(2):  # light, then dark
        light.page.locator("#theme").click()
    assert brightness(light) == brightness(dark)


def test_on_paper_everything_is_open_and_nothing_waits_for_a_click(opened):
    page = opened(theme="dark")
    page.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.page.emulate_media(media="print")
    assert page.count("details:not([open])") == 0
    assert page.page.locator("tr.path:visible").count() == len(NAMES)
    assert page.count(".control:visible") == 0


@pytest.fixture(scope="module")
def hostile(result):
    """The same figures under names that want to be markup, wherever a user's text can come in."""
    cells = []
    for one in result.cells:
        cell = replace(one.cell, path=replace(one.cell.path, name=EVIL))
        if one.cell.path.name == "tf.nn/naive":
            cells.append(CellResult(cell, unavailable=f"ValueError: {EVIL}"))
        elif one.cell.path.name == "tf.nn/fused":
            cells.append(
                CellResult(cell, route=Route(name=EVIL, operations=()), summary=one.summary)
            )
    return replace(
        result,
        cells=cells,
        worst=[],
        causes=[],
        environment={"versions": {EVIL: EVIL}, "devices": [EVIL]},
    )


def test_a_hostile_name_stays_text_everywhere(opened, hostile, tmp_path):
    path = tmp_path / "evil.html"
    text = html.render(hostile)
    assert "<script>alert" not in text
    path.write_text(text, encoding="utf-8")
    page = opened(path)
    page.page.locator(".matrix .square[data-cell]:visible").first.click()
    assert EVIL in page.page.locator("#detail").text_content()
    page.page.select_option("#distribution-controls select[name=view]", "histogram")
    plots = page.page.locator("#distribution-plots")
    plots.scroll_into_view_if_needed()
    box = plots.locator("svg").first.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    assert "&lt;script&gt;alert" in plots.locator("[aria-label=tip]").first.inner_html()
    assert page.count("img") == 0
    assert all("alert" not in script for script in page.texts("script"))


@pytest.fixture(scope="module")
def worse(result):
    """The same run, in which the fused path gives what the naive one gave."""
    by_name = {one.cell.name: one for one in result.cells}
    return replace(
        result,
        cells=[
            replace(one, summary=by_name[one.cell.name.replace("/fused", "/naive")].summary)
            if one.cell.path.name == "tf.nn/fused"
            else one
            for one in result.cells
        ],
    )


def test_a_comparison_draws_both_runs_over_each_other(opened, result, worse, tmp_path):
    path = tmp_path / "comparison.html"
    found = compare(result, worse, level=0.01)
    assert found.regression
    path.write_text(
        html_comparison.render(found, result, worse, names=("before", EVIL)), encoding="utf-8"
    )
    page = opened(path, width=390)
    assert "got worse" in page.page.locator(".verdict").text_content()
    assert page.count("#cell-plots svg") == 2
    assert page.count("#cell-plots svg [aria-label='line'] path") == 4
    medians = page.texts("#cell-facts td:nth-child(3)")
    assert len(medians) == 4
    assert not any(math.isnan(float(text)) for text in medians if text != "∞")
    assert page.page.evaluate("document.documentElement.scrollWidth") == 390


def test_a_comparison_of_equal_runs_says_so(opened, result, tmp_path):
    path = tmp_path / "equal.html"
    found = compare(result, result, level=0.01)
    page_text = html_comparison.render(found, result, result, names=("A", "A again"))
    path.write_text(page_text, encoding="utf-8")
    page = opened(path)
    assert page.page.locator(".verdict").text_content().startswith("identical")
    assert page.count("svg") == 0
