"""Every loss against Arb's derivative of its definition, against mpmath's, and by hand."""

import math
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from flint import arb, ctx

from lossfuzz import referee
from lossfuzz.harness.exact.enclosed import (
    RELATIVE_BOUND,
    evaluate_rows,
    has_exact_value,
    reference_by_enclosures,
)
from lossfuzz.harness.exact.enclosure import Enclosure
from lossfuzz.harness.exact.kernel import ABSOLUTE_BOUND
from lossfuzz.harness.exact.numbers import EXTENDED, mpmath_numbers
from lossfuzz.harness.exact.series import is_outside, textbook_row
from lossfuzz.harness.losses import binary, cross_entropy, divergences, focal, reduced
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.losses.targets import BINARY, NONE, ONE_HOT, Targets, targets_of
from lossfuzz.harness.numbers.formats import BINARY32, TRAINING_FORMATS
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

ROW_LOSSES = referee.ROW_LOSSES
SOFTMAX_LOSSES = [spec for spec in ROW_LOSSES if spec.masks]
every_loss = pytest.mark.parametrize("spec", ROW_LOSSES, ids=lambda spec: spec.name)
every_softmax_loss = pytest.mark.parametrize("spec", SOFTMAX_LOSSES, ids=lambda spec: spec.name)

MP = mpmath.MPContext()
MP.dps = 400


def given_targets(kind, weights, logits):
    """Targets by hand, one row or several."""
    weights = np.atleast_2d(np.array(weights, np.float64))
    masked = np.isneginf(np.atleast_2d(logits))
    return Targets(kind=kind, weights=weights, labels=weights.argmax(axis=1), masked=masked)


def reference(spec, logits, weights):
    """Loss and gradient of one row."""
    row = np.array([logits], np.float32)
    assert row[0].tolist() == list(logits)
    found = reference_by_enclosures(spec, row, given_targets(spec.target, weights, row))
    assert found.judged.all()
    return float(found.loss[0]), found.gradient[0]


def close(left, right, factor=2):
    """Equal within the references' bound, for values known by other references or by hand."""
    error = np.abs(np.asarray(left) - np.asarray(right))
    limit = factor * (RELATIVE_BOUND * np.abs(np.asarray(right)) + ABSOLUTE_BOUND)
    return bool((error <= limit).all())


def batches(rows=128, seed=2, shapes=((8, 3), (8, 10), (4, 1), (4, 2))):
    for fmt in TRAINING_FORMATS:
        for recipe in planned_recipes(
            families=tuple(FAMILIES), fmt=fmt, shapes=shapes, rows=rows, seed=seed
        ):
            batch = expand(recipe)
            yield batch.rows, batch.row_labels


@every_loss
def test_arb_agrees_on_every_family_in_every_format(spec):
    verdict = referee.compare_loss(
        spec, 3 * 16 * 11, seed=11, shapes=((4, 3), (2, 10), (2, 2), (2, 1), (1, 33))
    )
    assert verdict.rows > 450
    assert verdict.values > 4 * verdict.rows
    assert (verdict.arb, verdict.float64) == (0, 0), verdict.examples


# The definitions once more, over mpmath, each written without a look at the others.


def softmax_of(x, scale=1):
    powers = [MP.exp(MP.mpf(value) * scale) for value in x]
    return [power / MP.fsum(powers) for power in powers]


def cross_entropy_of(x, t, scale=1):
    return -MP.fsum(
        weight * MP.log(p) for weight, p in zip(t, softmax_of(x, scale), strict=True) if weight
    )


def smoothed_cross_entropy(x, t):
    amount = MP.mpf(0.1)
    return cross_entropy_of(x, [weight + amount * (MP.mpf(1) / len(x) - weight) for weight in t])


def divergence(x, t):
    entropy = -MP.fsum(weight * MP.log(weight) for weight in t if weight)
    return cross_entropy_of(x, t) - entropy


def generalised(x, t):
    p = MP.fsum(weight * p for weight, p in zip(t, softmax_of(x), strict=True))
    return 2 - 2 * MP.sqrt(p)


