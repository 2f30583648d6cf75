"""Users' formulas on real TensorFlow: sound losses show nothing, planted defects show."""

import pytest

import lossfuzz
from lossfuzz.harness.losses.reduced import reduced
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import TRAINING_FORMATS
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.results import kinds
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.strategies.families import FAMILIES
from lossfuzz.strategies.recipes import expand, planned_recipes

pytestmark = pytest.mark.usefixtures("tf")


@lossfuzz.formula(source="Leng et al. 2022, 'PolyLoss', ICLR")
def poly1(x, logits, label):
    return -x.log_softmax(logits)[label] + 1.0 * (1 - x.softmax(logits)[label])


@lossfuzz.formula(source="Cao et al. 2019, 'Learning imbalanced datasets with LDAM', NeurIPS")
def ldam(x, logits, label):
    margins = x.constant([0.5 / (1 + k) ** 0.25 for k in range(x.classes)])
    return -x.log_softmax(30.0 * (logits - margins * x.one_hot(label)))[label]


@lossfuzz.formula
def smoothing(x, logits, label):
    weights = 0.9 * x.one_hot(label) + 0.1 / x.count
    return -x.sum(weights * x.log_softmax(logits))


@lossfuzz.formula(target="binary")
def asymmetric(x, logits, targets):
    losses = targets * x.softplus(-logits) + 0.5 * (1 - targets) * x.softplus(logits)
    return x.mean(losses)


@lossfuzz.formula
def hinge(x, logits, label):
    rivals = x.where(x.one_hot(label) == 1, 0.0, x.relu(1 + logits - logits[label]))
    return x.sum(rivals)


@lossfuzz.formula
def naive(x, logits, label):
    return x.log(x.sum(x.exp(logits))) - logits[label]


FORMULAS = {
    one.name.rpartition(":")[2]: one for one in (poly1, ldam, smoothing, asymmetric, hinge)
}


def defects_shown(loss, call, fmt, mode="eager", shape=(64, 6), seed=2, rows=100):
    path = LossPath(
        name="planted/one",
        loss=loss,
        api="tensorflow",
        call=call,
        source="",
        documented=loss,
        own=True,
    )
    runner = CellRunner(Cell(path=path, format=fmt, mode=mode, device="CPU:0"))
    found, judged = {}, 0
    for recipe in planned_recipes(
        families=tuple(FAMILIES),
        fmt=fmt,
        shapes=(shape,),
        rows=2 * len(FAMILIES) * 64,
        seed=seed,
    ):
        batch = expand(recipe)
        prepared = prepare(batch.logits, batch.labels, recipe.to_json(), loss)
        outcome = outcome_of(runner, prepared)
        judged += int(prepared.reference.judged.sum())
        for kind, flags in outcome.measurement.defects.items():
            if flags.any():
                found.setdefault(kind, []).append((recipe.family, outcome, flags))
    assert judged > rows
    return found


def sound(tf, name):
    """Losses as careful users write them, in the logits' own format."""
    nn = tf.nn

    def fused(x, y):
        return nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=x)

    def hot(x, y):
        return tf.one_hot(y, x.shape[-1], dtype=x.dtype)

    def ldam_loss(x, y, _):
        margins = tf.constant([0.5 / (1 + k) ** 0.25 for k in range(x.shape[-1])], x.dtype)
        shifted = x - tf.stop_gradient(tf.reduce_max(x, -1, keepdims=True))  # 30 x may overflow
        return fused(30 * (shifted - margins * hot(x, y)), y)

    def smoothing_loss(x, y, _):
        weights = hot(x, y) * 0.9 + 0.1 / x.shape[-1]
        return nn.softmax_cross_entropy_with_logits(labels=weights, logits=x)

    def hinge_loss(x, y, _):
        at = tf.reduce_sum(tf.where(hot(x, y) == 1, x, tf.zeros_like(x)), -1, keepdims=True)
        return tf.reduce_sum(tf.where(hot(x, y) == 1, 0 * at, nn.relu(1 + x - at)), -1)

    return {
        "poly1": lambda x, y, _: fused(x, y) + 1 - tf.exp(-fused(x, y)),
        "ldam": ldam_loss,
        "smoothing": smoothing_loss,
        "asymmetric": lambda x, t, _: tf.reduce_mean(
            t * nn.softplus(-x) + 0.5 * (1 - t) * nn.softplus(x), -1
        ),
        "hinge": hinge_loss,
    }[name]


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", FORMULAS)
def test_a_sound_loss_of_a_users_formula_shows_no_defect(tf, name, fmt, mode):
    assert set(defects_shown(FORMULAS[name], sound(tf, name), fmt, mode)) == set()


