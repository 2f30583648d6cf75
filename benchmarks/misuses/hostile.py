"""Folders of a stranger, built to run his program, to write elsewhere, or to speak as the page."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from misuses.case import ERROR, Case, Table
from misuses.rewritten import campaign, run_results

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Change = Callable[[Any], Any]

PAYLOAD = """
import os, pathlib
pathlib.Path(os.environ["OUTSIDE"], "PAYLOAD-RAN").write_text("a stranger's code ran")
def f(logits, labels):
    import tensorflow as tf
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
"""
PROGRAM = '#!/bin/sh\ntouch "$OUTSIDE/PAYLOAD-RAN"\nexec python "$@"\n'
LOSS = "softmax cross-entropy with an integer label"
TAG = "<script>alert(1)</script><img src=x onerror=alert(2)>"
ESCAPES = "\x1b[31mred\x1b]0;owned\x07\x9b5m\r\x08"
RICH = "[bold red]x[/bold][/] [link=https://evil.example]y[/link]"
MARKDOWN = "![x](https://evil.example/x.png) `|` | # @everyone\n\n# A heading </details>"

COMMANDS = {
    "report": "lossfuzz report night",
    "a page": "lossfuzz report night --html page.html --markdown comment.md",
    "a comment": "lossfuzz report night --markdown -",
    "parquet": "lossfuzz report night --parquet figures",
    "tensorboard": "lossfuzz report night --tensorboard board",
    "compare": "lossfuzz compare night plain --html both.html --json both.json",
    "compare backwards": "lossfuzz compare plain night --markdown - 2> /dev/null",
    "replay": "lossfuzz replay 'night#1'",
    "a script": "lossfuzz replay 'night#1' --script",
    "an issue": "lossfuzz replay 'night#1' --issue",
}
OF_CAMPAIGNS = {
    "merge": "lossfuzz merge night --out joint",
    "resume": "lossfuzz resume night",
}
READING = {"report", "a page", "a comment", "parquet", "tensorboard", "compare", "merge"}


def _payload(work: Path) -> None:
    for folder in (work, work / "night"):
        folder.mkdir(exist_ok=True)
        (folder / "payload.py").write_text(PAYLOAD)
        (folder / "__init__.py").write_text(PAYLOAD) if folder.name == "night" else None
    program = work / "night" / "program"
    program.write_text(PROGRAM)
    program.chmod(0o755)


def _without_package(work: Path) -> None:
    _payload(work)
    (work / "night" / "__init__.py").unlink()


def renamed(value: Any, old: str, new: str) -> Any:
    """A record in which every text that holds a name holds another one instead."""
    if isinstance(value, dict):
        return {renamed(k, old, new): renamed(v, old, new) for k, v in value.items()}
    if isinstance(value, list):
        return [renamed(one, old, new) for one in value]
    return value.replace(old, new) if isinstance(value, str) else value


def _path(name: str) -> Callable[[Path], None]:
    """A campaign of which every path has that name."""

    def prepare(work: Path) -> None:
        _without_package(work)
        change = _without_ids("tf.nn/naive", name)
        campaign(
            work,
            plan=lambda plan: renamed(plan, "tf.nn/naive", name),
            result=change,
            reduced=change,
            facts={"folders": {"first": [str(work / "night")], "last": [str(work)]}},
        )
        (work / "night" / "results.json").unlink()

    return prepare


def _without_ids(old: str, new: str) -> Change:
    """Renamed, and of findings without the id that would give it away."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k != "id" or "kind" not in value}
        return [strip(one) for one in value] if isinstance(value, list) else value

    return lambda value: strip(renamed(value, old, new))


def _results_path(name: str) -> Callable[[Path], None]:
    """A run, no campaign, of which every path has that name."""

    def prepare(work: Path) -> None:
        shutil.copytree(work / "plain", work / "given", dirs_exist_ok=True)
        shutil.rmtree(work / "night")
        (work / "given").rename(work / "night")
        _without_package(work)
        run_results(work / "night", _without_ids("tf.nn/naive", name))

    return prepare


OWN = {
    "a module in the folder": f"night.payload:f as {LOSS}",
    "a module of the current folder": f"payload:f as {LOSS}",
    "a function of the library": f"os:system as {LOSS}",
    "a file by its absolute name": f"/tmp/payload:f as {LOSS}",  # noqa: S108 - a name, no file
    "a relative module": f"..payload:f as {LOSS}",
    "a dunder": f"payload:f.__globals__ as {LOSS}",
}


