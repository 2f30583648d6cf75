"""Whether messages show what they claim: every planted loss's script, pasted and run.

For each planted loss of tests/planted the message of `lossfuzz.check` is made, its script is run in
a process that has TensorFlow and the planted modules alone, and what it prints is held against
what the message says. Prints a line for each loss, and what differs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import lossfuzz
from lossfuzz.harness.backend import start_tensorflow
from lossfuzz.harness.findings import REFUSAL

PLANTED_FOLDER = Path(__file__).parents[1] / "tests" / "planted"
sys.path[:0] = [str(PLANTED_FOLDER)]

from planted_collection import PLANTED  # noqa: E402 - of the tests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from planted_entry import Planted

    from lossfuzz.harness.findings import Finding

LONGEST_MESSAGE = 10_000
_CLOSE = 2e-8

_RUNNER = """\
import contextlib, io, json, sys, traceback
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
        return re.sub(r"^    ", "", self.text.partition("as a script")[2].partition("\n")[2], flags=re.M)


def message_of(entry: Planted, modes: Sequence[str], rows: int | None = None) -> Message:
    """What `lossfuzz.check` says of a planted loss in the formats in which it breaks."""
    started = time.perf_counter()
    formats = [name for name in ("float32", "float16", "bfloat16") if name in entry.formats]
    try:
        lossfuzz.check(
            entry.loss,
            entry.against,
            formats=formats,
            modes=[mode for mode in modes if mode in entry.modes] or entry.modes[:1],
            reduction=entry.reduction,
            rows=rows,
        )
    except lossfuzz.LossDefect as defect:
        text, finding = str(defect), defect.finding
    except lossfuzz.LossRefusal:
        text, finding = "", None
    else:
        text, finding = "", None
    seconds = time.perf_counter() - started
    return Message(name=entry.name, text=text, finding=finding, seconds=seconds)


def outputs_of(codes: Sequence[str]) -> list[str]:
    """What scripts print, in a process of their own."""
    done = subprocess.run(  # noqa: S603 - this Python
        [sys.executable, "-c", _RUNNER],
        input=json.dumps(codes),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(PLANTED_FOLDER)},
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
        line = re.search(rf"^{what} +(.*)  exact: (.*)$", output, re.M)
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
        line = re.search(r"^  loss      is (\S+), .* exact value (\S+)$", text, re.M)
        return [_numbers(part) for part in line.groups()] if line else []
    lines = re.search(r"^  gradient  is (.*),\n +exactly +(.*)$", text, re.M)
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


def main() -> None:
    """Check all that were asked for; exit with 1 if a script does not show what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", metavar="PATTERN", help="names of losses")
    parser.add_argument("--mode", action="append", choices=("eager", "graph", "xla"))
    parser.add_argument("--rows", type=int, help="for each cell")
    options = parser.parse_args()
    start_tensorflow()
    chosen = [
        one
        for one in PLANTED
        if not options.only or any(fnmatchcase(one.name, pattern) for pattern in options.only)
    ]
    messages = [message_of(one, options.mode or ("eager",), options.rows) for one in chosen]
    outputs = outputs_of([one.script for one in messages])
    wrong = 0
    for message, output in zip(messages, outputs, strict=True):
        faults = faults_of(message, output)
        wrong += bool(faults)
        finding = message.finding
        told = "nothing found" if finding is None else f"{finding.kind}, {len(finding.logits)} classes"
        if finding is not None and finding.batch_rows > 1:
            told += f", {finding.batch_rows} rows"
        told += f", {len(message.text)} characters, {message.seconds:.1f} s"
        print(f"{message.name}: {told}", *(f"\n    {fault}" for fault in faults))
    print(f"{wrong} of {len(messages)} messages do not show what they claim")
    raise SystemExit(int(wrong > 0))


if __name__ == "__main__":
    main()
