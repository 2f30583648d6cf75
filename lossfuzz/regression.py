"""A check beside a stored run: which defects are known, what is worse than it was, what better.

Worse is: a kind of defect that its cell did not show; a cell that does not run any more; on the
same rows a share of rows, or a smallest margin of a vanished gradient, that is worse by a tenth,
and an error that is twice as large. Other rows have other extremes: there `compare` tells shares
and errors from noise, and a kind that is new in a cell with other defects has to be no rarity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lossfuzz.baseline import stored_cell_name
from lossfuzz.comparison import SMALLEST_RATIO, compare
from lossfuzz.confirming import made_small
from lossfuzz.harness.results.kinds import DEFECT, KINDS
from lossfuzz.harness.results.run import CellResult, RunResult
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.harness.users.names import unnumbered
from lossfuzz.reports import assertion
from lossfuzz.reports import comparison as report
from lossfuzz.reports.tables import number, share
from lossfuzz.reports.words import amount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossfuzz.baseline import StoredCheck
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.reports.comparison import CellComparison, Change

CLEARLY = 2.0
"""An error that is larger by less is not called worse: another processor may make it so."""

RARE = 0.01
"""A share of the rows up to which a kind may be new because the rows are."""

LEVEL = 0.01
"""Of significance, on other rows than the stored run's."""

_DAMAGES = (ValueError, KeyError, TypeError, IndexError, AttributeError)
_LARGEST = {"loss_mixed": "the loss's largest error", "gradient_mixed": "the gradient's"}


class LossRegression(AssertionError):  # noqa: N818 - a test that fails is no error of the program
    """A loss is worse than a stored run says.

    Attributes:
        result: everything that was measured.
    """

    def __init__(self, message: str, result: RunResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, slots=True, kw_only=True)
class Regression:
    """What differs from a stored run.

    Attributes:
        worse: lines, each with its cell; empty if nothing is.
        better: the same.
        noise: kinds that a cell with other defects did not show on other rows, and shows now too
            rarely to tell.
        known: kinds of defects that the stored run shows in the same cell.
        news: findings of defects that it does not show.
    """

    worse: tuple[str, ...]
    better: tuple[str, ...]
    noise: tuple[str, ...]
    known: tuple[str, ...]
    news: tuple[Finding, ...]


def stored_result(check: StoredCheck, after: RunResult) -> RunResult:
    """The cells of a stored check that a new one has too.

    Raises:
        ValueError: the record is damaged.
    """
    names = {unnumbered(one.cell.name): one.cell.path.name for one in after.cells}
    record = check.record
    try:
        cells = [
            CellResult.from_json(
                {
                    "operations": (),
                    "route": None,
                    **one,
                    "findings": [],
                    "path": names[unnumbered(stored_cell_name(one))],
                }
            )
            for one in record["cells"]
            if unnumbered(stored_cell_name(one)) in names
        ]
        return RunResult(
            plan=record["plan"],
            environment=record["environment"],
            cells=cells,
            worst=[],
            interrupted=record["interrupted"],
            reference_rows=record["reference_rows"],
            seconds={},
        )
    except _DAMAGES as error:
        raise _damaged(error) from None


def stored_kinds(check: StoredCheck) -> dict[str, set[str]]:
    """Cell name to the kinds of defects that a stored check shows there, searched rows included.

    The names are `unnumbered`.

    Raises:
        ValueError: the record is damaged.
    """
    kinds: dict[str, set[str]] = {}
    try:
        for one in check.record["cells"]:
            kinds[unnumbered(stored_cell_name(one))] = set(one["summary"]["defects"])
        for one in check.record["findings"]:
            if one["tier"] == DEFECT:
                kinds[unnumbered(stored_cell_name(one))].add(one["kind"])
    except _DAMAGES as error:
        raise _damaged(error) from None
    return kinds


def regression(check: StoredCheck, before: RunResult, after: RunResult) -> Regression:
    """Compare a check with a stored one.

    Args:
        check: the stored one.
        before: its cells, by `stored_result`.
        after: the new one.

    Raises:
        ValueError: the stored record is damaged.
    """
    earlier = {one.cell.name: one for one in before.cells}
    shown = stored_kinds(check)
    try:
        compared = compare(before, after, level=LEVEL).cells
    except _DAMAGES as error:
        raise _damaged(error) from None
    told = {f"{one.path} {one.format} {one.mode} {one.device}": one for one in compared}
    worse: list[str] = []
    better: list[str] = []
    noise: list[str] = []
    known: dict[str, None] = {}
    news: list[Finding] = []
    for now in after.cells:
        then = earlier.get(now.cell.name)
        where = f"{now.cell.format.dtype_name} {now.cell.mode} on {now.cell.device}"
        if now.unavailable is not None:
            if then is None or then.unavailable is None:
                worse.append(f"cannot be run: {assertion.refused([now])}")
            continue
        kinds = shown.get(unnumbered(now.cell.name), set())
        for kind in _kinds(now):
            line = f"{where}: new {kind}{_rows_of(now, kind)}"
            if kind in kinds:
                known[kind] = None
            elif kinds and _is_rare(told[now.cell.name], now, kind):
                noise.append(line)
            else:
                worse.append(line)
                news += [now.findings[kind, DEFECT]] if (kind, DEFECT) in now.findings else []
        if then is not None:
            comparison = told[now.cell.name]
            worse += [f"{where}: {line}" for line in _worse(comparison, then, now)]
            better += [f"{where}: {line}" for line in _better(comparison)]
    return Regression(
        worse=tuple(worse),
        better=tuple(better),
        noise=tuple(noise),
        known=tuple(known),
        news=tuple(news),
    )


