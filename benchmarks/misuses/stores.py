"""Damaged and odd files of campaigns and runs, for every command that reads them."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from misuses.case import ERROR, Case, Table
from misuses.rewritten import campaign, run_results, tasks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Damage = Callable[[Path], object]

DEEP = "[" * 100_000 + "]" * 100_000
COMMANDS = {
    "report": "lossfuzz report night",
    "compare": "lossfuzz compare night plain",
    "merge": "lossfuzz merge night plain-campaign --out joint",
    "replay": "lossfuzz replay 'night#1'",
    "resume": "lossfuzz resume night",
}


def _sql(*statements: str, values: tuple[object, ...] = ()) -> Damage:
    """Damage by SQL; the values belong to the last statement."""

    def damage(work: Path) -> None:
        store = sqlite3.connect(work / "night" / "campaign.sqlite")
        with store:
            for number, statement in enumerate(statements, 1):
                store.execute(statement, values if number == len(statements) else ())
        store.close()

    return damage


def _bytes(change: Callable[[bytearray], bytes | bytearray]) -> Damage:
    def damage(work: Path) -> None:
        path = work / "night" / "campaign.sqlite"
        path.write_bytes(change(bytearray(path.read_bytes())))

    return damage


def _flipped(content: bytearray) -> bytearray:
    content[len(content) * 3 // 4] ^= 0x10
    return content


def _task(content: bytes) -> Damage:
    return _sql("UPDATE records SET content = ? WHERE kind = 'task'", values=(content,))


def _signed_task(content: bytes) -> Damage:
    return lambda work: tasks_of(work / "night", content)


def _plan(**changes: Any) -> Damage:
    return lambda work: campaign(work, plan=lambda plan: {**plan, **changes})


def _result(change: Callable[[dict[str, Any]], Any]) -> Damage:
    return lambda work: campaign(work, result=change)


def _cell(**changes: Any) -> Damage:
    return _result(lambda r: {**r, "cells": [{**cell, **changes} for cell in r["cells"]]})


def _finding(**changes: Any) -> Damage:
    def change(result: dict[str, Any]) -> dict[str, Any]:
        for cell in result["cells"]:
            for finding in cell.get("findings", ()):
                finding.update(changes)
        return result

    return _result(change)


def _other_database(work: Path) -> None:
    path = work / "night" / "campaign.sqlite"
    path.unlink()
    store = sqlite3.connect(path)
    store.execute("CREATE TABLE meta (name, value)")
    store.commit()
    store.close()


def _bomb(work: Path) -> None:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(b"[" + b" " * 2**24) for _ in range(480)) + packer.flush()
    _signed_task(packed)(work)


def _replaced_by(kind: str) -> Damage:
    def damage(work: Path) -> None:
        path = work / "night" / "campaign.sqlite"
        path.unlink()
        if kind == "folder":
            path.mkdir()
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "loop":
            path.symlink_to(path.name)
        elif kind == "device":
            path.symlink_to("/dev/zero")
        elif kind == "dangling":
            path.symlink_to("nowhere")

    return damage


_ENDLESS = "WITH RECURSIVE n(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM n)"

RAW: dict[str, Damage] = {
    "half of the file": _bytes(lambda content: content[: len(content) // 2]),
    "an empty file": _bytes(lambda _: b""),
    "a file of zeros": _bytes(lambda content: bytes(len(content))),
    "a file of text": _bytes(lambda _: b"what is this?\n" * 100),
    "one flipped bit": _bytes(_flipped),
    "bytes behind the end": _bytes(lambda content: content + b"more" * 1024),
    "another database": _other_database,
    "no table of records": _sql("DROP TABLE records"),
    "no plan": _sql("DELETE FROM records WHERE key = 'plan'"),
    "no tally": _sql("DELETE FROM records WHERE kind = 'tally'"),
    "a plan of text": _sql("UPDATE records SET content = 'x' WHERE key = 'plan'"),
    "a plan that is another blob": _sql("UPDATE records SET content = x'ff00' WHERE key = 'plan'"),
    "a newer schema": _sql("PRAGMA user_version = 99"),
    "a negative schema": _sql("PRAGMA user_version = -5"),
    "an older schema": _sql("PRAGMA user_version = 1"),
    "a task cut short": _sql(
        "UPDATE records SET content = substr(content, 1, length(content) / 2) WHERE kind = 'task'"
    ),
    "a task of other bytes": _task(b"none"),
    "a task of nothing": _task(b""),
    "a task of text": _sql("UPDATE records SET content = 'text' WHERE kind = 'task'"),
    "a task that is a number": _sql("UPDATE records SET content = 5 WHERE kind = 'task'"),
    "a digest of text": _sql("UPDATE records SET digest = 'text' WHERE kind = 'task'"),
    "a task of another number": _sql("UPDATE records SET key = key + 1000000 WHERE kind = 'task'"),
    "a task without a number": _sql("UPDATE records SET key = 'x' || key WHERE kind = 'task'"),
    "a task of a negative number": _sql("UPDATE records SET key = '-' || key WHERE kind = 'task'"),
    "a task that is missing": _sql("DELETE FROM records WHERE kind = 'task'"),
    "a task twice": _sql(
        "INSERT INTO records SELECT kind, key + 1, digest, content FROM records "
        "WHERE kind = 'task'"
    ),
    "a record of another kind": _sql("UPDATE records SET kind = 'strange' WHERE kind = 'task'"),
    "records as a view": _sql(
        "ALTER TABLE records RENAME TO kept", "CREATE VIEW records AS SELECT * FROM kept"
    ),
    "records as an endless view": _sql(
        "ALTER TABLE records RENAME TO kept",
        f"CREATE VIEW records AS {_ENDLESS} "  # noqa: S608 - of constants
        "SELECT 'task' AS kind, k AS key, x'' AS digest, x'' AS content FROM n",
    ),
    "a trigger": _sql(
        "CREATE TRIGGER hostile AFTER INSERT ON records BEGIN DELETE FROM records; END"
    ),
    "another table": _sql("CREATE TABLE more (name TEXT)"),
    "a generated column": _sql(
        "ALTER TABLE records RENAME TO kept",
        "CREATE TABLE records (kind TEXT, key TEXT, digest BLOB, content BLOB "
        "GENERATED ALWAYS AS (zeroblob(500000000)))",
        "INSERT INTO records (kind, key, digest) SELECT kind, key, digest FROM kept",
    ),
    "a folder in its place": _replaced_by("folder"),
    "a pipe in its place": _replaced_by("fifo"),
    "a link to itself": _replaced_by("loop"),
    "a link to /dev/zero": _replaced_by("device"),
    "a link to nowhere": _replaced_by("dangling"),
}
"""To a campaign's store as bytes and tables: what a disk, a copy or a stranger does."""

