"""Results as tables of text: pure, shared by every rendering."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness import findings as kinds
from lossfuzz.harness.decimals import proved, proved_text
from lossfuzz.harness.findings import DEFECT
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lossfuzz.harness.findings import Finding
    from lossfuzz.harness.results import CellResult, RunResult
    from lossfuzz.harness.summary import Summary

COLUMNS = (
    "path",
    "format",
    "modes",
    "loss ULP",
    "gradient ULP",
    "rounding ULP",
    "bias by design",
    "non-finite",
    "collapsed",
    "vanishes at",
    "saturates at",
    "route",
    "verdict",
)
"""Column headings; ULP columns hold median / p99 / max.

The loss's and the gradient's are against the loss itself; rounding is the computed loss against
the formula that the path documents, median / p99, and the bias by design is that formula's own
largest difference from the loss; both only where the two differ.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRow:
    """One line of the table: a cell, or the modes of one path that gave the same figures.

    Attributes:
        path: name of the loss path.
        device: TensorFlow's name.
        texts: as `COLUMNS`, without the path.
        verdict: ``sound``, ``inaccurate``, ``defective`` or ``unavailable``.
    """

    path: str
    device: str
    texts: tuple[str, ...]
    verdict: str


def number(value: float) -> str:
    """A figure in two or three digits: ``0.14``, ``228``, ``1.1e7``."""
    if math.isnan(value):
        return "-"
    if value == 0 or math.isinf(value):
        return f"{value:.0f}"
    if 100 <= abs(value) < 1e4:
        return f"{value:.0f}"
    if 10 <= abs(value) < 100:
        return f"{value:.3g}"
    return f"{value:.2g}".replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")


def share(value: float) -> str:
    """A rate in percent."""
    if math.isnan(value):
        return "-"
    return "0" if value == 0 else f"{100 * value:.2g} %"


def verdict_of(result: CellResult) -> str:
    """The worst tier that a cell showed, in one word."""
    if result.unavailable is not None:
        return "unavailable"
    tiers = {tier for _, tier in result.findings}  # a search may find what no counted row shows
    if result.summary.defect_rows or DEFECT in tiers:
        return "defective"
    inaccurate = tiers or any(result.summary.inaccuracies.values())
    return "inaccurate" if inaccurate else "sound"


def cell_rows(results: Sequence[CellResult]) -> list[CellRow]:
    """A line per cell; modes of one path, format and device that agree in all share a line."""
    rows: list[CellRow] = []
    previous: tuple[str, ...] | None = None
    modes: list[str] = []
    for result in results:
        texts = _texts(result)
        cell = result.cell
        key = (cell.path.name, cell.device, cell.format.dtype_name, *texts)
        modes = [*modes, cell.mode] if key == previous else [cell.mode]
        if key == previous:
            rows.pop()
        previous = key
        rows.append(
            CellRow(
                path=cell.path.name,
                device=cell.device,
                texts=(cell.format.dtype_name, " ".join(modes), *texts),
                verdict=verdict_of(result),
            )
        )
    return rows


def _texts(result: CellResult) -> tuple[str, ...]:
    if result.unavailable is not None:
        return (*["-"] * 8, result.unavailable, verdict_of(result))
    summary = result.summary
    non_finite = max(summary.rate(kinds.NON_FINITE_LOSS), summary.rate(kinds.NON_FINITE_GRADIENT))
    collapsed = max(summary.rate(kinds.LOSS_COLLAPSE), summary.rate(kinds.GRADIENT_COLLAPSE))
    return (
        _quantiles(summary, "loss_ulp"),
        _quantiles(summary, "gradient_ulp"),
        _rounding(result),
        number(summary.bias) if summary.bias else "-",
        share(non_finite),
        share(collapsed),
        _first(summary.vanishing_margin),
        _first(summary.plateau),
        result.route.name if result.route else "-",
        verdict_of(result),
    )


def _first(value: float) -> str:
    return "-" if math.isinf(value) else f"{value:.3f}".rstrip("0").rstrip(".")


