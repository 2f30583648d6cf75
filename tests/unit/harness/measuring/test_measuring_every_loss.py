"""Measures and flags of every loss, on results made from its exact values."""

import numpy as np
import pytest

from lossfuzz.harness.losses.reduced import row_factors
from lossfuzz.harness.losses.table import LOSSES, loss_named, losses_matching
from lossfuzz.harness.measuring.measure import measure
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BINARY32, TRAINING_FORMATS, round_to_format
from lossfuzz.harness.results import kinds
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

ROWS = 64


def batches(loss, fmt, families=tuple(FAMILIES), classes=6):
    for recipe in planned_recipes(
        families=families,
        fmt=fmt,
        shapes=((ROWS, classes),),
        rows=len(families) * ROWS,
        seed=5,
    ):
        batch = expand(recipe)
        yield prepare(batch.logits, batch.labels, recipe.to_json(), loss)


def rounded(prepared, fmt):
    loss = round_to_format(prepared.reference.loss, fmt).astype(fmt.dtype)
    return loss, round_to_format(prepared.reference.gradient, fmt).astype(fmt.dtype)


def measured(prepared, loss, gradient):
    return measure(loss, gradient, prepared.reference, prepared.row_labels, prepared.conditions)


def shown(flags):
    return {kind for kind, rows in flags.items() if rows.any()}


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_correctly_rounded_results_show_nothing(loss, fmt):
    judged = 0
    for prepared in batches(loss, fmt):
        result = measured(prepared, *rounded(prepared, fmt))
        assert shown(result.defects) == set()
        assert shown(result.inaccuracies) == set()
        assert result.gradient_ulp[result.judged].max(initial=0) <= 0.5
        judged += result.judged.sum()
    assert judged > 10 * ROWS


SPOILED = {
    kinds.NON_FINITE_LOSS: lambda loss, gradient: (loss * np.nan, gradient),
    kinds.NON_FINITE_GRADIENT: lambda loss, gradient: (loss, gradient + np.inf),
    kinds.GRADIENT_COLLAPSE: lambda loss, gradient: (loss, gradient * 0),
    kinds.SIGN_FLIP: lambda loss, gradient: (loss, -gradient),
    kinds.INACCURATE_GRADIENT: lambda loss, gradient: (loss, gradient / 2),
    kinds.INACCURATE_LOSS: lambda loss, gradient: (loss + np.float32(0.75), gradient),
    kinds.LOSS_COLLAPSE: lambda loss, gradient: (loss * 0, gradient),
}


@pytest.mark.parametrize(("kind", "spoil"), SPOILED.items(), ids=SPOILED)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_spoiled_results_show_it(loss, spoil, kind):
    for prepared in batches(loss, BINARY32, families=("normal",)):
        result = measured(prepared, *spoil(*rounded(prepared, BINARY32)))
        assert kind in shown(result.defects)


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss.reduction], ids=lambda x: x.name)
def test_a_reduced_loss_is_counted_once_and_its_gradient_by_rows(loss):
    (prepared,) = batches(loss, BINARY32, families=("normal",))
    base = loss.base
    rows = prepare(
        prepared.logits.reshape(-1, 6), prepared.targets.labels.astype(np.int32), {}, base
    )
    factors = row_factors(loss.reduction, ROWS)
    assert prepared.reference.loss.shape == (1,)
    if base.target != "binary":  # whose other targets are drawn for the batch
        assert prepared.reference.loss[0] == pytest.approx((rows.reference.loss * factors).sum())
        assert prepared.reference.gradient == pytest.approx(
            rows.reference.gradient * factors[:, None]
        )


def test_rows_without_an_exact_value_are_replaced_in_a_reduced_batch():
    loss = loss_named("softmax cross-entropy with an integer label, mean over the batch")
    logits = np.array([[np.nan, 0.0], [1.0, 2.0]], np.float32)
    prepared = prepare(logits, np.zeros(2, np.int32), {}, loss)
    assert prepared.reference.judged.all()
    assert prepared.logits.tolist() == [[1.0, 2.0], [1.0, 2.0]]


def test_losses_are_found_by_name_and_by_pattern():
    assert loss_named("log-sum-exp").name == "log-sum-exp"
    assert len(losses_matching(["*focal*", "log-sum-exp"])) == 8
    with pytest.raises(ValueError, match=r"unknown loss 'hinge'; known losses: softmax"):
        loss_named("hinge")
    with pytest.raises(ValueError, match=r"unknown loss 'hinge\*'"):
        losses_matching(["hinge*"])
