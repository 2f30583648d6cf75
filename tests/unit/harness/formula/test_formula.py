"""Users' formulas: values and gradients against mpmath by hand, against Arb, and against ours."""

import math
import time

import mpmath
import numpy as np
import pytest

import lossfuzz
from lossfuzz import referee
from lossfuzz.audit import AuditError, audit_batch
from lossfuzz.harness.exact.enclosed import RELATIVE_BOUND, reference_by_enclosures
from lossfuzz.harness.exact.kernel import ABSOLUTE_BOUND
from lossfuzz.harness.exact.oracle import row_reference
from lossfuzz.harness.formula.spec import formula
from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.table import LOSSES, loss_named
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.measuring.measure import measure
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BINARY32, TRAINING_FORMATS
from lossfuzz.harness.results import kinds as findings
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

MP = mpmath.MPContext()
MP.dps = 500

POLY_EPSILON, SCALE = 1.0, 30.0


@lossfuzz.formula(source="Leng et al. 2022, 'PolyLoss', ICLR")
def poly1(x, logits, label):
    """-log p + e (1 - p), p = softmax(x)_y."""
    return -x.log_softmax(logits)[label] + POLY_EPSILON * (1 - x.softmax(logits)[label])


@lossfuzz.formula(source="Cao et al. 2019, 'Learning imbalanced datasets with LDAM', NeurIPS")
def ldam(x, logits, label):
    margins = x.constant([0.5 / (1 + k) ** 0.25 for k in range(x.classes)])
    return -x.log_softmax(SCALE * (logits - margins * x.one_hot(label)))[label]


@lossfuzz.formula
def smoothing(x, logits, label):
    weights = 0.875 * x.one_hot(label) + 0.125 / x.classes
    return -x.sum(weights * x.log_softmax(logits))


@lossfuzz.formula(target="probability")
def binary(x, logits, targets):
    return x.mean(targets * x.softplus(-logits) + (1 - targets) * x.softplus(logits))


@lossfuzz.formula
def hinge(x, logits, label):
    rivals = x.where(x.one_hot(label) == 1, -1.0, logits - logits[label])
    return x.sum(x.relu(1 + rivals))


@lossfuzz.formula
def naive(x, logits, label):
    return x.log(x.sum(x.exp(logits))) - logits[label]


@lossfuzz.formula(target="none")
def free_energy(x, logits, _):
    return -x.logsumexp(-logits)


OWN = (poly1, ldam, smoothing, binary, hinge, naive, free_energy)
every_formula = pytest.mark.parametrize("spec", OWN, ids=lambda one: one.name.rpartition(":")[2])


def shares(z):
    top = max(z)
    powers = [MP.exp(one - top) for one in z]
    return [one / MP.fsum(powers) for one in powers]


# Loss and gradient by hand, over mpmath, each without a look at the formula's own functions;
# logits are lists of mpf, y the label, t the weights.


def by_hand_poly1(z, y, _):
    p = shares(z)
    slopes = [(1 + POLY_EPSILON * p[y]) * one for one in p]
    slopes[y] = -(1 + POLY_EPSILON * p[y]) * (1 - p[y])
    return -MP.log(p[y]) + POLY_EPSILON * (1 - p[y]), slopes


def by_hand_ldam(z, y, _):
    margins = [0.5 / (1 + k) ** 0.25 for k in range(len(z))]
    scaled = [SCALE * (one - (margins[k] if k == y else 0)) for k, one in enumerate(z)]
    p = shares(scaled)
    return -MP.log(p[y]), [SCALE * (one - (k == y)) for k, one in enumerate(p)]


def by_hand_smoothing(z, y, _):
    p, n = shares(z), len(z)
    weights = [MP.mpf(0.875) * (k == y) + MP.mpf(0.125) / n for k in range(n)]
    loss = -MP.fsum(w * MP.log(one) for w, one in zip(weights, p, strict=True))
    return loss, [one - w for w, one in zip(weights, p, strict=True)]


def by_hand_binary(z, _, t):
    def sigma(one):
        return 1 / (1 + MP.exp(-one)) if one > 0 else MP.exp(one) / (1 + MP.exp(one))

    losses = [
        -w * MP.log(sigma(one)) - (1 - w) * MP.log(sigma(-one))
        for one, w in zip(z, t, strict=True)
    ]
    return MP.fsum(losses) / len(z), [
        (sigma(one) - w) / len(z) for one, w in zip(z, t, strict=True)
    ]


