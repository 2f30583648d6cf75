"""The pytest plugin: what it imports, what it is told, what it shows; alone and over workers."""

import os
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from lossfuzz.harness.numbers.formats import TRAINING_FORMATS
from lossfuzz.pytest_options import FORMATS
from lossfuzz.strategies.families import FAMILIES

pytest_plugins = "pytester"

PROJECT = """
import lossfuzz, numpy as np, os, pytest, tensorflow as tf

AS = "softmax-cross-entropy"

def fused(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

def clipped(logits, labels):
    probability = tf.gather(tf.nn.softmax(logits), labels, batch_dims=labels.shape.rank)
    loss = -tf.math.log(tf.clip_by_value(probability, 1e-7, 1.0))
    return loss + tf.where(loss > 16, np.nan, 0.0) if "WORSE" in os.environ else loss

@pytest.mark.lossfuzz(formats=["float32"], rows=64)
@pytest.mark.parametrize("mode", ["eager", "graph"])
def test_sound(lossfuzz_check, mode):
    lossfuzz_check(fused, AS, modes=[mode], rows=96, shapes=[(32, 6)])

@pytest.mark.lossfuzz(formats=["float32"], modes=["eager"])
def test_clipped(lossfuzz_check):
    lossfuzz_check(clipped, AS, shapes=[(32, 6)])

def test_plain():
    lossfuzz.check(fused, AS, formats=["float16"], modes=["eager"], rows=64, shapes=[(32, 6)])

def test_no_device(lossfuzz_check):
    lossfuzz_check(fused, AS, device="TPU:7")
"""
SWEEP = 32 * len(FAMILIES)
"""Rows of a sweep over all families, which the budget does not count."""

FUSED = "test_losses:fused as softmax cross-entropy with an integer label"
CLIPPED = "test_losses:clipped as softmax cross-entropy with an integer label"


