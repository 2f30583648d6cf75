"""A user's loss is run as ``tf.function`` runs it: converted by AutoGraph where tensors decide."""

import functools

import pytest

import lossfuzz

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
QUICK = {"formats": ["float32"], "rows": 64, "shapes": [(32, 4)], "families": ["normal"]}


def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def branching(logits, labels):
    import tensorflow as tf

    if tf.reduce_max(logits) > 0:
        return fused(logits, labels)
    return fused(logits - 1, labels)


def looping(logits, labels):
    import tensorflow as tf

    largest = tf.stop_gradient(tf.reduce_max(logits, -1))
    total = tf.zeros_like(largest)
    for column in tf.range(tf.shape(logits)[-1]):
        total += tf.exp(logits[..., column] - largest)
    return tf.math.log(total) - (tf.gather(logits, labels, batch_dims=1) - largest)


def halving(logits, labels):
    import tensorflow as tf

    size = tf.reduce_max(tf.abs(logits))
    while size > 1:
        size = size / 2
    return fused(logits, labels) + 0 * tf.stop_gradient(size)


def over_elements(logits, labels):
    import tensorflow as tf

    count = 0
    for one in labels:
        if one >= 0 and not one > 3:
            count += 1
    return fused(logits, labels) + 0 * tf.cast(count, logits.dtype)


def counted(logits, labels):
    import tensorflow as tf

    rows = tf.boolean_mask(labels, labels >= 0)
    return fused(logits, labels) + 0 * tf.cast(len(rows), logits.dtype)


class Loss:
    def __call__(self, logits, labels):
        return branching(logits, labels)

    def method(self, logits, labels):
        return halving(logits, labels)


def nested():
    def inner(logits, labels):
        return looping(logits, labels)

    return inner


def from_a_threshold(threshold, logits, labels):
    import tensorflow as tf

    above = tf.reduce_max(logits) > threshold
    return fused(logits, labels) if above else fused(logits - 1, labels)


LOSSES = {
    "if": branching,
    "for over a range": looping,
    "while": halving,
    "for over a tensor, and, not": over_elements,
    "len": counted,
    "object": Loss(),
    "method": Loss().method,
    "nested": nested(),
    "lambda": lambda x, y: branching(x, y),  # noqa: PLW0108 - a lambda is what is tested
    "partial": functools.partial(from_a_threshold, 0.0),
}


@pytest.mark.parametrize("mode", ["eager", "graph", "xla"])
@pytest.mark.parametrize("name", LOSSES)
def test_tensors_may_decide(name, mode):
    if mode == "xla" and name == "len":
        pytest.skip("XLA compiles no shape that the values decide")
    result = lossfuzz.check(LOSSES[name], NAME, **QUICK, modes=[mode])
    assert all(one.summary.judged for one in result.cells)


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("text", ["one line", "one line\nand another"])
def test_an_error_of_converted_code_is_one_line(mode, text):
    import tensorflow as tf

    def failing(logits, labels):
        if tf.reduce_max(logits) > 0:
            raise RuntimeError(text)
        return fused(logits, labels)

    with pytest.raises(lossfuzz.LossRefusal) as refusal:
        lossfuzz.check(failing, NAME, **QUICK, modes=[mode])
    message = str(refusal.value)
    assert "raised RuntimeError" in message
    assert "one line (given logits float32 [32, 4], labels int32 [32])" in message
    assert "\n" not in message


def test_an_error_inside_a_graph_says_what_happened():
    import tensorflow as tf

    def particular(logits, labels):
        tf.debugging.assert_less(tf.shape(logits)[0] + tf.reduce_max(labels) * 0, 5)
        return fused(logits, labels)

    with pytest.raises(lossfuzz.LossRefusal) as refusal:
        lossfuzz.check(particular, NAME, **QUICK, modes=["graph"])
    assert "Graph execution error" not in str(refusal.value)
    assert "float32 [32, 4]" in str(refusal.value)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_losses_of_a_wider_floating_dtype_are_taken(dtype):
    import tensorflow as tf

    def wide(logits, labels):
        return tf.cast(fused(tf.cast(logits, tf.float32), labels), dtype)

    assert lossfuzz.check(wide, NAME, **{**QUICK, "formats": ["float32", "float16"]}).cells


def test_losses_of_another_dtype_are_refused():
    import tensorflow as tf

    def whole(logits, labels):
        return tf.cast(fused(logits, labels), tf.int32)

    with pytest.raises(lossfuzz.LossRefusal, match="dtype int32; expected a floating one"):
        lossfuzz.check(whole, NAME, **QUICK, modes="eager")