def _is_rare(cell: CellComparison, now: CellResult, kind: str) -> bool:
    """Whether a new kind may come from other rows than the stored run's."""
    few = now.summary.defects.get(kind, 0) < RARE * now.summary.judged
    return few and not cell.same_rows


def _kinds(result: CellResult) -> list[str]:
    """The kinds of defects that a cell shows, in the order of reports."""
    return [
        kind
        for kind in KINDS
        if result.summary.defects.get(kind, 0) or (kind, DEFECT) in result.findings
    ]


def _rows_of(result: CellResult, kind: str) -> str:
    count = result.summary.defects.get(kind, 0)
    return f", {count:,} of {amount(result.summary.judged, 'row')}" if count else ""


def _worse(cell: CellComparison, then: CellResult, now: CellResult) -> Iterator[str]:
    for change in cell.changes:
        if change.direction != report.WORSE or change.news:
            continue
        if change.tier or _doubled(change):
            yield _told(change)
    if not cell.same_rows:
        return  # the extremes of other rows are others
    margins = then.summary.vanishing_margin, now.summary.vanishing_margin
    if math.isfinite(margins[0]) and margins[1] * SMALLEST_RATIO < margins[0]:
        yield f"the gradient vanishes from margin {margins[1]:.6g} on, not only {margins[0]:.6g}"
    for name, text in _LARGEST.items():
        errors = [one.summary.largest.get(name, 0.0) for one in (then, now)]
        if errors[1] > max(1.0, CLEARLY * errors[0]):
            yield f"{text} {number(errors[0])} → {number(errors[1])} u"


def _doubled(change: Change) -> bool:
    pairs = zip(change.before, change.after, strict=True)
    return any(new > max(1.0, CLEARLY * old) for old, new in pairs)


def _better(cell: CellComparison) -> Iterator[str]:
    if cell.status == report.NOW_AVAILABLE:
        yield "runs now"
    for change in cell.changes:
        if change.direction == report.BETTER:
            yield f"no {change.measure} any more" if change.news else _told(change)


def _told(change: Change) -> str:
    show = share if change.tier else number
    before, after = ("/".join(map(show, side)) for side in (change.before, change.after))
    return f"{change.measure} {before} → {after}"


def _damaged(error: Exception) -> ValueError:
    return ValueError(f"the baseline cannot be read here ({error!r}): save it again")


def message_of(found: Regression, before: RunResult, after: RunResult, baseline: str) -> str:
    """What a test says that fails for a regression."""
    name = after.cells[0].cell.path.written
    lines = [f"{name} is worse than the baseline {baseline} says:"]
    lines += [f"  {line}" for line in found.worse]
    versions = [run.environment.get("versions", {}) for run in (before, after)]
    lines += [
        f"  ({package} was {versions[0][package]}, is {version})"
        for package, version in versions[1].items()
        if versions[0].get(package, version) != version
    ]
    if found.news:
        shown, others = found.news[0], found.news[1:]
        again = f"lossfuzz_check(…) with --lossfuzz-seed {after.plan['seed']}"
        lines.append(assertion.failure(_small(shown, after), others, again))
    return "\n".join(lines)


def _small(finding: Finding, result: RunResult) -> Finding:
    """The finding on the simplest row that shows it."""
    for one in result.worst:
        if (one.kind, one.cell_name) == (finding.kind, finding.cell_name):
            return one if len(one.logits) < len(finding.logits) else _shrunk(finding, result)
    return _shrunk(finding, result)


def _shrunk(finding: Finding, result: RunResult) -> Finding:
    owner = next(one for one in result.cells if one.cell.name == finding.cell_name)
    others = {
        one.cell.mode: CellRunner(one.cell, one.documented)
        for one in result.cells
        if one.unavailable is None
        and replace(one.cell, mode=owner.cell.mode) == owner.cell
        and one is not owner
    }
    return made_small(finding, CellRunner(owner.cell, owner.documented), others=others)
