"""What float64 closes is right: compared with plain balls of 1500 bits, without any identity."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from flint import ctx

from lossfuzz.harness.exact.series import UndecidedError
from lossfuzz.harness.programs.balls import Balls
from lossfuzz.harness.programs.evaluation import exact_values
from lossfuzz.harness.programs.interpreter import carried_out, prepared
from lossfuzz.harness.programs.readings import Reading
from lossfuzz.harness.programs.tape import Tape
from lossfuzz.harness.programs.tracing import traced


def _loaded(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


library = _loaded("test_library_losses")
own = _loaded("test_own_losses")
WITHOUT = {"LossFunctionWrapper", "CTC", "Circle"}

FAMILIES = {
    "as they are": lambda x, _: x,
    "tiny": lambda x, _: x * 1e-8,
    "large": lambda x, _: x * 100,
    "huge": lambda x, _: x * 1e30,
    "zeros": lambda x, _: np.zeros_like(x),
    "whole": lambda x, _: np.round(x),
    "an offset": lambda x, _: x + 1e6,
    "subnormal": lambda x, _: x * 1e-320,
    "the largest float32": lambda x, _: np.full_like(x, 3.4e38),
    "many scales": lambda x, rng: x * 10.0 ** rng.integers(-20, 20, x.shape),
}


def exact_without_identities(program, inputs):
    with ctx.workprec(1500), np.errstate(all="ignore"):
        tape = Tape(Balls(), rewrites=False)
        given = prepared(tape, program, program.accepted(inputs), [0])
        (result,) = carried_out(program, tape, given)
        (slope,) = tape.gradients(result, [given[0]])
        readings = [Reading.of(tape.engine, one) for one in (result.value, slope)]
    return None if tape.tied else readings


def compared(program, inputs):
    """How many numbers were compared; each is within the bounds."""
    try:
        readings = exact_without_identities(program, inputs)
    except UndecidedError:
        return 0
    if readings is None:
        return 0
    found = exact_values(program, inputs, wrt=[0])
    count = 0
    for middle, bound, judged, exact in (
        (found.value, found.bound, found.judged, readings[0]),
        (found.gradients[0], found.bounds[0], found.gradients_judged[0], readings[1]),
    ):
        both = judged & exact.narrow & np.isfinite(exact.middle)
        with np.errstate(all="ignore"):
            apart = np.abs(middle - exact.middle) > bound + exact.bound
        assert not (apart & both).any()
        count += int(both.sum())
    return count


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_own_losses_are_sound(tf, family):
    losses = [*own.LOSSES, *own.SPELLINGS.values(), own.penalty]
    rng = np.random.default_rng(3)
    count = 0
    for loss in losses:
        program = traced(lambda x, y, f=loss: f(tf, x, y), [((6, 5), "float64")] * 2)
        count += compared(program, [FAMILIES[family](own.LOGITS, rng), own.ONE_HOT])
    assert count > 0


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_library_losses_are_sound(tf, family):
    rng = np.random.default_rng(4)
    count = 0
    for package, name in library.CASES:
        if name in WITHOUT:
            continue
        predictions, targets = library.numbers(name, rng)
        loss = library.made(package, name)
        specs = [tf.TensorSpec(one.shape, one.dtype) for one in (predictions, targets)]
        program = traced(lambda x, y, f=loss: f(y, x), specs)
        count += compared(program, [FAMILIES[family](predictions, rng), targets])
    assert count > 0
