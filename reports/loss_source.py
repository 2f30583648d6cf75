"""A user's loss in a script: by its public name, by an import, or by its source.

What cannot be had, such as the state of an object, is not made up: the script then has a place to
put the loss, which raises until something stands there.
"""

from __future__ import annotations

import keyword
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.paths.own import is_importable
from lossfuzz.reports.importable import importable_place
from lossfuzz.reports.literals import quoted
from lossfuzz.reports.named_values import NamedValues
from lossfuzz.reports.public_names import is_installed, public_name
from lossfuzz.reports.source_text import UntoldError

if TYPE_CHECKING:
    from lossfuzz.harness.paths.path import LossPath

CALLED = "own_loss"
"""The loss's name in scripts, where it is not called by its own."""

_SCRIPT_NAMES = frozenset(
    {"logits", "labels", "loss", "gradient", "step", "tape", "tf", "row", "mode", "classes"}
)
_LONGEST = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSource:
    """How a script gets a user's loss.

    Attributes:
        code: lines that import or define it; may be empty.
        called: the expression that is called.
        complete: whether the loss is there once the lines have run.
        quoted: whether the lines are the loss's own source.
        module: of the user, which has to be found; empty where none is needed.
    """

    code: str
    called: str
    complete: bool = True
    quoted: bool = False
    module: str = ""


def loss_source(path: LossPath) -> LossSource:
    """How a script gets the loss of a user's path."""
    loss = path.function
    public = public_name(loss) if loss is not None else None
    if public is not None:
        return LossSource(code=_root_import(public), called=public)
    written = path.written
    if is_importable(path.name) and ":" in path.name:
        return _imported(*written.split(":", 1))
    if loss is not None and path.quotable:
        try:
            return _told(loss)
        except (UntoldError, RecursionError):
            pass
    place = importable_place(loss) if loss is not None else None
    if place is not None:
        return _imported(*place)
    name = _comment(written)
    return LossSource(code=_PLACEHOLDER.format(name=name), called=CALLED, complete=False)


def written_name(path: LossPath) -> str:
    """The name of a user's loss as its user knows it, for the first line of a message."""
    written = path.written
    if path.function is None:
        return written
    public = public_name(path.function) or public_name(type(path.function))
    return public or written


_PLACEHOLDER = f"""\
# the loss that was checked, {{name}}, has to be put here
def {CALLED}(*_):
    raise NotImplementedError("put the loss that was checked in the place of this function")
"""


def _comment(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)[:80]


def _root_import(expression: str) -> str:
    root = expression.partition(".")[0]
    return "" if root == "tf" else f"import {root}\n"


def _imported(module: str, attributes: str) -> LossSource:
    plain = all(
        part.isidentifier() and not keyword.iskeyword(part)
        for part in (*module.split("."), *attributes.split("."))
    )
    if plain and module.partition(".")[0] not in _SCRIPT_NAMES:
        code, called = f"import {module}\n", f"{module}.{attributes}"
    else:
        called = CALLED
        code = (
            "import importlib\nimport operator\n"
            f"{CALLED} = operator.attrgetter({quoted(attributes)})(\n"
            f"    importlib.import_module({quoted(module)}))\n"
        )
    found = sys.modules.get(module)
    user = "" if found is not None and is_installed(found) else module
    return LossSource(code=code, called=called, module=user)


def _told(loss: Any) -> LossSource:
    """A loss by its source.

    Raises:
        UntoldError: it cannot be had.
    """
    telling = NamedValues()
    text = telling.expression(loss)
    simple = text.isidentifier() and text not in _SCRIPT_NAMES
    lines = [*telling.lines, *([] if simple else [f"{CALLED} = {text}"])]
    called = text if simple else CALLED
    defined = {name for name in telling.values if name != text}
    if defined & _SCRIPT_NAMES:  # names of the script mean something else in the loss
        body = "\n".join(f"    {line}".rstrip() for one in lines for line in one.splitlines())
        lines = [f"def the_loss():\n{body}\n    return {called}\n", f"{CALLED} = the_loss()"]
        called = CALLED
    code = "\n" + "\n".join(lines).lstrip("\n") + "\n"
    if len(code) > _LONGEST:
        raise UntoldError(f"its source has {len(code)} characters")
    return LossSource(code=code, called=called, quoted=True, module=telling.module)
