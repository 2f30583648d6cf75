"""``lossfuzz report``: stored runs and campaigns, running ones too, shown and exported again."""

import contextlib
import hashlib
import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest
from changed_stores import cut_short

from lossfuzz.campaign import store as stores
from lossfuzz.campaign.store import Store
from lossfuzz.cli import main
from lossfuzz.harness.records.seal import sealed
from lossfuzz.record import text_of
from lossfuzz.stored import read

CHOICES = [
    *("--paths", "tf.nn/fused,keras/function/softmax-op", "--modes", "eager,graph"),
    *("--formats", "float32,float16", "--device", "CPU:0", "--shapes", "32x4", "--rows", "1500"),
]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    folder = tmp_path_factory.mktemp("campaign") / "of one"
    assert main(["run", *CHOICES, "--workers", "1", "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def inline(tf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inline") / "run"
    assert main(["run", *CHOICES, "--out", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture
def copy(campaign, tmp_path):
    return Path(shutil.copytree(campaign, tmp_path / "copy"))


@pytest.fixture
def unfinished(copy):
    """The campaign as it was after its first task, its coordinator gone."""
    cut_short(copy, tasks=1)
    return copy


def files(folder):
    return {one.name: hashlib.sha256(one.read_bytes()).digest() for one in folder.iterdir()}


def one_line_error(capsys):
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_a_campaigns_report_is_printed_and_its_page_is_the_same_again(copy, capsys):
    page = (copy / "report.html").read_bytes()
    (copy / "report.html").unlink()
    before = files(copy)
    assert main(["report", str(copy)]) == 0
    printed = capsys.readouterr().out
    assert "cells showed defects in 12,032 measured rows." in printed
    assert "gradient collapse" in printed
    assert "Not finished" not in printed
    assert (copy / "report.html").read_bytes() == page
    assert {**before, "report.html": hashlib.sha256(page).digest()} == files(copy)


def test_an_inline_runs_folder_gives_the_same_report(inline, tmp_path, capsys):
    page = tmp_path / "again.html"
    assert main(["report", str(inline), "--html", str(page), "--quiet"]) == 0
    assert readable(page) == readable(inline / "report.html")
    assert main(["report", str(inline / "results.json"), "--html", str(page), "--quiet"]) == 0
    assert "no defect" not in capsys.readouterr().out


def readable(page):
    """A page's parts in order of the alphabet, without the packed data of its plots.

    A file's names are sorted, so what a page lists by name comes in another order.
    """
    lines = [line for line in page.read_text().splitlines() if len(line) < 2000]
    parts = [part for line in lines for part in re.split("(?=<dt>)|(?<=</dd>)", line)]
    assert len(parts) > 100
    return sorted(parts)


def test_a_runs_findings_come_back_from_its_results_with_the_rows_that_are_there(inline):
    result = read(inline, with_findings=True)
    record = json.loads((inline / "results.json").read_text())
    again = json.loads(json.dumps(result.to_json()))
    for finding in (*again["findings"], *record["findings"]):
        # hashes of the row, which is told only where it was made small
        del finding["id"], finding["checksum"]
    del again["digest"], record["digest"]
    assert again == record
    assert len(result.findings) == len(record["findings"]) > 0
    assert all(finding.has_row for finding in result.worst)


def test_an_unfinished_campaign_says_how_much_is_done_and_calls_nothing_sound_unseen(
    unfinished, tmp_path, capsys
):
    page, comment = tmp_path / "p.html", tmp_path / "c.md"
    command = ["report", str(unfinished), "--html", str(page), "--markdown", str(comment)]
    assert main(command) == 0
    told = r"Not finished: 1 of 2 tasks are done, and 4 cells have not been measured yet\."
    for text in (capsys.readouterr().out, comment.read_text()):
        assert re.search(told, text)
        assert "float16" not in text.replace("float16, bfloat16", "")
    assert re.search(told, page.read_text())


def test_a_store_that_is_being_written_is_read_and_stays_as_it_is(unfinished, capsys):
    coordinator = Store.open(unfinished)  # holds the lock, as a running campaign does
    coordinator.keep("note", "a log beside the file")
    try:
        before = files(unfinished)
        assert stores.FILE + "-wal" in before
        assert main(["report", str(unfinished), "--markdown", "-"]) == 0
        assert "1 of 2 tasks are done" in capsys.readouterr().out
        assert {**files(unfinished), **shared(before)} == before
        coordinator.keep("note", "written after")  # and is not locked out
    finally:
        coordinator.close()


def shared(found):
    """The index of the log, in which every reader leaves its mark."""
    return {name: digest for name, digest in found.items() if name.endswith("-shm")}


def test_a_reader_sees_one_moment_while_the_coordinator_writes(unfinished):
    coordinator = Store.open(unfinished)
    coordinator.keep("note", 1)
    reader = Store.read(unfinished)
    coordinator.keep("note", 2)
    assert (reader.fact("note"), coordinator.fact("note")) == (1, 2)
    reader.close()
    coordinator.close()


def test_a_running_campaign_is_reported_and_goes_on(tmp_path, capsys):
    folder = tmp_path / "c"
    choices = ["--paths", "tf.nn/fused", "--modes", "eager", "--shapes", "32x4"]
    process = subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, "-m", "lossfuzz", "run", "--workers", "1", *choices),
            *("--rows", "400000", "--out", "c", "--quiet"),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        found = 2
        while found == 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.5)
            found = main(["report", str(folder), "--markdown", "-", "--quiet"])
        printed = capsys.readouterr()
        assert found == 0, printed.err
        assert process.poll() is None
        assert re.search(r"Not finished: \d+ of \d{3} tasks are done", printed.out)
        first = finished(folder)
        while finished(folder) == first and time.monotonic() < deadline:
            time.sleep(0.2)
        assert finished(folder) > first
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


def finished(folder):
    store = Store.read(folder)
    try:
        return len(store.finished())
    finally:
        store.close()


def test_markdown_to_standard_output_comes_alone(inline, capsys):
    assert main(["report", str(inline), "--markdown", "-"]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("### lossfuzz: ")
    assert printed.out.rstrip().endswith("</details>")
    assert "written" not in printed.out


def test_exports_are_written_and_named(inline, tmp_path, capsys):
    arguments = ["--parquet", str(tmp_path / "p"), "--tensorboard", str(tmp_path / "t")]
    before = files(inline)
    assert main(["report", str(inline), *arguments, "--quiet"]) == 0
    written = capsys.readouterr().out.replace("\n", "")
    assert "cells.parquet" in written
    assert str(tmp_path / "t") in written
    assert files(inline) == before
    with duckdb.connect() as connection:
        count = connection.execute(
            f"SELECT count(*), sum(rows) FROM '{tmp_path}/p/cells.parquet'"  # noqa: S608
        ).fetchall()
    assert count == [(8, 12032)]
    assert list((tmp_path / "t").glob("float16-eager-CPU-0/events.out.tfevents.*"))


@pytest.mark.parametrize("option", ["--parquet", "--markdown", "--html", "--tensorboard"])
def test_with_something_to_write_only_that_is_told(option, inline, tmp_path, capsys):
    capsys.readouterr()
    assert main(["report", str(inline), option, str(tmp_path / "it")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"written: {tmp_path / 'it'}")
    assert "Advice" not in printed
    assert "median" not in printed
    assert not (tmp_path / "report.html").exists()


def test_an_unfinished_campaign_is_told_so_whatever_is_written(unfinished, tmp_path, capsys):
    assert main(["report", str(unfinished), "--markdown", str(tmp_path / "it")]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("Not finished: 1 of 2 tasks are done")
    assert "".join(rest).startswith("written: ")


def test_what_paths_cost_is_shown_on_the_page(inline, tmp_path, capsys):
    cost = {
        "path": "tf.nn/fused",
        "format": "float32",
        "mode": "eager",
        "device": "CPU:0",
        "route": "fused on logits",
        "unavailable": None,
        "forward": 1.25,
        "step": 2.0625,
        "held": 0.0,
        "seconds": 0.001,
        "relative_time": 1.0,
    }
    costs, page = tmp_path / "costs.json", tmp_path / "page.html"
    costs.write_text(json.dumps([cost]))
    arguments = ["--memory", str(costs), "--html", str(page), "--quiet"]
    assert main(["report", str(inline), *arguments]) == 0
    assert "2.06 x" in page.read_text()
    page.unlink()
    costs.write_text(text_of({"schema": 2, "costs": [cost]}))
    assert main(["report", str(inline), *arguments]) == 0
    assert "2.06 x" in page.read_text()
    capsys.readouterr()
    intact = costs.read_text()
    for damaged in ("[1]", "5", intact.replace("2.0625", "2.0635")):
        costs.write_text(damaged)
        assert main(["report", str(inline), *arguments]) == 2
        assert (
            "expected what 'lossfuzz memory" in (told := one_line_error(capsys))
            or "digest" in told
        )
    assert main(["report", str(inline), "--memory", str(tmp_path / "none")]) == 2
    assert "expected what 'lossfuzz memory --out' wrote" in one_line_error(capsys)


def test_the_run_and_the_comparison_write_comments_too(inline, tmp_path, capsys):
    comment = tmp_path / "c.md"
    choices = ["--paths", "tf.nn/fused", "--modes", "eager", "--formats", "float32"]
    rows = ["--shapes", "8x3", "--rows", "100", "--device", "CPU:0", "--search", "0"]
    out = ["--out", str(tmp_path / "o"), "--markdown", str(comment), "--quiet"]
    assert main(["run", *choices, *rows, *out]) == 0
    assert comment.read_text().startswith("### lossfuzz: ")
    assert main(["compare", str(inline), str(inline), "--markdown", "-"]) == 0
    printed = capsys.readouterr().out
    assert "### ✅ lossfuzz: identical: 8 cells" in printed


def spoil_truncated(folder):
    path = folder / stores.FILE
    path.write_bytes(path.read_bytes()[:5000])


def spoil_newer(folder):
    with contextlib.closing(sqlite3.connect(folder / stores.FILE)) as connection:
        connection.execute("PRAGMA user_version = 99")


def spoil_missing(folder):
    for name in (stores.FILE, "results.json"):
        (folder / name).unlink()


def spoil_unmeasured(folder):
    cut_short(folder)


def spoil_old(folder):
    (folder / stores.FILE).unlink()
    path = folder / "results.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 0}))


def spoil_seal(folder):
    (folder / stores.FILE).unlink()
    path = folder / "results.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "interrupted": True}))


def spoil_findings(folder):
    (folder / stores.FILE).unlink()
    path = folder / "results.json"
    record = json.loads(path.read_text())
    del record["worst"]
    path.write_text(json.dumps(sealed(record)))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_truncated, "is damaged or no store"),
        (spoil_newer, "was written by a newer lossfuzz (schema 99"),
        (spoil_missing, "holds no campaign"),
        (spoil_unmeasured, "nothing has been measured yet"),
        (spoil_old, "has schema '0', this lossfuzz reads 1 and 2"),
        (spoil_seal, "cannot be trusted: it does not match its digest"),
        (spoil_findings, "cannot be read here (the field 'worst' is missing)"),
    ],
)
def test_a_bad_folder_is_one_clear_line_and_nothing_is_written(spoil, said, copy, capsys):
    (copy / "report.html").unlink()
    spoil(copy)
    before = files(copy)
    assert main(["report", str(copy)]) == 2
    assert said in one_line_error(capsys)
    assert files(copy) == before


@pytest.mark.parametrize("option", ["--html", "--markdown", "--parquet", "--tensorboard"])
def test_a_place_that_cannot_be_written_is_one_clear_line(option, inline, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["report", str(inline), option, str(tmp_path / "file" / "x"), "--quiet"]) == 2
    assert "cannot write" in one_line_error(capsys)


def test_without_duckdb_the_report_says_what_to_install(inline, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    assert main(["report", str(inline), "--parquet", str(tmp_path / "p"), "--quiet"]) == 2
    assert "pip install 'lossfuzz[parquet]'" in one_line_error(capsys)