def categorical_focal_loss(gamma):
    def loss(x, t):
        if len(x) == 1:
            return MP.mpf(0)
        p = softmax_of(x)[t.index(1)]
        return -MP.mpf(0.25) * (1 - p) ** MP.mpf(gamma) * MP.log(p)

    return loss


def sigmoid(x):
    return 1 / (1 + MP.exp(-MP.mpf(x)))


def binary_mean(cost):
    return lambda x, t: MP.fsum(map(cost, x, map(MP.mpf, t))) / len(x)


def binary_cost(x, t):
    return t * MP.log(1 + MP.exp(-x)) + (1 - t) * MP.log(1 + MP.exp(x))


def smoothed_binary_cost(x, t):
    return binary_cost(x, t * (1 - MP.mpf(0.1)) + MP.mpf(0.1) / 2)


def weighted_binary_cost(x, t):
    return 8 * t * MP.log(1 + MP.exp(-x)) + (1 - t) * MP.log(1 + MP.exp(x))


def focal_cost(gamma, positive=1, negative=1):
    def cost(x, t):
        p = sigmoid(x) if t else sigmoid(-x)
        weight = MP.mpf(positive if t else negative)
        return -weight * (1 - p) ** MP.mpf(gamma) * MP.log(p)

    return cost


DIRECT = {
    SOFTMAX_CROSS_ENTROPY: cross_entropy_of,
    cross_entropy.ONE_HOT_CROSS_ENTROPY: cross_entropy_of,
    cross_entropy.SOFT_CROSS_ENTROPY: cross_entropy_of,
    cross_entropy.SMOOTHED_CROSS_ENTROPY: smoothed_cross_entropy,
    cross_entropy.IGNORING_CROSS_ENTROPY: cross_entropy_of,
    cross_entropy.WARM_CROSS_ENTROPY: lambda x, t: cross_entropy_of(x, t, MP.mpf(0.5)),
    cross_entropy.COLD_CROSS_ENTROPY: lambda x, t: cross_entropy_of(x, t, 16),
    divergences.KL_DIVERGENCE: divergence,
    divergences.GENERALISED_CROSS_ENTROPY: generalised,
    divergences.LOG_SUM_EXP: lambda x, _: MP.log(MP.fsum(map(MP.exp, x))),
    binary.BINARY_CROSS_ENTROPY: binary_mean(binary_cost),
    binary.SOFT_BINARY_CROSS_ENTROPY: binary_mean(binary_cost),
    binary.SMOOTHED_BINARY_CROSS_ENTROPY: binary_mean(smoothed_binary_cost),
    binary.WEIGHTED_BINARY_CROSS_ENTROPY: binary_mean(weighted_binary_cost),
    **{focal.CATEGORICAL_FOCAL[gamma]: categorical_focal_loss(gamma) for gamma in focal.GAMMAS},
    **{focal.BINARY_FOCAL[gamma]: binary_mean(focal_cost(gamma)) for gamma in focal.GAMMAS},
    focal.BALANCED_BINARY_FOCAL: binary_mean(focal_cost(2, 0.25, 0.75)),
}

NAN = math.nan
MASK = -math.inf
ROWS = np.array(
    [
        [0.0, 0.0, 0.0, 0.0],
        [1.0, 2.0, 3.0, -0.5],
        [-40.0, 20.0, 0.5, 19.75],
        [1e-40, -1e-42, 0.0, 1e-38],
        [60.0, -60.0, -59.5, 3.25],
        [-17.0, -16.5, -17.25, -30.0],
        [1.5, MASK, -2.0, 0.25],
        [MASK, MASK, 7.0, MASK],
    ],
    np.float32,
)


def derivative(function, x, position):
    step = MP.mpf(10) ** -100
    around = [[*x[:position], x[position] + side * step, *x[position + 1 :]] for side in (1, -1)]
    return (function(around[0]) - function(around[1])) / (2 * step)


