"""A run as Markdown, for a pull request's comment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results.kinds import DEFECT, KINDS
from lossfuzz.reports import tables
from lossfuzz.reports.advice import by_loss, paragraphs
from lossfuzz.reports.headline import headline
from lossfuzz.reports.markdown_text import Part, code, comment, escaped, folded, listed, table
from lossfuzz.reports.severity import INACCURATE, SOUND, UNAVAILABLE, severity_of
from lossfuzz.reports.snippet import snippet
from lossfuzz.reports.terminal import time_note
from lossfuzz.reports.words import amount, verb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from lossfuzz.harness.results.causes import Cause
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.results.run import CellResult, RunResult

_SHORT_TABLE = 16
_LONGEST_TABLE = 200
_SHOWN_CAUSES = 40
_LONGEST_CODE = 3_000
_FINDINGS_FIRST = 5
"""Findings that are given room before the tables are."""
_CAUSE_COLUMNS = ("kind", "path", "route", "formats", "modes", "cells", "rows", "region")


def render(result: RunResult) -> str:
    """The comment: under 60,000 characters, long parts folded."""
    return comment(_parts(result))


def _parts(result: RunResult) -> Iterator[Part]:
    lines = [f"### lossfuzz: {escaped(tables.verdict(result))}"]
    if result.interrupted:
        done = result.progress or "the run was interrupted"
        lines.append(f"**Not finished: {escaped(done)}.**")
    lines.append(escaped(" ".join(headline(result))))
    yield Part(name="verdict", text="\n\n".join(lines), rank=0)
    yield from _matrix(result)
    yield from _advice(result)
    if result.causes:
        yield _causes(result.causes)
    yield from _findings(result.worst)
    environment = folded("Environment", _environment(result))
    yield Part(name="environment", text=environment, rank=0)


def _matrix(result: RunResult) -> Iterator[Part]:
    """The worst kind of every cell: one table, or one for each loss where that is long."""
    modes = [mode for mode in MODES if any(one.cell.mode == mode for one in result.cells)]
    devices = len({one.cell.device for one in result.cells}) > 1
    columns = ("path", *(("device",) if devices else ()), "formats", *modes)
    losses = {
        loss: _matrix_rows(cells, modes, with_device=devices)
        for loss, cells in by_loss(result.cells).items()
    }
    short = sum(map(len, losses.values())) <= _SHORT_TABLE
    for loss, rows in losses.items():
        cells = [one for one in result.cells if one.cell.path.loss.name == loss]
        count = sum(tables.verdict_of(one) == "defective" for one in cells)
        title = f"{loss}: {count} of {amount(len(cells), 'cell')} with defects"
        text = table(columns, rows[:_LONGEST_TABLE])
        if len(rows) > _LONGEST_TABLE:
            hidden = len(rows) - _LONGEST_TABLE
            are = verb(hidden, "is", "are")
            text += f"\n\n*{amount(hidden, 'row')} of this table {are} left out.*"
        yield Part(
            name=f"the table of {loss}",
            rank=2,
            text=f"**{escaped(title)}**\n\n{text}" if short else folded(title, text),
        )


def _matrix_rows(
    cells: Iterable[CellResult], modes: Sequence[str], *, with_device: bool
) -> list[tuple[str, ...]]:
    """A row for each path, device and group of formats that show the same kinds."""
    found: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for one in cells:
        place = (one.cell.path.name, *((one.cell.device,) if with_device else ()))
        by_mode = found.setdefault(place, {}).setdefault(one.cell.format.dtype_name, {})
        by_mode[one.cell.mode] = worst_kind(one)
    rows = []
    for place, by_format in found.items():
        groups: dict[tuple[str, ...], list[str]] = {}
        for fmt, by_mode in by_format.items():
            groups.setdefault(tuple(by_mode.get(mode, "") for mode in modes), []).append(fmt)
        rows += [(*place, ", ".join(formats), *texts) for texts, formats in groups.items()]
    return rows


_SIGNS = {SOUND.name: "✅", INACCURATE.name: "☑️", UNAVAILABLE.name: "–"}  # noqa: RUF001
_DEFECTIVE = "❌"


def worst_kind(result: CellResult) -> str:
    """The worst kind that a cell showed, behind a sign; how bad it is where it has none."""
    worst = severity_of(result)
    shown = {kind: count for kind, count in result.summary.defects.items() if count}
    if worst is UNAVAILABLE or not shown:
        return f"{_SIGNS[worst.name]} {worst.label}"
    kinds = [kind for kind in shown if kind in worst.kinds] or list(shown)
    return f"{_DEFECTIVE} {max(kinds, key=shown.__getitem__)}"


def _advice(result: RunResult) -> Iterator[Part]:
    told = [
        f"**{escaped(loss)}**: {escaped(text)}" for loss, text in paragraphs(result.cells).items()
    ]
    text = "\n".join(f"- {line}" for line in told)
    if text:
        yield Part(
            name="advice",
            text=folded("Advice", text) if len(told) > 4 else f"**Advice**\n\n{text}",
        )


def _findings(worst: Iterable[Finding]) -> Iterator[Part]:
    """The worst finding of each kind, defects first, each with its script."""
    told: set[str] = set()
    for finding in sorted(worst, key=lambda one: one.severity[:3], reverse=True):
        if finding.kind in told:
            continue
        told.add(finding.kind)
        title = tables.finding_title(finding)
        text = f"{escaped(KINDS[finding.kind])}.\n\n{escaped(tables.finding_figures(finding))}"
        script = snippet(finding)
        if len(script) <= _LONGEST_CODE and not finding.unconfirmed:
            text += f"\n\n{code(script)}"
        rank = 1 if len(told) <= _FINDINGS_FIRST else 3
        yield Part(name=f"the finding of {finding.kind}", text=folded(title, text), rank=rank)


def _causes(causes: Sequence[Cause]) -> Part:
    rows = [
        (
            cause.kind,
            cause.path,
            cause.route or "-",
            ", ".join(cause.formats),
            ", ".join(cause.modes),
            f"{len(cause.cells)}",
            f"{cause.rows:,}",
            cause.region,
        )
        for cause in causes
        if cause.tier == DEFECT
    ]
    text = table(_CAUSE_COLUMNS, rows[:_SHOWN_CAUSES])
    if len(rows) > _SHOWN_CAUSES:
        hidden = len(rows) - _SHOWN_CAUSES
        text += f"\n\n*{amount(hidden, 'cause')} {verb(hidden, 'is', 'are')} left out.*"
    return Part(name="causes", text=folded(f"{amount(len(rows), 'cause')} of defects", text))


def _environment(result: RunResult) -> str:
    versions = result.environment.get("versions", {})
    devices = result.environment.get("devices", [])
    lines = [f"{name} {version}" for name, version in versions.items()]
    plan = result.plan
    told = [f"seed {plan['seed']}"] if "seed" in plan else []
    told += [f"shapes {', '.join(plan['shapes'])}"] if plan.get("shapes") else []
    if devices:
        lines.append(f"devices: {', '.join(map(str, devices))}")
    return listed([", ".join(lines), *([", ".join(told)] if told else []), time_note(result)])
