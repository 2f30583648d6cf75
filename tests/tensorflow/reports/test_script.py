"""A finding's script needs TensorFlow alone, prints what was recorded, and decides by itself."""

import json
import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lossfuzz.commands.replay import batch_shown, refreshed
from lossfuzz.harness.numbers.decimals import proved
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.own import own_path_named
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.findings import Finding
from lossfuzz.harness.results.run import CellResult
from lossfuzz.measuring import Measuring
from lossfuzz.plan import Plan
from lossfuzz.replaying import STANDS, Replayed, replay
from lossfuzz.reports.issue import Seen, issue
from lossfuzz.reports.script import Shown, script
from lossfuzz.reports.snippet import snippet

VERSIONS = {"lossfuzz": "0.1.0", "tensorflow": "2.21.0", "keras": "3.15.1"}

PATHS = (
    "keras/function/softmax-identity",
    "tf.nn/naive",
    "tf.nn/one-hot/naive-plus-epsilon",
    "tf.nn/kl/naive",
    "tf.nn/ignoring/times-mask",
    "tf.nn/log-sum-exp/naive",
    "tf.nn/binary/naive",
    "keras/soft-binary/function/sigmoid-identity",
    "keras/mean/class/softmax-op",
    "model/keras/softmax-head/train_on_batch",
)

RUNNER = """\
import contextlib, io, json, sys, traceback
answers = []
for code in json.load(sys.stdin):
    printed, ended = io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "script", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        ended = end.code
    except BaseException:
        ended = traceback.format_exc()
    answers.append([ended, printed.getvalue()])
for name in sys.modules:
    assert not name.startswith("lossfuzz"), name
print(json.dumps(answers))
"""


def run_all(codes, folder, **environment):
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", RUNNER],
        input=json.dumps(codes),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=400,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(folder), **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def numbers(line):
    words = re.findall(r"(?<![\w.])-?(?:nan|inf|\d[\d.]*(?:e[+-]?\d+)?)", line)
    return [float(word) for word in words]


def close(one, other):
    return one == pytest.approx(other, rel=1e-6, abs=1e-30, nan_ok=True)


@pytest.fixture(scope="module")
def found(tf):
    """A finding of each path, kind and tier, as it was found."""
    plan = Plan(
        paths=tuple(paths_matching(PATHS)),
        formats=(BINARY16, BINARY32),
        modes=("eager",),
        devices=("CPU:0",),
        shapes=((16, 3),),
        families=("margin_sweep", "masks"),
        rows=32,
    )
    wide = replace(
        plan,
        paths=tuple(paths_matching(["keras/function/softmax-op"])),
        modes=("eager", "graph", "xla"),
        shapes=((16, 12),),
    )
    kept = {}
    for one in (plan, wide):
        measuring, cells = Measuring(), [CellResult(cell) for cell in one.cells()]
        measuring.find_routes(cells)
        for recipe in (recipe for fmt in one.formats for recipe in one.recipes(fmt)):
            measuring.measure_batch(recipe, cells)
        for finding in (found for cell in cells for found in cell.findings.values()):
            mode = finding.mode if one is wide else ""
            kept.setdefault((finding.path, finding.kind, finding.tier, mode), finding)
    return list(kept.values())


@pytest.fixture(scope="module")
def ran(found, tmp_path_factory):
    """Scripts of all that was found, of the same with a sound path, and of a batch of rows."""
    shown, codes = [], []
    for finding in found:
        result = replay(finding)
        assert result.verdict == STANDS, (finding.cell_name, finding.kind, result.told)
        fresh = refreshed(finding, result)
        if not fresh.path.startswith("model/") or fresh.format == "float32":
            shown.append(fresh)  # of float16 models a step may be skipped at the first loss scale
            codes.append(script(fresh, VERSIONS, batch_shown(finding, result)))
    mended = [
        script(replace(one, path="tf.nn/fused"), VERSIONS)
        for one in shown
        if one.path == "keras/function/softmax-identity" and one.tier == kinds.DEFECT
    ]
    rows = Shown(
        logits=np.array([[0.0, 1.0], [0.0, 104.0]], np.float32),
        targets=np.array([0, 0], np.int32),
        row=1,
    )
    batch = script(_finding("keras/function/softmax-identity"), VERSIONS, rows)
    answers = run_all([*codes, *mended, batch], tmp_path_factory.mktemp("empty"))
    return {
        "found": list(zip(shown, answers, strict=False)),
        "mended": answers[len(codes) : -1],
        "batch": answers[-1],
    }


def test_scripts_of_every_kind_target_and_mode_print_the_recorded_values_and_exit_with_1(ran):
    shown = [finding for finding, _ in ran["found"]]
    assert {one.mode for one in shown} == {"eager", "graph", "xla"}
    assert len({one.loss for one in shown}) >= 8
    assert {
        kinds.GRADIENT_COLLAPSE,
        kinds.NON_FINITE_LOSS,
        kinds.INACCURATE_LOSS,
        kinds.MODE_DISAGREEMENT,
    } <= {one.kind for one in shown}
    for finding, (ended, printed) in ran["found"]:
        assert ended == 1, (finding.cell_name, finding.kind, finding.tier, ended, printed)
        assert f"finding {finding.id} still stands" in printed
        loss, gradient = [numbers(line) for line in printed.splitlines() if " exact: " in line]
        assert close(loss[0], finding.observed_loss), (finding.cell_name, printed)
        assert loss[1] == proved(finding.exact_loss)
        half = len(gradient) // 2
        assert half == min(half, 8) == len(gradient) - half
        for value in gradient[:half]:
            assert any(close(value, one) for one in finding.observed_gradient)
        assert set(gradient[half:]) <= set(map(proved, finding.exact_gradient))


