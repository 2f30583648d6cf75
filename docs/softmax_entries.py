"""Defects of losses of a softmax, most harmful first."""

from __future__ import annotations

from entry import Entry, Quote

from lossfuzz.harness.results import kinds

_KERAS_LOSSES = "keras/src/losses/losses.py"
_KERAS_NN = "keras/src/backend/tensorflow/nn.py"
_XENT = "tensorflow/include/tensorflow/core/kernels/xent_op.h"

_CLIP = Quote(
    file=_KERAS_NN,
    after="def categorical_crossentropy",
    line="output, backend.epsilon(), 1.0 - backend.epsilon()",
)

_CROSS_ENTROPY = """
def loss(*x):
    log_sum = log(fsum(exp(v) for v in x))
    return fsum(t * (log_sum - v) for t, v in zip(target, x) if t)
"""

MASKED = Entry(
    title="`tf.nn.softmax_cross_entropy_with_logits`: NaN loss if a class is masked by -inf",
    path="tf.nn/one-hot/fused",
    kind=kinds.NON_FINITE_LOSS,
    format="float32",
    mode="eager",
    families=("masks",),
    harm="""A class that must not be chosen is masked by a logit of -inf, as in attention and in
        action spaces. With target 0 there, it adds nothing to the loss. The sparse function gets
        this right, and so does XLA; the dense one on the CPU returns NaN, for the row and so for
        the batch, while its gradient stays right. Keras's `categorical_crossentropy` inherits
        it.""",
    cause="""The CPU kernel multiplies every class's label into the loss, so a masked class with
        label 0 contributes 0 times infinity.""",
    quotes=(
        Quote(file=_XENT, after="struct XentEigenImpl", line="loss.device(d) = (labels"),
        Quote(file=_XENT, after="loss.device(d)", line="(scratch.log().eval()"),
    ),
    advice="""Use the sparse function, or mask by a large finite negative number. In the kernel:
        select 0 where the label is 0, as `tf.math.multiply_no_nan` does.""",
    definition=_CROSS_ENTROPY,
    beside=(
        "tf.compat.v1/one-hot",
        "keras/one-hot/function/from-logits",
        "tf_keras/one-hot/function/from-logits",
        "model/keras/logits-head/train_on_batch/one-hot",
        "tf.nn/fused",
        "keras/function/from-logits",
    ),
)

FAR_APART = Entry(
    title="`tf.nn.softmax_cross_entropy_with_logits`: NaN loss on finite logits far apart",
    path="tf.nn/one-hot/fused",
    kind=kinds.NON_FINITE_LOSS,
    format="float32",
    mode="eager",
    families=("largest_finite",),
    harm="""The same product of 0 and infinity without any mask: the logits need only be further
        apart than the largest number. Nobody trains there, but a NaN is not the answer: loss and
        gradient of the sparse function are right. float16 does not show it.""",
    cause="""The largest logit is subtracted from each of them, which overflows to -inf; the class
        that is lost so has label 0, and the kernel multiplies the two.""",
    quotes=(
        Quote(file=_XENT, after="struct XentEigenImpl", line="logits.broadcast(logits_bcast) - s"),
    ),
    advice="""Keep masks far from the end of the range. The same repair of the kernel mends this
        one.""",
    definition=_CROSS_ENTROPY,
    beside=(
        "tf.nn/soft/fused",
        "keras/one-hot/function/from-logits",
        "tf_keras/one-hot/function/from-logits",
        "tf.nn/fused",
    ),
)

SMOOTHED_OTHER_AXIS = Entry(
    title="`keras.losses.categorical_crossentropy(label_smoothing=…, axis=…)`: smooths by the "
    "wrong number of classes",
    path="keras/smoothed-other-axis/function/from-logits",
    kind=kinds.INACCURATE_LOSS,
    format="float32",
    mode="eager",
    families=("normal",),
    harm="""With the classes on another axis than the last, as for images with channels first, the
        smoothed targets do not sum to 1: loss and gradient are wrong in every digit, without any
        warning, and the minimum lies elsewhere. tf_keras is right.""",
    cause="""The number of classes is read from the last axis, not from `axis`.
        `categorical_focal_crossentropy` has the same line.""",
    quotes=(
        Quote(
            file=_KERAS_LOSSES,
            after="def categorical_crossentropy(",
            line="num_classes = ops.cast(ops.shape(y_true)[-1]",
        ),
        Quote(
            file=_KERAS_LOSSES,
            after="def categorical_focal_crossentropy(",
            line="num_classes = ops.cast(ops.shape(y_true)[-1]",
        ),
    ),
    advice="""Smooth the targets by hand, or move the classes to the last axis. In Keras:
        `ops.shape(y_true)[axis]`.""",
    definition="""
def loss(*x):
    log_sum = log(fsum(exp(v) for v in x))
    smoothed = [t * (1 - mpf(1) / 10) + mpf(1) / 10 / len(x) for t in target]
    return fsum(s * (log_sum - v) for s, v in zip(smoothed, x))
""",
    beside=(
        "keras/smoothed/function/from-logits",
        "tf_keras/smoothed-other-axis/function/from-logits",
    ),
)

