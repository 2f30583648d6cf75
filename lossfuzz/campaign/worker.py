"""A worker process: carries out requests from standard input until it closes."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import replace
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossfuzz.measuring import Measuring
    from lossfuzz.plan import Plan


def main() -> None:
    """Speak `messages` on what was standard output, and send what others print there to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    _Worker(answers).serve(requests)


def _read(requests: SimpleQueue[dict[str, Any]]) -> None:
    """Hand requests over; a coordinator that is gone ends the process, whatever it is doing."""
    for line in sys.stdin:
        requests.put(json.loads(line))
    os._exit(0)


_SUBJECT_DIED = 70


class _Worker:
    """The state of one worker: the plan, and cells that are compiled."""

    def __init__(self, answers: IO[str]) -> None:
        self._answers = answers
        self._plan: Plan | None = None
        self._measuring: Measuring | None = None
        self._recipe_numbers: dict[Any, int] = {}

    def serve(self, requests: SimpleQueue[dict[str, Any]]) -> None:
        """Answer requests, one after the other."""
        from lossfuzz.audit import AuditError
        from lossfuzz.harness.backend import BackendError
        from lossfuzz.harness.subjects.process import SubjectDiedError, SubjectError

        while True:
            request = requests.get()
            try:
                answer = {"done": getattr(self, "_" + request.pop("do"))(**request)}
            except SubjectDiedError as error:
                print(error, file=sys.stderr, flush=True)  # noqa: T201 - the coordinator reads it
                os._exit(_SUBJECT_DIED)  # as if the path had killed this process
            except (BackendError, AuditError, SubjectError, ValueError) as error:
                answer = {"failed": str(error), "audit": isinstance(error, AuditError)}
            self._say(answer)

    def _say(self, answer: dict[str, Any]) -> None:
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()

    def _announce(self, cell: str, recipe: Any) -> None:
        number = -1 if recipe is None else self._recipe_numbers.get(recipe, -1)
        made = None if recipe is None else recipe.to_json()
        self._say({"at": cell, "recipe": number, "made": made})

    def _start(
        self,
        plan: dict[str, Any],
        logical_cpus: int,
        pythons: dict[str, str],
        search_path: list[str],
    ) -> dict[str, Any]:
        from lossfuzz.campaign.folders import search_like
        from lossfuzz.harness.backend import start_tensorflow
        from lossfuzz.measuring import Measuring
        from lossfuzz.plan import Plan
        from lossfuzz.trust import load

        search_like(search_path)
        start_tensorflow(logical_cpus=logical_cpus)
        load(plan["paths"])  # the coordinator has seen that these may run
        self._plan = Plan.from_json(plan)
        self._measuring = Measuring(self._announce, pythons, self._plan.shapes)
        return {}

    def _describe(self, devices: list[str], pythons: list[str]) -> dict[str, Any]:
        from lossfuzz.campaign.places import describe

        return describe(devices, pythons)

    def _task(self, number: int, left_out: list[list[Any]]) -> dict[str, Any]:
        from lossfuzz.campaign.tasks import task_numbered
        from lossfuzz.campaign.work import carry_out

        plan, measuring = self._ready()
        task = task_numbered(plan, number)
        self._recipe_numbers = {}
        ends = [(cell, recipe) for cell, recipe in left_out]
        return carry_out(task, plan, measuring, ends, self._recipe_numbers)

    def _probe(
        self, number: int, cell: str, made: dict[str, Any] | None, rows: list[int] | None
    ) -> dict[str, Any]:
        from lossfuzz.campaign.bisection import probe

        plan, measuring = self._ready()
        return probe(plan, measuring, number, cell, made, rows)

    def _reduce(self, finding: dict[str, Any]) -> dict[str, Any]:
        from lossfuzz.audit import audit_findings
        from lossfuzz.campaign.tasks import cell_of
        from lossfuzz.confirming import made_small
        from lossfuzz.harness.findings import MODE_DISAGREEMENT, Finding
        from lossfuzz.harness.results import CellResult

        plan, measuring = self._ready()
        found = Finding.from_json(finding)
        cell = cell_of(found)
        modes = plan.modes if found.kind == MODE_DISAGREEMENT else (cell.mode,)
        results = {mode: CellResult(replace(cell, mode=mode)) for mode in modes}
        measuring.find_routes(results.values())
        runners = {
            mode: measuring.runner(one)
            for mode, one in results.items()
            if one.unavailable is None or mode == cell.mode
        }
        smaller = made_small(found, runners[cell.mode], others=runners)
        audit_findings([smaller])
        return {"finding": smaller.to_json()}

    def _cliffs(self, cell: dict[str, str]) -> dict[str, Any]:
        from lossfuzz.cliffs import find_cliffs
        from lossfuzz.harness.cells import cell_of
        from lossfuzz.harness.results import CellResult

        _, measuring = self._ready()
        result = CellResult(cell_of(cell))
        measuring.find_routes([result])
        find_cliffs(result, measuring.runner(result))
        return {"cliffs": [cliff.to_json() for cliff in result.cliffs]}

    def _ready(self) -> tuple[Plan, Measuring]:
        if self._plan is None or self._measuring is None:
            raise ValueError("the worker was not started")
        return self._plan, self._measuring


if __name__ == "__main__":
    main()
