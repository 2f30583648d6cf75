"""From a user's function to a loss that everything here can measure."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lossfuzz.harness.exact.enclosed import reference_by_enclosures
from lossfuzz.harness.exact.enclosure import Enclosure
from lossfuzz.harness.formula.exact import exact_loss, exact_row
from lossfuzz.harness.formula.probing import is_masking, probed
from lossfuzz.harness.formula.rounding import (
    explained_rounding,
    ordinary_sizes,
)
from lossfuzz.harness.formula.stable import StableTape
from lossfuzz.harness.formula.terms import FormulaError
from lossfuzz.harness.formula.user_function import UserFunction
from lossfuzz.harness.losses import targets as kinds
from lossfuzz.harness.losses.cross_entropy import SMALLEST_WEIGHT_INVERSE
from lossfuzz.harness.losses.reduced import reduced
from lossfuzz.harness.losses.spec import ExplainedRounding, LossSpec
from lossfuzz.harness.losses.table import is_built_in
from lossfuzz.harness.users.names import Names
from lossfuzz.harness.users.time_limit import limited_by_default

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lossfuzz.harness.exact.judge import Reference
    from lossfuzz.harness.losses.targets import Targets

_ERROR_FACTOR = 2.0


FORMULAS: Names[LossSpec] = Names()
"""Every formula of this process, by name: that of a row, of which reductions are made."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Derived:
    """What follows from a user's function beside `LossSpec.evaluate` and `textbook`.

    Attributes:
        function: the user's.
    """

    function: UserFunction
    _sizes: dict[int, tuple[float, float]] = field(default_factory=dict, repr=False)

    def evaluate(self, logits: Enclosure, targets: Targets) -> tuple[Enclosure, Enclosure]:
        """Loss ``[rows, 1]`` and gradient ``[rows, classes]``, over enclosures."""
        tape = StableTape(logits, targets)
        loss = self.function.over_rows(tape, targets)
        value = loss.value
        rows = (tape.rows, 1)
        whole = Enclosure(
            np.broadcast_to(value.middle, rows), np.broadcast_to(value.radius, rows), value.numbers
        )
        return whole, tape.gradient(loss)

    def exact_row(
        self, logits: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64]] | None:
        """Loss and gradient of one row by Arb, or None where it has no exact value."""
        return exact_row(self.function.over_row, logits, weights)

    def exact_loss(
        self, logits: NDArray[np.float64], weights: NDArray[np.float64]
    ) -> float | None:
        """The loss alone of a row that need not have a derivative, by Arb."""
        return exact_loss(self.function.over_row, logits, weights)

    def rounding(
        self, spec: LossSpec, logits: NDArray[Any], targets: Targets, reference: Reference
    ) -> ExplainedRounding:
        """What rounding explains of every row; see the module of that name."""
        return explained_rounding(
            self.function,
            logits,
            targets,
            reference,
            floors=self.sizes(logits.shape[1]),
            error_factor=spec.error_factor,
            moved=lambda there: reference_by_enclosures(spec, there, targets),
        )

    def sizes(self, classes: int) -> tuple[float, float]:
        """Ordinary sizes of loss and gradient errors' units, measured once."""
        if classes not in self._sizes:
            self._sizes[classes] = ordinary_sizes(self.function, classes)
        return self._sizes[classes]


