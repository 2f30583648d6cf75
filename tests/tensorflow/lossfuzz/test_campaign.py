"""Campaigns in worker processes: the same results however they are done, and nothing lost."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from changed_stores import cut_short

from lossfuzz.campaign import store as stores
from lossfuzz.campaign.outcome import joined, merged
from lossfuzz.campaign.store import Store
from lossfuzz.campaign.tasks import count_of, task_numbered, tasks_of
from lossfuzz.cli import main
from lossfuzz.errors import UsageError
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.plan import Plan

ROOT = Path(__file__).parents[3]
HOSTILE = str(ROOT / "tests" / "hostile")
CHOICES = [
    *("--paths", "tf.nn/fused", "--paths", "keras/function/softmax-op", "--paths", "*gce*"),
    *("--modes", "eager,graph", "--formats", "float32", "--device", "CPU:0"),
    *("--shapes", "32x4", "--rows", "1500"),
]


def plan(**changes):
    fields = {
        "paths": tuple(paths_matching(["tf.nn/*"])),
        "formats": (BINARY16, BINARY32),
        "devices": ("CPU:0",),
        "rows": 20_000,
        "seed": 3,
    }
    return Plan(**{**fields, **changes})


def run(folder, *more, choices=CHOICES):
    return main(["run", *choices, "--out", str(folder), "--quiet", *more])


def results(folder):
    return json.loads((folder / "results.json").read_text())


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign") / "two"
    assert run(folder, "--workers", "2") == 0
    return folder


@pytest.fixture
def copy(campaign, tmp_path):
    return Path(shutil.copytree(campaign, tmp_path / "copy"))


def test_every_cell_meets_every_recipe_of_its_format_once():
    chosen = plan()
    met = [
        (cell.name, recipe)
        for task in tasks_of(chosen)
        for cell in task.cells(chosen)
        for recipe in task.recipes(chosen)
    ]
    assert len(met) == len(set(met))
    assert set(met) == {
        (cell.name, recipe) for cell in chosen.cells() for recipe in chosen.recipes(cell.format)
    }


def test_a_task_is_a_function_of_plan_and_number():
    chosen = plan()
    tasks = list(tasks_of(chosen))
    assert [task.number for task in tasks] == list(range(count_of(chosen)))
    assert [task_numbered(chosen, task.number) for task in tasks] == tasks


def test_all_modes_of_a_path_and_one_loss_are_in_a_task():
    for task in tasks_of(plan()):
        assert len({path.loss.name for path in task.paths}) == 1
        assert {cell.mode for cell in task.cells(plan())} == {"eager", "graph", "xla"}


def test_a_plan_survives_json():
    assert Plan.from_json(json.loads(json.dumps(plan().to_json()))) == plan()


def test_one_worker_two_workers_and_none_give_the_same_results(campaign, tmp_path, tf):
    assert run(tmp_path / "one", "--workers", "1") == 0
    assert (tmp_path / "one" / "results.json").read_bytes() == (
        campaign / "results.json"
    ).read_bytes()
    assert run(tmp_path / "none") == 0
    inline, two = results(tmp_path / "none"), results(campaign)
    for record in (inline, two):
        # counted per task; devices of tests; a digest of both
        del record["reference_rows"], record["environment"], record["digest"]
    assert inline == two


def test_a_finished_campaign_resumes_to_the_same_results(campaign, copy):
    assert main(["resume", str(copy), "--quiet"]) == 0
    assert (copy / "results.json").read_bytes() == (campaign / "results.json").read_bytes()


def test_what_was_finished_is_kept_and_the_rest_is_done(campaign, copy):
    cut_short(copy, tasks=1)
    assert main(["resume", str(copy), "--quiet"]) == 0
    assert (copy / "results.json").read_bytes() == (campaign / "results.json").read_bytes()


def test_a_campaign_is_not_written_over(campaign, capsys):
    assert run(campaign, "--workers", "1") == 2
    error = capsys.readouterr().err
    assert "already holds a campaign: go on with 'lossfuzz resume" in error
    assert error.count("\n") == 1


def test_a_chaos_run_ends_in_the_same_bytes():
    arguments = ["--modes", "eager", "--formats", "float32", "--paths", "keras/*"]
    done = subprocess.run(  # noqa: S603
        [
            *(sys.executable, str(ROOT / "benchmarks" / "chaos.py"), "--kills", "2"),
            *("--pause", "7", "--", *arguments, "--rows", "1000", "--shapes", "32x4"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same, byte for byte" in done.stdout


def test_ctrl_c_ends_cleanly_and_shows_what_there_is(tmp_path):
    arguments = ["run", "--workers", "1", "--modes", "eager", "--formats", "float32"]
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "lossfuzz", *arguments, "--out", "c", "--quiet"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not _finished(tmp_path / "c" / stores.FILE):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted: go on with 'lossfuzz resume c'" in errors
    assert "measured rows" in output
    assert "Traceback" not in errors
    assert results(tmp_path / "c")["interrupted"]


def _finished(path):
    if not path.exists():
        return 0
    try:
        tasks = "SELECT count(*) FROM records WHERE kind = 'task'"
        return sqlite3.connect(path).execute(tasks).fetchone()[0]
    except sqlite3.OperationalError:
        return 0


@pytest.mark.parametrize(
    ("name", "kind", "said", "limits"),
    [
        ("ABORTS", "crash", "signal SIGABRT", ()),
        ("HANGS", "timeout", "silent for 6 s", ("--time-limit", "6")),
        ("EATS", "crash", "MiB of memory, allowed are 1500", ("--memory-limit", "1500")),
    ],
    ids=lambda one: one if str(one).isupper() else "",
)
def test_a_hostile_path_is_one_finding_with_its_row_and_the_others_finish(
    name, kind, said, limits, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(HOSTILE)
    choices = [
        *("--paths", f"tf.nn/fused,hostile_paths:{name}", "--modes", "eager"),
        *("--formats", "float32", "--shapes", "4x3", "--families", "normal,outlier"),
        *("--rows", "32", "--device", "CPU:0", *limits),
    ]
    assert run(tmp_path / "h", "--workers", "1", choices=choices) == 0
    found = results(tmp_path / "h")
    fused, hostile = found["cells"]
    assert fused["summary"]["rows"] == 32
    assert hostile["summary"]["defects"] == {kind: 1}
    (finding,) = [one for one in found["worst"] if one["kind"] == kind]
    assert max(finding["logits"]) > 100
    assert said in finding["message"]
    assert "no single row" not in finding["message"]


def test_a_path_that_raises_is_a_refusal_and_no_crash(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HOSTILE)
    choices = [
        *("--paths", "hostile_paths:REFUSES", "--modes", "eager", "--formats", "float32"),
        *("--shapes", "4x3", "--families", "normal,outlier", "--rows", "32", "--device", "CPU:0"),
    ]
    assert run(tmp_path / "h", "--workers", "1", choices=choices) == 0
    (cell,) = results(tmp_path / "h")["cells"]
    assert set(cell["summary"]["defects"]) == {"refusal"}


def test_another_interpreter_stands_beside_this_one(tmp_path):
    choices = [
        *("--paths", "tf.nn/fused,keras/function/softmax-op", "--modes", "eager,graph"),
        *("--formats", "float32", "--shapes", "32x4", "--rows", "600", "--python", sys.executable),
    ]
    assert run(tmp_path / "s", "--device", "CPU:0", choices=choices) == 0
    found = results(tmp_path / "s")
    (subject,) = found["environment"]["subjects"]
    assert subject.startswith("tensorflow-2.")
    by_place = {}
    for cell in found["cells"]:
        by_place.setdefault(cell["device"], []).append((cell["route"], cell["summary"]))
    assert set(by_place) == {"CPU:0", f"{subject}/CPU:0"}
    assert by_place["CPU:0"] == by_place[f"{subject}/CPU:0"]  # the same versions, so the same
    page = (tmp_path / "s" / "report.html").read_text()
    assert "Versions side by side" in page


def test_an_interpreter_without_tensorflow_is_one_clear_line(tmp_path, capsys):
    assert run(tmp_path / "s", "--python", "/nonexistent/python") == 2
    error = capsys.readouterr().err
    assert "/nonexistent/python" in error
    assert error.count("\n") == 1


def test_an_interpreter_by_a_relative_path_is_found_from_every_folder(
    tmp_path, monkeypatch, capsys
):
    # an environment of its own: only its interpreter's own path leads to its packages
    venv = Path(sys.prefix)
    (tmp_path / "old" / "bin").mkdir(parents=True)
    (tmp_path / "old" / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    shutil.copy(venv / "pyvenv.cfg", tmp_path / "old")
    (tmp_path / "old" / "lib").symlink_to(venv / "lib")
    monkeypatch.chdir(tmp_path)
    choices = [
        *("--paths", "tf.nn/fused", "--modes", "eager", "--formats", "float32"),
        *("--shapes", "4x3", "--rows", "32", "--device", "CPU:0", "--search", "0"),
    ]
    assert run(tmp_path / "s", "--python", "old/bin/python", choices=choices) == 0
    cells = results(tmp_path / "s")["cells"]
    subject = cells[1]["device"]
    assert subject.startswith("tensorflow-2.")
    assert cells[1]["summary"] == cells[0]["summary"]
    cut_short(tmp_path / "s")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert main(["resume", str(tmp_path / "s"), "--quiet"]) == 2
    assert f"--python {tmp_path}/old/bin/python" in capsys.readouterr().err
    assert main(["resume", str(tmp_path / "s"), "--quiet", "--trust"]) == 0
    assert results(tmp_path / "s")["cells"] == cells


def test_a_start_that_failed_does_not_stand_in_the_way(tmp_path, capsys):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    for python in (str(program), "/nonexistent/python", str(tmp_path)):
        assert run(tmp_path / "s", "--python", python) == 2
        error = capsys.readouterr().err
        assert python in error
        assert "already holds" not in error
        assert error.count("\n") == 1


def spoil_truncated(path):
    path.write_bytes(path.read_bytes()[:5000])


def spoil_text(path):
    path.write_text("this is no database, whatever its name says\n" * 50)


def spoil_newer(path):
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def spoil_other(path):
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.close()


def spoil_missing(path):
    path.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_truncated, "is damaged or no store"),
        (spoil_text, "is damaged or no store"),
        (spoil_newer, "was written by a newer lossfuzz (schema 99"),
        (spoil_other, "is an SQLite file, but no campaign of lossfuzz"),
        (spoil_missing, "holds no campaign"),
    ],
)
def test_a_bad_store_is_one_clear_line_and_stays_as_it_is(spoil, said, copy, capsys):
    path = copy / stores.FILE
    for extra in copy.glob(stores.FILE + "-*"):
        extra.unlink()
    spoil(path)
    before = path.read_bytes() if path.exists() else None
    assert main(["resume", str(copy)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_store_is_open_once(copy):
    first = Store.open(copy)
    with pytest.raises(UsageError, match="another process is running the campaign"):
        Store.open(copy)
    first.close()
    Store.open(copy).close()


def test_campaigns_of_two_seeds_join_and_the_same_one_does_not(copy, tmp_path, capsys):
    assert run(tmp_path / "other", "--workers", "1", "--seed", "1") == 0
    out = tmp_path / "joint"
    folders = [str(copy), str(tmp_path / "other")]
    assert main(["merge", *folders, "--out", str(out), "--quiet"]) == 0
    both, one = results(out), results(copy)
    for joint, single in zip(both["cells"], one["cells"], strict=True):
        assert joint["summary"]["rows"] == 2 * single["summary"]["rows"]
    assert main(["merge", str(copy), str(copy), "--out", str(out)]) == 2
    capsys.readouterr()


def test_the_same_plan_and_seed_are_not_joined(copy):
    store = Store.open(copy)
    result = merged(store, Plan.from_json(store.fact("plan")))
    with pytest.raises(UsageError, match="same plan and seed 0: their rows would count twice"):
        joined([result, result])


def test_the_coordinator_imports_no_tensorflow():
    code = (
        "import sys, lossfuzz.commands.campaign, lossfuzz.commands.run; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=os.sep, check=False).returncode == 0  # noqa: S603


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--memory-limit", "0"]])
def test_impossible_choices_are_refused(arguments, tmp_path, capsys):
    choices = ["--workers", "1", *arguments] if "--workers" not in arguments else arguments
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "x", *choices)
    assert ended.value.code == 2
    assert "expects 1" in capsys.readouterr().err
