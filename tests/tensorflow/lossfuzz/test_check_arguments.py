"""What is wrong with an argument is one line that says what came and what was expected."""

import math

import numpy as np
import pytest

import lossfuzz
from lossfuzz import cli
from lossfuzz.arguments import (
    families_of,
    formats_of,
    modes_of,
    rows_of,
    seconds_of,
    seed_of,
    shapes_of,
)
from lossfuzz.errors import USAGE_ERROR
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32

NAME = "softmax-cross-entropy"
QUICK = {"formats": "float32", "modes": "eager", "shapes": [(16, 5)], "rows": 16}


def fused(logits, labels):
    import tensorflow as tf

    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


class Loss:
    def __call__(self, logits, labels):
        return fused(logits, labels)


class LossOfTwo:
    """Its class can be called with two arguments, as a loss is."""

    def __init__(self, gamma, alpha):
        self.gamma, self.alpha = gamma, alpha

    def __call__(self, logits, labels):
        return fused(logits, labels)


WRONG = [
    ("shapes", (16, 5), r"got one shape: write shapes=\[\(16, 5\)\]"),
    ("shapes", 16, r"such as \[\(16, 5\)\], got 16 of type int"),
    ("shapes", [16], r"such as \[\(16, 5\)\], got \[16\]"),
    ("shapes", "16x5", r"such as \[\(16, 5\)\], got '16x5'"),
    ("shapes", ["16x5"], r"such as \(16, 5\), got '16x5'"),
    ("shapes", [(16,)], "of 1 or more, got .16,"),
    ("shapes", [(16, 0)], r"of 1 or more, got \(16, 0\)"),
    ("shapes", [(-1, 3)], r"of 1 or more, got \(-1, 3\)"),
    ("shapes", [()], r"of 1 or more, got \(\)"),
    ("shapes", [(16, 2.5)], r"whole numbers such as \(16, 5\), got \(16, 2.5\)"),
    ("shapes", [(16, None)], r"whole numbers such as \(16, 5\), got \(16, None\)"),
    ("shapes", [(16, "5")], "whole numbers"),
    ("shapes", [None], "whole numbers"),
    ("shapes", [(True, 3)], "whole numbers"),
    ("shapes", [], "at least one of the shapes, got none"),
    ("rows", "many", "rows as a whole number such as 20000, got 'many' of type str"),
    ("rows", 2.5, "rows as a whole number such as 20000, got 2.5"),
    ("rows", math.inf, "rows as a whole number"),
    ("rows", 0, "rows of 1 or more, got 0"),
    ("rows", -5, "rows of 1 or more, got -5"),
    ("rows", True, "rows as a whole number"),
    ("seconds", "x", "seconds as a number above 0 such as 30, got 'x' of type str"),
    ("seconds", [3], "seconds as a number above 0"),
    ("seconds", 0, "seconds as a number above 0"),
    ("seconds", math.nan, "seconds as a number above 0"),
    ("seconds", math.inf, "seconds as a number above 0"),
    ("seconds", "30", "seconds as a number above 0"),
    ("seed", "x", "seed as a whole number such as 0, got 'x' of type str"),
    ("seed", 1.5, "seed as a whole number such as 0, got 1.5"),
    ("seed", None, "seed as a whole number"),
    ("seed", -1, "seed of 0 or more, got -1"),
    ("bounds", "-1:1", r"two numbers such as \(-1, 1\), got '-1:1'"),
    ("bounds", "12", r"two numbers such as \(-1, 1\), got '12'"),
    ("bounds", 1, "two numbers"),
    ("bounds", (1,), "two numbers"),
    ("bounds", (1, 2, 3), "two numbers"),
    ("bounds", {-1: "low", 1: "high"}, "two numbers"),
    ("bounds", {-1, 1}, "two numbers"),
    ("bounds", (None, 1), "two numbers"),
    ("bounds", (0, 10**400), "two numbers"),
    ("bounds", (1, -1), "a lower bound below the upper one, got 1 and -1"),
    ("bounds", (math.nan, 1), "a lower bound below the upper one"),
    ("modes", "e", "unknown mode 'e'"),
    ("modes", ["eager", "grpah"], "unknown mode 'grpah'"),
    ("modes", [1], "modes by name such as 'eager', got 1"),
    ("modes", 1, r"modes as a list such as \['eager'\], got 1"),
    ("modes", None, r"modes as a list such as \['eager'\], got None"),
    ("modes", (), "at least one of the modes, got none"),
    ("formats", "f", "unknown format 'f'"),
    ("formats", 32, r"formats as a list such as \['float32'\], got 32"),
    ("formats", [32], "formats by name such as 'float32', got 32"),
    ("formats", ["float64"], "unknown format 'float64'"),
    ("formats", [], "at least one of the formats, got none"),
    ("families", "normale", "unknown family 'normale'"),
    ("families", [None], "families by name such as 'normal', got None"),
    ("families", 3, r"families as a list such as \['normal'\], got 3"),
    ("device", 0, "device's name such as 'CPU:0', got 0"),
    ("device", ["CPU:0"], "device's name such as 'CPU:0', got"),
    ("reduction", 3, "reduction by name such as 'mean', got 3 of type int"),
    ("reduction", "average", "unknown reduction 'average'"),
]


