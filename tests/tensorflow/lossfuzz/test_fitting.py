"""Losses with a shape of their own: what they take is found out, said, and judged there."""

import sys

import numpy as np
import pytest

import lossfuzz
from lossfuzz import cli
from lossfuzz.errors import USAGE_ERROR
from lossfuzz.harness.fitting.fit import fit_of
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.own import own_path
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.harness.running.trial import Trial
from lossfuzz.mathematics import spec_of

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
QUICK = {"formats": ["float32"], "modes": ["eager"], "rows": 600}
WEIGHTS = [0.2, 1.0, 5.0, 30.0]


def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def weighted(logits, labels):
    import tensorflow as tf

    entropy = fused(logits, labels)
    return tf.gather(tf.cast(tf.constant(WEIGHTS), entropy.dtype), labels) * entropy


def clipped_weighted(logits, labels):
    import tensorflow as tf

    share = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    factor = tf.gather(tf.cast(tf.constant(WEIGHTS), logits.dtype), labels)
    return -factor * tf.math.log(share + 1e-7)


def exactly_weighted(x, logits, label):
    return -x.constant(WEIGHTS)[label] * x.log_softmax(logits)[label]


def mixture(logits):
    """-log of a mixture of two unit normals at 0: logits of the mixture, then the means."""
    import tensorflow as tf

    shares = tf.nn.softmax(logits[..., :2])
    densities = tf.exp(-0.5 * tf.square(logits[..., 2:]))
    return -tf.math.log(tf.reduce_sum(shares * densities, -1))


@lossfuzz.formula(target="none")
def exact_mixture(x, logits, _):
    first, second, one, other = (logits[k] for k in range(4))
    both = x.exp(first) + x.exp(second)
    return x.log(both) - x.log(x.exp(first - one * one / 2) + x.exp(second - other * other / 2))


def of_classes(count):
    def loss(logits, labels):
        if logits.shape[-1] != count:
            raise ValueError("no such number of columns")
        return fused(logits, labels)

    return loss


def refused(loss, against=NAME, **options):
    with pytest.raises(lossfuzz.LossRefusal) as refusal:
        lossfuzz.check(loss, against, **{**QUICK, **options})
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def fit(
    loss, against=NAME, shapes=((256, 10), (8, 16, 257)), fmt=BINARY32, *, chosen=False, **how
):
    path = own_path(loss, spec_of(against, **how))
    cell = Cell(path=path, format=fmt, mode="eager", device="CPU:0")
    return fit_of(Trial(CellRunner(cell)), shapes, chosen=chosen)


# --- a fixed number of columns -------------------------------------------------------------


@pytest.mark.parametrize("shapes", [None, [(64, 4)]], ids=["default shapes", "64x4"])
def test_a_sound_loss_of_four_columns_passes(shapes):
    result = lossfuzz.check(weighted, exactly_weighted, **QUICK, shapes=shapes)
    assert all(one.summary.judged for one in result.cells)
    assert all(text.endswith("x4") for text in result.plan["shapes"])
    assert len([note for note in result.notes if "together take" in note]) == (shapes is None)


@pytest.mark.parametrize("shapes", [None, [(64, 4)]], ids=["default shapes", "64x4"])
@pytest.mark.parametrize("reduction", [None, "mean"])
def test_a_defect_of_a_loss_of_four_columns_is_shown_on_four(shapes, reduction):
    import tensorflow as tf

    def loss(logits, labels):
        losses = clipped_weighted(logits, labels)
        return losses if reduction is None else tf.reduce_mean(losses)

    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(loss, exactly_weighted, **QUICK, shapes=shapes, reduction=reduction)
    assert len(failure.value.finding.logits) == 4
    assert failure.value.finding.kind != "refusal"


def test_an_unweighted_loss_is_no_weighted_one():
    with pytest.raises(lossfuzz.LossDefect):
        lossfuzz.check(fused, exactly_weighted, **QUICK)


