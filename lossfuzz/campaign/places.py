"""Where a campaign runs: devices of this interpreter's TensorFlow, and of other interpreters'."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from lossfuzz.harness.backend import device_named, devices, start_tensorflow, versions
from lossfuzz.harness.running.server import cpu_features
from lossfuzz.harness.running.subject import start_subject

if TYPE_CHECKING:
    from collections.abc import Mapping


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


def other_versions(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The packages of which two environments have other versions; empty if there are none.

    Args:
        before: as `describe` tells it; what it does not tell counts as the same.
        after: the same of the other.
    """
    told = _versions_apart(before, after)
    for name, (one, other) in _shared_subjects(before, after).items():
        told += [f"{name}'s {apart}" for apart in _versions_apart(one, other)]
    return ", ".join(told)


def other_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """In what else two environments differ that kernels are chosen by; empty if in nothing.

    These are features of the processor, and variables that TensorFlow reads, but for its logs.

    Args:
        before: as `other_versions` has it.
        after: the same of the other.
    """
    told = _features_apart(before, after)
    for name, (one, other) in _shared_subjects(before, after).items():
        told += [f"{name}'s {apart}" for apart in _features_apart(one, other)]
    if "flags" in before and "flags" in after:
        for name in sorted({*before["flags"], *after["flags"]}):
            values = [repr(one["flags"].get(name, "")) for one in (before, after)]
            if values[0] != values[1] and not name.startswith(_LOGS):
                told.append(f"{name} {values[0]} and {values[1]}")
    return ", ".join(told)


def _shared_subjects(
    before: Mapping[str, Any], after: Mapping[str, Any]
) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    one, other = before.get("subjects", {}), after.get("subjects", {})
    return {name: (one[name], other[name]) for name in one if name in other}


def _versions_apart(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    old, new = before.get("versions", {}), after.get("versions", {})
    if not (old and new):
        return []
    return [
        f"{name} {old.get(name, 'not installed')} and {new.get(name, 'not installed')}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]


def _features_apart(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    one, other = (set(place.get("cpu_features", ())) for place in (before, after))
    if not (one and other) or one == other:
        return []
    return [f"processor, which differs in {', '.join(sorted(one ^ other))}"]


_LOGS = ("TF_CPP_", "TF_ENABLE_DEPRECATION")
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
