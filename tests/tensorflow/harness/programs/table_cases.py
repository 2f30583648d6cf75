"""Operands for every entry of the table: what TensorFlow is called with, and where.

A case is a function of tensors, and arrays; the float64 ones are differentiated by.
"""

import numpy as np

RNG = np.random.default_rng(11)
REALS = np.concatenate([RNG.normal(size=40) * 3, RNG.normal(size=20) * 1e-6, [30.0, -30.0, 300.5]])
POSITIVE = np.concatenate([np.exp(RNG.normal(size=40) * 3), [1e-30, 1e30, 1 + 2.0**-40]])
UNIT = np.concatenate([RNG.uniform(-0.999, 0.999, 40), [1e-9, -1e-9, 0.99999]])
OTHERS = RNG.normal(size=REALS.size)
ONE = np.float64(1.0)
MATRIX = RNG.normal(size=(4, 6))
CUBE = RNG.normal(size=(2, 3, 4))
LARGE = np.concatenate([MATRIX * 10, MATRIX * 1e3])
SHARES = np.exp(np.concatenate([MATRIX, 3 * MATRIX]))
SHARES /= SHARES.sum(axis=1, keepdims=True)  # TensorFlow's derivative supposes a sum of one
WEIGHTS = np.arange(1.0, 7.0)

UNARY = {
    **dict.fromkeys(
        ["Abs", "Cos", "Elu", "Erf", "Exp", "Expm1", "LeakyRelu", "Neg", "Relu", "Relu6", "Selu"],
        REALS,
    ),
    **dict.fromkeys(["Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Square", "Tanh"], REALS),
    **dict.fromkeys(["Asinh", "Atan", "Reciprocal", "Inv"], REALS),
    **dict.fromkeys(["Ceil", "Floor", "Rint", "Round"], REALS[:60]),
    **dict.fromkeys(["Log", "Sqrt", "Rsqrt", "Log1p"], POSITIVE),
    **dict.fromkeys(["Asin", "Acos", "Atanh", "Erfinv", "Tan"], UNIT),
    **dict.fromkeys(["Cosh", "Sinh", "Erfc"], REALS[np.abs(REALS) < 20]),
    **dict.fromkeys(["Digamma", "Lgamma"], POSITIVE[(POSITIVE < 1e8) & (POSITIVE > 1e-8)]),
    "Acosh": 1 + POSITIVE[POSITIVE > 1e-5],
    "Ndtri": (UNIT + 1) / 2,
    **dict.fromkeys(["IsFinite", "IsInf", "IsNan"], REALS),
}
SLOPES = {
    **dict.fromkeys(["SigmoidGrad", "TanhGrad", "RsqrtGrad", "SqrtGrad"], ("y", "dy")),
    **dict.fromkeys(["ReciprocalGrad", "InvGrad"], ("y", "dy")),
    **dict.fromkeys(["SoftplusGrad", "ReluGrad", "LeakyReluGrad"], ("gradients", "features")),
}
BINARY = [
    *("Add", "AddV2", "Sub", "Mul", "Maximum", "Minimum", "RealDiv", "Div", "SquaredDifference"),
    *("Atan2", "FloorDiv", "FloorMod", "MulNoNan", "DivNoNan", "Xdivy"),
    *("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual"),
]


