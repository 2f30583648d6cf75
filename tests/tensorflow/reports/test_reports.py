"""Tables, page and snippets of a real run."""

import base64
import io
import json
import math
import re
import subprocess
import sys
import zlib
from dataclasses import replace

import pytest
from rich.console import Console

from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results.kinds import DEFECT, KINDS
from lossfuzz.harness.results.run import CellResult
from lossfuzz.harness.results.summary import Summary
from lossfuzz.memory import costs
from lossfuzz.plan import Plan
from lossfuzz.reports import html, tables, terminal
from lossfuzz.reports import page as html_page
from lossfuzz.reports.advice import advice, recommended
from lossfuzz.reports.headline import headline
from lossfuzz.reports.html_data import plot_data
from lossfuzz.reports.html_matrix import matrix_of
from lossfuzz.reports.memory import CellCost
from lossfuzz.reports.routes import route_changes, route_rows
from lossfuzz.reports.severity import SEVERITIES, severity_of
from lossfuzz.reports.snippet import snippet
from lossfuzz.reports.versions import headings, subjects_of, version_rows
from lossfuzz.running import run


@pytest.fixture(scope="module")
def result(tf):
    return run(
        Plan(
            paths=tuple(
                paths_matching(
                    ["keras/function/softmax-op", "keras/function/softmax-identity", "tf.nn/fused"]
                )
            ),
            formats=(BINARY16, BINARY32),
            devices=("CPU:0",),
            shapes=((64, 3),),
            rows=1024,
        )
    )


def test_modes_that_agree_share_a_line(result):
    rows = [row for row in tables.cell_rows(result.cells) if row.path == "tf.nn/fused"]
    assert [row.texts[1] for row in rows if row.texts[0] == "float32"] != []
    assert sum(len(row.texts[1].split()) for row in rows) == 6


def test_every_row_has_every_column(result):
    for row in tables.cell_rows(result.cells):
        assert 1 + len(row.texts) == len(tables.COLUMNS)


def test_unavailable_cells_say_why(result):
    cells = [
        replace(result.cells[0], unavailable="ValueError: no [/such] thing"),
        *result.cells[1:],
    ]
    changed = replace(result, cells=cells)
    assert tables.cell_rows(cells)[0].verdict == "unavailable"
    assert "1 cell was unavailable" in tables.verdict(changed)
    console = Console(file=io.StringIO(), width=300)
    terminal.show(changed, console)
    assert "no [/such] thing" in console.file.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.1369, "0.14"),
        (228.4, "228"),
        (16777216.0, "1.7e7"),
        (-104.0, "-104"),
        (math.inf, "inf"),
        (math.nan, "-"),
        (3e-9, "3e-9"),
    ],
)
def test_figures_are_short(value, text):
    assert tables.number(value) == text


def test_routes_that_depend_on_the_mode_are_told(result):
    (line,) = route_changes(result.cells)
    assert line.startswith("keras/function/softmax-op (float16, float32): eager: clip + log")
    assert line.endswith("graph and xla: softmax skipped")


def test_every_path_has_its_routes_in_the_table_of_what_really_ran(result):
    rows = {(row.texts[0], row.differs): row.texts[1:] for row in route_rows(result.cells)}
    assert rows == {
        ("keras/function/softmax-op", True): (
            "float16, float32",
            "clip + log",
            "softmax skipped",
            "softmax skipped",
        ),
        ("keras/function/softmax-identity", False): ("float16, float32", *["clip + log"] * 3),
        ("tf.nn/fused", False): ("float16, float32", *["fused on logits"] * 3),
    }


def test_a_route_that_depends_on_the_mode_is_a_finding_of_its_own(result):
    changes = result.to_json()["route_changes"]
    assert {(one["path"], one["format"]) for one in changes} == {
        ("keras/function/softmax-op", "float16"),
        ("keras/function/softmax-op", "float32"),
    }
    assert changes[0]["routes"]["graph"] == "softmax skipped"


def test_the_advice_names_what_to_use_to_mind_and_to_avoid(result):
    text = advice(result.cells)
    fused = [one.summary for one in result.cells if one.cell.path.name == "tf.nn/fused"]
    rows = sum(summary.judged for summary in fused)
    assert f"Use tf.nn/fused: no defect in {rows:,} judged rows." in text
    assert "keras/function/softmax-op (defects in eager float16 and float32)" in text
    assert "Avoid keras/function/softmax-identity (gradient lost from margin 16" in text


def test_there_is_no_advice_without_figures():
    assert advice([]) == "Nothing was judged."


def test_the_page_is_self_contained(result):
    page = html.render(result)
    outside = re.findall(r"""(?:src|href|@import|url\()\s*=?\s*["']?(https?:)""", page)
    assert outside == []
    assert "default-src 'none'" in page
    own = "".join(html_page._asset(name) for name in ("page.js", *html._SCRIPTS))
    assert "fetch(" not in own
    assert "XMLHttpRequest" not in own
    assert len(page) < 5_000_000


