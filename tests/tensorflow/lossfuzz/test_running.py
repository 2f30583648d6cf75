"""Runs in this process: what a plan leaves behind."""

import json
from dataclasses import replace

import pytest

from lossfuzz.cli import main
from lossfuzz.harness.exact import kernel
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.plan import Plan
from lossfuzz.running import run

pytestmark = pytest.mark.usefixtures("tf")


def plan(**changes):
    fields = {
        "paths": tuple(
            paths_matching(
                ["keras/function/softmax-op", "keras/function/softmax-identity", "tf.nn/fused"]
            )
        ),
        "formats": (BINARY32,),
        "devices": ("CPU:0",),
        "shapes": ((64, 10), (4, 8, 5)),
        "rows": 2048,
        "seed": 3,
    }
    return Plan(**{**fields, **changes})


@pytest.fixture(scope="module")
def result(tf):
    return run(plan())


def test_every_cell_has_its_route_and_rows(result):
    routes = {(one.cell.path.name, one.cell.mode): one.route.name for one in result.cells}
    assert routes["keras/function/softmax-op", "eager"] == "clip + log"
    assert routes["keras/function/softmax-op", "xla"] == "softmax skipped"
    assert {one.summary.rows for one in result.cells} == {2048}


def test_the_worst_findings_are_small_and_of_different_kinds(result):
    defects = [finding for finding in result.worst if finding.tier == DEFECT]
    assert len({finding.kind for finding in defects}) == len(defects) > 3
    assert sum(len(finding.logits) <= 3 for finding in defects) >= len(defects) / 2


def test_the_cliff_of_the_clip_route_is_seen(result):
    clipped = [one.summary for one in result.cells if one.route.name == "clip + log"]
    assert [one.plateau for one in clipped] == pytest.approx([16.118] * len(clipped), abs=1e-3)
    assert min(summary.vanishing_margin for summary in clipped) == pytest.approx(16.118, abs=0.01)


def test_modes_that_take_other_routes_disagree(result):
    eager = next(
        one
        for one in result.cells
        if one.cell.path.name == "keras/function/softmax-op" and one.cell.mode == "eager"
    )
    assert eager.summary.defects["mode disagreement"] > 0


def test_results_are_json_without_times(result):
    text = json.dumps(result.to_json(), allow_nan=False)
    assert "tensorflow" not in json.loads(text).get("seconds", {})
    assert result.seconds["tensorflow"] > 0


def test_an_interrupted_run_keeps_what_it_has(tf):
    def stop(done, *_):
        if done == 3:
            raise KeyboardInterrupt

    stopped = run(plan(modes=("eager",)), progress=stop)
    assert stopped.interrupted
    assert {one.summary.rows for one in stopped.cells} == {64 + 32 + 64}
    assert stopped.worst


def test_a_path_that_refuses_leaves_the_others_running(tf):
    def refuse(*_):
        raise NotImplementedError("not in this version")

    fused = paths_matching(["tf.nn/fused"])[0]
    broken = replace(fused, name="tf.nn/broken", call=refuse)
    done = run(plan(paths=(broken, fused), modes=("eager",), rows=64))
    assert done.cells[0].unavailable == "NotImplementedError: not in this version"
    assert done.cells[0].summary.rows == 0
    assert done.cells[1].summary.rows == 64


def test_a_path_that_refuses_some_rows_is_told_by_such_a_row_and_goes_on(tf):
    def picky(logits, labels, _):
        tf.debugging.assert_less(tf.reduce_max(logits), 1000.0)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    fused = paths_matching(["tf.nn/fused"])[0]
    path = replace(fused, name="tf.nn/picky", call=picky)
    changes = {"modes": ("eager",), "families": ("normal", "outlier"), "shapes": ((64, 10),)}
    (cell,) = run(plan(paths=(path,), rows=640, **changes)).cells
    finding = cell.findings["refusal", DEFECT]
    assert cell.unavailable is None
    assert cell.summary.rows == 640
    assert 0 < cell.summary.defects["refusal"] < 640
    assert max(finding.logits) >= 1000
    assert "InvalidArgumentError" in finding.message


def test_keras_refuses_valid_labels_that_a_half_format_rounds_up(tf):
    path = paths_matching(["keras/class-own-dtype/from-logits"])
    changes = {"families": ("large_labels",), "formats": (BFLOAT16,), "shapes": ((128, 1000),)}
    done = run(plan(paths=tuple(path), modes=("eager",), rows=256, **changes))
    finding = done.cells[0].findings["refusal", DEFECT]
    assert finding.label in (997, 999)
    assert "label value of 1000" in finding.message


def test_a_wrong_reference_stops_the_run_with_the_row(tf, monkeypatch, capsys, tmp_path):
    sum_of = kernel._folded_sum
    monkeypatch.setattr(kernel, "_folded_sum", lambda terms: sum_of(terms) * 1.001)
    arguments = ["--paths", "tf.nn/fused", "--modes", "eager", "--shapes", "64x10"]
    code = main(["run", *arguments, "--rows", "512", "--out", str(tmp_path)])
    captured = capsys.readouterr()
    assert code == 3
    assert captured.err.startswith("lossfuzz: audit: the reference has")
    assert "of logits [" in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": 0}, "budget above 0, got 0"),
        ({"rows": None}, "not both and not neither"),
        ({"seconds": 3.0}, "not both and not neither"),
        ({"rows": None, "seconds": float("inf")}, "budget of at most 100,000,000 sec"),
        ({"seed": -1}, "seed of 0 or more"),
    ],
)
def test_impossible_plans_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        plan(**changes)
