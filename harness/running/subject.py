"""Subjects: interpreters with a TensorFlow of their own, in which cells are run from here.

A subject needs nothing but TensorFlow, from 2.4 on: `server.py` is run by it as it stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from lossfuzz.harness.paths.route import Route, route_from
from lossfuzz.harness.running.execution import Observed, UnavailableError, described
from lossfuzz.harness.running.process import SubjectDiedError, SubjectError, SubjectProcess
from lossfuzz.harness.running.routes import tame_batch
from lossfuzz.harness.running.server import PROTOCOL, SharedArrays

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from numpy.typing import NDArray

    from lossfuzz.harness.losses.spec import LossSpec
    from lossfuzz.harness.paths.cells import Cell

START_TIMEOUT_S = 120.0
"""Importing TensorFlow takes seconds, from a cold disk or beside other work many of them."""

REQUEST_TIMEOUT_S = 600.0
"""Compiling by XLA may take minutes on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An interpreter that runs cells.

    Attributes:
        name: what reports call it.
        python: its program.
        versions: of Python, TensorFlow, Keras and NumPy there.
        devices: names of TensorFlow's devices there.
        cpu_features: instruction sets that arithmetic may use; empty where they are not known.
    """

    name: str
    python: str
    versions: dict[str, str]
    devices: tuple[str, ...]
    cpu_features: tuple[str, ...] = ()


def start_subject(
    python: str,
    *,
    name: str | None = None,
    timeout: float = REQUEST_TIMEOUT_S,
    start_timeout: float = START_TIMEOUT_S,
) -> RunningSubject:
    """Start an interpreter and have it import TensorFlow.

    Args:
        python: its program.
        name: what reports call it; its version of TensorFlow by default.
        timeout: seconds that a cell may take for a batch, or for its route.
        start_timeout: seconds that the import of TensorFlow may take.

    Raises:
        SubjectError: there is no such program, or no TensorFlow in it.
        SubjectDiedError: it ended instead.
        SubjectTimeoutError: it did not start in time.
    """
    process = SubjectProcess(python)
    try:
        hello = _greeted(process, start_timeout)
    except BaseException:
        process.kill()
        raise
    subject = Subject(
        name=name or f"tensorflow {hello['versions']['tensorflow']}",
        python=python,
        versions=hello["versions"],
        devices=tuple(hello["devices"]),
        cpu_features=tuple(hello["cpu_features"]),
    )
    return RunningSubject(process, subject, timeout)


def _greeted(process: SubjectProcess, timeout: float) -> dict[str, Any]:
    try:
        process.send({"do": "hello"}, timeout)
        hello = process.receive()
    except SubjectDiedError as error:
        raise SubjectDiedError(f"{error} (at its start; it needs Python 3.8 or newer)") from None
    if hello.get("protocol") != PROTOCOL:
        raise SubjectError(
            f"{process.python} speaks protocol {hello.get('protocol')}, this lossfuzz speaks "
            f"{PROTOCOL}: its server is of another version of lossfuzz, install one of them anew"
        )
    if "missing" in hello:
        raise SubjectError(
            f"{process.python} (Python {hello['versions']['python']}) has no TensorFlow: "
            f"{hello['missing']}"
        )
    return hello


class RunningSubject:
    """A subject whose process runs; ends with a ``with`` block, with `close`, or with this one.

    It does one thing at a time: what is submitted before an earlier result was taken, by whatever
    runner, takes its place.

    Attributes:
        subject: what runs.
        timeout: seconds that a cell may take for a batch, or for its route.
    """

    def __init__(self, process: SubjectProcess, subject: Subject, timeout: float) -> None:
        self.subject = subject
        self.timeout = timeout
        self._process = process
        self._arrays = SharedArrays(process.memory, _dtype_named)
        self._asked: object | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether its process can still be asked; after death or a timeout it cannot."""
        return self._process.alive

    def close(self) -> None:
        """End the process; a second time does nothing."""
        self._process.close()

    def runner(self, cell: Cell, documented: LossSpec | None = None) -> SubjectRunner:
        """A cell, ready to run in the subject, as a `CellRunner` is here."""
        return SubjectRunner(self, cell, documented)

    def route(
        self, cell: Cell, logits: NDArray[Any] | None = None, targets: NDArray[Any] | None = None
    ) -> Route:
        """The route that a cell takes there for a batch, by default for a tame one.

        Raises:
            UnavailableError: the path cannot run there.
            SubjectDiedError: the subject ended.
            SubjectTimeoutError: it took too long, and was killed.
        """
        if logits is None or targets is None:
            logits, targets = tame_batch(cell)
        asked = object()
        self.ask(asked, "route", cell, logits, targets)
        answer = self.answer(asked)
        return route_from(answer["operations"], answer["executed"])

    def ask(
        self, asked: object, what: str, cell: Cell, logits: NDArray[Any], targets: NDArray[Any]
    ) -> None:
        """Send a request about a cell and a batch, without waiting for the answer.

        Args:
            asked: by what the answer is asked for later.
            what: ``run`` or ``route``.
            cell: which.
            logits: shape ``[..., classes]``.
            targets: what the path is given beside them.

        Raises:
            SubjectDiedError: the subject ended.
            SubjectTimeoutError: an earlier request took too long.
        """
        if self._asked is not None and self.alive:  # its arrays lie where the new ones go
            self._process.receive()
        self._asked = None
        places = self._arrays.put(logits, targets) if self.alive else []
        request = {"do": what, "cell": described(cell), "inputs": places}
        self._process.send(request, self.timeout)
        self._asked = asked

    def answer(self, asked: object) -> dict[str, Any]:
        """The answer to a request; refusals are raised.

        Raises:
            UnavailableError: the path cannot run there.
            RuntimeError: nothing was asked, or something else later.
            SubjectDiedError: the subject ended.
            SubjectTimeoutError: it took too long, and was killed.
        """
        if self._asked is not asked:
            raise RuntimeError("no result is due: expected one submit() before every result()")
        answer = self._process.receive()
        self._asked = None
        if "refused" in answer:
            raise UnavailableError(answer["refused"])
        return answer

    def taken(self, places: list[dict[str, Any]]) -> list[NDArray[Any]]:
        """The arrays of an answer."""
        return [self._arrays.get(place) for place in places]


