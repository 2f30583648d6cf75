"""Runs and campaigns read back from where they were written: data, of which nothing is run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from lossfuzz.baseline import read_stored
from lossfuzz.campaign.outcome import merged
from lossfuzz.campaign.store import Store
from lossfuzz.campaign.store_file import FILE, holds_store
from lossfuzz.errors import UsageError
from lossfuzz.harness.records.fields import number, record_of
from lossfuzz.harness.records.seal import BrokenSealError, opened
from lossfuzz.harness.results.run import RunResult
from lossfuzz.plan import Plan
from lossfuzz.record import is_plain_file, parsed, read_record, read_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_RESULTS = "results.json"
_TIMINGS = "timings.json"
_EXPECTED = "expected a campaign's folder or a results.json of 'lossfuzz run'"


def read(path: Path, *, with_findings: bool = False) -> RunResult:
    """A run by its results.json, a campaign by its folder, or a run by the folder of its report.

    A campaign may be running: what is finished is read, and nothing is changed or locked. Nothing
    that a file names is imported, started or followed.

    Args:
        path: of a file or folder.
        with_findings: whether a results.json is read with its findings, and not the statistics
            alone.

    Raises:
        UsageError: there is nothing that can be read.
    """
    campaign = campaign_in(path)
    if campaign is not None:
        return read_campaign(campaign)
    return _read_results(_file_of(path), with_findings=with_findings)


def campaign_in(path: Path) -> Path | None:
    """The folder of the campaign that a path names, or that holds the file that it names, if any.

    A folder without a campaign and without results counts as one, so that it is told as such; so
    does one whose store is a link that leads nowhere, rather than what stands beside it.
    """
    if path.is_dir():
        holds = holds_store(path) or not (path / _RESULTS).exists()
        return path if holds else None
    return path.parent if path.name == FILE and holds_store(path.parent) else None


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
    campaign = campaign_in(path)
    if campaign is not None and holds_store(campaign):
        return read_campaign(campaign).to_json()
    path = _file_of(path)
    with _one_line(path):
        found = read_record(path, ("worst", "checks"), expected)
        if "checks" in found:
            return _joined([one.record for one in read_stored(path)])
        RunResult.from_json(found)  # whoever reads the record finds no field of another kind
        return found


def _joined(checks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The findings of several checks, each of which was made where the first one was."""
    names = ("worst", "causes", "findings")
    for check in checks:
        RunResult.from_json(check)
    return {
        "environment": checks[0]["environment"] if checks else {},
        **{name: [one for check in checks for one in check.get(name, ())] for name in names},
    }


def read_campaign(folder: Path) -> RunResult:
    """What the campaign in a folder has found so far.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    with contextlib.closing(Store.read(folder)) as store, one_line_of(folder):
        return merged(store, plan_of(store))


def plan_of(store: Store) -> Plan:
    """The plan of a campaign; nothing that it names is imported.

    Raises:
        ValueError: it names something that is not known here, or is no plan.
    """
    return Plan.from_json(record_of(store.fact("plan"), "plan"))


@contextlib.contextmanager
def one_line_of(folder: Path) -> Iterator[None]:
    """Tell in one line what is wrong with what a campaign's store holds."""
    try:
        yield
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UsageError(
            f"the campaign in {str(folder)!r} cannot be read here ({error}); it may be damaged or "
            "come from another version"
        ) from None


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, RecursionError) as error:
        told = str(error)
        if str(path) not in told:
            told = (
                f"{str(path)!r} cannot be read here ({told}); it may be damaged or come from "
                "another version"
            )
        raise UsageError(told) from None


def _file_of(path: Path) -> Path:
    """The results that a path names, by its folder or itself.

    Raises:
        UsageError: the folder holds something else under their name.
    """
    if not path.is_dir():
        return path
    found = path / _RESULTS
    if found.exists() and not is_plain_file(found):
        raise UsageError(f"{str(found)!r} is no plain file: {_EXPECTED}")
    return found


def _read_results(path: Path, *, with_findings: bool) -> RunResult:
    with _one_line(path):
        record = read_record(path, ("cells",), _EXPECTED)
        if "plan" not in record:
            raise UsageError(f"{str(path)!r} holds no results: {_EXPECTED}")
        result = RunResult.from_json(record if with_findings else {**record, **_NO_FINDINGS})
        result.seconds = _seconds(path.with_name(_TIMINGS))
        return result


_NO_FINDINGS: dict[str, list[Any]] = {"worst": [], "findings": [], "causes": []}


def _seconds(path: Path) -> dict[str, float]:
    """The times that lie beside results; none where they do not.

    Raises:
        ValueError: they are damaged.
    """
    if not is_plain_file(path):
        return {}
    expected = "expected the times of a run"
    times = record_of(parsed(read_text(path, expected), repr(str(path)), expected), path.name)
    try:
        times = opened(times) if "digest" in times else times  # older ones have none
        return {name: number(times, name) for name in times}
    except BrokenSealError as error:
        raise ValueError(f"{str(path)!r} cannot be trusted: {error}; remove it") from None
