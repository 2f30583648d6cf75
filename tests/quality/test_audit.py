"""The audit is believed because it catches planted faults of the reference."""

import numpy as np
import pytest

from lossfuzz.audit import AuditError, audit_batch, audit_findings
from lossfuzz.harness.exact import kernel
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import TRAINING_FORMATS
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.findings import Finding
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import Recipe, expand, planned_recipes


def audited_batches(fmt, shape, rows):
    count = 0
    for recipe in planned_recipes(
        families=tuple(FAMILIES), fmt=fmt, shapes=(shape,), rows=rows, seed=2
    ):
        batch = expand(recipe)
        prepared = prepare(batch.logits, batch.labels, recipe.to_json())
        count += audit_batch(prepared, cells=32, at_least=1)
    return count


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("shape", [(64, 10), (8, 257)], ids=str)
def test_a_sound_reference_passes(fmt, shape):
    assert audited_batches(fmt, shape, rows=len(FAMILIES) * shape[0]) >= len(FAMILIES)


def test_a_wrong_term_is_caught(monkeypatch):
    sum_of = kernel._folded_sum
    monkeypatch.setattr(kernel, "_folded_sum", lambda terms: sum_of(terms) * (1 + 2.0**-40))
    with pytest.raises(AuditError, match=r"outside its bound, by mpmath.*for label \d+ of logits"):
        audited_batches(TRAINING_FORMATS[2], (64, 10), rows=1024)


def test_a_lost_term_is_caught(monkeypatch):
    sum_of = kernel._folded_sum
    monkeypatch.setattr(kernel, "_folded_sum", lambda terms: sum_of(terms[1:]))
    with pytest.raises(AuditError, match="the reference has"):
        audited_batches(TRAINING_FORMATS[2], (64, 10), rows=1024)


@pytest.mark.parametrize("shape", [(64, 10), (8, 257)], ids=str)
def test_a_bound_ten_times_too_small_is_caught(monkeypatch, shape):
    bound = kernel.component_bound

    def too_small(*arguments, **options):
        return bound(*arguments, **options) / 10

    monkeypatch.setattr(kernel, "component_bound", too_small)
    with pytest.raises(AuditError, match="a gradient component outside its bound"):
        audited_batches(TRAINING_FORMATS[2], shape, rows=16 * len(FAMILIES) * shape[0])


def test_an_exp_that_is_worse_than_assumed_is_caught(monkeypatch):
    exp = np.exp

    def sloppy(values, out=None):
        result = exp(values, out=out)
        result *= 1 + 2.0**-46
        return result

    monkeypatch.setattr(kernel.np, "exp", sloppy)
    with pytest.raises(AuditError):
        audited_batches(TRAINING_FORMATS[2], (64, 10), rows=1024)


def test_the_sample_grows_with_the_cells_and_is_never_less_than_asked():
    recipe = next(
        planned_recipes(
            families=("normal",), fmt=TRAINING_FORMATS[2], shapes=((64, 1000),), rows=64, seed=2
        )
    )
    batch = expand(recipe)
    prepared = prepare(batch.logits, batch.labels, recipe.to_json())
    assert audit_batch(prepared, cells=1, at_least=2) == 2
    few = expand(Recipe.from_json({**recipe.to_json(), "shape": (64, 10)}))
    prepared = prepare(few.logits, few.labels, recipe.to_json())
    assert audit_batch(prepared, cells=1) in (1, 2)
    assert audit_batch(prepared, cells=20) == 32


def finding(exact_loss):
    return Finding(
        kind=kinds.INACCURATE_LOSS,
        tier=kinds.DEFECT,
        path="tf.nn/fused",
        format="float32",
        mode="eager",
        device="CPU:0",
        logits=(0.0, 0.0),
        label=0,
        loss_dtype="float32",
        observed_loss=1.0,
        exact_loss=exact_loss,
        observed_gradient=(0.0, 0.0),
        exact_gradient=(-0.5, 0.5),
        ulp_error=1.0,
        mixed_error=1.0,
        bound=1.0,
        margin=0.0,
        recipe={},
        row=0,
    )


def test_the_exact_values_of_findings_are_checked():
    assert audit_findings([finding(np.log(2)), finding(np.log(2))]) == 1
    with pytest.raises(AuditError, match="the exact values of a finding are not mpmath's"):
        audit_findings([finding(0.6931)])