def cases(tf):
    """Cases by kind of operation."""
    raw = tf.raw_ops
    found = {}
    for kind, points in UNARY.items():
        found[kind] = [(_one(getattr(raw, kind)), [points])]
    for kind in BINARY:
        found[kind] = [
            (_two(getattr(raw, kind)), [REALS, OTHERS]),
            (_two(getattr(raw, kind)), [MATRIX, WEIGHTS]),
        ]
    found["Xlogy"] = [(_two(raw.Xlogy), [MATRIX, np.exp(MATRIX)])]
    found["Xlog1py"] = [(_two(raw.Xlog1py), [MATRIX, np.exp(MATRIX)])]
    found["Pow"] = [
        (_two(raw.Pow), [np.exp(MATRIX), MATRIX]),
        (lambda x: tf.pow(x, 3.0), [MATRIX]),
        (lambda x: tf.pow(x, 2.5), [np.exp(MATRIX)]),
    ]
    found["AddN"] = [(lambda x, y: raw.AddN(inputs=[x, y, x]), [MATRIX, MATRIX + 1])]
    found["BiasAdd"] = [(lambda x, b: raw.BiasAdd(value=x, bias=b), [MATRIX, WEIGHTS])]
    found["ClipByValue"] = [
        (lambda x: raw.ClipByValue(t=x, clip_value_min=-0.5, clip_value_max=0.5), [MATRIX])
    ]
    found["Select"] = [(lambda x: raw.Select(condition=x > 0, x=x * 2, y=x * 3), [MATRIX])]
    found["SelectV2"] = [(lambda x: tf.where(x > 0, x * 2, x * 3), [MATRIX])]
    for kind in ("Sum", "Mean", "Max", "Min", "Prod", "EuclideanNorm"):
        found[kind] = [
            (_axes(getattr(raw, kind), axes, kept=kept), [CUBE])
            for axes, kept in (([0], False), ([1, 2], True), ([0, 1, 2], False), ([], False))
        ]
    found["L2Loss"] = [(tf.nn.l2_loss, [CUBE])]
    for kind in ("Cumsum", "Cumprod", "CumulativeLogsumexp"):
        found[kind] = [
            (_scan(getattr(raw, kind), exclusive=a, reverse=b), [MATRIX])
            for a, b in ((False, False), (False, True))
        ]
    found["Softmax"] = [(lambda x: tf.nn.softmax(x) * WEIGHTS, [MATRIX]),
                        (lambda x: tf.nn.softmax(x) * WEIGHTS, [LARGE])]  # fmt: skip
    found["LogSoftmax"] = [(lambda x: tf.nn.log_softmax(x) * WEIGHTS, [LARGE])]
    found["SoftmaxCrossEntropyWithLogits"] = [
        (lambda x, y: tf.nn.softmax_cross_entropy_with_logits(y, x),
         [np.concatenate([MATRIX, MATRIX * 50]), SHARES]),
    ]  # fmt: skip
    found["SparseSoftmaxCrossEntropyWithLogits"] = [
        (lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits([0, 5, 2, 1], x), [MATRIX]),
    ]
    found["MatMul"] = [
        (lambda x, y: tf.matmul(x, y, transpose_b=True), [MATRIX, MATRIX + 1]),
        (lambda x, y: tf.matmul(x, y, transpose_a=True), [MATRIX, MATRIX + 1]),
    ]
    found["BatchMatMulV2"] = [(tf.matmul, [CUBE, MATRIX[:4]])]
    found["Einsum"] = [
        (lambda x, y: tf.einsum("bij,jk->bki", x, y), [CUBE, MATRIX]),
        (lambda x: tf.einsum("bij->i", x), [CUBE]),
        (lambda x, y: tf.einsum("...ij,...ij->...", x, y), [CUBE, CUBE + 1]),
    ]
    sparse = tf.sparse.from_dense([[1, 2, 2], [3, 1, 0]])
    found["CTCLoss"] = [
        (lambda x: tf.compat.v1.nn.ctc_loss(sparse, x, [6, 4], time_major=False),
         [RNG.normal(size=(2, 6, 5)) * 4]),
    ]  # fmt: skip
    for kind, names in SLOPES.items():
        found[kind] = [(_named(getattr(raw, kind), names), [MATRIX, CUBE.reshape(4, 6)])]
    _structure(tf, found)
    _segments(tf, found)
    return found


