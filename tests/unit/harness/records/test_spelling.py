"""An unknown name is told with what it may have meant."""

import pytest

from lossfuzz.harness.losses.reduced import reduction_named
from lossfuzz.harness.losses.table import ELSEWHERE, loss_named
from lossfuzz.harness.numbers.formats import format_named, training_format
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.records.modes import mode_named
from lossfuzz.harness.records.spelling import unknown
from lossfuzz.strategies.families import family_named


@pytest.mark.parametrize(
    ("look_up", "name", "meant"),
    [
        (loss_named, "sparse_categorical_crossentropy", "softmax-cross-entropy"),
        (loss_named, "SparseCategoricalCrossentropy", "softmax-cross-entropy"),
        (loss_named, "categorical_crossentropy", "categorical-cross-entropy"),
        (loss_named, "binary_crossentropy", "sigmoid-cross-entropy"),
        (loss_named, "BinaryCrossentropy", "sigmoid-cross-entropy"),
        (loss_named, "BinaryFocalCrossentropy", "binary-focal"),
        (loss_named, "KLDivergence", "kl-divergence"),
        (loss_named, "softmax-cros-entropy", "softmax-cross-entropy"),
        (lambda name: paths_matching([name]), "tf.nn/fuse", "tf.nn/fused"),
        (training_format, "fp16", "float16"),
        (training_format, "float-32", "float32"),
        (format_named, "double", "float64"),
        (mode_named, "jit_compile", "xla"),
        (mode_named, "eagre", "eager"),
        (family_named, "large_label", "large_labels"),
        (reduction_named, "means", "mean"),
        (reduction_named, "weighted-man", "weighted mean"),
    ],
)
def test_the_likely_name_is_asked_for(look_up, name, meant):
    with pytest.raises(
        ValueError, match=f"^unknown .*; did you mean .*'{meant}'.*\\? known"
    ) as told:
        look_up(name)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_every_name_of_keras_leads_to_one_of_ours(name):
    with pytest.raises(ValueError, match="did you mean") as told:
        loss_named(name)
    assert f"did you mean {ELSEWHERE[name]!r}?" in str(told.value)
    assert loss_named(ELSEWHERE[name])


def test_a_name_that_is_like_no_other_is_not_guessed():
    assert (
        unknown("mode", "q", ["eager", "graph"]) == "unknown mode 'q'; known modes: eager, graph"
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("weighted-mean", "weighted mean"),
        ("weighted_mean", "weighted mean"),
        ("mean_with_sample_weight", "mean with sample weight"),
        ("normalised-weighted-mean", "mean with sample weight"),
        ("sum_over_batch_size", "mean"),
        ("SUM", "sum"),
    ],
)
def test_reductions_are_known_by_keras_names_too(name, meant):
    assert reduction_named(name) == meant