def planted(tf):
    """Formula, what is wrong, what to do, and the kind that must be found."""
    nn, math = tf.nn, tf.math

    def fused(x, y):
        return nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=x)

    def at(values, y):
        return tf.gather(values, y, batch_dims=y.shape.rank)

    return {
        "clipped log": (
            poly1,
            lambda x, y, _: (
                1 - at(nn.softmax(x), y) - math.log(tf.maximum(at(nn.softmax(x), y), 1e-7))
            ),
            kinds.GRADIENT_COLLAPSE,
        ),
        "log of softmax": (
            poly1,
            lambda x, y, _: 1 - at(nn.softmax(x), y) - math.log(at(nn.softmax(x), y)),
            kinds.NON_FINITE_LOSS,
        ),
        "term without gradient": (
            poly1,
            lambda x, y, _: fused(x, y) + tf.stop_gradient(1 - at(nn.softmax(x), y)),
            kinds.INACCURATE_GRADIENT,
        ),
        "term forgotten": (poly1, lambda x, y, _: fused(x, y), kinds.INACCURATE_LOSS),
        "margin of another class": (
            ldam,
            lambda x, y, _: fused(30 * (x - 0.5 * tf.one_hot(y, x.shape[-1], dtype=x.dtype)), y),
            kinds.INACCURATE_LOSS,
        ),
        "half the gradient": (
            ldam,
            lambda x, y, fmt: (
                tf.stop_gradient(sound(tf, "ldam")(x, y, fmt) / 2)
                + sound(tf, "ldam")(x, y, fmt) / 2
            ),
            kinds.INACCURATE_GRADIENT,
        ),
        "unshifted": (
            naive,
            lambda x, y, _: math.log(tf.reduce_sum(tf.exp(x), -1)) - at(x, y),
            kinds.NON_FINITE_LOSS,
        ),
        "half a hinge": (
            hinge,
            lambda x, y, fmt: sound(tf, "hinge")(x / 2, y, fmt),
            kinds.INACCURATE_LOSS,
        ),
        "log of sigmoid": (
            asymmetric,
            lambda x, t, _: (
                -tf.reduce_mean(
                    t * math.log(tf.sigmoid(x)) + 0.5 * (1 - t) * math.log(1 - tf.sigmoid(x)), -1
                )
            ),
            kinds.NON_FINITE_LOSS,
        ),
    }


PLANTED = (
    "clipped log",
    "log of softmax",
    "term without gradient",
    "term forgotten",
    "margin of another class",
    "half the gradient",
    "unshifted",
    "half a hinge",
    "log of sigmoid",
)


def test_every_planted_formula_has_its_test(tf):
    assert tuple(planted(tf)) == PLANTED


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_of_a_users_formula_is_found(tf, name, fmt):
    loss, call, kind = planted(tf)[name]
    assert kind in defects_shown(loss, call, fmt)


@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.name)
def test_a_sound_mean_of_a_users_formula_shows_no_defect_and_a_sum_in_its_place_does(tf, fmt):
    def rows(x, y):
        return tf.cast(sound(tf, "poly1")(x, y, fmt), tf.float32)

    mean = reduced(poly1, "mean")
    shown = defects_shown(
        mean, lambda x, y, _: tf.cast(tf.reduce_mean(rows(x, y)), x.dtype), fmt, rows=1
    )
    assert set(shown) == set()
    shown = defects_shown(
        mean, lambda x, y, _: tf.cast(tf.reduce_sum(rows(x, y)), x.dtype), fmt, rows=1
    )
    assert kinds.INACCURATE_LOSS in shown


def test_a_sound_loss_of_a_users_formula_is_sound_under_xla_as_well(tf):
    shown = defects_shown(poly1, sound(tf, "poly1"), TRAINING_FORMATS[2], "xla")
    assert set(shown) == set()
