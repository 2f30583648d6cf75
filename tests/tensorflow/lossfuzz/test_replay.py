"""``lossfuzz replay``: findings by name, and whether they still stand."""

import io
import json
import sys
from dataclasses import replace

import pytest

import lossfuzz
from lossfuzz.apart import Limits, replay_apart
from lossfuzz.baseline import StoredCheck, written
from lossfuzz.campaign.store import FILE, Store
from lossfuzz.cli import main
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.own import loss_imported, own_path_named
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.findings import Finding
from lossfuzz.plan import Plan
from lossfuzz.recorded import recorded
from lossfuzz.replaying import CHANGED, GONE, IMPOSSIBLE, STANDS, replay
from lossfuzz.running import run
from lossfuzz.stored import read

MINE = """\
import os, time
import tensorflow as tf

def naive(logits, labels):
    chosen = tf.gather(tf.nn.softmax(logits), labels, batch_dims=1)
    return -tf.math.log(chosen)

def picky(logits, labels):
    tf.debugging.assert_less(tf.reduce_max(tf.abs(logits)), 50.0)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

def dies(logits, labels):
    if logits.shape[-1] == 3:
        os.abort()
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)

def hangs(logits, labels):
    while logits.shape[-1] == 3:
        time.sleep(1)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
"""

AS = " as softmax cross-entropy with an integer label"


@pytest.fixture(scope="module")
def folder(tf, tmp_path_factory):
    path = tmp_path_factory.mktemp("replayed")
    (path / "mine_replayed.py").write_text(MINE)
    sys.path.append(str(path))
    own = [own_path_named(f"mine_replayed:{name}{AS}") for name in ("naive", "picky")]
    result = run(
        Plan(
            paths=(
                *paths_matching(["keras/function/softmax-op", "tf.nn/naive", "tf.nn/mean/fused"]),
                *own,
            ),
            formats=(BINARY32,),
            modes=("eager", "graph"),
            devices=("CPU:0",),
            shapes=((64, 3),),
            rows=1024,
        )
    )
    (path / "results.json").write_text(json.dumps(result.to_json()))
    yield path
    sys.path.remove(str(path))


@pytest.fixture
def results(folder):
    return json.loads((folder / "results.json").read_text())


def of_kind(results, kind, path=""):
    return next(
        Finding.from_json(one)
        for one in [*results["worst"], *(cause["finding"] for cause in results["causes"])]
        if one["kind"] == kind and path in one["path"] and "logits" in one
    )


def test_every_numbered_finding_and_every_cause_stands(folder, results):
    names = [str(number + 1) for number in range(len(results["worst"]))]
    names += [f"cause-{number + 1}" for number in range(len(results["causes"]))]
    found = [recorded(f"{folder}#{name}").finding for name in names]
    assert {kinds.REFUSAL, kinds.MODE_DISAGREEMENT} <= {one.kind for one in found}
    for finding in {one.id: one for one in found}.values():
        result = replay(finding)
        assert result.verdict == STANDS, (finding.cell_name, finding.kind, result.told)


def test_a_row_that_was_not_kept_comes_back_from_its_recipe(folder, results):
    assert all("logits" not in one for one in results["findings"])
    for record in results["findings"][:6]:
        finding = recorded(f"{folder}#{record['id']}").finding
        assert finding.id == record["id"]
        assert finding.logits
        assert replay(finding).verdict == STANDS


def test_a_finding_has_one_id_wherever_it_is_read(results):
    record = results["worst"][0]
    finding = Finding.from_json(record)
    assert finding.id == record["id"]
    assert replace(finding, observed_loss=1.0).id == finding.id
    assert replace(finding, mode="xla").id != finding.id
    assert replace(finding, logits=(*finding.logits[:-1], -0.0)).id != finding.id


def test_what_was_mended_is_gone(folder, results, capsys, tmp_path):
    finding = of_kind(results, kinds.GRADIENT_COLLAPSE, "softmax-op")
    mended = replace(finding, path="tf.nn/fused")
    assert replay(mended).verdict == GONE
    file = tmp_path / "finding.json"
    file.write_text(json.dumps(mended.to_json()))
    assert main(["replay", str(file)]) == 1
    assert "It is gone" in capsys.readouterr().out
    assert main(["replay", str(file), "--issue"]) == 2
    assert "nothing to file" in capsys.readouterr().err


