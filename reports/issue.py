"""A finding as a text that can be filed upstream, in the layout of that project's form."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossfuzz.harness.losses.table import loss_named
from lossfuzz.harness.numbers.decimals import proved
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.records.printable import printable
from lossfuzz.harness.results.kinds import KINDS
from lossfuzz.reports.components import has_target, told_classes
from lossfuzz.reports.literals import SHOWN_CLASSES, literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lossfuzz.harness.results.findings import Finding

TRACKERS = {
    "tensorflow": "https://github.com/tensorflow/tensorflow/issues/new",
    "keras": "https://github.com/keras-team/keras/issues/new",
    "tf_keras": "https://github.com/keras-team/tf-keras/issues/new",
}
"""API to where its issues are filed."""

_PACKAGES = ("tensorflow", "tf-nightly", "keras", "tf_keras", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was really run for an issue, and where.

    Attributes:
        script: the standalone code.
        output: what it printed, to the last character.
        versions: of the packages.
        cpu_features: what arithmetic can depend on; may be empty.
        devices: that TensorFlow lists.
    """

    script: str
    output: str
    versions: Mapping[str, str]
    cpu_features: Sequence[str] = ()
    devices: Sequence[str] = ()


def issue(finding: Finding, seen: Seen) -> str:
    """The text: title, then the fields of TensorFlow's form or of Keras's.

    Args:
        finding: with what was observed now.
        seen: its script, which was run now.
    """
    path = path_named(finding.path)
    own = ":" in finding.path
    layout = _TENSORFLOW if path.api == "tensorflow" else _KERAS
    return layout.format(
        tracker=f"the project of {_inline(finding.path.partition(':')[0])}"
        if own
        else TRACKERS.get(path.api, TRACKERS["tensorflow"]),
        custom="Yes" if own else "No",
        title=_title(finding),
        nightly="Yes" if "tf-nightly" in seen.versions else "No",
        tensorflow=_inline(
            seen.versions.get("tf-nightly") or seen.versions.get("tensorflow", "unknown")
        ),
        packages=", ".join(
            f"{name} {_inline(seen.versions[name])}" for name in _PACKAGES if name in seen.versions
        ),
        system=_inline(platform.platform()),
        python=platform.python_version(),
        machine=_machine(seen),
        current=_current(finding),
        expected=_expected(finding),
        script=_fenced(seen.script, "python"),
        output=_fenced(printable(seen.output, kept="\n\t"), "text"),
    )


_TENSORFLOW = """\
<!-- for {tracker} -->
# {title}

### Issue type

Bug

### Have you reproduced the bug with TensorFlow Nightly?

{nightly}

### Source

binary

### TensorFlow version

{tensorflow}

### Custom code

{custom}

### OS platform and distribution

{system}

### Python version

{python}

### GPU model and memory

{machine}

### Current behavior?

{current}

**Expected behavior.** {expected}

Packages: {packages}.

### Standalone code to reproduce the issue

{script}

### Relevant log output

{output}
"""

_KERAS = """\
<!-- for {tracker} -->
# {title}

**System information**.
- Have I written custom code (as opposed to using a stock example script): {custom}
- OS Platform and Distribution: {system}
- TensorFlow installed from (source or binary): binary
- TensorFlow version: {tensorflow}
- Packages: {packages}
- Python version: {python}
- GPU model and memory: {machine}
- Exact command to reproduce: `python script.py`, with the code below

**Describe the current behavior**.

{current}

**Describe the expected behavior**.

{expected}

**Standalone code to reproduce the issue**.

{script}

**Source code / logs**.

{output}
"""


def _title(finding: Finding) -> str:
    source = path_named(finding.path).source
    called = re.search(r"\b(?:tf|keras|tf_keras)\.(?:nn|losses|compat)\.[\w.]+", source)
    where = finding.path if called is None else called.group()
    mode = {"xla": "XLA", "graph": "tf.function", "eager": "eager mode"}[finding.mode]
    return f"{_inline(where)}: {finding.kind} in {_inline(finding.format)}, {mode}"


def _machine(seen: Seen) -> str:
    devices = ", ".join(map(_inline, seen.devices))
    features = " ".join(map(_inline, seen.cpu_features))
    told = f"devices that TensorFlow lists: {devices}" if devices else "not recorded"
    return told + (f"; CPU features: {features}" if features else "")


def _current(finding: Finding) -> str:
    path = path_named(finding.path)
    kind = f"{finding.kind[0].upper()}{finding.kind[1:]}: {KINDS[finding.kind]}."
    if finding.message:
        return f"{kind} What was seen: {_code(finding.message)}"
    rows = f" in a batch of {finding.batch_rows} rows" if finding.batch_rows > 1 else ""
    text = (
        f"{kind} For logits {_numbers(finding.logits, finding.label)}"
        f" of {finding.format}{_target(finding)}{rows}, {_code(path.name)} returns loss "
        f"{literal(finding.observed_loss)} and gradient "
        f"{_gradient(finding, finding.observed_gradient)}."
    )
    if finding.by_design:
        text += (
            f" That agrees with the documented formula ({_inline(path.documented.name)}), whose "
            f"exact value is {literal(proved(finding.documented_loss))}: the formula itself is "
            "what this report is about."
        )
    return text


def _expected(finding: Finding) -> str:
    loss = loss_named(finding.loss)
    of_batch = " (of the whole batch)" if loss.reduction else ""
    return (
        f"Loss {literal(proved(finding.exact_loss))}{of_batch} and gradient "
        f"{_gradient(finding, [*map(proved, finding.exact_gradient)])}: the exact values of "
        f"{_inline(loss.name)} for these stored numbers, to as many digits, checked in "
        f"multiple-precision arithmetic (mpmath); by its definition {_code(loss.formula)} "
        f"({_inline(loss.source)}), the gradient by its derivative."
        + (
            f" The largest error is {finding.ulp_error:.3g} ULP, or {finding.mixed_error:.3g} "
            f"units of roundoff, where rounding explains at most {finding.bound:.3g}."
            if finding.ulp_error < float("inf")
            else ""
        )
    )


def _target(finding: Finding) -> str:
    if finding.target:
        return f" and target {_numbers(finding.target, finding.label)}"
    return f" and label {finding.label}" if has_target(finding) else ""


def _gradient(finding: Finding, values: Sequence[float]) -> str:
    """A gradient in full; of a wide row the label's component and the telling one."""
    if len(values) <= SHOWN_CLASSES:
        return _numbers(values, finding.label)
    told = [f"{values[k]!r} as {name}" for name, k in told_classes(finding)]
    return f"with {' and '.join(told)}, {len(values)} classes in all"


def _numbers(values: Sequence[float], label: int) -> str:
    """A row's numbers in full; of a wide row the label's."""
    if not values:
        return "(not known)"
    if len(values) > SHOWN_CLASSES:
        return f"with {values[label]!r} at the label, {len(values)} classes in all"
    return _code(f"[{', '.join(map(repr, values))}]")


def _inline(text: str) -> str:
    """Text of others on one line, which begins no markup and ends no comment."""
    return _line(text).replace("<", "&lt;").replace("-->", "--&gt;")


def _code(text: str) -> str:
    """The same as code."""
    return f"`{_line(text)}`"


def _line(text: str) -> str:
    plain = "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))
    return plain.replace("`", "'")


def _fenced(text: str, language: str) -> str:
    """Text in a fence that is longer than any in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
