"""Planted paths that a campaign must survive.

Most do harm on rows with a logit above 100; those that end by "_LATER" need more than one call for
it; `SETS`, `FORKS`, `LEAVES_BEHIND` and `SPEAKS` disturb whoever runs them in every call, but
compute what they should.
"""

import os
import signal
import stat
import threading
import time
from typing import Any

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.paths.path import LossPath

THRESHOLD = 100.0


def _abort(_):
    os.abort()


def _hang(_):
    time.sleep(1e6)


def _eat(_):
    hoard = []
    while True:
        hoard.append(bytearray(b"x" * (1 << 26)))


def _refuse(_):
    raise ValueError("this path does not like large logits")


def _leave(_):
    os._exit(0)


def _raise(error):
    def harm(_):
        raise error

    return harm


def _set(_):
    import numpy as np

    np.seterr(all="raise")


def _fork(_):
    os.fork()  # both processes go on as if nothing had happened


def _leave_behind(_):
    if not os.fork():
        time.sleep(600)
        os._exit(0)


def _speak(_):
    for descriptor in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                os.write(
                    descriptor, b'{"done": {}}\nnot JSON\n[1]\n{"id": 1, "pid": 1, "done": 1}\n'
                )
        except OSError:
            continue


_calls: list[int] = []


def _crash_at_the_11th(_):
    _calls.append(1)
    if len(_calls) == 11:
        os.kill(os.getpid(), signal.SIGSEGV)


def _leave_soon(_):
    if not _calls:
        threading.Timer(0.3, os._exit, (3,)).start()
    _calls.append(1)
    time.sleep(0.05)


_hoard: list[bytearray] = []


def _leak(_):
    _hoard.append(bytearray(b"x" * (100 << 20)))


def _path(harm: Any, *, always: bool = False) -> LossPath:
    def call(logits: Any, labels: Any, _: Any) -> Any:
        import tensorflow as tf

        if always or float(logits.numpy().astype("float64").max()) > THRESHOLD:
            harm(logits)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    return LossPath(
        name="hostile",
        loss=SOFTMAX_CROSS_ENTROPY,
        api="tensorflow",
        call=call,
        source="",
        documented=SOFTMAX_CROSS_ENTROPY,
    )


ABORTS = _path(_abort)
HANGS = _path(_hang)
EATS = _path(_eat)
REFUSES = _path(_refuse)
LEAVES = _path(_leave)
RAISES_SYSTEM_EXIT = _path(_raise(SystemExit(0)))
RAISES_INTERRUPT = _path(_raise(KeyboardInterrupt()))
RAISES_GENERATOR_EXIT = _path(_raise(GeneratorExit()))
SETS = _path(_set, always=True)
FORKS = _path(_fork, always=True)
LEAVES_BEHIND = _path(_leave_behind, always=True)
SPEAKS = _path(_speak, always=True)
CRASHES_LATER = _path(_crash_at_the_11th, always=True)
LEAVES_LATER = _path(_leave_soon, always=True)
LEAKS_LATER = _path(_leak, always=True)
