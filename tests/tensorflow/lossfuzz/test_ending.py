"""How commands end: codes and lines, failing prints, poor surroundings, sizes without room."""

import argparse
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lossfuzz import quantities
from lossfuzz.apart import Ended
from lossfuzz.cli import main
from lossfuzz.commands import cliffs as cliffs_command
from lossfuzz.commands import files, replay
from lossfuzz.ending import carried_out
from lossfuzz.errors import INTERNAL_ERROR, OUTPUT_FAILED, TerminatedError, UsageError
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.findings import Finding
from lossfuzz.parser import EXIT_CODES

ESC = "\x1b[31m"


def ended(error, out=None):
    def command(_):
        raise error

    return carried_out(argparse.Namespace(command=command, out=out))


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (TypeError(f"no\n{ESC}way"), 70, "internal error: TypeError: no; \\x1b[31mway ("),
        (MemoryError(), 74, "error: the system refused what the command needs: MemoryError"),
        (RecursionError("too deep"), 70, "internal error: RecursionError: too deep ("),
        (GeneratorExit(), 70, "internal error: GeneratorExit ("),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), 70, "internal error: FileNot"),
        (OSError(errno.ENOSPC, "No space left on device"), 74, "error: the system refused"),
        (OSError(errno.EMFILE, "Too many open files", "x"), 74, "error: the system refused"),
        (SystemExit(0), 2, "error: sys.exit(0) was called while the command ran"),
        (UsageError(f"a\n{ESC}b"), 2, "error: a; \\x1b[31mb\n"),
        (KeyboardInterrupt(), 130, "ended by SIGINT before there was a result\n"),
        (TerminatedError(143), 143, "ended by SIGTERM before there was a result\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_end_has_a_code_and_one_line(error, code, told, capsys, monkeypatch):
    monkeypatch.delenv("LOSSFUZZ_TRACEBACK", raising=False)
    assert ended(error) == code
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert told in err
    assert ESC not in err


def test_an_internal_error_names_its_place_and_shows_its_traceback_when_asked(
    capsys, monkeypatch, tmp_path
):
    monkeypatch.delenv("LOSSFUZZ_TRACEBACK", raising=False)
    (tmp_path / "campaign.sqlite").touch()
    assert ended(TypeError("x"), out=tmp_path) == INTERNAL_ERROR
    err = capsys.readouterr().err
    assert "(ending.py, line " in err
    assert f"'lossfuzz resume {tmp_path}' goes on from what it holds" in err
    assert "Traceback" not in err
    monkeypatch.setenv("LOSSFUZZ_TRACEBACK", "1")
    assert ended(TypeError("x")) == INTERNAL_ERROR
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_signal_ends_any_command_with_its_code():
    def command(_):
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()

    before = signal.getsignal(signal.SIGTERM)
    assert carried_out(argparse.Namespace(command=command)) == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_cliffs_that_were_found_before_a_signal_are_shown_and_kept(
    tf, tmp_path, capsys, monkeypatch
):
    found = cliffs_command.cliffs

    def interrupted(*arguments):
        yield next(found(*arguments))
        os.kill(os.getpid(), signal.SIGHUP)
        yield next(found(*arguments))

    monkeypatch.setattr(cliffs_command, "cliffs", interrupted)
    out = tmp_path / "cliffs.json"
    arguments = ["cliffs", "--paths", "tf.nn/fused,tf.nn/naive", "--modes", "eager"]
    assert main([*arguments, "--out", str(out)]) == 128 + signal.SIGHUP
    assert len(json.loads(out.read_text())["cells"]) == 1
    assert "interrupted: 1 of 2 cells were measured" in capsys.readouterr().out


PROGRAM = [sys.executable, "-m", "lossfuzz"]


def shell(command, folder, **environment):
    return subprocess.run(  # noqa: S602 - our own program, with what only a shell can do
        command.replace("lossfuzz", " ".join(PROGRAM), 1),
        shell=True,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        ("lossfuzz paths >/dev/full", OUTPUT_FAILED, "(No space left on device)"),
        ("lossfuzz --help >/dev/full", OUTPUT_FAILED, "(No space left on device)"),
        ("lossfuzz paths >&-", OUTPUT_FAILED, "(it is closed)"),
        ("lossfuzz paths <&- 2>&-", 0, ""),
        ("lossfuzz replay - <&-", 2, "standard input is no JSON"),
        ("set -o pipefail; lossfuzz paths | head -1", 0, ""),
        ("ulimit -n 9; lossfuzz paths", 0, ""),
        ("mkdir gone; cd gone; rmdir ../gone; lossfuzz paths", 0, ""),
        ("COLUMNS=1 LINES=\u00b2 lossfuzz paths", 0, ""),
    ],
)
def test_poor_surroundings_cost_a_print_at_most(command, code, told, tmp_path):
    quoted = command.replace("'", "")
    done = shell(f"bash -c '{quoted}'", tmp_path)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert done.stderr.count("\n") == bool(told)
    assert told in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_lacks_is_replaced_by_what_can_be_read(encoding, tmp_path):
    done = shell("lossfuzz paths", tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii() or encoding == "latin-1"
    assert "\\u" not in done.stdout
    assert "tf.nn/fused" in done.stdout


LARGE = [
    (["run", "--shapes", "99999999x99999999"], "a batch of 99999999x99999999 is too large"),
    (["run", "--shapes", "1x1000000000000"], "expected at most "),
    (["run", "--shapes", "9" * 5000 + "x2"], "expected a shape such as 256x10"),
    (["run", "--shapes", "x".join("1" * 70)], "expected a shape such as 256x10"),
    (["run", "--rows", "9" * 23], "expected a budget of at most 1,000,000,000,000 rows"),
    (["run", "--rows", "9" * 5000], "invalid int value"),
    (["run", "--seconds", "1e400"], "expected a budget of at most 100,000,000 seconds"),
    (["run", "--logical-cpus", "1000000"], "expects at most 1,024, got 1,000,000"),
    (["run", "--workers", "1000000"], "a worker holds 500 MiB at the least"),
    (["resume", "x", "--workers", "1000000"], "a worker holds 500 MiB at the least"),
    (["cliffs", "--classes", str(10**12)], "too large"),
    (["memory", "--shape", "99999999x99999999"], "too large"),
    (["memory", "--shape", ""], "expects one shape such as 64x512x1000, got ''"),
    (["memory", "--shape", "2x2,3x3"], "expects one shape such as 64x512x1000"),
    (["referee", "--rows", "9" * 23], "--rows expects at most 1,000,000,000,000"),
    (["referee", "--shapes", "99999999x99999999"], "too large"),
    *(
        ([command, *rest, f"--time-limit={text}"], "expects seconds above 0, and at most")
        for command, rest in (("run", []), ("resume", ["x"]), ("replay", ["x"]))
        for text in ("nan", "-1", "inf", "0")
    ),
    (["run", "--memory-limit", "0"], "expects 1 MiB or more, got 0"),
    (["run", "--fail-above", "nan"], "expects a share from 0 to 1, got nan"),
    (["run", "--search", "nan"], "expected a search of 0 to 16, got nan"),
    (["compare", "a", "b", "--level", "nan"], "expects a chance between 0 and 1, got nan"),
    (["run", "--losses", "*focal*,*hinge*"], "--losses '*focal*' --losses '*hinge*'"),
    (["referee", "--losses", "*focal*,*binary*"], "--losses takes no comma list"),
    (["nonsense\x1b[31m"], "nonsense"),
]


@pytest.mark.parametrize(("arguments", "told"), LARGE, ids=range(len(LARGE)))
def test_what_has_no_room_or_makes_no_sense_is_refused_at_once(arguments, told, capsys, tmp_path):
    out = ["--out", str(tmp_path / "out")] if arguments[0] == "run" else []
    code = None
    with contextlib.suppress(SystemExit):
        code = main([*arguments, *out])
    err = capsys.readouterr().err
    assert code in (2, None)
    assert err.count("\n") == 1
    assert len(err) < 1000
    assert told in err
    assert "\x1b" not in err
    assert not (tmp_path / "out").exists()


def test_what_fits_is_counted_by_this_machines_memory(monkeypatch):
    monkeypatch.setattr(quantities, "machine_memory", lambda: 512 << 10)
    quantities.check_fits((8, 128))
    with pytest.raises(ValueError, match="expected at most 1,024 logits in a batch"):
        quantities.check_fits((8, 129))


CAMPAIGN = "already holds a campaign: go on with 'lossfuzz resume"
OTHERS = "was not written by lossfuzz, and would be overwritten"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("campaign.sqlite", b"", CAMPAIGN),
        ("results.json", b'{"mine": 1}', OTHERS),
        ("results.json", b"no JSON", OTHERS),
        ("timings.json", b'{"lap 1": 3}', OTHERS),
        ("report.html", b"<html><title>lossfuzz report</title> is great</html>", OTHERS),
    ],
)
@pytest.mark.parametrize("command", [["run"], ["merge", "elsewhere"]])
def test_what_others_wrote_is_not_overwritten(name, content, told, command, tmp_path, capsys):
    (tmp_path / name).write_bytes(content)
    assert main([*command, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert (tmp_path / name).read_bytes() == content
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_pages_of_ours_are_overwritten_those_of_the_first_versions_too(tmp_path):
    for mark in files._PAGE_MARKS:
        (tmp_path / files.PAGE).write_bytes(b"<head>" + mark)
        files.check_own(tmp_path, files.PAGE)
    (tmp_path / files.PAGE).write_bytes(b"")
    (tmp_path / files.RESULTS).write_text('{"schema": 1, "plan": {}, "cells": []}')
    (tmp_path / files.TIMINGS).write_text('{"total": 1.0}')
    files.make_writable(tmp_path)


def test_links_and_devices_with_the_names_of_our_files_are_left_alone(tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("precious")
    folder = tmp_path / "out"
    folder.mkdir()
    for name in (".lossfuzz-probe", f".a.txt.{os.getpid()}", "a.txt"):
        (folder / name).symlink_to(precious)
    files.make_writable(folder)
    files.write_text(folder / "a.txt", "new \ud800")
    assert (folder / "a.txt").read_text() == "new \\ud800\n"
    assert precious.read_text() == "precious"
    files.write_text(Path(os.devnull), "nothing")
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize(
    "arguments",
    [
        ["cliffs", "--out"],
        ["memory", "--out"],
        ["compare", "a", "b", "--json"],
        ["compare", "a", "b", "--html"],
        ["compare", "a", "b", "--markdown"],
        ["report", "a", "--html"],
        ["report", "a", "--markdown"],
        ["replay", "a#1", "--script"],
        ["replay", "a#1", "--issue"],
    ],
)
def test_a_folder_where_a_file_is_expected_is_refused_before_anything_runs(
    arguments, tmp_path, capsys
):
    assert main([*arguments, str(tmp_path)]) == 2
    told = "expected a file's name, got a folder's"
    assert capsys.readouterr().err == (
        f"lossfuzz: error: cannot write {str(tmp_path)!r}: {told}\n"
    )


@pytest.mark.parametrize(
    ("kind", "code", "overdue", "output", "errors", "proof"),
    [
        (kinds.SATURATION, 1, "", "finding ID still stands\n", "", True),
        (kinds.SATURATION, 1, "", "", "Traceback (most recent call last):\n", False),
        (kinds.SATURATION, 1, "", "", "", False),
        (kinds.SATURATION, 0, "", "finding ID is gone\n", "", False),
        (kinds.SATURATION, -9, "silent for 3 s", "finding ID still stands\n", "", False),
        (kinds.SATURATION, -11, "", "", "", False),
        (kinds.CRASH, -11, "", "", "", True),
        (kinds.CRASH, 1, "", "", "Traceback (most recent call last):\n", False),
        (kinds.CRASH, -9, "silent for 3 s", "", "", False),
        (kinds.TIMEOUT, -9, "silent for 3 s", "", "", True),
        (kinds.TIMEOUT, -signal.SIGALRM, "", "", "", True),
        (kinds.TIMEOUT, -11, "", "", "", False),
    ],
)
def test_only_a_script_that_shows_the_finding_is_proof(kind, code, overdue, output, errors, proof):
    finding = Finding(
        kind=kind,
        tier=kinds.DEFECT,
        path="tf.nn/naive",
        format="float32",
        mode="eager",
        device="CPU:0",
        logits=(0.0, 1.0),
        label=0,
        recipe={},
        loss_dtype="float32",
        observed_loss=0.0,
        exact_loss=1.0,
        row=0,
        observed_gradient=(0.0, 0.0),
        exact_gradient=(-1.0, 1.0),
        ulp_error=1.0,
        mixed_error=1.0,
        bound=1.0,
        margin=1.0,
    )
    told = output.replace("ID", finding.id)
    run = Ended(code=code, output=told, errors=errors, overdue=overdue)
    assert replay._proves(run, finding) is proof


def test_help_lists_the_exit_codes(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for code in (0, 1, 2, 3, INTERNAL_ERROR, OUTPUT_FAILED, 130):
        assert f"\n  {code} " in out
    assert EXIT_CODES in out
