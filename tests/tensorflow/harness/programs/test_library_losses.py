"""Every loss class of Keras and tf_keras, traced, agrees with TensorFlow in float64."""

import keras
import numpy as np
import pytest
import tf_keras

from lossfuzz.harness.programs.evaluation import exact_values
from lossfuzz.harness.programs.tracing import traced

ROWS, CLASSES = 6, 5
BINARY = {"BinaryCrossentropy", "BinaryFocalCrossentropy"}
SPARSE = {"SparseCategoricalCrossentropy", "CategoricalGeneralizedCrossEntropy"}
IN_FLOAT32 = {"CategoricalGeneralizedCrossEntropy", "LogCosh", "Huber"}
"""They round in float32 on the way, whatever they are given."""

SIGNED = {"Hinge", "SquaredHinge", "CategoricalHinge"}


def classes_of(library):
    base = library.losses.Loss
    return sorted(
        name
        for name, one in vars(library.losses).items()
        if isinstance(one, type) and issubclass(one, base) and one is not base
    )


CASES = [("keras", name) for name in classes_of(keras)]
CASES += [("tf_keras", name) for name in classes_of(tf_keras)]


def numbers(name, rng):
    """Predictions and targets that a loss takes."""
    scores = rng.normal(size=(ROWS, CLASSES)) * 3
    predictions = 1 / (1 + np.exp(-scores))
    if name == "Circle":
        norms = np.linalg.norm(scores, axis=1, keepdims=True)
        return scores / norms, np.array([0, 1, 0, 1, 2, 2], np.int32)
    if name in SPARSE:
        return predictions / predictions.sum(1, keepdims=True), np.arange(ROWS) % CLASSES
    if name.startswith("Categorical"):
        shares = predictions / predictions.sum(1, keepdims=True)
        return shares, np.eye(CLASSES)[np.arange(ROWS) % CLASSES]
    if name in BINARY | {"Dice", "Tversky"}:
        return predictions, (rng.random((ROWS, CLASSES)) < 0.5).astype(float)
    if name in SIGNED:
        return scores, np.where(rng.random((ROWS, CLASSES)) < 0.5, -1.0, 1.0)
    return predictions, rng.random((ROWS, CLASSES)) + 0.1


def made(library, name):
    package = {"keras": keras, "tf_keras": tf_keras}[library]
    cls = getattr(package.losses, name)
    if library == "keras":
        return cls(dtype="float64")
    return cls()


@pytest.mark.parametrize(("library", "name"), CASES)
def test_agrees_with_tensorflow(tf, library, name):
    if name in {"LossFunctionWrapper", "CTC"}:
        pytest.skip("needs a function of its own, or sequences")
    predictions, targets = numbers(name, np.random.default_rng(7))
    loss = made(library, name)

    def function(y_pred, y_true):
        return loss(y_true, y_pred)

    specs = [tf.TensorSpec(one.shape, one.dtype) for one in (predictions, targets)]
    program = traced(function, specs, name=name)
    found = exact_values(program, [predictions, targets], wrt=[0])
    given = tf.constant(predictions)
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = function(given, tf.constant(targets))
    slope = tape.gradient(value, given).numpy()
    assert found.judged.all(), found.reason
    assert found.gradients_judged[0].all(), found.reason
    bound = 2e-7 if name in IN_FLOAT32 else 2e-9
    np.testing.assert_allclose(found.value, value.numpy(), rtol=bound, atol=bound / 1000)
    np.testing.assert_allclose(found.gradients[0], slope, rtol=bound, atol=bound / 100)
