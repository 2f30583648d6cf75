"""A finding as a script of its own, which says by its exit code whether the defect stands.

It needs TensorFlow, Keras where the path is Keras's, and nothing of ours. It exits with 1 while
the defect stands and with 0 once it is gone: so it is a test, and serves ``git bisect run``.
"""

from __future__ import annotations

import base64
import math
import textwrap
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lossfuzz.harness.numbers.decimals import proved
from lossfuzz.harness.numbers.formats import format_named
from lossfuzz.harness.paths.table import path_named
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.kinds import DEFECT, KINDS
from lossfuzz.reports import snippet, snippet_inputs
from lossfuzz.reports.literals import SHOWN_CLASSES, listed, literal, quoted
from lossfuzz.reports.snippet_inputs import shown_classes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lossfuzz.harness.results.findings import Finding

STANDING = 1
"""The exit code of a script whose finding stands."""

_LINE = 96
_NAMES = {"tensorflow": "TensorFlow", "tf-nightly": "tf-nightly", "keras": "Keras"}
_HALF = 1 / 2
_VANISHED = 1 / 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """The batch in which a finding's row shows it.

    Attributes:
        copies: of the row, that make the batch.
        logits: of a batch of different rows, shape ``[..., classes]``; None of copies.
        targets: what the path is fed beside them.
        row: the finding's, counted over all leading axes.
    """

    copies: int = 1
    logits: NDArray[Any] | None = None
    targets: NDArray[Any] | None = None
    row: int = 0


def script(
    finding: Finding,
    versions: Mapping[str, str],
    batch: Shown | None = None,
    *,
    seconds: float = 300.0,
) -> str:
    """The script of a finding.

    Args:
        finding: of any kind.
        versions: of the packages that it was seen with.
        batch: in which its row shows it; by default copies of the row, as the finding tells.
        seconds: after which a timeout is one.
    """
    own = batch is None
    batch = batch or Shown(copies=finding.batch_rows if finding.repeated else 1)
    body = snippet.step(finding)
    if finding.kind == kinds.REFUSAL:
        body = _REFUSED.format(
            step=textwrap.indent(body.rstrip(), "    "),
            stands=quoted(f"finding {finding.id} still stands"),
        )
    return (
        _head(finding, versions)
        + _settings(finding, seconds)
        + snippet.imports(finding)
        + _inputs(finding, batch, own=own)
        + body
        + _other_modes(finding, batch)
        + _verdict(finding, batch)
    )


def _inputs(finding: Finding, batch: Shown, *, own: bool) -> str:
    """Logits, labels and the row that shows it, of the finding's own batch or of another."""
    if batch.logits is not None:
        return _packed(batch, labelled="labels" in snippet_inputs.fed(path_named(finding.path)))
    code = snippet_inputs.inputs(finding, None if own else batch.copies)
    place = _place(finding) if own or batch.copies == finding.batch_rows else 0
    return f"{code.rstrip()}\nrow = {place}  # the one that shows it\n\n" if place else code


def _place(finding: Finding) -> int:
    """The row's index; 0 where it stands alone, since its batch is not in the record."""
    return finding.place if finding.batch is not None or finding.repeated else 0


def _head(finding: Finding, versions: Mapping[str, str]) -> str:
    path = path_named(finding.path)
    needs = ["tensorflow", *([] if path.api == "tensorflow" else [path.api])]
    used = ", ".join(
        f"{_NAMES.get(name, name)} {versions[name]}"
        for name in (*_NAMES, "tf_keras")
        if name in versions and (name in needs or name == "tf-nightly")
    )
    kind = f"{finding.tier.capitalize()}: {finding.kind}"
    run = (
        "Run: python FILE. It prints what is computed beside what is exact, and exits with 1 "
        "while this stands, with 0 once it is gone."
    )
    if finding.kind in (kinds.CRASH, kinds.TIMEOUT):
        ends = "dies" if finding.kind == kinds.CRASH else "is ended by an alarm, at the limit"
        run = f"Run: python FILE. While this stands the process {ends}; else it exits with 0."
    lines = [
        f"{kind} in {finding.path}, {finding.format}, {finding.mode}, on {finding.device}.",
        f"This means: {KINDS[finding.kind]}.",
        *([f"Seen: {finding.message}"] if finding.message else []),
        "",
        f"Found by lossfuzz {versions.get('lossfuzz', '')}, finding {finding.id}"
        + (f", with {used}." if used else "."),
        f"Needs: pip install {' '.join(needs)}"
        + (f" and the module of {finding.path.partition(':')[0]}" if ":" in finding.path else ""),
        run,
    ]
    return "".join(f"{line}\n" for text in lines for line in _comment(text))


