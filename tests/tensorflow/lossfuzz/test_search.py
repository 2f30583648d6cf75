"""Search: what a share of the budget finds that the plan alone does not."""

import json
import math
from dataclasses import replace

import pytest

from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.plan import DEFAULT_ROWS, DEFAULT_SEARCH, Plan
from lossfuzz.running import run
from lossfuzz.search import Corpus
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import DEFAULT_SHAPES

pytestmark = pytest.mark.usefixtures("tf")

WHERE, WIDTH = 37.3, 0.008


def breaks_in_a_window(logits, labels, _):
    """Sound but for losses within a narrow window, and a little worse the nearer they come."""
    import tensorflow as tf

    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    distance = tf.abs(tf.stop_gradient(loss) - WHERE)
    drift = 1 + 2.0**-21 / (1 + distance)
    return tf.where(distance < WIDTH, loss * 2, loss * drift)


def plan(**changes):
    (fused,) = paths_matching(["tf.nn/fused"])
    fields = {
        "paths": (replace(fused, name="tf.nn/window", call=breaks_in_a_window),),
        "formats": (BINARY32,),
        "modes": ("eager",),
        "devices": ("CPU:0",),
        "families": ("normal", "outlier", "uniform"),
        "shapes": ((32, 4),),
        "rows": 3072,
    }
    return Plan(**{**fields, **changes})


def finds(chosen):
    (cell,) = run(chosen).cells
    return any(tier == DEFECT for _, tier in cell.findings)


def test_search_finds_what_as_many_planned_rows_miss(tf):
    seeds = range(6)
    searched = [finds(plan(seed=seed, search=1.0)) for seed in seeds]
    planned = [finds(plan(seed=seed, rows=6144, search=0.0)) for seed in seeds]
    assert sum(searched) >= 5
    assert sum(planned) <= 2


@pytest.fixture(scope="module")
def with_and_without(tf):
    clips = tuple(paths_matching(["keras/function/softmax-op", "tf.nn/fused"]))
    changes = {"paths": clips, "families": tuple(FAMILIES), "modes": ("eager", "graph")}
    return [run(plan(search=search, **changes)) for search in (0.5, 0.5, 0.0)]


def test_search_leaves_the_statistics_alone(with_and_without):
    searched, _, planned = with_and_without
    for one, other in zip(searched.cells, planned.cells, strict=True):
        assert one.summary.to_json() == other.summary.to_json()
        assert other.searched == 0
        assert one.searched == one.summary.rows // 2
        assert set(one.findings) >= set(other.findings)
        for key, finding in other.findings.items():
            assert one.findings[key].severity >= finding.severity


def test_search_is_a_function_of_plan_and_seed(with_and_without):
    first, second, planned = (json.dumps(one.to_json()) for one in with_and_without)
    assert first == second
    assert first != planned


def test_cells_that_break_know_their_exact_margins(with_and_without):
    cells = {(one.cell.path.name, one.cell.mode): one for one in with_and_without[0].cells}
    margins = [one.margin for one in cells["keras/function/softmax-op", "eager"].cliffs]
    assert any(16.118 < margin < 16.1181 for margin in margins)
    assert cells["tf.nn/fused", "eager"].cliffs == ()


def test_a_corpus_that_learnt_nothing_has_no_mutant():
    assert Corpus(plan(), 0).mutant() is None


def test_a_share_of_the_batches_is_searched():
    for share in (0.0, 0.25, 1.0, 2.5):
        turns = [plan(search=share).mutants_after(number) for number in range(48)]
        assert sum(turns) == 48 * share
        assert max(turns) - min(turns) <= 1


@pytest.mark.parametrize("share", [-0.1, 17, float("nan")])
def test_impossible_shares_are_refused(share):
    with pytest.raises(ValueError, match="expected a search of 0 to 16"):
        plan(search=share)


def test_the_default_rows_are_every_family_once_with_all_default_shapes():
    chosen = Plan()
    recipes = list(chosen.recipes(BINARY32))
    assert [one.family for one in recipes] == list(FAMILIES)
    assert {one.shape for one in recipes} == set(DEFAULT_SHAPES)
    twice = replace(chosen, rows=2 * DEFAULT_ROWS).recipes(BINARY32)
    assert {(one.family, one.shape) for one in twice} == {
        (family, shape) for family in FAMILIES for shape in DEFAULT_SHAPES
    }
    rows = sum(math.prod(one.shape[:-1]) for one in recipes)
    assert chosen.rows == DEFAULT_ROWS == rows
    assert chosen.search == DEFAULT_SEARCH


def test_a_plan_without_a_search_in_its_record_has_none():
    record = Plan().to_json()
    del record["search"]
    assert Plan.from_json(record).search == 0
