"""Comparing runs: what is called a regression, how often wrongly, and what is found."""

import io
import json
import math
import sqlite3
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from lossfuzz.campaign.store import FILE, Store
from lossfuzz.campaign.tasks import tasks_of
from lossfuzz.campaign.work import carry_out
from lossfuzz.cli import main
from lossfuzz.commands import compare as command
from lossfuzz.comparison import compare
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.records.seal import sealed
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.histogram import Histogram
from lossfuzz.harness.results.run import CellResult, RunResult
from lossfuzz.harness.results.summary import Summary
from lossfuzz.measuring import Measuring
from lossfuzz.plan import Plan
from lossfuzz.running import run
from lossfuzz.samples import CORRELATION, independent_samples
from lossfuzz.significance import excess_chance, false_discovery_limit, larger_chance
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import DEFAULT_SHAPES, SHAPES

pytestmark = pytest.mark.usefixtures("tf")

NAMES = ["tf.nn/fused", "keras/function/softmax-op"]
LEVEL = 0.01


def plan(**changes):
    fields = {
        "paths": tuple(paths_matching(NAMES)),
        "formats": (BINARY32,),
        "modes": ("eager",),
        "devices": ("CPU:0",),
        "shapes": ((64, 10),),
        "rows": 2048,
        "seed": 3,
    }
    return Plan(**{**fields, **changes})


@pytest.fixture(scope="module")
def result(tf):
    return run(plan())


@pytest.fixture(scope="module")
def other_seed(tf):
    return run(plan(seed=4))


@pytest.fixture(scope="module")
def pool(tf):
    """Summaries of single batches: cell to family to one for each of eight."""
    measuring = Measuring()
    results = [CellResult(cell) for cell in plan().cells()]
    measuring.find_routes(results)
    found = defaultdict(lambda: defaultdict(list))
    for recipe in plan(rows=8 * 16 * 64, seed=11).recipes(BINARY32):
        for one in results:
            one.summary = Summary()
        measuring.measure_batch(recipe, results)
        for one in results:
            found[one.cell][recipe.family].append(one.summary)
    return found


def copied(summary):
    return Summary.from_json(summary.to_json())


def resampled(pool, seed, turns, spoil=lambda *_: None):
    """A run as the plan makes them, every family as often, from batches that were measured."""
    generator = np.random.default_rng(seed)
    cells = []
    for cell, by_family in pool.items():
        result = CellResult(cell)
        for batches in by_family.values():
            for pick in generator.integers(len(batches), size=turns):
                result.summary.merge(batches[pick])
        cells.append(result)
    spoil(cells[0].summary, generator)
    rows = turns * 16 * 64
    made = plan(seed=seed, rows=rows).to_json()
    return RunResult(
        plan=made,
        environment={"versions": {}, "devices": []},
        cells=cells,
        worst=[],
        interrupted=False,
        reference_rows={},
        seconds={},
    )


def doubled(summary, _):
    for name in ("loss_ulp", "gradient_ulp", "rounding_ulp"):
        counts = getattr(summary, name).counts
        counts[33:-1] = counts[1:-33].copy()
        counts[1:33] = 0


def sometimes_nan(summary, generator):
    rows = generator.binomial(summary.judged, 0.02)
    summary.defects[kinds.NON_FINITE_LOSS] = int(rows)
    for histogram in (summary.loss_ulp, summary.rounding_ulp):
        kept = histogram.counts > 0
        histogram.counts[np.flatnonzero(kept)[0]] -= rows
        histogram.counts[-1] += rows


def statuses(comparison):
    return [cell.status for cell in comparison.cells]


@pytest.mark.parametrize(("level", "most"), [(LEVEL, 5), (0.3, 30)])
def test_other_seeds_alone_are_no_regression(pool, level, most):
    pairs = [
        (resampled(pool, 2 * turn, 2), resampled(pool, 2 * turn + 1, 2)) for turn in range(100)
    ]
    assert sum(compare(*pair, level=level).regression for pair in pairs) <= most


