"""Results that a stranger wrote: names, messages and versions that are to be nothing but text."""

import copy
import json
import re

import pytest

from lossfuzz.cli import main
from lossfuzz.commands.console import progress_bar, told_progress
from lossfuzz.harness.records.seal import sealed
from lossfuzz.harness.results import kinds
from lossfuzz.harness.results.findings import Finding
from lossfuzz.reports.issue import Seen, issue
from lossfuzz.reports.script import script
from lossfuzz.reports.snippet import snippet

EVIL = (
    "\x1b]0;title\x07\x1b[2J\r\x9b31m\u202e[red]x[/nope] :boom:\n"
    "raise SystemExit(9)\n<script>alert(1)</script>|`@user www.example.org --> ../../x"
)
ORDERS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def results(tf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest")
    arguments = [
        *("run", "--paths", "keras/function/softmax-op", "--formats", "float32"),
        *("--modes", "eager", "--device", "CPU:0", "--families", "margin_sweep"),
        *("--rows", "300", "--search", "0", "--shapes", "32x4", "--quiet"),
    ]
    assert main([*arguments, "--out", str(folder)]) == 0
    return json.loads((folder / "results.json").read_text())


def texts(node, place=()):
    """Every place of a text, one for each that has the same names of keys."""
    found = {}
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in parts:
        if isinstance(value, str):
            found.setdefault((*place, key), None)
        elif isinstance(value, dict | list):
            found.update(texts(value, (*place, key)))
    alike = {}
    for one in found:
        alike.setdefault(tuple("#" if isinstance(key, int) else key for key in one), one)
    return dict.fromkeys(alike.values())


def changed(results, place, value):
    record = copy.deepcopy(results)
    node = record
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return signed(record)


def signed(record):
    """The record with digests that match it, which anybody can make."""
    for one in record["worst"]:
        one.pop("checksum", None)
    return sealed(record)


def check_told(code, capsys, *, place):
    told = capsys.readouterr()
    assert code in (0, 1, 2), (place, told.err)
    assert not ORDERS.search(told.out + told.err), place
    if code == 2:
        assert told.err.count("\n") == 1, place
        assert told.err.startswith("lossfuzz: error: ")
    return told.out


def test_no_text_of_results_gives_orders_or_becomes_markup(results, tmp_path, capsys):
    folder = tmp_path / "stranger"
    folder.mkdir()
    (tmp_path / "results.json").write_text(json.dumps(results))
    shown = 0
    for place in texts(results):
        for text in (EVIL, _at(results, place) + EVIL):
            record = changed(results, place, text)
            (folder / "results.json").write_text(json.dumps(record))
            (folder / "report.html").unlink(missing_ok=True)
            check_told(main(["report", str(folder)]), capsys, place=place)
            if (folder / "report.html").exists():
                shown += 1
                page = (folder / "report.html").read_text()
                assert "<script>alert" not in page, place
                assert '<meta name="generator" content="lossfuzz">' in page
    assert shown > 20  # many of them are shown, and not refused


def _at(node, place):
    for key in place:
        node = node[key]
    return node


SHOWN = [
    ("environment", "versions", "tensorflow"),
    ("worst", 0, "message"),
    ("cells", 0, "route"),
    ("cells", 0, "unavailable"),
]


@pytest.mark.parametrize("place", SHOWN, ids=lambda place: "-".join(map(str, place)))
def test_comments_comparisons_and_files_hold_text_alone(place, results, tmp_path, capsys):
    folder, honest = tmp_path / "stranger", tmp_path / "honest"
    for one, record in ((folder, changed(results, place, EVIL)), (honest, results)):
        one.mkdir()
        (one / "results.json").write_text(json.dumps(record))
    for arguments in (
        ["report", folder],
        ["compare", honest, folder],
        ["compare", folder, honest],
    ):
        code = main([*map(str, arguments), "--markdown", "-"])
        out = check_told(code, capsys, place=place)
        assert "<script>" not in out.lower()
        assert "@user" not in out
        assert not re.search(r"(?m)^raise", out)
    check_told(main(["compare", str(honest), str(folder)]), capsys, place=place)
    outside = {one for one in tmp_path.rglob("*") if folder not in one.parents}
    targets = folder / "parquet", folder / "tensorboard"
    main(["report", str(folder), "--parquet", str(targets[0]), "--tensorboard", str(targets[1])])
    assert {one for one in tmp_path.rglob("*") if folder not in one.parents} == outside
    assert all(one.exists() for one in targets)


def test_a_device_that_would_be_a_path_is_refused_and_nothing_is_written(
    results, tmp_path, capsys
):
    record = json.loads(json.dumps(results).replace("CPU:0", "../../../up/CPU:0"))
    folder = tmp_path / "a" / "b" / "stranger"
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(signed(record)))
    targets = ["--parquet", str(folder / "one"), "--tensorboard", str(folder / "two")]
    assert main(["report", str(folder), *targets]) == 2
    assert "expected a device's name such as CPU:0" in capsys.readouterr().err
    assert {one for one in tmp_path.rglob("*") if one.is_file()} == {folder / "results.json"}


