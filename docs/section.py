"""A defect's section of the document."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from typing import TYPE_CHECKING

from check import check_script, demand_agreement, run_script
from search import WIDE

from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results.kinds import DEFECT, KINDS, MODE_DISAGREEMENT
from lossfuzz.reports.snippet import snippet

if TYPE_CHECKING:
    from search import Found

    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.harness.results.run import CellResult

_FORMATS = ("float16", "bfloat16", "float32")

_SECTION = """\
## {number}. {title}

{harm}

| | loss | gradient |
|---|---|---|
| exact | {exact_loss} | {exact_gradient} |
| came | {observed_loss} | {observed_gradient} |

for logits `{logits}` and {target}, in {format}, {mode}{copies}. Kind: *{kind}*, {meaning}.{design}

**Where.** Modes that show *{kind}* on {rows} rows of {families}:

| path | float16 | bfloat16 | float32 | other defects there |
|---|---|---|---|---|
{cells}

{cause}
{quotes}
{advice}

**Reproduce**, with TensorFlow and Keras alone:

```python
{script}
```

```text
{printed}
```
{compared}
**Check by hand**, from the definition, with 50 digits:

```python
{check}
```

```text
{checked}
```
"""


_DESIGN = """

The result agrees with the formula of clipped probabilities, by which lossfuzz judges what is by
design here; the defect is that this call clips although the logits are at hand."""


def section(number: int, found: Found) -> str:
    """The section, with its scripts run and their output pasted.

    Raises:
        RuntimeError: a script failed.
        ValueError: the check by hand disagrees with the exact values.
    """
    entry, finding = found.entry, found.finding
    script = snippet(finding).strip()
    check = check_script(entry, finding).strip()
    checked = run_script(check)
    demand_agreement(finding, checked)
    rows = found.plan["rows"]
    return _SECTION.format(
        number=number,
        title=entry.title,
        harm=_paragraph(entry.harm),
        exact_loss=_number(finding.exact_loss),
        exact_gradient=_numbers(finding.exact_gradient),
        observed_loss=_number(finding.observed_loss),
        observed_gradient=_numbers(finding.observed_gradient),
        logits=_numbers(finding.logits),
        target=_target(finding),
        format=finding.format,
        mode=_mode(finding.mode),
        copies=_copies(finding),
        kind=entry.kind,
        meaning=KINDS[entry.kind],
        design=_DESIGN if finding.by_design else "",
        rows=rows,
        families=" and ".join(f"`{name}`" for name in entry.families),
        cells="\n".join(_line(name, cells, entry.kind) for name, cells in found.cells.items()),
        cause=_paragraph(f"**Why.** {entry.cause}"),
        quotes="".join(f"\n- {quote.located()}" for quote in entry.quotes)
        + "\n" * bool(entry.quotes),
        advice=_paragraph(f"**What to do.** {entry.advice}"),
        script=script,
        printed=run_script(script),
        compared=_compared(found),
        check=check,
        checked=checked,
    )


_COMPARED = """
The same script for {mode} prints:

```text
{printed}
```
"""


def _compared(found: Found) -> str:
    mode = found.entry.against
    if not mode:
        return ""
    script = snippet(replace(found.finding, mode=mode))
    return _COMPARED.format(mode=_mode(mode), printed=run_script(script))


def _line(name: str, results: list[CellResult], kind: str) -> str:
    shown = []
    for fmt in _FORMATS:
        cells = [result for result in results if result.cell.format.dtype_name == fmt]
        modes = [one.cell.mode for one in cells if (kind, DEFECT) in one.findings]
        missing = [one.cell.mode for one in cells if one.unavailable is not None]
        text = ", ".join(_mode(mode) for mode in MODES if mode in modes) or "none"
        if missing:
            text += f" ({', '.join(map(_mode, missing))} cannot run)"
        shown.append(text)
    others = {
        other
        for result in results
        for other, tier in result.findings
        if tier == DEFECT and other not in (kind, MODE_DISAGREEMENT)
    }
    return f"| `{name}` | {' | '.join(shown)} | {', '.join(k for k in KINDS if k in others)} |"


def _target(finding: Finding) -> str:
    if finding.target:
        return f"target `{_numbers(finding.target)}`"
    return f"label `{finding.label}`"


def _copies(finding: Finding) -> str:
    if finding.batch_rows == 1:
        return ""
    return f", a batch of {finding.batch_rows} copies of that row"


def _mode(mode: str) -> str:
    return "XLA" if mode == "xla" else mode


def _paragraph(text: str) -> str:
    return textwrap.fill(
        " ".join(text.split()), width=99, break_long_words=False, break_on_hyphens=False
    )


def _number(value: float) -> str:
    return f"{value:.9g}"


def _numbers(values: tuple[float, ...]) -> str:
    if len(values) > WIDE and len(set(values)) == 1:
        return f"[{_number(values[0])}] * {len(values)}"
    return "[" + ", ".join(map(_number, values)) + "]"