MIXED_PRECISION_SOFTMAX = Entry(
    title="Keras 3, mixed precision: a model that ends in softmax loses the gradient of its worst "
    "rows",
    path="model/keras/softmax-head/train_on_batch",
    kind=kinds.GRADIENT_COLLAPSE,
    format="bfloat16",
    mode="graph",
    families=("margin_sweep",),
    harm="""Keras keeps the logits behind a softmax, so that the loss need not clip: in float32
        this model is sound. Under `mixed_bfloat16` and `mixed_float16` the same model clips. The
        loss stops growing, and exactly those rows that are most wrong get a gradient of 0. In
        float16 the optimizer may get no finite gradient at all and skip the step. tf_keras, which
        keeps the logits, does not show it.""",
    cause="""The loss class casts the predictions to its own dtype, float32; the cast makes a new
        tensor, without the attribute that holds the logits.""",
    quotes=(
        Quote(
            file="keras/src/losses/loss.py",
            after="def __call__",
            line="lambda x: ops.convert_to_tensor(x, dtype=self.dtype), y_pred",
        ),
        Quote(file=_KERAS_NN, after="def _get_logits", line='hasattr(output, "_keras_logits")'),
        _CLIP,
    ),
    advice="""End the model in logits and compile with `from_logits=True`, or give the softmax
        `dtype="float32"`, as the guide on mixed precision advises. In Keras: carry
        `_keras_logits` over the cast, cast likewise.""",
    definition=_CROSS_ENTROPY,
    beside=(
        "model/keras/softmax-head/fit",
        "model/keras/softmax-head/train_on_batch/one-hot",
        "model/keras/softmax-head-float32/train_on_batch",
        "model/keras/logits-head/train_on_batch",
        "model/tf_keras/softmax-head/train_on_batch",
    ),
)

KL_IN_HALF = Entry(
    title="`keras.losses.kl_divergence`: no finite gradient in float16 where a class has target 0",
    path="keras/kl/function/softmax-op",
    kind=kinds.NON_FINITE_GRADIENT,
    format="float16",
    mode="eager",
    families=("margin_sweep",),
    harm="""A target that gives a class probability 0, such as a one-hot one, makes the gradient
        infinite or NaN even where all predictions are equal; and a small prediction makes the
        loss infinite. tf_keras shares it. The class `KLDivergence` computes in float32 and has
        the milder form that all losses on clipped float16 probabilities have.""",
    cause="""The logarithm of a quotient: where the target was clipped to 1e-7, the logarithm's
        derivative is the quotient's reciprocal, which exceeds float16; where the prediction was,
        the quotient itself does.""",
    quotes=(
        Quote(
            file=_KERAS_LOSSES,
            after="def kl_divergence(",
            line="return ops.sum(y_true * ops.log(y_true / y_pred)",
        ),
    ),
    advice="""Cast predictions to float32 first. In Keras:
        `y_true * (ops.log(y_true) - ops.log(y_pred))` has a finite gradient at ordinary
        predictions; that of small ones still needs float32.""",
    definition="""
def loss(*x):
    log_sum = log(fsum(exp(v) for v in x))
    return fsum(t * (log(mpf(t)) + log_sum - v) for t, v in zip(target, x) if t)
""",
    beside=("tf_keras/kl/function/softmax-op", "keras/kl/class/softmax-op", "tf.nn/kl/fused"),
)

GENERALISED = Entry(
    title="`keras.losses.categorical_generalized_cross_entropy`: NaN gradient once a probability "
    "underflows",
    path="keras/gce/function/softmax-op",
    kind=kinds.NON_FINITE_GRADIENT,
    format="float32",
    mode="eager",
    families=("margin_sweep",),
    harm="""The loss is meant for noisy labels, so for rows whose label is far off. One row whose
        label's probability is 0 in its format makes the gradient NaN, and so all weights. The
        exact gradient there is next to 0, and the loss is right.""",
    cause="""`power(p, q)` with q below 1 has an infinite derivative at 0, times the softmax's
        derivative of 0.""",
    quotes=(
        Quote(
            file=_KERAS_LOSSES,
            after="def categorical_generalized_cross_entropy(",
            line="gce_loss = (1 - ops.power(p, q)) / q",
        ),
    ),
    advice="""From logits: `-tf.math.expm1(q * log_probability) / q`. In Keras: clip p from below,
        as the other losses do.""",
    definition="""
def loss(*x):
    probability = fsum(t * exp(v) for t, v in zip(target, x)) / fsum(exp(v) for v in x)
    return (1 - probability ** mpf(0.5)) / mpf(0.5)
""",
    beside=("tf.nn/gce/expm1",),
)