SIGNED: dict[str, Damage] = {
    "a task of null": _signed_task(zlib.compress(b"null")),
    "a task of a list": _signed_task(zlib.compress(b"[]")),
    "a task of nothing, signed": _signed_task(b""),
    "a task cut short, signed": _signed_task(zlib.compress(b"{}" * 1000)[:-3]),
    "a task of deep JSON": _signed_task(zlib.compress(DEEP.encode())),
    "a task that is no UTF-8": _signed_task(zlib.compress(b"\xff\xfe")),
    "a task that unpacks to 8 GB": _bomb,
    "a plan of deep JSON": _plan(rows=[[[[[[]]]]]]),
    "a plan of null": lambda work: campaign(work, plan=lambda _: None),
    "a plan of a list": lambda work: campaign(work, plan=lambda _: []),
    "a plan without paths": lambda work: campaign(
        work, plan=lambda plan: {k: v for k, v in plan.items() if k != "paths"}
    ),
    "an unknown mode": _plan(modes=["jit"]),
    "an unknown format": _plan(formats=["float8"]),
    "an unknown family": _plan(families=["weird"]),
    "an unknown path": _plan(paths=["tf.nn/strange"]),
    "paths of a number": _plan(paths=5),
    "shapes of nonsense": _plan(shapes=["16by5"]),
    "shapes of 71 PiB": _plan(shapes=["99999999x99999999"]),
    "rows of text": _plan(rows="many"),
    "rows of 10^30": _plan(rows=10**30),
    "rows of NaN": _plan(rows=float("nan")),
    "a negative seed": _plan(seed=-1),
    "a device of a number": _plan(devices=[5]),
    "a cell of an unknown path": _cell(path="tf.nn/strange"),
    "a cell of an unknown mode": _cell(mode="jit"),
    "a cell of another path": _cell(path="tf.nn/fused"),
    "a cell of null": _result(lambda r: {**r, "cells": [None]}),
    "cells of a number": _result(lambda r: {**r, "cells": 5}),
    "no cells": _result(lambda r: {k: v for k, v in r.items() if k != "cells"}),
    "cells twice": _result(lambda r: {**r, "cells": r["cells"] * 2}),
    "a result of a list": _result(lambda _: []),
    "a summary of null": _cell(summary=None),
    "a summary without rows": _cell(summary={}),
    "findings of a number": _cell(findings=5),
    "a finding of an unknown kind": _finding(kind="strange"),
    "a finding of an unknown tier": _finding(tier="strange"),
    "a finding with another label": _finding(label=10**9),
    "a finding with a label of text": _finding(label="one"),
    "a finding of null rows": _finding(logits=None),
    "a finding with more keys": _finding(surprise=1),
    "an environment of a list": lambda work: campaign(work, facts={"environment": []}),
    "an environment of text": lambda work: campaign(work, facts={"environment": "x"}),
    "notes of a number": lambda work: campaign(work, facts={"notes": 5}),
    "seconds of text": lambda work: campaign(work, facts={"seconds": {"total": "x"}}),
    "logical CPUs of a million": lambda work: campaign(work, facts={"logical_cpus": 10**6}),
    "task 10^15": lambda work: campaign(work, number=lambda number: number + 10**15),
    "two tasks of one content": lambda work: campaign(work, twice=True),
    "no task": lambda work: campaign(work, number=lambda _: None),
}
"""To what the store says, written by the product's own hand, so that every digest is right."""

