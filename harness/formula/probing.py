"""A new formula tried on ordinary rows: on how many classes it works, and whether it masks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.exact.enclosure import Enclosure
from lossfuzz.harness.exact.numbers import FLOAT64
from lossfuzz.harness.formula.rounding import (
    ordinary_rows,
    rows_in_domains,
)
from lossfuzz.harness.formula.terms import ClassCountError, FormulaError
from lossfuzz.harness.losses import targets as kinds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.formula.spec import Derived


_PROBED_ROWS = 4


_ORDINARY_CLASSES = 3


_MOST_CLASSES = 4096


_OTHER_COUNTS = (2, 4, 1, *range(5, 17), 33, 100, 1000)
"""Class counts that are tried of a formula which refuses the ordinary one."""


_LEFT_OUT = 16
"""Classes, at most, that are left out in turn to see whether a formula has a limit there."""


_FAR_BELOW = (-1e6, -1e12)


_SAME = 1e-9


class _NoValueError(FormulaError):
    """A formula takes so many classes, and has no value there, or no single one."""


def probed(derived: Derived) -> int:
    """Evaluate ordinary rows, so that faults are told at once; returns the number of classes.

    A formula that asks for another number of classes is given it, and again, as long as it asks
    for one that was not tried; of one that refuses the ordinary number in other words, other
    numbers are tried.

    Raises:
        FormulaError: it takes none; what it said of the ordinary one, or of the last it asked for.
    """
    tried: list[int] = []
    classes = _ORDINARY_CLASSES
    while True:
        tried.append(classes)
        try:
            return _evaluated(derived, classes)
        except _NoValueError:
            raise
        except FormulaError as error:
            refusal = error
            needed = error.needed if isinstance(error, ClassCountError) else 0
        if needed in tried or needed > _MOST_CLASSES:
            raise refusal
        if not needed:
            return _probed_otherwise(derived, tried, refusal)
        classes = needed


def _probed_otherwise(derived: Derived, tried: Sequence[int], refusal: FormulaError) -> int:
    """The first of some class counts that the formula takes.

    Raises:
        FormulaError: it takes none; or it takes one, and has no value there.
    """
    for classes in _OTHER_COUNTS:
        if classes in tried:
            continue
        try:
            return _evaluated(derived, classes)
        except _NoValueError:
            raise
        except FormulaError:
            continue
    raise refusal


def _evaluated(derived: Derived, classes: int) -> int:
    """Evaluate ordinary rows of so many classes, in the formula's domain; returns the classes.

    Raises:
        FormulaError: it does not take them.
        _NoValueError: it has no finite value on any of them, or two values for the same rows.
    """
    kind = derived.function.target
    logits, targets = ordinary_rows(kind, _PROBED_ROWS, classes)
    for rows in (logits, *rows_in_domains(logits)):
        wide = rows.astype(np.float64)
        found = [derived.exact_row(*row) for row in zip(wide, targets.weights, strict=True)]
        with np.errstate(all="ignore"):
            first, second = (
                derived.evaluate(Enclosure.exactly(wide, FLOAT64), targets) for _ in range(2)
            )
        if any(
            one.middle.tobytes() != other.middle.tobytes()
            for one, other in zip(first, second, strict=True)
        ):
            raise _NoValueError(
                f"formula {derived.function.name} is not deterministic: it gives two values for "
                "the same rows (does it use random numbers or a state that it changes?)"
            )
        if any(one is not None for one in found):
            return classes
    raise _NoValueError(
        f"formula {derived.function.name}: has no finite value with a derivative for ordinary "
        f"logits such as {logits[0].tolist()} with target {targets.weights[0].tolist()}, nor for "
        "such logits brought into (0, 1), into (-1, 1) or above 0; look for a logarithm or root "
        "of 0 or less (x.xlogy and x.where help)"
    )


def is_masking(derived: Derived, classes: int) -> bool:
    """Whether leaving a class out is the limit of the formula as the class's logit falls.

    Every class is left out in turn, for a formula may name one by its index.
    """
    if classes < 2:
        return False
    kind = derived.function.target
    logits, targets = ordinary_rows(kind, _PROBED_ROWS, classes)
    for column in np.unique(np.linspace(0, classes - 1, _LEFT_OUT).astype(int)):
        for row, label in zip(logits.astype(np.float64), targets.labels, strict=True):
            if label != column and not _falls_out(derived, row, int(label), int(column)):
                return False
    return True


def _falls_out(derived: Derived, row: NDArray[np.float64], label: int, column: int) -> bool:
    """Whether a row without a class is the limit of the row."""
    given = row.astype(np.float32)[None]
    given[0, column] = -np.inf
    labels = np.array([label])
    weights = kinds.targets_of(derived.function.target, given, labels).weights[0]
    try:
        without = derived.exact_row(given[0].astype(np.float64), weights)
        for logit in _FAR_BELOW:
            there = row.copy()
            there[column] = logit
            if not _agree(without, derived.exact_row(there, weights)):
                return False
    except FormulaError:
        return False
    return True


def _agree(
    left: tuple[float, NDArray[np.float64]] | None, right: tuple[float, NDArray[np.float64]] | None
) -> bool:
    if left is None or right is None:
        return False
    pairs = np.array([left[0], *left[1]]), np.array([right[0], *right[1]])
    return bool(np.allclose(*pairs, rtol=_SAME, atol=_SAME))
