"""The comment for a pull request: of a real run, and of texts that want to be more than text."""

import re
from dataclasses import replace

import pytest

from lossfuzz.comparison import compare
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.plan import Plan
from lossfuzz.reports import comparison as comparison_tables
from lossfuzz.reports import markdown, markdown_comparison, tables
from lossfuzz.reports.markdown_text import MOST_CHARACTERS, Part, code, comment, escaped, folded
from lossfuzz.running import run

SCRIPT = "<script>alert(1)</script>"
GITHUBS_LIMIT = 65_536


@pytest.fixture(scope="module")
def result(tf):
    names = ["keras/function/softmax-op", "keras/function/softmax-identity", "tf.nn/fused"]
    plan = Plan(
        paths=tuple(paths_matching(names)),
        formats=(BINARY16, BINARY32),
        modes=("eager", "graph"),
        devices=("CPU:0",),
        shapes=((32, 3),),
        rows=700,
    )
    return run(plan)


def renamed(result, name):
    """The first cell's path by another name."""
    first = result.cells[0]
    cell = replace(first.cell, path=replace(first.cell.path, name=name))
    return replace(result, cells=[replace(first, cell=cell, findings={}), *result.cells[1:]])


def rows_of(text):
    """The cells of all tables' rows, split where GitHub splits them."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_comment_begins_with_the_verdict(result):
    text = markdown.render(result)
    first = text.splitlines()[0]
    assert first == f"### lossfuzz: {tables.verdict(result)}"
    assert "Not finished" not in text


def test_the_table_shows_the_worst_kind_by_path_format_and_mode(result):
    rows = rows_of(markdown.render(result))
    assert rows[0] == ["path", "formats", "eager", "graph"]
    by_path = {(row[0], row[1]): row[2:] for row in rows[2:7]}
    assert by_path["keras/function/softmax-op", "float16"] == [
        "❌ non-finite gradient",
        "☑️ inaccuracies only",
    ]
    assert by_path["keras/function/softmax-identity", "float32"] == ["❌ gradient collapse"] * 2
    assert by_path["tf.nn/fused", "float16, float32"] == ["☑️ inaccuracies only"] * 2


def test_cells_that_could_not_run_are_not_called_sound(result):
    cells = [replace(one, unavailable="ValueError: no") for one in result.cells]
    rows = rows_of(markdown.render(replace(result, cells=cells, worst=[], causes=[])))
    assert all("unavailable" in text for row in rows[2:] for text in row[2:])


def test_advice_causes_findings_and_environment_are_there(result):
    text = markdown.render(result)
    assert "**Advice**" in text
    assert "Use tf.nn/fused: no defect in" in text
    assert text.count("```python") == len({one.kind for one in result.worst})
    assert "causes of defects</summary>" in text
    assert f"tensorflow {result.environment['versions']['tensorflow']}" in text
    assert text.count("<details>") == text.count("</details>") > 3


def test_a_running_campaign_says_how_much_is_done(result):
    text = markdown.render(replace(result, interrupted=True, progress="2 of 9 tasks are done"))
    assert "**Not finished: 2 of 9 tasks are done.**" in text


@pytest.mark.parametrize(
    "name", [SCRIPT, "a|b", "`whoami`", "**bold**", "[x](http://y.z)", "_a_", "~~a~~", "a\nb\n# c"]
)
def test_a_paths_name_stays_text_in_one_cell(result, name):
    text = markdown.render(renamed(result, name))
    assert SCRIPT not in text
    rows = rows_of(text)[: len(rows_of(markdown.render(result))) + 1]
    assert len({len(row) for row in rows[:8]}) == 1
    (mine,) = {row[0] for row in rows[2:] if row[0] == escaped(name)}
    assert "<" not in mine.replace("<!-- -->", "")
    assert not re.search(r"(?<!\\)[`*_\[\]~|]", mine)


def test_nobody_is_called_and_no_issue_is_named():
    assert escaped("@team fixes #7") == "@<!-- -->team fixes #<!-- -->7"
    assert "@<!-- -->x" in folded("@x <b>", "text")
    assert "&lt;b&gt;" in folded("@x <b>", "text")


def test_a_fence_is_longer_than_what_it_holds():
    assert code("a\n````\nb").splitlines()[0] == "`````python"


def test_the_comment_is_short_enough_however_long_names_and_tables_are(result):
    cells = []
    for number in range(3000):
        one = result.cells[number % len(result.cells)]
        name = f"own.module:loss_{number}_" + "long" * (number % 300)
        loss = replace(one.cell.path.loss, name=f"loss number {number // 500}")
        path = replace(one.cell.path, name=name, loss=loss)
        cells.append(replace(one, cell=replace(one.cell, path=path), findings={}))
    text = markdown.render(replace(result, cells=cells))
    assert len(text) < MOST_CHARACTERS < GITHUBS_LIMIT
    assert "Left out, since a comment holds so much and no more: the table of" in text
    assert text.startswith(f"### lossfuzz: {tables.verdict(replace(result, cells=cells))}")
    assert f"seed {result.plan['seed']}, shapes" in text


def test_what_fits_is_kept_in_order_and_the_rest_is_named():
    parts = [Part(name=name, text=name * 3000) for name in "abc"]
    text = comment(parts, most=8500)
    assert text.split("\n\n")[:2] == ["a" * 3000, "b" * 3000]
    assert text.endswith("no more: c.*")


def test_a_comparison_says_what_got_worse(result):
    better = replace(result, cells=[one for one in result.cells if one.cell.mode == "graph"])
    worse = []
    for one in result.cells:
        if one.cell.mode == "eager":
            cell = replace(one.cell, mode="graph")
            worse.append(replace(one, cell=cell))
    found = compare(better, replace(result, cells=worse), level=0.01)
    text = markdown_comparison.render(found, names=("main|x", SCRIPT))
    assert text.startswith(f"### ❌ lossfuzz: {comparison_tables.verdict(found)}")
    assert "A is main\\|x, B is &lt;script&gt;" in text
    rows = rows_of(text)
    assert rows[0] == [*comparison_tables.COLUMNS]
    assert ["worse", "keras/function/softmax-op", "float32", "graph"] in [row[:4] for row in rows]
    assert "routes" not in text
    assert "clip + log" in text


def test_a_comparison_of_the_same_run_is_one_line_and_grounds(result):
    text = markdown_comparison.render(compare(result, result, level=0.01))
    assert text.startswith("### ✅ lossfuzz: identical: 12 cells gave the same figures")
    assert rows_of(text) == []