def test_real_runs_with_other_seeds_are_alike_in_either_order(result, other_seed):
    for pair in ((result, other_seed), (other_seed, result)):
        found = compare(*pair, level=LEVEL)
        assert statuses(found) == ["unchanged"] * 2
        assert not found.identical
        assert not any(cell.same_rows for cell in found.cells)


@pytest.mark.parametrize("spoil", [doubled, sometimes_nan])
def test_a_planted_regression_is_found_and_its_reverse_is_an_improvement(pool, spoil):
    found = reverse = 0
    for turn in range(20):
        before = resampled(pool, 2 * turn, 40)
        after = resampled(pool, 2 * turn + 1, 40, spoil)
        worse, better = compare(before, after, level=LEVEL), compare(after, before, level=LEVEL)
        found += worse.regression and statuses(worse) == ["worse", "unchanged"]
        reverse += not better.regression and statuses(better) == ["better", "unchanged"]
    assert found == reverse >= 19


def test_a_new_kind_of_defect_is_named(pool):
    found = compare(resampled(pool, 0, 40), resampled(pool, 1, 40, sometimes_nan), level=LEVEL)
    changes = [change for change in found.cells[0].changes if change.direction == "worse"]
    assert [(one.measure, one.news, one.before) for one in changes] == [
        (kinds.NON_FINITE_LOSS, "new", (0.0,))
    ]
    assert found.smallest_new_share < 0.02


def test_a_certain_shift_of_a_tenth_or_less_is_none(pool):
    def raised(summary, _):
        for name in ("loss_ulp", "gradient_ulp", "rounding_ulp"):
            counts = getattr(summary, name).counts
            counts[5:-1] = counts[1:-5].copy()

    before, after = resampled(pool, 0, 2000), resampled(pool, 1, 2000, raised)
    assert statuses(compare(before, after, level=LEVEL)) == ["unchanged"] * 2


def test_the_same_plan_and_seed_are_identical(result, tf):
    again = run(plan())
    found = compare(result, again, level=LEVEL)
    assert found.identical
    assert all(cell.same_rows for cell in found.cells)
    assert not found.regression


def changed(result, number, **summary):
    cells = list(result.cells)
    cell = cells[number]
    cells[number] = replace(cell, summary=replace(copied(cell.summary), **summary))
    return replace(result, cells=cells)


def test_on_the_same_rows_one_new_defect_is_a_regression(result):
    worse = changed(result, 0, defects={kinds.NON_FINITE_GRADIENT: 1})
    assert statuses(compare(result, worse, level=LEVEL)) == ["worse", "unchanged"]
    assert statuses(compare(worse, result, level=LEVEL)) == ["better", "unchanged"]


def test_on_the_same_rows_a_small_difference_is_told_but_no_regression(result):
    counts = dict(result.cells[1].summary.defects)
    counts[kinds.SATURATION] += 1
    found = compare(result, changed(result, 1, defects=counts), level=LEVEL)
    assert statuses(found) == ["unchanged", "changed"]
    assert not found.regression
    assert not found.identical


def test_on_the_same_rows_doubled_errors_are_worse(result):
    after = changed(result, 0)
    doubled(after.cells[0].summary, None)
    assert statuses(compare(result, after, level=LEVEL)) == ["worse", "unchanged"]
    assert statuses(compare(after, result, level=LEVEL)) == ["better", "unchanged"]


def test_fewer_rows_of_the_same_seed_are_not_the_same_rows(result, tf):
    found = compare(result, run(plan(rows=1024)), level=LEVEL)
    assert not any(cell.same_rows for cell in found.cells)
    assert statuses(found) == ["unchanged"] * 2


def test_a_crash_on_the_same_plan_is_a_regression_though_rows_are_missing(result, pool):
    cell = result.cells[0]
    part = Summary()
    for batches in pool[cell.cell].values():
        part.merge(batches[0])
    part.defects[kinds.CRASH] = 1
    crashed = replace(result, cells=[replace(cell, summary=part), result.cells[1]])
    assert statuses(compare(result, crashed, level=LEVEL)) == ["worse", "unchanged"]
    assert not compare(crashed, result, level=LEVEL).regression


