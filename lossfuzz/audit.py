"""The audit: a campaign's own rows, checked against mpmath while it runs; formulas against Arb.

Checked are a random few rows of every batch, and every row that became a finding: that each value
lies within the bound that is claimed for it, and that it rounds as the exact value does. The
kernel's bounds rest on what is assumed of the machine's exp and log1p; a library that is worse, or
a fault in the kernel, shows here, and stops the campaign with the row.
"""

from __future__ import annotations

import math
import time
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.exact import kernel
from lossfuzz.harness.exact.enclosed import RELATIVE_BOUND, evaluate_rows
from lossfuzz.harness.exact.numbers import mpmath_numbers
from lossfuzz.harness.exact.rounded import correctly_rounded_row
from lossfuzz.harness.exact.series import is_outside, textbook_row
from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.reduced import row_shares
from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.losses.targets import target_of_row
from lossfuzz.harness.numbers.formats import BINARY32, BINARY64, format_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.measuring.prepared import Prepared
    from lossfuzz.harness.results.findings import Finding

MOST_LOGITS = 512
LOGITS_PER_CELL = 16
"""Logits of a batch that are checked, on average, for every cell that it is run through.

mpmath does 50,000 to 100,000 logits a second, so this is a fraction of a millisecond.
"""

_ENCLOSED_SHARE = 1 / 12
"""Of them for losses over enclosures, which take mpmath so many times as long."""


_FORMULA_COMPONENTS = 8
"""Of a user's formula's gradient in each row; every one costs an evaluation of the formula."""

_VANISHING = 2 * kernel.ABSOLUTE_BOUND
"""What is smaller cannot be told from an exact 0."""

_WIDE = 100
"""Classes from which on Arb's series, in a few components, is quicker than mpmath in all."""

_AUDIT_NUMBERS = mpmath_numbers(320)


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
    judged = np.flatnonzero(prepared.row_reference.judged)
    key = zlib.crc32(repr(sorted(prepared.recipe.items())).encode())
    generator = np.random.default_rng(key)
    base = prepared.loss.base or prepared.loss
    logits = float(min(MOST_LOGITS, LOGITS_PER_CELL * cells))
    if base is not SOFTMAX_CROSS_ENTROPY:
        logits *= _ENCLOSED_SHARE
    wanted = max(at_least, logits / prepared.rows.shape[1])
    count = min(len(judged), int(wanted) + int(generator.random() < wanted - int(wanted)))
    rows = generator.choice(judged, size=count, replace=False)
    if base is not SOFTMAX_CROSS_ENTROPY:
        _audit_enclosed_rows(prepared, base, prepared.row_reference, rows)
    else:
        for row in rows.tolist():
            _audit_row(prepared, row)
    for documented, reference in prepared.documented_rows.values():
        formula = documented.base or documented
        _audit_enclosed_rows(prepared, formula, reference, rows, steepness=formula.steepness)
    return count


def _audit_enclosed_rows(
    prepared: Prepared,
    loss: LossSpec,
    reference: Reference,
    rows: NDArray[np.intp],
    steepness: float = 0.0,
) -> None:
    """Check rows of a loss against the same formula at 320 bits of mpmath.

    Args:
        prepared: the batch.
        loss: of a row.
        reference: what is checked.
        rows: which ones.
        steepness: what the gradient's bound is relative to; 0 for each component by itself.
    """
    if not rows.size:
        return
    if loss.derived is not None:
        for row in rows.tolist():
            _audit_formula_row(prepared, loss, reference, row)
        return
    targets = prepared.targets.take(rows)
    exact_loss, exact_gradient = evaluate_rows(loss, prepared.rows[rows], targets, _AUDIT_NUMBERS)
    slope = reference.relative_bound * steepness
    pairs = (
        ("the loss", reference.loss[rows][:, None], exact_loss.to_float64(), 0.0),
        ("a gradient component", reference.gradient[rows], exact_gradient.to_float64(), slope),
    )
    for what, found, exact, slack in pairs:
        bounds = np.full(found.shape, reference.relative_bound)
        if _outside(found, exact, bounds, slack):
            row = int(rows[np.abs(found - exact).max(axis=1).argmax()])
            raise AuditError(
                f"the reference has {what} outside its bound, by mpmath: {loss.name} of logits "
                f"{prepared.rows[row].astype(np.float64).tolist()} with target "
                f"{prepared.targets.weights[row].tolist()} (row {row} of {prepared.recipe})"
            )


