"""The table of operations; each module fills its part of it."""

from lossfuzz.harness.programs.operations import (
    control,
    elementwise,
    indexing,
    integers,
    lists,
    products,
    reductions,
    segments,
    selecting,
    sequences,
    shapes,
    slopes,
    softmaxes,
)
from lossfuzz.harness.programs.operations.entry import Call, Entry, add_entry, is_known, table

__all__ = [
    "Call",
    "Entry",
    "add_entry",
    "control",
    "elementwise",
    "indexing",
    "integers",
    "is_known",
    "lists",
    "products",
    "reductions",
    "segments",
    "selecting",
    "sequences",
    "shapes",
    "slopes",
    "softmaxes",
    "table",
]
