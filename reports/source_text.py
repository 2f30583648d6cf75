"""The source of a function by itself: found in its file, without what only its place gave it."""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import symtable
import sys
import textwrap
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FunctionType

    Tell = Callable[[Any], str]

_MODULES = {"tf": "tensorflow", "np": "numpy"}
"""What packages are called where they are imported."""

_Defined = ast.FunctionDef | ast.Lambda


class UntoldError(ValueError):
    """Something cannot be written as code; the message says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionText:
    """A function's own text.

    Attributes:
        code: a ``def``, or the expression of a lambda.
        name: of the ``def``; empty of a lambda.
        uses: name to value of what it takes from outside.
    """

    code: str
    name: str
    uses: dict[str, Any]


def function_text(function: FunctionType, tell: Tell) -> FunctionText:
    """The text of a function, whose defaults are the values that it really has.

    What a user's own decorator returned is told by that function's text. Decorators of packages
    are kept where they made something else of it (``__wrapped__``). Annotations are left out.

    Args:
        function: of Python.
        tell: writes a value as an expression.

    Raises:
        UntoldError: it has no source, or takes from outside what has no value.
    """
    plain: FunctionType = function if _is_users(function) else inspect.unwrap(function)
    node, segment = _found(plain.__code__)
    decorated = plain is not function
    telling = Telling(tell)
    shown = bare(node, plain, decorated=decorated, tell=telling)
    as_it_stands = shown is node and not decorated  # a segment begins after the decorators
    code = segment if as_it_stands else ast.unparse(ast.fix_missing_locations(shown))
    return FunctionText(
        code=code,
        name=node.name if isinstance(node, ast.FunctionDef) else "",
        uses=telling.uses(code, lambda name: value_of(name, plain)),
    )


class Telling:
    """Writes values as expressions, and knows the names that these have brought."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._brought: set[str] = set()

    def __call__(self, value: Any) -> str:
        """The value as an expression."""
        text = self._tell(value)
        nodes = ast.walk(ast.parse(text, mode="eval"))
        self._brought |= {one.id for one in nodes if isinstance(one, ast.Name)}
        return text

    def uses(self, code: str, value_of_name: Callable[[str], Any]) -> dict[str, Any]:
        """Name to value of what a text takes from outside.

        Raises:
            UntoldError: a name has no value, and was not brought by an expression.
        """
        found: dict[str, Any] = {}
        for name in _names_from_outside(code):
            try:
                found[name] = value_of_name(name)
            except UntoldError:
                if name in self._brought or hasattr(builtins, name):
                    continue
                module = sys.modules.get(_MODULES.get(name, name))
                if module is None:
                    raise
                found[name] = module  # a decorator's, which the place alone imported
        return found


def _is_users(function: FunctionType) -> bool:
    """Whether the code that runs is a user's, and not that of a package's decorator."""
    place = function.__code__.co_filename
    return "site-packages" not in place and "dist-packages" not in place


def _found(code: CodeType) -> tuple[_Defined, str]:
    """The node of a code object in its file, and its text."""
    lines = tuple(linecache.getlines(code.co_filename))
    tree = parsed(lines)
    if tree is None:
        raise UntoldError(f"the source of {code.co_name} is not known")
    wanted = ast.Lambda if code.co_name == "<lambda>" else ast.FunctionDef
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, wanted)
        and first_line(node) == code.co_firstlineno
        and (isinstance(node, ast.Lambda) or node.name == code.co_name)
    ]
    texts = {ast.unparse(node) for node in found if _is_of(node, code)}
    if len(texts) != 1:
        raise UntoldError(f"the source of {code.co_name} is not to be told from others")
    node = next(node for node in found if _is_of(node, code))
    segment = ast.get_source_segment("".join(lines), node, padded=True) or ast.unparse(node)
    whole = textwrap.dedent(segment) if isinstance(node, ast.FunctionDef) else ast.unparse(node)
    return node, whole


@lru_cache(maxsize=8)
def parsed(lines: tuple[str, ...]) -> ast.Module | None:
    """The module that lines are; None if they are none."""
    try:
        return ast.parse("".join(lines)) if lines else None
    except (SyntaxError, ValueError):
        return None


def first_line(node: _Defined) -> int:
    """The line on which a definition begins, its decorators included."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
    return min([node.lineno, *(one.lineno for one in decorators)])


def _is_of(node: _Defined, code: CodeType) -> bool:
    """Whether a node has the parameters of a code object, and of a lambda the same places."""
    arguments = node.args
    names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    count = code.co_argcount + code.co_kwonlyargcount
    if tuple(names) != code.co_varnames[:count]:
        return False
    if isinstance(node, ast.FunctionDef):
        return True
    places = [one for one in code.co_positions() if one[2] is not None and one[0] is not None]
    body = node.body
    return any(
        (first, start) == (body.lineno, body.col_offset) and end == body.end_col_offset
        for first, _, start, end in places
    )


def bare(node: _Defined, function: FunctionType, *, decorated: bool, tell: Tell) -> _Defined:
    """The node without decorators and annotations, its defaults as literals."""
    given = [*node.args.defaults, *(one for one in node.args.kw_defaults if one is not None)]
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    annotated = any(one.annotation for one in arguments)
    stripped = isinstance(node, ast.FunctionDef) and (
        (node.decorator_list and not decorated) or node.returns is not None
    )
    if not (annotated or stripped or any(not isinstance(one, ast.Constant) for one in given)):
        return node
    copy: Any = ast.parse(ast.unparse(node)).body[0]
    copy = copy.value if isinstance(copy, ast.Expr) else copy
    for one in (*copy.args.posonlyargs, *copy.args.args, *copy.args.kwonlyargs):
        one.annotation = None
    values = function.__defaults__ or ()
    copy.args.defaults = [_expression(tell(value)) for value in values]
    kept = function.__kwdefaults__ or {}
    copy.args.kw_defaults = [
        _expression(tell(kept[one.arg])) if one.arg in kept else None
        for one in copy.args.kwonlyargs
    ]
    if isinstance(copy, ast.FunctionDef):
        copy.returns = None
        if not decorated:
            copy.decorator_list = []
    shown: _Defined = copy
    return shown


def _expression(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _names_from_outside(code: str) -> list[str]:
    """The names that a text takes from outside, in order."""
    table = symtable.symtable(code, "text", "exec")
    found = [
        symbol.get_name()
        for one in _tables(table)
        for symbol in one.get_symbols()
        if symbol.is_referenced()
        and (symbol.is_global() if one is not table else not symbol.is_assigned())
    ]
    return list(dict.fromkeys(sorted(found)))


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def value_of(name: str, function: FunctionType) -> Any:
    """What a name from outside means in a function.

    Raises:
        UntoldError: nothing.
    """
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=False))
    try:
        return cells[name].cell_contents if name in cells else function.__globals__[name]
    except (KeyError, ValueError):
        raise UntoldError(f"{name} has no value") from None
