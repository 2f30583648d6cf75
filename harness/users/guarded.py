"""Our own state, kept while a user's code runs and ours again afterwards, whatever it changed.

A loss may set NumPy's error state, close standard output, leave the working folder, change Keras's
policy or turn warnings into errors. What is measured next must not depend on that.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import math
import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.users.arithmetic import Arithmetic
from lossfuzz.harness.users.settings import settings
from lossfuzz.harness.users.streams import Streams

if TYPE_CHECKING:
    from types import ModuleType, TracebackType

    from lossfuzz.harness.users.settings import Changed

USUAL_ERRORS: dict[str, Any] = {
    "divide": "warn",
    "over": "warn",
    "under": "ignore",
    "invalid": "warn",
    "call": None,
}
"""`numpy.errstate` for what is computed here: a user may have made NumPy raise before."""

_errstate = np.errstate  # what a user's code puts into its place does not count


class _Names:
    """A module's names as they were when a user's code was last called."""

    def __init__(self, module: ModuleType) -> None:
        self._names = vars(module)
        self._kept = dict(self._names)

    def keep(self) -> None:
        """Take the module as it is now: what was changed between two calls was meant so."""
        if self._kept != self._names:
            self._kept = dict(self._names)

    def restore(self) -> None:
        """Take back what was put into the place of the module's own; what is new may stay."""
        if self._kept != self._names:
            self._names.update(self._kept)


class _Loaded:
    """The modules that are loaded: a user's code may load more, and take none away."""

    def __init__(self) -> None:
        self._kept = dict(sys.modules)

    def keep(self) -> None:
        """Take them as they are now."""
        if len(self._kept) != len(sys.modules):
            self._kept = dict(sys.modules)

    def restore(self) -> None:
        """Bring back those that were removed."""
        if len(sys.modules) < len(self._kept):
            for name, module in self._kept.items():
                sys.modules.setdefault(name, module)


_KEPT = (_Names(builtins), _Names(np), _Names(math), _Loaded())


class Guarded:
    """``with Guarded():`` around a call of a user's code; one use each, and they may be nested.

    Kept are NumPy's error state and print options; its names and those of Python's builtins and
    of math; the modules and the search path, of which nothing is lost; how this thread computes,
    as `Arithmetic` has it; the working folder; the standard streams and their descriptors; Keras's
    and tf_keras's policy, float type and epsilon; whether ``tf.function`` runs eagerly; the
    warnings' filters; the recursion limit; which signals are blocked; and whether garbage is
    collected. Signal handlers `Interruption` keeps.

    Attributes:
        changed: which settings of libraries the code changed, and to what; known after it.
    """

    def __init__(self, theirs: Changed = ()) -> None:
        """For code that is to find some settings as it, or its module, has set them before."""
        self._theirs = theirs
        self.changed: Changed = ()

    def __enter__(self) -> None:
        """Keep the state."""
        self._errors = _errstate()
        self._errors.__enter__()
        self._arithmetic = Arithmetic()
        self._arithmetic.keep()
        for one in _KEPT:
            one.keep()
        self._search_path = list(sys.path)
        self._printing = np.get_printoptions()
        self._folder = _folder()
        self._streams = Streams()
        self._streams.keep()
        self._filters, self._filtered = warnings.filters, list(warnings.filters)
        self._showwarning = warnings.showwarning
        self._recursion = sys.getrecursionlimit()
        self._collects = gc.isenabled()
        self._blocked = _mask(signal.SIG_BLOCK, ())
        self._settings = [(one, one.read()) for one in settings()]
        for setting, value in self._theirs:
            setting.write(value)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore it; what cannot be restored does not hide how the code ended."""
        for one in _KEPT:
            one.restore()
        if len(sys.path) < len(self._search_path):
            sys.path[:] = self._search_path
        self._errors.__exit__(kind, error, trace)
        self._arithmetic.restore()
        if np.get_printoptions() != self._printing:
            np.set_printoptions(**self._printing)
        if self._folder and _folder() != self._folder:
            with contextlib.suppress(OSError):
                os.chdir(self._folder)
        self._streams.restore()
        self._restore_warnings()
        if sys.getrecursionlimit() != self._recursion:
            with contextlib.suppress(RecursionError):
                sys.setrecursionlimit(self._recursion)
        if _mask(signal.SIG_BLOCK, ()) != self._blocked:
            _mask(signal.SIG_SETMASK, self._blocked)
        if gc.isenabled() != self._collects:
            (gc.enable if self._collects else gc.disable)()
        self._restore_settings()

    def _restore_warnings(self) -> None:
        warnings.showwarning = self._showwarning
        if warnings.filters is self._filters and self._filters == self._filtered:
            return
        warnings.filters = self._filters
        warnings.filters[:] = self._filtered  # type: ignore[index]  # a list, unlike the stubs say
        with warnings.catch_warnings():  # so Python forgets what it concluded from the others
            pass

    def _restore_settings(self) -> None:
        """Set again what was changed; of a library that was just loaded, to what is usual."""
        usual = {one.name: before for one, before in self._settings}
        found = [(one, one.read(), usual.get(one.name, one.usual)) for one in settings()]
        self.changed = tuple((one, now) for one, now, before in found if now != before)
        for one, now, before in found:
            if now != before:
                one.write(before)


_mask = signal.pthread_sigmask


def _folder() -> str:
    """The working folder; empty if it was removed."""
    try:
        return os.getcwd()  # noqa: PTH109 - text is compared, at every call of a user's code
    except OSError:
        return ""
