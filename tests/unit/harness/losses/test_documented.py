"""The formulas with clips and epsilons, against Arb, around their kinks and far beyond them."""

import numpy as np
import pytest
from flint import arb

from lossfuzz.harness.exact.enclosed import (
    RELATIVE_BOUND,
    evaluate_rows,
    reference_by_enclosures,
)
from lossfuzz.harness.exact.numbers import FLOAT64, mpmath_numbers
from lossfuzz.harness.exact.series import textbook_row
from lossfuzz.harness.losses.clipping import CLIP_EPSILON
from lossfuzz.harness.losses.documented import DOCUMENTED
from lossfuzz.harness.losses.documented_softmax import (
    CLIPPED_CROSS_ENTROPY,
    CLIPPED_ONE_HOT_CROSS_ENTROPY,
)
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.losses.targets import targets_of

MARGINS = np.linspace(-40, 40, 17, dtype=np.float32)


def rows(classes):
    generator = np.random.default_rng(classes)
    logits = generator.standard_normal((len(MARGINS), classes)).astype(np.float32)
    logits[:, 0] += MARGINS
    return logits, generator.integers(0, classes, len(MARGINS))


@pytest.mark.parametrize("spec", DOCUMENTED, ids=lambda spec: spec.name)
@pytest.mark.parametrize("classes", [1, 2, 4])
def test_value_and_slopes_are_those_of_the_textbook_formula(spec, classes):
    logits, labels = rows(classes)
    targets = targets_of(spec.target, logits, labels)
    found = reference_by_enclosures(spec, logits, targets, tight_gradient=False)
    for row in range(len(logits)):
        loss, slopes = textbook_row(spec, logits[row].astype(float), targets.weights[row])
        scale = max(1e-60, abs(float(loss.mid())))
        assert abs(arb(found.loss[row]) - loss) < 2 * RELATIVE_BOUND * scale
        for column, slope in slopes.items():
            error = abs(arb(found.gradient[row, column]) - slope)
            assert error < 2 * RELATIVE_BOUND * spec.steepness


@pytest.mark.parametrize("spec", DOCUMENTED, ids=lambda spec: spec.name)
def test_the_slopes_are_central_differences_of_the_loss(spec):
    logits, labels = rows(3)
    targets, step, numbers = targets_of(spec.target, logits, labels), 2.0**-28, mpmath_numbers(320)
    wide = logits.astype(np.float64)
    _, gradient = evaluate_rows(spec, wide, targets, numbers)
    for column in range(3):
        shift = np.eye(3)[column] * step
        above, _ = evaluate_rows(spec, wide + shift, targets, numbers)
        below, _ = evaluate_rows(spec, wide - shift, targets, numbers)
        difference = ((above - below) / (2 * step)).to_float64()[:, 0]
        assert gradient.to_float64()[:, column] == pytest.approx(difference, abs=1e-11)


def test_the_gradient_is_unknown_where_float64_cannot_tell_the_side_of_the_kink():
    margin = np.log((1 - CLIP_EPSILON) / CLIP_EPSILON)
    logits = np.array([[0.0, margin], [0.0, 15.0]])
    targets = targets_of(CLIPPED_ONE_HOT_CROSS_ENTROPY.target, logits, np.array([0, 0]))
    _, gradient = evaluate_rows(CLIPPED_ONE_HOT_CROSS_ENTROPY, logits, targets, FLOAT64)
    assert np.isinf(gradient.radius).tolist() == [[True, True], [False, False]]


def test_the_plateau_of_the_clip_is_known():
    logits = np.array([[0.0, 17.0], [0.0, 100.0]], np.float32)
    targets = targets_of(CLIPPED_CROSS_ENTROPY.target, logits, np.array([0, 0]))
    found = reference_by_enclosures(CLIPPED_CROSS_ENTROPY, logits, targets)
    assert found.loss == pytest.approx([16.11809565095832] * 2, abs=1e-12)
    assert (found.gradient == 0).all()


def test_no_name_is_that_of_a_loss():
    names = [spec.name for spec in (*LOSSES, *DOCUMENTED)]
    assert len(set(names)) == len(names)