def by_hand_hinge(z, y, _):
    active = [k != y and 1 + one - z[y] > 0 for k, one in enumerate(z)]
    slopes = [MP.mpf(int(one)) for one in active]
    slopes[y] = -MP.fsum(slopes)
    return MP.fsum(1 + one - z[y] for k, one in enumerate(z) if active[k]), slopes


def by_hand_naive(z, y, _):
    p = shares(z)
    return -MP.log(p[y]), [one - (k == y) for k, one in enumerate(p)]


def by_hand_free_energy(z, _, __):
    p = shares([-one for one in z])
    return -(MP.log(MP.fsum(MP.exp(max(-o for o in z) * -1 - one) for one in z)) - min(z)), p


BY_HAND = dict(
    zip(
        (one.name for one in OWN),
        (
            by_hand_poly1,
            by_hand_ldam,
            by_hand_smoothing,
            by_hand_binary,
            by_hand_hinge,
            by_hand_naive,
            by_hand_free_energy,
        ),
        strict=True,
    )
)


def batches(fmt, rows=64, seed=3, shapes=((8, 3), (8, 6))):
    for recipe in planned_recipes(
        families=tuple(FAMILIES), fmt=fmt, shapes=shapes, rows=rows, seed=seed
    ):
        batch = expand(recipe)
        yield batch.rows, batch.row_labels


def near(found, exact):
    return abs(MP.mpf(float(found)) - exact) <= 2 * RELATIVE_BOUND * abs(exact) + ABSOLUTE_BOUND


@every_formula
@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_value_and_gradient_are_those_by_hand_on_every_family(spec, fmt):
    judged = 0
    for logits, labels in batches(fmt, rows=16 * 2 * 8):
        targets = targets_of(spec.target, logits, labels)
        found = reference_by_enclosures(spec, logits, targets)
        for row in np.flatnonzero(found.judged & np.isfinite(logits.astype(float)).all(axis=1)):
            z = [MP.mpf(float(one)) for one in logits[row]]
            weights = [MP.mpf(one) for one in targets.weights[row].tolist()]
            loss, slopes = BY_HAND[spec.name](z, int(targets.labels[row]), weights)
            assert near(found.loss[row], loss), (logits[row], loss)
            pairs = zip(found.gradient[row], slopes, strict=True)
            assert all(near(one, exact) for one, exact in pairs), (logits[row], slopes)
            judged += 1
    assert judged > 100


@every_formula
def test_arb_by_taylor_series_agrees_on_every_family_in_every_format(spec):
    verdict = referee.compare_loss(spec, 3 * 16 * 11, seed=11, shapes=((4, 3), (2, 10), (2, 1)))
    assert verdict.rows > 250
    assert (verdict.arb, verdict.float64) == (0, 0), verdict.examples


@every_formula
def test_the_audit_passes_and_notices_an_exp_that_is_worse_than_assumed(spec, monkeypatch):
    recipe = next(
        planned_recipes(families=("normal",), fmt=BINARY32, shapes=((64, 6),), rows=64, seed=2)
    )
    batch = expand(recipe)
    prepared = prepare(batch.logits, batch.labels, recipe.to_json(), spec)
    assert audit_batch(prepared, cells=4, at_least=8) >= 8
    prepared.row_reference.loss[...] *= 1 + 2.0**-30
    with pytest.raises(AuditError, match="the loss outside its bound, by Arb"):
        audit_batch(prepared, cells=4, at_least=8)


# Formulas of losses that we ship, against the references that we ship.


def soft(x, logits, targets):
    return -x.sum(targets * x.log_softmax(logits))


def divergence(x, logits, targets):
    return x.sum(x.xlogy(targets, targets) - targets * x.log_softmax(logits))


def generalised(x, logits, label):
    return (1 - x.softmax(logits)[label] ** 0.5) / 0.5


def warm(x, logits, label):
    return x.logsumexp(logits / 2) - (logits / 2)[label]


def focal(x, logits, targets):
    p = x.sum(targets * x.softmax(logits))
    return -0.25 * (1 - p) ** 2 * x.log(p)


def binary_focal(x, logits, targets):
    p = x.where(targets == 1, x.sigmoid(logits), x.sigmoid(-logits))
    return x.mean(-((1 - p) ** 2) * x.where(targets == 1, 1.0, 1.0) * x.log(p))


def log_sum_exp(x, logits, _):
    top = x.max(logits)
    return top + x.log(x.sum(x.exp(logits - top)))


