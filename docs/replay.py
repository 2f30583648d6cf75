"""Runs every script of findings.md again and compares what it prints with the page.

``python docs/replay.py --python bare/bin/python`` runs the reproductions in that interpreter,
which needs TensorFlow and Keras and nothing of ours, and the checks by hand in this one. Each
script runs in a folder of its own, in isolated mode. A line tells of each; exits with 1 if one
differs.
Titles' parts given as arguments choose sections.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_REPRODUCTION, _CHECK = "reproduction", "check by hand"
_SECTION = re.compile(r"^## (\d+\. .*)$", re.MULTILINE)
_SCRIPT = re.compile(
    r"\*\*(?P<what>Reproduce|Check by hand)\*\*.*?```python\n(?P<script>.*?)```\n\n"
    r"```text\n(?P<printed>.*?)```"
    r"(?:\n\nThe same script for (?P<mode>\w+) prints:\n\n```text\n(?P<other>.*?)```)?",
    re.DOTALL,
)
_DECORATORS = {"eager": "", "graph": "@tf.function\n", "XLA": "@tf.function(jit_compile=True)\n"}
_STEP = re.compile(r"^(@tf\.function.*\n)?def step\(", re.MULTILINE)
_MODEL_MODE = re.compile(r"^mode = '\w+'$", re.MULTILINE)
_SECONDS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A script of the page with what the page says that it prints.

    Attributes:
        section: number and title.
        what: which script of the section.
        code: of the script.
        printed: its output.
    """

    section: str
    what: str
    code: str
    printed: str


def scripts(document: str) -> Iterator[Shown]:
    """Every script of the page, those that it describes as the same in another mode included.

    Raises:
        ValueError: a section has not both of its scripts, so the page has another layout.
    """
    _, *parts = _SECTION.split(document)
    for section, text in zip(parts[::2], parts[1::2], strict=True):
        found = list(_SCRIPT.finditer(text))
        if [one["what"] for one in found] != ["Reproduce", "Check by hand"]:
            raise ValueError(f"expected a reproduction and a check in section {section!r}")
        for one in found:
            what = _REPRODUCTION if one["what"] == "Reproduce" else _CHECK
            yield Shown(section=section, what=what, code=one["script"], printed=one["printed"])
            if one["mode"]:
                yield Shown(
                    section=section,
                    what=f"{what}, {one['mode']}",
                    code=_in_mode(one["script"], one["mode"]),
                    printed=one["other"],
                )


def _in_mode(script: str, mode: str) -> str:
    """The same script in another mode, as the page describes it."""
    if _MODEL_MODE.search(script):
        return _MODEL_MODE.sub(f"mode = '{mode.lower()}'", script)
    return _STEP.sub(f"{_DECORATORS[mode]}def step(", script)


def run(code: str, python: str) -> str:
    """What a script prints; what it wrote to standard error, if it failed."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(code, encoding="utf-8")
        done = subprocess.run(  # noqa: S603 - scripts of our own page
            [python, "-I", str(script)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
            env={**kept, "HOME": folder, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["nothing on standard error"]
        return f"exit code {done.returncode}: {lines[-1]}"
    return done.stdout


def same(printed: str, shown: str) -> bool:
    """Whether two outputs have equal words and equal numbers, however they are spaced."""
    return [_read(word) for word in printed.split()] == [_read(word) for word in shown.split()]


def _read(word: str) -> tuple[str, str]:
    """A word as what surrounds its number, and the number."""
    bare = word.strip("[],")
    try:
        return word.replace(bare, ""), repr(float(bare))
    except ValueError:
        return word, ""


def main() -> int:
    """Run what was chosen; returns 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--python", default=sys.executable, help="runs the reproductions")
    parser.add_argument("--document", type=Path, default=Path(__file__).with_name("findings.md"))
    parser.add_argument("titles", nargs="*", help="parts of titles; all sections by default")
    options = parser.parse_args()
    differing = count = 0
    for one in scripts(options.document.read_text(encoding="utf-8")):
        if options.titles and not any(title in one.section for title in options.titles):
            continue
        python = sys.executable if one.what == _CHECK else options.python
        printed = run(one.code, python)
        equal = same(printed, one.printed)
        count += 1
        differing += not equal
        print(f"{'same' if equal else 'DIFFERS'}  {one.section}: {one.what}", flush=True)
        if not equal:
            print(f"  shown:\n{one.printed}  printed:\n{printed}")
    print(f"{count - differing} of {count} scripts print what the page shows")
    return int(bool(differing) or not count)


if __name__ == "__main__":
    sys.exit(main())
