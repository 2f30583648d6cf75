"""Every mistake in a formula gets one clear line."""

import math

import numpy as np
import pytest

from lossfuzz.harness.exact.oracle import row_reference
from lossfuzz.harness.formula.spec import formula
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.measuring.prepared import prepare

MISTAKES = {
    "a vector": (lambda x, v, y: x.exp(v), "returned a vector over the classes, expected one"),
    "a plain number": (lambda x, v, y: 1.0, "expected a number computed from the logits, got flo"),
    "nothing": (lambda x, v, y: None, "got NoneType; return the loss of the row"),
    "no logits": (lambda x, v, y: x.constant(2.0) * 3, "does not depend on the logits"),
    "math": (lambda x, v, y: math.exp(v[y]), "use x's functions, such as x.exp and x.log"),
    "numpy": (lambda x, v, y: np.exp(v)[y], "numpy.exp does not know a formula's numbers: use x."),
    "numpy's sum": (lambda x, v, y: np.sum(v), "use x"),
    "an array": (lambda x, v, y: (np.ones(3) * v)[y], r"write x.constant\(array\)"),
    "a list": (lambda x, v, y: (v * [1, 2, 3])[y], r"write x.constant\(\[...\]\)"),
    "a string": (lambda x, v, y: v[y] + "1", "expected a number or one of the formula's own, got"),
    "if": (lambda x, v, y: v[y] if v[y] > 0 else 0 * v[y], r"write x.where\(condition, a, b\)"),
    "max": (lambda x, v, y: max(v[0], v[1]), r"write x.where\(condition, a, b\)"),
    "sum": (lambda x, v, y: sum(v), "a vector is not a list here: use x.sum, x.max, x.mean"),
    "where": (lambda x, v, y: x.where(True, v, v)[y], "wants a comparison such as logits > 0"),
    "unknown function": (lambda x, v, y: x.arctan(v[y]), "x has no 'arctan'; it has exp, log, lo"),
    "label as number": (lambda x, v, y: v[y] * y, r"a label is no number: use vector\[label\]"),
    "slice": (lambda x, v, y: x.sum(v[1:]), "indexed by the label or by a class's number"),
    "sum of a number": (lambda x, v, y: x.sum(v[y]), "x.sum works on a vector over the classes"),
    "gather from a number": (lambda x, v, y: v[y][y], "works on a vector over the classes"),
    "infinite constant": (lambda x, v, y: v[y] + math.inf, "must be finite"),
    "its own error": (lambda x, v, y: {}["margin"], "raised KeyError: 'margin'; write it with"),
    "tensor": (lambda x, v, y: np.asarray(v)[0], "is no array or tensor"),
    "logarithm of less than 0": (
        lambda x, v, y: x.log(-x.exp(v[y])),
        "has no finite value with a derivative for ordinary logits such as",
    ),
    "two lengths": (
        lambda x, v, y: (x.constant([1, 2]) * v + x.constant([1, 2, 3]))[y],
        "was given 3 numbers for rows with 2 classes",
    ),
    "two arguments": (lambda x, v: x.sum(v), "expected a function of three arguments, exact"),
    "two dimensions": (lambda x, v, y: (x.constant([[1, 2]]) * v)[y], r"array of shape \(1, 2\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_one_line_when_the_loss_is_made(name):
    write, message = MISTAKES[name]
    with pytest.raises(FormulaError, match=message) as caught:
        formula(write, name="mine")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("formula mine")


def test_tensorflows_functions_are_refused(tf):
    with pytest.raises(FormulaError, match="formula mine") as caught:
        formula(lambda x, v, y: tf.exp(v)[0], name="mine")
    assert "x.exp" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_formula_of_two_values_is_refused():
    calls = []

    def counting(x, logits, label):
        calls.append(1)
        return logits[label] * len(calls)

    with pytest.raises(FormulaError, match="formula mine is not deterministic: it gives two"):
        formula(counting, name="mine")


def test_a_signature_that_exits_is_refused():
    class Odd:
        @property
        def __signature__(self):
            raise SystemExit(0)

        def __call__(self, x, logits, label):
            return x.logsumexp(logits) - logits[label]

    with pytest.raises(FormulaError, match="formula mine: expected a function of three"):
        formula(Odd(), name="mine")


def test_a_number_of_an_earlier_call_is_refused():
    kept = []

    def leaking(x, logits, label):
        kept.append(logits[label])
        return kept[0] + logits[label]

    with pytest.raises(FormulaError, match="keep nothing between calls of a formula"):
        formula(leaking)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "two-hot"}, "unknown target 'two-hot'; known targets: 'integer label'; "),
        ({"reduction": "median"}, "unknown reduction 'median'; known: mean, sum, weighted mean"),
    ],
)
def test_an_option_that_is_not_known_lists_those_that_are(options, message):
    with pytest.raises(FormulaError, match=message):
        formula(lambda x, v, y: x.logsumexp(v), **options)


def test_what_is_no_function_is_refused():
    with pytest.raises(FormulaError, match=r"expected a function exact\(x, logits, label\), got"):
        formula(3)


def test_constants_for_other_classes_are_told_when_a_batch_comes():
    spec = formula(lambda x, v, y: -x.log_softmax(v - x.constant([1, 2, 3, 4]))[y], name="four")
    logits, labels = np.zeros((2, 5), np.float32), np.zeros(2, np.int32)
    message = "formula four: x.constant was given 4 numbers for rows with 5 classes"
    with pytest.raises(FormulaError, match=message):
        prepare(logits, labels, {}, spec)
    four = logits[:, :4]
    assert row_reference(spec, four, targets_of(spec.target, four, labels)).judged.all()
