"""The one door through which a user's code is called: a loss, a formula, a module's import.

Whatever it does there ends in an exception that its caller can tell in a line with the user's
name, and changes nothing of our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lossfuzz.harness.records.printable import printable
from lossfuzz.harness.users.guarded import Guarded
from lossfuzz.harness.users.interruption import Interruption, is_from_outside
from lossfuzz.harness.users.settings import Changed, settings_for
from lossfuzz.harness.users.time_limit import OutOfTimeError, time_limit

if TYPE_CHECKING:
    from types import TracebackType


class UserCodeError(RuntimeError):
    """A user's code ended by no ordinary exception; the message is one line that names it."""


class OverdueError(UserCodeError):
    """It took longer than a call may take."""


class UserCode:
    """``with UserCode(name):`` around a call of a user's code.

    An `Exception` of the code's comes through as it is. `SystemExit`, `GeneratorExit` and the
    like become a `UserCodeError`, and so does a `KeyboardInterrupt` that the code raises itself.
    One of Ctrl-C comes through, even if the code caught it.
    """

    def __init__(self, name: str) -> None:
        """For a function of that name."""
        self._name = name
        self._guarded = Guarded(settings_for(name))
        self._interruption = Interruption(name)

    @property
    def changed(self) -> Changed:
        """Which settings of libraries it changed, to what; known after it."""
        return self._guarded.changed

    def __enter__(self) -> None:
        """Keep our own state, then let the time run.

        Raises:
            OverdueError: the code took too long before.
        """
        if self._name in time_limit().overdue:
            raise self._overdue()
        self._guarded.__enter__()
        self._interruption.begin()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore our own state.

        Raises:
            OverdueError: the code took too long.
            UserCodeError: it raised something that is no `Exception`.
        """
        try:
            self._interruption.end()
        except OutOfTimeError:  # it came a moment before the end
            self._interruption.end()
        self._guarded.__exit__(kind, error, trace)
        outside = self._interruption.outside
        if outside is not None and error is not outside:
            raise outside from None
        if self._interruption.expired:
            time_limit().overdue.add(self._name)
            raise self._overdue() from None
        if error is None or error is outside or isinstance(error, Exception):
            return
        raise UserCodeError(f"{self._name} raised {kind_of(error)}: {line_of(error)}") from error

    def _overdue(self) -> OverdueError:
        seconds = time_limit().seconds
        return OverdueError(
            f"{self._name} took more than {seconds:g} s for one call, and is not called again"
        )


def kind_of(error: BaseException) -> str:
    """The name of an error's class; AutoGraph makes classes of its own of some."""
    return printable(type(error).__name__.removesuffix("Wrapper"))


def line_of(error: BaseException) -> str:
    """The first line of what an error says, if it says anything."""
    try:
        lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    except BaseException as another:
        if is_from_outside(another):
            raise
        return f"no message, for its __str__ raised {kind_of(another)}"
    return printable(lines[0]) if lines else "no message"