def ran(folder, *arguments, **environment):
    """A pytest of its own in a folder."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(  # noqa: S603 - this interpreter
        command,
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def summary_of(run):
    """The lines of the section that the plugin writes, without times."""
    text = run.stdout.partition("= lossfuzz =")[2].partition("\n===")[0]
    lines = [line.rpartition(", ")[0] or line for line in text.splitlines()[1:]]
    return {line.partition(": ")[0]: line.partition(": ")[2] for line in lines}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("project")
    (made / "test_losses.py").write_text(PROJECT)
    (made / "pytest.ini").write_text("[pytest]\nlossfuzz_rows = 320\n")
    return made


@pytest.fixture(scope="module")
def over_workers(folder):
    return ran(
        folder,
        *("-n", "2", "--dist", "worksteal", "--strict-markers"),
        *("--junitxml", "junit.xml", "--lossfuzz-save", "saved.json"),
    )


@pytest.fixture(scope="module")
def alone_and_worse(folder, over_workers):
    return ran(
        folder,
        *("--lossfuzz-baseline", "saved.json", "--lossfuzz-save", "again.json"),
        WORSE="1",
    )


def test_the_summary_merges_the_checks_of_all_workers(over_workers):
    shown = summary_of(over_workers)
    assert "2 failed, 3 passed" in over_workers.stdout
    assert shown[FUSED].startswith("sound; float")
    # 2 x 96 by the call, 64 by the plain check, and each of the three sweeps over the families
    assert f"eager graph, CPU:0, {2 * 96 + 64 + 3 * SWEEP:,} rows" in shown[FUSED]
    assert "float16" in shown[FUSED]
    assert "float32" in shown[FUSED]
    assert "saturation" in shown[CLIPPED]
    assert f"{320 + SWEEP:,} rows" in shown[CLIPPED]  # by the ini file


def test_a_device_that_is_not_there_is_one_line_without_a_traceback(over_workers):
    block = over_workers.stdout.partition("_ test_no_device _")[2].partition("\n____")[0]
    assert "unknown device 'TPU:7'" in block
    assert "Traceback" not in block
    assert "lossfuzz_check(" not in block.partition("====")[0]


def test_the_traceback_of_a_defect_shows_the_tests_own_line_alone(over_workers):
    block = over_workers.stdout.partition("_ test_clipped _")[2]
    assert ">       lossfuzz_check(clipped" in block
    assert "LossDefect: test_losses:clipped does not compute" in block
    assert "def check(" not in block


def test_junit_holds_short_properties(folder, over_workers):
    cases = ET.parse(folder / "junit.xml").getroot().iter("testcase")  # noqa: S314 - our own file
    found = {
        case.get("name"): {one.get("name"): one.get("value") for one in case.iter("property")}
        for case in cases
    }
    assert found["test_sound[eager]"]["lossfuzz_verdict"] == "sound"
    assert found["test_sound[eager]"]["lossfuzz_rows"] == str(96 + SWEEP)
    assert "saturation" in found["test_clipped"]["lossfuzz_verdict"]
    assert max(len(value) for one in found.values() for value in one.values()) < 200


def test_a_baseline_fails_for_what_got_worse_alone(alone_and_worse):
    assert "2 failed, 3 passed" in alone_and_worse.stdout  # the other one lacks a device
    assert (
        "LossRegression: test_losses:clipped is worse than the baseline" in alone_and_worse.stdout
    )
    assert "new non-finite loss" in alone_and_worse.stdout
    assert "During handling" not in alone_and_worse.stdout
    assert summary_of(alone_and_worse)[CLIPPED].startswith("worse than the baseline")
    assert summary_of(alone_and_worse)[FUSED].startswith("sound")


def test_known_defects_pass_and_one_process_saves_what_two_workers_save(folder, over_workers):
    first = (folder / "saved.json").read_bytes()
    run = ran(
        folder,
        *("--lossfuzz-baseline", "saved.json", "--lossfuzz-save", "saved.json"),
        *("--deselect", "test_losses.py::test_no_device"),
    )
    assert run.returncode == 0, run.stdout
    assert summary_of(run)[CLIPPED].startswith("known: saturation")
    assert (folder / "saved.json").read_bytes() == first
    assert not list(folder.glob(".saved*"))


def test_nothing_is_imported_while_no_loss_is_checked(tmp_path):
    (tmp_path / "test_nothing.py").write_text("def test_nothing():\n    pass\n")
    script = (
        "import sys, pytest\n"
        "assert pytest.main(['-q', '-p', 'no:hypothesispytest', '--lossfuzz-formats=float16',"
        " '--lossfuzz-rows=7', '--lossfuzz-seed=1', '--lossfuzz-save=x.json']) == 0\n"
        "assert 'lossfuzz.pytest_plugin' in sys.modules\n"
        "print('loaded:', sorted({'numpy', 'hypothesis', 'tensorflow', 'rich', 'mpmath',"
        " 'ml_dtypes', 'keras', 'flint', 'jinja2', 'lossfuzz.checking'} & set(sys.modules)))\n"
    )
    found = subprocess.run(  # noqa: S603 - this interpreter
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "loaded: []" in found.stdout, found.stdout + found.stderr
    assert "nothing was checked" in found.stdout
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--lossfuzz-rows=0"], "--lossfuzz-rows: expected a whole number of 1 or more, got '0'"),
        (["--lossfuzz-rows=many"], "--lossfuzz-rows: expected a whole number"),
        (["--lossfuzz-seconds=-1"], "--lossfuzz-seconds: expected seconds above 0, got '-1'"),
        (["--lossfuzz-seconds=nan"], "--lossfuzz-seconds: expected seconds above 0"),
        (["--lossfuzz-seed=-1"], "--lossfuzz-seed: expected a whole number of 0 or more"),
        (
            ["--lossfuzz-formats=float8"],
            "expected some of float32, float16, bfloat16, got 'float8'",
        ),
        (["--lossfuzz-formats="], "--lossfuzz-formats: expected some of"),
        (["--lossfuzz-modes=lazy"], "expected some of eager, graph, xla, got 'lazy'"),
        (["--lossfuzz-device="], "--lossfuzz-device: expected a device"),
        (["--lossfuzz-rows=3", "--lossfuzz-seconds=3"], "or --lossfuzz-seconds, not both"),
        (["--lossfuzz-profile=slow"], "unknown profile 'slow'; known profiles: lossfuzz, "),
        (["--lossfuzz-baseline=none.json"], "cannot read "),
        (["--lossfuzz-save=none/there.json"], "--lossfuzz-save: cannot write"),
        (["-o", "lossfuzz_rows=few"], "lossfuzz_rows: expected a whole number"),
    ],
)
def test_a_bad_option_is_one_clear_line(pytester, arguments, told):
    pytester.makepyfile("def test_nothing(): pass")
    result = pytester.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    lines = [line for line in result.stderr.lines if line.strip()]
    assert len(lines) == 1
    assert lines[0].startswith("ERROR: ")
    assert told in lines[0]


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"schema": 1}', '{"schema": 7, "cells": []}', '{"schema": 1, "checks": [{}]}'],
)
def test_a_baseline_that_is_none_is_one_clear_line(pytester, text):
    pytester.path.joinpath("base.json").write_text(text)
    result = pytester.runpytest_inprocess("--lossfuzz-baseline=base.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.stderr.lines if line.strip()]
    assert line.startswith("ERROR: --lossfuzz-baseline: ")
    assert "base.json" in line


def test_the_marker_selects_and_is_known(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.lossfuzz
        def test_one(): pass

        def test_other(): pass
        """
    )
    result = pytester.runpytest_inprocess("--strict-markers", "-m", "lossfuzz")
    result.assert_outcomes(passed=1, deselected=1)
    assert "= lossfuzz =" not in result.stdout.str()


