"""Files of strangers, and damaged ones: nothing of them runs, and no figure of them is wrong."""

import contextlib
import copy
import json
import random
import shutil
import sqlite3
import sys

import pytest
from changed_stores import cut_short, records, written

from lossfuzz import stored
from lossfuzz.campaign.store import Store
from lossfuzz.campaign.store_file import FILE
from lossfuzz.cli import main
from lossfuzz.errors import UsageError
from lossfuzz.harness.records.seal import sealed
from lossfuzz.harness.results.findings import Finding

NAIVE = "tf.nn/naive"
CHOICES = [
    *("run", "--paths", NAIVE, "--formats", "float32", "--modes", "eager", "--device", "CPU:0"),
    *("--families", "margin_sweep", "--rows", "300", "--search", "0", "--shapes", "32x4"),
    "--quiet",
]
PAYLOAD = "import os, pathlib\npathlib.Path(os.environ['MARK']).write_text('ran')\n"
LOSS = "softmax cross-entropy with an integer label"
OWN = f"night.payload:f as {LOSS}"


@pytest.fixture(scope="module")
def sound(tf, tmp_path_factory):
    """A campaign and a run of the same cell."""
    place = tmp_path_factory.mktemp("sound")
    assert main([*CHOICES, "--workers", "1", "--out", str(place / "campaign")]) == 0
    assert main([*CHOICES, "--out", str(place / "run")]) == 0
    return place


def renamed(value, name=OWN):
    """A record in which the path has another name, as one that was written by hand."""
    if isinstance(value, dict):
        left_out = {"id", "checksum"} if "kind" in value else ()
        return {key: renamed(one, name) for key, one in value.items() if key not in left_out}
    if isinstance(value, list):
        return [renamed(one, name) for one in value]
    return value.replace(NAIVE, name) if isinstance(value, str) else value


def as_results(sound, folder, change):
    folder.mkdir()
    record = json.loads((sound / "run" / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps(sealed(change(record))))


def as_campaign(sound, folder, change, **facts):
    with contextlib.closing(Store.read(sound / "campaign")) as store:
        contents = [(kind, key, change(value)) for kind, key, value in records(store)]
    contents = [one for one in contents if one[1] not in facts]
    written(folder, [*contents, *(("meta", name, value) for name, value in facts.items())])


@pytest.fixture
def hostile(sound, tmp_path, monkeypatch):
    """A folder whose files name code of its own, next to the one who reads it."""
    mark = tmp_path / "mark"
    monkeypatch.setenv("MARK", str(mark))
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)

    def made(kind, **facts):
        night = here / "night"
        if kind == "campaign":
            program = str(night / "program")
            places = {"first": [str(night), "."], "last": [str(here)]}
            named = {"programs": [program], "pythons": {"tf": program}, "folders": places}
            as_campaign(sound, night, renamed, **{**named, **facts})
        else:
            as_results(sound, night, renamed)
        for place in (here, night):
            (place / "payload.py").write_text(PAYLOAD)
            (place / "json.py").write_text(PAYLOAD)
        (night / "__init__.py").write_text(PAYLOAD)
        (night / "program").write_text(f"#!{sys.executable}\n{PAYLOAD}")
        (night / "program").chmod(0o755)
        return night

    made.mark = mark
    return made


READING = [
    ("report", "night"),
    ("report", "night", "--html", "page.html", "--markdown", "page.md"),
    ("report", "night", "--parquet", "figures"),
    ("report", "night", "--markdown", "-"),
    ("compare", "night", "night", "--html", "both.html", "--json", "both.json"),
    ("compare", "night", "night", "--markdown", "-"),
    ("merge", "night", "--out", "joint"),
]
RUNNING = [("replay", "night#1"), ("replay", "night#1", "--script", "s.py"), ("resume", "night")]


CASES = [
    (kind, " ".join(command))
    for kind in ("campaign", "run")
    for command in READING + RUNNING
    if kind == "campaign" or command[0] not in ("merge", "resume")
]