_SOUND = {
    "one flipped bit",  # it may lie where nothing is kept; `flips` judges the figures
    "bytes behind the end",
}
"""What may also be read: it holds the same, or is not to be told from what is right."""

_MEASURED_AGAIN = {"no task"}
"""What a campaign that was interrupted looks like, its records counted anew: it is shown."""


def _may_pass(damage: str, command: str) -> bool:
    if damage in _MEASURED_AGAIN:
        return command != "replay"
    return damage in _SOUND


def _case(damage: str, how: Damage, command: str, line: str) -> Case:
    def prepare(work: Path) -> None:
        if command == "merge":
            shutil.copytree(work / "night", work / "plain-campaign")
            campaign(work, folder="plain-campaign", plan=lambda plan: {**plan, "seed": 1})
        how(work)

    passes = _may_pass(damage, command)
    return Case(
        name=f"{command}: {damage}",
        command=line,
        says=f"{ERROR}.*|defect|stands|unchanged|interrupted" if passes else f"{ERROR}.*",
        codes=(0, 1, 2) if passes else (2,),
        seconds=60 if passes or command == "resume" else 30,
        needs=("night", "plain"),
        prepare=prepare,
    )


STORES: Table = [
    _case(damage, how, command, line)
    for damage, how in {**RAW, **SIGNED}.items()
    for command, line in COMMANDS.items()
]


def _results(change: Callable[[dict[str, Any]], Any]) -> Damage:
    return lambda work: run_results(work / "plain", change)


def _text(change: Callable[[bytes], bytes]) -> Damage:
    def damage(work: Path) -> None:
        path = work / "plain" / "results.json"
        path.write_bytes(change(path.read_bytes()))

    return damage


def _first(name: str, **changes: Any) -> Damage:
    def change(results: dict[str, Any]) -> dict[str, Any]:
        for one in results[name]:
            one.update(changes)
        return results

    return _results(change)