def test_an_argument_that_the_marker_does_not_know_is_told(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.lossfuzz(row=3)
        def test_one(lossfuzz_check): pass
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["*the marker lossfuzz does not know row; known arguments: rows, *"]
    )


def test_the_nearest_choice_wins(pytester):
    pytester.makeini("[pytest]\nlossfuzz_rows = 1\nlossfuzz_seed = 1\nlossfuzz_modes = eager, xla")
    config = pytester.parseconfigure("--lossfuzz-seconds=2", "--lossfuzz-formats=float16,bfloat16")
    from lossfuzz.pytest_options import Choices

    choices = Choices(config)
    chosen = choices.arguments({"formats": ["float32"], "device": "GPU:0"}, {"seed": 3, "rows": 4})
    assert chosen == {
        "seconds": 2.0,
        "formats": ("float16", "bfloat16"),
        "device": "GPU:0",
        "seed": 3,
        "modes": ("eager", "xla"),
    }


def test_a_call_wins_over_the_marker_and_the_marker_over_the_ini_file(pytester):
    from lossfuzz.pytest_options import Choices

    pytester.makeini("[pytest]\nlossfuzz_rows = 1\nlossfuzz_seed = 1")
    choices = Choices(pytester.parseconfigure())
    assert choices.arguments({}, {}) == {"rows": 1, "seed": 1}
    assert choices.arguments({}, {"seconds": 9}) == {"seconds": 9, "seed": 1}
    assert choices.arguments({"rows": 5}, {"seconds": 9, "seed": 2}) == {"rows": 5, "seed": 2}


@pytest.mark.parametrize("ci", [{}, {"CI": "true"}])
def test_a_profile_is_loaded_after_hypothesis_own(tmp_path, ci):
    (tmp_path / "test_settings.py").write_text(
        "from hypothesis import settings\n"
        "def test_settings():\n"
        "    now = settings.default\n"
        "    assert now.max_examples == 500\n"
        "    assert now.deadline is None\n"
        "    assert not now.derandomize\n"
        "    assert now.database is not None\n"
    )
    run = ran(tmp_path, "--lossfuzz-profile", "lossfuzz-ci", **ci)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_names_of_formats_are_those_that_losses_are_measured_in():
    assert set(FORMATS) == {fmt.dtype_name for fmt in TRAINING_FORMATS}
