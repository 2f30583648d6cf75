"""Findings grouped by cause: pure functions of cells, rows and what was made small."""

import json
import math
from dataclasses import replace

import pytest

from lossfuzz.harness.losses.binary import BINARY_CROSS_ENTROPY
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.route import Route
from lossfuzz.harness.paths.table import PATHS, path_named
from lossfuzz.harness.results import kinds, regions
from lossfuzz.harness.results.causes import (
    MOST_SHRUNK,
    causes_of,
    finding_key,
    findings_to_shrink,
    joined_causes,
)
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.kinds import DEFECT, INACCURACY
from lossfuzz.harness.results.regions import region_of
from lossfuzz.harness.results.run import CellResult


def finding(cell, logits, *, kind=kinds.SATURATION, tier=DEFECT, mixed=1e6, row=0):
    return Finding(
        kind=kind,
        tier=tier,
        loss=cell.path.loss.name,
        path=cell.path.name,
        format=cell.format.dtype_name,
        mode=cell.mode,
        device=cell.device,
        logits=tuple(logits),
        label=0,
        loss_dtype="float32",
        observed_loss=16.0,
        exact_loss=20.0,
        observed_gradient=(0.0,) * len(logits),
        exact_gradient=(0.0,) * len(logits),
        ulp_error=9.0,
        mixed_error=mixed,
        bound=10.0,
        margin=20.0,
        recipe={"seed": 1},
        row=row,
    )


def result_of(logits, *, mode="eager", fmt=BINARY32, route="clip + log", path=None, **options):
    path = path or path_named("keras/function/softmax-op")
    cell = Cell(path=path, format=fmt, mode=mode, device="CPU:0")
    one = finding(cell, logits, **options)
    result = CellResult(cell, route=Route(name=route, operations=()))
    result.findings[one.kind, one.tier] = one
    result.summary.defects[one.kind] = 5
    return result


def only(result):
    (one,) = result.findings.values()
    return one


def test_cells_with_the_same_cause_have_one_cause():
    cells = [result_of([0.0, 30.0]), result_of([0.0, 40.0], fmt=BINARY16)]
    (cause,) = causes_of(cells, {})
    assert cause.cells == tuple(one.cell.name for one in cells)
    assert cause.formats == ("float32", "float16")
    assert cause.modes == ("eager",)
    assert cause.rows == 10
    assert cause.region == regions.LOSES_BY_FAR
    assert not cause.shrunk


