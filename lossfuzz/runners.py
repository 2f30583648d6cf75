"""The cells of a session that are ready to run, here and in subjects; each is compiled once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lossfuzz.harness.running.execution import CellRunner, UnavailableError
from lossfuzz.harness.running.routes import route_of, tame_batch
from lossfuzz.harness.running.subject import RunningSubject, SubjectRunner, start_subject
from lossfuzz.harness.running.trial import trial_rows, trial_shape

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.paths.cells import Cell
    from lossfuzz.harness.paths.route import Route
    from lossfuzz.harness.results.run import CellResult
    from lossfuzz.harness.running.execution import Runner


class Runners:
    """The runners of cells, and the subjects that some of them run in."""

    def __init__(
        self, pythons: Mapping[str, str] | None = None, shapes: Sequence[tuple[int, ...]] = ()
    ) -> None:
        """Nothing compiled, nothing started.

        Args:
            pythons: name of a subject to its interpreter's program.
            shapes: that cells will run on; a user's own loss is tried on the smallest of them.
        """
        self._pythons = dict(pythons or {})
        self._trial_shape = trial_shape(shapes)
        self._subjects: dict[str, RunningSubject] = {}
        self._runners: dict[str, CellRunner | SubjectRunner] = {}

    def route(self, cell: Cell) -> Route:
        """The route of a cell for a tame batch.

        Raises:
            UnavailableError: the path cannot run there.
        """
        if cell.subject:
            return self.subject(cell.subject).route(cell)
        return route_of(cell, *self._tame(cell))

    def _tame(self, cell: Cell) -> tuple[NDArray[Any], NDArray[Any]]:
        """A tame batch; of an own loss one of a shape that it will run on."""
        if not cell.path.own:
            return tame_batch(cell)
        loss, bounds = cell.path.loss, cell.path.bounds
        logits, targets = trial_rows(loss, cell.format, self._trial_shape, bounds)
        return logits, targets.fed(logits.shape, logits.dtype)

    def _runs(self, runner: Runner) -> bool:
        """Whether a cell runs on a tame batch, so that its path is there and refused another."""
        try:
            runner.run(*self._tame(runner.cell))
        except UnavailableError:
            return False
        return True

    def runner(self, result: CellResult) -> CellRunner | SubjectRunner:
        """The runner of a cell, which is kept; the first one is told what the route promises."""
        cell = result.cell
        if cell.name not in self._runners:
            if cell.subject:
                runner: CellRunner | SubjectRunner = self.subject(cell.subject).runner(
                    cell, result.documented
                )
            else:
                runner = CellRunner(cell, result.documented)
            self._runners[cell.name] = runner
        return self._runners[cell.name]

    def subject(self, name: str) -> RunningSubject:
        """The subject of that name, started when it is first needed.

        Raises:
            ValueError: the name is not known.
            SubjectError: it cannot be started.
        """
        if name not in self._subjects:
            if name not in self._pythons:
                known = ", ".join(self._pythons) or "none"
                raise ValueError(f"unknown subject {name!r}; known subjects: {known}")
            self._subjects[name] = start_subject(self._pythons[name], name=name)
        return self._subjects[name]