@pytest.mark.parametrize(("kind", "line"), CASES)
def test_nothing_runs_that_a_folder_names(kind, line, hostile, capsys):
    command = line.split()
    night = hostile(kind)
    if command[0] == "resume":
        cut_short(night)
    before = {one.name for one in night.parent.parent.iterdir()}
    paths = list(sys.path)
    known = set(sys.modules)
    code = main(command)
    told = capsys.readouterr()
    assert not hostile.mark.exists()
    assert not any("payload" in name or name.startswith("night") for name in sys.modules)
    assert sys.path == paths
    assert {one.name for one in night.parent.parent.iterdir()} == before
    assert not {name for name in set(sys.modules) - known if "json" in name and "." not in name}
    if tuple(command) in RUNNING:
        assert code == 2
        assert told.err.count("\n") == 1
        assert "would run code that its file names: --loss night.payload:f" in told.err
        assert "--trust" in told.err
    else:
        assert code in (0, 1), told.err
        assert told.out + told.err


def test_what_the_command_line_names_runs_and_only_that(hostile, capsys):
    cut_short(hostile("campaign", programs=[], pythons={}))
    for options in (
        ["--loss", "night.other:f"],
        ["--loss", "night.payload:f", "--python", "night/program"],
    ):
        assert main(["resume", "night", *options]) == 2
        assert "does not run that" in capsys.readouterr().err
        assert not hostile.mark.exists()
    assert main(["resume", "night", "--loss", "night.payload:f"]) == 2
    assert hostile.mark.exists()  # it was named, and ran
    assert "cannot import 'night.payload:f'" in capsys.readouterr().err


def flipped(content, generator):
    damaged = bytearray(content)
    damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
    return bytes(damaged)


def read(path):
    """The figures of a file, or how it was refused."""
    try:
        return stored.read(path, with_findings=True).to_json(), ""
    except UsageError as error:
        return None, str(error)


@pytest.mark.parametrize("name", ["results.json", FILE])
def test_a_flipped_bit_is_refused_or_has_no_effect(name, sound, tmp_path):
    source = sound / ("run" if name == "results.json" else "campaign") / name
    content, generator = source.read_bytes(), random.Random(15)
    figures = stored.read(source, with_findings=True).to_json()
    refused = 0
    for _ in range(60):
        folder = tmp_path / "flipped"
        folder.mkdir()
        path = folder / name
        damaged = flipped(content, generator)
        path.write_bytes(damaged)
        found, error = read(path)
        assert found == figures or error.count("\n") == 0 < len(error)
        refused += bool(error)
        assert path.read_bytes() == damaged
        shutil.rmtree(folder)
    assert refused > 6  # A bit of an unused page has no effect.


OTHERS = [None, -1, 2.5, 10**30, "", "x", "nan", True, [], {}, [None], {"a": 1}, "../x", [["a"]]]


def leaves(node, place=()):
    """Every place below a record, one of those that differ by a number alone."""
    found = {}
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in parts:
        name = "#" if isinstance(key, int) else key
        found.setdefault((*place, name), (key,))
        if isinstance(value, dict | list):
            below = leaves(value)
            for names, keys in below.items():
                found.setdefault((*place, name, *names), (key, *keys))
    return found


def put(record, place, value):
    changed = copy.deepcopy(record)
    node = changed
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = value
    return changed


def without_checksums(record):
    return renamed(record, NAIVE)


@pytest.mark.parametrize("kind", ["campaign", "run"])
def test_a_field_of_another_kind_is_told_or_shown_and_nothing_fails(kind, sound, tmp_path, capsys):
    """Every field of a record, changed by hand with digests that match: no internal error."""
    generator = random.Random(15)
    if kind == "run":
        known = json.loads((sound / "run" / "results.json").read_text())
        cases = [(None, place) for place in leaves(known).values()]
    else:
        with contextlib.closing(Store.read(sound / "campaign")) as store:
            known = records(store)
        cases = [(k, place) for k, one in enumerate(known) for place in leaves([one[2]]).values()]
    for number, place in generator.sample(cases, 60):
        folder, value = tmp_path / "folder", generator.choice(OTHERS)
        if number is None:
            folder.mkdir()
            changed = without_checksums(put(known, place, value))
            (folder / "results.json").write_text(json.dumps(sealed(changed)))
        else:
            contents = list(known)
            name, key, record = contents[number]
            contents[number] = name, key, without_checksums(put([record], place, value))[0]
            written(folder, contents)
        for command in (["report", "--html", str(tmp_path / "page"), "--quiet"], ["replay"]):
            target = f"{folder}#zz" if command == ["replay"] else str(folder)
            code = main([*command, target])
            told = capsys.readouterr()
            assert code in (0, 1, 2), (number, place, value, told.err)
            if code == 2:
                assert told.err.count("\n") == 1, (number, place, value, told.err)
        shutil.rmtree(folder)