@pytest.mark.parametrize(
    "other",
    [
        {"route": "fused on logits"},
        {"kind": kinds.GRADIENT_COLLAPSE},
        {"tier": INACCURACY},
        {"path": path_named("keras/function/softmax-cast")},
        {"logits": [0.0, -math.inf]},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_route_kind_tier_path_or_region_is_another_cause(other):
    cells = [
        result_of([0.0, 30.0]),
        result_of(**{"logits": [0.0, 30.0], "mode": "graph", **other}),
    ]
    assert len(causes_of(cells, {})) == 2


def test_groups_whose_small_rows_lie_in_one_region_are_one_cause_with_the_simpler_row():
    cells = [result_of([0.0, 30.0]), result_of([1000.0, 1030.5, 1001.0], fmt=BINARY16)]
    assert len(causes_of(cells, {})) == 2
    small = {
        finding_key(only(one)): replace(only(one), logits=(0.0, margin), target=())
        for one, margin in zip(cells, (18.0, 17.0), strict=True)
    }
    (cause,) = causes_of(cells, small)
    assert cause.shrunk
    assert cause.finding.logits == (0.0, 17.0)
    assert len(cause.cells) == 2


def test_defects_come_first_and_those_that_are_shown_before_them():
    inaccurate = result_of([0.0, 30.0], tier=INACCURACY, mixed=1.0)
    defect = result_of([0.0, 30.0], kind=kinds.GRADIENT_COLLAPSE, mode="graph")
    shown = result_of([0.0, 30.0], mode="xla", tier=INACCURACY, kind=kinds.SIGN_FLIP)
    cells = [inaccurate, defect, shown]
    chosen = findings_to_shrink(cells, [only(shown)])
    assert chosen == [only(shown), only(defect), only(inaccurate)]
    assert [cause.tier for cause in causes_of(cells, {})] == [DEFECT, INACCURACY, INACCURACY]


def test_of_a_group_the_quickest_mode_is_shrunk_unless_another_is_shown():
    eager, xla = result_of([0.0, 30.0]), result_of([0.0, 31.0], mode="xla", mixed=1e9)
    assert findings_to_shrink([eager, xla], []) == [only(eager)]
    assert findings_to_shrink([eager, xla], [only(xla)]) == [only(xla)]


def test_no_more_are_shrunk_than_the_limit_allows():
    places = ([0.0, 30.0], [0.0, -math.inf], [0.0, 0.0], [100.0, 100.5], [0.0, 1.0], [1.0, 0.0])
    cells = [result_of(row, path=path, row=k) for path in PATHS for k, row in enumerate(places)]
    assert len(cells) > MOST_SHRUNK
    assert len(findings_to_shrink(cells, [])) == MOST_SHRUNK
    shown = [only(one) for one in cells]
    assert findings_to_shrink(cells, shown) == shown


def test_a_compiled_cell_counts_for_more():
    slow = [result_of([0.0, 30.0], path=path, mode="xla", row=k) for k, path in enumerate(PATHS)]
    assert len(findings_to_shrink(slow, [])) == MOST_SHRUNK // 4


def test_causes_of_two_runs_join():
    one, two = (causes_of([result_of([0.0, 30.0], mode=mode)], {}) for mode in ("eager", "xla"))
    (both,) = joined_causes([*one, *two])
    assert both.modes == ("eager", "xla")
    assert both.rows == 10


def test_a_cause_is_json_and_writes_its_row_once_it_is_small():
    result = result_of([0.0, 30.0])
    small = {finding_key(only(result)): only(result)}
    for known, written in ((small, True), ({}, False)):
        (cause,) = causes_of([result], known)
        record = json.loads(json.dumps(cause.to_json(), allow_nan=False))
        assert ("logits" in record["finding"]) == record["shrunk"] == written


@pytest.mark.parametrize(
    ("logits", "label", "region"),
    [
        ([], 0, regions.NO_ROW),
        ([0.0, -math.inf], 0, regions.MASKED),
        ([0.0, 3e38], 0, regions.LARGEST),
        ([1000.0, 1001.0], 0, regions.OFFSET),
        ([-1000.0, -1001.0], 1, regions.OFFSET),
        ([0.0, 17.0], 0, regions.LOSES_BY_FAR),
        ([0.0, 17.0], 1, regions.WINS_BY_FAR),
        ([0.0, 1e-40], 0, regions.SUBNORMAL),
        ([0.0] * 33, 0, regions.MANY_CLASSES),
        ([3.0, 3.0], 0, regions.TIES),
        ([0.0, 0.0], 0, regions.TIES),
        ([0.0, 3.0], 0, regions.LOSES),
        ([0.0, 3.0], 1, regions.WINS),
        ([5.0], 0, regions.TIES),
    ],
)
def test_the_region_of_a_row(logits, label, region):
    assert region_of(logits, label, (), SOFTMAX_CROSS_ENTROPY, BINARY32) == region


def test_the_region_follows_the_format_and_the_loss():
    assert region_of([0.0, 9.0], 0, (), SOFTMAX_CROSS_ENTROPY, BINARY32) == regions.LOSES
    assert region_of([0.0, 9.0], 0, (), SOFTMAX_CROSS_ENTROPY, BINARY16) == regions.LOSES_BY_FAR
    binary = BINARY_CROSS_ENTROPY
    assert region_of([18.0, 0.0], 0, (1.0, 0.0), binary, BINARY32) == regions.TIES
    assert region_of([18.0, 0.0], 0, (0.0, 0.0), binary, BINARY32) == regions.LOSES_BY_FAR
    assert region_of([2.0, 5.0], 1, (0.0, 0.0), SOFTMAX_CROSS_ENTROPY, BINARY32) == regions.IGNORED
