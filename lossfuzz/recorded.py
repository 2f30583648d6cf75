"""Findings by name: of a report, of a campaign, or in a file of their own."""

from __future__ import annotations

import difflib
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz import stored
from lossfuzz.errors import UsageError
from lossfuzz.harness.findings import Finding
from lossfuzz.harness.losses import targets
from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.prepared import prepare
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


def recorded(name: str) -> Recorded:
    """The finding of that name.

    Args:
        name: ``FOLDER#KEY`` or ``results.json#KEY``, or a file that pytest's ``--lossfuzz-save``
            wrote and a key, whose key is an id or its first digits, four
            at the least; or the place among the worst findings; or ``cause-`` and the place among
            the causes, both counted from 1; an id alone, of the usual folder; a file; or ``-``.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    if name == "-":
        return _of_text(sys.stdin.read(), "standard input")
    place, separator, key = name.rpartition("#")
    if not separator and set(name) <= _HEXADECIMAL and not Path(name).exists():
        return _of_usual_folder(name)
    if not separator:
        return _of_file(Path(name))
    return _of_place(place, key)


def _of_place(place: str, key: str) -> Recorded:
    results = stored.record(Path(place), _EXPECTED)
    return Recorded(
        finding=_chosen(results, key, place), environment=results.get("environment") or {}
    )


def _of_usual_folder(key: str) -> Recorded:
    try:
        return _of_place(str(DEFAULT_FOLDER), key)
    except UsageError as error:
        raise UsageError(f"{error}; {_OF_A_CHECK}") from None


def _of_file(path: Path) -> Recorded:
    if path.is_dir():
        results = stored.record(path, _EXPECTED)
        raise UsageError(f"{str(path)!r} is a folder of many findings: {_listed(results, path)}")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read {str(path)!r} ({error.strerror}): {_EXPECTED}") from None
    except ValueError:
        raise UsageError(f"{str(path)!r} is no text: {_EXPECTED}") from None
    return _of_text(text, repr(str(path)), path)


def _of_text(text: str, name: str, path: Path | None = None) -> Recorded:
    try:
        record = json.loads(text)
    except ValueError:
        raise UsageError(f"{name} is no JSON: {_EXPECTED}") from None
    if isinstance(record, dict) and ("worst" in record or "checks" in record):
        if path is None:
            raise UsageError(f"{name} holds many findings: give the file's name, as FILE#ID")
        results = stored.record(path, _EXPECTED)
        raise UsageError(f"{name} holds many findings: {_listed(results, path)}")
    if not isinstance(record, dict) or "kind" not in record:
        raise UsageError(f"{name} holds no finding: {_EXPECTED}")
    return Recorded(finding=_read(record), environment={})


def _chosen(results: dict[str, Any], key: str, place: str) -> Finding:
    """The finding of a key.

    Raises:
        UsageError: there is none, or there are several.
    """
    worst: list[dict[str, Any]] = results["worst"]
    causes = [cause["finding"] for cause in results.get("causes", ())]
    for prefix, listing in (("", worst), (_CAUSE, causes)):
        number = key.removeprefix(prefix) if key.startswith(prefix) else ""
        if number.isdecimal() and 1 <= int(number) <= len(listing):
            return _read(listing[int(number) - 1])
    by_id: dict[str, dict[str, Any]] = {}
    for record in (*worst, *causes, *results.get("findings", ())):
        by_id.setdefault(_id(record), record)
    matching = [one for one in by_id if one.startswith(key.lower()) and len(key) >= _ID_DIGITS]
    if len(matching) == 1:
        return _read(by_id[matching[0]])
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
        finding = Finding.from_json(record if "logits" in record else _completed(record))
        _check(finding)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        told = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(
            f"the finding's record cannot be read here ({told}); it may be damaged or come from "
            "another version"
        ) from None
    if record.get("id", finding.id) != finding.id:
        raise UsageError(
            f"the record of finding {record['id']} does not give its row here: it comes from "
            "another version, or was changed"
        )
    return finding


def _check(finding: Finding) -> None:
    """See that a row, its target and its gradient belong together."""
    classes = len(finding.logits)
    numbers = [*finding.target, *(one for one in finding.logits if one != -math.inf)]
    sizes = {len(finding.exact_gradient), len(finding.target) or classes}
    if not all(map(math.isfinite, numbers)):
        raise ValueError("its logits or targets are not numbers")
    if classes and (sizes != {classes} or not 0 <= finding.label < classes):
        raise ValueError("its row, label, target and gradient do not belong together")
    batch = finding.batch
    if batch is None:
        return
    rows = [*batch.logits, *(row for row in batch.targets if len(row) != 1)]
    counts = {len(batch.logits), len(batch.targets), math.prod(batch.shape), finding.batch_rows}
    if len(counts) != 1 or {len(row) for row in rows} != {classes}:
        raise ValueError("the rows of its batch do not belong together")
    if not 0 <= batch.row < len(batch.logits) or batch.logits[batch.row] != finding.logits:
        raise ValueError("its row is not the one of its batch")


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
        **record,
        "logits": prepared.rows[row].astype(np.float64).tolist(),
        "target": [] if has_label_only else prepared.targets.weights[row].tolist(),
        "observed_gradient": [],
        "exact_gradient": prepared.reference.gradient[row].tolist(),
    }
