"""The matrix of a page: every path by format, mode and device, folded by loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.reports.advice import by_loss
from lossfuzz.reports.severity import Severity, counted, severity_of
from lossfuzz.reports.words import amount, listing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.results.run import CellResult, RunResult

    Column = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One cell of the matrix.

    Attributes:
        number: of the cell in the run.
        severity: its worst.
        designed: whether all its defects are what the path documents.
        label: the same in words.
    """

    number: int
    severity: Severity
    designed: bool
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """All paths of a loss in one column.

    Attributes:
        parts: severity's name, and from which to which percent of the paths it reaches.
        label: the same in words.
    """

    parts: tuple[tuple[str, float, float], ...]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRows:
    """The rows of one loss.

    Attributes:
        loss: its name.
        shares: one for each column.
        paths: name of a path to its squares, one for each column; None where it was not run.
    """

    loss: str
    shares: tuple[Share | None, ...]
    paths: dict[str, tuple[Square | None, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Verdicts by path, and by format, mode and device.

    Attributes:
        columns: format, mode and device of each.
        rows: by loss.
    """

    columns: tuple[Column, ...]
    rows: tuple[LossRows, ...]

    @property
    def formats(self) -> list[tuple[str, int]]:
        """The first line of headings: formats, and how many columns each spans."""
        return _spans([fmt for fmt, _, _ in self.columns])

    @property
    def devices(self) -> list[tuple[str, int]]:
        """The line of devices; empty where there is only one."""
        names = [device for _, _, device in self.columns]
        keys = [f"{fmt} {device}" for fmt, _, device in self.columns]
        spans = [(key.partition(" ")[2], span) for key, span in _spans(keys)]
        return spans if len(set(names)) > 1 else []


def matrix_of(result: RunResult) -> Matrix:
    """The matrix of a run, losses and paths in its order, columns by format and device."""
    numbers = {id(one): number for number, one in enumerate(result.cells)}
    formats = list(dict.fromkeys(one.cell.format.dtype_name for one in result.cells))
    devices = list(dict.fromkeys(one.cell.device for one in result.cells))
    columns = sorted(
        dict.fromkeys(_column(one) for one in result.cells),
        key=lambda column: (formats.index(column[0]), devices.index(column[2])),
    )
    rows = []
    for loss, cells in by_loss(result.cells).items():
        paths: dict[str, dict[Column, Square]] = {}
        by_column: dict[Column, list[CellResult]] = {}
        for one in cells:
            column = _column(one)
            by_column.setdefault(column, []).append(one)
            paths.setdefault(one.cell.path.name, {})[column] = _square(one, numbers[id(one)])
        rows.append(
            LossRows(
                loss=loss,
                shares=tuple(_share(by_column.get(column, [])) for column in columns),
                paths={
                    path: tuple(squares.get(column) for column in columns)
                    for path, squares in paths.items()
                },
            )
        )
    return Matrix(columns=tuple(columns), rows=tuple(rows))


def _square(result: CellResult, number: int) -> Square:
    severity = severity_of(result)
    designed = result.unavailable is None and result.summary.designed
    cell = result.cell
    where = f"{cell.format.dtype_name} {cell.mode} {cell.device}"
    return Square(
        number=number,
        severity=severity,
        designed=designed,
        label=f"{where}: {severity.label}" + (", as documented" if designed else ""),
    )


def _share(cells: Sequence[CellResult]) -> Share | None:
    if not cells:
        return None
    parts, told, done = [], [], 0
    for severity, count in counted(cells):
        if not count:
            continue
        parts.append((severity.name, 100 * done / len(cells), 100 * (done + count) / len(cells)))
        told.append(f"{count} {severity.label}")
        done += count
    return Share(parts=tuple(parts), label=f"of {amount(len(cells), 'path')}: {listing(told)}")


def _column(result: CellResult) -> Column:
    cell = result.cell
    return cell.format.dtype_name, cell.mode, cell.device


def _spans(names: Sequence[str]) -> list[tuple[str, int]]:
    spans: list[tuple[str, int]] = []
    for name in names:
        if spans and spans[-1][0] == name:
            spans[-1] = (name, spans[-1][1] + 1)
        else:
            spans.append((name, 1))
    return spans
