"""Campaigns and results rewritten by the product's own hand: what they say is odd, not their form.

Whatever the product writes beside its records, such as checksums, is right in what is made here.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

from lossfuzz.campaign.store import FILE, Store

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
    connection = sqlite3.connect(place / FILE)
    names = [name for (name,) in connection.execute("SELECT name FROM meta")]
    connection.close()
    store = Store.open(place)
    known = {name: store.fact(name) for name in names}
    results, left_out, small = list(store.results()), store.left_out(), store.reduced()
    store.close()
    for path in place.glob(f"{FILE}*"):
        path.unlink()
    new = Store.create(place, plan(known.pop("plan")))
    for name, value in {**known, **(facts or {})}.items():
        new.keep(name, value)
    for task, found in results:
        written = number(task)
        if written is not None:
            new.finish(written, result(json.loads(json.dumps(found))))
            if twice:
                new.finish(written + 1, found)
    for task, cells in left_out.items():
        for cell, (recipe, finding) in cells.items():
            new.leave_out(task, cell, recipe, finding)
    for key, finding in small.items():
        new.keep_reduced(key, reduced(finding))
    new.close()
    log = place / f"{FILE}-wal"
    if log.exists():
        connection = sqlite3.connect(place / FILE)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()


def run_results(folder: Path, change: Change) -> None:
    """Write a run's results.json again with changes."""
    path = folder / "results.json"
    changed = change(json.loads(path.read_text(encoding="utf-8")))
    path.write_text(json.dumps(changed, sort_keys=True), encoding="utf-8")


def with_folder(work: Path, source: str, folder: str) -> Path:
    """Another copy of a campaign or run."""
    shutil.copytree(work / source, work / folder)
    return work / folder
