"""Targets are what their kinds say, exact in every format, and the same every time."""

import numpy as np
import pytest

from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.targets import KINDS, targets_of
from lossfuzz.harness.numbers.formats import BINARY32, TRAINING_FORMATS
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

SHAPES = ((8, 10), (16, 1), (8, 2), (4, 5, 7))

every_kind = pytest.mark.parametrize("kind", KINDS)
every_format = pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.dtype_name)


def batches(fmt, rows=1024, seed=1):
    for recipe in planned_recipes(
        families=tuple(FAMILIES), fmt=fmt, shapes=SHAPES, rows=rows, seed=seed
    ):
        batch = expand(recipe)
        yield batch.rows, batch.row_labels


@every_format
@every_kind
def test_weights_are_exact_in_the_logits_format(kind, fmt):
    for logits, labels in batches(fmt):
        targets = targets_of(kind, logits, labels)
        assert np.array_equal(targets.weights.astype(fmt.dtype).astype(float), targets.weights)
        complements = 1 - targets.weights
        assert np.array_equal(complements.astype(fmt.dtype).astype(float), complements)


@every_kind
def test_targets_are_the_same_every_time_and_named_by_their_kind(kind):
    for logits, labels in batches(TRAINING_FORMATS[0], rows=256):
        left, right = (targets_of(kind, logits.copy(), labels.copy()) for _ in range(2))
        assert left.kind == kind
        assert np.array_equal(left.weights, right.weights)
        assert np.array_equal(left.labels, right.labels)
        assert np.array_equal(left.masked, np.isneginf(logits.astype(float)))


@pytest.mark.parametrize("kind", [kinds.INDEX, kinds.ONE_HOT])
def test_labels_weigh_1_at_the_label(kind):
    for logits, labels in batches(TRAINING_FORMATS[0]):
        targets = targets_of(kind, logits, labels)
        assert np.array_equal(targets.weights, np.eye(logits.shape[1])[labels])
        assert np.array_equal(targets.labels, labels)


def test_every_fourth_row_is_ignored():
    for logits, labels in batches(TRAINING_FORMATS[0]):
        targets = targets_of(kinds.IGNORABLE, logits, labels)
        ignored = np.arange(len(labels)) % 4 == 3
        assert not targets.weights[ignored].any()
        assert np.array_equal(targets.weights[~ignored], np.eye(logits.shape[1])[labels[~ignored]])
        fed = targets.fed(logits.shape, logits.dtype)
        assert np.array_equal(fed, np.where(ignored, -1, labels))


@every_format
def test_distributions_sum_to_exactly_1_and_avoid_masked_classes(fmt):
    spread = 0
    for logits, labels in batches(fmt, rows=2048):
        targets = targets_of(kinds.DISTRIBUTION, logits, labels)
        rows = np.arange(len(labels))
        assert (targets.weights >= 0).all()
        assert (targets.weights.sum(axis=1) == 1).all()
        parts = (
            targets.weights * np.where((rows % 2 == 1) & (fmt is BINARY32), 2**20, 128)[:, None]
        )
        assert np.array_equal(parts, np.round(parts))
        assert (targets.weights[rows, labels] >= 1 / 2).all()
        elsewhere = np.arange(logits.shape[1]) != labels[:, None]
        assert not targets.weights[targets.masked & elsewhere].any()
        assert np.array_equal(targets.labels, targets.weights.argmax(axis=1))
        spread += ((targets.weights > 0).sum(axis=1) > 1).sum()
    assert spread > 500


def test_binary_targets_are_0_or_1_each_by_itself():
    every = []
    for logits, labels in batches(TRAINING_FORMATS[0]):
        targets = targets_of(kinds.BINARY, logits, labels)
        assert set(np.unique(targets.weights)) <= {0.0, 1.0}
        some = targets.weights.any(axis=1)  # the others have empty targets, as masks may be
        assert (targets.weights[np.arange(len(labels)), labels] == 1)[some].all()
        every.append(targets.weights.sum(axis=1))
    assert len(np.unique(np.concatenate(every))) > 4


def test_probabilities_are_odd_multiples_of_1_in_256_but_for_a_sure_one():
    for logits, labels in batches(TRAINING_FORMATS[0]):
        targets = targets_of(kinds.PROBABILITY, logits, labels)
        at_label = targets.weights[np.arange(len(labels)), labels]
        assert set(np.unique(at_label)) <= {0.0, 1.0}
        alike = (targets.weights == targets.weights[:, :1]).all(axis=1)  # all 0, or all 1
        elsewhere = (np.arange(logits.shape[1]) != labels[:, None]) & ~alike[:, None]
        parts = targets.weights[elsewhere] * 256
        assert (parts % 2 == 1).all()
        assert ((parts > 0) & (parts < 256)).all()


def test_a_loss_without_targets_has_no_weights():
    logits, labels = next(batches(TRAINING_FORMATS[0]))
    assert not targets_of(kinds.NONE, logits, labels).weights.any()


@every_format
@every_kind
def test_paths_are_fed_what_the_kind_says(kind, fmt):
    logits = np.zeros((4, 5, 7), fmt.dtype)
    labels = np.arange(20) % 7
    targets = targets_of(kind, logits.reshape(-1, 7), labels)
    fed = targets.fed(logits.shape, logits.dtype)
    if KINDS[kind].startswith("int32") or kind == kinds.NONE:
        assert fed.dtype == np.int32
        assert fed.shape == (4, 5)
        assert ((fed.reshape(-1) == labels) | (fed.reshape(-1) == -1)).all()
    else:
        assert fed.dtype == fmt.dtype
        assert fed.shape == (4, 5, 7)
        assert np.array_equal(fed.astype(float).reshape(-1, 7), targets.weights)


@every_kind
def test_some_rows_keep_their_own_targets(kind):
    logits, labels = next(batches(TRAINING_FORMATS[0]))
    targets = targets_of(kind, logits, labels)
    some = targets.take(np.array([5, 0, 2]))
    assert np.array_equal(some.weights, targets.weights[[5, 0, 2]])
    assert np.array_equal(some.labels, targets.labels[[5, 0, 2]])
    assert np.array_equal(some.masked, targets.masked[[5, 0, 2]])
    assert some.kind == kind


def test_unknown_kinds_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown kind of target 'ordinal'; known kinds: integer"):
        targets_of("ordinal", np.zeros((2, 3)), np.zeros(2, np.int32))