def _audit_formula_row(prepared: Prepared, loss: LossSpec, reference: Reference, row: int) -> None:
    """Check a row of a user's formula against its Taylor series over Arb, in some components."""
    logits, weights = prepared.rows[row].astype(np.float64), prepared.targets.weights[row]
    columns = _some_columns(logits.size, int(prepared.row_labels[row]))
    exact, slopes = textbook_row(loss, logits, weights, columns)
    pairs = [("the loss", float(reference.loss[row]), exact)]
    pairs += [
        ("a gradient component", float(reference.gradient[row, column]), slopes[column])
        for column in columns
    ]
    for what, found, ball in pairs:
        bound = (reference.relative_bound + BINARY64.unit_roundoff) * abs(found)
        if is_outside(found, bound + kernel.ABSOLUTE_BOUND, ball):
            raise AuditError(
                f"the reference has {what} outside its bound, by Arb: {loss.name} of logits "
                f"{logits.tolist()} with target {weights.tolist()} (row {row} of "
                f"{prepared.recipe}): is {found!r}, should be {ball}"
            )


def _some_columns(classes: int, label: int) -> list[int]:
    """The label's component and a few others: by its series each takes the whole row anew."""
    spread = np.linspace(0, classes - 1, min(classes, _FORMULA_COMPONENTS)).astype(int)
    return sorted({label, *spread.tolist()})


def _audit_row(prepared: Prepared, row: int) -> None:
    reference, label = prepared.row_reference, int(prepared.row_labels[row])
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


def audit_findings(findings: Iterable[Finding], *, deadline: float = math.inf) -> int:
    """Check the exact values in the records of findings; returns how many rows were checked.

    Of wide rows, and of users' formulas, the loss and a few components.

    Args:
        findings: those that are shown first.
        deadline: of `time.perf_counter`, from which on all but the first are left out.

    Raises:
        AuditError: an exact value is not within its bound of mpmath's.
    """
    rows = {
        (finding.loss, finding.logits, finding.label, finding.target, finding.upstream): finding
        for finding in findings
        if not math.isnan(finding.exact_loss) and not any(map(math.isnan, finding.exact_gradient))
    }  # a row on a kink has no exact gradient
    for count, finding in enumerate(rows.values()):
        if count and time.perf_counter() > deadline:
            return count
        recorded, right, bound = _recorded_and_right(finding)
        right = _with_upstream(right, finding)
        if _outside(recorded, right, np.full(len(right), bound)):
            raise AuditError(
                f"the exact values of a finding are not mpmath's: {finding.cell_name}, label "
                f"{finding.label} of logits {list(finding.logits)}: loss and gradient are "
                f"{recorded.tolist()}, should be {right.tolist()}"
            )
    return len(rows)


def with_right_values(finding: Finding) -> Finding:
    """The finding with its exact values rounded to float64 once, instead of within their bounds.

    Those of wide rows stay as they are, and so does a loss whose batch is not in the record.
    """
    classes = len(finding.logits)
    if not 0 < classes <= _WIDE or math.isnan(finding.exact_loss):
        return finding
    if any(map(math.isnan, finding.exact_gradient)):
        return finding  # on a kink there is none
    recorded, right, bound = _recorded_and_right(finding)
    right = _with_upstream(right, finding)
    if _outside(recorded, right, np.full(len(right), bound)):
        return finding  # the audit tells it
    plain = np.where(np.abs(right) < _VANISHING, 0.0, right).tolist()
    loss = [plain[0]] if len(plain) == 1 + classes else [finding.exact_loss]
    gradient = plain[len(plain) - classes :]
    if len(gradient) != classes:
        return finding
    same = finding.documented_loss == finding.exact_loss
    return replace(
        finding,
        exact_loss=loss[0],
        documented_loss=loss[0] if same else finding.documented_loss,
        exact_gradient=tuple(gradient),
    )


