"""How bad a cell is, in one word, a colour and a sign."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.kinds import DEFECT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.results.run import CellResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Severity:
    """What a cell's worst defect amounts to.

    Attributes:
        name: for style sheets.
        sign: one character, so that colours are not needed.
        label: what it means.
        kinds: of finding that count as it.
    """

    name: str
    sign: str
    label: str
    kinds: tuple[str, ...] = ()


ENDS = Severity(
    name="ends",
    sign="×",  # noqa: RUF001  # the sign is meant
    label="raises, crashes or hangs",
    kinds=(kinds.CRASH, kinds.TIMEOUT, kinds.REFUSAL),
)
NON_FINITE = Severity(
    name="non-finite",
    sign="∞",
    label="NaN or infinity",
    kinds=(kinds.NON_FINITE_LOSS, kinds.NON_FINITE_GRADIENT),
)
GRADIENT_LOST = Severity(
    name="gradient-lost",
    sign="∇",
    label="gradient lost or of the wrong sign",
    kinds=(kinds.GRADIENT_COLLAPSE, kinds.LABEL_GRADIENT_COLLAPSE, kinds.SIGN_FLIP),
)
LOSS_STUCK = Severity(
    name="loss-stuck",
    sign="=",
    label="loss stops growing, or is 0",
    kinds=(kinds.SATURATION, kinds.LOSS_COLLAPSE),
)
TOO_FAR = Severity(name="too-far", sign="≈", label="an error beyond rounding")
INACCURATE = Severity(name="inaccurate", sign="·", label="inaccuracies only")
SOUND = Severity(name="sound", sign="", label="sound")
UNAVAILABLE = Severity(name="unavailable", sign="–", label="unavailable")  # noqa: RUF001
UNMEASURED = Severity(name="unmeasured", sign="?", label="not measured, or too little judged")

SEVERITIES = (
    SOUND,
    INACCURATE,
    TOO_FAR,
    LOSS_STUCK,
    GRADIENT_LOST,
    NON_FINITE,
    ENDS,
    UNAVAILABLE,
    UNMEASURED,
)
"""From the best to the worst, then what could not run, and what an unfinished campaign left."""


def severity_of(result: CellResult) -> Severity:
    """The worst that a cell showed; kinds of defect that none names count as too far."""
    if result.unavailable is not None:
        return UNAVAILABLE
    shown = {kind for kind, count in result.summary.defects.items() if count}
    # a search may find what no counted row shows
    shown |= {kind for kind, tier in result.findings if tier == DEFECT}
    if not shown:
        if not result.is_judged and not result.findings:
            return UNMEASURED
        inaccurate = result.findings or any(result.summary.inaccuracies.values())
        return INACCURATE if inaccurate else SOUND
    worst = [one for one in SEVERITIES if shown & set(one.kinds)]
    return worst[-1] if worst else TOO_FAR


def counted(results: Iterable[CellResult]) -> list[tuple[Severity, int]]:
    """How many cells are how bad, in the order of `SEVERITIES`."""
    found = Counter(severity_of(result).name for result in results)
    return [(one, found[one.name]) for one in SEVERITIES]
