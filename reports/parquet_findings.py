"""Findings and causes as columns for Parquet."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.row_batch import RowBatch

if TYPE_CHECKING:
    from lossfuzz.harness.results.run import RunResult

TEXT, WHOLE, REAL, FLAG = "VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"
TEXTS, REALS = "VARCHAR[]", "DOUBLE[]"


OF_CELL, OF_LOSS, OF_CAUSE = "cell", "loss", "cause"
"""What a finding is the worst of, or stands for."""
_TYPES = {
    "str": TEXT,
    "int": WHOLE,
    "float": REAL,
    "bool": FLAG,
    "tuple[float, ...]": REALS,
    "dict[str, Any]": TEXT,
    "RowBatch | None": TEXT,
}


FINDINGS = {
    "number": WHOLE,
    "id": TEXT,
    "worst_of": TEXT,
    "cell": TEXT,
    **{field.name: _TYPES[str(field.type)] for field in fields(Finding)},
}


CAUSES = {
    **dict.fromkeys(("loss", "path", "kind", "tier", "route", "region"), TEXT),
    "by_design": FLAG,
    **dict.fromkeys(("cells", "formats", "modes", "devices"), TEXTS),
    "rows": WHOLE,
    "shrunk": FLAG,
    "finding": WHOLE,
}


def findings_and_causes(
    result: RunResult,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Findings numbered in their order, and the causes, which name theirs by number."""
    kept = [
        *((OF_CELL, finding) for finding in result.findings),
        *((OF_LOSS, finding) for finding in result.worst),
        *((OF_CAUSE, cause.finding) for cause in result.causes),
    ]
    findings = [_finding(number, of, one) for number, (of, one) in enumerate(kept)]
    first = len(kept) - len(result.causes)
    causes = [
        {
            **{name: getattr(cause, name) for name in CAUSES},
            **{name: list(getattr(cause, name)) for name, sql in CAUSES.items() if sql == TEXTS},
            "finding": first + number,
        }
        for number, cause in enumerate(result.causes)
    ]
    return findings, causes


def _finding(number: int, of: str, finding: Finding) -> dict[str, Any]:
    """All fields; no arrays where only the recipe and the number of the row are known."""
    row: dict[str, Any] = {
        "number": number,
        "id": finding.id if finding.has_row else None,
        "worst_of": of,
        "cell": finding.cell_name,
    }
    for name in (field.name for field in fields(Finding)):
        value = getattr(finding, name)
        if isinstance(value, RowBatch):
            value = value.to_json()
        if FINDINGS[name] == REALS:
            row[name] = list(value) if finding.has_row else None
        else:
            row[name] = json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
    return row
