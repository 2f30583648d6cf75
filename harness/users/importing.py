"""Importing what users name as ``module:attribute``: their modules run by the one door."""

from __future__ import annotations

import importlib
from typing import Any

from lossfuzz.harness.backend import load_quietly
from lossfuzz.harness.users.settings import keep_settings
from lossfuzz.harness.users.time_limit import limited_by_default
from lossfuzz.harness.users.user_code import UserCode, UserCodeError, kind_of, line_of


def imported(name: str) -> Any:
    """What ``package.module:attribute`` names.

    Raises:
        ValueError: there is none; the message says what is missing, or what the module raised.
    """
    module, separator, attributes = name.partition(":")
    if not separator or not module or not attributes:
        raise ValueError(f"expected package.module:function, got {name!r}")
    load_quietly()  # most such modules import TensorFlow, whose logs are in the way
    door = UserCode(module)
    try:
        with limited_by_default(), door:
            found: Any = importlib.import_module(module)
            for attribute in attributes.split("."):
                found = getattr(found, attribute)
    except UserCodeError as error:
        raise ValueError(f"cannot import {name!r}: {error}") from None
    except Exception as error:  # noqa: BLE001 - whatever a user's module raises when imported
        raise ValueError(
            f"cannot import {name!r}: {kind_of(error)}: {line_of(error)} (is its folder on "
            "PYTHONPATH?)"
        ) from None
    keep_settings(module, door.changed)
    return found
