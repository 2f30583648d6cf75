"""Comparing two runs: which differences are real, and which way they go.

The same families, shapes, budget and seed give the same rows. Then every difference is real, and
its size alone decides: a defect's share of the judged rows that moves by a tenth of itself, or a
median, 90 % or 99 % quantile of the errors that moves by a tenth and ends above half an ulp.

Other seeds give other rows, which come in batches whose rows fail together, so the tests below
count fewer samples than rows: ``(sum w)**2 / sum w**2 (r + (1 - r) / n)`` over the batches of n
rows and weight w, with a correlation r of 0.6. That is above what was measured over every path,
twelve seeds in float32 and five in float16: no kind of defect and no distribution of a loss of
each row varied between seeds by more than 0.56 of what rows that are all alike would (mostly
0.1), since every family comes as often in every run and only its magnitude varies. A reduced loss
gives one value a batch, so its r is 1. On that many samples

- Fisher's exact test, one-sided, compares the shares of each kind;
- Smirnov's test, one-sided and exact for samples of one size, compares the errors: whether they
  exceed somewhere, above half an ulp, what the other run's errors made a ninth larger would be.
  So a smaller shift is never called one, however certain it is.

Benjamini and Hochberg's procedure holds the share of false ones among all that is called worse,
and apart from it among all that is called better, to the level over all cells and measures. Where
nothing changed, that is the chance of a false alarm for the whole comparison.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.kinds import DEFECT, INACCURACY
from lossfuzz.reports import comparison as report
from lossfuzz.reports.comparison import CellComparison, Change, Comparison
from lossfuzz.samples import independent_samples, joined_plans
from lossfuzz.significance import NEGLIGIBLE, excess_chance, false_discovery_limit, larger_chance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lossfuzz.harness.results.histogram import Histogram
    from lossfuzz.harness.results.run import CellResult, RunResult
    from lossfuzz.harness.results.summary import Summary

    Pair = tuple[float, float]


SMALLEST_RATIO = 1.1
"""A share or quantile that moves by less is not called worse or better."""

_QUANTILES = (0.5, 0.9, 0.99)
_ENDINGS = (kinds.CRASH, kinds.TIMEOUT)
_NEWER = ("families", "stability")
_HISTOGRAMS = {
    "loss ULP": "loss_ulp",
    "gradient ULP": "gradient_ulp",
    "rounding ULP": "rounding_ulp",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    """A change whose direction is still open.

    Attributes:
        change: without its direction.
        p: the chances of a difference like it to the worse and to the better, if there is none.
        least: the smallest chances that so many findings could have had, however they fell.
    """

    change: Change
    p: Pair
    least: Pair = (0.0, 0.0)


def compare(before: RunResult, after: RunResult, *, level: float) -> Comparison:
    """Every cell of two runs, the first one's being what the second one's is measured by."""
    earlier = {one.cell.name: one for one in before.cells}
    later = {one.cell.name: one for one in after.cells}
    same_plan = _same_rows(before, after)
    open_cells: list[tuple[CellComparison, list[_Difference]]] = []
    fewest = math.inf
    for name in dict.fromkeys((*earlier, *later)):
        cell = _opened(earlier.get(name), later.get(name))
        differences: list[_Difference] = []
        if cell.status == report.UNCHANGED:
            pair = earlier[name].summary, later[name].summary
            if same_plan and _counted_alike(*pair):
                cell = _on_same_rows(cell, *pair)
            else:
                plans = before.plan, after.plan
                sizes = [
                    independent_samples(plan, one) for plan, one in zip(plans, pair, strict=True)
                ]
                found = _differences(*pair, (sizes[0], sizes[1]), same_plan=same_plan)
                differences = list(found)
                fewest = min([fewest, *(size[0] for size in sizes if size[0])])
        open_cells.append((cell, differences))
    tests = [one for _, found in open_cells for one in found]
    # what could not have been significant is no test that could raise a false alarm
    tried = [[one.p[side] for one in tests if one.least[side] <= level] for side in (0, 1)]
    limits = false_discovery_limit(tried[0], level), false_discovery_limit(tried[1], level)
    samples = 0 if math.isinf(fewest) else max(1, round(fewest))
    return Comparison(
        cells=tuple(_decided(cell, found, limits) for cell, found in open_cells),
        level=level,
        seeds=(before.plan["seed"], after.plan["seed"]),
        samples=samples,
        smallest_new_share=math.log2(max(1, len(tried[0])) / level) / max(1, samples),
    )


def _opened(before: CellResult | None, after: CellResult | None) -> CellComparison:
    """A cell whose figures are still to be compared where it is unchanged."""
    one = before or after
    if one is None:
        raise ValueError("expected a cell in one of the runs at least, got none")
    status = report.UNCHANGED
    if before is None or after is None:
        status = report.ONLY_AFTER if before is None else report.ONLY_BEFORE
    elif before.unavailable is not None or after.unavailable is not None:
        status = report.UNMEASURED
        if before.unavailable is None:
            status = report.NOW_UNAVAILABLE
        elif after.unavailable is None:
            status = report.NOW_AVAILABLE
    elif not all(side.summary.judged or side.summary.defect_rows for side in (before, after)):
        status = report.UNMEASURED
    return CellComparison(
        path=one.cell.path.name,
        format=one.cell.format.dtype_name,
        mode=one.cell.mode,
        device=one.cell.device,
        status=status,
        routes=(_route(before), _route(after)),
        reasons=(_reason(before), _reason(after)),
    )


def _route(result: CellResult | None) -> str | None:
    return result.route.name if result is not None and result.route is not None else None


def _reason(result: CellResult | None) -> str | None:
    return result.unavailable if result is not None else None


def _same_rows(before: RunResult, after: RunResult) -> bool:
    """Whether two plans draw the same rows, format by format."""
    keys = [
        [(one["families"], one["shapes"], one["seed"]) for one in joined_plans(run.plan)]
        for run in (before, after)
    ]
    timed = any(one["rows"] is None for run in (before, after) for one in joined_plans(run.plan))
    return keys[0] == keys[1] and not (timed or before.interrupted or after.interrupted)


def _counted_alike(before: Summary, after: Summary) -> bool:
    """Whether a cell ran on as many rows, and as many of them are judged: refused ones all are."""
    refused = any(one.defects.get(kinds.REFUSAL) for one in (before, after))
    return before.rows == after.rows and (refused or before.judged == after.judged)


def _on_same_rows(cell: CellComparison, before: Summary, after: Summary) -> CellComparison:
    """A cell of two runs of the same rows: what differs there differs for certain."""
    if _alike(before, after):
        return replace(cell, same_rows=True)
    changes = []
    for kind, tier, counts in _counts(before, after):
        change = _share_change(kind, tier, counts, (before.judged, after.judged))
        if counts[0] != counts[1]:
            changes.append(replace(change, direction=_direction(change)))
    for measure, mine, theirs in _pairs(before, after):
        if (mine.counts != theirs.counts).any():
            change = _error_change(measure, before, after)
            changes.append(replace(change, direction=_direction(change)))
    status = _status(changes)
    status = report.CHANGED if status == report.UNCHANGED else status
    return replace(cell, same_rows=True, changes=tuple(changes), status=status)


def _alike(before: Summary, after: Summary) -> bool:
    """Whether all figures are the same that both hold: older runs lack families."""
    first, second = before.to_json(), after.to_json()
    return all(
        first[name] == second[name]
        for name in first
        if name not in _NEWER or (first[name] and second[name])
    )


def _direction(change: Change) -> str:
    if change.tier == INACCURACY:
        return report.CHANGED
    smallest = 0.0 if change.tier else NEGLIGIBLE
    sides = list(zip(change.before, change.after, strict=True))
    if any(new > smallest and _grew(old, new) for old, new in sides):
        return report.WORSE
    if any(old > smallest and _grew(new, old) for old, new in sides):
        return report.BETTER
    return report.CHANGED


def _grew(old: float, new: float) -> bool:
    return new > old and new >= SMALLEST_RATIO * old


def _status(changes: Sequence[Change]) -> str:
    told = {change.direction for change in changes}
    for status in (report.WORSE, report.BETTER, report.CHANGED):
        if status in told:
            return status
    return report.UNCHANGED


def _counts(before: Summary, after: Summary) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Kinds that either run shows, as defects, and in any tier where that is not the same."""
    for kind in kinds.KINDS:
        defects = before.defects.get(kind, 0), after.defects.get(kind, 0)
        if any(defects):
            yield kind, DEFECT, defects
        milder = before.inaccuracies.get(kind, 0), after.inaccuracies.get(kind, 0)
        if any(milder):
            yield kind, INACCURACY, (defects[0] + milder[0], defects[1] + milder[1])


