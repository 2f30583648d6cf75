"""Tables at every width: whole names, no line beyond the width, and what is left out is said."""

import io

import pytest
from rich.console import Console

from lossfuzz import memory
from lossfuzz.cli import main
from lossfuzz.commands import cliffs as cliffs_commands
from lossfuzz.commands import compare as compare_commands
from lossfuzz.commands.console import wide_console
from lossfuzz.comparison import compare
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.route import Route
from lossfuzz.harness.paths.table import PATHS
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.cliffs import ONE_LOSES, ZERO_LOSES, CellCliffs, Cliff, Edge
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.harness.results.run import CellResult, RunResult
from lossfuzz.harness.results.summary import Summary
from lossfuzz.harness.running.memory import Footprint
from lossfuzz.reports import terminal
from lossfuzz.reports.grid import Column, Line, show
from lossfuzz.reports.memory import CellCost

WIDTHS = (80, 100, 120, 140, 176)


def printed(width, print_it):
    console = Console(file=io.StringIO(), width=width)
    print_it(console)
    text = console.file.getvalue()
    assert max(map(len, text.splitlines())) <= width
    return text


def cliff(kind, side, margin):
    edge = Edge(
        margin=margin,
        loss=15.942384719848633,
        exact_loss=margin,
        label_gradient=0.0,
        exact_label_gradient=-1.0,
        largest_gradient=0.0,
        exact_largest_gradient=1.0,
    )
    return Cliff(kind=kind, tier=DEFECT, side=side, classes=1, at=edge, below=None, confirmed=True)


def results(*, defects=0, device="CPU:0"):
    cells = []
    for path in PATHS:
        for fmt in (BINARY16, BINARY32):
            for mode in ("eager", "graph", "xla"):
                summary = Summary(rows=512, judged=512, bias=3.1e38)
                summary.largest.update(loss_ulp=8.5e37, gradient_ulp=1.7e7)
                if defects:
                    summary.defects[kinds.SATURATION] = defects
                one = CellResult(
                    Cell(path=path, format=fmt, mode=mode, device=device),
                    route=Route(name="log1p(exp) on logits", operations=()),
                    summary=summary,
                )
                if mode == "eager":
                    one.cliffs = tuple(
                        cliff(kind, side, 15.71875)
                        for kind in (kinds.GRADIENT_COLLAPSE, kinds.SATURATION)
                        for side in (ZERO_LOSES, ONE_LOSES)
                    )
                cells.append(one)
    return RunResult(
        plan={"families": ["normal"], "shapes": ["64x10"], "rows": 512, "seed": 0},
        environment={"versions": {}, "devices": [device]},
        cells=cells,
        worst=[],
        interrupted=False,
        reference_rows={},
        seconds={},
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_every_path_is_fully_readable_in_the_table(width):
    result = results()
    text = printed(width, lambda console: terminal.show(result, console))
    for path in PATHS:
        assert path.name in text
    assert text.count("float32") >= len(PATHS)
    assert "8.5e37" in text  # figures are there, not names alone


@pytest.mark.parametrize("width", WIDTHS)
def test_every_path_is_fully_readable_in_the_tables_of_cliffs_and_versions(width):
    found = [CellCliffs(cell=one.cell, cliffs=one.cliffs) for one in results().cells]
    text = printed(width, lambda console: cliffs_commands._show(found, console))
    both = results()
    both.cells = [*both.cells, *results(device="tensorflow-2.15.1/CPU:0").cells]
    beside = printed(width, lambda console: terminal._show_versions(both, console))
    for path in PATHS:
        assert path.name in text
        assert path.name in beside
    assert "15.71875" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_every_path_is_fully_readable_in_a_comparison(width, monkeypatch):
    monkeypatch.setattr(compare_commands, "_LINES", 10**6)
    found = compare(results(), results(defects=8), level=0.01)
    text = printed(width, lambda console: compare_commands._show(found, console))
    for path in PATHS:
        assert path.name in text
    assert "saturation" in text.replace("\n", "")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_path_is_fully_readable_in_the_table_of_costs(width, monkeypatch, capsys):
    costs = [
        CellCost(
            cell=one.cell,
            route="log1p(exp) on logits",
            footprint=Footprint(forward=3.05, step=6.03, held=1.0, seconds=0.1),
            unavailable=None,
            relative_time=2.67,
        )
        for one in results().cells
    ]
    monkeypatch.setattr(memory, "costs", lambda *_: iter(costs))
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["memory"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= width
    for path in PATHS:
        assert path.name in text
    assert "6.03 x" in text


COLUMNS = (
    Column(name="path", heading="path"),
    Column(name="format", heading="format"),
    Column(name="first", heading="first\nfigure", rank=1),
    Column(name="route", heading="route", least=6, rank=2),
    Column(name="empty", heading="empty", rank=1),
    Column(name="last", heading="last", rank=3),
)
LINES = (
    Line(
        texts=(
            "a/long/path/of/forty/characters/and/more",
            "float32",
            "1.5",
            "clip + log",
            "-",
            "9",
        )
    ),
    Line(texts=("a/long/path/of/forty/characters/and/more", "float16", "2.5", "fused", "-", "8")),
    Line(texts=("b", "float16", "3.5", "fused", "-", "7")),
)


def lines_of(width):
    return printed(width, lambda console: show(console, COLUMNS, LINES)).splitlines()


def test_columns_stand_side_by_side_where_they_fit():
    lines = lines_of(90)
    (row,) = (line for line in lines if "1.5" in line)
    assert row.startswith("a/long/path")
    assert sum("a/long/path" in line for line in lines) == 1  # told once for both rows
    head = next(line for line in lines if line.startswith("path"))
    assert head.index("route") == row.index("clip + log")


def test_the_path_gets_a_line_of_its_own_before_anything_is_left_out():
    lines = lines_of(60)
    assert "a/long/path/of/forty/characters/and/more" in lines
    (row,) = (line for line in lines if "1.5" in line)
    assert row.split() == ["float32", "1.5", "clip", "+", "log", "-", "9"]
    assert not any("Left out" in line for line in lines)


def test_empty_columns_go_first_and_what_tells_least_then_and_it_is_said():
    text = "\n".join(lines_of(36))
    assert "empty" not in text
    assert "Left out" not in text  # an empty column tells nothing
    text = " ".join("\n".join(lines_of(28)).split())
    assert "Left out at this width: last." in text
    text = " ".join("\n".join(lines_of(18)).split())
    assert "Left out at this width: route and last." in text
    assert "1.5" in text
    text = "".join(line.strip() for line in lines_of(6))
    assert "a/long/path/of/forty/characters/and/more" in text


def test_output_to_a_pipe_has_the_width_that_columns_asks_for(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "93")
    assert wide_console().width == 93
    for text in ("", "0", "wide", "-3"):
        monkeypatch.setenv("COLUMNS", text)
        assert wide_console().width == 176
    monkeypatch.delenv("COLUMNS")
    assert wide_console().width == 176
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["paths"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