def test_the_exact_value_of_a_mixture_density():
    logits = np.array([[0.0, 0.0, 15.0, -15.0]], np.float32)
    reference = prepare(logits, np.zeros(1, np.int32), {}, exact_mixture).reference
    assert reference.loss[0] == pytest.approx(112.5, rel=1e-12)
    assert reference.gradient[0] == pytest.approx([0, 0, 7.5, -7.5], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("shapes", [None, [(64, 4)]], ids=["default shapes", "64x4"])
def test_a_mixture_density_is_a_defect_on_four_columns(shapes):
    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(mixture, exact_mixture, **{**QUICK, "rows": 5000}, shapes=shapes)
    finding = failure.value.finding
    assert len(finding.logits) == 4
    assert finding.kind.startswith("non-finite")
    assert not np.isfinite([finding.observed_loss, *finding.observed_gradient]).all()


@pytest.mark.parametrize("count", [1, 4, 7, 10])
def test_the_only_number_of_classes_is_found_out(count):
    found = fit(of_classes(count))
    assert not found.refusal
    assert {shape[-1] for shape in found.shapes} == {count}
    assert {len(shape) for shape in found.shapes} == {2, 3}
    assert f"takes {count} class" in found.notes[0]


def test_several_numbers_of_classes_are_named_and_left_to_the_user():
    def even(logits, labels):
        if logits.shape[-1] % 2:
            raise ValueError("odd")
        return fused(logits, labels)

    message = refused(even)
    assert "raised ValueError" in message
    assert "float32 [8, 16, 257]" in message
    assert "int32 [8, 16]" in message
    assert "2, 4, 6, 8, 10" in message
    assert "--shapes 8x10" in message
    lossfuzz.check(even, NAME, **QUICK, shapes=[(8, 10)])


def test_what_was_given_and_how_to_say_another_shape_is_told():
    import tensorflow as tf

    def of_five_hundred_rows(logits, labels):
        tf.debugging.assert_equal(tf.shape(logits)[0], 500)
        return fused(logits, labels)

    message = refused(of_five_hundred_rows)
    assert "given logits float32 [256, 10], labels int32 [256]" in message
    assert "shapes=[(64, 4)] or --shapes 64x4" in message
    lossfuzz.check(of_five_hundred_rows, NAME, **{**QUICK, "rows": 900}, shapes=[(500, 3)])


def test_a_shape_that_the_user_chose_is_not_left_out():
    message = refused(of_classes(4), shapes=[(64, 4), (64, 5)])
    assert "logits float32 [64, 5]" in message
    assert "shapes=[(64, 4)] leaves that out" in message


def test_a_refusal_of_some_values_is_found_on_the_loss_own_columns():
    import tensorflow as tf

    def particular(logits, labels):
        tf.debugging.assert_less(tf.abs(logits), tf.constant(100.0, logits.dtype))
        return weighted(logits, labels)

    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(particular, exactly_weighted, **QUICK)
    finding = failure.value.finding
    assert finding.kind == "refusal"
    assert sorted(map(abs, finding.logits)) == [0, 0, 0, 100]


def test_a_loss_of_one_batch_size_is_shrunk_in_batches_of_that_size():
    import tensorflow as tf

    def of_48_rows(logits, labels):
        tf.debugging.assert_equal(tf.shape(logits)[0], 48)
        return clipped_weighted(logits, labels)

    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(of_48_rows, exactly_weighted, **QUICK, shapes=[(48, 4)])
    finding = failure.value.finding
    assert finding.kind != "refusal"
    assert len(set(finding.logits)) <= 2


def _endless(logits, labels):
    return _endless(labels, logits)


ODD_LOSSES = {
    "an array": lambda x, y: np.zeros(y.shape, np.float32),
    "a tuple": lambda x, y: (fused(x, y), 1),
    "a number": lambda x, y: 1.0,
    "a string": lambda x, y: "loss",
    "a generator": lambda x, y: (one for one in (x, y)),
    "an exit": lambda x, y: sys.exit(3),
    "an endless recursion": _endless,
}


def _ragged(x, _):
    import tensorflow as tf

    return tf.RaggedTensor.from_tensor(x)


def _sparse(x, y):
    import tensorflow as tf

    return tf.sparse.from_dense(fused(x, y))


def _complex(x, y):
    import tensorflow as tf

    return tf.cast(fused(x, y), tf.complex64)


def _strings(x, y):
    import tensorflow as tf

    return tf.strings.as_string(fused(x, y))


def _unknown_shape(x, y):
    import tensorflow as tf

    def short(logits, labels):
        return fused(logits, labels)[:-1]

    return tf.py_function(short, [x, y], x.dtype)


ODD_LOSSES |= {
    "a ragged tensor": _ragged,
    "a sparse tensor": _sparse,
    "complex numbers": _complex,
    "strings": _strings,
    "too few losses of unknown shape": _unknown_shape,
}


@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("name", ODD_LOSSES)
def test_whatever_a_loss_does_is_told_in_one_line(name, mode):
    message = refused(ODD_LOSSES[name], modes=[mode])
    assert "logits" in message


def test_a_format_that_a_loss_does_not_take_can_be_left_out():
    import tensorflow as tf

    def single(logits, labels):
        return fused(logits, labels) + tf.constant(0.0, tf.float32)

    message = refused(single, formats=["float32", "float16"])
    assert "formats=['float32'] leaves float16 out" in message
    assert "logits float16" in message


def late(calls=[0]):  # noqa: B006 - a formula that counts its calls
    def formula(x, logits, label):
        calls[0] += 1
        if calls[0] > 400:
            raise RuntimeError("no more")
        return x.logsumexp(logits) - logits[label]

    return formula


ODD_FORMULAS = {
    "a vector": lambda x, logits, label: logits,
    "a string": lambda x, logits, label: "loss",
    "an error": lambda x, logits, label: {}["margin"],
    "an error that comes late": late(),
    "a class that is never there": lambda x, logits, label: logits[123456],
}


@pytest.mark.parametrize("name", ODD_FORMULAS)
def test_whatever_a_formula_does_is_told_in_one_line(name):
    with pytest.raises(FormulaError) as told:
        lossfuzz.check(fused, ODD_FORMULAS[name], **QUICK)
    assert "\n" not in str(told.value)


def test_a_formula_that_names_a_class_is_judged_where_the_class_is():
    def with_class_7(x, logits, label):
        return x.logsumexp(logits) - logits[label] + 0 * logits[7]

    with pytest.raises(lossfuzz.LossRefusal, match="it takes 8, 9, 10, 33"):
        lossfuzz.check(fused, with_class_7, **QUICK)
    result = lossfuzz.check(fused, with_class_7, **QUICK, shapes=[(64, 10)])
    assert all(one.summary.judged for one in result.cells)


def test_a_formula_that_names_a_class_has_no_value_without_it():
    spec = lossfuzz.formula(lambda x, v, y: x.logsumexp(v) - v[y] + 0 * v[1])
    assert not spec.masks


# --- rank 2 only ---------------------------------------------------------------------------


def by_gather(logits, labels):
    import tensorflow as tf

    return -tf.gather(tf.nn.log_softmax(logits), labels, axis=1, batch_dims=1)


def by_sum(logits, labels):
    import tensorflow as tf

    hot = tf.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return tf.reduce_logsumexp(logits, axis=1) - tf.reduce_sum(hot * logits, axis=1)


def mean_on_axis_1(logits, labels):
    import tensorflow as tf

    return tf.reduce_mean(-tf.reduce_sum(labels * tf.nn.log_softmax(logits, axis=1), axis=1))


def mean_of_sums_on_axis_1(logits, labels):
    import tensorflow as tf

    return tf.reduce_mean(-tf.reduce_sum(labels * tf.nn.log_softmax(logits), axis=1))


@pytest.mark.parametrize("loss", [by_gather, by_sum])
def test_a_loss_on_axis_1_is_judged_on_rows(loss):
    found = fit(loss)
    assert found.shapes == ((256, 10), (128, 257))
    assert len(found.notes) == 1
    assert (
        "takes [rows, classes] only: judged on [128, 257] in place of [8, 16, 257]"
        in (found.notes[0])
    )


def test_a_sound_loss_on_axis_1_passes_on_the_default_shapes():
    result = lossfuzz.check(by_gather, NAME, **QUICK)
    assert result.notes
    assert "128x257" in result.plan["shapes"]


@pytest.mark.parametrize("loss", [mean_on_axis_1, mean_of_sums_on_axis_1])
def test_a_mean_that_runs_on_rank_3_with_other_values_is_of_rank_2(loss):
    found = fit(loss, "categorical-cross-entropy", reduction="mean")
    assert found.shapes == ((256, 10), (128, 257))


def test_a_loss_that_gets_by_on_square_shapes_is_of_rank_2():
    found = fit(by_sum, shapes=((16, 6), (5, 6, 6)))
    assert found.shapes == ((16, 6), (30, 6))


def test_shapes_of_rank_3_alone_are_not_changed_behind_the_users_back():
    message = refused(by_gather, shapes=[(8, 16, 257)])
    assert "takes [rows, classes] only" in message
    assert "shapes=[(128, 257)]" in message
    result = lossfuzz.check(by_gather, NAME, **QUICK, shapes=[(4, 5, 6), (20, 6)])
    assert result.plan["shapes"] == ["20x6"]


def test_a_loss_that_takes_rank_3_keeps_it():
    found = fit(fused)
    assert found.shapes == ((256, 10), (8, 16, 257))
    assert not found.notes


# --- losses of elements --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
def test_a_binary_loss_of_every_element_is_taken_as_such(mode):
    import tensorflow as tf

    def of_elements(logits, labels):
        return tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)

    options = {**QUICK, "formats": ["float16"], "modes": [mode], "rows": 3000}
    result = lossfuzz.check(of_elements, "binary-cross-entropy", **options, shapes=[(32, 9)])
    assert result.plan["shapes"] == ["288x1"]
    assert "a loss for every element" in result.notes[0]


