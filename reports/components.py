"""Which components of a gradient tell a finding, and what the target is called beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.losses.targets import NONE
from lossfuzz.harness.results import kinds

if TYPE_CHECKING:
    from lossfuzz.harness.results.findings import Finding

_OF_ONE_COMPONENT = (
    kinds.NON_FINITE_GRADIENT,
    kinds.SIGN_FLIP,
    kinds.INACCURATE_GRADIENT,
)


def has_target(finding: Finding) -> bool:
    """Whether its loss has a target at all, so that its row has a label."""
    try:
        return loss_named(finding.loss).target != NONE
    except ValueError:  # a formula of another process
        return True


def telling_class(finding: Finding) -> int | None:
    """The class whose gradient component shows a finding that a single component shows.

    Returns:
        Of a sign flip the flipped one with the largest exact value; of a gradient that is not
        finite or not accurate the one that is furthest off. None of other kinds, and where the
        components are not known.
    """
    observed, exact = np.array(finding.observed_gradient), np.array(finding.exact_gradient)
    if finding.kind not in _OF_ONE_COMPONENT or observed.shape != exact.shape or not exact.size:
        return None
    with np.errstate(invalid="ignore"):
        apart = np.abs(observed - exact)
    if finding.kind == kinds.SIGN_FLIP:
        flipped = np.flatnonzero(np.sign(observed) * np.sign(exact) < 0)
        return int(flipped[np.abs(exact[flipped]).argmax()]) if flipped.size else None
    return int(np.where(np.isfinite(apart), apart, np.inf).argmax())


def told_classes(finding: Finding) -> list[tuple[str, int]]:
    """The components that a card has room for, as names and classes.

    These are the label's, if there is one, and the one that shows the finding.
    """
    telling = telling_class(finding)
    told = [("label's gradient", finding.label)] if has_target(finding) else []
    if telling is None and not told:
        exact = np.abs(np.array(finding.exact_gradient))
        telling = int(exact.argmax()) if exact.size else None
    if telling is not None and (not told or telling != finding.label):
        told.append((f"class {telling}'s gradient", telling))
    return told
