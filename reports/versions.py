"""Subjects side by side: what each path does on each TensorFlow of a campaign."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.results.kinds import GRADIENT_COLLAPSE
from lossfuzz.reports.cliffs import NONE, begins_text
from lossfuzz.reports.tables import verdict_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.harness.results.run import CellResult

OWN = "here"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """One path in one format and in modes that agree, on every subject.

    Attributes:
        path: its name.
        format: dtype name of the logits.
        modes: that have the same texts.
        texts: one for each subject: verdict, route, and where the gradient is lost.
        differs: whether two subjects that ran it have other texts.
    """

    path: str
    format: str
    modes: str
    texts: tuple[str, ...]
    differs: bool


def subjects_of(results: Sequence[CellResult]) -> list[str]:
    """The subjects that a campaign ran on; `OWN` is the interpreter of lossfuzz itself."""
    return list(dict.fromkeys(result.cell.subject or OWN for result in results))


def headings(subjects: Sequence[str], environment: dict[str, Any]) -> list[str]:
    """The subjects with what is installed there."""
    own = environment.get("versions", {})
    others = environment.get("subjects", {})
    found = []
    for subject in subjects:
        versions = own if subject == OWN else others.get(subject, {}).get("versions", {})
        told = [f"{name} {versions[name]}" for name in _TOLD if name in versions]
        found.append("\n".join([subject, *told]))
    return found


_TOLD = ("python", "tensorflow", "tf-nightly", "keras", "tf_keras")


def version_rows(results: Sequence[CellResult]) -> list[VersionRow]:
    """A row for each path, format and group of modes, paths in their order."""
    subjects = subjects_of(results)
    texts: dict[tuple[str, str, str, str], dict[str, str]] = {}
    for result in results:
        cell = result.cell
        key = (cell.path.name, cell.format.dtype_name, cell.local_device, cell.mode)
        texts.setdefault(key, {})[cell.subject or OWN] = _text(result)
    rows: list[VersionRow] = []
    last: tuple[str, str, str] | None = None
    for (path, fmt, device, mode), found in texts.items():
        row_texts = tuple(found.get(subject, "-") for subject in subjects)
        same = last == (path, fmt, device) and rows[-1].texts == row_texts
        modes = f"{rows[-1].modes} {mode}" if same else mode
        if same:
            rows.pop()
        last = (path, fmt, device)
        ran = {text for text in row_texts if not text.startswith(("-", "unavailable"))}
        rows.append(
            VersionRow(path=path, format=fmt, modes=modes, texts=row_texts, differs=len(ran) > 1)
        )
    return rows


def _text(result: CellResult) -> str:
    if result.unavailable is not None:
        return "unavailable"
    margin = begins_text(result.cliffs, GRADIENT_COLLAPSE, result.cell.format)
    lost = f", lost from {margin}" if margin != NONE else ""
    return f"{verdict_of(result)}: {result.route.name if result.route else 'unknown'}{lost}"
