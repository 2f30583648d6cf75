"""The check by hand: a finding's row and the loss's definition, in mpmath and nothing else."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from search import WIDE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from entry import Entry

    from lossfuzz.harness.results.findings import Finding

_SCRIPT = """\
from mpmath import diff, exp, fsum, isinf, log, log1p, mp, mpf, nstr

mp.dps = 50
logits = {logits}
{target}

{definition}

orders = [tuple(int(j == k) for j in range(len(logits))) for k in {components}]
gradient = [0 if isinf(x) else diff(loss, logits, order) for x, order in zip(logits, orders)]
print("loss    ", nstr(loss(*logits), 17))
print("gradient", ", ".join(nstr(g{share}, 17) for g in gradient))
"""

_AGREEMENT = 1e-14
"""Relative, or absolute below 1: findings record exact values as float64."""


def check_script(entry: Entry, finding: Finding) -> str:
    """The script; of a mean over copies of one row it gives the share of one copy."""
    rows = finding.batch_rows
    return _SCRIPT.format(
        logits=_listed([_number(value) for value in finding.logits]),
        target=f"target = {_listed([repr(value) for value in _weights(finding)])}",
        components="range(len(logits))" if _narrow(finding) else f"[{finding.label}]",
        definition=entry.definition.strip(),
        share="" if rows == 1 else f" / {rows}",
    )


def _listed(items: list[str]) -> str:
    if len(items) > WIDE and len(set(items)) == 1:
        return f"[{items[0]}] * {len(items)}"
    return f"[{', '.join(items)}]"


def _number(value: float) -> str:
    return f"mpf({value!r})" if math.isfinite(value) else f'mpf("{value}")'


def _narrow(finding: Finding) -> bool:
    return len(finding.logits) <= WIDE


def _weights(finding: Finding) -> Sequence[float]:
    if finding.target:
        return finding.target
    return [float(k == finding.label) for k in range(len(finding.logits))]


def run_script(script: str) -> str:
    """What a script prints, in a process of its own.

    Raises:
        RuntimeError: it failed; its last line says how.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(  # noqa: S603 - a script of our own making
            [sys.executable, "-c", script],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
        )
    if done.returncode:
        raise RuntimeError(f"a script failed: {done.stderr.strip().splitlines()[-1]}\n{script}")
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}


def demand_agreement(finding: Finding, printed: str) -> None:
    """The check's output must be the finding's exact values.

    Raises:
        ValueError: it is not: one of the two is wrong.
    """
    numbers = [float(text) for text in re.findall(r"-?\d[\d.]*(?:e[+-]?\d+)?", printed)]
    gradient = finding.exact_gradient
    exact = [finding.exact_loss, *(gradient if _narrow(finding) else [gradient[finding.label]])]
    agree = len(numbers) == len(exact) and all(
        abs(one - other) <= _AGREEMENT * max(1, abs(other))
        for one, other in zip(numbers, exact, strict=True)
    )
    if not agree:
        raise ValueError(
            f"{finding.cell_name}: the check by hand gives {numbers}, the finding's exact values "
            f"are {exact}: one of the two is wrong"
        )