@every_loss
def test_values_and_slopes_are_those_of_an_independent_formula_at_400_digits(spec):
    logits = ROWS if spec.masks else ROWS[:6]
    for labels in ([0, 2, 3, 1, 1, 3, 0, 2], [3, 1, 0, 2, 0, 0, 3, 2]):
        targets = targets_of(spec.target, logits, np.array(labels[: len(logits)]))
        found = reference_by_enclosures(spec, logits, targets)
        assert spec.needs_mass or found.judged.all()
        for row in np.flatnonzero(found.judged):
            kept = np.flatnonzero(~targets.masked[row])
            x = [MP.mpf(value) for value in logits[row, kept].tolist()]
            t = targets.weights[row, kept].tolist()

            def loss(values, t=t):
                return DIRECT[spec](values, t)

            exact = np.zeros(logits.shape[1])
            exact[kept] = [float(derivative(loss, x, place)) for place in range(len(x))]
            assert close(found.loss[row], float(loss(x)))
            assert close(found.gradient[row], exact)


def test_every_loss_of_a_row_has_its_independent_formula():
    assert set(DIRECT) == set(ROW_LOSSES)
    assert len({spec.name for spec in LOSSES}) == len(LOSSES)


@every_loss
def test_no_gradient_is_steeper_than_stated(spec):
    steepest = max(
        np.nanmax(np.abs(found.gradient), initial=0.0)
        for found in (
            reference_by_enclosures(spec, rows, targets_of(spec.target, rows, labels))
            for rows, labels in batches(768)
        )
    )
    fine = np.linspace(-12, 12, 400, dtype=np.float32)[:, None]
    wide = fine if not spec.masks else np.hstack([fine, np.zeros_like(fine)])
    for label in range(wide.shape[1]):
        targets = targets_of(spec.target, wide, np.full(len(wide), label))
        gradient = reference_by_enclosures(spec, wide, targets).gradient
        steepest = max(steepest, np.nanmax(np.abs(gradient)))
    assert spec.steepness / 4 < steepest <= spec.steepness * (1 + RELATIVE_BOUND)


@every_loss
def test_planted_errors_of_2_to_the_minus_38_are_noticed(spec):
    wrong = replace(
        spec,
        evaluate=lambda x, t: tuple(part * (1 + 2.0**-38) for part in spec.evaluate(x, t)),
    )
    verdict = referee.compare_loss(wrong, 48, seed=3, shapes=((4, 3),))
    assert verdict.arb > 0
    assert verdict.float64 > 0
    assert spec.name in verdict.examples[0]


@every_loss
def test_radii_ten_times_too_small_are_noticed(spec, monkeypatch):
    honest = Enclosure.absolute
    assert referee.compare_loss(spec, 1200, seed=0).float64 == 0
    monkeypatch.setattr(Enclosure, "absolute", lambda self: honest(self) / 10)
    assert referee.compare_loss(spec, 1200, seed=0).float64 > 0


@every_loss
@pytest.mark.parametrize(
    "numbers", [EXTENDED, mpmath_numbers(128)], ids=lambda numbers: numbers.name
)
def test_wider_enclosures_hold_arbs_values_too(spec, numbers):
    for rows, labels in batches(32, shapes=((2, 4),)):
        targets = targets_of(spec.target, rows, labels)
        loss, gradient = evaluate_rows(spec, rows, targets, numbers)
        for row in np.flatnonzero(has_exact_value(spec, rows, targets)):
            exact, slopes = textbook_row(spec, rows[row].astype(float), targets.weights[row])
            for ball, part, column in [
                (exact, loss, 0),
                *((ball, gradient, column) for column, ball in slopes.items()),
            ]:
                middle, radius = part.middle[row, column], part.absolute()[row, column]
                with ctx.workprec(256):
                    high = float(middle)
                    error = abs(ball - arb(high) - arb(float(middle - type(middle)(high))))
                    # 2**-100: what of the middle the two parts may leave out
                    assert not error > arb(radius) + arb(2.0**-100) * abs(arb(high))


