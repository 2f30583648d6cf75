"""The checker of derivatives accepts the table's, and finds a wrong one."""

from dataclasses import replace

import numpy as np
import pytest

from lossfuzz.harness.programs.derivatives import slope_error
from lossfuzz.harness.programs.evaluation import exact_values
from lossfuzz.harness.programs.operations import add_entry, table
from lossfuzz.harness.programs.operations.entry import Entry
from lossfuzz.harness.programs.program import Input, Operation, Program, TensorType

REALS = TensorType(shape=(None,), dtype="float64")
SMOOTH = [
    *("Exp", "Expm1", "Sigmoid", "Softplus", "Tanh", "Sin", "Cos", "Erf", "Erfc", "Sinh", "Cosh"),
    *("Asinh", "Atan", "Square", "Softsign", "Elu", "Selu", "Relu", "LeakyRelu", "Abs", "Tan"),
]
POSITIVE = ["Log", "Log1p", "Sqrt", "Rsqrt", "Reciprocal", "Lgamma", "Digamma"]
UNIT = ["Asin", "Acos", "Atanh", "Erfinv"]


def program_of(kind, inputs=1):
    names = tuple(Input(name=f"x{at}", value=at, type=REALS) for at in range(inputs))
    step = Operation(
        kind=kind, inputs=tuple(range(inputs)), results=(inputs,), outputs=(REALS,), source="here"
    )
    return Program(name=kind, inputs=names, operations=(step,), constants={}, outputs=(inputs,))


def points(kind):
    rng = np.random.default_rng(5)
    if kind in UNIT:
        return rng.uniform(-0.99, 0.99, 200)
    spread = rng.normal(size=200) * 10.0 ** rng.uniform(-6, 1, 200)
    return np.abs(spread) if kind in POSITIVE else spread


@pytest.mark.parametrize("kind", SMOOTH + POSITIVE + UNIT)
def test_a_derivative_is_that_of_the_value(kind):
    assert slope_error(program_of(kind), [points(kind)], wrt=0) == 0


@pytest.mark.parametrize("kind", SMOOTH + POSITIVE + UNIT)
def test_float64_closes_ten_thousand_points_that_the_differences_confirm(kind):
    rng = np.random.default_rng(1)
    spread = rng.normal(size=10_000) * 10.0 ** rng.uniform(-12, 2.5, 10_000)
    numbers = rng.uniform(-1, 1, 10_000) if kind in UNIT else spread
    numbers = np.abs(numbers) if kind in POSITIVE else numbers
    program = program_of(kind)
    found = exact_values(program, [numbers], wrt=[0])
    assert found.judged.all()
    assert found.gradients_judged[0].all()
    assert found.open_rows < 100
    assert slope_error(program, [numbers], wrt=0) == 0


def test_a_planted_wrong_derivative_is_caught():
    true = table()["Tanh"]

    def planted(call, value):
        variable, engine = call.real(value), call.tape.engine
        found = engine.tanh(variable.value)
        slope = engine.exactly(1.0 + 2.0**-40)  # of sech^2 near 0, but for one part in 2^40

        def back(adjoint):
            exact = engine.mul(found, found)
            return engine.times(adjoint, engine.add(slope, engine.neg(exact)))

        return call.tape.record(found, (variable, back))

    add_entry(Entry(kind="Tanh", apply=planted))
    try:
        assert slope_error(program_of("Tanh"), [points("Tanh")], wrt=0) > 2.0**-45
    finally:
        add_entry(replace(true))
    assert slope_error(program_of("Tanh"), [points("Tanh")], wrt=0) == 0
