"""A worker process: carries out requests from standard input until it closes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from lossfuzz.campaign.machine import end_with_parent

if TYPE_CHECKING:
    from lossfuzz.campaign.bisection import Probing
    from lossfuzz.measuring import Measuring
    from lossfuzz.plan import Plan


def main() -> None:
    """Speak `messages` on what were standard input and output.

    What others print goes to standard error, and there is nothing that they could read: a loss
    that asks for input would wait for ever, and take requests away.
    """
    _end_with(int(sys.argv[1]))
    questions, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
    os.dup2(2, 1)
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_read, args=(questions, requests), daemon=True).start()
    _Worker(answers).serve(requests)


def _read(questions: TextIO, requests: SimpleQueue[dict[str, Any]]) -> None:
    """Hand requests over; a coordinator that is gone ends the process, whatever it is doing."""
    for line in questions:
        requests.put(json.loads(line))
    os._exit(0)


def _end_with(coordinator: int) -> None:
    """End with the coordinator, even from the midst of C code that lets no other thread run.

    Signals that end a process end this one, whatever it was started with; and where memory runs
    out the system takes a worker and not the coordinator.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGHUP))
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    end_with_parent(coordinator)


_SUBJECT_DIED = 70
_ENDED_BY_LOSS = 71


class _Worker:
    """The state of one worker: the plan, and cells that are compiled."""

    def __init__(self, answers: int) -> None:
        self._answers, self._pid, self._request = answers, os.getpid(), 0
        self._plan: Plan | None = None
        self._measuring: Measuring | None = None
        self._task_number = -1
        self._recipe_numbers: dict[Any, int] = {}
        self._errors: Any = None
        os.register_at_fork(after_in_child=self._be_dumb)

    def serve(self, requests: SimpleQueue[dict[str, Any]]) -> None:
        """Answer requests, one after the other."""
        from lossfuzz.audit import AuditError
        from lossfuzz.harness.backend import BackendError
        from lossfuzz.harness.running.process import SubjectDiedError, SubjectError

        while True:
            request = requests.get()
            self._request = request.pop("id")
            try:
                answer = {"done": getattr(self, "_" + request.pop("do"))(**request)}
            except SubjectDiedError as error:
                self._die(_SUBJECT_DIED, str(error))  # as if the path had killed this process
            except (BackendError, AuditError, SubjectError, ValueError) as error:
                answer = {"failed": str(error), "audit": isinstance(error, AuditError)}
            except BaseException as error:  # noqa: BLE001 - a loss may raise whatever it likes
                told = f"{type(error).__name__}: {error}".rstrip(": ")
                self._die(_ENDED_BY_LOSS, f"{told} was raised")
            self._say(answer)

    def _die(self, code: int, why: str) -> NoReturn:
        """End the process as a path that kills it would; the coordinator reads why."""
        with contextlib.suppress(Exception):
            print(" ".join(why.split()), file=sys.stderr, flush=True)  # noqa: T201
        os._exit(code if os.getpid() == self._pid else 0)

    def _be_dumb(self) -> None:
        """Speak no more: this is a process that a loss forked, and its answers are nobody's."""
        with contextlib.suppress(OSError):
            os.close(self._answers)

    def _say(self, answer: dict[str, Any]) -> None:
        if os.getpid() != self._pid:
            os._exit(0)  # a forked process has come back from the loss: what is ours is not its
        line = json.dumps({"id": self._request, "pid": self._pid, **answer}) + "\n"
        rest = memoryview(line.encode())
        while rest:
            rest = rest[os.write(self._answers, rest) :]

    def _announce(self, cell: str, recipe: Any) -> None:
        if not cell:
            self._be_as_before()
            self._say({"away": True})
            return
        number = -1 if recipe is None else self._recipe_numbers.get(recipe, -1)
        made = None if recipe is None else recipe.to_json()
        self._say({"at": cell, "task": self._task_number, "recipe": number, "made": made})

    def _be_as_before(self) -> None:
        """Handle floating-point errors as at the start, whatever a loss has set."""
        import numpy as np

        np.seterr(**self._errors)

    def _start(
        self,
        plan: dict[str, Any],
        logical_cpus: int,
        pythons: dict[str, str],
        search_path: list[str],
    ) -> dict[str, Any]:
        import numpy as np

        from lossfuzz.campaign.folders import search_like
        from lossfuzz.harness.backend import start_tensorflow
        from lossfuzz.measuring import Measuring
        from lossfuzz.plan import Plan
        from lossfuzz.trust import load

        search_like(search_path)
        self._errors = np.geterr()
        tf = start_tensorflow(logical_cpus=logical_cpus)
        tf.zeros(1).numpy()  # a TensorFlow that dies here by itself is no path's fault
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
        self._task_number, self._recipe_numbers = number, {}
        ends = [(cell, recipe) for cell, recipe in left_out]
        return carry_out(task, plan, measuring, ends, self._recipe_numbers)

    def _probe(
        self,
        number: int,
        cell: str,
        made: dict[str, Any] | None,
        rows: list[int] | None,
        stay: float,
    ) -> dict[str, Any]:
        self._task_number = number
        done = self._probing().run(number, cell, made, rows)
        time.sleep(stay)  # what it has started may end the process a little later
        return done

    def _replay(
        self, calls: list[tuple[int, str, dict[str, Any] | None]], seconds: float, stay: float
    ) -> dict[str, Any]:
        started = time.monotonic()
        probing = self._probing()
        for count, (number, cell, made) in enumerate(calls):
            if time.monotonic() - started > seconds:
                return {"calls": count}
            self._task_number = number
            probing.run(number, cell, made, None)
        time.sleep(max(0.0, min(stay, seconds) - (time.monotonic() - started)))
        return {"calls": len(calls)}

    def _probing(self) -> Probing:
        from lossfuzz.campaign.bisection import Probing

        return Probing(*self._ready(), self._announce)

    def _reduce(self, finding: dict[str, Any]) -> dict[str, Any]:
        from lossfuzz.audit import audit_findings
        from lossfuzz.campaign.tasks import cell_of
        from lossfuzz.confirming import made_small
        from lossfuzz.harness.results.findings import Finding
        from lossfuzz.harness.results.kinds import MODE_DISAGREEMENT
        from lossfuzz.harness.results.run import CellResult

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
        from lossfuzz.harness.paths.cells import cell_of
        from lossfuzz.harness.results.run import CellResult

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
