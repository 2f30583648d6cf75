"""The references against hand-made cases, against each other, and against planted faults."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given

from lossfuzz.harness.exact import kernel
from lossfuzz.harness.exact.arb import arb_rounded_row
from lossfuzz.harness.exact.judge import reference_of
from lossfuzz.harness.exact.rounded import correctly_rounded_row
from lossfuzz.harness.numbers.formats import (
    BFLOAT16,
    BINARY16,
    BINARY32,
    BINARY64,
    FORMATS,
    TRAINING_FORMATS,
    format_of,
)
from lossfuzz.strategies.cases import cases, recipes
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes


def exact(logits, label, fmt=BINARY64):
    row = correctly_rounded_row(np.array(logits, np.float64), label, [fmt])
    return row.loss[fmt], row.gradient[fmt].tolist()


def same(left, right, formats):
    return all(
        left.loss[fmt] == right.loss[fmt]
        and np.array_equal(left.gradient[fmt], right.gradient[fmt])
        for fmt in formats
    )


def test_two_equal_classes_cost_log_two():
    loss, gradient = exact([3.0, 3.0], 0)
    assert loss == math.log(2)
    assert gradient == [-0.5, 0.5]


def test_a_single_class_costs_nothing():
    assert exact([7.0], 0) == (0.0, [0.0])


def test_a_single_unmasked_class_costs_nothing():
    assert exact([-math.inf, 5.0, -math.inf], 1) == (0.0, [0.0, 0.0, 0.0])


def test_the_right_class_at_margin_20_costs_two_billionths():
    loss, gradient = exact([20.0, 0.0], 0)
    assert loss == pytest.approx(2.061153620314381e-09, rel=1e-15)
    assert gradient[0] == pytest.approx(-2.061153618190204e-09, rel=1e-15)


def test_the_wrong_class_at_margin_1000_costs_1000():
    assert exact([0.0, 1000.0], 0) == (1000.0, [-1.0, 1.0])


def test_masked_classes_have_no_gradient_and_no_weight():
    loss, gradient = exact([1.0, -math.inf, 2.0], 0)
    assert loss == pytest.approx(math.log1p(math.e))
    assert gradient[1] == 0.0


def test_values_beyond_float64s_exponents_are_handled():
    loss, gradient = exact([-3e38, 3e38], 0)
    assert loss == 6e38
    assert gradient == [-1.0, 1.0]


def test_a_vanishing_term_breaks_a_tie_upwards():
    # 34960 lies halfway between two numbers of binary16; exp(-34960) decides
    loss, _ = exact([-21312.0, 13648.0], 0, BINARY16)
    assert loss == 34976.0


def test_a_rational_gradient_on_a_tie_is_rounded_to_even():
    # -511/512 lies halfway between two numbers of bfloat16
    _, gradient = exact([1.0] * 512, 0, BFLOAT16)
    assert gradient[0] == -1.0


@pytest.mark.parametrize(
    ("logits", "label"),
    [([math.nan, 1.0], 1), ([math.inf, 1.0], 1), ([-math.inf, 1.0], 0), ([-math.inf], 0)],
)
def test_rows_without_an_exact_value_are_refused(logits, label):
    with pytest.raises(ValueError, match="no exact value"):
        exact(logits, label)


@given(cases())
def test_mpmath_and_arb_agree_in_every_format(case):
    row = case.logits.astype(np.float64)
    formats = FORMATS
    assert same(
        correctly_rounded_row(row, case.label, formats),
        arb_rounded_row(row, case.label, formats),
        formats,
    )


@given(cases(max_classes=6))
def test_the_gradient_is_the_numerical_derivative(case):
    row = np.clip(case.logits.astype(np.float64), -50, 50)
    with mpmath.workdps(60):
        for j in range(len(row)):

            def loss(x, j=j):
                values = [mpmath.mpf(v) for v in row]
                values[j] = x
                return mpmath.log(mpmath.fsum(map(mpmath.exp, values))) - values[case.label]

            derivative = float(mpmath.diff(loss, mpmath.mpf(row[j])))
            observed = exact(row, case.label)[1][j]
            assert observed == pytest.approx(derivative, rel=1e-12, abs=1e-30)


@given(recipes(shapes=((4, 1), (8, 3), (8, 10), (2, 80))))
def test_the_kernel_with_its_judge_rounds_as_mpmath_does(recipe):
    batch = expand(recipe)
    fmt = format_of(batch.rows)
    formats = (fmt, BINARY32)
    reference = reference_of(batch.rows, batch.row_labels, formats)
    for row in np.flatnonzero(reference.judged):
        right = correctly_rounded_row(
            batch.rows[row].astype(np.float64), int(batch.row_labels[row]), formats
        )
        assert reference.rounded_loss(fmt)[row] == right.loss[fmt]
        assert reference.rounded_loss(BINARY32)[row] == right.loss[BINARY32]
        assert np.array_equal(reference.rounded_gradient(fmt)[row], right.gradient[fmt])


@given(recipes(shapes=((4, 2), (4, 10), (2, 80))))
def test_the_kernels_bound_holds(recipe):
    batch = expand(recipe)
    values = kernel.evaluate(batch.rows.astype(np.float64), batch.row_labels.astype(np.int64))
    for row in np.flatnonzero(~np.isnan(values.loss)):
        right = correctly_rounded_row(
            batch.rows[row].astype(np.float64), int(batch.row_labels[row]), [BINARY64]
        )
        limit = values.relative_bound + 2 * BINARY64.unit_roundoff
        truth = right.gradient[BINARY64]
        error = np.abs(values.gradient[row] - truth)
        assert (error <= limit * np.abs(truth) + kernel.ABSOLUTE_BOUND).all()
        assert (
            abs(values.loss[row] - right.loss[BINARY64]) <= limit * right.loss[BINARY64] + 1e-290
        )


def test_rows_without_an_exact_value_are_not_judged():
    logits = np.array([[0, 1], [-np.inf, -np.inf], [np.inf, 0], [np.nan, 0]], np.float32)
    reference = reference_of(logits, np.zeros(4, np.int32))
    assert reference.judged.tolist() == [True, False, False, False]
    assert np.isnan(reference.loss[1:]).all()


def test_float64_logits_are_judged_by_mpmath_alone():
    logits = np.random.default_rng(0).normal(size=(5, 4)) * 9
    labels = np.arange(5) % 4
    reference = reference_of(logits, labels)
    assert reference.mpmath_rows == 5
    assert reference.loss[0] == exact(logits[0], 0)[0]


def test_few_rows_need_the_judge():
    rows = undecided = 0
    for fmt in TRAINING_FORMATS:
        for recipe in planned_recipes(
            families=tuple(FAMILIES), fmt=fmt, shapes=((256, 10),), rows=4096, seed=5
        ):
            batch = expand(recipe)
            reference = reference_of(batch.rows, batch.row_labels, (fmt, BINARY32))
            rows += len(batch.row_labels)
            undecided += reference.extended_rows
    assert undecided < 0.01 * rows


def disagreements(seed):
    count = 0
    for fmt in TRAINING_FORMATS:
        for recipe in planned_recipes(
            families=("normal", "long_tail"), fmt=fmt, shapes=((16, 10),), rows=32, seed=seed
        ):
            batch = expand(recipe)
            reference = reference_of(batch.rows, batch.row_labels)
            for row in np.flatnonzero(reference.judged):
                right = correctly_rounded_row(
                    batch.rows[row].astype(np.float64), int(batch.row_labels[row]), [fmt]
                )
                count += reference.rounded_loss(fmt)[row] != right.loss[fmt]
                count += not np.array_equal(
                    reference.rounded_gradient(fmt)[row], right.gradient[fmt]
                )
    return count


def test_a_planted_fault_in_the_kernel_is_caught(monkeypatch):
    assert disagreements(0) == 0
    folded = kernel._folded_sum
    monkeypatch.setattr(kernel, "_folded_sum", lambda terms: folded(terms) * (1 + 2.0**-18))
    assert disagreements(0) > 0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 3), np.float32), np.zeros(3, np.int32), r"\[rows, classes\]"),
        (np.zeros((2, 0), np.float32), np.zeros(2, np.int32), "at least one class"),
        (np.zeros((2, 3), np.float32), np.array([0, 3]), r"labels must lie in \[0, 3\)"),
        (np.zeros((2, 3), np.float32), np.array([-1, 0]), "got -1 to 0"),
    ],
)
def test_batches_that_do_not_fit_are_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        reference_of(logits, labels)