def test_cells_that_come_go_or_stop_running_and_routes_are_told(result):
    first, second = result.cells
    gone = replace(result, cells=[replace(first, unavailable="no kernel", summary=Summary())])
    found = compare(result, gone, level=LEVEL)
    assert statuses(found) == ["unavailable now", "only in A"]
    assert found.regression
    back = compare(gone, result, level=LEVEL)
    assert statuses(back) == ["available now", "only in B"]
    assert not back.regression
    rerouted = replace(result, cells=[first, replace(second, route=first.route)])
    assert [cell.other_route for cell in compare(result, rerouted, level=LEVEL).cells] == [
        False,
        True,
    ]


def test_the_exact_test_is_the_hypergeometric_tail():
    for few, first, many, second in ((0, 9, 4, 9), (2, 30, 11, 25), (1, 7, 3, 40)):
        shown = few + many
        ways = [
            math.comb(second, here) * math.comb(first, shown - here)
            for here in range(many, min(shown, second) + 1)
        ]
        exact = sum(ways) / math.comb(first + second, shown)
        if many / second > few / first:
            assert excess_chance(few, first, many, second) == pytest.approx(exact, rel=1e-9)
    assert excess_chance(5, 10, 5, 10) == 1.0
    assert excess_chance(0, 10**6, 60, 10**6) == pytest.approx(2.0**-60, rel=1e-2)


def test_the_test_of_errors_is_exact_for_equal_sizes():
    small, large = Histogram(), Histogram()
    small.add(np.full(4, 1.0))
    large.add(np.full(4, 3.0))
    assert larger_chance(small, 4, large, 4) == pytest.approx(1 / math.comb(8, 4))
    assert larger_chance(large, 4, small, 4) == 1.0


def test_the_false_discovery_limit():
    assert false_discovery_limit([0.5, 0.001, 0.004, 0.9], 0.01) == 0.004
    assert false_discovery_limit([0.5, 0.02], 0.01) == -1.0
    assert false_discovery_limit([], 0.01) == -1.0


@pytest.fixture
def written(result, other_seed, tmp_path):
    """Both runs' results, and a campaign of the first plan."""
    for name, one in (("a.json", result), ("b.json", other_seed)):
        (tmp_path / name).write_text(json.dumps(one.to_json()))
    (tmp_path / "campaign").mkdir()
    store = Store.create(tmp_path / "campaign", plan().to_json())
    for task in tasks_of(plan()):
        store.finish(task.number, carry_out(task, plan(), Measuring()))
    store.keep("complete", value=True)
    store.close()
    return tmp_path


def test_the_command_compares_results_and_campaigns(written, result, capsys):
    assert main(["compare", str(written / "a.json"), str(written / "b.json")]) == 0
    assert "0 cells got worse, 0 better, 2 unchanged" in capsys.readouterr().out
    assert main(["compare", str(written / "a.json"), str(written / "campaign")]) == 0
    assert capsys.readouterr().out.startswith("identical: 2 cells")

    defects = {**result.cells[1].summary.defects, kinds.REFUSAL: 64}
    worse = changed(result, 1, defects=defects)
    (written / "worse.json").write_text(json.dumps(worse.to_json()))
    record = written / "comparison.json"
    pair = [str(written / "a.json"), str(written / "worse.json")]
    assert main(["compare", *pair, "--json", str(record)]) == 1
    told = capsys.readouterr().out
    assert "new refusal" in told
    assert "1 cell got worse, 0 better, 1 unchanged; 1 new kind of finding, 0 vanished." in told
    read = json.loads(record.read_text())
    assert read["regression"] is True
    assert read["verdict"] in told
    assert main(["compare", *pair[::-1], "--quiet"]) == 0


