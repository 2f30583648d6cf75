"""Findings by name: of a report, of a campaign, or in a file of their own."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz import stored
from lossfuzz.errors import UsageError
from lossfuzz.harness.losses import targets
from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.results.findings import CHECKSUM, Finding
from lossfuzz.record import parsed, read_text
from lossfuzz.reports.words import amount
from lossfuzz.strategies.recipes import Recipe, expand

if TYPE_CHECKING:
    from collections.abc import Mapping

_OF_A_CHECK = (
    "a finding of lossfuzz.check lies in no folder: write json.dumps(defect.finding.to_json()) of "
    "the LossDefect that was raised to a file, then 'lossfuzz replay FILE'; pytest's "
    "--lossfuzz-save FILE keeps those of all tests, then 'lossfuzz replay FILE#ID'"
)

DEFAULT_FOLDER = Path("lossfuzz-report")

_EXPECTED = (
    "expected FOLDER#ID or FOLDER#NUMBER, as reports print them, FILE#ID of what pytest's "
    "--lossfuzz-save wrote, a file with one finding's JSON record, or - for standard input"
)
_HEXADECIMAL = set("0123456789abcdef")
_CAUSE = "cause-"
_SHOWN = 6
_ID_DIGITS = 4
"""The fewest of an id; a shorter key is a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A finding, and what it was found with.

    Attributes:
        finding: with its row.
        environment: versions and devices, as `RunResult.environment`; empty if it is not known.
    """

    finding: Finding
    environment: Mapping[str, Any]

    @property
    def versions(self) -> dict[str, str]:
        """Of the packages that the finding was made with; of its own subject's, if it has one."""
        subject = self.finding.device.rpartition("/")[0]
        place = self.environment.get("subjects", {}).get(subject, self.environment)
        return dict(place.get("versions", {}))


Allow = Callable[[str, "Path | None"], None]
"""Called with the name of a finding's path, and the folder of its campaign if it has one, before
anything is computed; it raises what is wrong with running that path."""


def _allow_nothing(*_: Any) -> None:
    """Nothing is imported, so there is nothing to be seen to."""


def recorded(name: str, allow: Allow = _allow_nothing) -> Recorded:
    """The finding of that name.

    Args:
        name: ``FOLDER#KEY`` or ``results.json#KEY``, or a file that pytest's ``--lossfuzz-save``
            wrote and a key, whose key is an id or its first digits, four
            at the least; or the place among the worst findings; or ``cause-`` and the place among
            the causes, both counted from 1; an id alone, of the usual folder; a file; or ``-``.
        allow: see there; by default nothing is imported.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    found = _found(name)
    path = found.record.get("path")
    if isinstance(path, str):
        allow(path, found.campaign)
    return Recorded(finding=_read(found.record), environment=found.environment)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A finding's record, of which nothing has been computed."""

    record: dict[str, Any]
    environment: Mapping[str, Any] = field(default_factory=dict)
    campaign: Path | None = None


def _found(name: str) -> _Found:
    if name == "-":
        return _of_text(_standard_input(), "standard input")
    place, separator, key = name.rpartition("#")
    if not separator and set(name) <= _HEXADECIMAL and not Path(name).exists():
        return _of_usual_folder(name)
    if not separator or (not Path(place).exists() and Path(name).exists()):
        return _of_file(Path(name))
    return _of_place(place, key)


def _standard_input() -> str:
    try:
        text = sys.stdin.read(_LONGEST + 1)
    except (ValueError, AttributeError, OSError):  # it is closed, or no text
        raise UsageError(f"standard input cannot be read as text: {_EXPECTED}") from None
    if len(text) > _LONGEST:
        raise UsageError(f"standard input has more than {_LONGEST >> 20} MiB: {_EXPECTED}")
    return text


_LONGEST = 1 << 27
"""Characters of a finding on standard input; a row of a million classes has some 2**26."""


def _of_place(place: str, key: str) -> _Found:
    path = Path(place)
    results = stored.record(path, _EXPECTED)
    return _Found(
        record=_chosen(results, key, place),
        environment=results.get("environment") or {},
        campaign=stored.campaign_in(path),
    )


def _of_usual_folder(key: str) -> _Found:
    try:
        return _of_place(str(DEFAULT_FOLDER), key)
    except UsageError as error:
        raise UsageError(f"{error}; {_OF_A_CHECK}") from None


