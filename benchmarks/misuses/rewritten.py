"""Campaigns and results rewritten by the product's own hand: what they say is odd, not their form.

Whatever the product writes beside its records, such as checksums, is right in what is made here.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

from lossfuzz.campaign.store import Store, digest_of
from lossfuzz.campaign.store_file import FILE
from lossfuzz.harness.records.seal import sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    Change = Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def campaign(
    work: Path,
    *,
    folder: str = "night",
    plan: Change = _same,
    result: Change = _same,
    number: Change = _same,
    reduced: Change = _same,
    facts: Mapping[str, Any] | None = None,
    twice: bool = False,
) -> None:
    """Write a campaign's store again with changes.

    Args:
        work: where its folder is.
        folder: its name.
        plan: from the plan to what is written instead.
        result: from a task's result to what is written instead.
        number: from a task's number to what is written instead; None leaves the task out.
        reduced: from a finding that was made small to what is written instead.
        facts: that are written instead of the store's or beside them.
        twice: whether every task is written under the next number, too.
    """
    place = work / folder
    with contextlib.closing(sqlite3.connect(place / FILE)) as connection:
        rows = connection.execute("SELECT key FROM records WHERE kind = 'meta'").fetchall()
    with contextlib.closing(Store.open(place)) as store:
        known = {name: store.fact(name) for (name,) in rows}
        results, left_out, small = list(store.results()), store.left_out(), store.reduced()
    if any(number(task) is None for task, _ in results):
        known.pop("complete", None)  # as one that was interrupted
    for path in place.glob(f"{FILE}*"):
        path.unlink()
    with contextlib.closing(Store.create(place, plan(known.pop("plan")))) as new:
        for name, value in {**known, **(facts or {})}.items():
            new.keep(name, value)
        for task, found in results:
            written = number(task)
            if written is not None:
                new.finish(written, without_checksums(result(json.loads(json.dumps(found)))))
                if twice:
                    new.finish(written + 1, found)
        for task, cells in left_out.items():
            for cell, (recipe, finding) in cells.items():
                new.leave_out(task, cell, recipe, finding)
        for key, finding in small.items():
            new.keep_reduced(key, without_checksums(reduced(finding)))


def without_checksums(value: Any) -> Any:
    """A record whose findings have no checksum, as one that was written by hand."""
    if isinstance(value, dict):
        left_out = {"id", "checksum"} if "kind" in value else ()
        return {k: without_checksums(one) for k, one in value.items() if k not in left_out}
    return [without_checksums(one) for one in value] if isinstance(value, list) else value


def tasks_of(folder: Path, content: bytes) -> None:
    """Put the same packed content in the place of every task's, with digests that match it."""
    with contextlib.closing(Store.open(folder)) as store, store._writes():  # noqa: SLF001
        for number in store.finished():
            key = str(number)
            digest = digest_of("task", key, content)
            store._connection.execute(  # noqa: SLF001 - no door of the product's writes such
                "UPDATE records SET content = ?, digest = ? WHERE kind = 'task' AND key = ?",
                (content, digest, key),
            )
            store._note("task", key, digest)  # noqa: SLF001 - the same


def run_results(folder: Path, change: Change) -> None:
    """Write a run's results.json again with changes."""
    path = folder / "results.json"
    changed = without_checksums(change(json.loads(path.read_text(encoding="utf-8"))))
    record = sealed(changed) if isinstance(changed, dict) else changed
    path.write_text(json.dumps(record, sort_keys=True), encoding="utf-8")


def with_folder(work: Path, source: str, folder: str) -> Path:
    """Another copy of a campaign or run."""
    shutil.copytree(work / source, work / folder)
    return work / folder
