"""Cancelling a graph of TensorFlow that runs in another thread, such as a loop without an end."""

from __future__ import annotations

import sys
from typing import Any


class Cancelling:
    """What the thread that begins it runs by TensorFlow until its end can be cancelled.

    TensorFlow has no public way to do so; where a version has not this one either, nothing is
    cancelled, and the process has to be ended.
    """

    def __init__(self) -> None:
        self._manager: Any = None
        self._context: Any = None

    def begin(self) -> None:
        """Begin, if TensorFlow is loaded."""
        cancellation = sys.modules.get("tensorflow.python.eager.cancellation")
        try:
            manager = cancellation.CancellationManager()  # type: ignore[union-attr]
            context = cancellation.CancellationManagerContext(manager)  # type: ignore[union-attr]
            context.__enter__()
        except (AttributeError, RuntimeError, TypeError):
            return
        self._manager, self._context = manager, context

    def cancel(self) -> None:
        """Cancel it, from whatever thread."""
        if self._manager is not None:
            self._manager.start_cancel()

    def end(self) -> None:
        """End; a second time does nothing."""
        context, self._context = self._context, None
        if context is not None:
            context.__exit__(None, None, None)
