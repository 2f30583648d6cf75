"""Losses of every kind of Python object, with weights and without labels: their scripts run."""

import dataclasses
import functools
import json
import sys

import numpy as np
import pytest
from planted_messages import checked, outputs_of, outputs_without_faults

import lossfuzz
from lossfuzz.cli import main
from lossfuzz.harness.results.findings import Finding
from lossfuzz.reports import tables

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
QUICK = {"formats": ["float32"], "modes": ["eager"], "rows": 600, "shapes": [(32, 6)]}
FLOOR = 1e-7


def shown(messages, *folders):
    """The messages' outputs; fails with all that differs."""
    assert all("lossfuzz" not in one.script for one in messages)
    return outputs_without_faults(messages, *folders)


def clipped(logits, labels, floor=FLOOR):
    import tensorflow as tf

    p = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    return -tf.math.log(tf.maximum(p, tf.cast(floor, p.dtype)))


def shifted_by_the_batch(logits, labels):
    import tensorflow as tf

    moved = logits - tf.reduce_max(logits)
    mine = tf.gather(moved, labels, batch_dims=labels.shape.rank)
    return tf.math.log(tf.reduce_sum(tf.exp(moved), axis=-1)) - mine


# --- weights ---------------------------------------------------------------------------------


def over_rows(logits, labels, sample_weight):
    import tensorflow as tf

    return tf.reduce_mean(sample_weight * clipped(logits, labels))


def over_weights(labels, logits, sample_weight):
    import tensorflow as tf

    losses = clipped(logits, labels)
    return tf.reduce_sum(sample_weight * losses) / tf.reduce_sum(sample_weight)


def beside_others(logits, labels, sample_weight):
    import tensorflow as tf

    return tf.reduce_mean(sample_weight * shifted_by_the_batch(logits, labels))


def in_a_half_sum(logits, labels, sample_weight):
    """A sum that overflows for many rows of ordinary losses."""
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_sum(4096 * sample_weight * losses) / (4096 * tf.size(labels, logits.dtype))