def test_a_defect_of_an_element_is_shown_on_one_logit():
    import tensorflow as tf

    def clipped(logits, labels):
        share = tf.sigmoid(logits)
        return -(labels * tf.math.log(share + 1e-7) + (1 - labels) * tf.math.log(1 - share + 1e-7))

    with pytest.raises(lossfuzz.LossDefect) as failure:
        lossfuzz.check(clipped, "binary-cross-entropy", **{**QUICK, "rows": 5000})
    assert len(failure.value.finding.logits) == 1
    assert "note: " in str(failure.value)


def test_a_loss_of_elements_that_depends_on_its_place_is_refused():
    import tensorflow as tf

    def by_column(logits, labels):
        column = tf.range(logits.shape[-1]) + 1
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
        return losses * tf.cast(column, logits.dtype)

    assert "one loss for each class" in refused(by_column, "binary-cross-entropy")


def test_an_axis_that_is_kept_is_no_loss_of_one_class():
    import tensorflow as tf

    def kept(logits, labels):
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_mean(losses, -1, keepdims=True)

    assert "keepdims=True" in refused(kept, "binary-cross-entropy")


# --- the command line ----------------------------------------------------------------------

MODULE = """
import tensorflow as tf

WEIGHTS = [0.2, 1.0, 5.0, 30.0]


def fused(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


def weighted(logits, labels):
    return tf.gather(tf.cast(tf.constant(WEIGHTS), logits.dtype), labels) * fused(logits, labels)


def clipped(logits, labels):
    share = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    return -tf.gather(tf.constant(WEIGHTS), labels) * tf.math.log(share + 1e-7)


def exactly(x, logits, label):
    return -x.constant(WEIGHTS)[label] * x.log_softmax(logits)[label]


def broken(x, logits, label):
    return {}["margin"]


def raising(logits, labels):
    raise RuntimeError("never")


def levels_first(levels, scores):
    return fused(scores, levels)


def by_gather(logits, labels):
    return -tf.gather(tf.nn.log_softmax(logits), labels, axis=1, batch_dims=1)
"""


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    (tmp_path / "shaped_losses.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def command(loss, against, *options):
        code = cli.main(
            [
                *("run", "--loss", f"shaped_losses:{loss}", "--as", against, "--modes", "eager"),
                *("--formats", "float32", "--rows", "600", "--quiet", *options),
                *("--out", str(tmp_path / "report")),
            ]
        )
        return code, capsys.readouterr(), tmp_path / "report"

    yield command
    sys.modules.pop("shaped_losses", None)


@pytest.mark.parametrize(
    ("loss", "against", "told"),
    [
        ("raising", NAME, "raised RuntimeError"),
        ("levels_first", NAME, "takes (labels, logits)"),
        ("fused", "shaped_losses:broken", "raised KeyError"),
        ("fused", "sparse_categorical_crossentropy", "did you mean 'softmax-cross-entropy'?"),
    ],
)
def test_a_run_that_cannot_be_ends_with_one_line_and_no_folder(run, loss, against, told):
    code, printed, folder = run(loss, against)
    assert code == USAGE_ERROR
    assert printed.err.count("\n") == 1
    assert told in printed.err
    assert not folder.exists()


def test_a_run_says_what_a_loss_takes(run):
    code, printed, folder = run("by_gather", NAME)
    assert code == 0
    assert "takes [rows, classes] only" in printed.out
    assert folder.exists()


def test_a_run_finds_a_defect_on_four_columns(run):
    code, printed, _ = run("clipped", "shaped_losses:exactly", "--shapes", "64x4", "--strict")
    assert code == 1
    assert "note:" not in printed.out
    code, printed, _ = run("clipped", "shaped_losses:exactly", "--strict")
    assert code == 1
    assert "4 classes only" in printed.out


def test_half_formats_alone_are_fitted_too():
    assert fit(by_gather, fmt=BINARY16).shapes == ((256, 10), (128, 257))
