"""The command line as a user meets it, in processes of its own."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ELSEWHERE = tempfile.gettempdir()
"""In the root the folder `lossfuzz` would hide the installed package from ``python -m``."""


def lossfuzz(*arguments, **environment):
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "lossfuzz", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=300,
        cwd=ELSEWHERE,
    )


SMALL = (
    "--paths",
    "keras/function/softmax-op,keras/function/softmax-identity",
    "--formats",
    "float32",
    "--shapes",
    "64x3",
)


def test_help_imports_neither_tensorflow_nor_numpy():
    code = (
        "import sys, lossfuzz.cli as cli\n"
        "try: cli.main(['run', '--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "loaded = set(sys.modules)\n"
        "heavy = {'tensorflow', 'numpy', 'keras', 'mpmath', 'rich', 'hypothesis'} & loaded\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ELSEWHERE
    )
    assert done.returncode == 0, done.stderr
    assert "--seconds" in done.stdout


def test_the_package_exports_what_it_names():
    code = (
        "import lossfuzz, types\n"
        "for name in 2 * lossfuzz.__all__:\n"
        "    assert not isinstance(getattr(lossfuzz, name), types.ModuleType), name\n"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ELSEWHERE
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run", "--paths", "keras/nothing"], ["unknown path 'keras/nothing'", "tf.nn/fused"]),
        (
            ["run", "--formats", "float8"],
            ["unknown format 'float8'", "float16, bfloat16, float32"],
        ),
        (["run", "--modes", "lazy"], ["unknown mode 'lazy'", "eager, graph, xla"]),
        (["run", "--families", "nice"], ["unknown family 'nice'", "margin_sweep"]),
        (["run", "--shapes", "10"], ["expected a shape such as 256x10", "'10'"]),
        (["run", "--paths", ""], ["expected at least one of the paths, got none"]),
        (["run", "--modes", ","], ["expected at least one of the modes, got none"]),
        (["memory", "--formats", ""], ["got an empty choice"]),
        (["run", "--rows", "0"], ["expected a budget above 0, got 0"]),
        (["run", "--seconds", "0"], ["expected a budget above 0, got 0"]),
        (["run", "--seconds", "nan"], ["expected a budget above 0, got nan"]),
        (["run", "--rows", "many"], ["--rows", "invalid int value: 'many'"]),
        (["run", "--seed", "-1"], ["expected a seed of 0 or more, got -1"]),
        (["run", "--fail-above", "2"], ["expects a share from 0 to 1, got 2"]),
        (["run", "--logical-cpus", "0"], ["expects 1 or more, got 0"]),
        (["run", "--out", "/dev/null/here"], ["cannot write to the output folder", "--out"]),
        (["referee", "--rows", "0"], ["expected --rows of 1 or more"]),
        (["memory", "--shape", "all"], ["--shape expects one shape such as 64x512x1000"]),
        (["memory", "--paths", "none"], ["unknown path 'none'"]),
        (["nonsense"], ["invalid choice: 'nonsense'", "run"]),
        ([], ["required", "COMMAND"]),
    ],
)
def test_wrong_use_gets_one_line_and_exit_code_2(arguments, parts):
    done = lossfuzz(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize("device", ["GPU:7", "TPU:0", "CPU:3"])
def test_a_device_that_is_not_there_lists_those_that_are(device, tmp_path):
    done = lossfuzz("run", *SMALL, "--device", device, "--out", str(tmp_path))
    assert done.returncode == 2
    assert f"unknown device '{device}'" in done.stderr
    assert "CPU:0" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_tensorflow_names_the_extra(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError(\"No module named 'tensorflow'\")")
    done = lossfuzz("run", "--out", str(tmp_path / "out"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "lossfuzz[tensorflow]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_another_keras_backend_is_refused(tmp_path):
    done = lossfuzz("run", "--out", str(tmp_path), KERAS_BACKEND="jax")
    assert done.returncode == 2
    assert "KERAS_BACKEND is 'jax'" in done.stderr


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    done = lossfuzz("run", *SMALL, "--rows", "1000", "--out", str(folder))
    return done, folder


def test_a_run_prints_table_findings_and_verdict(report):
    done, folder = report
    assert done.returncode == 0, done.stderr
    assert "clip + log" in done.stdout
    assert "softmax skipped" in done.stdout
    assert "defect: gradient collapse" in done.stdout
    assert "the loss stops at 16.118" in done.stdout
    assert "% of it in TensorFlow's loss paths" in done.stdout
    assert str(folder / "report.html") in done.stdout.replace("\n", "")
    assert "Traceback" not in done.stderr


def test_a_run_writes_results_and_page(report):
    _, folder = report
    results = json.loads((folder / "results.json").read_text())
    assert {cell["mode"] for cell in results["cells"]} == {"eager", "graph", "xla"}
    assert all(cell["summary"]["rows"] >= 1000 for cell in results["cells"])
    assert not results["interrupted"]
    page = (folder / "report.html").read_text()
    assert "the loss stops at 16.118" in page


def test_the_same_seed_gives_the_same_bytes(report, tmp_path):
    _, folder = report
    lossfuzz("run", *SMALL, "--rows", "1000", "--out", str(tmp_path))
    assert (tmp_path / "results.json").read_bytes() == (folder / "results.json").read_bytes()


def test_strict_fails_on_defects_only(tmp_path):
    out = ("--rows", "256", "--quiet", "--out", str(tmp_path))
    assert lossfuzz("run", *SMALL, *out, "--strict").returncode == 1
    sound = ("--paths", "tf.nn/fused", "--formats", "float32", "--shapes", "64x3")
    assert lossfuzz("run", *sound, *out, "--strict").returncode == 0


def test_fail_above_is_a_threshold(tmp_path):
    out = ("--rows", "256", "--quiet", "--out", str(tmp_path))
    assert lossfuzz("run", *SMALL, *out, "--fail-above", "0.01").returncode == 1
    assert lossfuzz("run", *SMALL, *out, "--fail-above", "1").returncode == 0


def test_one_of_several_cpu_devices_can_be_chosen(tmp_path):
    done = lossfuzz(
        "run",
        *SMALL,
        "--rows",
        "64",
        "--logical-cpus",
        "2",
        "--device",
        "CPU:1",
        "--out",
        str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert {cell["device"] for cell in results["cells"]} == {"CPU:1"}
    assert results["environment"]["devices"] == ["CPU:0", "CPU:1"]


def test_a_budget_in_seconds_ends(tmp_path):
    done = lossfuzz("run", *SMALL, "--modes", "eager", "--seconds", "1", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["cells"][0]["summary"]["rows"] > 0


def test_paths_are_listed_without_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('not wanted here')")
    done = lossfuzz("paths", PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "tf_keras/class/softmax-identity" in done.stdout
    assert "26 losses and 175 paths" in done.stdout


def test_the_referee_finds_no_disagreement():
    done = lossfuzz("referee", "--rows", "600")
    assert done.returncode == 0, done.stderr
    assert "0 disagreements between mpmath and Arb" in done.stdout
    assert "margin_sweep" in done.stdout


def test_memory_is_answered_by_route(tmp_path):
    out = tmp_path / "memory.json"
    paths = "tf.nn/fused,keras/function/softmax-op,keras/function/softmax-identity"
    done = lossfuzz("memory", "--paths", paths, "--shape", "4x64x1000", "--out", str(out))
    assert done.returncode == 0, done.stderr
    answer = " ".join(done.stdout.split())
    assert "float32 eager: peak of loss and gradient, by route: fused on logits 2.0" in answer
    assert "clip + log 6." in answer
    costs = {(cost["path"], cost["mode"]): cost for cost in json.loads(out.read_text())["costs"]}
    assert costs["keras/function/softmax-op", "graph"]["route"] == "softmax skipped"
    assert costs["tf.nn/fused", "xla"]["relative_time"] > 0


def test_the_version_is_told():
    assert lossfuzz("--version").stdout.startswith("lossfuzz 0.")


def test_readme_and_changelog_are_there():
    root = Path(__file__).parents[3]
    for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"):
        assert (root / name).stat().st_size > 300