def _comment(text: str) -> list[str]:
    """Lines of comment; whatever would end a line, or cannot be printed, is taken out."""
    plain = "".join(one if one.isprintable() else "?" for one in " ".join(text.split()))
    wrapped = textwrap.wrap(plain, _LINE, break_on_hyphens=False)
    return [f"# {line}" for line in wrapped] or ["#"]


def _settings(finding: Finding, seconds: float) -> str:
    lines = []
    if path_named(finding.path).api == "keras":
        lines += ["import os", 'os.environ["KERAS_BACKEND"] = "tensorflow"']
    if finding.kind == kinds.TIMEOUT:
        lines += ["import signal", f"signal.alarm({math.ceil(seconds)})  # ends the process"]
    return "".join(f"{line}\n" for line in lines)


_PACKED = """\
import base64, zlib
import numpy

def unpacked(shape, dtype, text):
    values = numpy.frombuffer(zlib.decompress(base64.b64decode(text)), dtype.as_numpy_dtype)
    return tf.constant(values.reshape(shape))

logits = unpacked({shape}, tf.{format}, {logits})
{labels}row = {row}  # the one that shows it

"""


_PACKED_LABELS = "labels = unpacked({shape}, tf.{format}, {targets})\n"


def _packed(batch: Shown, *, labelled: bool) -> str:
    """A batch of different rows, bit by bit."""
    if batch.logits is None or batch.targets is None:
        raise ValueError("expected logits and targets of a batch of different rows")
    labels = _PACKED_LABELS.format(
        shape=list(batch.targets.shape),
        format=batch.targets.dtype.name,
        targets=_text(batch.targets),
    )
    return _PACKED.format(
        shape=list(batch.logits.shape),
        format=batch.logits.dtype.name,
        logits=_text(batch.logits),
        labels=labels if labelled else "",
        row=batch.row,
    )


def _text(values: NDArray[Any]) -> str:
    packed = base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 9)).decode()
    lines = [packed[k : k + _LINE] for k in range(0, len(packed), _LINE)]
    return "(\n" + "\n".join(f"    {quoted(line)}" for line in lines) + ")"


_REFUSED = """\
try:
{step}
except Exception as error:
    print("raised", type(error).__name__ + ":", (str(error).strip().splitlines() or [""])[0])
    print({stands})
    raise SystemExit(1) from None
"""

_LOSS = "float(tf.reshape(loss, [-1])[{row}])"
_GRADIENT = "tf.reshape(gradient, [-1, logits.shape[-1]])[{row}]"

_OTHER = """
try:
{step}
    print({name}, {loss}, [float(g) for g in {gradient}[:{classes}]])
except Exception as error:
    print({name}, "raised", type(error).__name__)
"""


def _other_modes(finding: Finding, batch: Shown) -> str:
    """A mode disagreement's path in the other modes, whose results are printed too."""
    if finding.kind != kinds.MODE_DISAGREEMENT:
        return ""
    loss_row, row = _places(finding, batch)
    parts = [
        _OTHER.format(
            step=textwrap.indent(snippet.step(finding, mode).rstrip(), "    "),
            name=quoted(mode.ljust(8)),
            loss=_LOSS.format(row=loss_row),
            gradient=_GRADIENT.format(row=row),
            classes=SHOWN_CLASSES,
        )
        for mode in MODES
        if mode != finding.mode
    ]
    return "observed = loss, gradient\n" + "".join(parts) + "\nloss, gradient = observed\n"