def _share_change(
    kind: str, tier: str, counts: tuple[int, int], judged: tuple[float, float]
) -> Change:
    shares = [count / max(of, count, 1) for count, of in zip(counts, judged, strict=True)]
    news = "" if all(counts) else report.VANISHED if counts[0] else report.NEW
    return Change(
        measure=kind,
        tier=tier,
        before=(shares[0],),
        after=(shares[1],),
        direction=report.NOISE,
        news=news,
    )


def _pairs(before: Summary, after: Summary) -> Iterator[tuple[str, Histogram, Histogram]]:
    """Histograms that both runs filled; the rounding's where it is not the loss's again."""
    for measure, name in _HISTOGRAMS.items():
        mine, theirs = getattr(before, name), getattr(after, name)
        again = name == "rounding_ulp" and all(
            (one.rounding_ulp.counts == one.loss_ulp.counts).all() for one in (before, after)
        )
        if mine.total and theirs.total and not again:
            yield measure, mine, theirs


def _error_change(measure: str, before: Summary, after: Summary) -> Change:
    name = _HISTOGRAMS[measure]
    values = []
    for one in (before, after):
        largest = one.largest.get(name, math.inf)
        quantiles = (getattr(one, name).quantile(part) for part in _QUANTILES)
        values.append(tuple(min(value, largest) for value in quantiles))
    return Change(
        measure=measure, tier="", before=values[0], after=values[1], direction=report.NOISE
    )


