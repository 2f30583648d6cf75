"""Focal and other losses with powers, temperatures, and log-sum-exp by itself."""

from planted_entry import OP_BY_OP, Planted, planting

from lossfuzz.harness.results import kinds

FOCAL: list[Planted] = []
focal = planting(FOCAL, "categorical-focal-loss-alpha-0-25-gamma-2")
root_focal = planting(FOCAL, "categorical-focal-loss-alpha-0-25-gamma-0-5")
binary_focal = planting(FOCAL, "binary-focal-loss-gamma-2")
binary_root_focal = planting(FOCAL, "binary-focal-loss-gamma-0-5")
binary_flat_focal = planting(FOCAL, "binary-focal-loss-gamma-0")
balanced_focal = planting(FOCAL, "binary-focal-loss-alpha-0-25-gamma-2")
generalised = planting(FOCAL, "generalised-cross-entropy-q-0-5")
warm = planting(FOCAL, "softmax-cross-entropy-at-temperature-2")
cold = planting(FOCAL, "softmax-cross-entropy-at-temperature-1-16")
log_sum_exp = planting(FOCAL, "log-sum-exp")

NON_FINITE = (kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT)
INACCURATE = (kinds.INACCURATE_LOSS, kinds.INACCURATE_GRADIENT, kinds.SIGN_FLIP)


@root_focal("kornia/kornia#918: the power's slope at p = 1 is infinite", kinds=NON_FINITE)
def power_at_certainty(logits, labels):
    import tensorflow as tf

    chosen = tf.reduce_sum(labels * tf.nn.softmax(logits), axis=-1)
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return 0.25 * (1 - chosen) ** 0.5 * losses


@root_focal("kaidic/LDAM-DRW#17: 1 - exp(-loss) of a loss that rounds to 0 or below")
def power_of_a_rounded_loss(logits, labels):
    import tensorflow as tf

    ids = tf.argmax(labels, axis=-1)
    losses = tf.reduce_logsumexp(logits, -1) - tf.gather(logits, ids, batch_dims=ids.shape.rank)
    return 0.25 * (1 - tf.exp(-losses)) ** 0.5 * losses


@focal("mkocabas/focal-loss-keras#5: an epsilon in the logarithm of a focal loss")
def focal_with_an_epsilon(logits, labels):
    import tensorflow as tf

    chosen = tf.reduce_sum(labels * tf.nn.softmax(logits), axis=-1)
    return -0.25 * (1 - chosen) ** 2 * tf.math.log(chosen + 1e-5)


@focal("fudannlp16/focal-loss#3: a product where a power is meant", kinds=INACCURATE)
def product_for_a_power(logits, labels):
    import tensorflow as tf

    chosen = tf.reduce_sum(labels * tf.nn.softmax(logits), axis=-1)
    losses = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return 0.25 * (1 - chosen) * 2 * losses


@focal("davisking/dlib#2552: the value without the focusing factor", kinds=INACCURATE)
def value_without_its_focus(logits, labels):
    import tensorflow as tf

    losses = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    focused = (-tf.math.expm1(-losses)) ** 2 * losses
    return 0.25 * (focused + tf.stop_gradient(losses - focused))


@focal("-sum t (1 - p)^2 log_softmax: 0 times -inf at a masked class", kinds=NON_FINITE)
def focal_at_a_masked_class(logits, labels):
    import tensorflow as tf

    focus = (1 - tf.nn.softmax(logits)) ** 2
    return -0.25 * tf.reduce_sum(labels * focus * tf.nn.log_softmax(logits), axis=-1)


@binary_focal("the focusing factor treated as a constant", kinds=INACCURATE)
def focus_without_gradient(logits, labels):
    import tensorflow as tf

    missed = (1 - labels) * tf.sigmoid(logits) + labels * tf.sigmoid(-logits)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(tf.stop_gradient(missed) ** 2 * losses, axis=-1)


@binary_focal("a focal loss of clipped probabilities")
def binary_focal_of_clipped_probabilities(logits, labels):
    import tensorflow as tf

    chances = tf.clip_by_value(tf.sigmoid(logits), 1e-3, 1 - 1e-3)
    true = labels * chances + (1 - labels) * (1 - chances)
    return -tf.reduce_mean((1 - true) ** 2 * tf.math.log(true), axis=-1)


