"""Arithmetic and elementary functions of variables, with the identities that lose nothing.

Each identity is exact over the real numbers; it says how a number is to be computed, not what
it is:

    1 - softmax, 1 - sigmoid, 1 - exp(x)   the complement, a form: sums of positive numbers only
    1 - (1 - p) = p
    log(exp(x)) = x, exp(log(p)) = p       for p > 0, or p = 0 with log 0 = -inf
    log(p) = log1p(-(1 - p))               where p is nearer to 1 than to 0
    log(a b) = log a + log b, log(a / b) = log a - log b, log(a^c) = c log a   for a, b > 0
    log(1 + exp(x)) = softplus(x)
    x - x = 0                              of a finite x
    a / sum(a) = softmax(log a)            and 1 - a_k / sum(a) = sum of the others / sum(a)
    m a + n b = a where m = 1 and n = 0    masks, element by element
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.programs.selections import picked
from lossfuzz.harness.programs.structure import broadcast

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lossfuzz.harness.programs.tape import Variable

    Flags = NDArray[np.bool_]


def _same(adjoint: Any) -> Any:
    return adjoint


def exact(value: Variable) -> NDArray[np.float64] | None:
    """The float64 numbers of a constant; None of what depends on inputs or was rounded."""
    if value.depends or not value.tape.rewrites:
        return None
    numbers = value.value
    if getattr(numbers, "radius", None) is not None:
        return None
    middles = value.tape.engine.middles(numbers)
    if value.tape.engine.decides and not all(
        one is not None and one.is_exact() for one in numbers.ravel()
    ):
        return None
    return np.asarray(middles)


def _equals(value: Variable, number: float) -> Flags | None:
    """Where a constant is a number; None if nowhere."""
    if value.depends:
        return None
    numbers = exact(value)
    if numbers is None:
        return None
    found = numbers == number
    return found if found.any() else None


# --- sums ---


def negate(value: Variable) -> Variable:
    """Minus the numbers."""
    engine = value.tape.engine
    known = value.form("negated")
    if known is not None:
        return known
    forms: dict[str, Any] = {"negated": lambda: value}
    if value.has("complement"):
        forms["increment"] = lambda: value.form("complement")
    if value.has("negated_exp"):
        forms["exp"] = lambda: value.form("negated_exp")
    return value.tape.record(
        engine.neg(value.value), (value, engine.neg), forms=forms, blank=value.blank
    )


def add(left: Variable, right: Variable) -> Variable:
    """Sum."""
    for one, other in ((left, right), (right, left)):
        if one.has("increment") and not other.depends:
            ones = _equals(other, 1.0)
            known = one.form("increment") if ones is not None else None
            if ones is not None and known is not None:
                if ones.all():
                    return broadcast(known, np.broadcast_shapes(left.shape, right.shape))
                return picked(ones, known, _plain_add(left, right))
        if one.has("negated") and one.form("negated") is other:
            return _nothing(other)
    return _plain_add(left, right)


def _plain_add(left: Variable, right: Variable) -> Variable:
    forms: dict[str, Any] = {}
    for name in ("log", "complement"):
        if left.has(name) or right.has(name):
            forms[name] = lambda name=name: _formed_sum(left, right, name)
    return left.tape.record(
        left.tape.engine.add(left.value, right.value), (left, _same), (right, _same), forms=forms
    )


def _formed_sum(left: Variable, right: Variable, name: str) -> Variable | None:
    """A form of a sum: that of one where the other is an exact 0, else the plain one."""
    if name == "log":
        for one, other in ((left, right), (right, left)):
            ones = _equals(one, 1.0)
            exponent = other.form("log")
            if ones is not None and ones.all() and exponent is not None:
                from lossfuzz.harness.programs.softmax import softplus

                return broadcast(softplus(exponent), np.broadcast_shapes(left.shape, right.shape))
    no_left, no_right = left.blank(), right.blank()
    if no_left is None and no_right is None:
        return None
    plain = _plain_add(_bare(left), _bare(right))
    found = log(plain) if name == "log" else _one_less(plain)
    first, second = left.form(name), right.form(name)
    if first is not None and no_right is not None:
        found = picked(no_right, first, found)
    if second is not None and no_left is not None:
        found = picked(no_left, second, found)
    return found


def _bare(value: Variable) -> Variable:
    """The same numbers without forms."""
    return value.tape.record(value.value, (value, _same))


def _one_less(value: Variable) -> Variable:
    one = value.tape.constant(1.0)
    return _plain_add(one, negate(_bare(value)))


def subtract(left: Variable, right: Variable) -> Variable:
    """Difference."""
    if left is right and left.tape.rewrites:
        return _nothing(left)
    if right.has("complement"):
        ones = _equals(left, 1.0)
        known = right.form("complement") if ones is not None else None
        if ones is not None and known is not None:
            shape = np.broadcast_shapes(left.shape, right.shape)
            found = broadcast(known, shape)
            if ones.all():
                return found
            return picked(ones, found, _plain_subtract(left, right))
    if left.has("complement"):
        ones = _equals(right, 1.0)
        known = left.form("complement") if ones is not None else None
        if ones is not None and known is not None:
            shape = np.broadcast_shapes(left.shape, right.shape)
            found = broadcast(negate(known), shape)
            return found if ones.all() else picked(ones, found, _plain_subtract(left, right))
    known = right.form("negated") if right.has("negated") else None
    if known is not None:
        return add(left, known)
    return _plain_subtract(left, right)


def _plain_subtract(left: Variable, right: Variable) -> Variable:
    tape, engine = left.tape, left.tape.engine
    forms: dict[str, Any] = {}
    ones = _equals(left, 1.0)
    if ones is not None and ones.all() and left.shape in {(), right.shape}:
        forms["complement"] = lambda: right
    return tape.record(
        engine.add(left.value, engine.neg(right.value)),
        (left, _same),
        (right, engine.neg),
        forms=forms,
        origin=("difference", left, right),
    )


def _nothing(value: Variable) -> Variable:
    """X - x: 0 of every finite x."""
    engine = value.tape.engine
    finite = np.isfinite(engine.magnitude(value.value))
    if finite.all():
        return value.tape.constant(np.zeros(value.shape))
    return _plain_subtract(_bare(value), _bare(value))


# --- products ---


def multiply(left: Variable, right: Variable) -> Variable:
    """Product."""
    engine = left.tape.engine
    if left is right:
        return square(left)
    forms: dict[str, Any] = {}
    for name in ("log", "complement", "exp"):
        if left.has(name) or right.has(name):
            forms[name] = lambda name=name: _formed_product(left, right, name)
    return left.tape.record(
        engine.mul(left.value, right.value),
        (left, lambda adjoint: engine.times(adjoint, right.value)),
        (right, lambda adjoint: engine.times(adjoint, left.value)),
        forms=forms,
        blank=lambda: _either_blank(left, right),
    )


def _either_blank(left: Variable, right: Variable) -> Flags | None:
    first, second = left.blank(), right.blank()
    if first is None and second is None:
        return None
    found = np.zeros(np.broadcast_shapes(left.shape, right.shape), np.bool_)
    for mask in (first, second):
        found = found if mask is None else found | mask
    return found


def _formed_product(left: Variable, right: Variable, name: str) -> Variable | None:
    tape, engine = left.tape, left.tape.engine
    shape = np.broadcast_shapes(left.shape, right.shape)
    for one, other in ((left, right), (right, left)):
        numbers = exact(one)
        known = other.form(name)
        if numbers is None or known is None:
            continue
        if ((numbers == 1) | (numbers == 0)).all():
            zero = tape.constant({"log": -np.inf, "complement": 1.0, "exp": 1.0}[name])
            found = picked(numbers == 1, known, zero)
            return broadcast(found, shape)
        if name == "log" and (numbers > 0).all():
            return _plain_add(known, log(one))
        if name == "exp" and (numbers == -1).all():
            return None
    if name == "log":
        first, second = left.form("log"), right.form("log")
        return None if first is None or second is None else _plain_add(first, second)
    del engine
    return None


def square(value: Variable) -> Variable:
    """The square."""
    engine = value.tape.engine
    forms: dict[str, Any] = {}
    if value.has("log"):
        forms["log"] = lambda: _scaled_log(value, 2.0)
    numbers = value.value
    squared = engine.mul(numbers, numbers) if not engine.decides else engine.square(numbers)
    return value.tape.record(
        squared,
        (value, lambda adjoint: engine.times(engine.mul(adjoint, engine.exactly(2.0)), numbers)),
        forms=forms,
    )


def _scaled_log(value: Variable, factor: float) -> Variable | None:
    known = value.form("log")
    return None if known is None else multiply(known, value.tape.constant(factor))


def divide(left: Variable, right: Variable) -> Variable:
    """Quotient."""
    if right.has("log") and left.has("log"):
        known = _normalised(left, right)
        if known is not None:
            return known
    engine = left.tape.engine
    quotient = engine.div(left.value, right.value)
    forms: dict[str, Any] = {}
    if left.has("log") or right.has("log"):
        forms["log"] = lambda: _log_quotient(left, right)
    summed = _sum_of(right)
    if summed is not None and summed[0] is left and left.tape.rewrites:
        forms["complement"] = lambda: _others_share(left, right, summed[1])
    return left.tape.record(
        quotient,
        (left, lambda adjoint: engine.over(adjoint, right.value)),
        (
            right,
            lambda adjoint: engine.neg(engine.times(adjoint, engine.div(quotient, right.value))),
        ),
        forms=forms,
    )


def _sum_of(value: Variable) -> tuple[Variable, tuple[int, ...]] | None:
    while value.origin and value.origin[0] == "broadcast":
        value = value.origin[1]
    if value.origin and value.origin[0] == "sum":
        return value.origin[1], value.origin[2]
    return None


def _normalised(left: Variable, right: Variable) -> Variable | None:
    """exp(x) / sum(exp(x)) is softmax(x)."""
    summed = _sum_of(right)
    if summed is None or summed[0] is not left or len(summed[1]) != 1:
        return None
    logits = left.form("log")
    if logits is None:
        return None
    from lossfuzz.harness.programs.softmax import softmax

    return softmax(logits, summed[1][0])


def _others_share(left: Variable, right: Variable, axes: tuple[int, ...]) -> Variable | None:
    if len(axes) != 1:
        return None
    from lossfuzz.harness.programs.sums import others

    return divide(_bare(others(left, axes[0])), right)


def _log_quotient(left: Variable, right: Variable) -> Variable | None:
    numerator, denominator = left.form("log"), right.form("log")
    if numerator is None and exact(left) is not None:
        numerator = log(left)
    if denominator is None and exact(right) is not None:
        denominator = log(right)
    if numerator is None or denominator is None:
        return None
    return _plain_subtract(numerator, denominator)


# --- functions ---


def exp(value: Variable) -> Variable:
    """Exponential."""
    known = value.form("exp")
    if known is not None:
        return known
    engine = value.tape.engine
    power = engine.exp(value.value)
    return value.tape.record(
        power,
        (value, lambda adjoint: engine.times(adjoint, power)),
        forms={"log": lambda: value, "complement": lambda: negate(expm1(value))},
    )


def expm1(value: Variable) -> Variable:
    """Exponential less one."""
    engine = value.tape.engine
    return value.tape.record(
        engine.expm1(value.value),
        (value, lambda adjoint: engine.times(adjoint, engine.exp(value.value))),
        forms={"increment": lambda: exp(value)},
    )


def log(value: Variable) -> Variable:
    """Natural logarithm."""
    known = value.form("log")
    if known is not None:
        return known
    complement = value.form("complement")
    if complement is not None:
        nearer = value.tape.engine.middles(value.value) > 0.5
        if nearer.all():
            return log1p(negate(complement))
        if nearer.any():
            return picked(nearer, _plain_log1p(negate(complement)), _plain_log(value))
    return _plain_log(value)


def _plain_log(value: Variable) -> Variable:
    engine = value.tape.engine
    return value.tape.record(
        engine.log(value.value),
        (value, lambda adjoint: engine.over(adjoint, value.value)),
        forms={"exp": lambda: value},
    )


def log1p(value: Variable) -> Variable:
    """Logarithm of one more."""
    one_more = value.form("increment")
    if one_more is not None and one_more.has("log"):
        return log(one_more)
    exponent = value.form("log")
    if exponent is not None:
        from lossfuzz.harness.programs.softmax import softplus

        return softplus(exponent)
    return _plain_log1p(value)


def _plain_log1p(value: Variable) -> Variable:
    engine = value.tape.engine

    def back(adjoint: Any) -> Any:
        return engine.over(adjoint, engine.add(value.value, engine.exactly(1.0)))

    return value.tape.record(engine.log1p(value.value), (value, back))


def sqrt(value: Variable) -> Variable:
    """Root, whose derivative at 0 is infinite."""
    engine = value.tape.engine
    root = engine.sqrt(value.value)
    forms: dict[str, Any] = {}
    if value.has("log"):
        forms["log"] = lambda: _scaled_log(value, 0.5)
    return value.tape.record(
        root,
        (value, lambda adjoint: engine.over(engine.mul(adjoint, engine.exactly(0.5)), root)),
        forms=forms,
    )


def power(base: Variable, exponent: Variable) -> Variable:
    """A real power; of a negative number where the exponent is an integer."""
    tape, engine = base.tape, base.tape.engine
    constant = None if exponent.depends else np.unique(engine.middles(exponent.value))
    if constant is not None and constant.size == 1 and not np.isnan(constant[0]):
        return _constant_power(base, float(constant[0]), exponent)
    found = engine.function("power", base.value, exponent.value)
    one = engine.exactly(-1.0)

    def to_base(adjoint: Any) -> Any:
        lower = engine.function("power", base.value, engine.add(exponent.value, one))
        return engine.times(adjoint, engine.mul(exponent.value, lower))

    def to_exponent(adjoint: Any) -> Any:
        # TensorFlow takes log(base) where the base is positive, else 0
        logarithm = engine.log(base.value)
        positive = np.asarray(engine.middles(base.value) > 0)
        nothing = engine.exactly(np.zeros(positive.shape))
        return engine.times(adjoint, engine.mul(found, engine.where(positive, logarithm, nothing)))

    return tape.record(found, (base, to_base), (exponent, to_exponent))


def _constant_power(base: Variable, number: float, exponent: Variable) -> Variable:
    engine = base.tape.engine
    shape = np.broadcast_shapes(base.shape, exponent.shape)
    if number == 0:
        return base.tape.constant(np.ones(shape))
    if number == 1:
        return broadcast(base, shape)
    if number == 2:
        return broadcast(square(base), shape)
    lower = engine.exactly(number)

    def back(adjoint: Any) -> Any:
        return engine.times(adjoint, engine.mul(raised(engine, base.value, number - 1), lower))

    forms: dict[str, Any] = {}
    if base.has("log"):
        forms["log"] = lambda: _scaled_log(base, number)
    found = base.tape.record(raised(engine, base.value, number), (base, back), forms=forms)
    return broadcast(found, shape)


_MOST_PRODUCTS = 64


def raised(engine: Any, base: Any, exponent: float) -> Any:  # noqa: PLR0911 - cases of exponents
    """A constant power: by products where the exponent is a small integer."""
    if exponent == 0:
        return engine.exactly(np.ones(base.shape))
    if exponent == 0.5:
        return engine.sqrt(base)
    if exponent != int(exponent) or abs(exponent) > _MOST_PRODUCTS:
        if engine.decides:
            return engine.function("power", base, engine.exactly(exponent))
        found = engine.exp(engine.mul(engine.log(base), engine.exactly(exponent)))
        nothing = engine.vanishes(base)  # 0 to a positive power is 0
        if exponent > 0 and nothing.any():
            return engine.where(nothing, engine.exactly(0.0), found)
        return found
    if exponent < 0:
        return engine.div(engine.exactly(1.0), raised(engine, base, -exponent))
    result, factor, left = None, base, int(exponent)
    while left:
        if left & 1:
            result = factor if result is None else engine.mul(result, factor)
        left >>= 1
        factor = engine.mul(factor, factor) if left else factor
    return result