NO_FACTS = [
    *(("environment", value) for value in ([], "", 0, False, "x", [1])),
    *(("notes", value) for value in ("", 0, {}, False, 5, [1])),
    *(("seconds", value) for value in ("", [], 0, {"total": "x"}, {"total": -1})),
    *(("logical_cpus", value) for value in (0, -1, 10**6, "", [], 1.5, True)),
]


@pytest.mark.parametrize(("name", "value"), NO_FACTS)
def test_a_fact_of_another_kind_is_refused_however_empty(name, value, sound, tmp_path):
    as_campaign(sound, tmp_path / "odd", without_checksums, **{name: value})
    with pytest.raises(UsageError, match=f"{name}|total"):
        stored.read(tmp_path / "odd")


@pytest.mark.parametrize("kind", ["campaign", "run"])
def test_shapes_that_no_machine_can_hold_are_refused(kind, sound, tmp_path):
    def enlarged(record):
        plan = record.get("plan", record)
        plan["shapes"] = ["99999999x99999999"]
        return without_checksums(record)

    if kind == "campaign":
        with contextlib.closing(Store.read(sound / "campaign")) as store:
            plan = enlarged(store.fact("plan"))
        as_campaign(sound, tmp_path / "odd", without_checksums, plan=plan)
    else:
        as_results(sound, tmp_path / "odd", enlarged)
    with pytest.raises(UsageError, match="99999999x99999999 is larger than any machine"):
        stored.read(tmp_path / "odd")


def test_a_store_of_an_older_lossfuzz_with_an_endless_view_is_refused_at_once(sound, tmp_path):
    path = tmp_path / FILE
    shutil.copy(sound / "campaign" / FILE, path)
    with sqlite3.connect(path) as connection:
        connection.execute("ALTER TABLE records RENAME TO kept")
        connection.execute(
            "CREATE VIEW records AS WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 "
            "FROM n) SELECT 'task' AS kind, k AS key, x'' AS digest, x'' AS content FROM n"
        )
    connection.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="its tables are not those that lossfuzz makes"):
        stored.read(tmp_path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("target", [FILE, "nowhere"])
@pytest.mark.parametrize("command", ["report", "compare", "replay", "merge", "resume"])
def test_a_store_that_is_a_link_to_nothing_hides_no_results(
    command, target, sound, tmp_path, capsys
):
    folder = tmp_path / "linked"
    shutil.copytree(sound / "run", folder)
    (folder / FILE).symlink_to(target)
    lines = {
        "compare": [str(folder), str(sound / "run")],
        "replay": [f"{folder}#1"],
        "merge": [str(folder), "--out", str(tmp_path / "joint")],
    }
    assert main([command, *lines.get(command, [str(folder)])]) == 2
    assert f"{FILE}' is a symbolic link" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("logits", [[0.0, 1e300], [0.0, 87.00000000000001], [1e-60, 2.0]])
def test_a_findings_logits_are_numbers_of_its_format(logits, sound):
    record = json.loads((sound / "run" / "results.json").read_text())["worst"][0]
    changed = {key: one for key, one in record.items() if key not in ("id", "checksum")}
    assert Finding.from_json(changed).logits == tuple(changed["logits"])
    with pytest.raises(ValueError, match="is no number of float32"):
        Finding.from_json({**changed, "logits": logits, "observed_gradient": [], "target": []})


@pytest.mark.parametrize(
    ("name", "value"), [("rows", 10**30), ("rows", 0.5), ("seconds", "inf"), ("search", -1)]
)
def test_a_budget_that_no_run_can_have_is_refused(name, value, sound, tmp_path):
    def changed(record):
        record["plan"][name] = value
        return without_checksums(record)

    as_results(sound, tmp_path / "odd", changed)
    with pytest.raises(UsageError, match=f"field '{name}'"):
        stored.read(tmp_path / "odd")


def test_a_field_that_stands_twice_is_refused(sound, tmp_path):
    path = tmp_path / "results.json"
    text = (sound / "run" / "results.json").read_text()
    path.write_text(text.replace("{", '{"plan": {}, ', 1))
    with pytest.raises(UsageError, match="has a field twice, 'plan'"):
        stored.read(path)


def test_standard_input_without_end_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", open("/dev/zero"))  # noqa: SIM115, PTH123
    with sys.stdin:
        assert main(["replay", "-"]) == 2
    assert "standard input has more than 128 MiB" in " ".join(capsys.readouterr().err.split())