def near_a_minimum(spec, fmt, rng):
    """Rows where the gradient, or the loss, all but vanishes by cancellation."""
    labels = rng.integers(0, 3, 16)
    weights = targets_of(spec.target, np.zeros((16, 3)), labels).weights
    if spec.target == BINARY:
        logits = np.zeros((16, 3))
    elif spec.masks and weights.any():
        logits = np.log(np.maximum(weights, 2.0**-20)) + rng.choice([0, -5.5, 100], (16, 1))
    elif spec.masks:
        logits = np.full((16, 3), -math.log(3)) + rng.choice([0, 1e-3], (16, 1))
    else:
        inner = np.clip(weights, 2.0**-40, 1 - 2.0**-40)
        logits = np.log(inner / (1 - inner))
    return fmt.cast(logits), labels


@every_loss
def test_arb_agrees_where_a_value_all_but_vanishes(spec):
    rng = np.random.default_rng(6)
    for fmt in TRAINING_FORMATS:
        rows, labels = near_a_minimum(spec, fmt, rng)
        targets = targets_of(spec.target, rows, labels)
        found = reference_by_enclosures(spec, rows, targets)
        coarse = reference_by_enclosures(spec, rows, targets, tight_gradient=False)
        assert found.judged.all()
        assert coarse.mpmath_rows <= found.mpmath_rows
        for row in range(len(rows)):
            loss, slopes = textbook_row(spec, rows[row].astype(float), targets.weights[row])
            for value, ball in [
                (found.loss[row], loss),
                (coarse.loss[row], loss),
                *((found.gradient[row, column], ball) for column, ball in slopes.items()),
            ]:
                bound = abs(float(value)) * RELATIVE_BOUND + ABSOLUTE_BOUND
                assert not is_outside(float(value), bound, ball)
            for column, ball in slopes.items():
                bound = RELATIVE_BOUND * spec.steepness
                assert not is_outside(float(coarse.gradient[row, column]), bound, ball)


def test_rows_that_cancel_climb_the_ladder_up_to_mpmath():
    spec = divergences.KL_DIVERGENCE
    rows, labels = near_a_minimum(spec, BINARY32, np.random.default_rng(6))
    found = reference_by_enclosures(spec, rows, targets_of(spec.target, rows, labels))
    assert 0 < found.mpmath_rows <= found.extended_rows <= len(rows)


# By hand.


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_binary_cross_entropy_at_0_is_log_2(target):
    loss, gradient = reference(binary.BINARY_CROSS_ENTROPY, [0.0], [target])
    assert close(loss, math.log(2))
    assert gradient.tolist() == [0.5 - target]


def test_weighting_the_positive_class_multiplies_it_alone():
    plain, slopes = reference(binary.BINARY_CROSS_ENTROPY, [1.5], [1.0])
    loss, gradient = reference(binary.WEIGHTED_BINARY_CROSS_ENTROPY, [1.5], [1.0])
    assert close([loss, gradient[0]], [8 * plain, 8 * slopes[0]])
    plain, slopes = reference(binary.BINARY_CROSS_ENTROPY, [1.5], [0.0])
    loss, gradient = reference(binary.WEIGHTED_BINARY_CROSS_ENTROPY, [1.5], [0.0])
    assert close([loss, gradient[0]], [plain, slopes[0]])


def test_binary_cross_entropy_at_the_end_of_binary32_is_the_logit():
    largest = float(np.finfo(np.float32).max)
    loss, gradient = reference(binary.BINARY_CROSS_ENTROPY, [largest, -largest], [0.0, 1.0])
    assert loss == largest
    assert gradient.tolist() == [0.5, -0.5]
    loss, gradient = reference(binary.BINARY_CROSS_ENTROPY, [largest, -largest], [1.0, 0.0])
    assert loss == 0
    assert gradient.tolist() == [0.0, 0.0]


def test_binary_focal_loss_at_0_is_log_2_times_its_focus():
    loss, gradient = reference(focal.BINARY_FOCAL[2.0], [0.0], [1.0])
    assert close(loss, math.log(2) / 4)
    assert close(gradient, [-(math.log(2) + 0.5) / 4])


