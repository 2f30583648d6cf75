"""A run's figures as summaries that TensorBoard shows, written by TensorFlow."""

from __future__ import annotations

import contextlib
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.results.cliffs import first_defect
from lossfuzz.harness.results.histogram import INFINITE_BIN, upper_edge
from lossfuzz.harness.results.kinds import GRADIENT_COLLAPSE
from lossfuzz.reports import tables
from lossfuzz.reports.advice import paragraphs
from lossfuzz.reports.markdown_text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from lossfuzz.harness.results.histogram import Histogram
    from lossfuzz.harness.results.run import CellResult, RunResult

LOWEST = -11
"""The bucket from here to -10 holds all errors below ``2**-10`` ulp, and those that are none."""

_HISTOGRAMS = {"loss_ulp": "log2 ulp of the loss", "gradient_ulp": "log2 ulp of the gradient"}


def write(result: RunResult, folder: Path, tf: Any) -> list[str]:
    """Write one TensorBoard run for each format, mode and device, and one for the verdict.

    A path's name is the last part of its tags, so that its runs lie side by side. The step is the
    number of rows that were measured: of a running campaign, later calls add later steps.

    Args:
        result: of a run or campaign.
        folder: made if it is missing; what other calls wrote there stays.
        tf: TensorFlow; TensorBoard itself is needed to look at the summaries only.

    Returns:
        The names of TensorBoard's runs.

    Raises:
        OSError: nothing can be written there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    measured: dict[str, list[CellResult]] = {}
    for one in result.cells:
        if one.unavailable is None and one.summary.rows:
            measured.setdefault(run_name(one), []).append(one)
    names = ["verdict", *measured]
    with tf.device("CPU:0"):
        with _writing(tf, folder / names[0]):
            rows = sum(one.summary.rows for one in result.cells)
            for tag, text in (("verdict", _verdict(result)), ("advice", _advice(result))):
                _put(tf, tag, tf.constant(text, tf.string), "text", step=rows)
        for name, cells in measured.items():
            with _writing(tf, folder / name):
                for one in cells:
                    _write_cell(tf, one)
    return names


def _verdict(result: RunResult) -> str:
    lines = [tables.verdict(result), result.progress]
    return "\n\n".join(escaped(line) for line in lines if line)


def _advice(result: RunResult) -> str:
    told = paragraphs(result.cells).items()
    return "\n\n".join(f"**{escaped(loss)}**: {escaped(text)}" for loss, text in told)


def run_name(result: CellResult) -> str:
    """TensorBoard's name for the run that holds a cell; safe as a folder's name."""
    cell = result.cell
    name = f"{cell.format.dtype_name} {cell.mode} {cell.device}"
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", name)


def buckets(histogram: Histogram) -> NDArray[np.float64]:
    """The finite errors as TensorBoard's buckets.

    Returns:
        Shape ``[k, 3]``: log2 of the lower and upper edge, and the exact count. Edges meet, four
        to the octave, up to the last occupied bucket. Infinities are not among them.
    """
    occupied = np.flatnonzero(histogram.counts[:INFINITE_BIN])
    if not occupied.size:
        return np.zeros((0, 3))
    places = np.maximum((occupied - 1) // _BINS, _LOWEST_PLACE)
    counts = np.zeros(int(places.max()) - _LOWEST_PLACE + 1)
    np.add.at(counts, places - _LOWEST_PLACE, histogram.counts[occupied])
    edges = [LOWEST, *(_edge(_LOWEST_PLACE + 1 + place) for place in range(len(counts)))]
    return np.stack([edges[:-1], edges[1:], counts], axis=1)


_BINS = 32 // 4
"""Of a histogram in a bucket; both begin where octaves begin, so no bin lies in two buckets."""


def _edge(place: int) -> float:
    """log2 of the error at which the bucket of a place begins."""
    return math.log2(upper_edge(place * _BINS))


_LOWEST_PLACE = next(place for place in range(1, 1000) if _edge(place + 1) > LOWEST + 1) - 1
"""Of the bucket that holds all that is smaller too; it ends at ``2**-10``."""


def _write_cell(tf: Any, result: CellResult) -> None:
    path, rows = result.cell.path.name, result.summary.rows
    for measure, told in _HISTOGRAMS.items():
        found = buckets(getattr(result.summary, measure))
        if len(found):
            tensor = tf.constant(found, tf.float64)
            _put(tf, f"{told}/{path}", tensor, "histograms", step=rows)
    for told, value in scalars(result).items():
        _put(tf, f"{told}/{path}", tf.constant(value, tf.float32), "scalars", step=rows)


def scalars(result: CellResult) -> dict[str, float]:
    """What is told of a cell in a figure each; only what there is."""
    summary = result.summary
    found = {
        f"share of infinite errors of the {name}": int(one.counts[INFINITE_BIN]) / one.total
        for name, one in (("loss", summary.loss_ulp), ("gradient", summary.gradient_ulp))
        if one.total
    }
    if summary.judged:
        found["share of rows with a defect"] = worst_share(result)
    for name in ("loss", "gradient"):
        if f"{name}_mixed" in summary.largest:
            found[f"largest error of the {name} in u"] = summary.largest[f"{name}_mixed"]
    vanishing = first_defect(result.cliffs, GRADIENT_COLLAPSE)
    if vanishing is not None:
        found["margin where the gradient vanishes"] = vanishing.margin
    return found


def worst_share(result: CellResult) -> float:
    """The share of the judged rows that show the commonest kind of defect."""
    return max((result.summary.rate(kind) for kind in result.summary.defects), default=0.0)


@contextlib.contextmanager
def _writing(tf: Any, folder: Path) -> Iterator[None]:
    try:
        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default():
            yield
        writer.close()
    except tf.errors.OpError as error:
        raise OSError(0, error.message.partition("\n")[0]) from None


def _put(tf: Any, tag: str, tensor: Any, plugin: str, *, step: int) -> None:
    """A summary in a plugin's own form; its content is a message of version 0, which is empty.

    TensorFlow's `tf.summary.histogram` would count values anew, and needs TensorBoard.
    """
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = plugin
    metadata.data_class = _DATA_CLASSES[plugin]
    tf.summary.write(tag, tensor, step=step, metadata=metadata)


_DATA_CLASSES = {"scalars": 1, "text": 2, "histograms": 2}
"""Of ``summary.proto``: 1 is a series of scalars, 2 one of tensors."""
