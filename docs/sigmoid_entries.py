"""Defects of losses of a sigmoid, most harmful first."""

from __future__ import annotations

from entry import Entry, Quote

from lossfuzz.harness.results import kinds

_KERAS_LOSSES = "keras/src/losses/losses.py"
_KERAS_NN = "keras/src/backend/tensorflow/nn.py"

_CLIP = Quote(
    file=_KERAS_NN,
    after="def binary_crossentropy",
    line="output, backend.epsilon(), 1.0 - backend.epsilon()",
)
_REMAINDER = Quote(
    file=_KERAS_NN,
    after="def binary_crossentropy",
    line="bce += (1 - target) * tf.math.log(1 - output)",
)

_CROSS_ENTROPY = """
def loss(*x):
    def row(t, v):
        return t * log1p(exp(-v)) + (1 - t) * log1p(exp(v))

    return fsum(row(t, v) for t, v in zip(target, x)) / len(x)
"""

WEIGHTED_AT_ZERO = Entry(
    title="`tf.nn.weighted_cross_entropy_with_logits`: wrong gradient at a logit of exactly 0",
    path="tf.nn/weighted-binary/fused",
    kind=kinds.GRADIENT_COLLAPSE,
    format="float32",
    mode="eager",
    families=("zeros",),
    shape=(256, 2),
    harm="""Every logit is exactly 0 before the first step of a model whose last layer starts at
        zeros, which is common for rare positives, for whom the weight is there. Positives get no
        gradient at all, negatives twice theirs. Loss and all other logits are right.""",
    cause="""The loss is written with `abs` and `relu`, whose kinks at 0 cancel; TensorFlow takes
        0 for both derivatives there, which do not. `sigmoid_cross_entropy_with_logits` is
        written with `where` for this very reason, and is right.""",
    quotes=(
        Quote(
            file="tensorflow/python/ops/nn_impl.py",
            after="def weighted_cross_entropy_with_logits_v2",
            line="log_weight * (math_ops.log1p(math_ops.exp(-math_ops.abs(logits)))",
        ),
        Quote(
            file="tensorflow/python/ops/nn_impl.py",
            after="def weighted_cross_entropy_with_logits_v2",
            line="nn_ops.relu(-logits))",
        ),
    ),
    advice="""Multiply `sigmoid_cross_entropy_with_logits` by `1 + (pos_weight - 1) * labels`
        for labels of 0 and 1. In TensorFlow: `log_weight * softplus(-logits)`.""",
    definition="""
def loss(*x):
    def row(t, v):
        return 8 * t * log1p(exp(-v)) + (1 - t) * log1p(exp(v))

    return fsum(row(t, v) for t, v in zip(target, x)) / len(x)
""",
    beside=("tf.nn/binary/fused", "tf.nn/soft-binary/fused"),
)

SIGMOID_IN_HALF = Entry(
    title="`keras.losses.binary_crossentropy` on half-precision probabilities: NaN or infinite "
    "loss and gradient at ordinary logits",
    path="keras/binary/function/sigmoid-op",
    kind=kinds.NON_FINITE_LOSS,
    format="bfloat16",
    mode="eager",
    families=("margin_sweep",),
    shape=(256, 2),
    harm="""As soon as a probability rounds to 1, which a half format does at a single-digit
        logit; NaN even where the prediction is right. The clip that should prevent it does
        nothing. tf_keras adds epsilon once more and stays finite in bfloat16, though not
        right.""",
    cause="""`1 - 1e-7` is 1 in both half formats, so the clip's upper end is 1, and the other
        class's probability `1 - output` is 0. All losses that are built on it share this: soft
        and smoothed targets, focal losses.""",
    quotes=(_CLIP, _REMAINDER),
    advice="""Hand over logits with `from_logits=True`. In Keras: compute in float32, or clip
        `1 - output` from below as well.""",
    definition=_CROSS_ENTROPY,
    beside=(
        "keras/binary/function/sigmoid-identity",
        "keras/smoothed-binary/function/sigmoid-identity",
        "keras/binary-focal-2/function/sigmoid-identity",
        "tf_keras/binary/function/sigmoid-identity",
        "keras/binary/function/from-logits",
        "keras/binary/function/cached-sigmoid",
    ),
)

MIXED_PRECISION_SIGMOID = Entry(
    title="Keras 3, mixed precision: a model that ends in sigmoid reports a wrong loss at "
    "ordinary logits",
    path="model/keras/sigmoid-head/train_on_batch",
    kind=kinds.INACCURATE_LOSS,
    format="bfloat16",
    mode="graph",
    families=("margin_sweep",),
    shape=(8, 2),
    harm="""Under `mixed_bfloat16` every wrong negative whose probability rounds to 1, at a
        single-digit logit, counts as if it were at the clip, and has no gradient. In float32 the
        same model is sound, since Keras keeps the logits behind the sigmoid; tf_keras does
        the same in mixed precision, and does not show it.""",
    cause="""As with softmax: the loss class's cast to float32 loses the logits. The sigmoid was
        rounded to 1 in the half format, and float32's clip takes that for its own end.""",
    quotes=(
        Quote(
            file="keras/src/losses/loss.py",
            after="def __call__",
            line="lambda x: ops.convert_to_tensor(x, dtype=self.dtype), y_pred",
        ),
        Quote(file=_KERAS_NN, after="def _get_logits", line='hasattr(output, "_keras_logits")'),
        _CLIP,
    ),
    advice="""End the model in logits and compile with `from_logits=True`, or give the sigmoid
        `dtype="float32"`. In Keras: carry `_keras_logits` over the cast, cast likewise.""",
    definition=_CROSS_ENTROPY,
    beside=(
        "model/keras/binary-logits-head/train_on_batch",
        "model/tf_keras/sigmoid-head/train_on_batch",
    ),
)

