"""Whatever shrinking tries, targets stay in their domain, and labels among two classes."""

import numpy as np
import pytest

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.table import LOSSES
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.shrinking.library import library_rows
from lossfuzz.shrinking.rows import Row
from lossfuzz.shrinking.selections import rows_of_classes
from lossfuzz.shrinking.shrink import _counts
from lossfuzz.shrinking.simplifications import simpler_rows

ROWS = [loss for loss in LOSSES if loss.reduction is None]


def is_in_domain(row, loss):
    weights = np.array(row.weights)
    if loss.target == kinds.BINARY:
        return bool(np.isin(weights, [0.0, 1.0]).all())
    if loss.target == kinds.PROBABILITY:
        return bool(((weights >= 0) & (weights <= 1)).all())
    if loss.target == kinds.DISTRIBUTION:
        return bool((weights >= 0).all()) and bool(abs(weights.sum() - 1) < 1e-12)
    if loss.target == kinds.ONE_HOT:
        return bool(weights.max() == 1 and weights.sum() == 1)
    return 0 <= row.label < row.classes


def start_of(loss, classes, seed):
    generator = np.random.default_rng(seed)
    logits = BINARY32.cast(generator.normal(size=(1, classes)) * 20)
    targets = kinds.targets_of(loss.target, logits, generator.integers(0, classes, 1))
    row = Row(
        logits=tuple(logits[0].astype(float).tolist()),
        weights=tuple(targets.weights[0].tolist()),
        label=int(targets.labels[0]),
    )
    return row.relabelled(loss)


@pytest.mark.parametrize("loss", ROWS, ids=lambda loss: loss.name)
def test_every_row_that_shrinking_tries_has_targets_of_its_losss_domain(loss):
    for classes in (2, 3, 7):
        assert all(is_in_domain(row, loss) for row in library_rows(loss, BINARY32, classes))
        for seed in range(4):
            start = start_of(loss, classes, seed)
            assert is_in_domain(start, loss)
            tried = simpler_rows(start, loss, BINARY32)
            for fewer in (2, 3):
                if fewer < classes:
                    tried = [*tried, *rows_of_classes(start, fewer, loss, BINARY32)]
            assert all(is_in_domain(row, loss) for row in tried)


@pytest.mark.parametrize("loss", ROWS, ids=lambda loss: loss.name)
def test_a_label_or_a_distribution_keeps_two_classes(loss):
    alone = loss.target in (*kinds.BY_CLASS, kinds.NONE)
    assert (1 in _counts(loss)) == alone


@pytest.mark.parametrize("kind", kinds.BY_CLASS)
def test_some_rows_of_zero_one_targets_are_all_zeros_and_some_all_ones(kind):
    logits = np.zeros((400, 5), np.float32)
    labels = np.arange(400) % 5
    weights = kinds.targets_of(kind, logits, labels).weights
    assert (weights == 0).all(axis=1).mean() == pytest.approx(1 / 8, abs=0.06)
    assert (weights == 1).all(axis=1).sum() >= 5
