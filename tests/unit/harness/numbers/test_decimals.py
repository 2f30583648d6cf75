"""Exact values are printed in the digits that are proved, and in no other ones."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossfuzz.harness.exact.enclosed import evaluate_rows
from lossfuzz.harness.exact.numbers import mpmath_numbers
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.decimals import proved, proved_text
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import Recipe, expand


def last_digit(text):
    """The size of one unit of the last digit of a printed number."""
    mantissa, _, exponent = text.partition("e")
    decimals = len(mantissa.partition(".")[2]) if not mantissa.endswith(".0") else 0
    return Fraction(10) ** (int(exponent or 0) - decimals)


def is_proved(text, exact):
    return abs(Fraction(text) - exact) <= last_digit(text) / 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (65024.99999999997, "65025"),
        (-4.68e-97, "0"),
        (15.999999999999993, "16"),
        (0.6931471805599453, "0.693147181"),
        (-0.0001220703125, "-0.0001220703125"),
        (104.03125, "104.03125"),
        (1.6516363e38, "1.6516363e+38"),
        (float("inf"), "inf"),
    ],
)
def test_noise_of_an_enclosure_is_not_printed(value, text):
    assert proved_text(value) == text
    assert proved(value) == pytest.approx(value, rel=1e-11, abs=1e-50)


@given(
    st.fractions(min_value=Fraction(-(10**6)), max_value=Fraction(10**6)),
    st.floats(-1, 1),
    st.sampled_from([9, 12]),
)
def test_what_is_printed_is_within_half_a_unit_of_its_last_digit(exact, error, digits):
    known = float(exact * (1 + Fraction(error) * Fraction(2) ** -40 * Fraction(99, 100)))
    assert is_proved(repr(proved(known)), exact)
    assert is_proved(proved_text(known, digits), exact)


@pytest.mark.parametrize(
    "loss", [one for one in LOSSES if one.reduction is None], ids=lambda loss: loss.name
)
def test_printed_exact_values_of_every_loss_are_those_of_mpmath(loss):
    numbers = mpmath_numbers(400)
    for family in ("margin_sweep", "large_integers", "offset", "ties"):
        if family not in FAMILIES:
            continue
        recipe = Recipe(family=family, format="float32", shape=(4, 3), seed=5, magnitude=0.4)
        batch = expand(recipe)
        prepared = prepare(batch.logits, batch.labels, recipe.to_json(), loss)
        targets = targets_of(loss.target, prepared.rows, batch.row_labels)
        value, slopes = evaluate_rows(loss, prepared.rows, targets, numbers)
        for row in np.flatnonzero(prepared.reference.judged).tolist():
            pairs = zip(
                [prepared.reference.loss[row], *prepared.reference.gradient[row]],
                [value.middle[row, 0], *slopes.middle[row]],
                strict=True,
            )
            for known, exact in pairs:
                printed = repr(proved(float(known)))
                right = Fraction(*exact.as_integer_ratio())
                assert is_proved(printed, right) or abs(right) < Fraction(2) ** -199


def test_the_plainest_loss_is_among_those_that_were_tried():
    assert SOFTMAX_CROSS_ENTROPY in LOSSES