class SubjectRunner:
    """A cell, ready to run in a subject, where its step is built once and traced once per shape.

    Attributes:
        cell: what is run.
        documented: the formula that its route promises; the path's own unless another is given.
    """

    def __init__(
        self, subject: RunningSubject, cell: Cell, documented: LossSpec | None = None
    ) -> None:
        self.cell = cell
        self.documented = cell.path.documented if documented is None else documented
        self._subject = subject
        self._classes = 0

    def run(self, logits: NDArray[Any], targets: NDArray[Any]) -> Observed:
        """Loss and gradient of every row.

        Args:
            logits: shape ``[..., classes]`` in the cell's format.
            targets: what the path is given beside them, as `Targets.fed` makes it.

        Raises:
            UnavailableError: the subject's TensorFlow or Keras refused to compute it.
            SubjectDiedError: the subject ended.
            SubjectTimeoutError: it took too long, and was killed.
        """
        self.submit(logits, targets)
        return self.result()

    def submit(self, logits: NDArray[Any], targets: NDArray[Any]) -> None:
        """Start to run a batch; meanwhile its reference may be computed here.

        Raises:
            UnavailableError: the path cannot be run elsewhere.
            SubjectDiedError: the subject ended.
            SubjectTimeoutError: an earlier batch, whose result was not taken, took too long.
        """
        if not self.cell.path.source:
            raise UnavailableError(
                "the path is a function of this process; a subject runs paths that have a source"
            )
        self._classes = logits.shape[-1]
        self._subject.ask(self, "run", self.cell, logits, targets)

    def result(self) -> Observed:
        """The result of the batch that was submitted last.

        Raises:
            UnavailableError: the subject's TensorFlow or Keras refused to compute it.
            RuntimeError: none was submitted, or another runner's later.
            SubjectDiedError: the subject ended.
            SubjectTimeoutError: it took too long, and was killed.
        """
        answer = self._subject.answer(self)
        loss, gradient = self._subject.taken(answer["outputs"])
        return Observed(
            loss=loss.reshape(-1),
            gradient=gradient.reshape(-1, self._classes),
            seconds=answer["seconds"],
        )


def _dtype_named(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))