def _case(name: str, command: str, prepare: Callable[[Path], None], **more: Any) -> Case:
    return Case(
        name=name,
        command=command,
        prepare=prepare,
        needs=("night", "plain"),
        seconds=60,
        **{"codes": (0, 1, 2), "says": ".", **more},
    )


def _asks(kind: str) -> dict[str, Any]:
    """What a command must say that would have to run a stranger's module or program."""
    if kind == "compare backwards":  # whose refusal goes nowhere
        return {"codes": (0, 2), "says": "", "speaks": False, "one_line": False}
    if kind in READING or kind == "resume":  # which only shows a campaign that is complete
        return {"codes": (0, 2)}
    return {
        "codes": (2,),
        "says": rf"{ERROR}.*(--trust|--loss|--python|known paths|cannot import|cannot be)",
    }


RUNNING: Table = [
    *(
        _case(f"{kind} of a campaign: {what}", command, _path(name), **_asks(kind))
        for what, name in OWN.items()
        for kind, command in {**COMMANDS, **OF_CAMPAIGNS}.items()
        if kind in ("report", "compare", "replay", "merge", "resume")
        or what == "a module in the folder"
    ),
    *(
        _case(f"{kind} of a run: {what}", command, _results_path(name), **_asks(kind))
        for what, name in OWN.items()
        for kind, command in COMMANDS.items()
        if kind in ("report", "compare", "replay") or what == "a module in the folder"
    ),
]
"""Nothing that a stranger's folder names may run unless it is asked for on the command line."""


def _programs(name: str, facts: Callable[[Path], dict[str, Any]], **plan: Any) -> Case:
    def prepare(work: Path) -> None:
        _payload(work)
        campaign(
            work,
            facts=facts(work),
            number=lambda _: None,
            plan=lambda given: {**given, **plan},
        )

    return _case(
        f"resume: {name}",
        "lossfuzz resume night",
        prepare,
        codes=(2,),
        says=rf"{ERROR}.*(--trust|--python|cannot start|no cell of it)",
    )


def _sitecustomize(work: Path) -> None:
    (work / "night" / "sitecustomize.py").write_text(PAYLOAD)
    (work / "night" / "json.py").write_text(PAYLOAD)
    (work / "night" / "lossfuzz").mkdir()
    (work / "night" / "lossfuzz" / "__init__.py").write_text(PAYLOAD)
    folders = {"first": [str(work / "night")], "last": []}
    campaign(work, facts={"folders": folders}, number=lambda _: None)


def _local_modules(work: Path) -> None:
    for name in ("json", "tensorflow", "numpy", "sqlite3", "rich", "hypothesis", "readline"):
        (work / f"{name}.py").write_text(PAYLOAD)
        (work / "night" / f"{name}.py").write_text(PAYLOAD)


PROGRAMS: Table = [
    _programs(
        "a program, and no environment",
        lambda work: {"programs": [str(work / "night" / "program")], "environment": None},
    ),
    _programs(
        "a program of one of its devices",
        lambda work: {"pythons": {"evil": str(work / "night" / "program")}},
        devices=["evil/CPU:0"],
    ),
    _programs(
        "a program by a relative name",
        lambda _: {"programs": ["night/program"], "environment": None},
    ),
    _programs(
        "a program that is a shell's line",
        lambda _: {
            "programs": ['python; touch "$OUTSIDE/PAYLOAD-RAN"'],
            "environment": None,
        },
    ),
    _case(
        "resume: folders in front of the library",
        "lossfuzz resume night",
        _sitecustomize,
        codes=(0, 2),
    ),
    *(
        _case(
            f"{kind}: the folder holds modules named as the library's",
            f"cd night && {command.replace('night', '.')}",
            _local_modules,
            codes=(0, 1, 2),
        )
        for kind, command in {**COMMANDS, **OF_CAMPAIGNS}.items()
        if kind in ("report", "replay", "resume", "compare")
    ),
]


