"""A finding's script, run in this process: what it prints is what it computed."""

from __future__ import annotations

import contextlib
import io
import itertools
import linecache
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.paths.models import dtype_policy
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.running.execution import (
    Observed,
    TimedOutError,
    UnavailableError,
    check_gradient,
)
from lossfuzz.harness.users.user_code import OverdueError, UserCode, kind_of, line_of
from lossfuzz.reports.loss_source import CALLED
from lossfuzz.reports.snippet import snippet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lossfuzz.harness.results.findings import Finding

_RESULTS = ("loss", "gradient", "logits")
_NUMBERS = itertools.count()


class Ran:
    """What a script did.

    Attributes:
        observed: its losses and gradients.
        logits: that it fed, bit by bit.
    """

    def __init__(self, observed: Observed, logits: NDArray[Any]) -> None:
        self.observed, self.logits = observed, logits


def executed(finding: Finding, *, bound: bool = False) -> Ran:
    """Run a finding's script, as its text stands.

    Args:
        finding: of any kind that does not end the process.
        bound: whether the loss that was checked stands in for its source.

    Raises:
        UnavailableError: it raised; the message has the exception's name and first line.
    """
    path = path_named(finding.path)
    names: dict[str, Any] = {"__name__": "script"}
    if path.function is not None:
        names[CALLED] = path.function
    code = snippet(finding, bound=bound)
    trained = path.trained
    with _as_file(code) as file, contextlib.redirect_stdout(io.StringIO()):
        policy = dtype_policy(path.api, format_named(finding.format)) if trained else _nothing()
        name = path.written
        door = UserCode(name) if path.own else _nothing()
        try:
            with policy, warnings.catch_warnings(), door:  # a model's script sets it for good
                warnings.simplefilter("ignore")  # it was told when the path itself was run
                exec(compile(code, file, "exec"), names)  # noqa: S102 - our own text
            loss, gradient, logits = (_array(names[one]) for one in _RESULTS)
            if path.own:
                check_gradient(gradient, logits, name)
        except OverdueError as error:
            raise TimedOutError(str(error)) from None
        except UnavailableError:
            raise
        except Exception as error:
            told = f"{kind_of(error)}: {line_of(error)}"
            raise UnavailableError(told[:300]) from error
    if trained and finding.loss_dtype:
        loss = loss.astype(finding.loss_dtype)  # a number of Python, as training reports it
    classes = logits.shape[-1]
    observed = Observed(loss=loss.reshape(-1), gradient=gradient.reshape(-1, classes), seconds=0.0)
    return Ran(observed, logits)


def _array(value: Any) -> NDArray[Any]:
    import tensorflow as tf

    if tf.is_tensor(value) or isinstance(value, tf.IndexedSlices):
        value = tf.convert_to_tensor(value).numpy()
    return np.asarray(value)


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextlib.contextmanager
def _as_file(code: str) -> Iterator[str]:
    """A name under which Python and AutoGraph find the text's lines, as if it were a file."""
    name = f"<script {next(_NUMBERS)}>"
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    try:
        yield name
    finally:
        linecache.cache.pop(name, None)
