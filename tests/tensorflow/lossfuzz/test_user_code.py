"""Whatever a user's loss does is one line that names it, and our own state is ours afterwards."""

import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

import lossfuzz
from lossfuzz.checking import LossRefusal
from lossfuzz.cli import main
from lossfuzz.harness.formula.terms import FormulaError

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
TINY = {
    "formats": ("float32",),
    "modes": ("eager",),
    "rows": 64,
    "shapes": [(16, 4)],
    "families": ("normal",),
}


def sound(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def exiting(logits, labels):
    sys.exit(0)


def only_in_float32(logits, labels):
    if logits.dtype.name != "float32":
        raise TypeError("float32 alone")
    return sound(logits, labels)


def refusal_of(loss, **changes):
    with pytest.raises(LossRefusal) as caught:
        lossfuzz.check(loss, NAME, **TINY | changes)
    told = str(caught.value)
    assert "\n" not in told
    assert loss.__name__ in told
    return told


@pytest.mark.parametrize(
    "error",
    [BaseException, GeneratorExit, SystemExit, KeyboardInterrupt, StopIteration, MemoryError],
)
def test_what_a_loss_raises_is_one_line(error):
    def raising(logits, labels):
        raise error

    assert f"raised {error.__name__}" in refusal_of(raising)


@pytest.mark.parametrize(
    ("gradient", "told"),
    [
        (lambda tf, x: tf.ones([5]), "the gradient has shape [5]"),
        (lambda tf, x: tf.ones(x.shape, tf.int32), "the gradient has dtype int32"),
        (lambda tf, x: "text", "the gradient has shape []"),
        (lambda tf, x: None, "has no gradient"),
    ],
)
def test_a_gradient_that_is_none_of_the_logits_is_one_line(tf, gradient, told):
    def custom(logits, labels):
        @tf.custom_gradient
        def inner(x):
            return sound(x, labels), lambda above: gradient(tf, x)

        return inner(logits)

    assert told in refusal_of(custom)


def state():
    import keras
    import tensorflow as tf

    return (
        Path.cwd(),
        np.geterr(),
        np.exp,
        sys.getrecursionlimit(),
        list(warnings.filters),
        keras.config.floatx(),
        keras.config.dtype_policy().name,
        tf.config.functions_run_eagerly(),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGALRM),
        signal.getitimer(signal.ITIMER_REAL),
        signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        os.fstat(1).st_ino,
    )


def test_state_that_a_sound_loss_changes_is_ours_again(tf):
    import keras

    def changing(logits, labels):
        losses = sound(logits, labels)
        os.chdir("/")
        np.seterr(all="raise")
        np.exp = None
        sys.setrecursionlimit(500)
        warnings.simplefilter("error")
        keras.config.set_floatx("float64")
        keras.config.set_dtype_policy("mixed_float16")
        tf.config.run_functions_eagerly(True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
        os.close(1)
        return losses

    before = state()
    lossfuzz.check(changing, NAME, **TINY)
    assert state() == before


def endless(logits, labels):
    while True:
        pass


def test_an_endless_loss_is_one_line_and_leaves_no_timer():
    before = state()
    assert "took more than 0.5 s" in refusal_of(endless, time_limit=0.5)
    assert state() == before


def test_the_time_limit_holds_outside_of_the_main_thread():
    told = []
    thread = threading.Thread(target=lambda: told.append(refusal_of(endless, time_limit=0.5)))
    thread.start()
    thread.join(60)
    assert "took more than 0.5 s" in told[0]


TRACED = """
import sys, threading, time
from lossfuzz.harness.users.time_limit import limited
from lossfuzz.harness.users.user_code import OverdueError, UserCode

def late():
    try:
        with limited(1), UserCode("late"):
            time.sleep(1.5)  # C code: the exception is under way when the call has ended
    except OverdueError:
        print("told")

def traced():
    sys.settrace(lambda *_: None)
    [abs(number) for number in map(lambda x: x, range(1000))]
    sys.settrace(None)

thread = threading.Thread(target=late)
thread.start()
thread.join()
late()
traced()
print("gone on")
"""


def test_what_is_traced_goes_on_after_a_call_that_took_too_long(tmp_path):
    line = [sys.executable, "-c", TRACED]
    done = subprocess.run(  # noqa: S603 - ours
        line, cwd=tmp_path, check=False, capture_output=True, timeout=60
    )
    assert done.stdout.split(b"\n")[:-1] == [b"told", b"told", b"gone on"], done.stderr


def test_an_endless_formula_is_one_line():
    def formula(x, logits, label):
        while True:
            pass

    with pytest.raises(FormulaError, match=r"formula <formula> took more than 0\.5 s"):
        lossfuzz.check(sound, formula, **TINY, time_limit=0.5)


def run(tmp_path, *more):
    few = ["--families", "normal", "--modes", "eager", "--rows", "64", "--shapes", "16x4"]
    return main(["run", *few, "--as", NAME, "--out", str(tmp_path / "out"), "--quiet", *more])


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "exits_at_import.py").write_text("import sys\nsys.exit(0)\n")
    text = "from pathlib import Path\nexec(compile(Path(%r).read_text(), 'planted', 'exec'))\n"
    (tmp_path / "planted_user_code.py").write_text(text % __file__)
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize("loss", ["exits_at_import:f", "planted_user_code:exiting"])
def test_an_exit_of_a_users_is_an_error(tmp_path, capsys, loss):
    assert run(tmp_path, "--formats", "float32", "--loss", loss) == 2
    told = capsys.readouterr().err
    assert loss.partition(":")[0] in told
    assert "raised SystemExit" in told
    assert "Traceback" not in told


@pytest.mark.usefixtures("module")
def test_strict_fails_a_loss_that_raises_in_half_formats(tmp_path):
    loss = ("--loss", "planted_user_code:only_in_float32", "--strict")
    assert run(tmp_path, "--formats", "float32", *loss) == 0
    assert run(tmp_path, *loss) != 0
