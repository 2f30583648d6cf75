"""Results as tables of text: pure, shared by every rendering."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.numbers.decimals import proved, proved_text
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.cliffs import ZERO_GRADIENT, first_defect
from lossfuzz.harness.results.kinds import DEFECT
from lossfuzz.reports.cliffs import NONE, begins_text
from lossfuzz.reports.components import told_classes
from lossfuzz.reports.words import amount, verb

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.results.run import CellResult, RunResult
    from lossfuzz.harness.results.summary import Summary

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
        verdict: ``sound``, ``inaccurate``, ``defective``, ``not judged`` or ``unavailable``.
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
    """A rate in percent, such as ``14 %``; all of it only where it is all."""
    if math.isnan(value):
        return "-"
    if value == 0:
        return "0"
    if _NEARLY_ALL <= value < 1:
        return f"{100 * value:.3g} %" if value < _ALMOST_ALL else "over 99.9 %"
    return "100 %" if value == 1 else f"{100 * value:.2g} %"


_NEARLY_ALL, _ALMOST_ALL = 0.99, 0.9995
"""Shares that two and three digits would round to all."""


def verdict_of(result: CellResult) -> str:
    """The worst tier that a cell showed, in one word."""
    if result.unavailable is not None:
        return "unavailable"
    tiers = {tier for _, tier in result.findings}  # a search may find what no counted row shows
    if result.summary.defect_rows or DEFECT in tiers:
        return "defective"
    if not result.is_judged:
        return "not judged"
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
        begins_text(result.cliffs, kinds.GRADIENT_COLLAPSE, result.cell.format),
        begins_text(result.cliffs, kinds.SATURATION, result.cell.format),
        result.route.name if result.route else "-",
        ended(result) or verdict_of(result),
    )


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
    unjudged = sum(
        verdict_of(one) == "not judged" for one in measured if one.summary.rows or not ended(one)
    )
    not_tried = sum(one.was_not_tried for one in result.cells)
    counts = {
        "not judged, for too few of their rows have an exact value": unjudged,
        "not reached within the budget": not_tried,
        "unavailable": len(result.cells) - len(measured) - not_tried,
    }
    told = (
        f"; {amount(count, 'cell')} {verb(count, 'was', 'were')} {what}"
        for what, count in counts.items()
        if count
    )
    return f"{_verdict(measured)}{''.join(told)}."


def _verdict(measured: Sequence[CellResult]) -> str:
    """How many cells ended their process, and how many of those that ran showed defects."""
    ends = ended_cells(measured)
    ran = [one for one in measured if one.summary.rows or not ended(one)]
    if ends and not ran:
        return f"{ends}: no row was measured"
    defective = sum(_has_defect(one) for one in ran)
    rows = amount(sum(one.summary.rows for one in ran), "measured row")
    other = "other " if ends else ""
    text = (
        f"{defective:,} of {amount(len(ran), 'cell')} showed {other}defects in {rows}"
        if defective
        else f"no {other}defect in {rows} of {amount(len(ran), 'cell')}"
    )
    return f"{ends}; {text}" if ends else text


def ended(result: CellResult) -> str:
    """How a cell ended its process, in words: ``crashed``, ``timed out``; empty if it did not."""
    for kind, words in _ENDS.items():
        if (kind, DEFECT) in result.findings:
            return words
    return ""


_ENDS = {kinds.CRASH: "crashed", kinds.TIMEOUT: "timed out"}


def ended_cells(results: Sequence[CellResult]) -> str:
    """How many cells ended their process: ``1 of 3 cells crashed and 1 timed out``; or nothing."""
    words = [ended(one) for one in results]
    counts = [(words.count(word), word) for word in _ENDS.values() if word in words]
    if not counts:
        return ""
    (count, word), *others = counts
    first = f"{count:,} of {amount(len(results), 'cell')} {word}"
    return " and ".join([first, *(f"{count:,} {word}" for count, word in others)])


def _has_defect(result: CellResult) -> bool:
    """Whether a cell is defective by more than the end of its process."""
    ends = {(kind, DEFECT) for kind in _ENDS}
    others = {key for key in result.findings if key[1] == DEFECT} - ends
    return verdict_of(result) == "defective" and (bool(others) or not ended(result))


def inaccuracy_note(result: RunResult) -> str:
    """What inaccuracies are, and how many cells without defects showed some."""
    count = sum(verdict_of(one) == "inaccurate" for one in result.cells)
    return (
        f"{amount(count, 'cell')} showed inaccuracies only: relative errors that ULP see and "
        "training does not, such as a loss of 0 where the exact one is 2e-9."
    )


def saturation_note(results: Iterable[CellResult]) -> list[str]:
    """One line for each route and format in which plain softmax cross-entropy saturates: where.

    The figures are those of the walked cliffs; other losses stop elsewhere on the same route:
    their places are in the table.
    """
    places: dict[tuple[str, str], list[CellResult]] = {}
    for result in results:
        plain = result.cell.path.loss is SOFTMAX_CROSS_ENTROPY
        if plain and result.route is not None and first_defect(result.cliffs, kinds.SATURATION):
            key = (result.route.name, result.cell.format.dtype_name)
            places.setdefault(key, []).append(result)
    return [_saturation(*key, found) for key, found in places.items()]


def _saturation(route: str, dtype: str, found: Sequence[CellResult]) -> str:
    cliffs = [cliff for one in found for cliff in one.cliffs]
    stops, vanishes, zero = (
        begins_text(cliffs, kind, found[0].cell.format)
        for kind in (kinds.SATURATION, kinds.GRADIENT_COLLAPSE, ZERO_GRADIENT)
    )
    return (
        f"{route} in {dtype}: the loss stops at {stops}"
        + (f", the gradient vanishes from margin {vanishes} on" if vanishes != NONE else "")
        + (f" and is exactly 0 from {zero} on" if NONE not in (vanishes, zero) else "")
    )


def finding_title(finding: Finding) -> str:
    """A finding in one line."""
    return (
        f"{finding.tier}: {finding.kind} · {finding.path} {finding.format} {finding.mode} "
        f"{finding.device}" + (" (as documented)" if finding.by_design else "")
    )


def finding_figures(finding: Finding) -> str:
    """What a finding's row gave and should have given."""
    if finding.message:
        return finding.message
    documented = ""
    if proved(finding.documented_loss) != proved(finding.exact_loss):
        documented = f", documented {proved_text(finding.documented_loss)}"
    rows = f"{finding.batch_rows} {'equal ' if finding.repeated else ''}rows: "
    if finding.batch is not None:
        rows = f"needs this batch of {finding.batch_rows} rows, of which row {finding.place} has "
    gradient = ""
    if finding.has_row and finding.observed_gradient:
        observed, exact = finding.observed_gradient, finding.exact_gradient
        gradient = "".join(
            f", {name} {observed[k]:.9g} (exact {proved_text(exact[k])})"
            for name, k in told_classes(finding)
        )
    return (
        f"{rows if finding.batch_rows > 1 else ''}"
        f"loss {finding.observed_loss:.9g} (exact {proved_text(finding.exact_loss)}{documented})"
        f"{gradient}; "
        f"largest error {number(finding.ulp_error)} ulp, {number(finding.mixed_error)} u "
        f"(bound {number(finding.bound)}), margin {number(finding.margin)}"
        + ("; its script did not show it when it was run again" if finding.unconfirmed else "")
    )