def _differences(
    before: Summary, after: Summary, sizes: tuple[Pair, Pair], *, same_plan: bool = False
) -> Iterator[_Difference]:
    """What is tested of a cell that the two runs measured on different rows.

    With the same plan a cell's end by a crash or timeout is no accident, and only makes it lack
    rows.
    """
    for kind, tier, counts in _counts(before, after):
        samples = [max(1, round(one[0])) for one in sizes]
        judged: tuple[float, float] = before.judged, after.judged
        if kind in _ENDINGS:  # each ended a cell in the batch after those that were counted
            judged = samples[0] + counts[0], samples[1] + counts[1]
            samples = [int(judged[0]), int(judged[1])]
        change = _share_change(kind, tier, counts, judged)
        shown = [
            round(side[0] * size)
            for side, size in zip((change.before, change.after), samples, strict=True)
        ]
        if kind in _ENDINGS and same_plan:
            yield _Difference(
                change=change, p=(float(shown[1] <= shown[0]), float(shown[0] <= shown[1]))
            )
            continue
        both = sum(shown)
        yield _Difference(
            change=change,
            p=(
                excess_chance(shown[0], samples[0], shown[1], samples[1]),
                excess_chance(shown[1], samples[1], shown[0], samples[0]),
            ),
            least=(
                excess_chance(0, samples[0], min(both, samples[1]), samples[1]),
                excess_chance(0, samples[1], min(both, samples[0]), samples[0]),
            ),
        )
    for measure, mine, theirs in _pairs(before, after):
        part = int(measure == "gradient ULP")
        first = min(sizes[0][part], mine.total)
        second = min(sizes[1][part], theirs.total)
        change = _error_change(measure, before, after)
        yield _Difference(
            change=change,
            p=(
                larger_chance(mine, first, theirs, second),
                larger_chance(theirs, second, mine, first),
            ),
        )


def _decided(cell: CellComparison, found: Iterable[_Difference], limits: Pair) -> CellComparison:
    changes = []
    for one in found:
        before, after = one.change.before[0], one.change.after[0]
        worse = one.p[0] <= limits[0] and (not one.change.tier or _grew(before, after))
        better = one.p[1] <= limits[1] and (not one.change.tier or _grew(after, before))
        direction = report.WORSE if worse else report.BETTER if better else report.NOISE
        if one.change.tier == INACCURACY:
            direction = report.CHANGED if (worse or better) else report.NOISE
        if direction == report.NOISE and not one.change.news:
            continue
        p = min(one.p) if direction != report.WORSE else one.p[0]
        changes.append(replace(one.change, direction=direction, p=p))
    if not changes:
        return cell
    return replace(cell, changes=tuple(changes), status=_status(changes))
