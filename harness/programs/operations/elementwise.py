"""Entries that take every element by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import arithmetic, selections, softmax
from lossfuzz.harness.programs.operations.entry import Call, entry
from lossfuzz.harness.programs.tape import Truth, Variable

if TYPE_CHECKING:
    from collections.abc import Callable

    Slope = Callable[[Any, Any, Any], Any]

_PI = "3.14159265358979323846264338327950288419716939937510582097494459230781640628620899863"

# --- arithmetic, of reals or of integers ---

_BINARY: dict[str, tuple[Any, Any]] = {
    "Add": (arithmetic.add, np.add),
    "AddV2": (arithmetic.add, np.add),
    "Sub": (arithmetic.subtract, np.subtract),
    "Mul": (arithmetic.multiply, np.multiply),
    "Maximum": (selections.maximum, np.maximum),
    "Minimum": (selections.minimum, np.minimum),
    "RealDiv": (arithmetic.divide, np.true_divide),
    "Div": (arithmetic.divide, lambda x, y: np.trunc(x / y).astype(x.dtype)),
}


def _binary(reals: Any, integers: Any) -> Any:
    def apply(call: Call, left: Any, right: Any) -> Any:
        if call.is_real:
            return reals(call.real(left), call.real(right))
        return integers(call.whole(left), call.whole(right))

    return apply


for _kind, _pair in _BINARY.items():
    entry(
        _kind,
        domain="a divisor that is not 0" if "Div" in _kind else "all numbers",
        roundings="0" if "imum" in _kind else "1",
    )(_binary(*_pair))


@entry("AddN", roundings="n")
def _add_n(call: Call, *terms: Any) -> Any:
    if not call.is_real:
        return sum((call.whole(one) for one in terms[1:]), call.whole(terms[0]))
    found = call.real(terms[0])
    for one in terms[1:]:
        found = arithmetic.add(found, call.real(one))
    return found


@entry("BiasAdd", "BiasAddV1", roundings="1")
def _bias_add(call: Call, value: Any, bias: Any) -> Variable:
    from lossfuzz.harness.programs.structure import reshaped

    wide, offsets = call.real(value), call.real(bias)
    if call.attribute("data_format", "NHWC") == "NCHW":
        offsets = reshaped(offsets, (-1, *[1] * (len(wide.shape) - 2)))
    return arithmetic.add(wide, offsets)


@entry("Neg", "NegV2")
def _neg(call: Call, value: Any) -> Any:
    return arithmetic.negate(call.real(value)) if call.is_real else -call.whole(value)


@entry("Square", roundings="1")
def _square(call: Call, value: Any) -> Any:
    return arithmetic.square(call.real(value)) if call.is_real else call.whole(value) ** 2


@entry("SquaredDifference", roundings="2")
def _squared_difference(call: Call, left: Any, right: Any) -> Any:
    if not call.is_real:
        return (call.whole(left) - call.whole(right)) ** 2
    return arithmetic.square(arithmetic.subtract(call.real(left), call.real(right)))


@entry("Reciprocal", "Inv", domain="not 0", roundings="1")
def _reciprocal(call: Call, value: Any) -> Variable:
    return arithmetic.divide(call.tape.constant(1.0), call.real(value))


@entry("Rsqrt", domain="positive numbers", roundings="2")
def _rsqrt(call: Call, value: Any) -> Variable:
    return arithmetic.divide(call.tape.constant(1.0), arithmetic.sqrt(call.real(value)))


@entry("Pow", domain="a positive base, or an integer exponent", roundings="4")
def _pow(call: Call, base: Any, exponent: Any) -> Any:
    if not call.is_real:
        return call.whole(base) ** call.whole(exponent)
    return arithmetic.power(call.real(base), call.real(exponent))


@entry("ClipByValue")
def _clip(call: Call, value: Any, low: Any, high: Any) -> Any:
    if not call.is_real:
        return np.clip(call.whole(value), call.whole(low), call.whole(high))
    top = selections.minimum(call.real(value), call.real(high))
    return selections.maximum(top, call.real(low))


# --- functions of one variable ---

_UNARY: dict[str, tuple[Callable[[Variable], Variable], str, str]] = {
    "Exp": (arithmetic.exp, "all numbers", "4"),
    "Expm1": (arithmetic.expm1, "all numbers", "4"),
    "Log": (arithmetic.log, "positive numbers; -inf at 0", "4"),
    "Log1p": (arithmetic.log1p, "numbers above -1; -inf at -1", "4"),
    "Sqrt": (arithmetic.sqrt, "numbers that are not negative", "1"),
    "Sigmoid": (softmax.sigmoid, "all numbers", "6"),
    "Softplus": (softmax.softplus, "all numbers", "8"),
}


def _unary(function: Callable[[Variable], Variable]) -> Any:
    def apply(call: Call, value: Any) -> Variable:
        return function(call.real(value))

    return apply


for _kind, (_function, _domain, _cost) in _UNARY.items():
    entry(_kind, domain=_domain, roundings=_cost)(_unary(_function))


def _with_slope(kind: str, name: str, slope: Slope, *, domain: str = "all numbers") -> None:
    """A function that the engines have, with its derivative ``slope(engine, x, y)``."""

    def apply(call: Call, value: Any) -> Variable:
        variable = call.real(value)
        engine = call.tape.engine
        own = getattr(engine, name, None)
        found = engine.function(name, variable.value) if own is None else own(variable.value)
        return call.tape.record(
            found,
            (
                variable,
                lambda adjoint: engine.times(adjoint, slope(engine, variable.value, found)),
            ),
        )

    entry(kind, domain=domain, roundings="4")(apply)


def _one_over(engine: Any, value: Any) -> Any:
    return engine.div(engine.exactly(1.0), value)


def _one_plus_square(engine: Any, value: Any, sign: float = 1.0) -> Any:
    """1 + x^2, or 1 - x^2 as (1 - x)(1 + x), which does not cancel."""
    one = engine.exactly(1.0)
    if sign > 0:
        return engine.add(engine.mul(value, value), one)
    return engine.mul(engine.add(one, engine.neg(value)), engine.add(one, value))


def _bell(engine: Any, value: Any, factor: Any) -> Any:
    """Factor exp(-x^2)."""
    return engine.mul(engine.exp(engine.neg(engine.mul(value, value))), factor)


def _two_over_root_pi(engine: Any) -> Any:
    root = engine.sqrt(pi(engine))
    return engine.div(engine.exactly(2.0), root)


def pi(engine: Any) -> Any:
    """The number pi, as 4 atan(1)."""
    return engine.mul(engine.function("atan", engine.exactly(1.0)), engine.exactly(4.0))


def _tanh_slope(engine: Any, value: Any, found: Any) -> Any:
    del found
    twice = engine.mul(value, engine.exactly(2.0))
    both = engine.mul(
        softmax.sigmoid_numbers(engine, twice), softmax.sigmoid_numbers(engine, engine.neg(twice))
    )
    return engine.mul(both, engine.exactly(4.0))


def _erfinv_slope(engine: Any, value: Any, found: Any) -> Any:
    del value
    half = engine.div(engine.sqrt(pi(engine)), engine.exactly(2.0))
    return engine.mul(engine.exp(engine.mul(found, found)), half)


def _ndtri_slope(engine: Any, value: Any, found: Any) -> Any:
    del value
    half = engine.mul(engine.mul(found, found), engine.exactly(0.5))
    root = engine.sqrt(engine.mul(pi(engine), engine.exactly(2.0)))
    return engine.mul(engine.exp(half), root)


_with_slope("Sin", "sin", lambda e, x, _: e.cos(x))
_with_slope("Cos", "cos", lambda e, x, _: e.neg(e.sin(x)))
_with_slope("Tan", "tan", lambda e, _, y: _one_plus_square(e, y))
_with_slope(
    "Asin", "asin", lambda e, x, _: _one_over(e, e.sqrt(_one_plus_square(e, x, -1))),
    domain="-1 to 1",
)  # fmt: skip
_with_slope(
    "Acos", "acos", lambda e, x, _: e.neg(_one_over(e, e.sqrt(_one_plus_square(e, x, -1)))),
    domain="-1 to 1",
)  # fmt: skip
_with_slope("Atan", "atan", lambda e, x, _: _one_over(e, _one_plus_square(e, x)))
_with_slope("Sinh", "sinh", lambda e, x, _: e.function("cosh", x))
_with_slope("Cosh", "cosh", lambda e, x, _: e.function("sinh", x))
_with_slope("Tanh", "tanh", _tanh_slope)
_with_slope("Asinh", "asinh", lambda e, x, _: _one_over(e, e.sqrt(_one_plus_square(e, x))))
_with_slope(
    "Acosh",
    "acosh",
    lambda e, x, _: _one_over(e, e.sqrt(e.neg(_one_plus_square(e, x, -1)))),
    domain="from 1 on",
)
_with_slope(
    "Atanh", "atanh", lambda e, x, _: _one_over(e, _one_plus_square(e, x, -1)), domain="-1 to 1"
)
_with_slope("Erf", "erf", lambda e, x, _: _bell(e, x, _two_over_root_pi(e)))
_with_slope("Erfc", "erfc", lambda e, x, _: e.neg(_bell(e, x, _two_over_root_pi(e))))
_with_slope("Erfinv", "erfinv", _erfinv_slope, domain="-1 to 1")
_with_slope("Ndtri", "ndtri", _ndtri_slope, domain="0 to 1")
_with_slope(
    "Lgamma",
    "lgamma",
    lambda e, x, _: e.function("digamma", x),
    domain="not 0 or a negative integer",
)
_with_slope(
    "Digamma",
    "digamma",
    lambda e, x, _: e.function("trigamma", x),
    domain="not 0 or a negative integer",
)


@entry("Atan2", domain="not both 0", roundings="4")
def _atan2(call: Call, ordinate: Any, abscissa: Any) -> Variable:
    y, x, engine = call.real(ordinate), call.real(abscissa), call.tape.engine
    squares = engine.add(engine.mul(x.value, x.value), engine.mul(y.value, y.value))
    return call.tape.record(
        engine.function("atan2", y.value, x.value),
        (y, lambda adjoint: engine.times(adjoint, engine.div(x.value, squares))),
        (x, lambda adjoint: engine.neg(engine.times(adjoint, engine.div(y.value, squares)))),
    )


# --- in pieces ---


@entry("Abs", "ComplexAbs")
def _abs(call: Call, value: Any) -> Any:
    if not call.is_real:
        return np.abs(call.whole(value))
    return selections.by_sign(call.real(value), (-1.0, 0.0, 1.0))


@entry("Relu")
def _relu(call: Call, value: Any) -> Any:
    if not call.is_real:
        return np.maximum(call.whole(value), 0)
    return selections.by_sign(call.real(value), (0.0, 0.0, 1.0))


@entry("Relu6")
def _relu6(call: Call, value: Any) -> Variable:
    above = selections.by_sign(call.real(value), (0.0, 0.0, 1.0))
    return selections.minimum(call.tape.constant(6.0), above)


@entry("LeakyRelu", roundings="1")
def _leaky_relu(call: Call, value: Any) -> Variable:
    slope = float(np.float32(call.attribute("alpha", 0.2)))
    return selections.by_sign(call.real(value), (slope, slope, 1.0))


def _elu(call: Call, value: Variable, alpha: float, scale: float) -> Variable:
    positive = selections.compared(value, call.tape.constant(0.0), np.greater)
    below = arithmetic.multiply(arithmetic.expm1(value), call.tape.constant(alpha))
    found = selections.chosen(positive, value, below)
    return arithmetic.multiply(found, call.tape.constant(scale)) if scale != 1 else found


@entry("Elu", roundings="4")
def _elu_entry(call: Call, value: Any) -> Variable:
    return _elu(call, call.real(value), 1.0, 1.0)


@entry("Selu", roundings="6", source="Klambauer et al. 2017, with TensorFlow's constants")
def _selu(call: Call, value: Any) -> Variable:
    alpha, scale = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
    return _elu(call, call.real(value), alpha, scale)


@entry("Softsign", roundings="2")
def _softsign(call: Call, value: Any) -> Variable:
    variable = call.real(value)
    engine = call.tape.engine
    size = selections.by_sign(variable, (-1.0, 0.0, 1.0))
    below = engine.add(engine.exactly(1.0), size.value)

    def back(adjoint: Any) -> Any:
        return engine.times(adjoint, _one_over(engine, engine.mul(below, below)))

    return call.tape.record(engine.div(variable.value, below), (variable, back))


@entry("Sign")
def _sign(call: Call, value: Any) -> Any:
    return selections.sign(call.real(value)) if call.is_real else np.sign(call.whole(value))


_STEPS: dict[str, Callable[[Any], Any]] = {
    "Floor": np.floor, "Ceil": np.ceil, "Round": np.rint, "Rint": np.rint,
}  # fmt: skip


def _step(function: Callable[[Any], Any]) -> Any:
    def apply(call: Call, value: Any) -> Any:
        if not call.is_real:
            return call.whole(value)
        return selections.stepped(call.real(value), function)

    return apply


for _kind, _round in _STEPS.items():
    entry(_kind, source="a step: its derivative is 0")(_step(_round))


@entry("FloorMod", "Mod", domain="a divisor that is not 0", roundings="2")
def _floor_mod(call: Call, left: Any, right: Any) -> Any:
    if not call.is_real:
        return np.mod(call.whole(left), call.whole(right))
    x, y = call.real(left), call.real(right)
    times = selections.stepped(arithmetic.divide(x, y), np.floor)
    return arithmetic.subtract(x, arithmetic.multiply(times, y))


@entry("FloorDiv", domain="a divisor that is not 0", roundings="1")
def _floor_div(call: Call, left: Any, right: Any) -> Any:
    if not call.is_real:
        return call.whole(left) // call.whole(right)
    return selections.stepped(arithmetic.divide(call.real(left), call.real(right)), np.floor)


# --- products that are 0 where one factor is ---


def _where_not_zero(call: Call, gate: Any, make: Callable[[Variable], Variable]) -> Variable:
    """What is made where a number is not 0, else 0; at 0 a derivative by it is still made.

    TensorFlow's derivative by the gate itself, such as log(y) of ``xlogy(x, y)``, is 0 at 0 as
    well, so nothing goes back there.
    """
    variable = call.real(gate)
    order, unsure = call.tape.engine.order(variable.value, call.tape.engine.exactly(0.0))
    truth = Truth(order != 0, unsure)
    return selections.chosen(truth, make(variable), call.tape.constant(0.0))


@entry("Xlogy", domain="y positive, or x = 0", roundings="5")
def _xlogy(call: Call, left: Any, right: Any) -> Variable:
    return _where_not_zero(
        call, left, lambda x: arithmetic.multiply(x, arithmetic.log(call.real(right)))
    )


@entry("Xlog1py", domain="y above -1, or x = 0", roundings="5")
def _xlog1py(call: Call, left: Any, right: Any) -> Variable:
    return _where_not_zero(
        call, left, lambda x: arithmetic.multiply(x, arithmetic.log1p(call.real(right)))
    )


@entry("Xdivy", domain="y not 0, or x = 0", roundings="1")
def _xdivy(call: Call, left: Any, right: Any) -> Variable:
    return _where_not_zero(call, left, lambda x: arithmetic.divide(x, call.real(right)))


@entry("MulNoNan", roundings="1")
def _mul_no_nan(call: Call, left: Any, right: Any) -> Variable:
    return _where_not_zero(call, right, lambda y: arithmetic.multiply(call.real(left), y))


@entry("DivNoNan", roundings="1")
def _div_no_nan(call: Call, left: Any, right: Any) -> Variable:
    return _where_not_zero(call, right, lambda y: arithmetic.divide(call.real(left), y))