def test_another_kind_is_a_change(results):
    finding = of_kind(results, kinds.GRADIENT_COLLAPSE, "softmax-op")
    result = replay(replace(finding, kind=kinds.NON_FINITE_LOSS))
    assert result.verdict == CHANGED
    assert kinds.GRADIENT_COLLAPSE in result.told or kinds.INACCURATE_LOSS in result.told


def test_a_wrong_exact_value_fails_the_audit(results, tmp_path, capsys):
    finding = of_kind(results, kinds.GRADIENT_COLLAPSE, "softmax-op")
    file = tmp_path / "finding.json"
    file.write_text(json.dumps(replace(finding, exact_loss=finding.exact_loss + 1).to_json()))
    assert main(["replay", str(file)]) == 3
    assert "audit" in capsys.readouterr().err


def test_what_cannot_run_here_says_why(results):
    finding = of_kind(results, kinds.GRADIENT_COLLAPSE, "softmax-op")
    elsewhere = replace(finding, device="tf-2.4.1/CPU:0")
    result = replay(elsewhere)
    assert result.verdict == IMPOSSIBLE
    assert "tf-2.4.1" in result.told
    assert replay(elsewhere, device="CPU:0").verdict == STANDS
    for changed, text in (
        ({"device": "GPU:7"}, "GPU:7"),
        ({"path": "keras/no/such"}, "keras/no/such"),
        ({"path": "no_such_module:loss" + AS}, "no_such_module"),
        ({"loss": "another"}, "another"),
        ({"batch_rows": 9, "path": "tf.nn/mean/fused"}, "tf.nn/mean/fused"),
    ):
        result = replay(replace(finding, **changed))
        assert result.verdict == IMPOSSIBLE
        assert text in result.told


def test_a_finding_is_named_in_every_way(folder, results, monkeypatch):
    record = results["worst"][0]
    finding = Finding.from_json(record)
    names = [f"{folder}#1", f"{folder}#{finding.id}", f"{folder}/results.json#{finding.id[:7]}"]
    assert all(recorded(name).finding == finding for name in names)
    assert recorded(names[0]).versions["tensorflow"]
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(record)))
    assert recorded("-").finding == finding
    monkeypatch.chdir(folder)
    (folder / "lossfuzz-report").symlink_to(folder)
    assert recorded(finding.id).finding == finding


def test_the_findings_of_checks_are_named_by_the_file_that_keeps_them(folder, tmp_path):
    defects = []
    for name in ("naive", "picky"):
        with pytest.raises((lossfuzz.LossDefect, lossfuzz.LossRefusal)) as caught:
            lossfuzz.check(
                loss_imported(f"mine_replayed:{name}"),
                "softmax-cross-entropy",
                formats=["float32"],
                modes=["eager"],
                shapes=[(64, 3)],
                rows=2000,
            )
        defects.append(caught.value)
    saved = tmp_path / "saved.json"
    checks = [
        StoredCheck(test="test_mine", number=number, record=one.result.to_json())
        for number, one in enumerate(defects)
    ]
    saved.write_text(written(checks))
    finding = defects[0].finding
    assert recorded(f"{saved}#{finding.id}").finding.to_json() == finding.to_json()
    assert recorded(f"{saved}#1").finding.id == defects[0].result.worst[0].id
    assert recorded(f"{saved}#1").versions["tensorflow"]
    assert main(["replay", f"{saved}#{finding.id}", "--loss", "mine_replayed:naive"]) == 0
    alone = tmp_path / "finding.json"
    alone.write_text(json.dumps(finding.to_json()))  # as LossDefect's documentation has it
    assert recorded(str(alone)).finding.to_json() == finding.to_json()