def test_brackets_in_names_are_no_markup(capsys):
    bar = progress_bar()
    bar.disable = False
    bar.add_task("[bold]what[/else]\x1b[2J", total=2)
    bar.console.print(bar.get_renderable())
    with told_progress("start", "batch", quiet=True) as told:
        told(1, 2, "[/else]")
    assert "[bold]what[/else]\\x1" in capsys.readouterr().err


def finding(**changes):
    record = {
        "kind": kinds.GRADIENT_COLLAPSE,
        "tier": kinds.DEFECT,
        "path": "tf.nn/naive",
        "format": "float32",
        "mode": "eager",
        "device": "CPU:0",
        "logits": [0.0, 104.0],
        "label": 0,
        "loss_dtype": "float32",
        "observed_loss": 16.0,
        "exact_loss": 104.0,
        "observed_gradient": [0.0, 0.0],
        "exact_gradient": [-1.0, 1.0],
        "ulp_error": 1e7,
        "mixed_error": 1e7,
        "bound": 11.0,
        "margin": 104.0,
        "recipe": {},
        "row": 0,
        "message": "",
        "target": [],
        "documented_loss": 104.0,
    }
    return Finding.from_json({**record, **changes})


VERSIONS = {"tensorflow": "2.21.0", "numpy": "2.4"}


@pytest.mark.parametrize(
    "changes",
    [{"message": EVIL}, {"recipe": {EVIL: EVIL}}],
    ids=lambda changes: next(iter(changes)),
)
@pytest.mark.parametrize("batch_rows", [1, 4])
def test_what_a_record_says_is_no_code_in_its_scripts(changes, batch_rows):
    same = {"batch_rows": batch_rows, "repeated": batch_rows > 1}
    honest = finding(**same, upstream=[1.0] * batch_rows)
    one = finding(**same, **changes)
    versions = dict.fromkeys((*VERSIONS, "lossfuzz"), EVIL)
    for made in (script, lambda one, _: snippet(one)):
        code = made(one, versions)
        compile(code, "script", "exec")
        assert not re.search(r"(?m)^\s*raise SystemExit\(9\)", code)
        assert code.count("\n") >= made(honest, VERSIONS).count("\n") - 2
    seen = Seen(script="print()", output=EVIL, versions=versions, devices=(EVIL,))
    text = issue(one, seen)
    assert not ORDERS.search(text)
    outside_of_code = re.sub("`[^`\n]*`", "", text.partition("### Standalone code")[0])
    assert "<script>" not in outside_of_code
    assert "-->" not in outside_of_code.partition("\n")[2]


@pytest.mark.parametrize(
    "changes",
    [
        {"row": "0\nraise SystemExit(9)#", "batch_rows": 4, "repeated": True},
        {"row": 0.5},
        {"label": "0"},
        {"label": 0.5},
        {"batch_rows": "4"},
        {"device": 5},
        {"device": EVIL},
        {"upstream": ["inf"]},
        {"message": ["x"]},
        {"loss_dtype": None},
        {"upstream": ["1]); raise SystemExit(9)"]},
        {"batch": {"logits": [[0.0]], "targets": [[0]], "shape": ["1"], "row": 0}},
        {"batch": {"logits": [[0.0]], "targets": [[0]], "shape": [1], "row": "0"}},
    ],
    ids=str,
)
def test_a_record_of_other_types_is_no_finding(changes, tmp_path, capsys):
    with pytest.raises((TypeError, ValueError)):
        finding(**changes)
    file = tmp_path / "finding.json"
    file.write_text(json.dumps({**finding().to_json(), **changes}))
    assert main(["replay", str(file)]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "the finding's record cannot be read here" in told