def _names(text: str, *, of_run: bool) -> Callable[[Path], None]:
    """A folder in which every text that a stranger chooses holds something."""

    def changed(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {
                (name + text if key in _OPEN else name): changed(one, name)
                for name, one in value.items()
                if name != "id" or "kind" not in value
            }
        if isinstance(value, list):
            return [changed(one, key) for one in value]
        return value + text if isinstance(value, str) and key in _TEXTS else value

    def prepare(work: Path) -> None:
        if of_run:
            shutil.rmtree(work / "night")
            shutil.copytree(work / "plain", work / "night")
            run_results(work / "night", lambda r: {**changed(r), "notes": [text]})
            return
        store_facts = {"notes": [text], "environment": {"versions": {"tensorflow" + text: text}}}
        campaign(work, result=changed, reduced=changed, facts=store_facts)

    return prepare


_OPEN = {"policy", "versions", "flags"}
_TEXTS = {"message", "route", "operations", "notes", "policy", "versions", "flags", "region"}


def _devices(text: str) -> Callable[[Path], None]:
    """A run of which the device, which is free text, holds something."""

    def prepare(work: Path) -> None:
        shutil.rmtree(work / "night")
        shutil.copytree(work / "plain", work / "night")
        run_results(work / "night", _without_ids("CPU:0", text))

    return prepare


_RAW_TAG = r"<script>alert\(1\)|<img src=x"
_TAGGED = {
    "night/report.html": _RAW_TAG,
    "page.html": _RAW_TAG,
    "comment.md": _RAW_TAG,
    "both.html": _RAW_TAG,
}
_SPOKEN = {"HTML": TAG, "escapes": ESCAPES, "rich's markup": RICH, "markdown": MARKDOWN}
_ELSEWHERE = {
    "an absolute device": "/tmp/../OUTSIDE",  # noqa: S108 - a name, no file
    "a device with dots": "../../outside/written",
    "a device with many dots": "../../../../../../outside/written",
    "a device of 5,000 characters": "x" * 5000,
    "a device with a zero byte": "CPU\x000",
}


def _printed(kind: str, what: str) -> dict[str, str]:
    if kind in ("a comment", "compare backwards"):
        return {"": {"HTML": _RAW_TAG, "markdown": r"^# A heading|!\[x\]\("}.get(what, "(?!)")}
    return {}


NAMES: Table = [
    _case(
        f"{kind} of a {'run' if of_run else 'campaign'}: {what} in every text",
        command,
        _names(text, of_run=of_run),
        absent={**(_TAGGED if what == "HTML" else {}), **_printed(kind, what)},
    )
    for what, text in _SPOKEN.items()
    for of_run in (True, False)
    for kind, command in COMMANDS.items()
    if of_run or kind in ("report", "a comment", "replay")
]
NAMES += [
    _case(
        f"{kind}: {what} as its device",
        command,
        _devices(text),
        # A replay tells by exit code 2, on standard output, that it cannot be run here.
        speaks=kind != "replay",
        one_line=kind != "replay",
    )
    for what, text in {**_ELSEWHERE, **_SPOKEN}.items()
    for kind, command in COMMANDS.items()
    if kind in ("report", "a page", "a comment", "parquet", "tensorboard", "compare", "replay")
]


def _record(change: Change) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        _payload(work)
        path = work / "finding.json"
        record = json.loads(path.read_text())
        record.pop("id")
        record.pop("checksum")
        path.write_text(json.dumps(change(record)))

    return prepare


def _replayed(
    name: str, change: Change, *, says: str = ERROR, option: str = "", **more: Any
) -> Case:
    return Case(
        name=f"{name}{' ' if option else ''}{option}",
        command=f"lossfuzz replay finding.json {option}",
        says=says,
        needs=("finding.json",),
        prepare=_record(change),
        **more,
    )


def _elsewhere(name: str, change: Change, says: str) -> Case:
    """A finding that is shown, and told not to be one that can be run here, by exit code 2."""
    says = f"It cannot be run here: .*{says}"
    return _replayed(name, change, says=says, speaks=False, one_line=False)


def _with(**changes: Any) -> Change:
    return lambda record: {**record, **changes}


RECORDS: Table = [
    _replayed("a finding's label of a half", _with(label=0.5)),
    _replayed("a finding's label of text", _with(label="0")),
    _replayed("a finding's label of true", _with(label=True)),
    _replayed("a finding's label of null", _with(label=None)),
    _replayed("a finding's label of NaN", _with(label=float("nan"))),
    _replayed("a finding's label beyond its classes", _with(label=10**9)),
    _replayed("a finding's label of 10^30", _with(label=10**30)),
    _replayed("a negative label", _with(label=-1)),
    _replayed("logits of NaN", _with(logits=["nan", "nan"])),
    _replayed("logits of null", _with(logits=None)),
    _replayed("logits of text", _with(logits="87")),
    _replayed("logits of lists", _with(logits=[[1.0], [2.0]])),
    _replayed("no logits", _with(logits=[])),
    _replayed("one logit", _with(logits=[0.0])),
    _replayed("three logits for two", _with(logits=[0.0, 1.0, 2.0])),
    _replayed("logits beyond the format", _with(logits=[0.0, 1e300])),
    _replayed("logits between floats", _with(logits=[0.0, 87.00000000000001])),
    _replayed(
        "10^6 classes",
        _with(logits=[0.0] * 10**6, exact_gradient=[0.0] * 10**6, observed_gradient=[0.0] * 10**6),
        codes=(0, 1, 2, 3),
        says=".",
    ),
    _replayed("a gradient of another length", _with(exact_gradient=[0.0] * 7)),
    _replayed("an observed gradient of another length", _with(observed_gradient=[0.0] * 7)),
    _replayed("an exact loss that is another", _with(exact_loss=5.0), codes=(2, 3), says="exact"),
    _elsewhere("an unknown path", _with(path="tf.nn/strange"), "strange"),
    _replayed("a path of null", _with(path=None)),
    _elsewhere("an unknown loss", _with(loss="strange"), "strange"),
    _elsewhere("another loss than its path's", _with(loss="Kullback-Leibler divergence"), "not K"),
    _replayed("an unknown mode", _with(mode="jit"), says=f"{ERROR}.*jit"),
    _replayed("an unknown format", _with(format="float8"), says=f"{ERROR}.*float8"),
    _replayed("float64", _with(format="float64"), codes=(0, 1), says="now "),
    _elsewhere("an unknown device", _with(device="TPU:5"), "TPU:5"),
    _replayed("a device of a number", _with(device=5)),
    _replayed("an unknown kind", _with(kind="strange"), says=f"{ERROR}.*strange"),
    _replayed("a kind of a list", _with(kind=[])),
    _replayed("an unknown tier", _with(tier="strange"), says=f"{ERROR}.*strange"),
    _elsewhere("a batch of 10^12 rows", _with(batch_rows=10**12), "a batch of"),
    _replayed("a batch of -1 rows", _with(batch_rows=-1)),
    _replayed("a batch of half a row", _with(batch_rows=0.5)),
    _elsewhere("a row of 10^12", _with(row=10**12, batch_rows=5), "a batch of"),
    _replayed("a batch of null", _with(batch=None), codes=(0, 2), says="."),
    _replayed("a batch of nonsense", _with(batch={"rows": 1})),
    _replayed(
        "a recipe of 71 PiB",
        _with(
            logits=[],
            recipe={
                "family": "normal",
                "shape": [99999999, 99999999],
                "format": "float32",
                "seed": 1,
                "magnitude": 1.0,
            },
        ),
    ),
    _replayed(
        "a recipe of null",
        lambda r: {k: v for k, v in {**r, "recipe": None}.items() if k != "logits"},
    ),
    _replayed("upstream gradients of nonsense", _with(upstream=["x"])),
    _replayed("an upstream gradient of NaN", _with(upstream=["nan"])),
    _replayed("a record of null", lambda _: None),
    _replayed("a record of one key", lambda _: {"kind": "crash"}),
    _replayed("a crash without a row", _with(kind="crash", logits=[]), codes=(0, 1, 2), says="."),
    _replayed("a key too much", _with(surprise=1), says=f"{ERROR}.*surprise"),
    *(
        _replayed(
            f"a path of a stranger's module, {what}",
            _with(path=name),
            option=option,
            says=rf"{ERROR}.*(--trust|--loss|known paths)",
        )
        for what, name in OWN.items()
        for option in ("", "--script", "--issue")
        if not option or what.startswith("a module")
    ),
    _replayed(
        "escapes in its message",
        _with(kind="refusal", message=ESCAPES),
        codes=(0, 1, 2),
        says=".",
    ),
    _replayed(
        "code in its device",
        _with(device='CPU:0"); import os; os.system("touch $OUTSIDE/PAYLOAD-RAN"); ("'),
        option="--issue",
    ),
    _replayed(
        "code in its mode",
        _with(mode='eager"); __import__("os").system("touch $OUTSIDE/PAYLOAD-RAN"); ("'),
        option="--script",
    ),
    Case(
        name="a record on standard input that is none",
        command="echo nothing | lossfuzz replay -",
    ),
    Case(
        name="an endless record on standard input",
        command="yes | lossfuzz replay -",
        seconds=30,
        codes=(2, 70, 137),
    ),
    Case(name="a record that is /dev/zero", command="lossfuzz replay /dev/zero", seconds=30),
]
