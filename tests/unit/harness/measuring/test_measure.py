"""Measures and flags on results made by hand; the same through TensorFlow is in tests/quality."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lossfuzz.harness.exact.judge import reference_of
from lossfuzz.harness.losses.binary import BINARY_CROSS_ENTROPY
from lossfuzz.harness.losses.targets import BINARY, targets_of
from lossfuzz.harness.measuring.conditions import conditions_of
from lossfuzz.harness.measuring.measure import disagreements, measure
from lossfuzz.harness.measuring.prepared import prepare_targets
from lossfuzz.harness.numbers.bounds import defect_bound
from lossfuzz.harness.numbers.formats import BFLOAT16, BINARY16, BINARY32
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.summary import Summary

LOGITS = np.array([[0, 20], [20, 0], [0, 30], [1, 1]], np.float32)
LABELS = np.zeros(4, np.int32)
REFERENCE = reference_of(LOGITS, LABELS)
CONDITIONS = conditions_of(LOGITS, LABELS, REFERENCE)


def measured(loss=None, gradient=None):
    loss = REFERENCE.loss if loss is None else np.array(loss)
    gradient = REFERENCE.gradient if gradient is None else np.array(gradient)
    return measure(
        loss.astype(np.float32), gradient.astype(np.float32), REFERENCE, LABELS, CONDITIONS
    )


def defects(measurement):
    return {
        kind: np.flatnonzero(rows).tolist()
        for kind, rows in measurement.defects.items()
        if rows.any()
    }


def inaccuracies(measurement):
    return {
        kind: np.flatnonzero(rows).tolist()
        for kind, rows in measurement.inaccuracies.items()
        if rows.any()
    }


def test_correctly_rounded_results_show_nothing():
    result = measured()
    assert defects(result) == {}
    assert inaccuracies(result) == {}
    assert result.loss_ulp.max() <= 0.5
    assert result.gradient_ulp.max() <= 0.5
    assert result.loss_scaled.max() <= 1


def test_a_nan_loss_is_non_finite():
    assert defects(measured(loss=[math.nan, *REFERENCE.loss[1:]])) == {kinds.NON_FINITE_LOSS: [0]}


def test_an_infinite_gradient_is_non_finite():
    gradient = REFERENCE.gradient.copy()
    gradient[2, 1] = math.inf
    assert defects(measured(gradient=gradient)) == {kinds.NON_FINITE_GRADIENT: [2]}


def test_an_infinite_loss_is_right_where_the_exact_one_overflows():
    logits = np.array([[-65504, 65504]], np.float16)
    labels = np.zeros(1, np.int32)
    reference = reference_of(logits, labels)
    result = measure(
        np.array([np.inf], np.float16),
        reference.gradient.astype(np.float16),
        reference,
        labels,
        conditions_of(logits, labels, reference),
    )
    assert defects(result) == {}


def test_a_lost_loss_is_a_collapse():
    assert defects(measured(loss=[0, *REFERENCE.loss[1:]])) == {kinds.LOSS_COLLAPSE: [0]}


def test_a_tiny_lost_loss_is_an_inaccuracy():
    loss = REFERENCE.loss.copy()
    loss[1] = 0
    result = measured(loss=loss)
    assert defects(result) == {}
    assert inaccuracies(result) == {kinds.LOSS_COLLAPSE: [1]}


def test_equal_losses_for_growing_exact_ones_are_saturation():
    loss = REFERENCE.loss.copy()
    loss[[0, 2]] = 16.118
    assert defects(measured(loss=loss)) == {kinds.SATURATION: [0, 2]}


def test_one_low_loss_alone_is_inaccurate_not_saturated():
    loss = REFERENCE.loss.copy()
    loss[0] = 16.118
    assert defects(measured(loss=loss)) == {kinds.INACCURATE_LOSS: [0]}


@pytest.mark.parametrize("left", [0.0, 1e-7])
def test_a_vanished_gradient_is_a_collapse(left):
    gradient = REFERENCE.gradient.copy()
    gradient[0] = [-left, left]
    assert defects(measured(gradient=gradient)) == {kinds.GRADIENT_COLLAPSE: [0]}


def test_a_lost_label_gradient_is_told_apart():
    gradient = REFERENCE.gradient.copy()
    gradient[3, 0] = 0
    assert defects(measured(gradient=gradient)) == {kinds.LABEL_GRADIENT_COLLAPSE: [3]}


def test_a_flipped_component_is_a_sign_flip():
    assert defects(measured(gradient=-REFERENCE.gradient)) == {kinds.SIGN_FLIP: [0, 2, 3]}


def test_a_wrong_gradient_is_inaccurate():
    gradient = REFERENCE.gradient.copy()
    gradient[3] *= 0.75
    assert defects(measured(gradient=gradient)) == {kinds.INACCURATE_GRADIENT: [3]}


def test_rows_without_an_exact_value_show_nothing():
    logits = np.full((1, 2), -np.inf, np.float32)
    labels = np.zeros(1, np.int32)
    reference = reference_of(logits, labels)
    result = measure(
        np.array([np.nan], np.float32),
        np.full((1, 2), np.nan, np.float32),
        reference,
        labels,
        conditions_of(logits, labels, reference),
    )
    assert defects(result) == inaccuracies(result) == {}


def test_a_mode_beyond_both_bounds_from_the_best_disagrees():
    loss = REFERENCE.loss.copy()
    loss[0] = 16.118
    apart = disagreements({"eager": measured(loss=loss), "xla": measured()})
    assert apart["eager"].tolist() == [True, False, False, False]
    assert not apart["xla"].any()


def test_two_modes_that_are_equally_wrong_do_not_disagree():
    loss = np.full(4, np.nan)
    apart = disagreements({"eager": measured(loss=loss), "xla": measured(loss=loss)})
    assert not apart["eager"].any()


def test_an_infinity_that_the_range_excuses_is_not_held_against_a_finite_loss():
    """As of Keras's binary loss: infinity at 1.75e38 beside 15.94 of the mode that clips."""
    logits = np.full((1, 10), -1.75e38, np.float32)
    labels = np.zeros(1, np.int32)
    targets = replace(targets_of(BINARY, logits, labels), weights=np.ones((1, 10)))
    batch = prepare_targets(logits, targets, {}, BINARY_CROSS_ENTROPY)
    exact = batch.reference.loss[0]

    def one(loss):
        gradient = batch.reference.gradient.astype(np.float32)
        observed = np.array([loss], np.float32)
        return measure(observed, gradient, batch.reference, labels, batch.conditions)

    apart = disagreements({"graph": one(np.inf), "eager": one(15.94)})
    assert not apart["graph"].any()
    assert not apart["eager"].any()
    apart = disagreements({"graph": one(np.inf), "eager": one(15.94), "xla": one(exact)})
    assert {mode: rows.any() for mode, rows in apart.items()} == {
        "graph": False,
        "eager": True,  # further from the exact value than XLA
        "xla": False,
    }
    apart = disagreements({"graph": one(np.nan), "xla": one(exact)})
    assert apart["graph"].all()  # no range explains it