def test_the_binary_focal_loss_is_steeper_than_cross_entropy():
    _, gradient = reference(focal.BINARY_FOCAL[2.0], [-2.75], [1.0])
    assert 1.12 < -gradient[0] < 1.13


@pytest.mark.parametrize("seed", [0, 1])
def test_a_focal_loss_without_focus_is_cross_entropy_times_alpha(seed):
    for rows, labels in batches(256, seed):
        for plain, focused, factor in (
            (cross_entropy.ONE_HOT_CROSS_ENTROPY, focal.CATEGORICAL_FOCAL[0.0], focal.ALPHA),
            (binary.BINARY_CROSS_ENTROPY, focal.BINARY_FOCAL[0.0], 1.0),
        ):
            targets = targets_of(plain.target, rows, labels)
            left = reference_by_enclosures(plain, rows, targets)
            right = reference_by_enclosures(focused, rows, targets)
            judged = left.judged
            assert np.array_equal(judged, right.judged)
            assert close(right.loss[judged], factor * left.loss[judged])
            assert close(right.gradient[judged], factor * left.gradient[judged])


def test_kl_divergence_is_cross_entropy_less_the_entropy():
    logits, weights = [0.5, -1.0, 2.0], [0.5, 0.25, 0.25]
    entropy = 1.5 * math.log(2)
    loss, gradient = reference(divergences.KL_DIVERGENCE, logits, weights)
    plain, slopes = reference(cross_entropy.SOFT_CROSS_ENTROPY, logits, weights)
    assert close(loss, plain - entropy)
    assert close(gradient, slopes)


def test_kl_divergence_of_the_distribution_itself_vanishes():
    loss, gradient = reference(divergences.KL_DIVERGENCE, [7.0, 7.0], [0.5, 0.5])
    assert abs(loss) <= ABSOLUTE_BOUND
    assert np.abs(gradient).max() <= ABSOLUTE_BOUND


@pytest.mark.parametrize("logits", [[0.0, 0.0], [3.0, -4.0], [-30.0, 2.0]])
def test_generalised_cross_entropy_tends_to_cross_entropy(logits, monkeypatch):
    plain, _ = reference(SOFTMAX_CROSS_ENTROPY, logits, [1.0, 0.0])
    loss, gradient = reference(divergences.GENERALISED_CROSS_ENTROPY, logits, [1.0, 0.0])
    root = math.exp(-plain / 2)
    assert close(loss, 2 * (1 - root), factor=64)
    assert close(gradient[1], root * (1 - root**2), factor=64)
    q = 2.0**-24
    monkeypatch.setattr(divergences, "GCE_Q", q)
    loss, _ = reference(divergences.GENERALISED_CROSS_ENTROPY, logits, [1.0, 0.0])
    assert plain - q * plain**2 / 2 - plain * 2.0**-39 <= loss < plain


@pytest.mark.parametrize(
    ("spec", "temperature"),
    [(cross_entropy.WARM_CROSS_ENTROPY, 2.0), (cross_entropy.COLD_CROSS_ENTROPY, 1 / 16)],
    ids=["2", "1/16"],
)
def test_a_temperature_is_a_division_of_the_logits(spec, temperature):
    rng = np.random.default_rng(4)
    logits = (rng.normal(size=(40, 6)) * 2.0 ** rng.integers(-12, 12, (40, 1))).astype(np.float32)
    targets = targets_of(spec.target, logits, rng.integers(0, 6, 40))
    found = reference_by_enclosures(spec, logits, targets)
    divided = (logits / np.float32(temperature)).astype(np.float32)
    plain = reference_by_enclosures(SOFTMAX_CROSS_ENTROPY, divided, targets)
    assert close(found.loss, plain.loss)
    assert close(found.gradient * temperature, plain.gradient)


