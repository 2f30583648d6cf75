"""What the checks of a test run came to: plain values that travel from worker to controller."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from lossfuzz.baseline import StoredCheck
from lossfuzz.reports.words import amount

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lossfuzz.harness.results.run import RunResult


@dataclass(slots=True, kw_only=True)
class CheckRecord:
    """One check, or several of one loss merged.

    Attributes:
        loss: name of the loss.
        against: name of the mathematics.
        formats: dtype names of the logits.
        modes: eager, graph, xla.
        devices: TensorFlow's names.
        rows: that were run, over all cells.
        seconds: that it took.
        defects: kind to counted rows that show it; 0 if only rows of the search do.
        refused: whether a cell could not be run.
        largest_ulp: the largest error of loss and gradient, in ULP of their formats.
        largest_units: the same in units of ``u * max(1, |exact|)``.
        known: kinds of defects that the baseline has too.
        worse: what the baseline does not have.
        better: what is better than in the baseline.
        noise: what is not in the baseline, and too rare on other rows than its to be told.
        compared: whether a baseline was held against it.
        judged: whether enough rows of every cell have an exact value.
        left_out: what was not reached or not judged, a sentence each.
        result: all of it as `RunResult.to_json` writes it, if it is to be saved; without its rows
            of many classes, which no comparison needs.
    """

    loss: str
    against: str
    formats: list[str]
    modes: list[str]
    devices: list[str]
    rows: int
    seconds: float
    defects: dict[str, int]
    refused: bool
    largest_ulp: float
    largest_units: float
    known: list[str] = field(default_factory=list)
    worse: list[str] = field(default_factory=list)
    better: list[str] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)
    compared: bool = False
    judged: bool = True
    left_out: list[str] = field(default_factory=list)
    result: dict[str, Any] | None = None

    @classmethod
    def of(cls, result: RunResult, seconds: float, *, whole: bool) -> CheckRecord:
        """The record of a check.

        Args:
            result: what it measured.
            seconds: that it took.
            whole: whether to keep all of the result.
        """
        cells = [one.cell for one in result.cells]
        reached = [one.cell for one in result.cells if one.summary.rows] or cells
        summaries = [one.summary for one in result.cells]
        defects: dict[str, int] = {}
        for one in result.cells:
            searched = {kind: 0 for kind, tier in one.findings if tier == "defect"}
            for kind, count in {**searched, **one.summary.defects}.items():
                if count or kind in searched:
                    defects[kind] = defects.get(kind, 0) + count
        return cls(
            loss=cells[0].path.written,
            against=cells[0].path.loss.name,
            formats=list(dict.fromkeys(cell.format.dtype_name for cell in reached)),
            modes=list(dict.fromkeys(cell.mode for cell in reached)),
            devices=list(dict.fromkeys(cell.device for cell in cells)),
            rows=sum(summary.rows for summary in summaries),
            seconds=seconds,
            defects=defects,
            refused=any(
                one.unavailable is not None and not one.was_not_tried for one in result.cells
            ),
            judged=all(one.is_judged for one in result.cells if one.summary.rows),
            left_out=[note for note in result.notes if note.startswith("not ")],
            largest_ulp=_largest(summaries, "ulp"),
            largest_units=_largest(summaries, "mixed"),
            result={**result.to_json(), "worst": [], "causes": []} if whole else None,
        )

    def merge(self, other: CheckRecord) -> None:
        """Add another check of the same loss."""
        for name in (*_LISTS, "known", "worse", "better", "noise"):
            getattr(self, name).extend(
                value for value in getattr(other, name) if value not in getattr(self, name)
            )
        for kind, count in other.defects.items():
            self.defects[kind] = self.defects.get(kind, 0) + count
        self.rows += other.rows
        self.seconds += other.seconds
        self.refused |= other.refused
        self.judged &= other.judged
        self.compared |= other.compared
        self.largest_ulp = max(self.largest_ulp, other.largest_ulp)
        self.largest_units = max(self.largest_units, other.largest_units)

    @property
    def verdict(self) -> str:
        """What it came to, in a word or by the kinds of its defects."""
        if self.worse:
            return "worse than the baseline"
        unknown = [kind for kind in self.defects if kind not in self.known]
        parts = ["refused"] if self.refused and not self.compared else []
        parts += [", ".join(unknown)] if unknown else []
        parts += [f"known: {', '.join(self.known)}"] if self.known else []
        parts += ["known: refused"] if self.refused and self.compared else []
        return "; ".join(parts) or ("sound" if self.judged else "not judged")

    @property
    def line(self) -> str:
        """The check in one line."""
        error = f"largest error {self.largest_ulp:.3g} ULP ({self.largest_units:.3g} u)"
        where = ", ".join(" ".join(names) for names in (self.formats, self.modes, self.devices))
        return (
            f"{self.loss} as {self.against}: {self.verdict}; {where}, {amount(self.rows, 'row')}, "
            f"{error if self.rows else 'not measured'}, {self.seconds:.1f} s"
            + "".join(f"; {note}" for note in self.left_out)
        )

    def properties(self) -> list[tuple[str, object]]:
        """What JUnit's XML shows of it."""
        return [
            ("lossfuzz_loss", f"{self.loss} as {self.against}"),
            ("lossfuzz_verdict", self.verdict),
            ("lossfuzz_rows", self.rows),
            ("lossfuzz_largest_ulp", f"{self.largest_ulp:.3g}"),
        ]


_LISTS = ("formats", "modes", "devices", "left_out")


def _largest(summaries: Iterable[Any], unit: str) -> float:
    names = (f"loss_{unit}", f"gradient_{unit}")
    return max((one.largest.get(name, 0.0) for one in summaries for name in names), default=0.0)


class Ledger:
    """The checks of all tests; on the controller, those of all workers."""

    def __init__(self) -> None:
        self._checks: dict[str, list[CheckRecord]] = {}

    def restart(self, test: str) -> None:
        """Forget what an earlier run of the same test did."""
        self._checks.pop(test, None)

    def add(self, test: str, text: str) -> None:
        """Add what `as_text` wrote."""
        records = [CheckRecord(**record) for record in json.loads(text)]
        self._checks.setdefault(test, []).extend(records)

    def merged(self) -> list[CheckRecord]:
        """A record for each loss and what it is held against, in the order of their names."""
        found: dict[tuple[str, str], CheckRecord] = {}
        for _, records in sorted(self._checks.items()):
            for record in records:
                key = record.loss, record.against
                if key in found:
                    found[key].merge(record)
                else:
                    found[key] = CheckRecord(**json.loads(as_text([record]))[0])
        return [found[key] for key in sorted(found)]

    def stored(self) -> list[StoredCheck]:
        """The checks with all that they measured."""
        return [
            StoredCheck(test=test, number=number, record=record.result)
            for test, records in self._checks.items()
            for number, record in enumerate(records)
            if record.result is not None
        ]


def as_text(records: Iterable[CheckRecord]) -> str:
    """Records as JSON, for a report that may come from another process."""
    return json.dumps([asdict(record) for record in records])