SHIPPED = {
    "softmax cross-entropy with an integer label": naive.derived.function.function,
    "softmax cross-entropy, soft labels": soft,
    "softmax cross-entropy, one-hot": soft,
    "softmax cross-entropy, ignoring a class": naive.derived.function.function,
    "softmax cross-entropy at temperature 2": warm,
    "KL divergence of a softmax": divergence,
    "generalised cross-entropy, q = 0.5": generalised,
    "categorical focal loss, alpha 0.25, gamma 2": focal,
    "binary focal loss, gamma 2": binary_focal,
    "binary cross-entropy": binary.derived.function.function,
    "log-sum-exp": log_sum_exp,
}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_formula_of_a_shipped_loss_has_its_exact_values(name):
    shipped = loss_named(name)
    own = formula(SHIPPED[name], target=shipped.target, name=f"own {name}")
    assert own.masks == shipped.masks
    for fmt in TRAINING_FORMATS:
        for logits, labels in batches(fmt, rows=16 * 16, shapes=((16, 5),)):
            targets = targets_of(shipped.target, logits, labels)
            ours, theirs = (row_reference(one, logits, targets) for one in (shipped, own))
            both = ours.judged & theirs.judged
            assert not (theirs.judged & ~ours.judged).any()
            assert both.sum() >= 0.8 * ours.judged.sum()
            for left, right in ((ours.loss, theirs.loss), (ours.gradient, theirs.gradient)):
                wide = np.abs(left[both] - right[both])
                bound = 2 * RELATIVE_BOUND * np.abs(left[both]) + 2 * ABSOLUTE_BOUND
                assert (wide <= bound).all()


def test_whether_a_class_is_masked_follows_from_the_formula():
    assert poly1.masks
    assert ldam.masks
    assert naive.masks
    assert hinge.masks  # a class far below has no share in it
    assert not smoothing.masks  # its loss becomes infinite
    assert not binary.masks
    assert formula(lambda x, v, y: x.logsumexp(v) - x.mean(v), target="none").masks is False
    assert formula(naive.derived.function.function, masks=False, name="x").masks is False


# Kinks and rows without an exact value.


def reference(spec, rows, labels):
    logits = np.array(rows, np.float32)
    return row_reference(spec, logits, targets_of(spec.target, logits, np.array(labels)))


def test_a_row_on_a_kink_is_not_judged_and_one_beside_it_is():
    below, above = np.nextafter(np.float32(1), [np.float32(0), np.float32(2)])
    found = reference(hinge, [[1, 0], [below, 0], [above, 0]], [0, 0, 0])
    assert found.judged.tolist() == [False, True, True]
    assert found.gradient[1:].tolist() == [[-1, 1], [0, 0]]
    assert math.isnan(found.loss[0])


def test_a_tie_that_does_not_matter_is_judged():
    shifted = formula(log_sum_exp, target="none", name="shifted")
    found = reference(shifted, [[2, 2, 2], [5, 5, 1]], [0, 0])
    assert found.judged.all()
    assert found.loss[0] == pytest.approx(2 + math.log(3), rel=1e-12)
    assert found.gradient[0] == pytest.approx([1 / 3] * 3, rel=1e-12)
    smooth = formula(
        lambda x, v, y: x.sum(x.where(v > 0, v, x.expm1(v))), target="none", name="elu"
    )
    found = reference(smooth, [[0, 1]], [0])
    assert found.judged.all()
    assert found.gradient.tolist() == [[1, 1]]


@pytest.mark.parametrize("write", ["abs", "relu", "max"])
def test_a_tie_that_matters_is_not_judged(write):
    kinked = formula(
        lambda x, v, y: x.max(v) if write == "max" else x.sum(getattr(x, write)(v)),
        target="none",
        name=write,
    )
    found = reference(kinked, [[0, 0], [0, 1], [3, 1]], [0, 0, 0])
    assert found.judged.tolist() == [False, write == "max", True]


def test_logits_of_any_size_have_exact_values_by_a_naive_formula():
    found = reference(naive, [[1e38, -1e38], [3e38, 3e38], [-3e38, -3.1e38]], [1, 0, 0])
    assert found.judged.all()
    assert found.loss[0] == 2 * float(np.float32(1e38))
    assert found.loss[1] == pytest.approx(math.log(2), rel=1e-12)
    assert found.loss[2] < 2.0**-200
    assert found.gradient[0] == pytest.approx([1, -1])


