"""Table, advice, page and `lossfuzz cliffs` tell one margin and one plateau of every cell."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from lossfuzz.cli import main
from lossfuzz.cliffs import find_cliffs
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.measuring.thresholds import cliffs_of
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.table import PATHS, paths_matching
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.cliffs import LOSING, CellCliffs
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.harness.results.run import CellResult, RunResult
from lossfuzz.harness.results.selection import cells_to_walk
from lossfuzz.harness.running.execution import CellRunner, UnavailableError
from lossfuzz.measuring import Measuring
from lossfuzz.plan import Plan
from lossfuzz.reports import advice, tables, versions
from lossfuzz.reports.cliffs import COLUMNS, NONE, cliff_rows
from lossfuzz.reports.html_data import plot_data

pytestmark = pytest.mark.usefixtures("tf")

_CLIPPED = ("identity", "softmax-op", "sigmoid-op", "naive", "power", "plus-epsilon", "log-loss")
_BINARY = "keras/binary/function/sigmoid-op"


def sample():
    """Of every loss a sound path and one or two that clip or go through probabilities."""
    chosen = {}
    for path in PATHS:
        clips = any(part in path.name for part in _CLIPPED)
        held = chosen.setdefault(path.loss.name, [])
        if sum(any(part in one.name for part in _CLIPPED) == clips for one in held) <= clips:
            held.append(path)
    assert set(chosen) == {loss.name for loss in LOSSES}
    binary = paths_matching([_BINARY, "keras/function/softmax-op"])
    return tuple(dict.fromkeys([*(one for held in chosen.values() for one in held), *binary]))


@pytest.fixture(scope="module")
def result(tf):
    plan = Plan(
        paths=sample(),
        formats=(BINARY32,),
        modes=("eager",),
        devices=("CPU:0",),
        shapes=((24, 5),),
        rows=24 * 24,
    )
    graphs = replace(plan, paths=tuple(paths_matching([_BINARY])), modes=("graph", "xla"))
    cells = [CellResult(cell) for cell in (*plan.cells(), *graphs.cells())]
    measuring = Measuring()
    measuring.find_routes(cells)
    for recipe in plan.recipes(BINARY32):
        measuring.measure_batch(recipe, cells)
    for one in cells_to_walk(cells):
        find_cliffs(one, measuring.runner(one))
    return RunResult(
        plan=plan.to_json(),
        environment={"versions": {}, "devices": []},
        cells=cells,
        worst=[],
        interrupted=False,
        reference_rows={},
        seconds={},
    )


@pytest.fixture(scope="module")
def walked(result):
    """What `lossfuzz cliffs` says of every cell, walked again: side by side, by column."""
    found = {}
    for one in result.cells:
        try:
            cliffs = tuple(cliffs_of(CellRunner(one.cell))) if one.cliffs else ()
        except UnavailableError:
            cliffs = ()
        rows = cliff_rows([CellCliffs(cell=one.cell, cliffs=cliffs)])
        found[one.cell.name] = [dict(zip(COLUMNS, row.texts, strict=True)) for row in rows]
    return found


def told(rows, column):
    return {row[column] for row in rows if row["side"] in LOSING} - {NONE}


def test_the_table_shows_what_cliffs_shows(result, walked):
    shown = 0
    for one in result.cells:
        (row,) = tables.cell_rows([one])
        figures = dict(zip(tables.COLUMNS[1:], row.texts, strict=True))
        for column, there in (
            ("vanishes at", "gradient vanishes"),
            ("saturates at", "loss stops at"),
        ):
            if figures[column] != NONE:
                assert figures[column] in told(walked[one.cell.name], there), one.cell.name
                shown += 1
    assert shown > 20


def test_the_smallest_of_the_sides_is_told(result):
    for one in result.cells:
        (row,) = tables.cell_rows([one])
        figures = dict(zip(tables.COLUMNS[1:], row.texts, strict=True))
        margins = [
            cliff.margin
            for cliff in one.cliffs
            if (cliff.kind, cliff.tier) == (kinds.GRADIENT_COLLAPSE, DEFECT)
            and cliff.side in LOSING
        ]
        text = figures["vanishes at"].rstrip("?")
        assert (text == NONE) == (not margins)
        if margins:
            assert one.cell.format.cast(np.array([float(text)]))[0] == min(margins)


def test_advice_page_notes_and_versions_show_what_cliffs_shows(result, walked):
    for one in result.cells:
        rows = walked[one.cell.name]
        margins = told(rows, "gradient vanishes") | told(rows, "gradient is 0")
        places = margins | told(rows, "loss stops at")
        texts = [
            advice.advice([one]),
            *tables.saturation_note([one]),
            *(text for row in versions.version_rows([one]) for text in row.texts),
        ]
        for text in texts:
            for figure in re.findall(r"(?:from margin|lost from|exactly 0 from) (\d\S*)", text):
                assert figure.rstrip(").,;") in margins, (one.cell.name, text)
            for figure in re.findall(r"stops at (\S+)", text):
                assert figure.rstrip(",") in places, (one.cell.name, text)
    for record in plot_data(result)["cells"]:
        if record.get("unavailable") is not None:
            continue
        name = " ".join(record[part] for part in ("path", "format", "mode", "device"))
        rows = walked[name]
        assert record["vanishing"] in told(rows, "gradient vanishes") | {""}
        assert record["zero"] in told(rows, "gradient is 0") | {""}
        assert record["plateau"] in told(rows, "loss stops at") | {""}


def test_keras_binary_clip_route_is_told_as_it_is(result):
    cells = {
        (one.cell.format.dtype_name, one.cell.mode): one
        for one in result.cells
        if one.cell.path.name == _BINARY
    }
    (row,) = tables.cell_rows([cells["float32", "eager"]])
    figures = dict(zip(tables.COLUMNS[1:], row.texts, strict=True))
    assert figures["vanishes at"] == "16.118097"  # of a target of 1; of 0 it is 16.230068
    assert figures["saturates at"] == "15.942385"  # -log of the float32 before 1, less 1
    assert float(figures["saturates at"]) == pytest.approx(-np.log(2.0**-23), abs=1e-6)
    for (fmt, mode), one in cells.items():
        expected = "defective" if mode == "eager" else "inaccurate"
        assert tables.verdict_of(one) == expected, fmt


def test_the_rows_statistics_leave_out_margins_that_decide_nothing(result):
    for one in result.cells:
        if one.cell.path.name == _BINARY:  # five targets a row, whose losses are averaged
            assert one.summary.plateau == one.summary.vanishing_margin == float("inf")
        if one.cell.path.name == "keras/function/softmax-op" and one.cell.mode == "eager":
            assert one.summary.plateau == pytest.approx(16.0, abs=0.2)


def test_the_command_prints_the_same_numbers(result, tmp_path, capsys):
    (one,) = (
        one
        for one in result.cells
        if (one.cell.path.name, one.cell.format, one.cell.mode) == (_BINARY, BINARY32, "eager")
    )
    assert main(["cliffs", "--paths", _BINARY, "--modes", "eager"]) == 0
    printed = capsys.readouterr().out
    (row,) = tables.cell_rows([one])
    figures = dict(zip(tables.COLUMNS[1:], row.texts, strict=True))
    assert figures["vanishes at"] in printed
    assert figures["saturates at"] in printed
    loaded = RunResult.from_json(json.loads(json.dumps(result.to_json())))
    (again,) = tables.cell_rows([c for c in loaded.cells if c.cell.name == one.cell.name])
    assert again.texts[:-1] == row.texts[:-1]


def test_a_cell_that_was_not_walked_shows_no_place(result):
    for one in result.cells:
        if one.cell.path.loss.reduction is not None:
            (row,) = tables.cell_rows([one])
            figures = dict(zip(tables.COLUMNS[1:], row.texts, strict=True))
            assert figures["vanishes at"] == figures["saturates at"] == NONE
