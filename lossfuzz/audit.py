"""The audit: a campaign's own rows, checked against mpmath while it runs.

Checked are a random few rows of every batch, and every row that became a finding: that each value
lies within the bound that is claimed for it, and that it rounds as the exact value does. The
kernel's bounds rest on what is assumed of the machine's exp and log1p; a library that is worse, or
a fault in the kernel, shows here, and stops the campaign with the row.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.formats import BINARY32, BINARY64, format_of
from lossfuzz.harness.reference import kernel
from lossfuzz.harness.reference.exact import correctly_rounded_row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from lossfuzz.harness.findings import Finding
    from lossfuzz.harness.outcome import Prepared

MOST_LOGITS = 512
LOGITS_PER_CELL = 16
"""Logits of a batch that are checked, on average, for every cell that it is run through.

mpmath does 50,000 to 100,000 logits a second, so this is a fraction of a millisecond.
"""


class AuditError(ArithmeticError):
    """The reference and mpmath disagree on a row, so no figure of the run can be trusted."""


def audit_batch(prepared: Prepared, *, cells: int, at_least: int = 0) -> int:
    """Check a random sample of a batch's rows, drawn by its recipe alone; returns how many.

    Args:
        prepared: the batch with its reference.
        cells: how many cells it is run through; more of them pay for a larger sample.
        at_least: fewest rows.

    Raises:
        AuditError: a value does not round as mpmath's does, or lies outside its own bound.
    """
    judged = np.flatnonzero(prepared.reference.judged)
    key = zlib.crc32(repr(sorted(prepared.recipe.items())).encode())
    generator = np.random.default_rng(key)
    logits = min(MOST_LOGITS, LOGITS_PER_CELL * cells)
    wanted = max(at_least, logits / prepared.rows.shape[1])
    count = min(len(judged), int(wanted) + int(generator.random() < wanted - int(wanted)))
    for row in generator.choice(judged, size=count, replace=False).tolist():
        _audit_row(prepared, row)
    return count


def _audit_row(prepared: Prepared, row: int) -> None:
    reference, label = prepared.reference, int(prepared.row_labels[row])
    fmt, values = format_of(prepared.rows), prepared.rows[row].astype(np.float64)
    exact = correctly_rounded_row(values, label, [BINARY64, fmt, BINARY32])
    bounds = np.full(len(values), reference.component_bounds[row])
    bounds[label] = reference.relative_bound
    gradient = reference.gradient[row]
    loss = reference.loss[row : row + 1]
    faults = {
        "a gradient component outside its bound": _outside(
            gradient, exact.gradient[BINARY64], bounds
        ),
        "the loss outside its bound": _outside(
            loss, np.array([exact.loss[BINARY64]]), np.array([reference.relative_bound])
        ),
        "a gradient component that rounds wrongly": not np.array_equal(
            reference.rounded_gradient(fmt)[row], exact.gradient[fmt]
        ),
        "a loss that rounds wrongly": reference.rounded_loss(fmt)[row] != exact.loss[fmt]
        or reference.rounded_loss(BINARY32)[row] != exact.loss[BINARY32],
    }
    for fault, present in faults.items():
        if present:
            raise AuditError(
                f"the reference has {fault}, by mpmath, in {fmt.dtype_name} for label {label} of "
                f"logits {values.tolist()} (row {row} of {prepared.recipe})"
            )


def audit_findings(findings: Iterable[Finding]) -> int:
    """Check the exact values in the records of findings; returns how many rows were checked.

    Raises:
        AuditError: an exact value is not within its bound of mpmath's.
    """
    rows = {
        (finding.logits, finding.label): finding
        for finding in findings
        if not math.isnan(finding.exact_loss)
    }
    for (logits, label), finding in rows.items():
        exact = correctly_rounded_row(np.array(logits), label, [BINARY64])
        bound = kernel.relative_bound(len(logits), BINARY64.unit_roundoff)
        recorded = np.array([finding.exact_loss, *finding.exact_gradient])
        right = np.array([exact.loss[BINARY64], *exact.gradient[BINARY64]])
        if _outside(recorded, right, np.full(len(right), bound)):
            raise AuditError(
                f"the exact values of a finding are not mpmath's: {finding.cell_name}, label "
                f"{label} of logits {list(logits)}: loss and gradient are {recorded.tolist()}, "
                f"should be {right.tolist()}"
            )
    return len(rows)


def _outside(
    values: NDArray[np.float64], exact: NDArray[np.float64], bounds: NDArray[np.float64]
) -> bool:
    """Whether a value is further from the exact one, known to half an ulp, than its bound."""
    allowed = (bounds + BINARY64.unit_roundoff) * np.abs(exact) + kernel.ABSOLUTE_BOUND
    return bool((np.abs(values - exact) > allowed).any())