@binary_root_focal(
    "fizyr/keras-retinanet#706, liuyuisanai/Focal-Loss#11: gamma below 1", kinds=NON_FINITE
)
def binary_power_at_certainty(logits, labels):
    import tensorflow as tf

    chances = tf.sigmoid(logits)
    missed = tf.where(labels > 0, 1 - chances, chances)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(missed**0.5 * losses, axis=-1)


@binary_flat_focal("google-deepmind/optax#1267: 0 to the power of 0", kinds=NON_FINITE)
def power_of_zero(logits, labels):
    import tensorflow as tf

    chances = tf.sigmoid(logits)
    true = chances * labels + (1 - chances) * (1 - labels)
    gamma = tf.zeros_like(logits)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses * tf.exp(gamma * tf.math.log(1 - true)), axis=-1)


@balanced_focal("alpha for every class, not 1 - alpha for the negatives", kinds=INACCURATE)
def alpha_for_both_sides(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    missed = labels * tf.sigmoid(-logits) + (1 - labels) * tf.sigmoid(logits)
    return tf.reduce_mean(0.25 * missed**2 * losses, axis=-1)


@generalised("the power's slope at p = 0", kinds=NON_FINITE)
def power_at_zero(logits, labels):
    import tensorflow as tf

    chosen = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    return (1 - chosen**0.5) / 0.5


@generalised("a floor of 1 % under the probability, below which nothing is learnt")
def generalised_with_a_floor(logits, labels):
    import tensorflow as tf

    chosen = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    return (1 - tf.maximum(chosen, 0.01) ** 0.5) / 0.5


@warm("the temperature applied twice", kinds=INACCURATE)
def temperature_applied_twice(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits / 2 / 2)


@warm("Hinton's factor of the squared temperature, not asked for", kinds=INACCURATE)
def scaled_by_the_squared_temperature(logits, labels):
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits / 2)
    return losses * 4


@warm("the right value, the gradient without the temperature", kinds=INACCURATE)
def gradient_without_the_temperature(logits, labels):
    import tensorflow as tf

    @tf.custom_gradient
    def losses_of(x):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x / 2)
        target = tf.one_hot(labels, x.shape[-1], dtype=x.dtype)
        return losses, lambda up: (tf.nn.softmax(x / 2) - target) * up[..., None]

    return losses_of(logits)


@cold(
    "a temperature that makes logits overflow before the shift",
    formats=("float16",),
    modes=OP_BY_OP,
    kinds=NON_FINITE,
)
def scaled_before_the_shift(logits, labels):
    import tensorflow as tf

    scaled = logits / 0.0625
    shifted = scaled - tf.reduce_max(scaled, axis=-1, keepdims=True)
    log_sum = tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))
    return log_sum - tf.gather(shifted, labels, batch_dims=labels.shape.rank)


@cold("a temperature without a shift", kinds=NON_FINITE)
def cold_without_a_shift(logits, labels):
    import tensorflow as tf

    log_sum = tf.math.log(tf.reduce_sum(tf.exp(logits * 16), -1))
    return log_sum - tf.gather(logits * 16, labels, batch_dims=labels.shape.rank)


@log_sum_exp("log(sum(exp(x))) without a shift", kinds=NON_FINITE)
def log_sum_exp_without_a_shift(logits, labels):
    import tensorflow as tf

    del labels
    return tf.math.log(tf.reduce_sum(tf.exp(logits), -1))


@log_sum_exp("the maximum subtracted and never added back", kinds=INACCURATE)
def maximum_never_added_back(logits, labels):
    import tensorflow as tf

    del labels
    shifted = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    return tf.math.log(tf.reduce_sum(tf.exp(shifted), -1))


@log_sum_exp("pairs folded as max + log1p(exp(-|a - b|)), whose gradient at ties is lost")
def pairs_folded_by_log_add_exp(logits, labels):
    import tensorflow as tf

    del labels
    total = logits[..., 0]
    for column in range(1, min(logits.shape[-1], 16)):
        other = logits[..., column]
        gap = tf.math.log1p(tf.exp(-tf.abs(total - other)))
        total = tf.maximum(total, other) + gap
    rest = logits[..., 16:]
    if rest.shape[-1]:
        total = tf.reduce_logsumexp(tf.concat([total[..., None], rest], -1), -1)
    return total