def test_a_smoothed_loss_is_the_mix_of_all_labels():
    logits, classes = [0.5, -3.0, 2.0, 1.0], 4
    single = [reference(SOFTMAX_CROSS_ENTROPY, logits, row) for row in np.eye(classes)]
    loss, gradient = reference(cross_entropy.SMOOTHED_CROSS_ENTROPY, logits, [0.0, 1.0, 0.0, 0.0])
    amount = cross_entropy.SMOOTHING
    mixed = [
        (1 - amount) * np.asarray(single[1][part])
        + amount / classes * sum(np.asarray(row[part]) for row in single)
        for part in (0, 1)
    ]
    assert close(loss, mixed[0])
    assert close(gradient, mixed[1])


def test_a_smoothed_binary_loss_is_the_mix_of_both_labels():
    zero, one = (reference(binary.BINARY_CROSS_ENTROPY, [1.75], [t])[0] for t in (0.0, 1.0))
    amount = binary.SMOOTHING
    loss, _ = reference(binary.SMOOTHED_BINARY_CROSS_ENTROPY, [1.75], [1.0])
    assert close(loss, (1 - amount / 2) * one + amount / 2 * zero)


def test_log_sum_exp_adds_what_is_added():
    loss, gradient = reference(divergences.LOG_SUM_EXP, [1024.0, 1024.0], [0.0, 0.0])
    assert loss == 1024 + math.log(2)
    assert gradient.tolist() == [0.5, 0.5]


def test_an_ignored_row_costs_exactly_nothing():
    spec = cross_entropy.IGNORING_CROSS_ENTROPY
    logits = np.array([[1.0, 2.0, -3.0]] * 4 + [[1e30, -1e30, 0.0]] * 4, np.float32)
    targets = targets_of(spec.target, logits, np.zeros(8, np.int32))
    found = reference_by_enclosures(spec, logits, targets)
    assert found.loss[[3, 7]].tolist() == [0, 0]
    assert not found.gradient[[3, 7]].any()
    assert (found.loss[[0, 1, 2]] > 1).all()


def test_an_ignored_row_may_have_a_masked_label():
    spec = cross_entropy.IGNORING_CROSS_ENTROPY
    logits = np.array([[MASK, 2.0]] * 4, np.float32)
    targets = targets_of(spec.target, logits, np.zeros(4, np.int32))
    assert has_exact_value(spec, logits, targets).tolist() == [False, False, False, True]


def label_of(spec, masked):
    return np.flatnonzero(~masked)[0] if spec.target == ONE_HOT else np.flatnonzero(~masked)[-1]


@every_softmax_loss
def test_a_masked_class_is_one_that_is_not_there(spec):
    rng = np.random.default_rng(8)
    for _ in range(12):
        logits = (rng.normal(size=7) * 4).astype(np.float32)
        masked = rng.random(7) < 0.4
        masked[3] = False
        weights = np.zeros(7)
        if spec.target != NONE:
            weights[label_of(spec, masked)] = 1.0
        with_masks = np.where(masked, np.float32(MASK), logits)[None, :]
        without = logits[~masked][None, :]
        left_targets = given_targets(spec.target, weights, with_masks)
        left = reference_by_enclosures(spec, with_masks, left_targets)
        if spec.needs_mass and masked.any():
            assert not left.judged.any()
            continue
        right_targets = given_targets(spec.target, weights[~masked], without)
        right = reference_by_enclosures(spec, without, right_targets)
        assert close(left.loss, right.loss)
        assert close(left.gradient[0, ~masked], right.gradient[0])
        assert not left.gradient[0, masked].any()


@every_softmax_loss
def test_slopes_add_up_to_what_a_shift_of_all_logits_costs(spec):
    cost = 1.0 if spec is divergences.LOG_SUM_EXP else 0.0
    for rows, labels in batches(256):
        targets = targets_of(spec.target, rows, labels)
        found = reference_by_enclosures(spec, rows, targets)
        gradient = found.gradient[found.judged]
        limit = np.abs(gradient).sum(axis=1) * RELATIVE_BOUND + rows.shape[1] * ABSOLUTE_BOUND
        assert (np.abs(gradient.sum(axis=1) - cost) <= limit).all()


