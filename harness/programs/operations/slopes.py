"""Entries of TensorFlow's own derivatives, which a loss that holds a gradient is made of.

Each is a function of what TensorFlow hands it, such as dy y (1 - y) of a sigmoid's result y.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs import arithmetic, selections, softmax
from lossfuzz.harness.programs.operations.entry import Call, entry

if TYPE_CHECKING:
    from lossfuzz.harness.programs.tape import Variable


def _one_less(call: Call, value: Variable) -> Variable:
    return arithmetic.subtract(call.tape.constant(1.0), value)


@entry("SigmoidGrad", roundings="3")
def _sigmoid(call: Call, result: Any, slope: Any) -> Variable:
    y, dy = call.real(result), call.real(slope)
    return arithmetic.multiply(dy, arithmetic.multiply(y, _one_less(call, y)))


@entry("TanhGrad", roundings="3")
def _tanh(call: Call, result: Any, slope: Any) -> Variable:
    y, dy = call.real(result), call.real(slope)
    return arithmetic.multiply(dy, _one_less(call, arithmetic.square(y)))


@entry("SoftplusGrad", roundings="4")
def _softplus(call: Call, slope: Any, value: Any) -> Variable:
    return arithmetic.multiply(call.real(slope), softmax.sigmoid(call.real(value)))


@entry("ReluGrad")
def _relu(call: Call, slope: Any, value: Any) -> Variable:
    dy = call.real(slope)
    above = selections.compared(call.real(value), call.tape.constant(0.0), np.greater)
    return selections.chosen(above, dy, call.tape.constant(np.zeros(dy.shape)))


@entry("LeakyReluGrad", roundings="1")
def _leaky_relu(call: Call, slope: Any, value: Any) -> Variable:
    dy = call.real(slope)
    above = selections.compared(call.real(value), call.tape.constant(0.0), np.greater)
    alpha = call.tape.constant(float(np.float32(call.attribute("alpha", 0.2))))
    return selections.chosen(above, dy, arithmetic.multiply(dy, alpha))


@entry("SqrtGrad", domain="not 0", roundings="2")
def _sqrt(call: Call, result: Any, slope: Any) -> Variable:
    half = arithmetic.multiply(call.real(slope), call.tape.constant(0.5))
    return arithmetic.divide(half, call.real(result))


@entry("RsqrtGrad", roundings="4")
def _rsqrt(call: Call, result: Any, slope: Any) -> Variable:
    y = call.real(result)
    half = arithmetic.multiply(call.real(slope), call.tape.constant(-0.5))
    return arithmetic.multiply(half, arithmetic.multiply(arithmetic.square(y), y))


@entry("ReciprocalGrad", "InvGrad", roundings="2")
def _reciprocal(call: Call, result: Any, slope: Any) -> Variable:
    squared = arithmetic.square(call.real(result))
    return arithmetic.negate(arithmetic.multiply(call.real(slope), squared))
