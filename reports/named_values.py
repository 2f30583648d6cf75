"""Values as code: lines that give names what a function takes from outside."""

from __future__ import annotations

import enum
import functools
import itertools
import re
import sys
import textwrap
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from lossfuzz.reports.class_text import class_text
from lossfuzz.reports.literals import literal
from lossfuzz.reports.object_parts import attributes, configuration
from lossfuzz.reports.public_names import is_installed, public_name
from lossfuzz.reports.source_text import FunctionText, UntoldError, function_text

_MOST_NUMBERS = 64
_OF_CONSTANTS = frozenset({"builtins", "numpy", "ml_dtypes"})


class NamedValues:
    """Lines of code that give names their values.

    Attributes:
        lines: in the order in which they have to stand.
        values: each name's value.
        module: of the user, that was imported.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.values: dict[str, Any] = {}
        self.module = ""

    def bind(self, name: str, value: Any) -> None:
        """Give a name its value.

        Raises:
            UntoldError: the name has another value already, or the value cannot be told.
        """
        if name in self.values:
            if self.values[name] is not value:
                raise UntoldError(f"{name} stands for two values")
            return
        if isinstance(value, ModuleType):
            self.values[name] = value
            self._import(name, value)
            return
        text = self.expression(value)
        self.values[name] = value
        if text != name:
            self.lines.append(f"{name} = {text}")

    def _import(self, name: str, module: ModuleType) -> None:
        dotted = module.__name__
        if not is_installed(module):
            self.module = dotted
        if name == "tf" and dotted == "tensorflow":
            del self.values[name]  # every script has it
            return
        self.lines.append(f"import {dotted}" if dotted == name else f"import {dotted} as {name}")

    def expression(self, value: Any) -> str:
        """A value as an expression; what it needs is added to the lines.

        Raises:
            UntoldError: it cannot be told.
        """
        public = public_name(value)
        if public is not None:
            root = public.partition(".")[0]
            if root != "tf":
                self.bind(root, sys.modules[root])
            return public
        if isinstance(value, FunctionType):
            return self._function(value)
        if isinstance(value, type):
            return self._class(value)
        if isinstance(value, MethodType):
            return f"{self.expression(value.__self__)}.{value.__func__.__name__}"
        return self._object(value)

    def _object(self, value: Any) -> str:
        """What was made of other things by a call that can be written again."""
        if isinstance(value, functools.partial):
            self.bind("functools", functools)
            named = [f"{key}={self.expression(one)}" for key, one in value.keywords.items()]
            rest = ", ".join([*map(self.expression, value.args), *named])
            return f"functools.partial({self.expression(value.func)}, {rest})"
        if type(value).__module__.startswith("tensorflow."):
            return self._of_tensorflow(value)
        if callable(getattr(value, "get_config", None)):
            return self._configured(value)
        if isinstance(value, enum.Enum):
            return f"{self.expression(type(value))}.{value.name}"
        if type(value).__module__.partition(".")[0] not in _OF_CONSTANTS:
            return self._instance(value)
        return self._constant(value)

    def _of_tensorflow(self, value: Any) -> str:
        """What TensorFlow's decorators make of a function, its tensors and dtypes."""
        for plain in (list, tuple, dict):
            if isinstance(value, plain):
                return self.expression(plain(value))
        function = getattr(value, "python_function", None)
        method = _decorated(function)
        if isinstance(method, MethodType):  # its owner is held by an object of TensorFlow
            owner = getattr(method.__self__, "target", method.__self__)
            if owner is None:
                raise UntoldError("the object of a method is gone")
            return f"{self.expression(owner)}.{method.__func__.__name__}"
        if callable(function):
            compiled = ", jit_compile=True" if getattr(value, "_jit_compile", None) else ""
            return f"tf.function({self.expression(function)}{compiled})"
        decorator = getattr(getattr(value, "_tf_decorator", None), "decorator_name", "")
        if decorator == "custom_gradient":
            return f"tf.custom_gradient({self.expression(_decorated(value))})"
        return self._constant(value)

    def _function(self, value: FunctionType) -> str:
        module = sys.modules.get(value.__module__)
        if module is not None and is_installed(module):
            return self._imported(value)
        if any(one is value for one in self.values.values()):
            return next(name for name, one in self.values.items() if one is value)
        text = function_text(value, self.expression)
        if text.name in self.values or any(map(self._is_other, text.uses, text.uses.values())):
            return self._apart(text, value)
        return self._defined(text, value)

    def _is_other(self, name: str, value: Any) -> bool:
        return name in self.values and self.values[name] is not value

    def _defined(self, text: FunctionText, value: Any) -> str:
        """Its text under its own name, after lines for what it takes from outside."""
        if text.name:
            self.values[text.name] = value
        for name, used in text.uses.items():
            if used is not value:
                self.bind(name, used)
        if not text.name:
            return f"({text.code})"
        self._add(text.code)
        return text.name

    def _add(self, code: str) -> None:
        self.lines.append(("\n" if self.lines else "") + code.rstrip() + "\n")

    def _apart(self, text: FunctionText, value: Any) -> str:
        """The same where names have another meaning already: in a function that is given them."""
        given = {
            name: self.expression(used)
            for name, used in text.uses.items()
            if used is not value and not isinstance(used, ModuleType)
        }
        for name, used in text.uses.items():
            if isinstance(used, ModuleType):
                self.bind(name, used)
        if not text.name:
            return f"(lambda {', '.join(given)}: {text.code})({', '.join(given.values())})"
        maker = self._free(f"make_{text.name}")
        body = textwrap.indent(text.code.rstrip(), "    ")
        self._add(f"def {maker}({', '.join(given)}):\n{body}\n    return {text.name}")
        name = self._free(text.name)
        self.values[name] = value
        self.lines.append(f"{name} = {maker}({', '.join(given.values())})")
        return name

    def _free(self, name: str) -> str:
        """A name that stands for nothing yet; it is taken by asking for it."""
        names = (name if k == 1 else f"{name}_{k}" for k in itertools.count(1))
        found = next(one for one in names if one not in self.values)
        self.values[found] = None
        return found

    def _class(self, value: type) -> str:
        """A class by its import, or a user's by its source."""
        module = sys.modules.get(value.__module__)
        if module is not None and is_installed(module):
            return self._imported(value)
        if any(one is value for one in self.values.values()):
            return next(name for name, one in self.values.items() if one is value)
        before = list(self.lines), dict(self.values)
        try:
            text = class_text(value, self.expression)
            if text.name not in self.values:
                return self._defined(text, value)
        except UntoldError:
            pass
        self.lines, self.values = before
        return self._imported(value)

    def _instance(self, value: Any) -> str:
        """An object of a user's class by its attributes, without the class's own initialisation.

        Raises:
            UntoldError: an attribute that its class mentions is no plain value.
        """
        if any(one is value for one in self.values.values()):
            return next(name for name, one in self.values.items() if one is value)
        maker = self.expression(type(value))
        mentioned = "\n".join(self.lines)
        lines = []
        for key, one in attributes(value).items():
            before = list(self.lines), dict(self.values)
            try:
                text = self.expression(one)
            except UntoldError:
                self.lines, self.values = before
                if re.search(rf"\.{key}\b", mentioned):
                    raise
                continue  # nothing that is computed asks for it
            lines.append((key, text))
        name = self._free(f"own_{maker.lower()}")
        self.values[name] = value
        self.lines.append(f"{name} = object.__new__({maker})")
        plain = "__setattr__" not in {
            name for one in type(value).__mro__[:-1] for name in vars(one)
        }
        for key, text in lines:
            set_plainly = plain and key.isidentifier()
            self.lines.append(
                f"{name}.{key} = {text}"
                if set_plainly
                else f"object.__setattr__({name}, {key!r}, {text})"
            )
        return name

    def _imported(self, value: Any) -> str:
        module, name = value.__module__, value.__qualname__
        found = getattr(sys.modules.get(module), name, None) if name.isidentifier() else None
        if found is not value or module == "__main__":
            raise UntoldError(f"{name} cannot be imported")
        if module == "builtins":
            return str(name)
        if not is_installed(sys.modules[module]):
            self.module = module
        line = f"from {module} import {name}"
        if line not in self.lines:
            self.lines.append(line)
        return str(name)

    def _configured(self, value: Any) -> str:
        """An object of Keras by its class and its configuration, as far as it is not the default.

        Raises:
            UntoldError: it has a part that is no plain value.
        """
        maker = self.expression(type(value))
        given = {key: self.expression(one) for key, one in configuration(value).items()}
        return f"{maker}({', '.join(f'{key}={text}' for key, text in given.items())})"

    def _constant(self, value: Any) -> str:
        if isinstance(value, bool | int | str | bytes | type(None)):
            return repr(value)
        if type(value) is float:
            return literal(value)
        if isinstance(value, list | tuple | dict) and type(value) in (list, tuple, dict):
            return self._collected(value)
        return self._array(value)

    def _collected(self, value: list[Any] | tuple[Any, ...] | dict[Any, Any]) -> str:
        if isinstance(value, dict):
            pairs = (f"{self.expression(k)}: {self.expression(one)}" for k, one in value.items())
            return "{" + ", ".join(pairs) + "}"
        inside = ", ".join(map(self.expression, value))
        if isinstance(value, list):
            return f"[{inside}]"
        return f"({inside},)" if value else "()"

    def _array(self, value: Any) -> str:
        """Arrays, tensors and numbers of NumPy and TensorFlow, and dtypes."""
        tf: Any = sys.modules.get("tensorflow")
        if tf is None:
            raise UntoldError("TensorFlow is not there")
        if isinstance(value, tf.DType):
            return f"tf.{value.name}"
        is_tensor = tf.is_tensor(value) or isinstance(value, tf.Variable)
        if not is_tensor and not isinstance(value, np.ndarray | np.generic):
            raise UntoldError(f"a {type(value).__name__} cannot be written as code")
        try:
            array = np.asarray(value.numpy() if is_tensor else value)
        except Exception:  # noqa: BLE001 - whatever a symbolic tensor raises
            raise UntoldError("a symbolic tensor has no value") from None
        if array.size > _MOST_NUMBERS or array.dtype.kind not in "fiub" + "V":
            raise UntoldError(f"an array of {array.size} values of {array.dtype} is too long")
        if array.dtype.kind in "fV":
            array = array.astype(np.float64)
        items = self.expression(array.tolist())
        if is_tensor:
            made = f"tf.constant({items}, tf.{tf.as_dtype(value.dtype).name})"
            return f"tf.Variable({made})" if isinstance(value, tf.Variable) else made
        self.bind("numpy", sys.modules["numpy"])
        if isinstance(value, np.generic):
            return f"numpy.{value.dtype.name}({items})"
        return f'numpy.array({items}, "{value.dtype.name}")'


def _decorated(value: Any) -> Any:
    """What TensorFlow's decorator was given, before AutoGraph put what it made in its place."""
    return getattr(value, "__original_wrapped__", getattr(value, "__wrapped__", None))
