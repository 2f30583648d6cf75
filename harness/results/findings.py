"""The kinds of finding, their tiers, and the record of one."""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.records.fields import (
    count,
    counts,
    device,
    flag,
    inner,
    number,
    numbers,
    one_of,
    text,
)
from lossfuzz.harness.records.json_numbers import json_number
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.records.seal import digest_of
from lossfuzz.harness.results.kinds import DEFECT, INACCURACY, KINDS
from lossfuzz.harness.results.row_batch import RowBatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row on which one cell shows one kind of finding; replayable from its own record.

    Attributes:
        kind: one of `KINDS`.
        tier: `DEFECT` or `INACCURACY`.
        loss: name of the loss.
        path: name of the loss path.
        format: dtype name of the logits.
        mode: of the cell.
        device: of the cell.
        logits: the row's logits, exactly.
        label: index of the true class, or of the largest target.
        target: shape ``[classes]``; empty where the label says it all.
        batch_rows: rows of the batch that it takes to show it: those that a reduced loss took in;
            of a loss of each row 1, unless its row does not show it alone.
        loss_dtype: dtype name of the returned loss.
        observed_loss: what the path returned.
        exact_loss: the exact loss, to float64.
        documented_loss: the exact value of the formula that the path documents.
        by_design: whether the result agrees with that formula, and so only the formula is wrong.
        observed_gradient: shape ``[classes]``.
        exact_gradient: shape ``[classes]``, to float64.
        ulp_error: of what the kind is about: the loss's, in ulps of the loss's format, or the
            largest of the gradient's components, in ulps of the logits' format; of a kind that
            is about both the larger one.
        mixed_error: the same in units of ``u * max(1, |exact|)``.
        bound: the defect bound, in the same units.
        margin: the rest's log-sum-exp minus the label's logit.
        recipe: of the batch that held the row.
        row: its index there.
        message: the error's first line, for a refusal, crash or timeout.
        repeated: whether all rows of that batch were this one.
        batch: the different rows that have to stand together; None of copies of one row, and
            where only the recipe tells them.
        unconfirmed: whether its script was run again and did not show it.
        upstream: the gradients that come from above the batch's losses, or from above a reduced
            one; empty for 1. Both gradients are those for them.
        further: of a saturation, logits of a row with the same loss and a larger exact one.
        further_exact_loss: that row's.
    """

    kind: str
    tier: str
    path: str
    format: str
    mode: str
    device: str
    logits: tuple[float, ...]
    label: int
    loss_dtype: str
    observed_loss: float
    exact_loss: float
    observed_gradient: tuple[float, ...]
    exact_gradient: tuple[float, ...]
    ulp_error: float
    mixed_error: float
    bound: float
    margin: float
    recipe: dict[str, Any]
    row: int
    message: str = ""
    loss: str = "softmax cross-entropy with an integer label"
    target: tuple[float, ...] = ()
    batch_rows: int = 1
    documented_loss: float = math.nan
    by_design: bool = False
    repeated: bool = False
    batch: RowBatch | None = None
    unconfirmed: bool = False
    upstream: tuple[float, ...] = ()
    further: tuple[float, ...] = ()
    further_exact_loss: float = math.nan

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}; known kinds: {', '.join(KINDS)}")
        if self.tier not in (DEFECT, INACCURACY):
            raise ValueError(f"unknown tier {self.tier!r}; expected {DEFECT} or {INACCURACY}")

    @property
    def factor(self) -> float:
        """The gradient that comes from above the row's own loss."""
        if not self.upstream:
            return 1.0
        return self.upstream[self.place if len(self.upstream) > 1 else 0]

    @property
    def cell_name(self) -> str:
        """The name of the cell, as `Cell.name` gives it."""
        return f"{self.path} {self.format} {self.mode} {self.device}"

    @property
    def id(self) -> str:
        """Eight hexadecimal digits of a hash of what is replayed: cell, kind, tier and rows.

        The same on every machine; what was observed does not take part.
        """
        told = (self.path, self.format, self.mode, self.device, self.kind, self.tier, self.loss)
        numbers = (*self.logits, *self.target)
        sizes = (len(self.logits), self.label, self.batch_rows, int(self.repeated))
        packed = struct.pack(f"<4q{len(numbers)}d", *sizes, *numbers)
        if self.batch is not None:
            rows = [*self.batch.logits, *self.batch.targets, self.batch.shape, (self.batch.row,)]
            packed += repr(rows).encode()
        return hashlib.sha256("\n".join(told).encode() + b"\0" + packed).hexdigest()[:8]

    @property
    def place(self) -> int:
        """The row's index in the batch that its script builds."""
        if self.batch is not None:
            return self.batch.row
        return self.row if self.batch_rows > 1 else 0

    @property
    def has_row(self) -> bool:
        """Whether the row itself is known, and not only its recipe and number."""
        return bool(self.logits)

    @property
    def severity(self) -> tuple[bool, bool, float, int, float]:
        """Order of findings of one kind: worst last; of equals, the one that is easier to read."""
        return (
            self.tier == DEFECT,
            not self.by_design,
            min(self.mixed_error, 1e300),
            -len(self.logits),
            -sum(abs(value) for value in self.logits if abs(value) < float("inf")),
        )

    def to_json(self, *, with_arrays: bool = True) -> dict[str, Any]:
        """The finding as JSON's types; infinities and NaN as the strings that float() reads.

        It tells its `id` as well, which a record without its row could not be asked for, and a
        checksum.

        Args:
            with_arrays: whether to write the row itself; without, recipe and row number give it.
        """
        record = {"id": self.id, **asdict(replace(self, batch=None))}
        del record["batch"]
        if not self.unconfirmed:
            del record["unconfirmed"]
        if self.batch is not None and with_arrays:
            record["batch"] = self.batch.to_json()
        if not self.upstream:
            del record["upstream"]
        if not self.further:
            del record["further"], record["further_exact_loss"]
        else:
            record["further"] = [json_number(value) for value in self.further]
        for name, value in record.items():
            if isinstance(value, float):
                record[name] = json_number(value)
        for name in _ARRAYS:
            values = record.pop(name)
            if with_arrays:
                record[name] = [json_number(value) for value in values]
        return {**record, CHECKSUM: _checksum(record)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Finding:
        """The finding that `to_json` wrote; without its arrays it has no row.

        Raises:
            ValueError: a field is missing, unknown or of another kind; the message names it.
        """
        if CHECKSUM in record and record[CHECKSUM] != _checksum(record):
            raise ValueError(
                "the finding's record does not match its checksum: it was damaged or changed; one "
                "that was written by hand has no 'id' and no 'checksum'"
            )
        known = {one.name for one in fields(cls)}
        for name in record:
            if name not in known and name not in _ADDED:
                raise ValueError(f"a finding has no field {name[:40]!r}")
        read: dict[str, Any] = {
            name: reader(record, name)
            for name, reader in _READERS.items()
            if name in record or name not in _OPTIONAL
        }
        for name in ("format", "loss_dtype"):
            if read[name]:  # a crash returned no loss
                format_named(read[name])
        if "batch" in record:
            read["batch"] = RowBatch.from_json(inner(record, "batch"))
        found = cls(**{**dict.fromkeys(_ARRAYS, ()), **read})
        _check_sizes(found)
        _check_logits(found)
        return found


CHECKSUM = "checksum"
"""The field of a finding's record that holds a digest of the others."""


def _checksum(record: Mapping[str, Any]) -> str:
    return digest_of({name: one for name, one in record.items() if name != CHECKSUM})[:16]


def _check_logits(finding: Finding) -> None:
    """See that all logits are numbers of the finding's format, as those of any batch are.

    Raises:
        ValueError: one is none, and would be rounded to another row.
    """
    fmt = format_named(finding.format)
    for row in (finding.logits, finding.further, *(finding.batch.logits if finding.batch else ())):
        values = np.asarray(row, np.float64)
        strange = values[fmt.cast(values).astype(np.float64) != values]
        if strange.size:
            raise ValueError(f"its logit {float(strange[0])!r} is no number of {fmt.dtype_name}")


def _check_sizes(finding: Finding) -> None:
    """See that a row, its target and its gradient belong together.

    Raises:
        ValueError: they do not.
    """
    classes = len(finding.logits)
    rows = [finding.logits, finding.target, finding.further, finding.upstream]
    if finding.batch is not None:
        rows += [*finding.batch.logits, *finding.batch.targets]
    if not all(math.isfinite(one) or one == -math.inf for row in rows for one in row):
        raise ValueError("its logits or targets are not numbers")
    for array in (finding.target, finding.observed_gradient, finding.exact_gradient):
        if array and len(array) != classes:
            raise ValueError("its row, target and gradient do not have the same classes")
    if classes and finding.label >= classes:
        raise ValueError(f"its label is {finding.label}, and its row has {classes} classes")
    if finding.further and len(finding.further) != classes:
        raise ValueError("its further row does not have the classes of its row")
    if len(finding.upstream) not in (0, 1, finding.batch_rows):
        raise ValueError("its upstream gradients do not belong to its rows")
    if finding.batch is not None:
        _check_batch(finding, finding.batch)


def _check_batch(finding: Finding, batch: RowBatch) -> None:
    classes = len(finding.logits)
    rows = [*batch.logits, *(row for row in batch.targets if len(row) != 1)]
    counts = {len(batch.logits), len(batch.targets), math.prod(batch.shape), finding.batch_rows}
    if len(counts) != 1 or {len(row) for row in rows} != {classes}:
        raise ValueError("the rows of its batch do not belong together")
    if batch.row >= len(batch.logits) or batch.logits[batch.row] != finding.logits:
        raise ValueError("its row is not the one of its batch")


def counts_by_kind(record: Mapping[str, Any], name: str) -> dict[str, int]:
    """How many rows show each of some kinds, in a field of a record.

    Raises:
        ValueError: it is not that, or names a kind that is not known here.
    """
    found = counts(record, name)
    for kind in found:
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind[:40]!r}; known kinds: {', '.join(KINDS)}")
    return found