def test_a_script_says_that_a_mended_defect_is_gone(ran):
    assert ran["mended"]
    for ended, printed in ran["mended"]:
        assert ended == 0
        assert "is gone" in printed


def test_a_batch_of_different_rows_is_written_bit_by_bit(ran):
    ended, printed = ran["batch"]
    assert ended == 1, printed
    assert "16.118" in printed


def test_refusals_crashes_and_timeouts_have_scripts(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import tensorflow as tf\n"
        "def refuses(logits, labels):\n"
        "    raise ValueError('no\\nway')\n"
        "def sound(logits, labels):\n"
        "    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)\n"
    )
    sys.path.append(str(tmp_path))
    name = "mine:{} as softmax cross-entropy with an integer label"
    refused = _finding(name.format("refuses"), kind=kinds.REFUSAL, message="ValueError: no")
    crashed = _finding(name.format("sound"), kind=kinds.CRASH, message="signal SIGABRT")
    slow = _finding(name.format("sound"), kind=kinds.TIMEOUT, message="silent for 300 s")
    codes = [script(one, VERSIONS) for one in (refused, crashed, slow)]
    try:
        ended = run_all(codes, tmp_path)
    finally:
        sys.path.remove(str(tmp_path))
    assert ended[0][0] == 1
    assert "raised ValueError: no" in ended[0][1]
    assert [end for end, _ in ended[1:]] == [0, 0]
    assert "signal.alarm(300)" in codes[2]


def test_text_of_others_cannot_become_code(tmp_path):
    (tmp_path / "odd-name;print(7).py").write_text(
        "import tensorflow as tf\n"
        "def loss(logits, labels):\n"
        "    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)\n"
        "globals()['f;raise SystemExit(7)'] = loss\n"
    )
    sys.path.append(str(tmp_path))
    evil = "\nraise SystemExit(7)\r raise SystemExit(7)\x00 ``` <script>alert(1)</script>"
    try:
        own = own_path_named(
            "odd-name;print(7):f;raise SystemExit(7)"
            " as softmax cross-entropy with an integer label"
        )
        one = _finding(own.name, message=evil)
        two = _finding("tf.nn/fused", device='CPU:0"); raise SystemExit(7)  #', message=evil)
        codes = [
            script(one, {**VERSIONS, "lossfuzz": evil}),
            snippet(one),
            script(two, VERSIONS),
            snippet(two),
        ]
        ended = run_all(codes, tmp_path)
    finally:
        sys.path.remove(str(tmp_path))
    assert [end for end, _ in ended[:2]] == [0, 0], ended
    for end, printed in ended[2:]:
        assert end not in (0, 7)
        assert "CPU:0" in str(end)
        assert not printed
    text = issue(one, Seen(script=codes[0], output=evil, versions=VERSIONS))
    assert "````" in text
    assert "\nraise SystemExit(7)" not in text.partition("### Standalone code")[0]


def test_issues_have_the_layout_of_their_project():
    seen = Seen(script="print()", output="1", versions=VERSIONS, cpu_features=("fma",))
    ours = issue(_finding("tf.nn/naive"), seen)
    for heading in ("### Issue type", "### Current behavior?", "### Relevant log output"):
        assert heading in ours
    assert "github.com/tensorflow/tensorflow" in ours
    theirs = issue(_finding("keras/function/softmax-op"), seen)
    assert "github.com/keras-team/keras/" in theirs
    for heading in ("**System information**", "**Describe the expected behavior**"):
        assert heading in theirs
    for text in (ours, theirs):
        assert "log(sum_k exp(x_k)) - x_y" in text
        assert "Bridle" in text
        assert "Loss 104.0 and gradient `[-1.0, 1.0]`" in text
        assert "fma" in text


def test_a_verdict_survives_json(found):
    written = json.dumps(replay(found[0]).to_json())
    assert json.dumps(Replayed.from_json(json.loads(written)).to_json()) == written


def _finding(path, *, kind=kinds.GRADIENT_COLLAPSE, message="", device="CPU:0"):
    return Finding(
        kind=kind,
        tier=kinds.DEFECT,
        path=path,
        format="float32",
        mode="eager",
        device=device,
        logits=(0.0, 104.0),
        label=0,
        loss_dtype="float32",
        observed_loss=16.118095397949219,
        exact_loss=104.0,
        observed_gradient=(0.0, 0.0),
        exact_gradient=(-1.0, 1.0),
        ulp_error=1.0e7,
        mixed_error=1.0e7,
        bound=11.0,
        margin=104.0,
        recipe={},
        row=0,
        message=message,
    )
