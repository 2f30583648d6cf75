"""A page's findings: the worst ones as texts, and what goes wrong, cause by cause, as data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.harness.numbers.decimals import proved_text
from lossfuzz.harness.results.kinds import KINDS
from lossfuzz.reports import tables
from lossfuzz.reports.components import told_classes
from lossfuzz.reports.snippet import LONGEST_SCRIPT, snippet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.results.causes import Cause
    from lossfuzz.harness.results.findings import Finding

_OPEN = 3


def worst_texts(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The worst findings; the first of each of the first few kinds is marked, to be open."""
    found = []
    told: set[str] = set()
    for finding in findings:
        found.append(
            {
                **_texts(finding),
                "title": tables.finding_title(finding),
                "tier": finding.tier,
                "kind": finding.kind,
                "loss": finding.loss,
                "first": finding.kind not in told and len(told) < _OPEN,
                "code": _script(finding),
            }
        )
        told.add(finding.kind)
    return found


def cause_data(causes: Sequence[Cause]) -> list[dict[str, Any]]:
    """The causes in their order, each with its row, as JSON's types."""
    return [
        {
            **_texts(cause.finding),
            "tier": cause.tier,
            "kind": cause.kind,
            "loss": cause.loss,
            "path": cause.path,
            "route": cause.route or "unknown",
            "region": cause.region,
            "designed": cause.by_design,
            "formats": ", ".join(cause.formats),
            "modes": ", ".join(cause.modes),
            "devices": ", ".join(cause.devices),
            "cells": len(cause.cells),
            "rows": cause.rows,
            "shrunk": cause.shrunk,
            "code": _cause_script(cause),
        }
        for cause in causes
    ]


def _script(finding: Finding) -> str:
    """The row as a script; empty without a row, of one too long to be read, or not confirmed."""
    code = snippet(finding) if finding.has_row and not finding.unconfirmed else ""
    return code if len(code) <= LONGEST_SCRIPT else ""


def _cause_script(cause: Cause) -> str:
    """Only of a row that was made small: its script was run."""
    return _script(cause.finding) if cause.shrunk else ""


def _texts(finding: Finding) -> dict[str, Any]:
    meaning = KINDS[finding.kind]
    return {
        "meaning": f"{meaning[0].upper()}{meaning[1:]}.",
        "figures": tables.finding_figures(finding),
        "pairs": _pairs(finding) if finding.has_row and not finding.message else [],
    }


def _pairs(finding: Finding) -> list[tuple[str, str, str]]:
    """What was observed and what is exact, of the loss and of the telling components."""
    gradient, exact = finding.observed_gradient, finding.exact_gradient
    return [
        ("loss", f"{finding.observed_loss:.9g}", proved_text(finding.exact_loss)),
        *(
            (name, f"{gradient[k]:.9g}", proved_text(exact[k]))
            for name, k in told_classes(finding)
            if gradient
        ),
    ]
