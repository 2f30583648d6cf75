"""Fitting a plan to the users' own losses in it: to the shapes that they take."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lossfuzz.harness.fitting.fit import fit_of
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.running.execution import CellRunner
from lossfuzz.harness.running.trial import Trial

if TYPE_CHECKING:
    from lossfuzz.harness.paths.path import LossPath
    from lossfuzz.plan import Plan


_SHARE = 0.2
"""Of a budget in seconds, how much may be spent on finding out what losses take."""


class RefusedLossError(ValueError):
    """A user's own loss cannot be measured as it was given; the message is one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A plan, with what was found out.

    Attributes:
        plan: on the shapes that its own losses take.
        notes: what was found out of them, a sentence each.
        refused: a cell of a loss that cannot be measured; None if all can.
        refusal: why; empty if there is none.
    """

    plan: Plan
    notes: tuple[str, ...] = ()
    refused: Cell | None = None
    refusal: str = ""


def fitted(plan: Plan, *, chosen: bool, device: str) -> Fitted:
    """Try the own losses of a plan on its shapes, in one format and one mode.

    Args:
        plan: with own losses or without.
        chosen: whether the user chose its shapes.
        device: of TensorFlow, which has been started.

    Raises:
        ValueError: a shape is none.
    """
    for shape in plan.shapes:
        if len(shape) < 2 or min(shape) < 1:
            raise ValueError(f"expected a shape [..., rows, classes] of 1 or more, got {shape}")
    notes: list[str] = []
    deadline = time.perf_counter() + _SHARE * (plan.seconds or math.inf)
    for path in plan.paths:
        if not path.own:
            continue
        trial = _trial(path, plan, device, deadline)
        fit = fit_of(trial, plan.shapes, chosen=chosen)
        if fit.refusal:
            cell = trial.runner.cell
            return Fitted(plan=plan, notes=tuple(notes), refused=cell, refusal=fit.refusal)
        notes += fit.notes
        plan = replace(plan, shapes=fit.shapes)
    return Fitted(plan=plan, notes=tuple(notes))


def _trial(path: LossPath, plan: Plan, device: str, deadline: float) -> Trial:
    """Of the first format that the loss takes: float32 is tried first, since it rounds least."""
    mode = "eager" if "eager" in plan.modes else plan.modes[0]
    trials = [
        Trial(CellRunner(Cell(path=path, format=fmt, mode=mode, device=device)), deadline)
        for fmt in sorted(plan.formats, key=lambda fmt: fmt is not BINARY32)
    ]
    taking = (one for one in trials if any(map(one.takes, plan.shapes)))
    return next(taking, trials[0])