def test_the_margin_is_the_rests_log_sum_exp_against_the_label():
    assert CONDITIONS.margin == pytest.approx([20, -20, 30, 0], abs=1e-9)


def test_the_defect_bound_never_exceeds_an_eighth_of_the_value():
    assert defect_bound(10, BINARY32) == pytest.approx(10 + 2 * math.log(10) + 8)
    assert defect_bound(1000, BFLOAT16) * BFLOAT16.unit_roundoff == 0.125
    assert defect_bound(200, BINARY16) * BINARY16.unit_roundoff < 0.125


def test_summaries_merge_in_any_order_and_survive_json():
    batches = [
        measured(),
        measured(loss=[16, 0, 16, math.nan]),
        measured(gradient=REFERENCE.gradient * 0),
    ]

    def summary(order):
        total = Summary()
        for index in order:
            part = Summary()
            part.add(batches[index], np.array([16, 0, 16, 1.0], np.float32), CONDITIONS)
            total.merge(part)
        return total.to_json()

    assert summary([0, 1, 2]) == summary([2, 0, 1])
    assert Summary.from_json(summary([0, 1, 2])).to_json() == summary([0, 1, 2])
    assert summary([0, 1, 2])["vanishing_margin"] == pytest.approx(20)
    assert summary([0, 1, 2])["plateau"] == 16


def test_halves_use_their_own_unit():
    logits = np.array([[0, 1]], np.float16)
    labels = np.zeros(1, np.int32)
    reference = reference_of(logits, labels)
    loss = BINARY16.cast(reference.loss * (1 + 2.0**-8))
    gradient = BINARY16.cast(reference.gradient)
    result = measure(loss, gradient, reference, labels, conditions_of(logits, labels, reference))
    assert 4 < result.loss_ulp[0] < 12
    assert defects(result) == {}