def test_a_multiple_of_logits_that_overflows_is_no_excuse_but_a_logit_near_the_end_is():
    logits = np.array([[1e38, 0], [3e37, 0], [1e37, 0]], np.float32)
    prepared = prepare(logits, np.array([0, 0, 0], np.int32), {}, ldam)
    assert prepared.reference.judged.all()
    nothing = np.full(3, np.nan, np.float32)
    result = measure(
        nothing,
        np.stack([nothing, nothing], axis=1),
        prepared.reference,
        prepared.row_labels,
        prepared.conditions,
        users=True,
    )
    for kind in (findings.NON_FINITE_LOSS, findings.NON_FINITE_GRADIENT):
        assert result.defects[kind].tolist() == [False, False, True]
        assert result.inaccuracies[kind].tolist() == [True, True, False]


def test_a_branch_that_is_not_taken_sends_nothing_back():
    safe = formula(
        lambda x, v, y: x.sum(x.where(v > 0, x.log(v), 0.0 * v)), target="none", name="safe log"
    )
    found = reference(safe, [[2, -1], [1, 3]], [0, 0])
    assert found.judged.all()
    assert found.gradient.tolist() == [[0.5, 0], [1, pytest.approx(1 / 3, rel=1e-12)]]


FUNCTIONS = {
    "sqrt": (lambda x, v: x.sqrt(v * v + 1), lambda v: MP.sqrt(v * v + 1)),
    "tanh": (lambda x, v: x.tanh(v), MP.tanh),
    "log1p": (lambda x, v: x.log1p(v * v), lambda v: MP.log(1 + v * v)),
    "expm1": (lambda x, v: x.expm1(v / 8), lambda v: MP.expm1(v / 8)),
    "log_sigmoid": (lambda x, v: x.log_sigmoid(v), lambda v: -MP.log(1 + MP.exp(-v))),
    "sigmoid": (lambda x, v: x.sigmoid(v), lambda v: 1 / (1 + MP.exp(-v))),
    "minimum": (lambda x, v: x.minimum(v * 2, 3.0), lambda v: min(v * 2, MP.mpf(3))),
    "abs": (lambda x, v: abs(v) ** 1.5, lambda v: abs(v) ** MP.mpf(1.5)),
    "powers": (lambda x, v: (v * v + 1) ** -1.5 + v**3 + 2**v, None),
    "quotient": (lambda x, v: v / (1 + v * v) - 3 / (2 + x.exp(v)), None),
    "complement": (lambda x, v: x.log(1 - x.exp(-(v * v) - 1)), None),
    "numpy's numbers": (lambda x, v: np.float64(2) * v - v / np.float32(4) + np.int32(1), None),
}
EXPECTED = {
    "powers": lambda v: (v * v + 1) ** MP.mpf(-1.5) + v**3 + MP.mpf(2) ** v,
    "quotient": lambda v: v / (1 + v * v) - 3 / (2 + MP.exp(v)),
    "complement": lambda v: MP.log(1 - MP.exp(-v * v - 1)),
    "numpy's numbers": lambda v: 2 * v - v / 4 + 1,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_the_value_and_slope_that_mpmath_finds(name):
    write, expected = FUNCTIONS[name]
    expected = expected or EXPECTED[name]
    spec = formula(lambda x, v, _: x.sum(write(x, v)), target="none", name=f"sum of {name}")
    values = np.array([[-30, 0.25], [3, -0.5], [1e-4, 17], [-1e-6, 2]], np.float32)
    found = reference(spec, values, [0] * 4)
    assert found.judged.all()
    for row, loss, slopes in zip(values.tolist(), found.loss, found.gradient, strict=True):
        z = [MP.mpf(one) for one in row]
        assert near(loss, MP.fsum(map(expected, z)))
        assert slopes == pytest.approx([float(MP.diff(expected, one)) for one in z], rel=1e-11)


def test_other_functions_over_the_classes():
    spec = formula(
        lambda x, v, _: x.max(v) * x.min(v) + x.mean(v * v) + v[0] - v[-1] + x.count,
        target="none",
        name="over the classes",
    )
    found = reference(spec, [[3, -2, 1]], [0])
    assert found.loss[0] == pytest.approx(-6 + 14 / 3 + 2 + 3, rel=1e-12)
    assert found.gradient[0] == pytest.approx([-2 + 2 + 1, 3 - 4 / 3, 2 / 3 - 1], rel=1e-12)


def test_a_batch_of_poly1_stays_in_float64_and_takes_milliseconds():
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 4, (256, 10)).astype(np.float32)
    targets = targets_of(kinds.INDEX, logits, generator.integers(0, 10, 256))
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        found = reference_by_enclosures(poly1, logits, targets)
        best = min(best, time.perf_counter() - start)
    assert found.extended_rows == 0
    assert best < 0.1  # 5 ms on an idle core


def test_every_shipped_loss_is_none_of_the_users():
    assert all(loss.derived is None for loss in LOSSES)
