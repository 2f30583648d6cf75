"""Runs that are ended, looked at while they go on, or have no terminal."""

import json
import shutil
import signal
import subprocess
import sys
import time

import pytest

from lossfuzz.cli import main
from lossfuzz.commands import console
from lossfuzz.commands.signals import ended_by_signals
from lossfuzz.errors import TerminatedError
from lossfuzz.stored import read

RUN = [
    *(sys.executable, "-m", "lossfuzz", "run", "--paths", "keras/function/softmax-op"),
    *("--paths", "tf.nn/fused", "--formats", "float32", "--modes", "eager"),
    *("--shapes", "512x10", "--rows", "100000000", "--device", "CPU:0"),
]


def waited(process, folder, seconds=120):
    """Wait until a run has kept its first results."""
    deadline = time.monotonic() + seconds
    while not (folder / "results.json").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A plain run: its folder as `kill -9` would leave it, and how it ended by SIGTERM."""
    folder = tmp_path_factory.mktemp("ended")
    with subprocess.Popen(  # noqa: S603 - this interpreter
        [*RUN, "--out", str(folder / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
    ) as process:
        waited(process, folder / "run")
        shutil.copytree(folder / "run", folder / "killed")
        time.sleep(max(0.0, console.LINE_SECONDS - 3))
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    return folder, process.returncode, out, err


def test_sigterm_ends_a_run_with_a_complete_report(ended):
    folder, code, out, err = ended
    assert code == 128 + signal.SIGTERM
    assert "Traceback" not in err
    assert "interrupted: the figures are of what was measured until then" in out
    assert "Advice" in out
    result = read(folder / "run", with_findings=True)
    assert result.interrupted
    assert result.progress.endswith("batches were measured")
    assert all(one.summary.rows > 512 for one in result.cells)
    assert result.worst
    assert (folder / "run" / "report.html").exists()


def test_a_run_without_a_terminal_tells_its_progress_by_lines(ended):
    *_, err = ended
    lines = [line for line in err.splitlines() if line.startswith("lossfuzz: ")]
    assert lines
    assert any(" batches, float32 " in line and " of 195,313 " in line for line in lines)
    assert len(lines) == len(err.splitlines())


def test_what_a_killed_run_had_measured_is_reported_as_not_finished(ended, capsys):
    folder, *_ = ended
    assert main(["report", str(folder / "killed")]) == 0
    printed = capsys.readouterr().out
    assert "Not finished: " in printed
    assert "of 195,313 batches" in printed
    assert "keras/function/softmax-op" in printed
    assert "Not finished" in (folder / "killed" / "report.html").read_text()
    killed = read(folder / "killed")
    assert killed.interrupted
    finding = read(folder / "killed", with_findings=True).worst[0]
    assert main(["replay", f"{folder / 'killed'}#{finding.id}"]) == 0
    assert not [one for one in (folder / "killed").iterdir() if one.name.startswith(".results")]


def test_resuming_a_run_that_was_no_campaign_says_so_in_one_line(ended, capsys):
    folder, *_ = ended
    assert main(["resume", str(folder / "killed")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no campaign" in error
    assert "--workers" in error


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_exit_code_tells_the_signal_and_handlers_come_back(number, code):
    before = signal.getsignal(number)
    with ended_by_signals() as ending:
        with pytest.raises(TerminatedError) as caught:
            signal.raise_signal(number)
        assert isinstance(caught.value, KeyboardInterrupt)
        assert ending.code == caught.value.code == code
        signal.raise_signal(number)  # a second one does not disturb what is being written
    assert signal.getsignal(number) is before


def test_below_nohup_a_hangup_is_still_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ended_by_signals():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_finished_run_is_not_called_unfinished(tmp_path, capsys):
    choices = ["--paths", "tf.nn/fused", "--formats", "float32", "--modes", "eager"]
    more = ["--shapes", "8x3", "--rows", "8", "--search", "0", "--quiet"]
    assert main(["run", *choices, *more, "--out", str(tmp_path)]) == 0
    assert "progress" not in json.loads((tmp_path / "results.json").read_text())
    capsys.readouterr()
    assert main(["report", str(tmp_path), "--quiet"]) == 0
    assert "Not finished" not in capsys.readouterr().out


def test_lines_are_written_however_long_a_batch_takes(monkeypatch, capsys):
    monkeypatch.setattr(console, "LINE_SECONDS", 0.05)
    with console.told_progress("starting TensorFlow", "batch") as told:
        time.sleep(0.2)
        told(3, 1600, "float16 normal")
        time.sleep(0.2)
        told(1, 0, "float16 ties")
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "lossfuzz: 0 s, starting TensorFlow"
    assert "lossfuzz: 0 s, 3 of 1,600 batches, float16 normal" in lines
    assert "lossfuzz: 0 s, 1 batch, float16 ties" in lines
    with console.told_progress("starting TensorFlow", "batch", quiet=True):
        time.sleep(0.15)
    assert capsys.readouterr().err == ""


def test_a_campaign_of_a_loss_without_end_finds_a_timeout(tmp_path):
    (tmp_path / "endless.py").write_text(
        "def loss(logits, labels):\n    while True:\n        pass\n"
    )
    line = [
        *(sys.executable, "-m", "lossfuzz", "run", "--loss", "endless:loss"),
        *("--as", "softmax-cross-entropy", "--formats", "float32", "--modes", "eager"),
        *("--device", "CPU:0", "--rows", "60", "--shapes", "16x5", "--families", "normal"),
        *("--time-limit", "2", "--workers", "1", "--out", "out"),
    ]
    done = subprocess.run(  # noqa: S603 - this interpreter
        line, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 cell timed out: no row was measured." in done.stdout
