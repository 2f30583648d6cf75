"""The numbers that enclosures are made of: float64, extended precision, mpmath at any precision.

Elementary functions are assumed to err by at most `function_units` units of u: the C library's by
2 ulp (the strictest published tables give 0.52 to 1 ulp for glibc and NumPy's vector code), that
is 4 u; mpmath's by 2 units in the last bit. The audit against mpmath finds a library that breaks
the assumption.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

_FUNCTION_UNITS = 4
_MOST_BITS = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Numbers:
    """Arrays of numbers of one precision, and the functions on them.

    Attributes:
        name: for messages.
        unit_roundoff: of one operation.
        function_units: bounds the relative error of a function, in units of u.
        convert: float64 array to an array of these numbers, exactly.
        floats: the way back, rounded.
        exp: on arrays, as are the next ones.
        expm1: exponential less one.
        log: natural logarithm.
        log1p: of one plus the argument.
    """

    name: str
    unit_roundoff: float
    function_units: int
    convert: Callable[[ArrayLike], NDArray[Any]]
    floats: Callable[[NDArray[Any]], NDArray[np.float64]]
    exp: Callable[[NDArray[Any]], NDArray[Any]]
    expm1: Callable[[NDArray[Any]], NDArray[Any]]
    log: Callable[[NDArray[Any]], NDArray[Any]]
    log1p: Callable[[NDArray[Any]], NDArray[Any]]


def _of_dtype(dtype: type[np.floating[Any]]) -> Numbers:
    info = np.finfo(dtype)

    def convert(values: ArrayLike) -> NDArray[Any]:
        return np.asarray(values, dtype)

    return Numbers(
        name=np.dtype(dtype).name,
        unit_roundoff=float(info.eps) / 2,
        function_units=_FUNCTION_UNITS,
        convert=convert,
        floats=lambda values: np.asarray(values, np.float64),
        exp=np.exp,
        expm1=np.expm1,
        log=np.log,
        log1p=np.log1p,
    )


FLOAT64 = _of_dtype(np.float64)
EXTENDED = _of_dtype(np.longdouble)


def extended_is_wider() -> bool:
    """Whether the machine's long double has more bits than float64."""
    return bool(np.finfo(np.longdouble).nmant > np.finfo(np.float64).nmant)


@cache
def mpmath_numbers(precision: int) -> Numbers:
    """Numbers of so many bits, in an mpmath context of their own.

    Raises:
        ValueError: more bits than make a unit roundoff that float64 holds.
    """
    if not 2 <= precision <= _MOST_BITS:
        raise ValueError(f"expected a precision of 2 to {_MOST_BITS} bits, got {precision}")
    context = mpmath.MPContext()
    context.prec = precision

    def elementwise(function: Callable[[Any], Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
        over_arrays = np.frompyfunc(function, 1, 1)

        def apply(values: NDArray[Any]) -> NDArray[Any]:
            return np.asarray(over_arrays(values), object)

        return apply

    def exact(value: float) -> Any:
        return context.mpf(float(value))

    return Numbers(
        name=f"mpmath at {precision} bits",
        unit_roundoff=2.0**-precision,
        function_units=_FUNCTION_UNITS,
        convert=lambda values: elementwise(exact)(np.asarray(values, object)),
        floats=lambda values: np.asarray(values, np.float64),
        exp=elementwise(context.exp),
        expm1=elementwise(context.expm1),
        log=elementwise(lambda value: context.log(value) if value > 0 else -context.inf),
        log1p=elementwise(lambda value: context.log1p(value) if value > -1 else -context.inf),
    )
