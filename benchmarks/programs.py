"""What the exact value and gradient of a program costs: ratios of one run.

Each loss is traced once and evaluated at [512, 10] and [32, 1000]: against TensorFlow's own eager
step (forward and gradient) of that loss, which a program should cost at most 3 times, and against
the same program over Arb's balls alone, which should cost at least 500 times as much.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SHAPES = ((512, 10), (32, 1000))


def losses(tf: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """As users write them, one number for each row or batch."""

    def clipped(x: Any, y: Any) -> Any:
        p = tf.clip_by_value(tf.nn.softmax(x), 1e-7, 1 - 1e-7)
        return -tf.reduce_sum(y * tf.math.log(p), -1)

    def focal(x: Any, y: Any) -> Any:
        p = tf.nn.softmax(x)
        return tf.reduce_sum(-y * (1 - p) ** 2.0 * tf.math.log(p), -1)

    def dice(x: Any, y: Any) -> Any:
        p = tf.nn.softmax(x)
        both = tf.reduce_sum(p * y, -1)
        return 1 - (2 * both + 1) / (tf.reduce_sum(p, -1) + tf.reduce_sum(y, -1) + 1)

    def huber(x: Any, y: Any) -> Any:
        error = tf.abs(x - y)
        return tf.reduce_mean(tf.where(error < 1, 0.5 * error**2, error - 0.5), -1)

    return {
        "log-softmax": lambda x, y: -tf.reduce_sum(y * tf.nn.log_softmax(x), -1),
        "clip and log": clipped,
        "focal": focal,
        "Dice": dice,
        "Huber": huber,
    }


def fastest(function: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest call."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        found.append(time.perf_counter() - started)
    return min(found)


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=30, help="of which the fastest counts (30)")
    options = parser.parse_args()
    import tensorflow as tf
    from flint import ctx

    from lossfuzz.harness.programs.balls import Balls
    from lossfuzz.harness.programs.evaluation import exact_values
    from lossfuzz.harness.programs.interpreter import carried_out, prepared
    from lossfuzz.harness.programs.tape import Tape
    from lossfuzz.harness.programs.tracing import traced

    rng = np.random.default_rng(0)
    print(
        f"{'loss':14}{'shape':>12}{'exact, ms':>11}{'of TF eager':>13}{'Arb of it':>11}{'open':>6}"
    )
    for shape in SHAPES:
        logits = (rng.normal(size=shape) * 5).astype(np.float32)
        labels = np.eye(shape[1], dtype=np.float32)[rng.integers(0, shape[1], shape[0])]
        for name, loss in losses(tf).items():
            program = traced(loss, [((None, shape[1]), "float32")] * 2, name=name)
            x, y = tf.constant(logits), tf.constant(labels)

            def step(loss: Any = loss, x: Any = x, y: Any = y) -> None:
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    value = loss(x, y)
                tape.gradient(value, x)

            def exact(program: Any = program, x: Any = logits, y: Any = labels) -> Any:
                return exact_values(program, [x, y], wrt=[0])

            def arb(program: Any = program, x: Any = logits, y: Any = labels) -> None:
                with ctx.workprec(128):
                    tape = Tape(Balls(), rewrites=False)
                    given = prepared(tape, program, program.accepted([x, y]), [0])
                    tape.gradients(*carried_out(program, tape, given), [given[0]])

            open_rows = exact().open_rows
            own, tensorflow = fastest(exact, options.repeats), fastest(step, options.repeats)
            ratio = fastest(arb, 1) / own
            print(
                f"{name:14}{shape!s:>12}{own * 1e3:11.2f}{own / tensorflow:13.1f}"
                f"{ratio:11.0f}{open_rows:6}",
                flush=True,
            )


if __name__ == "__main__":
    main()
