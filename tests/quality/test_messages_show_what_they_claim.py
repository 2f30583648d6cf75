"""Every message's script, pasted and run, prints what the message says; and is short."""

import functools
import linecache
import re
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from planted_collection import PLANTED
from planted_messages import (
    LONGEST_MESSAGE,
    Message,
    checked,
    message_of,
    outputs_of,
    outputs_without_faults,
)

import lossfuzz
from lossfuzz.harness.numbers.decimals import proved_text
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.plan import Plan
from lossfuzz.reports import html, tables
from lossfuzz.reports.snippet import LONGEST_SCRIPT, snippet
from lossfuzz.running import run

pytestmark = pytest.mark.usefixtures("tf")

NAME = "softmax-cross-entropy"
QUICK = {"formats": ["float32"], "modes": ["eager"], "rows": 600, "shapes": [(32, 6)]}
FLOOR = 1e-7


def test_scripts_of_all_planted_losses_print_what_their_messages_say(tf):
    messages = [message_of(entry, ("eager",), 2000) for entry in PLANTED]
    found = [one for one in messages if one.finding is not None]
    assert len(found) >= 0.9 * len(PLANTED)
    assert max(len(one.text) for one in found) <= LONGEST_MESSAGE
    outputs_without_faults(found)
    together = [one.finding for one in found if one.finding.batch is not None]
    assert len(together) >= 5


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_a_compiled_modes_script_shows_it_in_that_mode(tf, mode):
    names = {"no_max_shift", "shift_by_the_largest_of_the_batch"}
    chosen = [replace(one, formats=("float32",)) for one in PLANTED if one.name in names]
    found = [message_of(one, (mode,), 600) for one in chosen]
    assert len(found) == len(names)
    assert all("@tf.function" in one.script for one in found)
    outputs_without_faults(found)


def at_label(values, labels):
    import tensorflow as tf

    return tf.gather(values, labels, batch_dims=labels.shape.rank)


def clipped(logits, labels, floor=FLOOR):
    import tensorflow as tf

    return -tf.math.log(tf.clip_by_value(at_label(tf.nn.softmax(logits), labels), floor, 1.0))


def shifted_by_the_batch(logits, labels):
    import tensorflow as tf

    moved = logits - tf.reduce_max(logits)
    return tf.math.log(tf.reduce_sum(tf.exp(moved), axis=-1)) - at_label(moved, labels)


def test_a_row_that_needs_its_batch_is_shown_with_it(tf):
    options = {"formats": ["float32"], "modes": ["eager"], "rows": 3000}
    message = checked("batch", shifted_by_the_batch, NAME, **options)
    finding = message.finding
    assert finding.batch is not None
    assert finding.batch_rows == 2
    assert len(finding.logits) == 2
    assert "it needs this batch of 2 rows" in message.text
    outputs_without_faults([message])
    again = Finding.from_json(finding.to_json())
    assert again == finding or repr(again) == repr(finding)
    assert again.id == finding.id


def test_a_mean_of_many_rows_is_told_with_the_values_of_its_own_batch(tf):
    def mean(logits, labels):
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return tf.reduce_mean(losses)

    options = {"formats": ["float16"], "modes": ["eager"], "shapes": [(65536, 2)]}
    message = checked("mean", mean, NAME, reduction="mean", rows=200_000, **options)
    assert 1 < message.finding.batch_rows <= 65536
    outputs_without_faults([message])


