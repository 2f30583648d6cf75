"""What reverse mode over enclosures computes with: sums, products and powers that lose nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.exact.enclosure import Enclosure

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Flags = NDArray[np.bool_]
    Backward = Callable[[Enclosure], Enclosure]


def same(adjoint: Enclosure) -> Enclosure:
    """What a term adds to its parent where it is a sum's."""
    return adjoint


def broadcast(value: Enclosure, shape: tuple[int, ...]) -> Enclosure:
    """The same numbers for every class."""
    if value.middle.shape == shape and value.radius.shape == shape:
        return value
    return Enclosure(
        np.broadcast_to(value.middle, shape), np.broadcast_to(value.radius, shape), value.numbers
    )


def vanishes(value: Enclosure) -> Flags:
    """Where a number is exactly 0."""
    return np.asarray((value.middle == 0) & (value.radius == 0))


def times(adjoint: Enclosure, factor: Enclosure) -> Enclosure:
    """A product that is exactly 0 where the adjoint is."""
    nothing = vanishes(adjoint)
    product = adjoint * factor
    return product.where(~nothing, 0.0) if nothing.any() else product


def plus(left: Enclosure, right: Enclosure) -> Enclosure:
    """A sum that is exact where one of two adjoints is exactly 0."""
    empty_left, empty_right = vanishes(left), vanishes(right)
    total = left + right
    if empty_left.any():
        total = total.where(~empty_left, right)
    return total.where(~empty_right, left) if empty_right.any() else total


def blurred(part: Enclosure, whole: Enclosure, unsure: Flags) -> Enclosure:
    """An adjoint that, where it is not sure, may be anything between 0 and the whole one."""
    reach = np.abs(whole.to_float64()) + whole.radius
    return Enclosure(part.middle, part.radius + np.where(unsure, reach, 0.0), part.numbers)


def raised(base: Enclosure, exponent: float) -> Enclosure:
    """A constant power: by products where the exponent is a small integer, else of a positive."""
    if exponent == 0:
        return Enclosure.exactly(np.ones(base.middle.shape), base.numbers)
    if exponent < 0:
        return 1.0 / raised(base, -exponent)
    if exponent != int(exponent) or exponent > _MOST_PRODUCTS:
        return (base.log() * exponent).exp()
    result, square, left = None, base, int(exponent)
    while left:
        if left & 1:
            result = square if result is None else result * square
        left >>= 1
        square = square * square if left else square
    return base if result is None else result


_MOST_PRODUCTS = 64
