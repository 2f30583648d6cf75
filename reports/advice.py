"""What the figures mean for a user: which path to call, which to avoid, and what really ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.results.cliffs import first_defect
from lossfuzz.harness.results.kinds import DEFECT, GRADIENT_COLLAPSE
from lossfuzz.reports.cliffs import margin_text
from lossfuzz.reports.tables import ended, share, verdict_of
from lossfuzz.reports.words import amount, listing

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lossfuzz.harness.results.run import CellResult


_MOST_NAMES = 7


def by_loss(results: Iterable[CellResult]) -> dict[str, list[CellResult]]:
    """The cells of each loss, in their order."""
    found: dict[str, list[CellResult]] = {}
    for result in results:
        found.setdefault(result.cell.path.loss.name, []).append(result)
    return found


def paragraphs(results: Iterable[CellResult]) -> dict[str, str]:
    """A paragraph of advice for each loss."""
    return {loss: advice(cells) for loss, cells in by_loss(results).items()}


def recommended(results: Iterable[CellResult]) -> list[str]:
    """The paths without a defect wherever they ran."""
    return [
        path
        for path, cells in _by_path(results).items()
        if not any(verdict_of(one) == "defective" for one in cells)
    ]


def _by_path(results: Iterable[CellResult]) -> dict[str, list[CellResult]]:
    """The measured cells of each path."""
    found: dict[str, list[CellResult]] = {}
    for result in results:
        if verdict_of(result) not in ("unavailable", "not judged"):
            found.setdefault(result.cell.path.name, []).append(result)
    return found


def advice(results: Sequence[CellResult]) -> str:
    """A paragraph: the paths without a defect, the partly sound ones, and those to avoid."""
    by_path = _by_path(results)
    sound: list[str] = []
    partly: dict[str, list[str]] = {}
    broken: dict[str, list[str]] = {}
    for path, cells in by_path.items():
        defective = [one for one in cells if verdict_of(one) == "defective"]
        if not defective:
            sound.append(path)
        elif len(defective) < len(cells):
            partly.setdefault(_where(defective), []).append(path)
        else:
            broken.setdefault(_worst_figure(defective), []).append(path)
    parts = []
    if sound:
        rows = sum(one.summary.judged for path in sound for one in by_path[path])
        parts.append(f"Use {_joined(sound)}: no defect in {amount(rows, 'judged row')}.")
    if partly:
        parts.append(f"Mind where they run: {_grouped(partly)}.")
    if broken:
        parts.append(f"Avoid {_grouped(broken)}.")
    return " ".join(parts) or "Nothing was judged."


def _grouped(paths: dict[str, list[str]]) -> str:
    return "; ".join(f"{_joined(names)} ({figure})" for figure, names in paths.items())


def _where(defective: Sequence[CellResult]) -> str:
    """In which formats and modes the defects are, modes joined per format."""
    modes: dict[str, list[str]] = {}
    for one in defective:
        found = modes.setdefault(one.cell.format.dtype_name, [])
        if one.cell.mode not in found:
            found.append(one.cell.mode)
    formats: dict[str, list[str]] = {}
    for fmt, found in modes.items():
        formats.setdefault(_joined(found), []).append(fmt)
    return "defects in " + ", ".join(
        f"{found} {_joined(names)}" for found, names in formats.items()
    )


def _worst_figure(defective: Sequence[CellResult]) -> str:
    """The figure that says most: where the gradient is lost, else the commonest defect."""
    designed = ", as documented" if all(one.summary.designed for one in defective) else ""
    lost = [(first_defect(one.cliffs, GRADIENT_COLLAPSE), one.cell.format) for one in defective]
    margins = [(cliff.margin, margin_text(cliff, fmt)) for cliff, fmt in lost if cliff is not None]
    if margins:
        return f"gradient lost from margin {min(margins)[1]} on{designed}"
    ends = list(dict.fromkeys(filter(None, map(ended, defective))))
    if ends:
        return _joined(ends)
    kind, rate = max(
        ((kind, one.summary.rate(kind)) for one in defective for kind in one.summary.defects),
        key=lambda pair: pair[1],
        default=("", 0.0),
    )
    if not rate:  # no counted row shows it, only those of a search
        found = dict.fromkeys(
            kind for one in defective for kind, tier in one.findings if tier == DEFECT
        )
        return _joined(list(found)) + designed
    return f"{kind} in up to {share(rate)} of rows{designed}"


def _joined(names: Sequence[str]) -> str:
    most = _MOST_NAMES - 1 if len(names) > _MOST_NAMES else 0
    return listing(names, most=most, last="and")
