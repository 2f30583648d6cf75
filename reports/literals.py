"""Numbers and texts as code of Python, in as few characters as give them exactly."""

from __future__ import annotations

import base64
import itertools
import json
import math
import zlib
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

SHOWN_CLASSES = 8
"""Rows of more classes are not written out class by class."""

_MOST_PIECES = 24
"""Runs of equal numbers, or numbers that differ from the others, that are written one by one."""

_WRITTEN_OUT = 64
"""So many different numbers are written out; more are packed."""

PACKED_IMPORTS = "import base64\nimport zlib\n\nimport numpy\n"
"""What `listed` needs where it packs."""


def listed(values: Sequence[float]) -> str:
    """Numbers as an expression that is a list of them.

    A few are written out. Of many, runs of equal ones become products, single ones that differ
    from the others a dictionary; what is left is packed bit by bit, which takes `PACKED_IMPORTS`.
    """
    if len(values) <= SHOWN_CLASSES:
        return _plain(values)
    runs = [(one, len(list(run))) for one, run in itertools.groupby(values, key=_bits)]
    if len(runs) <= _MOST_PIECES:
        return _of_runs(runs)
    (base, most), *_ = Counter(map(_bits, values)).most_common(1)
    if len(values) - most <= _MOST_PIECES:
        others = {k: value for k, value in enumerate(values) if _bits(value) != base}
        told = ", ".join(f"{k}: {literal(value)}" for k, value in others.items())
        return f"[{{{told}}}.get(k, {literal(base[0])}) for k in range({len(values)})]"
    return _plain(values) if len(values) <= _WRITTEN_OUT else _packed(values)


def is_packed(code: str) -> bool:
    """Whether code needs `PACKED_IMPORTS`."""
    return "b64decode" in code


def literal(value: float) -> str:
    """A number as Python reads it."""
    return repr(float(value)) if abs(value) < float("inf") else f'float("{float(value)}")'


def quoted(text: str) -> str:
    """Any text as a literal of Python in ASCII, whatever it contains."""
    return json.dumps(text)


def _bits(value: float) -> tuple[float, float]:
    """What tells a number from others, -0.0 from 0.0 included."""
    return value, math.copysign(1, value)


def _plain(values: Sequence[float]) -> str:
    return "[" + ", ".join(map(literal, values)) + "]"


def _of_runs(runs: Sequence[tuple[tuple[float, float], int]]) -> str:
    parts: list[str] = []
    single: list[float] = []
    for (value, _), length in runs:
        if length <= 2:
            single += [value] * length
            continue
        parts += [_plain(single)] if single else []
        single = []
        parts.append(f"[{literal(value)}] * {length}")
    return " + ".join([*parts, *([_plain(single)] if single else [])])


def _packed(values: Sequence[float]) -> str:
    wide = np.array(values, np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f4")
    dtype = "<f4" if (narrow.astype(np.float64) == wide).all() else "<f8"
    packed = base64.b64encode(zlib.compress(wide.astype(dtype).tobytes(), 9)).decode()
    return f'numpy.frombuffer(zlib.decompress(base64.b64decode("{packed}")), "{dtype}").tolist()'
