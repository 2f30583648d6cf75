"""TensorFlow's logs stay out of the way where lossfuzz starts it, and a user's setting counts."""

import os
import subprocess
import sys

import pytest

LOSSES = """
import tensorflow as tf
import keras

import lossfuzz


def plain(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


@lossfuzz.formula
def mine(x, logits, label):
    return -x.log_softmax(logits)[label]
"""

LAZY = """
import lossfuzz


def plain(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


lossfuzz.check(plain, against="softmax-cross-entropy", rows=300, shapes=[(64, 4)])
print("sound")
"""


def ended(command, folder, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    return subprocess.run(  # noqa: S603 - this interpreter, on what this module wrote
        [sys.executable, *command],
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_losses.py").write_text(LOSSES)
    return tmp_path


RUN = [
    *("-m", "lossfuzz", "run", "--loss", "my_losses:plain", "--rows", "60", "--quiet"),
    *("--shapes", "16x4", "--modes", "eager,xla", "--search", "0", "--out", "out"),
]


def test_a_run_of_ones_own_loss_has_no_log_before_it(folder):
    done = ended([*RUN, "--as", "my_losses:mine"], folder)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("no defect in ")


def test_a_check_that_starts_tensorflow_writes_nothing_of_its_own(folder):
    (folder / "script.py").write_text(LAZY)
    done = ended(["script.py"], folder)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sound\n", "")


def test_a_check_adds_no_log_to_those_of_the_users_own_import(folder):
    (folder / "script.py").write_text(
        "import sys, my_losses, lossfuzz\n"
        "print('imported', file=sys.stderr, flush=True)\n"
        "lossfuzz.check(my_losses.plain, against='softmax-cross-entropy', rows=300,"
        " shapes=[(64, 4)])\n"
    )
    done = ended(["script.py"], folder)
    assert done.returncode == 0
    assert done.stderr.partition("imported\n")[2] == ""


def test_a_users_own_log_level_counts(folder):
    done = ended([*RUN, "--as", "softmax-cross-entropy"], folder, TF_CPP_MIN_LOG_LEVEL="0")
    assert done.returncode == 0
    assert "Compiled cluster using XLA!" in done.stderr  # one of level 0 on every machine