def _places(finding: Finding, batch: Shown) -> tuple[str, str]:
    """The index of the row's loss, and of its gradient."""
    row = "row" if batch.logits is not None or _place(finding) else "0"
    return "0" if path_named(finding.path).loss.reduction is not None else row, row


def _verdict(finding: Finding, batch: Shown) -> str:
    """What prints the result beside the exact one, and decides."""
    gone = quoted(f"finding {finding.id} is gone")
    if finding.kind in (kinds.REFUSAL, kinds.CRASH, kinds.TIMEOUT):
        return f"print({_LOSS.format(row=0)})\nprint({gone})\n"
    loss_row, row = _places(finding, batch)
    classes = shown_classes(finding)
    return _DECIDED.format(
        loss=_LOSS.format(row=loss_row),
        gradient=_GRADIENT.format(row=row),
        classes=classes,
        exact_loss=literal(proved(finding.exact_loss)),
        exact_gradient=listed([proved(finding.exact_gradient[k]) for k in classes]),
        stands=_criterion(finding),
        text=quoted(f"finding {finding.id}"),
    )


_DECIDED = """
import math

classes = {classes}
row_gradient = {gradient}
loss, gradient = {loss}, [float(row_gradient[k]) for k in classes]
exact_loss, exact_gradient = {exact_loss}, {exact_gradient}
print("loss    ", loss, " exact:", exact_loss)
print("gradient", gradient, " exact:", exact_gradient)
stands = {stands}
print({text}, "still stands" if stands else "is gone")
raise SystemExit(int(stands))
"""


def _criterion(finding: Finding) -> str:
    """The condition under which the finding stands, as an expression of the script's names."""
    loss_off = f"not abs(loss - exact_loss) <= {literal(_loss_tolerance(finding))}"
    gradient_off = (
        f"any(not abs(g - e) <= {literal(_gradient_tolerance(finding))} "
        "for g, e in zip(gradient, exact_gradient))"
    )
    largest = max((abs(value) for value in finding.exact_gradient), default=0.0)
    small = f"float(tf.reduce_max(tf.abs(row_gradient))) <= {literal(largest * _VANISHED)}"
    label = shown_classes(finding).index(finding.label)
    return {
        kinds.NON_FINITE_LOSS: "not math.isfinite(loss)",
        kinds.NON_FINITE_GRADIENT: "not bool(tf.reduce_all(tf.math.is_finite(row_gradient)))",
        kinds.LOSS_COLLAPSE: "loss == 0",
        kinds.SATURATION: loss_off,
        kinds.INACCURATE_LOSS: loss_off,
        kinds.GRADIENT_COLLAPSE: small,
        kinds.LABEL_GRADIENT_COLLAPSE: f"gradient[{label}] == 0",
        kinds.SIGN_FLIP: "any(g * e < 0 for g, e in zip(gradient, exact_gradient))",
        kinds.INACCURATE_GRADIENT: gradient_off,
        kinds.UPSTREAM_IGNORED: gradient_off,
        kinds.MODE_DISAGREEMENT: f"({loss_off}) or {gradient_off}",
    }[finding.kind]


def _loss_tolerance(finding: Finding) -> float:
    error = abs(finding.observed_loss - finding.exact_loss)
    return _tolerance(finding, [error], [finding.exact_loss], finding.loss_dtype)


def _gradient_tolerance(finding: Finding) -> float:
    pairs = zip(finding.observed_gradient, finding.exact_gradient, strict=False)
    errors = [abs(observed - exact) for observed, exact in pairs]
    return _tolerance(finding, errors, finding.exact_gradient, finding.format)


def _tolerance(
    finding: Finding, errors: Sequence[float], exact: Sequence[float], dtype: str
) -> float:
    """Half of the largest error that was seen, but for a defect no less than rounding explains."""
    units = [format_named(name).unit_roundoff for name in {dtype, finding.format}]
    explained = finding.bound * max(units) * max(1.0, *map(abs, exact))
    largest = max(errors, default=math.nan)
    if not math.isfinite(largest):
        return explained
    if finding.tier == DEFECT and largest > explained:
        return max(largest * _HALF, explained)
    return explained if finding.kind == kinds.MODE_DISAGREEMENT else largest * _HALF