CLIPPED_IN_HALF = Entry(
    title="`keras.losses.categorical_crossentropy` on float16 probabilities: no finite "
    "gradient long before the clip",
    path="keras/one-hot/function/softmax-op",
    kind=kinds.NON_FINITE_GRADIENT,
    format="float16",
    mode="eager",
    families=("margin_sweep", "threshold_neighbours"),
    harm="""There is no gradient to train on as soon as the label's probability is below the
        reciprocal of float16's largest number. In a graph Keras finds
        the softmax's own logits where it is the last operation, and is right.""",
    cause="""The derivative of the logarithm, 1 / p, overflows for p below 1 / 65504; the clip at
        1e-7 comes too late. So it is for every loss of clipped probabilities in float16.""",
    quotes=(_CLIP,),
    advice="""Hand over logits, or compute softmax and loss in float32. In Keras: compute in
        float32 whatever half format comes, as `ops.mean` does.""",
    definition=_CROSS_ENTROPY,
    beside=(
        "keras/one-hot/function/softmax-identity",
        "keras/smoothed/function/softmax-op",
        "keras/soft/function/softmax-identity",
        "tf_keras/one-hot/function/softmax-identity",
        "keras/one-hot/function/cached-logits",
    ),
)

FOCAL_CLIPS = Entry(
    title="`keras.losses.categorical_focal_crossentropy(from_logits=True)`: clips although it has "
    "the logits",
    path="keras/focal-2/function/from-logits",
    kind=kinds.GRADIENT_COLLAPSE,
    format="float32",
    mode="eager",
    families=("margin_sweep",),
    harm="""The focal loss exists to train on the hardest rows. Theirs is the gradient that is
        exactly 0, though with `from_logits=True` Keras's other losses do not clip. Its
        documentation does not mention the clip.""",
    cause="""The logits become probabilities first, which are clipped as if they had been given.
        tf_keras does the same.""",
    quotes=(
        Quote(
            file=_KERAS_LOSSES,
            after="def categorical_focal_crossentropy(",
            line="y_pred = ops.softmax(y_pred, axis=axis)",
        ),
        Quote(
            file=_KERAS_LOSSES,
            after="def categorical_focal_crossentropy(",
            line="output = ops.clip(output, backend.epsilon()",
        ),
    ),
    advice="""From logits: the factors by `tf.nn.softmax`, the logarithm by `tf.nn.log_softmax`;
        so should Keras.""",
    definition="""
def loss(*x):
    total = fsum(exp(v) for v in x)
    return fsum(
        -t * mpf(0.25) * ((total - exp(v)) / total) ** 2 * (v - log(total))
        for t, v in zip(target, x)
        if t
    )
""",
    beside=(
        "keras/focal-2/class/from-logits",
        "tf_keras/focal-2/function/from-logits",
        "tf.nn/focal-2/log-softmax",
    ),
)

IGNORING_FORGETS = Entry(
    title="`keras.losses.sparse_categorical_crossentropy(ignore_class=…)`: forgets the logits "
    "behind a softmax, and clips",
    path="keras/ignoring/function/cached-logits",
    kind=kinds.GRADIENT_COLLAPSE,
    format="float32",
    mode="eager",
    families=("margin_sweep",),
    harm="""The same call without `ignore_class` is sound. With it the loss stops growing and the
        gradient of the worst rows is exactly 0. tf_keras keeps the logits.""",
    cause="""Rows that are ignored are replaced by zeros with `ops.where`, which makes a new tensor
        without `_keras_logits`.""",
    quotes=(
        Quote(
            file=_KERAS_LOSSES,
            after="def sparse_categorical_crossentropy(",
            line="y_pred = ops.where(ops.expand_dims(valid_mask, axis), y_pred, 0)",
        ),
    ),
    advice="""Hand over logits with `from_logits=True`. In Keras: only the labels need replacing,
        since the losses of ignored rows are dropped by `ops.where` afterwards; unless
        predictions there may be NaN, in which case the attribute has to be carried over.""",
    definition=_CROSS_ENTROPY,
    beside=(
        "keras/ignoring/function/from-logits",
        "tf_keras/ignoring/function/cached-logits",
        "keras/function/cached-logits",
    ),
)

MEAN_IN_HALF = Entry(
    title="tf_keras, `mixed_float16`: the reported loss of a batch is infinite once its sum "
    "exceeds float16",
    path="model/tf_keras/softmax-head/train_on_batch",
    kind=kinds.NON_FINITE_LOSS,
    format="float16",
    mode="graph",
    families=("uniform", "outlier"),
    shape=(4096, 2),
    rows=12 * 4096,
    harm="""What is summed is the whole batch, with its time steps: some thousands of rows with
        ordinary losses suffice. The gradient is right, and so is Keras 3. Callbacks that stop at
        a NaN or infinite loss end the training.""",
    cause="""The losses stay in float16 and are summed there before they are divided by their
        number; Keras 3 casts to float32 first.""",
    quotes=(
        Quote(
            file="tf_keras/src/utils/losses_utils.py",
            after="def reduce_weighted_loss",
            line="loss = tf.reduce_sum(weighted_losses)",
        ),
    ),
    advice="""End the model in float32, as the guide on mixed precision advises. In tf_keras:
        cast half formats to float32 where integers are cast already.""",
    definition=_CROSS_ENTROPY,
    beside=(
        "model/tf_keras/logits-head/train_on_batch",
        "model/tf_keras/softmax-head-float32/train_on_batch",
        "model/keras/logits-head/train_on_batch",
    ),
)
