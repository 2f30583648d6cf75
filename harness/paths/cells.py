"""What is measured: a loss path in one format, one mode, on one device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.records.fields import device, one_of, text
from lossfuzz.harness.records.modes import MODES, mode_named

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lossfuzz.harness.numbers.formats import FloatFormat
    from lossfuzz.harness.paths.path import LossPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A loss path in one format, one mode, on one device.

    Attributes:
        path: the loss path.
        format: the format of the logits and of their gradient.
        mode: one of `MODES`.
        device: TensorFlow's short name of a device, such as ``CPU:0``; one of another subject
            behind that subject's name, such as ``tf-2.4.1/CPU:0``.
    """

    path: LossPath
    format: FloatFormat
    mode: str
    device: str

    def __post_init__(self) -> None:
        mode_named(self.mode)

    @property
    def subject(self) -> str:
        """The name of the subject that runs the cell; empty for this process's TensorFlow."""
        return self.device.rpartition("/")[0]

    @property
    def local_device(self) -> str:
        """The device's name in its own subject."""
        return self.device.rpartition("/")[2]

    @property
    def name(self) -> str:
        """The cell in one line."""
        return f"{self.path.name} {self.format.dtype_name} {self.mode} {self.device}"


def cell_of(record: Mapping[str, Any]) -> Cell:
    """The cell that a record names by its ``path``, ``format``, ``mode`` and ``device``.

    Nothing is imported that it names; see `path_named`.

    Raises:
        ValueError: the path, format or mode is not known here.
    """
    from lossfuzz.harness.numbers.formats import (
        format_named,  # NumPy and all paths: the modes need none
    )
    from lossfuzz.harness.paths.table import path_named

    return Cell(
        path=path_named(text(record, "path")),
        format=format_named(text(record, "format")),
        mode=one_of(record, "mode", MODES),
        device=device(record),
    )