@overload
def formula(
    exact: Callable[..., Any],
    *,
    target: str = ...,
    name: str | None = ...,
    masks: bool | None = ...,
    reduction: str | None = ...,
    source: str = ...,
) -> LossSpec: ...
@overload
def formula(
    exact: None = None,
    *,
    target: str = ...,
    name: str | None = ...,
    masks: bool | None = ...,
    reduction: str | None = ...,
    source: str = ...,
) -> Callable[[Callable[..., Any]], LossSpec]: ...
def formula(
    exact: Callable[..., Any] | None = None,
    *,
    target: str = kinds.INDEX,
    name: str | None = None,
    masks: bool | None = None,
    reduction: str | None = None,
    source: str = "",
) -> LossSpec | Callable[[Callable[..., Any]], LossSpec]:
    """A loss from its formula; a decorator, too, with or without arguments.

    The function is called as ``exact(x, logits, label)`` and returns the loss of one row of
    logits, by ``+ - * / **``, the functions of `x` (`Algebra`) and ``logits[label]``::

        @lossfuzz.formula
        def poly1(x, logits, label):
            return -x.log_softmax(logits)[label] + 1 - x.softmax(logits)[label]

    Value and gradient follow, exactly. A row on a kink, or on which the formula has no finite
    value, has no exact value and is not judged.

    Args:
        exact: the function.
        target: one of `targets.KINDS`. Of integer labels the function gets the label, of other
            kinds the vector of weights, of "none" None.
        name: what to call the loss; by default ``package.module:function``, by which other
            processes find it again.
        masks: whether a logit of -inf takes its class out. By default that is found out: it does
            if leaving a class out is what the formula comes to as the class's logit falls.
        reduction: of the batch, one of `reduced.REDUCTIONS`; by default a loss of each row.
        source: where the formula is written down.

    Raises:
        FormulaError: the function or an option cannot be used; one line says why.
    """
    if exact is None:
        return lambda function: formula(
            function, target=target, name=name, masks=masks, reduction=reduction, source=source
        )
    wanted = name or name_of(exact)
    if is_built_in(wanted):  # the formula is what was given, not ours of that name
        wanted = f"<{wanted}>"
    made_of = exact, target, masks, source
    given = FORMULAS.free(wanted, *made_of)
    function = UserFunction(name=given, function=exact, target=target)
    derived = Derived(function=function)
    by_class = target in (kinds.BINARY, kinds.PROBABILITY)
    with limited_by_default():  # a function without an end would hang whoever imports it
        classes = probed(derived)
        steepness = derived.sizes(classes)[1]
        masks = (not by_class and is_masking(derived, classes)) if masks is None else masks
    spec = LossSpec(
        name=given,
        formula=_described(exact),
        target=target,
        evaluate=derived.evaluate,
        textbook=function.textbook,
        domain="rows on which the formula is finite and has a derivative",
        source=source or "the user's formula",
        steepness=steepness,
        error_factor=_ERROR_FACTOR,
        headroom=lambda count: SMALLEST_WEIGHT_INVERSE * count,
        masks=masks,
        derived=derived,
    )
    FORMULAS.add(given, spec, *made_of)
    if reduction is None:
        return spec
    try:
        return reduced(spec, reduction)
    except (KeyError, ValueError) as error:
        raise FormulaError(f"formula {given}: {error}") from None


def known(spec: LossSpec) -> LossSpec:
    """A loss that is found again by its name, now and in this process.

    Of a formula whose name another one took since, and of a loss that is neither ours nor a
    formula, that is the same loss under a name of its own.
    """
    base = spec.base or spec
    name = base.name
    if is_built_in(name, base):
        return spec
    if not (name in FORMULAS and FORMULAS[name] is base):
        wanted = f"<{name}>" if is_built_in(name) else name
        name = FORMULAS.free(wanted, base)
        base = FORMULAS.add(name, base if name == base.name else replace(base, name=name), base)
    if spec.reduction is None:
        return base
    return spec if spec.base is base else reduced(base, spec.reduction)


def name_of(function: Callable[..., Any]) -> str:
    """``package.module:function``, or ``<function>`` of what cannot be imported."""
    name = str(getattr(function, "__qualname__", type(function).__name__))
    module = getattr(function, "__module__", None)
    if module in (None, "__main__") or "<" in name or _leads_elsewhere(module, name, function):
        return f"<{name.rpartition('<locals>.')[2].strip('<>')}>"
    return f"{module}:{name}"


def _leads_elsewhere(module: str, name: str, function: Callable[..., Any]) -> bool:
    """Whether a name leads to something else than a function, or the formula made of it.

    While its decorator runs it leads to nothing yet, or to what a reload is about to replace.
    """
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return not (found is None or found is function or isinstance(found, LossSpec))


def _described(function: Callable[..., Any]) -> str:
    lines = (inspect.getdoc(function) or "").splitlines() if inspect.isroutine(function) else []
    return lines[0] if lines else "written by the user"