@pytest.mark.parametrize(
    ("spoiled", "told"),
    [
        ("missing", "cannot read"),
        ("folder", "holds no campaign"),
        ("text.json", "is no JSON"),
        ("other.json", "holds no results"),
        ("newer.json", "has schema '3', this lossfuzz reads 1 and 2"),
        ("damaged.json", "cannot be read here (the field 'judged' is missing)"),
        ("unknown.json", "unknown"),
        ("sqlite", "but no campaign of lossfuzz"),
        ("losses.json", "no cell in common"),
    ],
)
def test_what_cannot_be_compared_is_told_in_one_line(written, result, capsys, spoiled, told):
    record = json.loads((written / "a.json").read_text())
    (written / "folder").mkdir()
    (written / "sqlite").mkdir()
    sqlite3.connect(written / "sqlite" / FILE).execute("CREATE TABLE one (two)").connection.close()
    (written / "text.json").write_text("{")
    (written / "other.json").write_text("[]")
    (written / "newer.json").write_text(json.dumps({**record, "schema": 3}))
    unknown = [{**record["cells"][0], "path": "keras/none"}]
    (written / "unknown.json").write_text(json.dumps(sealed({**record, "cells": unknown})))
    other = replace(result.cells[0].cell, path=paths_matching(["*kl*"])[0])
    losses = replace(result, cells=[replace(result.cells[0], cell=other)])
    (written / "losses.json").write_text(json.dumps(losses.to_json()))
    del record["cells"][0]["summary"]["judged"]
    (written / "damaged.json").write_text(json.dumps(sealed(record)))
    assert main(["compare", str(written / "a.json"), str(written / spoiled)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert told in lines[0]


def test_a_level_is_a_chance(written, capsys):
    pair = [str(written / "a.json"), str(written / "b.json")]
    assert main(["compare", *pair, "--level", "1"]) == 2
    assert "--level expects a chance between 0 and 1, got 1" in capsys.readouterr().err


def test_long_tables_are_cut_and_modes_share_a_line(result):
    cell = result.cells[0]
    cells = [
        replace(cell, cell=replace(cell.cell, mode=mode)) for mode in ("eager", "graph", "xla")
    ]
    spoiled = replace(copied(cell.summary), defects={kinds.SIGN_FLIP: 9})
    before = replace(result, cells=cells)
    after = replace(result, cells=[replace(one, summary=spoiled) for one in cells])
    console = Console(file=io.StringIO(), width=176)
    command._show(compare(before, after, level=LEVEL), console)
    lines = [line for line in console.file.getvalue().splitlines() if "sign flip" in line]
    assert len(lines) == 1
    assert "eager graph xla" in lines[0]


@pytest.mark.parametrize(
    ("families", "shapes", "rows"),
    [
        (tuple(FAMILIES), DEFAULT_SHAPES, 6240),
        (tuple(FAMILIES), SHAPES, 50_000),
        (("normal", "outlier", "constant"), ((64, 10), (2, 4, 2100)), 500),
        (("normal",), ((256, 3), (4, 32000), (8, 32, 10)), 3_000),
        (tuple(FAMILIES)[:5], ((7, 3),), 1),
    ],
)
def test_independent_samples_are_those_of_the_plans_own_recipes(families, shapes, rows):
    plan = Plan(families=families, shapes=shapes, rows=rows, devices=("CPU:0",))
    sizes = [(math.prod(one.shape[:-1]), math.prod(one.shape)) for one in plan.recipes(BINARY32)]
    counted = sum(size for size, _ in sizes)
    summary = Summary(rows=counted, judged=counted)
    summary.loss_ulp.add(np.zeros(counted))
    for place, found in enumerate(independent_samples(plan.to_json(), summary)):
        weights = [size[place] for size in sizes]
        inflated = [
            weight**2 * (CORRELATION + (1 - CORRELATION) / size[0])
            for weight, size in zip(weights, sizes, strict=True)
        ]
        assert found == pytest.approx(sum(weights) ** 2 / sum(inflated))


def test_the_default_runs_samples_are_what_its_batches_are_worth():
    plan = Plan(devices=("CPU:0",))
    summary = Summary(rows=6240, judged=6240)
    summary.loss_ulp.add(np.zeros(6240))
    assert independent_samples(plan.to_json(), summary) == pytest.approx((20.6, 28.9), abs=0.05)
