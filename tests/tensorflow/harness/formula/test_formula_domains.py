"""Formulas that take some class counts only, or rows of positive or bounded numbers only."""

import numpy as np
import pytest

import lossfuzz
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.measuring.prepared import prepare

QUICK = {"modes": ["eager"], "formats": ["float32"], "rows": 600}


def of_classes(count, chosen=lambda x, v: x.sum(v * v)):
    def only(x, v, _):
        if x.classes != count:
            raise ValueError(f"takes {count} classes alone")
        return chosen(x, v)

    return only


@pytest.mark.parametrize(
    "exact",
    [
        lambda x, v, _: v[4] + v[5] * v[5],
        lambda x, v, _: v[3] + v[4] + v[5] + v[6] * v[11],
        lambda x, v, _: v[0] + v[-9] * v[5] + v[20],
        lambda x, v, _: x.sum(x.constant([1, 2, 3, 4]) * v) + v[-4],
        lambda x, v, _: v[40] * v[3],
    ],
    ids=["two indices", "a row of them", "from the end too", "a constant, then an index", "far"],
)
def test_a_larger_count_is_tried_as_long_as_one_is_asked_for(exact):
    assert lossfuzz.formula(exact, target="none").steepness > 0


@pytest.mark.parametrize("count", range(1, 17))
def test_any_one_count_up_to_16_is_found_out(count):
    assert lossfuzz.formula(of_classes(count), target="none").steepness > 0


@pytest.mark.parametrize("count", [7, 13])
def test_a_count_is_found_behind_an_index_that_asks_for_another(count):
    def both(x, v, _):
        first = v[4]
        return first + of_classes(count)(x, v, _)

    assert lossfuzz.formula(both, target="none").steepness > 0


def test_a_formula_that_contradicts_itself_says_what_it_said_last():
    def both(x, v, _):
        return x.sum(x.constant([1, 2]) * v) + x.sum(x.constant([1, 2, 3, 4]) * v)

    with pytest.raises(FormulaError, match="was given 2 numbers for rows with 4 classes"):
        lossfuzz.formula(both, target="none", name="mine")


def test_a_formula_that_refuses_every_count_says_what_it_said_of_the_usual_one():
    with pytest.raises(FormulaError, match="takes 4711 classes alone"):
        lossfuzz.formula(of_classes(4711), target="none")


DOMAINS = {
    "a root": (lambda x, v, _: x.sum(x.sqrt(v)), "none", (0.0, 100.0)),
    "squared logarithms": (lambda x, v, _: x.sum(x.log(v) ** 2), "none", (0.001, 100.0)),
    "a mean of logarithms": (lambda x, v, _: -x.mean(x.log(v)), "none", (0.001, 1.0)),
    "probabilities": (
        lambda x, v, t: x.mean(-t * x.log(v) - (1 - t) * x.log(1 - v)),
        "binary",
        (0.001, 0.999),
    ),
    "cosines": (lambda x, v, _: x.sum(x.sqrt(1 - v * v)), "none", (-0.9, 0.9)),
    "above one": (lambda x, v, _: x.sum(x.sqrt(x.exp(v) - 1)), "none", (0.01, 10.0)),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_a_formula_of_bounded_numbers_is_taken(name):
    exact, target, _ = DOMAINS[name]
    spec = lossfuzz.formula(exact, target=target)
    for classes in (1, 2, 10, 100, 1000):
        sizes = spec.derived.sizes(classes)
        assert np.isfinite(sizes).all()
        assert min(sizes) > 0
        assert sizes != (1.0, 1.0)  # what stands in where no row has a gradient
    assert not spec.masks


def test_sizes_of_ordinary_rows_stay_where_there_are_some():
    plain = lossfuzz.formula(lambda x, v, y: -x.log_softmax(v)[y], name="plain")
    larger, steepest = plain.derived.sizes(3)
    assert 0.9 < larger <= steepest * 1.2
    assert steepest <= 1


def test_a_formula_without_a_value_anywhere_says_where_it_was_tried():
    with pytest.raises(FormulaError, match="has no finite value") as caught:
        lossfuzz.formula(lambda x, v, _: x.sum(x.log(-1 - v * v)), target="none")
    for domain in ("(0, 1)", "(-1, 1)", "above 0"):
        assert domain in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_formula_of_one_count_without_a_value_says_that():
    exact = of_classes(7, lambda x, v: x.sum(x.log(-1 - v * v)))
    with pytest.raises(FormulaError, match="has no finite value"):
        lossfuzz.formula(exact, target="none")


@pytest.mark.parametrize("name", ["squared logarithms", "probabilities", "a mean of logarithms"])
def test_a_loss_of_bounded_numbers_is_judged_in_its_bounds(name, tf):
    def squared(values):
        return tf.reduce_sum(tf.math.log(values) ** 2, -1)

    def mean(values):
        return -tf.reduce_mean(tf.math.log(values), -1)

    def probabilities(values, t):
        return tf.reduce_mean(-t * tf.math.log(values) - (1 - t) * tf.math.log1p(-values), -1)

    losses = {"squared logarithms": squared, "a mean of logarithms": mean}
    exact, target, bounds = DOMAINS[name]
    spec = lossfuzz.formula(exact, target=target)
    result = lossfuzz.check(losses.get(name, probabilities), spec, bounds=bounds, **QUICK)
    assert all(one.summary.judged > one.summary.rows / 2 for one in result.cells)


def test_an_index_beyond_the_usual_classes_has_its_exact_value():
    spec = lossfuzz.formula(lambda x, v, _: v[4] + v[5] * v[5], target="none")
    logits = np.arange(6, dtype=np.float32)[None]
    reference = prepare(logits, np.zeros(1, np.int32), {}, spec).reference
    assert reference.loss[0] == 29
    assert reference.gradient[0].tolist() == [0, 0, 0, 0, 1, 10]