def test_a_loss_of_every_kind_is_told_so_that_its_script_runs_as_pasted(tf):
    import keras

    scale = np.array([2.0], np.float32)

    def loss(logits, labels):
        return clipped(logits, labels) * scale / tf.constant(2.0)

    labels = 1e-3  # a name of the script means something else here

    def odd(x, y):
        return clipped(x, y, labels)

    class Named(keras.losses.Loss):
        def __init__(self, floor=0.5, **options):
            super().__init__(**options)
            self.floor = floor

        def call(self, y_true, y_pred):
            return clipped(y_pred, tf.cast(y_true, tf.int32), self.floor)

    smooth = keras.losses.BinaryCrossentropy(
        from_logits=True, label_smoothing=0.25, reduction=None
    )
    binary = "binary-cross-entropy"
    given = {
        "lambda": (lambda x, y: 1.0 * clipped(x, y), NAME),
        "lambda with a default": (lambda x, y, floor=labels: clipped(x, y, floor), NAME),
        "partial": (functools.partial(clipped, floor=1e-3), NAME),
        "named as the script's own": (loss, NAME),
        "names of the script": (odd, NAME),
        "keras object": (smooth, binary),
        "subclass of Keras": (Named(reduction=None), NAME),
        "keras function": (
            functools.partial(keras.losses.binary_crossentropy, from_logits=True, axis=-1),
            binary,
        ),
    }
    messages = [checked(name, *one, **QUICK) for name, one in given.items()]
    told = {one.name: one for one in messages if one.finding is not None}
    assert set(given) - set(told) <= {"keras function"}
    outputs_without_faults(list(told.values()))
    assert "keras.losses.BinaryCrossentropy(" in told["keras object"].script
    assert all("keras.src" not in one.script for one in messages)
    for one in told.values():
        assert "= lambda(" not in one.text
    assert "class Named(keras.losses.Loss):" in told["subclass of Keras"].script


def test_a_source_that_gives_other_values_than_the_loss_is_not_outputs_without_faults(
    tf, tmp_path, monkeypatch
):
    file = tmp_path / "changed_since.py"
    written = (
        "import tensorflow as tf\n"
        "def made():\n"
        "    def inner(logits, labels):\n"
        "        p = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)\n"
        "        return -tf.math.log(tf.maximum(p, 1e-7))\n"
        "    return inner\n"
    )
    file.write_text(written)
    monkeypatch.syspath_prepend(str(tmp_path))
    import changed_since

    first, second = changed_since.made(), changed_since.made()
    kept = checked("as it was", first, NAME, **QUICK)
    assert "tf.maximum(p, 1e-7)" in kept.script
    outputs_without_faults([kept])
    file.write_text(written.replace("1e-7", "1e-3"))
    linecache.clearcache()
    message = checked("changed", second, NAME, **QUICK)
    assert message.finding.logits == kept.finding.logits
    assert "tf.maximum" not in message.script
    assert "has to be put here" in message.script


def test_a_users_module_is_imported_and_its_folder_asked_for(tf, tmp_path):
    (tmp_path / "loss.py").write_text(  # its name is one of the script's
        "import tensorflow as tf\n"
        "def mine(logits, labels):\n"
        "    p = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)\n"
        "    return -tf.math.log(tf.maximum(p, 1e-7))\n"
    )
    sys.path.append(str(tmp_path))
    try:
        import loss

        message = checked("module", loss.mine, NAME, **QUICK)
    finally:
        sys.path.remove(str(tmp_path))
    assert "# needs loss: put its folder on PYTHONPATH" in message.script
    outputs_without_faults([message], tmp_path)


def in_half(logits, labels):
    """Adds one after the other, so that many classes are lost in a half format."""
    import tensorflow as tf

    moved = logits - tf.reduce_max(logits, axis=-1, keepdims=True)
    total = tf.cumsum(tf.exp(moved), axis=-1)[..., -1]
    return tf.math.log(total) - at_label(moved, labels)


def picky_about_many_values(logits, labels):
    """Wrong for rows of more than 100 different values alone, so that none of them shrinks."""
    import tensorflow as tf

    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    ordered = tf.sort(logits, axis=-1)
    steps = tf.reduce_sum(tf.cast(ordered[..., 1:] > ordered[..., :-1], tf.int32), axis=-1)
    return tf.where(steps > 100, tf.cast(0.0, logits.dtype) * losses, losses)


def test_vocabulary_rows_are_told_in_few_characters(tf):
    options = {"formats": ["float16"], "modes": ["eager"], "families": ["normal"], "rows": 2}
    given = [(in_half, 32000), (picky_about_many_values, 32000), (picky_about_many_values, 70000)]
    messages = [
        checked(f"{loss.__name__} {classes}", loss, NAME, shapes=[(2, classes)], **options)
        for loss, classes in given
    ]
    assert all(one.finding is not None for one in messages)
    assert max(len(one.text) for one in messages) <= LONGEST_MESSAGE
    outputs_without_faults(messages)


