"""Whether a user's own loss can be measured at all: that it returns the same for the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.execution import UnavailableError
from lossfuzz.harness.losses.targets import targets_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.execution import Runner

_ROWS, _CLASSES = 16, 5


def try_twice(runner: Runner) -> None:
    """Run a cell twice on the same ordinary rows.

    Raises:
        UnavailableError: it refuses them, has no gradient, or does not return the same twice.
    """
    generator = np.random.default_rng(0)
    logits = runner.cell.format.cast(generator.normal(size=(_ROWS, _CLASSES)) * 2)
    labels = generator.integers(0, _CLASSES, _ROWS).astype(np.int32)
    fed = targets_of(runner.cell.path.loss.target, logits, labels).fed(logits.shape, logits.dtype)
    first, second = (runner.run(logits, fed) for _ in range(2))
    for what, one, other in (
        ("losses", first.loss, second.loss),
        ("gradient components", first.gradient, second.gradient),
    ):
        if one.shape != other.shape or one.tobytes() != other.tobytes():
            raise UnavailableError(
                f"the loss is not deterministic: of two runs on the same {_ROWS} rows "
                f"{_difference(one, other, what)} (does it use dropout, random numbers or a state "
                "that it changes?)"
            )


def _difference(one: NDArray[Any], other: NDArray[Any], what: str) -> str:
    if one.shape != other.shape:
        return f"the {what} have shapes {list(one.shape)} and {list(other.shape)}"
    apart = np.abs(one.astype(np.float64) - other.astype(np.float64))
    count = int((apart > 0).sum()) or int((one != other).sum())
    return f"{count} of {one.size} {what} differ, by up to {np.nanmax(apart):.3g}"
