"""A failed check as text: the minimal row, what is, what should be, and how to replay it."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from lossfuzz.harness.losses.reduced import WEIGHTED, sample_weights
from lossfuzz.harness.numbers.decimals import proved_text
from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.results.kinds import KINDS, REFUSAL, SIGN_FLIP
from lossfuzz.reports.components import has_target, telling_class
from lossfuzz.reports.loss_source import loss_source, written_name
from lossfuzz.reports.snippet import LONGEST_SCRIPT, ON_A_KINK, is_on_a_kink, snippet
from lossfuzz.reports.snippet_inputs import shown_classes
from lossfuzz.reports.words import amount

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.results.run import CellResult

_SHOWN = 8
_MOST_OTHERS = 6


def failure(
    finding: Finding, others: Sequence[Finding], replay: str, notes: Sequence[str] = ()
) -> str:
    """The message of a failed check.

    Args:
        finding: the one to show, made small.
        others: further findings, of other kinds and cells.
        replay: the call or command that finds it again.
        notes: what was found out of the loss.
    """
    path = path_named(finding.path)
    name = written_name(path)
    lines = [
        f"{name} does not compute {finding.loss}: {finding.kind} in {_where(finding)}",
        f"  ({_meaning(finding)})",
        *_figures(finding),
    ]
    if others:
        lines.append(f"also: {_listed_others(others)}")
    lines += [f"note: {note}" for note in (*_notes(finding), *notes)]
    lines.append(f"again: {replay} (finding {finding.id})")
    code = snippet(finding)
    if len(code) > LONGEST_SCRIPT:
        return "\n".join(
            [*lines, f"(its script has {len(code):,} characters: too long to be shown)"]
        )
    heading = "as a script"
    if finding.unconfirmed:
        heading += ", which did not show it when it was run again"
    elif path.own and not loss_source(path).complete:
        heading += ", which was run with the loss that was checked"
    lines.append(f"{heading}:")
    lines += [f"    {line}".rstrip() for line in code.splitlines()]
    return "\n".join(lines)


def refused(cells: Sequence[CellResult], beside: Sequence[CellResult] = ()) -> str:
    """The message of a check whose cells cannot be run at all, each reason once.

    Args:
        cells: that cannot be run.
        beside: all cells; formats that run where others do not are told to be chosen alone.
    """
    where: dict[str, tuple[str, list[str]]] = {}
    for one in cells:
        reason = one.unavailable or ""
        for prefix in ("LossError: ", "UnavailableError: "):
            reason = reason.removeprefix(prefix)
        _, names = where.setdefault(re.sub(r"\d+(\.\d+)?", "#", reason), (reason, []))
        names.append(f"{one.cell.format.dtype_name} {one.cell.mode}")
    told = _formats_to_keep(cells, beside)
    return "\n".join(f"{reason} [{', '.join(names)}]{told}" for reason, names in where.values())


def _formats_to_keep(cells: Sequence[CellResult], beside: Sequence[CellResult]) -> str:
    """How to leave out the formats that cannot be run, if others can."""
    refused = {one.cell.format.dtype_name for one in cells}
    running = [one.cell.format.dtype_name for one in beside if one.route is not None]
    kept = [name for name in dict.fromkeys(running) if name not in refused]
    if not kept:
        return ""
    return f"; formats={kept} leaves {' and '.join(sorted(refused))} out"


def _figures(finding: Finding) -> list[str]:
    path = path_named(finding.path)
    weight = ""
    if path.loss.reduction in WEIGHTED:
        weight = f", sample weight {sample_weights(finding.place + 1)[-1]:g}"
    logits = numbers(finding.logits, finding.label)
    lines = [f"  logits    {logits}{target_text(finding)}{weight}{_beside(finding)}"]
    if finding.kind == REFUSAL:
        return [*lines, f"  raised    {finding.message}"]
    unit = "the whole batch's" if path.loss.reduction else "the row's"
    exact_loss = proved_text(finding.exact_loss)
    exact = finding.exact_gradient
    told = _components(finding, finding.observed_gradient)
    exactly = ON_A_KINK if is_on_a_kink(finding) else _components(finding, exact, proved_text)
    above = f" for a gradient of {finding.factor:g} from above" if finding.upstream else ""
    return [
        *lines,
        f"  loss      is {finding.observed_loss:.9g}, {unit} exact value {exact_loss}",
        *_further(finding),
        f"  gradient  is {told}{above},",
        f"     exactly   {exactly}",
        (
            f"  error     {finding.ulp_error:.3g} ULP of {_units(finding)}; "
            f"{finding.mixed_error:.3g} u, where rounding explains "
            f"{finding.bound:.3g} u (u = {format_named(finding.format).unit_roundoff:.2g})"
        ),
    ]


def target_text(finding: Finding) -> str:
    """``, label 2`` or ``, target [0, 1]``, to follow a row's logits; nothing without a target."""
    if finding.target:
        return f", target {numbers(finding.target, finding.label)}"
    return f", label {finding.label}" if has_target(finding) else ""


