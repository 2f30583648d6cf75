"""Where a campaign runs: devices of this interpreter's TensorFlow, and of other interpreters'."""

from __future__ import annotations

import os
import re
from typing import Any

from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.subjects.server import cpu_features
from lossfuzz.harness.subjects.subject import start_subject


def describe(wanted: list[str], pythons: list[str]) -> dict[str, Any]:
    """The places of a campaign, and what is installed there.

    Args:
        wanted: devices by name; all that there are by default. A subject that lacks one of them
            is not run there.
        pythons: programs of other interpreters.

    Returns:
        ``devices``: the names of all places, subjects' behind their own; ``pythons``: subject to
        program; ``environment``: versions and devices of each.

    Raises:
        BackendError: this interpreter's TensorFlow lacks a device, or cannot be started.
        SubjectError: another one cannot be started.
    """
    tf = start_tensorflow()
    here = list(dict.fromkeys(device_named(tf, name) for name in wanted)) or devices(tf)
    environment: dict[str, Any] = {
        "versions": versions(),
        "devices": devices(tf),
        "cpu_features": cpu_features(),
        "flags": {name: value for name, value in sorted(os.environ.items()) if _matters(name)},
    }
    places = list(here)
    programs: dict[str, str] = {}
    for python in pythons:
        with start_subject(python) as running:
            subject = running.subject
        name = _unused(_short(subject.name), programs)
        programs[name] = python
        found = [device for device in subject.devices if not wanted or device in here]
        places += [f"{name}/{device}" for device in found]
        environment.setdefault("subjects", {})[name] = {
            "versions": subject.versions,
            "devices": list(subject.devices),
            "cpu_features": list(subject.cpu_features),
        }
    return {"devices": places, "pythons": programs, "environment": environment}


_PREFIXES = ("TF_", "XLA_", "KERAS_", "CUDA_")
_TERRAFORM = (
    "TF_CLI_",
    "TF_DATA_DIR",
    "TF_INPUT",
    "TF_LOG",
    "TF_PLUGIN_",
    "TF_VAR_",
    "TF_WORKSPACE",
)
"""Another tool's, some of which hold a path of the machine."""


def _matters(variable: str) -> bool:
    """Whether an environment variable may change what TensorFlow computes."""
    return variable.startswith(_PREFIXES) and not variable.startswith(_TERRAFORM)


def _short(name: str) -> str:
    """A name without what separates names of devices."""
    return re.sub(r"[/\s]+", "-", name)


def _unused(name: str, taken: dict[str, str]) -> str:
    number = 2
    candidate = name
    while candidate in taken:
        candidate = f"{name}-{number}"
        number += 1
    return candidate
