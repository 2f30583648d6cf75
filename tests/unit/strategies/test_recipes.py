import math
import time

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from lossfuzz.harness.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    TRAINING_FORMATS,
    format_named,
)
from lossfuzz.plan import Plan
from lossfuzz.strategies.cases import recipes
from lossfuzz.strategies.families import FAMILIES, family_named
from lossfuzz.strategies.recipes import (
    DEFAULT_SHAPES,
    SHAPES,
    Recipe,
    expand,
    planned_count,
    planned_recipes,
)
from lossfuzz.strategies.sizes import margin_thresholds

small = tuple(shape for shape in SHAPES if shape[-1] < 2000)


def batch(family, fmt=BINARY32, shape=(256, 10), magnitude=0.5, seed=1):
    return expand(
        Recipe(family=family, format=fmt.dtype_name, shape=shape, seed=seed, magnitude=magnitude)
    )


@given(recipes(shapes=small))
def test_a_batch_is_what_its_recipe_says(recipe):
    made = expand(recipe)
    assert made.logits.shape == recipe.shape
    assert made.labels.shape == recipe.shape[:-1]
    assert made.logits.dtype == format_named(recipe.format).dtype
    assert made.labels.dtype == np.int32
    assert made.labels.min() >= 0
    assert made.labels.max() < recipe.shape[-1]
    assert not np.isnan(made.logits.astype(np.float64)).any()
    assert not np.isposinf(made.logits.astype(np.float64)).any()


@given(recipes(shapes=small))
def test_a_recipe_expands_to_the_same_batch_every_time(recipe):
    first, second = expand(recipe), expand(Recipe.from_json(recipe.to_json()))
    assert first.logits.tobytes() == second.logits.tobytes()
    assert first.labels.tobytes() == second.labels.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_fills_every_shape(family, shape):
    assert batch(family, BFLOAT16, shape).logits.shape == shape


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_only_masks_hold_infinities(fmt):
    for family in FAMILIES:
        for magnitude in (0.0, 0.5, 0.999):
            made = batch(family, fmt, magnitude=magnitude).logits.astype(np.float64)
            assert np.isinf(made).any() == (family == "masks")


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_margins_sweep_across_every_threshold(fmt):
    made = np.sort(batch("margin_sweep", fmt, magnitude=0.9).rows.astype(np.float64), axis=1)
    margins = made[:, -1] - made[:, 0]
    assert margins.min() == 0
    assert margins.max() > margin_thresholds(fmt).max()
    assert np.diff(np.sort(margins)).max() < margins.max() / 100


def test_families_hold_what_their_names_say():
    constant = batch("constant").rows
    assert (constant == constant[:, :1]).all()
    ties = np.sort(batch("ties", magnitude=0.1).rows, axis=1)
    assert (ties[:, -1] == ties[:, -2]).mean() > 0.3
    assert (batch("far_below_zero").rows < -8).all()
    zeros = batch("zeros", magnitude=0.0).rows
    assert (zeros == 0).all()
    assert np.signbit(zeros).any()
    assert not np.signbit(zeros).all()
    tiny = batch("subnormals", BINARY16, magnitude=0.0).rows
    assert (np.abs(tiny) <= BINARY16.smallest_normal).all()
    largest = np.abs(batch("largest_finite").rows.astype(np.float64))
    assert ((largest == 0) | (largest > 0.99 * BINARY32.largest_finite)).all()
    masked = np.isneginf(batch("masks").rows)
    assert masked.any(axis=1).mean() > 0.5


def test_families_of_arrangements_hold_what_their_names_say():
    halves = batch("whole_numbers").rows.astype(np.float64) * 8
    assert (halves == np.round(halves)).all()
    equal = batch("equal_rows").rows
    assert (equal == equal[:1]).all()
    near = batch("clusters", magnitude=0.2).rows.astype(np.float64)
    assert (np.ptp(near, axis=1) < 1e-3 * np.abs(near).max(axis=1)).all()
    lone = np.abs(batch("lone_row").rows).max(axis=1)
    assert (lone < 32).sum() == 252
    ordered = np.diff(batch("patterns").rows, axis=1)
    assert (ordered >= 0).all(axis=1).any()
    assert (ordered <= 0).all(axis=1).any()
    assert (np.sign(ordered[:, 1:]) == -np.sign(ordered[:, :-1])).all(axis=1).any()
    masks = batch("finite_masks", BINARY16).rows.astype(np.float64).min(axis=1)
    assert {-1e4, -BINARY16.largest_finite} <= set(masks.tolist())
    sizes = np.abs(batch("magnitudes", magnitude=0.0).rows.astype(np.float64))
    assert sizes.min() < 1e-30
    assert sizes.max() > 1e30