def _with_upstream(right: NDArray[np.float64], finding: Finding) -> NDArray[np.float64]:
    """Exact values with the gradient for the record's upstream; a loss stands before it."""
    if not finding.upstream:
        return right
    return np.array([right[0], *right[1:] * finding.factor])


def _recorded_and_right(
    finding: Finding,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """The exact values in a record, mpmath's, and how far they may be apart.

    Of a reduced loss only the row's gradient, unless all rows of its batch were the same, or are
    in the record.
    """
    loss, logits = loss_named(finding.loss), np.array(finding.logits)
    recorded = np.array([finding.exact_loss, *finding.exact_gradient])
    if loss is SOFTMAX_CROSS_ENTROPY:
        exact = correctly_rounded_row(logits, finding.label, [BINARY64])
        right = np.array([exact.loss[BINARY64], *exact.gradient[BINARY64]])
        return recorded, right, kernel.relative_bound(len(logits), BINARY64.unit_roundoff)
    targets = target_of_row(loss.target, logits, finding.label, finding.target)
    base = loss.base or loss
    if base.derived is not None or logits.size > _WIDE:
        columns = _some_columns(logits.size, finding.label)
        recorded = np.array([finding.exact_loss, *np.array(finding.exact_gradient)[columns]])
        ball, components = textbook_row(base, logits, targets.weights[0], columns)
        right = np.array([float(one.mid()) for one in (ball, *components.values())])
    else:
        value, slopes = evaluate_rows(base, logits[None], targets, _AUDIT_NUMBERS)
        right = np.array([value.to_float64()[0, 0], *slopes.to_float64()[0]])
    if loss.reduction is None:
        return recorded, right, RELATIVE_BOUND
    shares, count = row_shares(loss.reduction, finding.batch_rows)
    total = right[0] * shares.sum() / count
    if finding.batch is not None:
        pairs = zip(finding.batch.logits, finding.batch.targets, strict=True)
        losses = [_right_loss(base, np.array(row), fed) for row, fed in pairs]
        total = float(shares @ np.array(losses)) / count
    right = np.array([total, *right[1:] * shares[finding.place] / count])
    first = 0 if finding.repeated or finding.batch is not None else 1
    return recorded[first:], right[first:], RELATIVE_BOUND + 8 * BINARY64.unit_roundoff


def _right_loss(loss: LossSpec, logits: NDArray[np.float64], fed: tuple[float, ...]) -> float:
    """The loss of a row and what it is fed, by Arb from the textbook definition."""
    label, weights = int(fed[0]), fed
    if loss.target in (kinds.INDEX, kinds.IGNORABLE, kinds.NONE):
        weights = (0.0,) * logits.size if label == kinds.IGNORED else ()
        label = max(label, 0)
    else:
        label = fed.index(max(fed))
    targets = target_of_row(loss.target, logits, label, weights)
    ball, _ = textbook_row(loss, logits, targets.weights[0], [label])
    return float(ball.mid())


def _outside(
    values: NDArray[np.float64],
    exact: NDArray[np.float64],
    bounds: NDArray[np.float64],
    slack: float = 0.0,
) -> bool:
    """Whether a value is further from the exact one, known to half an ulp, than its bounds."""
    allowed = (bounds + BINARY64.unit_roundoff) * np.abs(exact) + kernel.ABSOLUTE_BOUND + slack
    return bool((np.abs(values - exact) > allowed).any())