def _structure(tf, found):  # noqa: PLR0915 - one for each kind
    raw = tf.raw_ops
    found["Reshape"] = [(lambda x: tf.reshape(x, [6, -1]) * WEIGHTS[:4], [MATRIX])]
    found["Transpose"] = [(lambda x: tf.transpose(x, [2, 0, 1]), [CUBE])]
    found["ExpandDims"] = [(lambda x: tf.expand_dims(x, -1), [CUBE])]
    found["Squeeze"] = [(lambda x: tf.squeeze(x[:, None]), [CUBE])]
    found["BroadcastTo"] = [(lambda x: tf.broadcast_to(x[:, None], [4, 3, 6]), [MATRIX])]
    found["Tile"] = [(lambda x: tf.tile(x, [2, 3]), [MATRIX])]
    found["ConcatV2"] = [(lambda x, y: tf.concat([x, y, x], 1), [MATRIX, MATRIX])]
    found["Pack"] = [(lambda x, y: tf.stack([x, y], 1), [MATRIX, MATRIX])]
    found["Unpack"] = [(lambda x: tf.unstack(x, axis=1)[2] * 2, [MATRIX])]
    found["Split"] = [(lambda x: tf.split(x, 3, 1)[1], [MATRIX])]
    found["SplitV"] = [(lambda x: tf.split(x, [1, 2, -1], 1)[2], [MATRIX])]
    found["Pad"] = [(lambda x: tf.pad(x, [[1, 0], [0, 2]]), [MATRIX])]
    found["PadV2"] = [(lambda x: tf.pad(x, [[1, 0], [0, 2]], constant_values=3.5), [MATRIX])]
    found["MirrorPad"] = [(lambda x: tf.pad(x, [[1, 0], [0, 2]], "REFLECT"), [MATRIX])]
    found["ReverseV2"] = [(lambda x: tf.reverse(x, [1]) * WEIGHTS, [MATRIX])]
    found["Roll"] = [(lambda x: tf.roll(x, [1, 2], [0, 1]) * WEIGHTS, [MATRIX])]
    found["ReverseSequence"] = [
        (lambda x: tf.reverse_sequence(x, [1, 2, 3, 6], seq_axis=1) * WEIGHTS, [MATRIX])
    ]
    image = RNG.normal(size=(1, 4, 4, 4))
    found["SpaceToDepth"] = [(lambda x: tf.nn.space_to_depth(x, 2), [image])]
    found["DepthToSpace"] = [(lambda x: tf.nn.depth_to_space(x, 2), [image])]
    found["Slice"] = [(lambda x: tf.slice(x, [1, 0], [2, -1]), [MATRIX])]
    found["StridedSlice"] = [
        (lambda x: x[1:, ::-2, None] * 2, [MATRIX]),
        (lambda x: x[..., 1], [CUBE]),
    ]
    found["MatrixDiagV3"] = [(tf.linalg.diag, [MATRIX])]
    found["MatrixDiagPartV3"] = [(lambda x: tf.linalg.diag_part(x[:, :4]), [MATRIX])]
    found["MatrixSetDiagV3"] = [(lambda x, d: tf.linalg.set_diag(x, d[:, 0]), [MATRIX, MATRIX])]
    found["MatrixBandPart"] = [(lambda x: tf.linalg.band_part(x, 1, 2), [MATRIX])]
    found["GatherV2"] = [
        (lambda x: tf.gather(x, [2, 0, 2], axis=1), [MATRIX]),
        (lambda x: tf.gather(x, [[1], [0], [5], [2]], batch_dims=1), [MATRIX]),
    ]
    found["GatherNd"] = [(lambda x: tf.gather_nd(x, [[0, 1], [3, 5], [0, 1]]), [MATRIX])]
    found["OneHot"] = [(lambda x: tf.one_hot([1, 5, 0, 2], 6, dtype=x.dtype) * x, [MATRIX])]
    found["ScatterNd"] = [(lambda x: tf.scatter_nd([[2], [0], [2], [1]], x, [4, 6]), [MATRIX])]
    found["TensorScatterUpdate"] = [
        (lambda x, y: tf.tensor_scatter_nd_update(x, [[1], [3]], y[:2]), [MATRIX, MATRIX])
    ]
    found["TensorScatterAdd"] = [
        (lambda x, y: tf.tensor_scatter_nd_add(x, [[1], [1]], y[:2]), [MATRIX, MATRIX])
    ]
    found["DynamicStitch"] = [
        (lambda x: tf.dynamic_stitch([[0, 2, 1, 3], [4, 7, 5, 6]], [x, 2 * x]), [MATRIX])
    ]
    found["DynamicPartition"] = [
        (lambda x: tf.dynamic_partition(x, [0, 1, 1, 0], 2)[1] * 2, [MATRIX])
    ]
    found["TopKV2"] = [(lambda x: tf.math.top_k(x, 3)[0] * WEIGHTS[:3], [MATRIX])]
    found["ArgMax"] = [(lambda x: x * tf.cast(tf.argmax(x, 1), x.dtype)[:, None], [MATRIX])]
    found["ArgMin"] = [(lambda x: tf.gather(x, tf.argmin(x, 1), batch_dims=1), [MATRIX])]
    found["Where"] = [(lambda x: tf.gather_nd(x, tf.where(x > 0)), [MATRIX])]
    found["StopGradient"] = [(lambda x: x * tf.stop_gradient(x), [MATRIX])]
    found["Cast"] = [(lambda x: x * tf.cast(x > 0, x.dtype), [MATRIX])]
    found["If"] = [(lambda x: tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2, lambda: x * 3), [CUBE])]
    found["While"] = [
        (
            lambda x: tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * x), (0, x))[1],
            [CUBE],
        )
    ]
    found["TensorListStack"] = [(lambda x: tf.map_fn(lambda row: row * 2 + row[0], x), [MATRIX])]
    found["LogicalAnd"] = [(lambda x: tf.where((x > 0) & (x < 1), x, -x), [MATRIX])]
    found["LogicalOr"] = [(lambda x: tf.where((x < 0) | (x > 1), x, -x), [MATRIX])]
    found["LogicalNot"] = [(lambda x: tf.where(~(x > 0), x, -x), [MATRIX])]
    found["All"] = [(lambda x: tf.where(tf.reduce_all(x > -1, 1, True), x, -x), [MATRIX])]
    found["Any"] = [(lambda x: tf.where(tf.reduce_any(x > 1, 1, True), x, -x), [MATRIX])]
    found["Fill"] = [(lambda x: tf.fill([2, 3], x[0, 0]), [MATRIX])]
    found["ZerosLike"] = [(lambda x: x + raw.ZerosLike(x=x), [MATRIX])]
    found["OnesLike"] = [(lambda x: x * raw.OnesLike(x=x), [MATRIX])]
    found["Range"] = [(lambda x: x * tf.range(6.0, dtype=x.dtype), [MATRIX])]
    found["LinSpace"] = [(lambda x: x * raw.LinSpace(start=ONE, stop=2 * ONE, num=6), [MATRIX])]
    found["Shape"] = [(lambda x: x / tf.cast(raw.Shape(input=x)[0], x.dtype), [MATRIX])]
    found["Size"] = [(lambda x: x / tf.cast(raw.Size(input=x), x.dtype), [MATRIX])]
    found["Rank"] = [(lambda x: x / tf.cast(raw.Rank(input=x), x.dtype), [MATRIX])]
    found["InvertPermutation"] = [
        (lambda x: tf.gather(x, tf.math.invert_permutation([2, 0, 1, 3])), [MATRIX])
    ]
    found["Unique"] = [(lambda x: tf.gather(x, tf.unique([3, 0, 3, 1])[0]), [MATRIX])]


def _segments(tf, found):
    ids = [0, 0, 1, 2]
    for kind in ("sum", "mean", "max", "min"):
        segment = getattr(tf.math, f"segment_{kind}")
        found[f"Segment{kind.title()}"] = [(lambda x, f=segment: f(x, ids), [MATRIX])]
    for kind in ("sum", "max", "min"):
        segment = getattr(tf.math, f"unsorted_segment_{kind}")
        found[f"UnsortedSegment{kind.title()}"] = [
            (lambda x, f=segment: f(x, [2, 0, 2, 1], 3), [MATRIX])
        ]


def _one(raw):
    def call(x):
        try:
            return raw(x=x)
        except TypeError:
            return raw(features=x)

    return call


def _two(raw):
    return lambda x, y: raw(x=x, y=y)


def _named(raw, names):
    return lambda x, y: raw(**{names[0]: x, names[1]: y})


def _axes(raw, axes, *, kept):
    import tensorflow as tf

    return lambda x: raw(input=x, axis=tf.constant(axes, tf.int32), keep_dims=kept)


def _scan(raw, *, exclusive, reverse):
    return lambda x: raw(x=x, axis=1, exclusive=exclusive, reverse=reverse)
