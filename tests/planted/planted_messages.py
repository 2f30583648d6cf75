"""Messages of failed checks, and whether their scripts print what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import lossfuzz
from lossfuzz.harness.results.kinds import REFUSAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planted_entry import Planted

    from lossfuzz.harness.results.findings import Finding

_PLANTED_FOLDER = Path(__file__).parent
LONGEST_MESSAGE = 10_000
_CLOSE = 2e-8

_RUNNER = """\
import contextlib, io, json, sys, traceback
sys.path.append(sys.argv[1])  # the tests' root, behind the package
answers = []
for code in json.load(sys.stdin):
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "script", "exec"), {"__name__": "__main__"})
    except BaseException:
        printed.write(traceback.format_exc())
    answers.append(printed.getvalue())
print(json.dumps(answers))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a check of one loss said.

    Attributes:
        name: of the loss.
        text: of the message; empty where nothing was found.
        finding: that it shows.
        seconds: of the check.
    """

    name: str
    text: str
    finding: Finding | None
    seconds: float

    @property
    def script(self) -> str:
        """The script in the message."""
        code = self.text.partition("as a script")[2].partition("\n")[2]
        return re.sub(r"^    ", "", code, flags=re.MULTILINE)


def message_of(entry: Planted, modes: Sequence[str], rows: int | None = None) -> Message:
    """What `lossfuzz.check` says of a planted loss in the formats in which it breaks."""
    return checked(
        entry.name,
        entry.loss,
        entry.against,
        formats=[name for name in ("float32", "float16", "bfloat16") if name in entry.formats],
        modes=[mode for mode in modes if mode in entry.modes] or entry.modes[:1],
        reduction=entry.reduction,
        rows=rows,
    )


def checked(name: str, loss: object, against: object, **options: object) -> Message:
    """What `lossfuzz.check` says of a loss."""
    started = time.perf_counter()
    try:
        lossfuzz.check(loss, against, **options)
    except lossfuzz.LossDefect as defect:
        text, finding = str(defect), defect.finding
    except lossfuzz.LossRefusal:
        text, finding = "", None
    else:
        text, finding = "", None
    seconds = time.perf_counter() - started
    return Message(name=name, text=text, finding=finding, seconds=seconds)


def outputs_of(codes: Sequence[str], *folders: Path) -> list[str]:
    """What scripts print, in a process of their own that has TensorFlow and some folders."""
    path = os.pathsep.join(map(str, (_PLANTED_FOLDER, *folders)))
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", _RUNNER, str(_PLANTED_FOLDER.parents[1])],
        input=json.dumps(codes),
        capture_output=True,
        text=True,
        check=True,
        cwd=_PLANTED_FOLDER,  # in the repository's root its folders stand before the package
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path},
    )
    answers: list[str] = json.loads(done.stdout.splitlines()[-1])
    return answers


def faults_of(message: Message, output: str) -> list[str]:
    """Where a script does not show what its message claims."""
    faults = []
    finding = message.finding
    if len(message.text) > LONGEST_MESSAGE:
        faults.append(f"the message has {len(message.text)} characters")
    if finding is not None and finding.unconfirmed:
        faults.append("no script shows it")
    if finding is None or finding.kind == REFUSAL:
        return faults
    for what in ("loss", "gradient"):
        line = re.search(rf"^{what} +(.*)  exact: (.*)$", output, re.MULTILINE)
        if line is None:
            return [*faults, f"no {what} was printed: {output[-300:]}"]
        told = _told(message.text, what)
        printed = [_numbers(part) for part in line.groups()]
        if not all(map(_alike, told, printed)):
            faults.append(f"{what}: the message tells {told}, the script prints {printed}")
    return faults


def _told(text: str, what: str) -> list[list[float]]:
    """What a message says is computed, and is exact."""
    if what == "loss":
        line = re.search(r"^  loss      is (\S+), .* exact value (\S+)$", text, re.MULTILINE)
        return [_numbers(part) for part in line.groups()] if line else []
    lines = re.search(r"^  gradient  is (.*),\n +exactly +(.*)$", text, re.MULTILINE)
    parts = lines.groups() if lines else ()
    return [_numbers(re.sub(r" at \d+|; \d+ in all", "", part)) for part in parts]


def _numbers(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"-?(?:nan|inf|\d[\d.]*(?:e[+-]?\d+)?)", text)]


def _alike(told: list[float], printed: list[float]) -> bool:
    return len(told) == len(printed) and all(
        one == other
        or (one != one and other != other)  # noqa: PLR0124 - NaN
        or abs(one - other) <= _CLOSE * abs(other)
        for one, other in zip(told, printed, strict=True)
    )


def outputs_without_faults(messages: Sequence[Message], *folders: Path) -> list[str]:
    """What the messages' scripts print; fails with all that they do not show."""
    outputs = outputs_of([one.script for one in messages], *folders)
    pairs = zip(messages, outputs, strict=True)
    faults = {one.name: faults_of(one, output) for one, output in pairs}
    told = {name: found for name, found in faults.items() if found}
    if told:
        raise AssertionError(f"messages claim what their scripts do not show: {told}")
    return outputs