_ARRAYS = ("logits", "target", "observed_gradient", "exact_gradient")
_NUMBERS = (
    "observed_loss",
    "exact_loss",
    "documented_loss",
    "ulp_error",
    "mixed_error",
    "bound",
    "margin",
)


def _mode(record: Mapping[str, Any], name: str) -> str:
    return one_of(record, name, MODES)


_READERS: dict[str, Callable[[Mapping[str, Any], str], Any]] = {
    **dict.fromkeys(("kind", "tier", "path", "format", "loss_dtype", "message", "loss"), text),
    **dict.fromkeys(("label", "row", "batch_rows"), count),
    **dict.fromkeys(("by_design", "repeated", "unconfirmed"), flag),
    **dict.fromkeys((*_NUMBERS, "further_exact_loss"), number),
    **dict.fromkeys((*_ARRAYS, "further", "upstream"), numbers),
    "mode": _mode,
    "device": device,
    "recipe": inner,
}
_OPTIONAL = frozenset(
    {
        *("message", "loss", "batch_rows", "by_design", "repeated", "unconfirmed"),
        *("documented_loss", "further", "further_exact_loss", "upstream", *_ARRAYS),
    }
)
"""Fields that a record may lack: those of later versions, and a row that its recipe gives."""

_ADDED = ("id", CHECKSUM)
"""What a record tells beside the fields."""