@every_loss
def test_rows_outside_the_domain_are_not_judged(spec):
    logits = np.array([[0, 1], [MASK, MASK], [math.inf, 0], [NAN, 0], [0, MASK]], np.float32)
    targets = targets_of(spec.target, logits, np.zeros(5, np.int32))
    found = reference_by_enclosures(spec, logits, targets)
    last = spec.masks and not spec.needs_mass
    assert found.judged.tolist() == [True, False, False, False, last]
    assert np.isnan(found.loss[~found.judged]).all()
    assert np.isnan(found.gradient[~found.judged]).all()


def test_a_mean_of_rows_is_their_sum_over_their_number():
    rows = 24
    for reduction, factor in (
        (reduced.MEAN, lambda _: Fraction(1, rows)),
        (reduced.SUM, lambda _: Fraction(1)),
        (reduced.WEIGHTED_MEAN, lambda row: Fraction(row % 8 + 1, 4) / rows),
    ):
        factors = reduced.row_factors(reduction, rows)
        assert factors.shape == (rows,)
        for row, found in enumerate(factors.tolist()):
            assert abs(Fraction(found) - factor(row)) <= factor(row) / 2**52
    with pytest.raises(ValueError, match="unknown reduction 'median'; known: mean, sum"):
        reduced.row_factors("median", rows)


def test_reductions_are_made_of_losses_of_a_row():
    for spec in reduced.LOSSES:
        assert spec.base in ROW_LOSSES
        assert spec.evaluate is spec.base.evaluate
        assert spec.textbook is spec.base.textbook
        assert spec.reduction in reduced.REDUCTIONS
    assert len(ROW_LOSSES) + len(reduced.LOSSES) == len(LOSSES)


# Arb's side.


def test_arb_reads_the_definition_where_float64_could_not():
    largest = float(np.finfo(np.float32).max)
    loss, slopes = textbook_row(
        cross_entropy.COLD_CROSS_ENTROPY,
        np.array([-largest, largest, MASK]),
        np.array([1.0, 0.0, 0.0]),
    )
    assert loss.overlaps(arb(largest) * 32)
    assert loss.rel_accuracy_bits() >= 60
    assert [float(slopes[column]) for column in range(3)] == [-16, 16, 0]


def test_arb_differentiates_by_some_logits_only():
    row, weights = np.array([1.0, MASK, 2.0]), np.array([1.0, 0.0, 0.0])
    loss, every = textbook_row(SOFTMAX_CROSS_ENTROPY, row, weights)
    again, some = textbook_row(SOFTMAX_CROSS_ENTROPY, row, weights, [1, 2])
    assert list(every) == [0, 1, 2]
    assert list(some) == [1, 2]
    assert some[1] == 0
    assert some[2].overlaps(every[2])
    assert again.overlaps(loss)
    assert list(textbook_row(SOFTMAX_CROSS_ENTROPY, row, weights, [1])[1]) == [1]


def test_what_arb_cannot_decide_is_said():
    hopeless = replace(
        SOFTMAX_CROSS_ENTROPY,
        name="hopeless",
        textbook=lambda x, _, arithmetic: arithmetic.log(x[0] - x[0]),
    )
    with pytest.raises(ArithmeticError, match=r"Arb left the hopeless of logits \[1.0\]"):
        textbook_row(hopeless, np.array([1.0]), np.array([1.0]))


def test_outside_is_what_is_certainly_outside():
    ball = arb(1, 2.0**-70)
    assert not is_outside(1.0, 0.0, ball)
    assert is_outside(1.0 + 2.0**-50, 2.0**-51, ball)
    assert not is_outside(1.0 + 2.0**-50, 2.0**-50, ball)
    assert is_outside(NAN, 1.0, ball)
    assert is_outside(math.inf, math.inf, ball)


def test_the_formats_end_is_no_end_for_a_reference():
    """At the end of binary32 differences exceed it, and at a temperature of 1/16 far more."""
    largest = BINARY32.largest_finite
    loss, _ = reference(cross_entropy.COLD_CROSS_ENTROPY, [-largest, largest], [1.0, 0.0])
    assert loss == 32 * largest