RESULTS: dict[str, Damage] = {
    "an empty file": _text(lambda _: b""),
    "half of the file": _text(lambda content: content[: len(content) // 2]),
    "null": _text(lambda _: b"null"),
    "a list": _text(lambda _: b"[]"),
    "a number": _text(lambda _: b"1e999"),
    "text": _text(lambda _: b'"text"'),
    "an empty object": _text(lambda _: b"{}"),
    "other JSON": _text(lambda _: b'{"cells": 5, "plan": 6, "worst": 7, "schema": 1}'),
    "deep JSON": _text(lambda _: DEEP.encode()),
    "bytes that are no UTF-8": _text(lambda _: b"\xff\xfe\x00{"),
    "a byte order mark": _text(lambda content: b"\xef\xbb\xbf" + content),
    "UTF-16": _text(lambda content: content.decode().encode("utf-16")),
    "a number of 10,000 digits": _text(
        lambda content: content.replace(b'"rows": 300', b'"rows": ' + b"9" * 10_000)
    ),
    "an infinite number": _text(lambda content: content.replace(b'"rows": 300', b'"rows": 1e999')),
    "a doubled key": _text(lambda content: content.replace(b"{", b'{"plan": {}, ', 1)),
    "a digit changed": _text(lambda content: content.replace(b'"rows": 300', b'"rows": 301', 1)),
    "text behind the end": _text(lambda content: content + b"more"),
    "no plan": _results(lambda r: {k: v for k, v in r.items() if k != "plan"}),
    "a plan of null": _results(lambda r: {**r, "plan": None}),
    "a plan of nothing": _results(lambda r: {**r, "plan": {}}),
    "an endless plan": _results(lambda r: {**r, "plan": {**r["plan"], "rows": 10**30}}),
    "cells of null": _results(lambda r: {**r, "cells": None}),
    "a cell of null": _results(lambda r: {**r, "cells": [None]}),
    "a cell of an unknown path": _first("cells", path="tf.nn/strange"),
    "a cell of an unknown mode": _first("cells", mode="jit"),
    "a cell of an unknown format": _first("cells", format="float8"),
    "a cell with a path of null": _first("cells", path=None),
    "a summary of null": _first("cells", summary=None),
    "a route of a number": _first("cells", route=5),
    "a policy of a list": _first("cells", policy=[1]),
    "cliffs of null": _first("cells", cliffs=None),
    "a worst finding of an unknown kind": _first("worst", kind="strange"),
    "a worst finding of an unknown loss": _first("worst", loss="strange"),
    "a worst finding with an infinite label": _first("worst", label=float("inf")),
    "worst findings of null": _results(lambda r: {**r, "worst": [None]}),
    "worst findings of a number": _results(lambda r: {**r, "worst": 5}),
    "causes of text": _results(lambda r: {**r, "causes": "text"}),
    "findings of null": _results(lambda r: {**r, "findings": None}),
    "an environment of null": _results(lambda r: {**r, "environment": None}),
    "notes of a number": _results(lambda r: {**r, "notes": 5}),
    "another schema": _results(lambda r: {**r, "schema": 99}),
    "a schema of text": _results(lambda r: {**r, "schema": "1"}),
}
"""To a run's results.json; most of them signed, if results are."""

_RESULTS_COMMANDS = {
    "report": "lossfuzz report plain",
    "compare": "lossfuzz compare plain night",
    "replay": "lossfuzz replay 'plain#1'",
}
_HARMLESS = {"a byte order mark"}


def _results_case(damage: str, how: Damage, command: str, line: str) -> Case:
    of_findings = damage.startswith(("a worst", "worst", "causes", "findings"))
    passes = damage in _HARMLESS or (command == "compare" and of_findings)  # which reads none
    return Case(
        name=f"{command}: {damage}",
        command=line,
        says=f"{ERROR}.*plain" if not passes else ".",
        codes=(0, 1, 2) if passes else (2,),
        seconds=30,
        needs=("night", "plain"),
        prepare=how,
    )


RESULTS_FILES: Table = [
    _results_case(damage, how, command, line)
    for damage, how in RESULTS.items()
    for command, line in _RESULTS_COMMANDS.items()
]


def _renamed(name: str) -> Damage:
    def damage(work: Path) -> None:
        (work / name).parent.mkdir(parents=True, exist_ok=True)  # a name may have a slash
        (work / "night").rename(work / name)

    return damage


_ODD_NAMES = {
    "a hash": "ni#ght",
    "a question mark": "ni?ght",
    "a percent sign": "ni%41ght",
    "spaces": " ni ght ",
    "a quote": "ni'g\"ht",
    "a new line": "ni\nght",
    "rich's markup": "[bold]night[/]",
    "a star": "n*ght",
    "a colon": "file:night?mode=memory",
    "an emoji": "n\N{NIGHT WITH STARS}ght",
    "a dash": "-night",
}

ODD_FOLDERS: Table = [
    Case(
        name=f"{command} of a folder named with {what}",
        command=line.format(name="./" + name.replace("'", "'\\''")),
        codes=(0,),
        says=says,
        needs=("night",),
        prepare=_renamed(name),
    )
    for what, name in _ODD_NAMES.items()
    for command, line, says in (
        ("report", "lossfuzz report '{name}'", "defect"),
        ("resume", "lossfuzz resume '{name}'", "defect"),
        ("merge", "lossfuzz merge '{name}' --out 'joint{name}'", "defect"),
    )
]


def _fed_link(name: str) -> Damage:
    def damage(work: Path) -> None:
        (work / "victim").write_text("a file of the user's")
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(Path(os.path.relpath(work / "victim", path.parent)))

    return damage


_VICTIM = "; code=$?; grep -q '^a file of the user.s$' victim || echo VICTIM; exit $code"
_TINY = "--paths tf.nn/fused --formats float32 --modes eager --rows 300 --families normal"

LINKS: Table = [
    Case(
        name=f"{what}: a link at {link}",
        command=f"{command}{_VICTIM}",
        codes=(0, 2),
        says=f"defect|{ERROR}",
        needs=("night", "plain"),
        prepare=_fed_link(link),
        absent={"": "VICTIM"},
        changes=True,
    )
    for what, command, link in (
        ("resume", "lossfuzz resume night", "night/.campaign.lock"),
        ("merge", "lossfuzz merge night --out joint", "night/.campaign.lock"),
        ("run", f"lossfuzz run {_TINY} --out out", "out/.lossfuzz-probe"),
        ("campaign", f"lossfuzz run {_TINY} --out out --workers 1", "out/.campaign.lock"),
        ("campaign", f"lossfuzz run {_TINY} --out out --workers 1", "out/.lossfuzz-probe"),
        ("campaign", f"lossfuzz run {_TINY} --out out --workers 1", "out/campaign.sqlite"),
        ("campaign", f"lossfuzz run {_TINY} --out out --workers 1", "out/campaign.sqlite-wal"),
        ("run", f"lossfuzz run {_TINY} --out out", "out/results.json"),
        ("run", f"lossfuzz run {_TINY} --out out", "out/report.html"),
        ("run", f"lossfuzz run {_TINY} --out out", "out/timings.json"),
        ("merge", "lossfuzz merge night --out joint", "joint/.lossfuzz-probe"),
        ("merge", "lossfuzz merge night --out joint", "joint/results.json"),
        ("resume", "lossfuzz resume night", "night/report.html"),
        ("resume", "lossfuzz resume night", "night/timings.json"),
        ("report", "lossfuzz report night", "night/report.html"),
    )
]


def _another_version(work: Path) -> None:
    campaign(work, facts={"environment": _with_version(work / "night", "2.18.1")})


def _with_version(folder: Path, version: str) -> dict[str, Any]:
    store = sqlite3.connect(folder / "campaign.sqlite")
    query = "SELECT content FROM records WHERE key = 'environment'"
    environment: dict[str, Any] = json.loads(zlib.decompress(store.execute(query).fetchone()[0]))
    store.close()
    environment["versions"]["tensorflow"] = version
    return environment


def _unfinished_of_another_version(work: Path) -> None:
    environment = _with_version(work / "night", "2.18.1")
    campaign(work, facts={"environment": environment}, number=lambda _: None)


def _two_versions(work: Path) -> None:
    shutil.copytree(work / "night", work / "other")
    environment = _with_version(work / "night", "2.18.1")
    campaign(
        work,
        folder="other",
        plan=lambda plan: {**plan, "seed": 7},
        facts={"environment": environment},
    )


def _main_file_alone(work: Path) -> None:
    (work / "copy").mkdir()
    shutil.copy2(work / "night" / "campaign.sqlite", work / "copy")


VERSIONS: Table = [
    Case(
        name="resume of a campaign of another TensorFlow",
        command="lossfuzz resume night",
        says=rf"{ERROR}.*2\.18\.1",
        needs=("night",),
        prepare=_unfinished_of_another_version,
    ),
    Case(
        name="merge of campaigns of two TensorFlows",
        command="lossfuzz merge night other --out joint",
        says=rf"{ERROR}.*2\.18\.1|2\.18\.1.*2\.21|2\.21.*2\.18\.1",
        codes=(0, 2),
        needs=("night",),
        prepare=_two_versions,
    ),
    Case(
        name="merge of a campaign with itself",
        command="lossfuzz merge night night --out joint",
        needs=("night",),
    ),
    Case(
        name="merge of a run that is no campaign",
        command="lossfuzz merge night plain --out joint",
        needs=("night", "plain"),
        says=f"{ERROR}.*plain",
    ),
    Case(
        name="report of a copy of campaign.sqlite alone",
        command="lossfuzz report copy",
        codes=(0,),
        says="defect",
        needs=("night",),
        prepare=_main_file_alone,
    ),
    Case(
        name="resume of a campaign that is complete",
        command="lossfuzz resume night",
        codes=(0,),
        says="defect",
        needs=("night",),
    ),
    Case(
        name="a campaign into a campaign's folder",
        command=f"lossfuzz run {_TINY} --out night --workers 1",
        says=f"{ERROR}.*night",
        needs=("night",),
    ),
    Case(
        name="a plain run into a campaign's folder",
        command=f"lossfuzz run {_TINY} --out night",
        says=f"{ERROR}.*night.*campaign",
        needs=("night",),
    ),
    Case(
        name="merge into a campaign's folder",
        command="lossfuzz merge night --out night",
        says=f"{ERROR}.*night",
        needs=("night",),
    ),
    Case(
        name="resume of a run that is no campaign",
        command="lossfuzz resume plain",
        says=f"{ERROR}.*plain.*no campaign",
        needs=("plain",),
    ),
]