def test_losses_with_weights_are_confirmed_made_small_and_shown(tf):
    import keras

    class Clipped(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return clipped(y_pred, tf.cast(y_true, tf.int32))

    mean, normalised = "weighted mean", "mean with sample weight"
    given = {
        "over rows": (over_rows, mean, {}),
        "labels first": (over_weights, normalised, {}),
        "lambda": (lambda x, y, sample_weight: 1.0 * over_rows(x, y, sample_weight), mean, {}),
        "Keras's object": (Clipped(), mean, {}),
        "Keras's other mean": (Clipped(reduction=normalised.replace(" ", "_")), normalised, {}),
        "sequences": (over_rows, mean, {"shapes": [(4, 5, 3)]}),
        "beside others": (beside_others, mean, {}),
        "in a half sum": (in_a_half_sum, mean, {"formats": ["float16"]}),
        "in a graph": (over_weights, normalised, {"modes": ["graph"]}),
        "in XLA": (over_rows, mean, {"modes": ["xla"]}),
    }
    messages = [
        checked(name, loss, NAME, reduction=reduction, **{**QUICK, **options})
        for name, (loss, reduction, options) in given.items()
    ]
    assert all(one.finding is not None for one in messages)
    shown(messages)
    assert max(len(one.finding.logits) for one in messages) <= 3
    in_half = next(one for one in messages if one.name == "in a half sum")
    assert in_half.finding.repeated  # it takes 16 rows or more
    assert max(one.finding.batch_rows for one in messages if one is not in_half) <= 2
    assert all("% 8 + 1" in one.script for one in messages)


def test_the_weight_that_is_told_is_that_of_the_row_that_is_shown(tf):
    message = checked("rows", over_rows, NAME, reduction="weighted mean", **QUICK)
    finding = message.finding
    weight = lossfuzz.sample_weights(finding.place + 1)[-1]
    assert f"sample weight {weight:g}" in message.text
    wanted = weight * -np.array(finding.logits)[finding.label] / finding.batch_rows
    assert finding.batch_rows == 1
    assert finding.exact_loss == pytest.approx(
        weight * (np.logaddexp.reduce(finding.logits)) + wanted
    )


def test_a_replayed_script_of_a_loss_with_weights_can_be_run(tf, tmp_path, capsys, monkeypatch):
    import ast

    (tmp_path / "weighing.py").write_text(
        "import tensorflow as tf\n"
        "def loss(logits, labels, sample_weight):\n"
        "    p = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)\n"
        "    return tf.reduce_mean(sample_weight * -tf.math.log(tf.maximum(p, 1e-7)))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    record, script = tmp_path / "finding.json", tmp_path / "script.py"
    import weighing

    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(weighing.loss, NAME, reduction="weighted mean", **QUICK)
    record.write_text(json.dumps(failure.value.finding.to_json()))
    assert main(["replay", str(record), "--trust", "--script", str(script)]) == 0
    ast.parse(script.read_text())
    (printed,) = outputs_of([script.read_text()], tmp_path)
    assert "still stands" in printed
    capsys.readouterr()


def test_what_no_script_can_call_is_told_in_one_line(tf, tmp_path, capsys):
    code = compile("lambda x, y: clipped(x, y)", "<nowhere>", "eval")
    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(eval(code, {"clipped": clipped}), NAME, **QUICK)  # noqa: S307 - our own
    record, script = tmp_path / "finding.json", tmp_path / "script.py"
    record.write_text(json.dumps(failure.value.finding.to_json()))
    assert main(["replay", str(record), "--script", str(script)]) == 2
    error = capsys.readouterr().err.strip()
    assert "no script can be made of finding" in error.splitlines()[-1]
    assert "no source" in error
    assert not script.exists()


# --- objects, methods, classes, decorated functions ------------------------------------------


class Plain:
    """Of a floor."""

    def __init__(self, floor: float = FLOOR) -> None:
        self.floor = floor

    def __call__(self, logits, labels):
        return clipped(logits, labels, self.floor)

    def per_row(self, logits, labels):
        return self(logits, labels)


class Weighed(Plain):
    def __init__(self, inner, scale):
        super().__init__(1e-6)
        self.inner, self._scale = inner, scale

    def __call__(self, logits, labels):
        both = self.inner(logits, labels) + super().__call__(logits, labels)
        return self._scale * both


@dataclasses.dataclass(frozen=True)
class Data:
    floor: float = FLOOR
    further: dict = dataclasses.field(default_factory=dict)

    def __call__(self, logits, labels):
        return clipped(logits, labels, self.floor)


class Slotted:
    __slots__ = ("floor",)

    def __init__(self, floor):
        self.floor = floor

    def __call__(self, logits, labels):
        return clipped(logits, labels, self.floor)


def scaled(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return 1.0 * function(*arguments)

    return wrapper


@scaled
def decorated(logits, labels):
    return clipped(logits, labels)


@scaled
def decorated_twice(logits, labels):
    return decorated(logits, labels)


def made(floor):
    def loss(logits, labels):
        return clipped(logits, labels, floor)

    return loss


def objects(tf):
    """Name to a loss whose script has to define it."""
    import numpy as local_name  # noqa: ICN001 - a name that its place alone has

    class Module(tf.Module):
        def __init__(self, floor):
            super().__init__()
            self.floor, self.kept = tf.Variable(floor), [1]

        def __call__(self, logits, labels):
            return clipped(logits, labels, self.floor)

    class Local:
        def __init__(self, scale=local_name.float32(2.0)):  # noqa: B008
            self.scale = scale

        def __call__(self, logits, labels):
            return clipped(logits, labels, floor) * self.scale / self.scale

        @tf.function
        def compiled(self, logits, labels):
            return self(logits, labels)

        @staticmethod
        def of_the_class(logits, labels):
            return clipped(logits, labels)

    floor = 1e-6
    kept = Local()
    return {
        "object": Plain(1e-6),
        "method": Plain(1e-6).per_row,
        "__call__ of an object": Plain(1e-6).__call__,
        "object of objects": Weighed(Plain(1e-5), 0.5),
        "dataclass": Data(1e-6),
        "slots": Slotted(1e-6),
        "module of TensorFlow": Module(1e-6),
        "object of a local class": kept,
        "compiled method": kept.compiled,
        "static method": Local.of_the_class,
        "partial of a method": functools.partial(Plain(1e-6).per_row),
    }


def objects_of_keras(tf):
    """The same of Keras's classes."""
    import keras

    class Named(keras.losses.Loss):
        def __init__(self, floor=0.5, **options):
            super().__init__(**options)
            self.floor = floor

        def call(self, y_true, y_pred):
            return clipped(y_pred, tf.cast(y_true, tf.int32), self.floor)

    class Configured(Named):
        def __init__(self, floor, *, name="configured", reduction="none"):
            super().__init__(floor, name=name, reduction=reduction)

        def get_config(self):
            return {**super().get_config(), "floor": self.floor}

    return {
        "subclass of Keras": Named(1e-6, reduction=None),
        "subclass of Keras by its configuration": Configured(1e-6),
        "call of a Keras object": Configured(1e-6).call,
    }


def functions(tf):
    """Name to a loss that decorators and others made."""

    @tf.function
    def compiled(logits, labels):
        return clipped(logits, labels)

    @tf.function(jit_compile=True)
    def compiled_by_xla(logits, labels):
        return clipped(logits, labels)

    @tf.custom_gradient
    def floored_log(p):
        def gradient(upstream):
            return upstream / tf.maximum(p, FLOOR)

        return tf.math.log(tf.maximum(p, FLOOR)), gradient

    @scaled
    def local(logits, labels):
        return clipped(logits, labels)

    first, second = made(1e-7), made(1e-3)
    return {
        "tf.function": compiled,
        "lambda around tf.function": lambda x, y: 1.0 * compiled(x, y),
        "lambda around XLA": lambda x, y: 1.0 * compiled_by_xla(x, y),
        "lambda around a custom gradient": lambda x, y: (
            -floored_log(tf.gather(tf.nn.softmax(x), y, batch_dims=y.shape.rank))
        ),
        "lambda around a decorated function": lambda x, y: 1.0 * decorated(x, y),
        "lambda around two decorated functions": lambda x, y: 1.0 * decorated_twice(x, y),
        "local decorated function": local,
        "functions of one name": lambda x, y: (first(x, y) + second(x, y)) / 2,
    }


def test_a_loss_of_any_kind_of_object_is_told_by_its_source(tf):
    given = {**objects(tf), **objects_of_keras(tf), **functions(tf)}
    messages = [checked(name, loss, NAME, **QUICK) for name, loss in given.items()]
    assert all(one.finding is not None for one in messages)
    assert [one.name for one in messages if "has to be put here" in one.text] == []
    assert [one.name for one in messages if "which was run with" in one.text] == []
    shown(messages)


def test_an_object_whose_state_has_no_source_is_imported_from_its_module(
    tf, tmp_path, monkeypatch
):
    (tmp_path / "holding.py").write_text(
        "import threading\n"
        "import tensorflow as tf\n"
        "class Held:\n"
        "    def __init__(self):\n"
        "        self.lock = threading.Lock()\n"
        "    def __call__(self, logits, labels):\n"
        "        with self.lock:\n"
        "            p = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)\n"
        "        return -tf.math.log(tf.maximum(p, 1e-7))\n"
        "    def per_row(self, logits, labels):\n"
        "        return self(logits, labels)\n"
        "HELD = Held()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import holding

    given = {"object": holding.HELD, "method": holding.HELD.per_row}
    messages = [checked(name, loss, NAME, **QUICK) for name, loss in given.items()]
    assert "holding.HELD(logits, labels)" in messages[0].script
    assert "holding.HELD.per_row(logits, labels)" in messages[1].script
    assert all("# needs holding: put its folder on PYTHONPATH" in one.script for one in messages)
    shown(messages, tmp_path)


def test_a_state_that_cannot_be_written_and_has_no_place_is_not_made_up(tf):
    class Opened:
        def __init__(self):
            self.file = sys.stdout

        def __call__(self, logits, labels):
            self.file.flush()
            return clipped(logits, labels)

    message = checked("opened", Opened(), NAME, **QUICK)
    assert "which was run with the loss that was checked" in message.text
    (printed,) = outputs_of([message.script])
    assert "NotImplementedError: put the loss that was checked" in printed


# --- no target, masks, flips, figures ---------------------------------------------------------


def no_shift(logits):
    import tensorflow as tf

    return tf.math.log(tf.reduce_sum(tf.exp(logits), axis=-1))


def test_a_loss_without_target_has_no_label(tf):
    formula = lossfuzz.formula(lambda x, logits, _: x.logsumexp(logits), target="none")
    alone = checked("alone", no_shift, "log-sum-exp", **QUICK)
    graph = checked("graph", no_shift, formula, **{**QUICK, "modes": ["graph"]})
    both = checked("both", lambda logits, labels: no_shift(logits), formula, **QUICK)
    shown([alone, graph, both])
    for one in (alone, graph, both):
        assert "label" not in one.text.partition("as a script")[0].partition("logits  ")[2]
        assert "label" not in tables.finding_figures(one.finding)
    assert "label" not in alone.script + graph.script
    assert "loss(logits, labels)" in both.script


def test_a_row_that_masks_a_class_says_so(tf):
    def by_hand(logits, labels):
        one_hot = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
        return -tf.reduce_sum(one_hot * tf.nn.log_softmax(logits), axis=-1)

    note = "note: the row masks a class by -inf; bounds=(-30, 30) checks finite logits alone"
    message = checked("by hand", by_hand, NAME, **QUICK)
    assert -np.inf in message.finding.logits
    assert note in message.text.splitlines()
    shown([message])
    plain = checked("clipped", clipped, NAME, **QUICK)
    assert -np.inf not in plain.finding.logits
    assert "masks a class" not in plain.text
    lossfuzz.check(by_hand, NAME, bounds=(-30, 30), **QUICK)


def flips(logits, labels):
    """Right losses; the gradient of the last class has the wrong sign."""
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    p = tf.stop_gradient(tf.nn.softmax(logits)[..., -1])
    wrong = tf.where(labels < logits.shape[-1] - 1, 2 * p, tf.zeros_like(p)) * logits[..., -1]
    return losses - (wrong - tf.stop_gradient(wrong))


def test_a_sign_flip_shows_the_component_that_is_flipped(tf):
    tame = {**QUICK, "families": ["normal"], "bounds": (-3, 3)}
    messages = [
        checked(f"{classes} classes", flips, NAME, **{**tame, "shapes": [(32, classes)]})
        for classes in (3, 12)
    ]
    for message in messages:
        finding = message.finding
        last = len(finding.logits) - 1
        observed, exact = finding.observed_gradient[last], finding.exact_gradient[last]
        assert finding.kind == "sign flip"
        assert finding.label != last
        assert observed < 0 < exact
        assert f"at class {last})" in message.text
        card = tables.finding_figures(finding)
        assert f"class {last}'s gradient {observed:.9g} (exact" in card
        assert "label's gradient" in card
    shown(messages)


def broken_gradient(logits, labels):
    """Losses that are off by rounding of their own; all gradients are NaN."""
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return losses * tf.cast(1 + 2e-5, losses.dtype) + tf.sqrt(0 * logits[..., 0])


def test_the_figures_of_a_finding_are_those_of_what_its_kind_is_about(tf):
    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(broken_gradient, NAME, **QUICK)
    found = [one for cell in failure.value.result.cells for one in cell.findings.values()]
    kinds = {one.kind: one for one in found if one.tier == "defect"}
    assert {"non-finite gradient", "inaccurate loss"} <= set(kinds)
    of_loss, of_gradient = kinds["inaccurate loss"], kinds["non-finite gradient"]
    assert of_gradient.mixed_error == of_gradient.ulp_error == np.inf
    error = abs(of_loss.observed_loss - of_loss.exact_loss)
    assert of_loss.mixed_error == pytest.approx(
        error * 2**24 / max(1, of_loss.exact_loss), rel=1e-6
    )
    assert of_loss.ulp_error == pytest.approx(error / np.spacing(np.float32(of_loss.exact_loss)))
    assert of_loss.mixed_error == max(
        one.mixed_error for one in found if one.kind == "inaccurate loss"
    )
    assert "inf ulp" not in tables.finding_figures(of_loss)
    assert Finding.from_json(of_loss.to_json()).id == of_loss.id
