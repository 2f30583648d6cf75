"""How losses are found: full names, slugs, short names, users' formulas, and reductions of all."""

import subprocess
import sys

import numpy as np
import pytest

import lossfuzz
from lossfuzz import cli
from lossfuzz.harness.formula.spec import formula
from lossfuzz.harness.losses import binary, cross_entropy, divergences, focal, reduced
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.table import ALIASES, LOSSES, loss_named, losses_matching, slug
from lossfuzz.harness.measuring.prepared import prepare

MODULE = '''
import lossfuzz


def plain(x, logits, label):
    return x.logsumexp(logits) - logits[label]


@lossfuzz.formula(target="distribution")
def soft(x, logits, targets):
    """Cross-entropy of soft targets."""
    return -x.sum(targets * x.log_softmax(logits))


class Losses:
    plain = staticmethod(plain)


NUMBER = 3
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_losses.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("my_losses", None)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_every_shipped_loss_is_found_by_its_name_and_its_slug(loss):
    assert loss_named(loss.name) is loss
    assert loss_named(slug(loss.name)) is loss


def test_slugs_are_distinct_and_no_short_name_is_anothers_slug():
    slugs = {slug(loss.name): loss for loss in LOSSES}
    assert len(slugs) == len(LOSSES)
    assert all(slugs.get(name, loss) is loss for name, loss in ALIASES.items())
    assert slug(SOFTMAX_CROSS_ENTROPY.name) == "softmax-cross-entropy-with-an-integer-label"


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("softmax-cross-entropy", SOFTMAX_CROSS_ENTROPY),
        ("binary-cross-entropy", binary.BINARY_CROSS_ENTROPY),
        ("sigmoid-cross-entropy", binary.BINARY_CROSS_ENTROPY),
        ("categorical-cross-entropy", cross_entropy.ONE_HOT_CROSS_ENTROPY),
        ("softmax-cross-entropy-soft-labels", cross_entropy.SOFT_CROSS_ENTROPY),
        ("kl-divergence", divergences.KL_DIVERGENCE),
        ("focal", focal.CATEGORICAL_FOCAL[2.0]),
        ("softmax-cross-entropy-mean", reduced.MEAN_CROSS_ENTROPY),
        ("softmax-cross-entropy-weighted-mean", reduced.WEIGHTED_MEAN_CROSS_ENTROPY),
        ("binary-cross-entropy-mean", reduced.MEAN_BINARY_CROSS_ENTROPY),
    ],
)
def test_short_names(name, loss):
    assert loss_named(name) is loss


@pytest.mark.parametrize("reduction", reduced.REDUCTIONS)
@pytest.mark.parametrize(
    "loss", [loss for loss in LOSSES if not loss.reduction], ids=lambda x: x.name
)
def test_every_loss_of_a_row_can_be_reduced_and_is_found_again(loss, reduction):
    found = loss_named(f"{slug(loss.name)}-{slug(reduction)}")
    assert (found.base, found.reduction) == (loss, reduction)
    assert loss_named(found.name) is found
    assert loss_named(slug(found.name)) is found
    assert losses_matching([found.name]) == [found]


def test_a_function_of_a_module_becomes_a_formula_by_its_name(module):
    spec = loss_named("my_losses:plain", load=True)
    assert (spec.name, spec.target) == ("my_losses:plain", "integer label")
    assert loss_named("my_losses:plain") is spec
    assert loss_named("my_losses:Losses.plain").name == "my_losses:Losses.plain"


def test_a_decorated_formula_keeps_its_target_and_docstring(module):
    spec = loss_named("my_losses:soft", load=True)
    assert (spec.name, spec.target) == ("my_losses:soft", "distribution")
    assert spec.formula == "Cross-entropy of soft targets."


def test_reductions_of_a_users_formula_are_found(module):
    spec = loss_named("my_losses:soft", load=True)
    mean = loss_named("my_losses:soft, mean over the batch")
    assert mean is reduced.reduced(spec, "mean")
    assert loss_named("my_losses:soft-mean") is mean
    assert loss_named("my_losses:soft-weighted-mean").reduction == "weighted mean"


def test_another_process_finds_a_reduced_formula_by_its_full_name(module):
    script = (
        "from lossfuzz.harness.losses.table import loss_named; "
        "print(loss_named('my_losses:plain, sum over the batch').base.name)"
    )
    done = subprocess.run(  # noqa: S603 - our own interpreter and script
        [sys.executable, "-c", script], cwd=module, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "my_losses:plain"


def test_a_formula_that_cannot_be_imported_is_known_in_its_process():
    spec = lossfuzz.formula(lambda x, v, y: x.logsumexp(v) - v[y], name="mine, at home")
    assert loss_named("mine, at home") is spec
    assert loss_named("mine, at home, mean over the batch").base is spec


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "my_losses:missing",
            "cannot import 'my_losses:missing': AttributeError: module 'my_losses' ",
        ),
        ("no_such_module:f", "cannot import 'no_such_module:f': ModuleNotFoundError: No module"),
        ("my_losses:NUMBER", "'my_losses:NUMBER' is a int, expected a formula"),
        (
            "softmax-cross-entropy-median",
            "unknown loss 'softmax-cross-entropy-median'; did you mean 'softmax-cross-entropy' or",
        ),
        ("softmax-cross-entropy-mean-sum", "unknown loss"),
    ],
)
def test_a_name_that_is_not_found_says_why(module, name, message):
    with pytest.raises(ValueError, match=message):
        loss_named(name, load=True)
    with pytest.raises(ValueError, match=message):
        losses_matching([name])


def test_patterns_match_slugs_and_other_names_choose_their_loss(module):
    assert losses_matching(["binary-focal-*"]) == losses_matching(["binary focal*"])
    chosen = losses_matching(["my_losses:plain", "log-sum-exp", "focal"])
    assert [one.name for one in chosen] == [
        "log-sum-exp",
        "categorical focal loss, alpha 0.25, gamma 2",
        "my_losses:plain",
    ]


def test_the_referee_compares_a_users_formula(module, capsys):
    assert cli.main(["referee", "--losses", "my_losses:soft", "--rows", "200"]) == 0
    out = capsys.readouterr().out
    assert "my_losses:soft" in out
    assert "0 disagreements between enclosed references" in out


@pytest.mark.parametrize("reduction", reduced.REDUCTIONS)
def test_a_formula_is_reduced_and_may_be_negative(reduction):
    spec = formula(lambda x, v, y: x.log_softmax(v)[y], name="negative", reduction=reduction)
    generator = np.random.default_rng(1)
    logits = generator.normal(0, 3, (32, 5)).astype(np.float32)
    logits[3, 2] = np.nan  # a row without an exact value is replaced
    labels = generator.integers(0, 5, 32).astype(np.int32)
    labels[3] = 2
    prepared = prepare(logits, labels, {}, spec)
    factors = reduced.row_factors(reduction, 32)
    plain = prepare(prepared.logits, prepared.row_labels.astype(np.int32), {})
    assert prepared.reference.loss[0] == pytest.approx(-(plain.reference.loss * factors).sum())
    assert prepared.reference.gradient == pytest.approx(
        -plain.reference.gradient * factors[:, None], abs=1e-12
    )
    assert prepared.conditions.loss_scale[0] >= abs(prepared.reference.loss[0])


def test_the_bound_of_a_sum_that_cancels_grows():
    spec = formula(
        lambda x, v, _: v[0] + x.exp(v[1]), name="signed", target="none", reduction="sum"
    )
    logits = np.array([[100, 0], [-102, 0]], np.float32)
    prepared = prepare(logits, np.zeros(2, np.int32), {}, spec)
    assert prepared.reference.loss.tolist() == [0.0]
    assert prepared.reference.relative_bound > 1e3  # nothing is known of the relative error
