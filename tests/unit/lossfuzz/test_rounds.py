"""The order in which a check measures: every family on every shape, whatever the modes."""

import pytest

from lossfuzz.checking import CHECK_SHAPES, DEAR_SHAPES, SMALL_BATCHES
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32
from lossfuzz.plan import Plan
from lossfuzz.rounds import rounds_of
from lossfuzz.strategies.families import FAMILIES

FORMATS = (BINARY32, BINARY16, BFLOAT16)


def sweeps(shapes, modes):
    plan = Plan(shapes=shapes, modes=modes, formats=FORMATS, rows=1, devices=("CPU:0",))
    return [one for one in rounds_of(plan) if one.number is None]


@pytest.mark.parametrize("modes", [("eager",), ("xla",), ("graph", "xla"), ("eager", "graph")])
@pytest.mark.parametrize("shapes", [CHECK_SHAPES, DEAR_SHAPES, ((32, 6),)])
def test_the_first_mode_meets_every_family_on_every_shape_of_few_classes(shapes, modes):
    met = {
        (recipe.shape, recipe.family, recipe.format)
        for one in sweeps(shapes, modes)
        if modes[0] in one.modes
        for recipe in one.recipes
    }
    for shape in shapes:
        for fmt in FORMATS:
            families = {
                family for there, family, name in met if (there, name) == (shape, fmt.name)
            }
            families |= {
                family for there, family, name in met if (there, name) == (shape, fmt.dtype_name)
            }
            if shape[-1] < 1000:
                assert families == set(FAMILIES)
            elif shape[-1] <= 65504 or fmt is not BINARY32:
                assert {"large_labels", "constant"} <= families


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_the_other_modes_meet_every_family_on_several_shapes(mode):
    met = {
        recipe.shape
        for one in sweeps(CHECK_SHAPES, ("eager", "graph", "xla"))
        if mode in one.modes
        for recipe in one.recipes
    }
    assert met >= set(CHECK_SHAPES) - set(SMALL_BATCHES)


def test_half_formats_are_asked_a_vocabulary_beyond_the_integers_of_float16():
    met = {
        (recipe.format, recipe.shape[-1])
        for one in sweeps(CHECK_SHAPES, ("eager",))
        for recipe in one.recipes
    }
    assert {("float16", 70000), ("bfloat16", 70000)} <= met
    assert ("float32", 70000) not in met


def test_batches_of_one_to_seven_rows_are_tried():
    rows = {recipe.shape[0] for one in sweeps(CHECK_SHAPES, ("eager",)) for recipe in one.recipes}
    assert {1, 3, 7} <= rows


def test_every_mode_has_its_turn_on_the_first_shape_before_the_others_come():
    order = [
        (mode, one.recipes[0].shape == CHECK_SHAPES[0])
        for one in sweeps(CHECK_SHAPES, ("eager", "graph", "xla"))
        for mode in one.modes
    ]
    others = [k for k, (_, first) in enumerate(order) if not first]
    assert {mode for mode, _ in order[: others[0]]} == {"eager", "graph", "xla"}