@pytest.fixture(scope="module")
def result(tf):
    paths = (
        *("keras/function/softmax-op", "keras/function/softmax-identity", "tf.nn/naive"),
        *("tf.nn/kl/naive", "tf.nn/ignoring/times-mask", "tf.nn/binary/naive"),
        *("keras/mean/class/softmax-op", "model/keras/softmax-head/train_on_batch"),
    )
    return run(
        Plan(
            paths=tuple(paths_matching(list(paths))),
            formats=(BINARY16, BINARY32),
            devices=("CPU:0",),
            modes=("eager", "graph"),
            shapes=((64, 3), (2, 4, 300)),
            rows=600,
        )
    )


def test_scripts_of_a_runs_page_print_what_its_figures_say(result):
    small = [*result.worst, *(one.finding for one in result.causes if one.shrunk)]
    told = {one.id: one for one in small if not one.unconfirmed and not one.message}
    assert len(told) > 20
    assert sum(one.unconfirmed for one in small) <= 0.1 * len(small)
    outputs = outputs_of([snippet(one) for one in told.values()])
    for finding, output in zip(told.values(), outputs, strict=True):
        line = next(one for one in output.splitlines() if one.startswith("loss"))
        printed, exact = line.removeprefix("loss").split("exact:")
        figures = tables.finding_figures(finding)
        assert f"loss {float(printed):.9g} (exact" in figures, (finding.cell_name, output)
        assert f"(exact {proved_text(float(exact))}" in figures, (finding.cell_name, output)
        if finding.tier == DEFECT:
            assert len(snippet(finding)) <= LONGEST_SCRIPT
    assert "its script did not show it" not in html.render(result) or any(
        one.unconfirmed for one in small
    )


def test_a_message_without_a_finding_has_no_script():
    assert Message(name="", text="", finding=None, seconds=0.0).script == ""


MAIN = """
import lossfuzz, tensorflow as tf

FLOOR = 1e-7

def floored(p):
    return tf.maximum(p, FLOOR)

@tf.function
def step(p):
    return floored(p)

def loss(logits, labels):
    p = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    return -tf.math.log(step(p))

if __name__ == "__main__":
    try:
        lossfuzz.check(loss, "softmax-cross-entropy", formats=["float32"], modes=["eager"],
                       rows=600, shapes=[(32, 6)])
    except lossfuzz.LossDefect as defect:
        print(defect)
"""


def test_a_function_of_a_program_is_told_by_its_source(tmp_path):
    (tmp_path / "program.py").write_text(MAIN)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    message = Message(name="program", text=done.stdout.rstrip(), finding=None, seconds=0.0)
    assert "import __main__" not in message.script
    (printed,) = outputs_of([message.script])
    told = re.search(r"loss      is (\S+), the row's exact value (\S+)", message.text).groups()
    loss = re.search(r"^loss +(\S+)  exact: (\S+)", printed).groups()
    assert [float(one) for one in loss] == pytest.approx([float(one) for one in told], rel=1e-8)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_exact_values_are_rounded_once_and_told_short(tf, parts):
    def formula(x, logits, label):
        return x.sum(logits * logits) / parts

    def nothing(logits, labels):
        return 0.0 * tf.reduce_sum(logits * logits, axis=-1)

    message = checked("nothing", nothing, lossfuzz.formula(formula), **QUICK)
    finding = message.finding
    exact = sum(Fraction(one) ** 2 for one in finding.logits) / parts
    assert finding.exact_loss == float(exact)
    gradient = [2 * Fraction(one) / parts for one in finding.logits]
    assert list(finding.exact_gradient) == [float(one) for one in gradient]
    told = re.search(r"the row's exact value (\S+)", message.text).group(1)
    assert told == proved_text(float(exact))
    if parts == 2 and float(exact) == round(float(exact)):
        assert "." not in told
