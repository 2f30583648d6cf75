"""A user's own loss in a campaign: its workers find it where the coordinator did."""

import os
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
from changed_stores import cut_short

from lossfuzz.campaign.engine import module_paths
from lossfuzz.campaign.folders import own_folders, search_like, search_path
from lossfuzz.cli import main

LOSS = """
import tensorflow as tf


def fused(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
"""
CELLS = ["--modes", "eager", "--formats", "float32", "--device", "CPU:0", "--quiet"]
BUDGET = ["--shapes", "32x4", "--rows", "32", "--search", "0"]


def lossfuzz(*arguments, folder, python_path=None):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("PYTHONPATH", None)
    if python_path is not None:
        environment["PYTHONPATH"] = python_path
    return subprocess.run(  # noqa: S603 - our own program
        [Path(sys.executable).with_name("lossfuzz"), *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "lossfuzz").mkdir(parents=True)  # as a clone has it: it must hide no package
    (folder / "own_simple_loss.py").write_text(LOSS)
    return folder


@pytest.mark.parametrize("path", [None, "absolute", "elsewhere"])
def test_workers_find_a_loss_and_so_does_whoever_goes_on_elsewhere(path, project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    out = str(tmp_path / "campaign")
    folder = project
    if path == "elsewhere":
        (project / "lossfuzz").rmdir()
        folder = elsewhere
    elif path is not None:
        (project / "lossfuzz").rmdir()  # in front of all else it would hide the command's own
    done = lossfuzz(
        *("run", "--loss", "own_simple_loss:fused", "--as", "softmax-cross-entropy"),
        *("--workers", "1", "--out", out, *CELLS, *BUDGET),
        folder=folder,
        python_path=path and str(project),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "no defect in 32 measured rows of 1 cell" in done.stdout
    if path == "absolute":
        return
    if path == "elsewhere":
        done = lossfuzz("report", out, folder=elsewhere)
        assert (done.returncode, done.stderr) == (0, "")
        return
    cut_short(Path(out))
    done = lossfuzz("resume", out, "--quiet", folder=elsewhere)
    assert done.returncode == 2
    assert "would run code that its file names: --loss own_simple_loss:fused" in done.stderr
    done = lossfuzz("resume", out, "--quiet", "--trust", folder=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no defect in 32 measured rows of 1 cell" in done.stdout


def test_a_loss_is_not_taken_from_where_workers_run(project, monkeypatch, capsys):
    """A module of the same name in the folder for temporary files is another one."""
    decoy = Path(tempfile.gettempdir()) / "own_simple_loss.py"
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", [*sys.path, str(project)])
    decoy.write_text("raise ValueError('the wrong module')")
    try:
        code = main(
            [
                *("run", "--loss", "own_simple_loss:fused", "--as", "softmax-cross-entropy"),
                *("--workers", "1", "--out", str(project / "out"), *CELLS, *BUDGET),
            ]
        )
    finally:
        decoy.unlink()
        sys.modules.pop("own_simple_loss", None)
    assert (code, capsys.readouterr().err) == (0, "")


def test_a_start_that_failed_leaves_nothing(project, tmp_path, monkeypatch, capsys):
    """The loss is there for the coordinator alone, which has imported it before."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", [*sys.path, str(project)])
    out = tmp_path / "out"
    (project / "own_fleeting_loss.py").write_text(
        LOSS + "\nfrom pathlib import Path\nPath(__file__).unlink()\n"
    )
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    try:
        code = main(
            [
                *("run", "--loss", "own_fleeting_loss:fused", "--as", "softmax-cross-entropy"),
                *("--workers", "1", "--out", str(out), *CELLS, *BUDGET),
            ]
        )
    finally:
        sys.modules.pop("own_fleeting_loss", None)
    assert code == 2
    told = capsys.readouterr().err
    assert "cannot import 'own_fleeting_loss:fused'" in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_another_interpreter_runs_no_losses_of_ones_own(project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", [*sys.path, str(project)])
    try:
        code = main(
            [
                *("run", "--loss", "own_simple_loss:fused", "--as", "softmax-cross-entropy"),
                *("--python", sys.executable, "--out", str(tmp_path / "out"), *CELLS, *BUDGET),
            ]
        )
    finally:
        sys.modules.pop("own_simple_loss", None)
    assert code == 2
    told = capsys.readouterr().err
    assert "--python runs no losses of your own" in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_path_of_a_worker_is_that_of_its_coordinator(tmp_path, monkeypatch):
    first, last = tmp_path / "first", tmp_path / "last"
    first.mkdir()
    (last / "lossfuzz").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", str(first), *sys.path, "last", "a mark of a hook"])
    path = search_path()
    assert path[:2] == [str(tmp_path), str(first)]
    assert path[-2:] == [str(last), "a mark of a hook"]
    folders = own_folders()
    assert folders["first"][:2] == path[:2]
    assert folders["last"][-1] == str(last)
    assert sysconfig.get_path("purelib") not in folders["first"] + folders["last"]
    starting = module_paths()
    assert str(first) in starting
    assert not {str(tmp_path), "", "last"} & set(starting)
    search_like(path)
    assert sys.path == path