def test_an_id_that_a_checks_message_tells_says_how_to_keep_the_finding(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["replay", "1a156bde"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "json.dumps(defect.finding.to_json())" in error
    assert "--lossfuzz-save" in error


def test_a_running_campaigns_finding_is_replayed_as_its_report_is_shown(tmp_path, capsys):
    folder = tmp_path / "campaign"
    choices = ["--paths", "keras/function/softmax-op", "--modes", "eager", "--formats", "float32"]
    more = ["--shapes", "32x4", "--rows", "64", "--search", "0", "--quiet", "--workers", "1"]
    assert main(["run", *choices, *more, "--out", str(folder)]) == 0
    (folder / "results.json").unlink()
    worst = read(folder).worst[0]
    store = Store.open(folder)  # as the process does that runs it
    try:
        capsys.readouterr()
        assert main(["replay", f"{folder}#1"]) == 0
        assert worst.id in capsys.readouterr().out
        assert recorded(f"{folder}#{worst.id}").finding == worst
        assert recorded(f"{folder / FILE}#1").finding == worst
        assert main(["report", str(folder), "--quiet"]) == 0
    finally:
        store.close()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("{}", "many findings"),
        ("{}#zz", "no finding 'zz'"),
        ("{}#", "no finding ''"),
        ("{}#999", "no finding '999'"),
        ("{}#cause-99", "no finding 'cause-99'"),
        ("{}/nowhere#1", "cannot read"),
        ("{}/mine_replayed.py", "is no JSON"),
        ("{}/mine_replayed.py#1", "is no JSON"),
        ("{}/results.json", "many findings"),
        ("{}/other.json", "holds no finding"),
        ("{}/other.json#1", "holds no results"),
        ("{}/damaged.json", "cannot be read"),
        ("{}/changed.json", "does not give its row"),
        ("{}/flipped.json", "does not match its checksum"),
    ],
)
def test_misuse_is_told_in_one_line(folder, results, capsys, name, text):
    record = results["worst"][0]
    (folder / "other.json").write_text("[1]")
    (folder / "damaged.json").write_text(json.dumps({**record, "label": 17}))
    unsealed = {name: value for name, value in record.items() if name != "checksum"}
    (folder / "changed.json").write_text(json.dumps({**unsealed, "mode": "xla"}))
    (folder / "flipped.json").write_text(json.dumps({**record, "mode": "xla"}))
    assert main(["replay", name.format(folder)]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) == 1


def test_crashes_and_timeouts_are_replayed_in_a_process_of_their_own(folder, results, monkeypatch):
    monkeypatch.chdir(folder)
    row = of_kind(results, kinds.GRADIENT_COLLAPSE, "softmax-op")
    row = replace(row, logits=(0.0, 1.0, 2.0), exact_loss=float("nan"), exact_gradient=(0.0,) * 3)
    row = replace(row, observed_gradient=())
    limits = Limits(seconds=3)
    for loss, kind, verdict, text in (
        ("dies", kinds.CRASH, STANDS, "SIGABRT"),
        ("hangs", kinds.TIMEOUT, STANDS, "silent for 3 s"),
        ("naive", kinds.CRASH, GONE, "it is gone"),
    ):
        finding = replace(row, kind=kind, path=f"mine_replayed:{loss}{AS}", message="")
        result = replay_apart(finding, replace(limits, seconds=60 if kind == kinds.CRASH else 3))
        assert result.verdict == verdict, result.told
        assert text in result.told


def test_script_and_issue_are_written_from_what_was_run_now(folder, results, capsys, tmp_path):
    finding = of_kind(results, kinds.MODE_DISAGREEMENT)
    files = [tmp_path / "again.py", tmp_path / "issue.md"]
    arguments = ["replay", f"{folder}#{finding.id}", "--script", str(files[0])]
    assert main([*arguments, "--issue", str(files[1])]) == 0
    assert "It still stands" in capsys.readouterr().out
    code, text = (file.read_text() for file in files)
    assert code.rstrip() in text
    assert f"finding {finding.id} still stands\n```" in text
    assert main(["replay", f"{folder}#{finding.id}", "--script"]) == 0
    printed = capsys.readouterr()
    assert printed.out == code
    assert "It still stands" in printed.err