def _of_file(path: Path) -> _Found:
    if path.is_dir():
        results = stored.record(path, _EXPECTED)
        raise UsageError(f"{str(path)!r} is a folder of many findings: {_listed(results, path)}")
    try:
        text = read_text(path, _EXPECTED)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return _of_text(text, repr(str(path)), path)


def _of_text(text: str, name: str, path: Path | None = None) -> _Found:
    try:
        record = parsed(text, name, _EXPECTED)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if isinstance(record, dict) and ("worst" in record or "checks" in record):
        if path is None:
            raise UsageError(f"{name} holds many findings: give the file's name, as FILE#ID")
        results = stored.record(path, _EXPECTED)
        raise UsageError(f"{name} holds many findings: {_listed(results, path)}")
    if not isinstance(record, dict) or "kind" not in record:
        raise UsageError(f"{name} holds no finding: {_EXPECTED}")
    return _Found(record=record)


def _chosen(results: dict[str, Any], key: str, place: str) -> dict[str, Any]:
    """The record of the finding of a key.

    Raises:
        UsageError: there is none, or there are several.
    """
    worst: list[dict[str, Any]] = results["worst"]
    causes = [cause["finding"] for cause in results.get("causes", ())]
    for prefix, listing in (("", worst), (_CAUSE, causes)):
        number = key.removeprefix(prefix) if key.startswith(prefix) else ""
        if number.isdecimal() and 1 <= int(number) <= len(listing):
            return listing[int(number) - 1]
    by_id: dict[str, dict[str, Any]] = {}
    for record in (*worst, *causes, *results.get("findings", ())):
        by_id.setdefault(_id(record), record)
    matching = [one for one in by_id if one.startswith(key.lower()) and len(key) >= _ID_DIGITS]
    if len(matching) == 1:
        return by_id[matching[0]]
    if matching:
        raise UsageError(
            f"{len(matching)} findings of {place!r} begin with {key!r}: {', '.join(matching)}"
        )
    near = difflib.get_close_matches(key.lower(), by_id, _SHOWN, 0.5)
    told = f"; near ones: {', '.join(near)}" if near else ""
    raise UsageError(
        f"no finding {key!r} in {place!r}, which has {len(by_id)}, {len(worst)} of them numbered, "
        f"and {amount(len(causes), 'cause')}{told}: {_listed(results, Path(place))}"
    )


def _listed(results: dict[str, Any], place: Path) -> str:
    """How to name a few of the findings that there are."""
    worst = results["worst"]
    if not worst:
        return "it has no finding"
    named = [
        f"{place}#{_id(record)} ({record['kind']} of {record['path']})"
        for record in worst[:_SHOWN]
    ]
    rest = f", and {len(worst) - _SHOWN} more" if len(worst) > _SHOWN else ""
    return "name one, such as " + ", ".join(named) + rest


def _id(record: dict[str, Any]) -> str:
    """The id in a record, or, of one that was written without, its finding's."""
    return str(record["id"]) if "id" in record else _read(record).id


def _read(record: dict[str, Any]) -> Finding:
    """A finding of its record; a row that the record leaves out is made again from its recipe.

    Raises:
        UsageError: the record is damaged, or its recipe gives another row here.
    """
    try:
        Finding.from_json(record)  # with or without its row, it must be what was written
        finding = Finding.from_json(record if "logits" in record else _completed(record))
    except (ValueError, LookupError, TypeError, AttributeError, MemoryError) as error:
        raise UsageError(
            f"the finding's record cannot be read here ({error}); it may be damaged or come from "
            "another version"
        ) from None
    if record.get("id", finding.id) != finding.id:
        raise UsageError(
            f"the record of finding {record['id']} does not give its row here: it comes from "
            "another version, or was changed"
        )
    return finding


def _completed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with row and exact values; what was observed of its gradient is lost."""
    loss = loss_named(record["loss"])
    batch = expand(Recipe.from_json(record["recipe"]))
    prepared = prepare(
        batch.logits, batch.labels, record["recipe"], loss, whole=":" not in record["path"]
    )
    row, label = record["row"], record["label"]
    if int(prepared.row_labels[row]) != label:
        raise ValueError(f"row {row} of its recipe has another label than {label}")
    has_label_only = loss.target in (targets.INDEX, targets.NONE)  # as `origin_of` has it
    return {
        **{name: one for name, one in record.items() if name != CHECKSUM},
        "logits": prepared.rows[row].astype(np.float64).tolist(),
        "target": [] if has_label_only else prepared.targets.weights[row].tolist(),
        "observed_gradient": [],
        "exact_gradient": prepared.reference.gradient[row].tolist(),
    }
