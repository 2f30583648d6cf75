"""How this thread computes: rounding, precision and contexts, which a user's code may change.

The reference is exact only as long as Arb, mpmath and the processor compute as they are told to.
"""

from __future__ import annotations

import ctypes
import decimal
import sys
from typing import Any

_LARGEST_ENVIRONMENT = 256
"""Bytes for C's ``fenv_t``: 32 on x86-64, 8 on ARM."""

_FLINT = ("prec", "cap", "pretty", "unicode", "threads")


def _library() -> Any:
    """C's functions of `fenv.h`, with the rounding mode and whether subnormals are flushed."""
    try:
        library = ctypes.CDLL(None)
        if library.fegetenv and library.fesetenv:
            return library
    except (OSError, AttributeError):  # a platform that has them elsewhere
        pass
    return None


_C = _library()


class Arithmetic:
    """The processor's floating-point environment, and the contexts of the libraries we use."""

    def keep(self) -> None:
        """Keep all, and give the code that follows copies of the contexts that it may change."""
        self._environment = ctypes.create_string_buffer(_LARGEST_ENVIRONMENT)
        if _C is not None:
            _C.fegetenv(self._environment)
        self._decimals = decimal.getcontext()
        decimal.setcontext(self._decimals.copy())
        gmpy2, mpmath, flint = (sys.modules.get(name) for name in ("gmpy2", "mpmath", "flint"))
        self._gmpy2: Any = None
        if gmpy2 is not None:
            self._gmpy2 = gmpy2.get_context()
            gmpy2.set_context(self._gmpy2.copy())
        self._mpmath = mpmath.mp.prec if mpmath is not None else None
        self._flint = [getattr(flint.ctx, name) for name in _FLINT] if flint is not None else []

    def restore(self) -> None:
        """Have all as it was."""
        if _C is not None:
            _C.fesetenv(self._environment)
        decimal.setcontext(self._decimals)
        if self._gmpy2 is not None:
            sys.modules["gmpy2"].set_context(self._gmpy2)
        if self._mpmath is not None and sys.modules["mpmath"].mp.prec != self._mpmath:
            sys.modules["mpmath"].mp.prec = self._mpmath
        if self._flint:
            context = sys.modules["flint"].ctx
            for name, value in zip(_FLINT, self._flint, strict=True):
                if getattr(context, name) != value:
                    setattr(context, name, value)
