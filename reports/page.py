"""A page that stands alone: styles, scripts and data are in it, and nothing is fetched."""

from __future__ import annotations

import base64
import json
import math
import zlib
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from lossfuzz.harness.records.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIBRARIES = ("d3.min.js", "plot.umd.min.js", "page.js")


def page(template: str, *, data: Any, scripts: Sequence[str], **context: Any) -> str:
    """Fill in a template, in which every undefined name is an error and every text is escaped.

    Args:
        template: its file name.
        data: what the scripts draw, as JSON's types.
        scripts: names of the assets that draw it.
        context: the template's names.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lossfuzz.reports", ""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(
        style=_asset("page.css"),
        scripts=[_asset(name) for name in (*_LIBRARIES, *scripts)],
        data=packed(data),
        **context,
    )


def _shown(value: Any) -> Any:
    """A value of a template; text of others without characters that turn or hide it."""
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value, kept="\n\t") if is_text else value


def packed(data: Any) -> str:
    """JSON, deflated, in base64: small, and no text in it can end a script."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def figure(value: float) -> float | str:
    """A float in four digits; infinities and NaN by the names that JavaScript's Number reads."""
    if math.isfinite(value):
        return float(f"{value:.4g}")
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


class Pool:
    """Values that are kept once, however often they are pointed to."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._places: dict[str, int] = {}

    def place(self, value: Any) -> int:
        """The index of a value among those that are kept."""
        key = repr(value)
        if key not in self._places:
            self._places[key] = len(self.values)
            self.values.append(value)
        return self._places[key]


def _asset(name: str) -> Markup:
    text = resources.files("lossfuzz.reports.assets").joinpath(name).read_text("utf-8")
    return Markup(text)  # noqa: S704  # our own file