def _meaning(finding: Finding) -> str:
    if is_on_a_kink(finding):
        return "NaN on a kink, where every number between the one-sided derivatives is right"
    meaning = KINDS[finding.kind]
    flipped = telling_class(finding) if finding.kind == SIGN_FLIP else None
    if flipped is None:
        return meaning
    is_, exactly = finding.observed_gradient[flipped], finding.exact_gradient[flipped]
    return f"{meaning}: {is_:.9g} for {proved_text(exactly)} at class {flipped}"


def _notes(finding: Finding) -> list[str]:
    """What explains a finding of a shown row that its user may not have thought of."""
    others = finding.batch.logits if finding.batch is not None else ()
    if -math.inf in finding.logits:
        place = "the row"
    elif any(-math.inf in row for row in others):
        place = "a row of the batch"
    else:
        return []
    return [f"{place} masks a class by -inf; bounds=(-30, 30) checks finite logits alone"]


def _further(finding: Finding) -> list[str]:
    """Of a saturation: where else the loss is the same, and what it should be there."""
    if not finding.further:
        return []
    logits = numbers(finding.further, finding.label)
    exact = proved_text(finding.further_exact_loss)
    return [f"            and is the same at {logits}, whose exact value is {exact}"]


def _beside(finding: Finding) -> str:
    """The batch that it takes, where it is not the row alone."""
    if finding.batch_rows == 1:
        return ""
    if finding.repeated:
        return f", in a batch of {finding.batch_rows} such rows"
    return f", row {finding.place}: it needs this batch of {finding.batch_rows} rows"


def _components(
    finding: Finding, values: Sequence[float], text: Callable[[float], str] = "{:.9g}".format
) -> str:
    """A gradient's components: those that the script prints, with their classes if not all."""
    told = shown_classes(finding)
    if len(told) == len(values):
        return f"[{', '.join(map(text, values))}]"
    parts = ", ".join(f"{text(values[k])} at {k}" for k in told)
    return f"[{parts}; {len(values)} in all]"


def _units(finding: Finding) -> str:
    """The format of the loss, and that of the gradient where it is another."""
    return " or ".join(dict.fromkeys((finding.loss_dtype, finding.format)))


def _where(finding: Finding) -> str:
    return f"{finding.format} {finding.mode} on {finding.device}"


def _listed_others(others: Sequence[Finding]) -> str:
    kinds: dict[str, list[str]] = {}
    for one in others:
        kinds.setdefault(one.kind, []).append(f"{one.format} {one.mode}")
    parts = [f"{kind} in {', '.join(dict.fromkeys(cells))}" for kind, cells in kinds.items()]
    hidden = len(parts) - _MOST_OTHERS
    return "; ".join(parts[:_MOST_OTHERS]) + (
        f"; and {amount(hidden, 'more kind')}" if hidden > 0 else ""
    )


def numbers(values: Sequence[float], label: int) -> str:
    """A row's numbers; of a long row its first ones and the label's."""
    shown = ", ".join(f"{value:.9g}" for value in values[:_SHOWN])
    if len(values) <= _SHOWN:
        return f"[{shown}]"
    return f"[{shown}, … {len(values)} in all; {values[label]:.9g} at {label}]"
