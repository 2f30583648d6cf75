"""The results on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from lossfuzz.harness.results.kinds import DEFECT, INACCURACY, KINDS
from lossfuzz.reports import advice, tables, versions
from lossfuzz.reports.grid import Column, Line
from lossfuzz.reports.grid import show as show_grid
from lossfuzz.reports.policy import policy_lines
from lossfuzz.reports.routes import route_changes
from lossfuzz.reports.snippet import LONGEST_SCRIPT, snippet
from lossfuzz.reports.words import amount

if TYPE_CHECKING:
    from rich.console import Console

    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.results.run import CellResult, RunResult

_STYLES = {
    "sound": "green",
    "inaccurate": "yellow",
    "defective": "bold red",
    "not judged": "yellow",
    "unavailable": "dim",
}
_HEADINGS = {
    "loss ULP": "loss ULP\nmedian/p99/max",
    "gradient ULP": "gradient ULP\nmedian/p99/max",
    "rounding ULP": "rounding\nmedian/p99",
    "bias by design": "bias by\ndesign",
    "non-finite": "non-\nfinite",
    "vanishes at": "gradient\nvanishes at",
    "saturates at": "loss\nstops at",
}


def show(result: RunResult, console: Console) -> None:
    """Print tables, worst findings and verdict."""
    for loss, cells in advice.by_loss(result.cells).items():
        for device in dict.fromkeys(one.cell.device for one in cells):
            _show_cells(loss, cells, device, console)
    if len(versions.subjects_of(result.cells)) > 1:
        _show_versions(result, console)
    _show_findings(result.worst, console)
    console.print(Text(tables.verdict(result), style="bold"))
    for line in tables.saturation_note(result.cells):
        console.print(Text("  " + line))
    console.print(Text(tables.inaccuracy_note(result)))
    policies = policy_lines(result.cells)
    if policies:
        console.print(Text("Logits without an exact value are not judged; what cells return:"))
        for line in policies:
            console.print(Text("  " + line))
    changes = route_changes(result.cells)
    if changes:
        console.print(Text("The route depends on the mode:"))
        for line in changes:
            console.print(Text("  " + line))
    console.print(Text("Advice", style="bold"))
    for loss, paragraph in advice.paragraphs(result.cells).items():
        console.print(Text.assemble((f"{loss}: ", "bold"), paragraph))
    console.print(Text(time_note(result), style="dim"))


def _show_findings(worst: list[Finding], console: Console) -> None:
    """The worst defect of each kind with its script; of the other losses' ones, a line each."""
    told: set[str] = set()
    for finding in sorted(worst, key=lambda one: one.severity[:3], reverse=True):
        if finding.tier == DEFECT and finding.kind not in told:
            told.add(finding.kind)
            console.print(_panel(finding))
    for tier, style in ((DEFECT, "red"), (INACCURACY, "yellow")):
        for finding in worst:
            if finding.tier == tier:
                console.print(Text(tables.finding_title(finding), style=style))
                console.print(Text(f"  {finding.id}: {tables.finding_figures(finding)}"))
    if worst:
        console.print(Text(_REPLAY.format(id=worst[0].id), style="dim"))


_REPLAY = "Run one again, by its id: lossfuzz replay FOLDER#{id} (--script, --issue)"


def _panel(finding: Finding) -> Panel:
    explained = Text(KINDS[finding.kind] + "\n" + tables.finding_figures(finding))
    written = snippet(finding)
    if finding.unconfirmed:
        written = "# no script that was run shows it"
    if len(written) > LONGEST_SCRIPT:
        written = f"# its script has {len(written)} characters: lossfuzz replay --script writes it"
    code = Syntax(written, "python", background_color="default", word_wrap=True)
    title = Text(tables.finding_title(finding))
    return Panel(
        Group(explained, code),
        title=title,
        title_align="left",
        subtitle=Text(f"finding {finding.id}"),
    )


def time_note(result: RunResult) -> str:
    """Where the run's time went."""
    seconds = result.seconds
    total = seconds.get("total", 0.0)
    inside = seconds.get("tensorflow", 0.0)
    rows = {name: result.reference_rows.get(name, 0) for name in _COUNTED}
    where = ""
    if inside:  # of a campaign, whose workers' times overlap, only the whole is known
        where = (
            f", {100 * inside / total if total else 0:.0f} % of it in TensorFlow's loss paths, "
            f"{seconds.get('reference', 0.0):.1f} s for the reference, "
            f"{seconds.get('measure', 0.0):.1f} s measuring"
        )
    spent = f"{total:.1f} s{where}; " if total else ""  # not known of a campaign that still runs
    return (
        f"{spent}reference of {amount(rows['rows'], 'row')}: {rows['extended']:,} went to "
        f"extended precision, {rows['mpmath']:,} to mpmath; mpmath audited {rows['audited']:,} "
        "without a disagreement."
    )


_COUNTED = ("rows", "extended", "mpmath", "audited")


def _show_versions(result: RunResult, console: Console) -> None:
    """Subjects side by side; rows on which they differ stand out."""
    subjects = versions.subjects_of(result.cells)
    names = versions.headings(subjects, result.environment)
    columns = [
        *(Column(name=name, heading=name) for name in ("path", "format", "modes")),
        *(Column(name=name, heading=name, least=_VERDICT_AND_ROUTE) for name in names),
    ]
    lines = [
        Line(
            texts=(row.path, row.format, row.modes, *row.texts),
            style="bold yellow" if row.differs else "",
        )
        for row in versions.version_rows(result.cells)
    ]
    show_grid(console, columns, lines)


_VERDICT_AND_ROUTE = 16


def _show_cells(loss: str, cells: list[CellResult], device: str, console: Console) -> None:
    columns = [
        Column(
            name=name,
            heading=_HEADINGS.get(name, name),
            least=_ROUTE if name == "route" else None,
            rank=_LEAST_TELLING.index(name) + 1 if name in _LEAST_TELLING else 0,
        )
        for name in tables.COLUMNS
    ]
    lines = [
        Line(texts=(row.path, *row.texts), styles={len(columns) - 1: _STYLES[row.verdict]})
        for row in tables.cell_rows([one for one in cells if one.cell.device == device])
    ]
    show_grid(console, columns, lines, title=f"{loss[0].upper()}{loss[1:]} on {device}")


_ROUTE = 10
_LEAST_TELLING = (
    "gradient ULP",
    "loss ULP",
    "vanishes at",
    "saturates at",
    "route",
    "collapsed",
    "non-finite",
    "rounding ULP",
    "bias by design",
)
"""Columns that a narrow terminal may lack, from the last to be left out to the first."""