@pytest.mark.parametrize(
    ("name", "value", "told"), WRONG, ids=[f"{name}={value!r:.20}" for name, value, _ in WRONG]
)
def test_a_wrong_argument_is_told_in_one_line(name, value, told):
    with pytest.raises((ValueError, TypeError), match=told) as error:
        lossfuzz.check(fused, NAME, **{name: value})
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("made", [Loss, LossOfTwo])
def test_a_class_of_losses_is_to_be_made(made):
    with pytest.raises(TypeError, match=rf"got the class {made.__name__}: make an object of it"):
        lossfuzz.check(made, NAME)


def test_a_class_is_no_formula():
    with pytest.raises(TypeError, match="got the class Loss"):
        lossfuzz.check(fused, Loss)


@pytest.mark.usefixtures("tf")
def test_keras_classes_are_to_be_made_and_objects_are_taken():
    import keras

    with pytest.raises(TypeError, match="got the class BinaryCrossentropy: make an object"):
        lossfuzz.check(keras.losses.BinaryCrossentropy, "binary-cross-entropy")
    assert lossfuzz.check(Loss(), NAME, **QUICK).cells


@pytest.mark.usefixtures("tf")
def test_one_string_counts_as_one():
    result = lossfuzz.check(fused, NAME, **QUICK, families="normal")
    assert result.plan["modes"] == ["eager"]
    assert result.plan["formats"] == ["float32"]
    assert result.plan["families"] == ["normal"]
    assert len(result.cells) == 1


def test_other_libraries_numbers_and_dtypes_are_taken():
    import tensorflow as tf

    assert formats_of(tf.float16) == formats_of([np.float16]) == (BINARY16,)
    assert formats_of(BINARY32) == formats_of([np.dtype("float32"), "float32"]) == (BINARY32,)
    assert shapes_of([np.array([16, 5]), tf.TensorShape([16, 5]), [2, 3, 4]]) == (
        (16, 5),
        (2, 3, 4),
    )
    assert rows_of(np.int64(7)) == 7
    assert rows_of(2e4) == 20_000
    assert rows_of(None) is None
    assert seed_of(np.uint8(3)) == 3
    assert seconds_of(np.float32(0.5)) == 0.5
    assert seconds_of(None) is None
    assert modes_of(("xla", "eager", "xla")) == ("xla", "eager")
    assert families_of(iter(["normal"])) == ("normal",)


@pytest.mark.parametrize("low", ["-1:1", "-inf:0", "-0.5:3"])
def test_bounds_that_begin_with_a_sign_are_told_how_to_be_written(low, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["run", "--bounds", low])
    assert ended.value.code == USAGE_ERROR
    told = capsys.readouterr().err
    assert "--bounds=-1:1" in told
    assert told.count("\n") == 1


@pytest.mark.usefixtures("tf")
@pytest.mark.parametrize("name", ["Loss", "of_one", "number"])
def test_a_loss_that_cannot_be_called_ends_a_run_with_one_line(
    name, tmp_path, monkeypatch, capsys
):
    (tmp_path / "own_uncallable.py").write_text(
        "class Loss:\n    pass\n\n\ndef of_one(logits):\n    return logits\n\n\nnumber = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    out = tmp_path / "out"
    code = cli.main(
        ["run", "--loss", f"own_uncallable:{name}", "--as", NAME, "--out", str(out), "--quiet"]
    )
    told = capsys.readouterr().err
    assert code == USAGE_ERROR
    assert told.count("\n") == 1
    assert not out.exists()
