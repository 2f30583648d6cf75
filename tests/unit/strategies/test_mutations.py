import math

import numpy as np
import pytest
from hypothesis import given, target
from hypothesis import strategies as st

from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BINARY32, TRAINING_FORMATS
from lossfuzz.strategies.cases import recipes
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.mutations import mutated
from lossfuzz.strategies.recipes import Recipe, expand

SHAPES = ((16, 1), (16, 2), (8, 10), (2, 4, 5))


def mutants(recipe, count=300, margin=7.0):
    return [
        mutated(
            recipe,
            np.random.default_rng([5, turn]),
            families=tuple(FAMILIES),
            shapes=SHAPES,
            margin=margin,
        )
        for turn in range(count)
    ]


PLAIN = Recipe(family="normal", format="float32", shape=(8, 10), seed=1, magnitude=0.4)


def test_mutants_are_a_function_of_the_generator():
    assert mutants(PLAIN) == mutants(PLAIN)
    assert len(set(mutants(PLAIN))) > 250
    assert PLAIN not in mutants(PLAIN)


def test_every_part_of_a_recipe_but_its_format_is_mutated():
    found = mutants(PLAIN)
    for name in ("family", "shape", "seed", "magnitude", "factor", "offset", "margin"):
        changed = [one for one in found if getattr(one, name) != getattr(PLAIN, name)]
        assert len(changed) > 10, name
    assert {one.format for one in found} == {"float32"}
    steps = sorted(abs(one.magnitude - 0.4) for one in found if one.magnitude != 0.4)
    assert steps[0] < 2**-8
    assert steps[-1] > 0.3


def test_no_margin_is_aimed_at_where_none_is_known():
    assert all(one.margin is None for one in mutants(PLAIN, margin=math.nan))


@given(recipes(shapes=SHAPES), st.integers(0, 2**32 - 1), st.sampled_from([7.0, -90.0, 1e9]))
def test_mutants_of_mutants_expand_in_their_format(recipe, seed, margin):
    generator = np.random.default_rng(seed)
    for _ in range(4):
        recipe = mutated(recipe, generator, families=tuple(FAMILIES), shapes=SHAPES, margin=margin)
    target(abs(recipe.offset) * recipe.factor)
    made = expand(Recipe.from_json(recipe.to_json()))
    assert made.logits.tobytes() == expand(recipe).logits.tobytes()
    assert made.logits.shape == recipe.shape
    assert made.logits.dtype.name == recipe.format
    wide = made.logits.astype(np.float64)
    assert not np.isnan(wide).any()
    assert not np.isposinf(wide).any()


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_a_margin_in_a_recipe_is_met_ever_more_nearly(fmt):
    made = expand(
        Recipe(
            family="normal",
            format=fmt.dtype_name,
            shape=(512, 3),
            seed=1,
            magnitude=0.5,
            margin=12.0,
        )
    )
    found = prepare(made.logits, made.labels, {}).conditions.margin
    distance = np.abs(found - 12)
    assert np.median(distance) < 2
    assert distance.min() < 64 * fmt.unit_roundoff
    own = made.rows[np.arange(512), made.row_labels].astype(np.float64)
    assert (np.abs(own + 12) < 3).sum() > 64  # a sigmoid's margin is the logit's own


def test_a_factor_and_an_offset_move_every_logit():
    moved = Recipe(**{**PLAIN.to_json(), "shape": (8, 10), "factor": 2.0, "offset": 64.0})
    np.testing.assert_allclose(
        expand(moved).logits, expand(PLAIN).logits * 2 + 64, rtol=BINARY32.unit_roundoff * 2
    )


@pytest.mark.parametrize("name", ["factor", "offset", "margin"])
def test_recipes_refuse_numbers_without_end(name):
    with pytest.raises(ValueError, match="expected finite factor, offset and margin"):
        Recipe(**{**PLAIN.to_json(), "shape": (8, 10), name: math.inf})


def test_plain_recipes_are_written_as_before():
    assert set(PLAIN.to_json()) == {"family", "format", "shape", "seed", "magnitude"}
