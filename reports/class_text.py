"""The source of a user's class by itself: without decorators, annotations and outer names."""

from __future__ import annotations

import ast
import builtins
import inspect
import linecache
import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

from lossfuzz.reports.source_text import (
    FunctionText,
    Telling,
    UntoldError,
    bare,
    first_line,
    parsed,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lossfuzz.reports.source_text import Tell


def class_text(made: type, tell: Tell) -> FunctionText:
    """The text of a class, whose bases and defaults are the values that it really has.

    Decorators of the class are left out: what they do to its objects is in the objects.

    Args:
        made: of Python.
        tell: writes a value as an expression.

    Raises:
        UntoldError: it has no source, or takes from outside what has no value.
    """
    methods = list(_methods(made))
    node = _found(made, methods)
    node.decorator_list = []
    telling = Telling(tell)
    node.bases = [
        ast.parse(telling(base), mode="eval").body for base in made.__bases__ if base is not object
    ]
    node.body = [_method(one, made, telling) for one in node.body]
    plain = _Unannotated().visit(node)
    code = ast.unparse(ast.fix_missing_locations(plain))
    return FunctionText(
        code=code,
        name=made.__name__,
        uses=telling.uses(code, lambda name: _value(name, made, methods)),
    )


def _methods(made: type) -> Iterator[FunctionType]:
    """The functions that the class itself defines, whatever they were made into."""
    for name, one in vars(made).items():
        kept = getattr(one, "python_function", getattr(one, "fget", getattr(one, "__func__", one)))
        plain = inspect.unwrap(kept) if callable(kept) else kept
        if (
            not isinstance(plain, FunctionType)
            or plain.__qualname__ != f"{made.__qualname__}.{name}"
        ):
            continue
        if linecache.getlines(plain.__code__.co_filename):  # not one that was generated
            yield plain


def _found(made: type, methods: list[FunctionType]) -> ast.ClassDef:
    """A copy of the class's node in its file.

    Raises:
        UntoldError: there is none, or several.
    """
    module = sys.modules.get(made.__module__)
    files = [one.__code__.co_filename for one in methods] or [
        getattr(module, "__file__", "") or ""
    ]
    tree = parsed(tuple(linecache.getlines(files[0])))
    if tree is None:
        raise UntoldError(f"the source of {made.__name__} is not known")
    lines = {one.__code__.co_firstlineno for one in methods}
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and node.name == made.__name__
        and lines <= {first_line(one) for one in node.body if isinstance(one, ast.FunctionDef)}
    ]
    if len(found) != 1:
        raise UntoldError(f"the source of {made.__name__} is not to be told from others")
    copy = ast.parse(ast.unparse(found[0])).body[0]
    if not isinstance(copy, ast.ClassDef):
        raise UntoldError(f"the source of {made.__name__} is no class")
    return copy


def _method(node: ast.stmt, made: type, tell: Tell) -> ast.stmt:
    """A method with the defaults that it really has; anything else as it stands."""
    function = vars(made).get(node.name) if isinstance(node, ast.FunctionDef) else None
    if not isinstance(node, ast.FunctionDef) or not isinstance(function, FunctionType):
        return node
    decorated = hasattr(function, "__wrapped__")
    shown = bare(node, inspect.unwrap(function), decorated=decorated, tell=tell)
    return shown if isinstance(shown, ast.stmt) else node


class _Unannotated(ast.NodeTransformer):
    """Leaves annotations out; those of fields become text, for a field is made by one."""

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(ast.unparse(node.annotation))
        return self.generic_visit(node)


def _value(name: str, made: type, methods: list[FunctionType]) -> Any:
    if name == made.__name__:
        return made
    for one in methods:
        try:
            return value_of(name, one)
        except UntoldError:
            continue
    places = vars(sys.modules.get(made.__module__, builtins))
    if name not in places:
        raise UntoldError(f"{name} has no value")
    return places[name]