def test_text_from_outside_stays_text_on_the_page(result):
    evil = "<script>alert(1)</script>"
    cell = replace(result.cells[0].cell, path=replace(result.cells[0].cell.path, name=evil))
    cells = [replace(result.cells[0], cell=cell, findings={}), *result.cells[1:]]
    page = html.render(replace(result, cells=cells))
    assert evil not in page
    assert "&lt;script&gt;alert(1)" in page


def test_curves_end_where_infinite_errors_begin(result):
    data = plot_data(result)
    broken = next(
        one for one in data["cells"] if one["format"] == "float16" and one["route"] == "clip + log"
    )
    shares = [share for _, share in data["curves"][broken["curves"][1]]]
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] > 0
    sound = next(one for one in data["cells"] if one["route"] == "fused on logits")
    assert data["curves"][sound["curves"][0]][-1][1] == 0


def test_the_data_of_a_page_are_json_without_markup_and_lead_back(result):
    data = {**plot_data(result), "evil": "</script><script>alert(1)</script>"}
    text = html_page.packed(data)
    assert not set(text) & set("<>&\"'")
    assert json.loads(zlib.decompress(base64.b64decode(text))) == json.loads(json.dumps(data))


def test_the_matrix_has_a_square_for_every_cell_and_a_share_for_every_loss(result):
    matrix = matrix_of(result)
    assert matrix.formats == [("float16", 3), ("float32", 3)]
    assert matrix.devices == []
    (row,) = matrix.rows
    squares = [square for path in row.paths.values() for square in path]
    assert sorted(square.number for square in squares) == list(range(len(result.cells)))
    for share, column in zip(row.shares, zip(*row.paths.values(), strict=True), strict=True):
        assert share.parts[-1][2] == 100
        assert {name for name, _, _ in share.parts} == {one.severity.name for one in column}
    naive = row.paths["keras/function/softmax-identity"]
    assert {square.severity.sign for square in naive} <= {"∇", "∞"}


def test_every_kind_of_finding_has_a_severity(result):
    known = {kind for one in SEVERITIES for kind in one.kinds}
    for kind in KINDS:
        broken = CellResult(result.cells[0].cell, summary=Summary(judged=1, defects={kind: 1}))
        severity = severity_of(broken)
        assert (kind in severity.kinds) == (kind in known)
        assert severity.name not in ("sound", "inaccurate", "unavailable")


def test_a_cell_that_was_not_measured_yet_is_not_called_sound(result):
    cell = result.cells[0].cell
    assert severity_of(CellResult(cell)).name == "unmeasured"
    assert severity_of(CellResult(cell, summary=Summary(rows=1, judged=1))).name == "sound"


def test_a_defect_that_only_a_search_found_counts(result):
    broken = next(one for one in result.cells if one.summary.defect_rows)
    found = CellResult(broken.cell, summary=Summary(rows=1, judged=1), findings=broken.findings)
    assert severity_of(found).name in ("gradient-lost", "non-finite")
    assert advice([found]).startswith("Avoid")
    assert recommended([found]) == []


def test_the_headline_tells_how_losses_and_formats_fare(result):
    text = " ".join(headline(result))
    assert "has a path that is without a defect wherever it ran: tf.nn/fused." in text
    assert re.search(r"Defects showed in \d+ % of the float16 cells, \d+ % of the float32", text)
    broken = [one for one in result.cells if one.cell.path.name != "tf.nn/fused"]
    (first, *_) = headline(replace(result, cells=broken))
    assert first.startswith("No path of softmax cross-entropy with an integer label is without")
    assert headline(replace(result, cells=[])) == ["Nothing was measured."]


def test_costs_lead_back_from_json(tf):
    found = list(costs(paths_matching(["tf.nn/fused"]), [BINARY32], ["eager"], "CPU:0", (16, 10)))
    records = json.loads(json.dumps([one.to_json() for one in found]))
    assert [CellCost.from_json(one) for one in records] == found


def test_every_defects_snippet_runs_and_shows_its_figures(result):
    for finding in result.worst:
        if finding.tier != DEFECT:
            continue
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", snippet(finding)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        printed = float(re.search(r"loss\s+(\S+)", done.stdout).group(1))
        if math.isnan(finding.observed_loss):
            assert math.isnan(printed)
        else:
            assert printed == pytest.approx(finding.observed_loss, rel=1e-6)


def test_versions_stand_side_by_side_and_what_differs_is_marked(result):
    own = [one for one in result.cells if one.cell.path.name == "keras/function/softmax-op"]
    other = [replace(one, cell=replace(one.cell, device=f"old/{one.cell.device}")) for one in own]
    clipped = next(one.route for one in own if one.route.name == "clip + log")
    for one in other:
        one.route = clipped
    assert subjects_of([*own, *other]) == ["here", "old"]
    rows = version_rows([*own, *other])
    assert {(row.modes, row.differs) for row in rows} == {("eager", False), ("graph xla", True)}
    names = headings(["here", "old"], {"versions": {"tensorflow": "2.21.0"}})
    assert names == ["here\ntensorflow 2.21.0", "old"]
