"""The pytest plugin: what is written wrong in options, ini files, markers and baselines."""

from __future__ import annotations

from typing import Any

from misuses.case import Case, Table

TEST = """
import tensorflow as tf

def fused(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

def test_one(lossfuzz_check):
    lossfuzz_check(fused, "softmax-cross-entropy", formats="float32", modes="eager", rows=200,
                   shapes=[(16, 5)], families="normal")
"""
_PYTEST = "python -m pytest -q -p no:cacheprovider"


def _told(name: str, options: str, says: str, *, ini: str = "", **more: Any) -> Case:
    files = {"test_one.py": TEST, "pytest.ini": f"[pytest]\n{ini}\n", **more.pop("files", {})}
    return Case(
        name=name,
        command=f"{_PYTEST} {options}",
        says=says,
        files=files,
        speaks=False,
        one_line=False,
        changes=True,
        **{"codes": (4,), "seconds": 60, **more},
    )


def _option(name: str, value: str, says: str) -> list[Case]:
    """The same on the command line and in the ini file."""
    return [
        _told(f"--lossfuzz-{name} {value!r}", f"--lossfuzz-{name}='{value}'", says),
        _told(
            f"lossfuzz_{name} = {value!r}",
            "",
            says,
            ini=f"lossfuzz_{name} = {value}",
            **({} if value.strip() else {"codes": (0,)}),  # a blank says nothing
        ),
    ]


_BASELINE = {
    "null": "null",
    "a list": "[]",
    "text": "text",
    "other JSON": '{"schema": 1, "checks": 5}',
    "checks of null": '{"schema": 1, "checks": [null]}',
    "a check without a result": '{"schema": 1, "checks": [{"test": "t", "number": 0}]}',
    "a result of null": '{"schema": 1, "checks": [{"test": "t", "number": 0, "result": null}]}',
    "another schema": '{"schema": 99, "checks": []}',
    "deep JSON": "[" * 100_000 + "]" * 100_000,
    "cells of nonsense": '{"schema": 1, "cells": [5], "plan": 1, "environment": 1, '
    '"interrupted": 1, "reference_rows": 1, "findings": 1}',
}

PLUGIN: Table = [
    *_option("rows", "many", "lossfuzz.rows.*many"),
    *_option("rows", "0", "lossfuzz.rows.*0"),
    *_option("rows", "-5", "lossfuzz.rows.*-5"),
    *_option("rows", "9" * 5000, "lossfuzz.rows"),
    *_option("seconds", "nan", "lossfuzz.seconds.*nan"),
    *_option("seconds", "-1", "lossfuzz.seconds.*-1"),
    *_option("seed", "x", "lossfuzz.seed.*x"),
    *_option("formats", "float8", "lossfuzz.formats.*float8"),
    *_option("modes", "jit", "lossfuzz.modes.*jit"),
    *_option("profile", "nothing", "nothing"),
    *_option("device", " ", "lossfuzz.device|no tests ran|1 passed"),
    _told("rows and seconds", "--lossfuzz-rows 5 --lossfuzz-seconds 5", "not both"),
    _told("a baseline that is not there", "--lossfuzz-baseline nowhere", "nowhere"),
    _told("a baseline that is a folder", "--lossfuzz-baseline .", "lossfuzz-baseline|folder|dir"),
    _told("saving into nowhere", "--lossfuzz-save no/such/folder/x", "no/such/folder"),
    _told("saving into a folder", "--lossfuzz-save .", "lossfuzz-save", codes=(2, 3, 4, 74)),
    _told(
        "saving into /dev/full",
        "--lossfuzz-save /dev/full",
        "/dev/full|space",
        codes=(1, 2, 3, 4, 74),
    ),
    *(
        _told(
            f"a baseline of {what}",
            "--lossfuzz-baseline b.json",
            "b.json.*(no|damaged|schema|expected|another)",
            files={"b.json": content},
        )
        for what, content in _BASELINE.items()
    ),
    _told(
        "a baseline that names a stranger's module",
        "--lossfuzz-baseline b.json",
        "b.json|passed|failed",
        codes=(0, 1, 4),
        files={
            "b.json": '{"schema": 1, "checks": [{"test": "test_one.py::test_one", "number": 0, '
            '"result": {"plan": {}, "environment": {}, "interrupted": false, '
            '"reference_rows": {}, '
            '"findings": [], "cells": [{"path": "payload:f as softmax cross-entropy with an '
            'integer label", "format": "float32", "mode": "eager", "device": "CPU:0", '
            '"unavailable": null, "summary": {}}]}}]}',
            "payload.py": "import os, pathlib\npathlib.Path(os.environ['OUTSIDE'], 'PAYLOAD-RAN')"
            ".write_text('x')\n",
        },
    ),
    _told(
        "an argument that the marker does not know",
        "",
        "colour",
        codes=(1,),
        files={
            "test_one.py": "import pytest\n@pytest.mark.lossfuzz(colour=1)\n"
            "def test_one(lossfuzz_check): lossfuzz_check(len, 'softmax-cross-entropy')\n"
        },
    ),
    _told(
        "a loss that exits",
        "",
        "exit|SystemExit",
        codes=(1,),
        files={
            "test_one.py": "import sys\ndef mine(x, y): sys.exit(0)\n"
            "def test_one(lossfuzz_check): lossfuzz_check(mine, 'softmax-cross-entropy', "
            "rows=100, modes='eager')\ndef test_two(): pass\n"
        },
    ),
]