def _quantiles(summary: Summary, measure: str) -> str:
    histogram = getattr(summary, measure)
    largest = summary.largest.get(measure, math.nan)
    middle = [min(histogram.quantile(q), largest) for q in (0.5, 0.99)]
    return "/".join(number(value) for value in (*middle, largest))


def _rounding(result: CellResult) -> str:
    """Median and 99th percentile against the documented formula, where that is another one."""
    if result.documented is result.cell.path.loss:
        return "-"
    histogram = result.summary.rounding_ulp
    return "/".join(number(histogram.quantile(q)) for q in (0.5, 0.99))


def verdict(result: RunResult) -> str:
    """The run in one sentence."""
    measured = [one for one in result.cells if one.unavailable is None]
    defective = [one for one in measured if one.summary.defect_rows]
    rows = sum(one.summary.rows for one in measured)
    text = (
        f"{len(defective)} of {len(measured)} cells showed defects in {rows:,} measured rows"
        if defective
        else f"no defect in {rows:,} measured rows of {len(measured)} cells"
    )
    missing = len(result.cells) - len(measured)
    return text + (f"; {missing} cells were unavailable" if missing else "") + "."


def inaccuracy_note(result: RunResult) -> str:
    """What inaccuracies are, and how many cells without defects showed some."""
    count = sum(verdict_of(one) == "inaccurate" for one in result.cells)
    return (
        f"{count} cells showed inaccuracies only: relative errors that ULP see and training does "
        "not, such as a loss of 0 where the exact one is 2e-9."
    )


def saturation_note(results: Iterable[CellResult]) -> list[str]:
    """One line for each route and format in which plain softmax cross-entropy saturates: where.

    Other losses stop elsewhere on the same route: their places are in the table.
    """
    places: dict[tuple[str, str], list[float]] = {}
    for result in results:
        summary = result.summary
        plain = result.cell.path.loss is SOFTMAX_CROSS_ENTROPY
        if plain and result.route is not None and not math.isinf(summary.plateau):
            key = (result.route.name, result.cell.format.dtype_name)
            here = [summary.plateau, summary.vanishing_margin, summary.zero_margin]
            places[key] = [min(pair) for pair in zip(places.get(key, here), here, strict=True)]
    return [
        f"{route} in {fmt}: the loss stops at {_first(plateau)}"
        + (f", the gradient vanishes from margin {_first(margin)} on" if margin < math.inf else "")
        + (f" and is exactly 0 from {_first(zero)} on" if zero < math.inf else "")
        for (route, fmt), (plateau, margin, zero) in places.items()
    ]


def finding_title(finding: Finding) -> str:
    """A finding in one line."""
    return (
        f"{finding.tier}: {finding.kind} · {finding.path} {finding.format} {finding.mode} "
        f"{finding.device}" + (" (as documented)" if finding.by_design else "")
    )


def finding_figures(finding: Finding) -> str:
    """What a finding's row gave and should have given."""
    label = finding.label
    if finding.message:
        return finding.message
    documented = ""
    if proved(finding.documented_loss) != proved(finding.exact_loss):
        documented = f", documented {proved_text(finding.documented_loss)}"
    rows = f"{finding.batch_rows} {'equal ' if finding.repeated else ''}rows: "
    if finding.batch is not None:
        rows = f"needs this batch of {finding.batch_rows} rows, of which row {finding.place} has "
    gradient = ""
    if finding.has_row:
        observed, exact = finding.observed_gradient[label], finding.exact_gradient[label]
        gradient = f", label's gradient {observed:.9g} (exact {proved_text(exact)})"
    return (
        f"{rows if finding.batch_rows > 1 else ''}"
        f"loss {finding.observed_loss:.9g} (exact {proved_text(finding.exact_loss)}{documented})"
        f"{gradient}; "
        f"largest error {number(finding.ulp_error)} ulp, {number(finding.mixed_error)} u "
        f"(bound {number(finding.bound)}), margin {number(finding.margin)}"
        + ("; its script did not show it when it was run again" if finding.unconfirmed else "")
    )
