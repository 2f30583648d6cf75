"""How far one batch and one finding travel through the code: modules, and calls between them.

A way is followed by Python's profiler. Counted are the modules that it visits, and the calls that
leave a module and come back to it: of each function that is called from another module once,
however often it is called.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.backend import start_tensorflow
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.plan import Plan
from lossfuzz.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PACKAGE = "lossfuzz."


class Way:
    """What is called between modules of the package while a function runs."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.calls: set[tuple[str, str, str]] = set()

    def follow(self, function: Callable[[], Any]) -> Any:
        """Call a function, and note its way."""
        sys.setprofile(self._note)
        try:
            return function()
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        here = frame.f_globals.get("__name__", "")
        caller = frame.f_back
        while caller is not None and not _is_ours(caller):
            caller = caller.f_back
        if not here.startswith(PACKAGE) or caller is None:
            return
        there = caller.f_globals["__name__"]
        self.modules.add(here)
        if there != here:
            self.calls.add((there, here, frame.f_code.co_name))

    def __str__(self) -> str:
        return f"{len(self.modules)} modules, {len(self.calls)} calls that leave one and come back"


def _is_ours(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith(PACKAGE)


def main() -> None:
    """Follow a batch from its recipe to the statistics, and a finding until it is small."""
    start_tensorflow()
    plan = Plan(
        paths=tuple(paths_matching(["tf.nn/naive"])),
        formats=(BINARY32,),
        modes=("eager",),
        devices=("CPU:0",),
        shapes=((64, 10),),
        rows=128,
    )
    session = Session(plan)
    session.measuring.find_routes(session.cells)
    recipe, other = plan.recipes(BINARY32)
    session.measuring.measure_batch(recipe, session.cells)  # what is made once is made
    batch, finding = Way(), Way()
    batch.follow(lambda: session.measuring.measure_batch(other, session.cells))
    print("a batch:  ", batch)
    worst = max(session.cells[0].findings.values(), key=lambda one: one.severity)
    finding.follow(lambda: session.small(worst, session.deadline))
    print("a finding:", finding)


if __name__ == "__main__":
    main()
