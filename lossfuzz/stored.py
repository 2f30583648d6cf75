"""Runs and campaigns read back from where they were written."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from lossfuzz.baseline import read_stored
from lossfuzz.campaign.folders import plan_of
from lossfuzz.campaign.outcome import merged
from lossfuzz.campaign.store import FILE, Store
from lossfuzz.errors import UsageError
from lossfuzz.harness.results import RunResult
from lossfuzz.record import read_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SCHEMA = 1
"""Of the results.json that is read."""

_PLANNED = ("families", "shapes", "rows", "seed")
_RESULTS = "results.json"
_TIMINGS = "timings.json"


def read(path: Path, *, with_findings: bool = False) -> RunResult:
    """A run by its results.json, a campaign by its folder, or a run by the folder of its report.

    A campaign may be running: what is finished is read, and nothing is changed or locked.

    Args:
        path: of a file or folder.
        with_findings: whether a results.json is read with its findings, and not the statistics
            alone.

    Raises:
        UsageError: there is nothing that can be read.
    """
    if path.is_dir():
        if (path / FILE).exists() or not (path / _RESULTS).exists():
            return _read_campaign(path)
        path = path / _RESULTS
    elif path.name == FILE and path.exists():
        return _read_campaign(path.parent)
    return _read_results(path, with_findings=with_findings)


def record(path: Path, expected: str) -> dict[str, Any]:
    """What `read` reads, as JSON's types, its findings among it; or what checks have saved.

    A campaign may be running, as for `read`. The checks that pytest's ``--lossfuzz-save`` wrote
    count as one: their findings stand one after the other.

    Args:
        path: of a file or folder.
        expected: what it should have been, for messages.

    Raises:
        UsageError: there is nothing that can be read.
    """
    if path.is_dir():
        if (path / FILE).exists():
            return _read_campaign(path).to_json()
        path = path / _RESULTS
    elif path.name == FILE and path.exists():
        return _read_campaign(path.parent).to_json()
    try:
        found = read_record(path, ("worst", "checks"), expected)
        if "checks" in found:
            return _joined([one.record for one in read_stored(path)])
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not isinstance(found["worst"], list):
        raise UsageError(f"{str(path)!r} holds no results: {expected}")
    return found


def _joined(checks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The findings of several checks, each of which was made where the first one was."""
    names = ("worst", "causes", "findings")
    return {
        "environment": checks[0]["environment"] if checks else {},
        **{name: [one for check in checks for one in check.get(name, ())] for name in names},
    }


def _read_campaign(folder: Path) -> RunResult:
    store = Store.read(folder)
    try:
        return merged(store, plan_of(store))
    except (ValueError, KeyError, TypeError, zlib.error) as error:
        raise UsageError(
            f"the campaign in {str(folder)!r} cannot be read here ({_told(error)}); it may come "
            "from another version"
        ) from None
    finally:
        store.close()


def _read_results(path: Path, *, with_findings: bool) -> RunResult:
    expected = "expected a campaign's folder or a results.json of 'lossfuzz run'"
    try:
        record = read_record(path, ("cells",), expected)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if "plan" not in record:
        raise UsageError(f"{str(path)!r} holds no results: {expected}")
    if record.get("schema") != SCHEMA:
        raise UsageError(
            f"{str(path)!r} has schema {record.get('schema')!r}, this lossfuzz reads {SCHEMA}: "
            "use the version that wrote it, or measure again"
        )
    try:
        return _result(record if with_findings else {**record, **_NO_FINDINGS}, path)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UsageError(
            f"{str(path)!r} cannot be read here ({_told(error)}); it may be damaged or come from "
            "another version"
        ) from None


_NO_FINDINGS: dict[str, list[Any]] = {"worst": [], "findings": [], "causes": []}


def _result(record: dict[str, Any], path: Path) -> RunResult:
    plan = record["plan"]
    for one in plan.get("joined", [plan]):
        missing = [name for name in _PLANNED if name not in one]
        if missing or not (one["families"] and one["shapes"]):
            raise ValueError(f"the plan lacks {', '.join(missing) or 'families or shapes'}")
    result = RunResult.from_json(record)
    result.seconds = _seconds(path.with_name(_TIMINGS))
    return result


def _seconds(path: Path) -> dict[str, float]:
    """The times that lie beside results; none where they do not."""
    try:
        times = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): float(value) for name, value in times.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _told(error: Exception) -> str:
    return f"no {error}" if isinstance(error, KeyError) else str(error)