FOCAL_POWER = Entry(
    title="`keras.losses.binary_focal_crossentropy(from_logits=True)`: NaN gradient for gamma "
    "below 1",
    path="keras/binary-focal-0.5/function/from-logits",
    kind=kinds.NON_FINITE_GRADIENT,
    format="float32",
    mode="eager",
    families=("margin_sweep",),
    shape=(256, 2),
    harm="""A well classified example, whose probability rounds to 1, makes the gradient NaN, and
        so all weights, in every format. gamma 0, plain cross-entropy by the documentation, is no
        exception. tf_keras shares it.""",
    cause="""The derivative of `power(1 - p_t, gamma)` at 0 is gamma times an infinity, and is
        multiplied by 0.""",
    quotes=(
        Quote(
            file=_KERAS_LOSSES,
            after="def binary_focal_crossentropy(",
            line="focal_factor = ops.power(1.0 - p_t, gamma)",
        ),
        Quote(
            file="tensorflow/python/ops/math_grad.py",
            after="def _PowGrad",
            line="gx = grad * cy * math_ops.pow(cx, cy - 1)",
        ),
    ),
    advice="""From logits: `tf.exp(gamma * tf.math.log_sigmoid((1 - 2 * labels) * logits))` is the
        factor without a power, and stays exact where `1 - p_t` rounds to 0.""",
    definition="""
def loss(*x):
    def row(t, v):
        wrong = 1 / (1 + exp((2 * t - 1) * v))
        return wrong ** mpf(0.5) * (t * log1p(exp(-v)) + (1 - t) * log1p(exp(v)))

    return fsum(row(t, v) for t, v in zip(target, x)) / len(x)
""",
    beside=(
        "keras/binary-focal-0/function/from-logits",
        "tf_keras/binary-focal-0.5/function/from-logits",
        "keras/binary-focal-2/function/from-logits",
        "tf.nn/binary-focal-0.5/log-sigmoid",
    ),
)

MEAN_IN_HALF = Entry(
    title="`tf.reduce_mean` of float16 on the CPU: infinite although the mean is a float16 number",
    path="tf.nn/binary/fused",
    kind=kinds.NON_FINITE_LOSS,
    format="float16",
    mode="eager",
    families=("constant",),
    shape=(8, 16, 257),
    rows=1024,
    harm="""A binary loss with many classes averages over them; a few hundred classes with losses
        of a few hundred are enough. XLA, NumPy and Keras 3, which casts, return the mean.
        tf_keras's `binary_crossentropy` and its focal relative inherit it.""",
    cause="""The kernel sums in float16 and divides afterwards (inferred from the result, which is
        finite for as many equal values as their sum is).""",
    quotes=(),
    advice="Cast to float32 before the mean. In TensorFlow: accumulate in float32, as XLA does.",
    definition=_CROSS_ENTROPY,
    beside=(
        "tf.compat.v1/binary",
        "tf_keras/binary/function/from-logits",
        "keras/binary/function/from-logits",
    ),
)

REWRITTEN_LOG = Entry(
    title="`1 - p + epsilon` in a `tf.function`: constant folding changes the loss",
    path="tf.compat.v1/log-loss",
    kind=kinds.MODE_DISAGREEMENT,
    format="float32",
    mode="graph",
    families=("margin_sweep", "threshold_neighbours"),
    shape=(256, 2),
    harm="""`tf.compat.v1.losses.log_loss` and tf_keras's `binary_crossentropy` on probabilities
        return one loss in eager and another one in a graph, the more so the closer p is to 1; the
        gradients differ more than the losses.""",
    cause="""Grappler's constant folding turns `1 - p + epsilon` into `(1 + epsilon) - p`, and
        `1 + 1e-7` is no float32: it rounds to `1 + 2**-23`. Rounding errors were small before
        the difference cancels, and are not after it. With
        `tf.config.optimizer.set_experimental_options({"constant_folding": False})` graph and
        eager agree.""",
    quotes=(
        Quote(
            file="tensorflow/python/ops/losses/losses_impl.py",
            after="def log_loss",
            line="(1 - labels), math_ops.log(1 - predictions + epsilon))",
        ),
        Quote(
            file="tf_keras/src/backend.py",
            after="def binary_crossentropy",
            line="bce += (1 - target) * tf.math.log(1 - output + epsilon())",
        ),
    ),
    advice="""Use `sigmoid_cross_entropy_with_logits`. In Grappler: fold constants of floats only
        where the result is exact.""",
    definition=_CROSS_ENTROPY,
    against="eager",
    beside=("tf_keras/binary/function/sigmoid-identity", "tf.nn/binary/fused"),
)

ASYMMETRIC_CLIP = Entry(
    title="`keras.losses.binary_crossentropy` on float32 probabilities: stops at different losses "
    "for the two classes",
    path="keras/binary/function/sigmoid-identity",
    kind=kinds.SATURATION,
    format="float32",
    mode="eager",
    families=("margin_sweep",),
    shape=(256, 2),
    harm="""That clipped probabilities end the loss's growth is documented; that they end it
        elsewhere for negatives than for positives is not. The loss is not symmetric in its
        classes, and reaches its end early.""",
    cause="""`1 - 1e-7` is no float32, so the upper clip is `1 - 2**-23`, and `1 - output` is
        `2**-23`, which is larger.""",
    quotes=(_CLIP, _REMAINDER),
    advice="""Hand over logits with `from_logits=True`. In Keras: clip `1 - output` by epsilon
        instead of subtracting what was clipped.""",
    definition=_CROSS_ENTROPY,
    beside=("tf_keras/binary/function/sigmoid-identity", "keras/binary/function/from-logits"),
)