def test_decided_rows_win_and_lose_by_every_margin_with_the_first_label():
    made = batch("decided", magnitude=0.9)
    leads = made.rows[:, 0].astype(np.float64)
    assert (made.row_labels == 0).all()
    assert leads.min() < -margin_thresholds(BINARY32).max()
    assert leads.max() > margin_thresholds(BINARY32).max()


@pytest.mark.parametrize("fmt", [BINARY16, BFLOAT16], ids=lambda fmt: fmt.name)
def test_default_shapes_have_labels_that_halves_cannot_count(fmt):
    made = batch("large_labels", fmt, DEFAULT_SHAPES[-1])
    assert (made.row_labels.astype(fmt.dtype).astype(np.int64) != made.row_labels).any()


def test_labels_fall_on_first_last_winning_losing_and_masked_classes():
    made = batch("masks", shape=(64, 257))
    rows = np.arange(64)
    chosen = made.rows[rows, made.row_labels]
    assert (made.row_labels == 0).any()
    assert (made.row_labels == 256).any()
    assert (chosen == made.rows.max(axis=1)).any()
    assert np.isneginf(batch("masks", seed=3, shape=(256, 10)).rows).any()


def test_large_labels_are_odd_ones_that_halves_cannot_count():
    made = batch("large_labels", shape=(32, 32000))
    assert made.row_labels.min() > 2048
    assert (made.row_labels.astype(np.float16).astype(np.int64) != made.row_labels).any()


def plan(rows, seed=0):
    return list(
        planned_recipes(families=tuple(FAMILIES), fmt=BINARY16, shapes=small, rows=rows, seed=seed)
    )


def test_a_longer_plan_begins_with_the_shorter_one():
    assert plan(9000)[: len(plan(3000))] == plan(3000)


def test_plans_depend_on_their_seed_and_reach_their_rows():
    assert plan(3000, seed=1) != plan(3000, seed=2)
    assert sum(int(np.prod(recipe.shape[:-1])) for recipe in plan(3000)) >= 3000


def test_an_unknown_family_lists_the_known_ones():
    with pytest.raises(
        ValueError, match="unknown family 'nice'; known families: margin_sweep, whole_numbers"
    ):
        family_named("nice")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (3,)}, "expected a shape"),
        ({"shape": (0, 3)}, "expected a shape"),
        ({"magnitude": 1.0}, "magnitude < 1"),
        ({"seed": -1}, "seed >= 0"),
        ({"format": "int8"}, "unknown format"),
    ],
)
def test_impossible_recipes_are_refused(change, message):
    fields = {
        "family": "normal",
        "format": "float16",
        "shape": (2, 3),
        "seed": 0,
        "magnitude": 0.0,
    }
    with pytest.raises(ValueError, match=message):
        Recipe(**{**fields, **change})


@given(
    st.integers(1, 5),
    st.lists(st.sampled_from([(1, 2), (7, 3), (2, 4, 5), (512, 10)]), min_size=1, max_size=4),
    st.integers(1, 3000),
    st.integers(0, 40),
)
def test_a_plan_is_counted_without_drawing_and_begun_anywhere(families, shapes, rows, first):
    families = tuple(FAMILIES)[:families]
    drawn = [
        *planned_recipes(families=families, fmt=BINARY16, shapes=shapes, rows=rows, seed=3),
    ]
    assert planned_count(families, shapes, rows) == len(drawn)
    later = planned_recipes(
        families=families, fmt=BINARY16, shapes=shapes, rows=rows, seed=3, first=first
    )
    assert [*later] == drawn[first:]
    # as it was counted before: a batch for as long as rows are missing
    counts = [math.prod(one.shape[:-1]) for one in drawn]
    assert sum(counts[:-1]) < rows <= sum(counts)


def test_a_plan_of_any_size_is_counted_at_once():
    plan = Plan(rows=10**12)
    started = time.perf_counter()
    assert plan.batches() == len(plan.formats) * plan.recipes_per_format()
    assert plan.recipes_per_format() > 10**9
    assert next(plan.recipes(BINARY16, first=10**9)).family in FAMILIES
    assert time.perf_counter() - started < 1
