"""What surrounds a command: locale, streams, folders, limits, signals, disks and outputs."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from misuses.arguments import RUN
from misuses.case import ERROR, NOT_WRITTEN, Case, Interruption, Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHORT = "--formats float32 --modes eager --rows 300 --families normal,decided --shapes 16x5"
NAIVE = f"lossfuzz run --paths tf.nn/naive {SHORT}"
LONG = "lossfuzz run --paths 'tf.nn/*' --rows 2000000"
LOCALES = {
    "LC_ALL=C without UTF-8 mode": {
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    },
    "LC_ALL=POSIX without UTF-8 mode": {
        "LC_ALL": "POSIX",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    },
    "ASCII streams": {"PYTHONIOENCODING": "ascii"},
    "strict ASCII streams": {"PYTHONIOENCODING": "ascii:strict"},
    "Latin-1 streams": {"PYTHONIOENCODING": "latin-1:strict"},
    "UTF-16 streams": {"PYTHONIOENCODING": "utf-16"},
    "no locale": {"LC_ALL": None, "LANG": None},
    "an unknown locale": {"LC_ALL": "xx_YY.nothing"},
}
_PRINTING = {
    "run": (f"{NAIVE} --out out", ("out/results.json", "out/report.html")),
    "a campaign": (f"{NAIVE} --out out --workers 1", ("out/results.json", "out/report.html")),
    "report": ("lossfuzz report night", ("night/report.html",)),
    "a comment": ("lossfuzz report night --markdown -", ()),
    "a comment in a file": ("lossfuzz report night --markdown c.md", ("c.md",)),
    "compare": ("lossfuzz compare night plain", ()),
    "merge": ("lossfuzz merge night --out joint", ("joint/results.json",)),
    "replay": ("lossfuzz replay 'night#1'", ()),
    "a script": ("lossfuzz replay 'night#1' --script s.py", ("s.py",)),
    "an issue": ("lossfuzz replay 'night#1' --issue i.md", ("i.md",)),
    "paths": ("lossfuzz paths", ()),
    "help": ("lossfuzz run --help", ()),
    "an error": ("lossfuzz run --paths nächtlich", ()),
}


LOCALE_CASES: Table = [
    Case(
        name=f"{what} under {where}",
        command=command,
        environment=variables,
        codes=(2,) if what == "an error" else (0,),
        says="." if what != "an error" else "chtlich|error",
        needs=("night", "plain"),
        promised=promised,
        one_line=where != "UTF-16 streams",
    )
    for where, variables in LOCALES.items()
    for what, (command, promised) in _PRINTING.items()
    if where in ("LC_ALL=C without UTF-8 mode", "Latin-1 streams")
    or what in ("report", "paths", "a comment")
    if not (where == "UTF-16 streams" and what == "an error")
]


def _stream(name: str, command: str, codes: tuple[int, ...], **more: object) -> Case:
    return Case(
        name=name,
        command=command,
        codes=codes,
        **{"says": "(?s).*", "needs": ("night", "plain"), "speaks": False, **more},  # type: ignore[arg-type]
    )


_FULL = (2, 74)
STREAMS: Table = [
    _stream(
        "report with standard output closed",
        "exec lossfuzz report night >&-",
        (0, *_FULL),
        promised=("night/report.html",),
    ),
    _stream("report with standard error closed", "exec lossfuzz report night 2>&-", (0,)),
    _stream("report with standard input closed", "exec lossfuzz report night <&-", (0,)),
    _stream("report with all closed", "exec lossfuzz report night <&- >&- 2>&-", (0, *_FULL)),
    _stream(
        "an error with standard error closed",
        "exec lossfuzz report nowhere 2>&-",
        (2,),
        one_line=False,
    ),
    _stream(
        "run with standard output closed",
        f"exec {RUN} --out out >&-",
        (0, *_FULL),
        promised=("out/results.json", "out/report.html"),
    ),
    _stream(
        "a campaign with all closed",
        f"exec {RUN} --out out --workers 1 <&- >&- 2>&-",
        (0, *_FULL),
        promised=("out/results.json", "out/report.html"),
    ),
    _stream(
        "replay with standard input closed",
        "exec lossfuzz replay - <&-",
        (2,),
        speaks=True,
        says=ERROR,
    ),
    *(
        _stream(
            f"{what} into /dev/full",
            f"exec {command} > /dev/full",
            _FULL,
            speaks=True,
            says="error|space",
            changes=True,
        )
        for what, (command, _) in _PRINTING.items()
        if what not in ("an error", "a script", "an issue", "a comment in a file")
    ),
    _stream(
        "an error into /dev/full",
        "exec lossfuzz report nowhere 2> /dev/full",
        (2, 74),
        one_line=False,
    ),
    *(
        _stream(
            f"{what} into a pipe that nobody reads",
            f"{command} | true; exit ${{PIPESTATUS[0]}}",
            (0, 2, 74, 141),
            changes=True,
        )
        for what, (command, _) in _PRINTING.items()
        if what in ("run", "report", "paths", "a comment", "compare", "replay", "help")
    ),
    _stream(
        "a run into a pipe that nobody reads keeps its results",
        f"{NAIVE} --out out | true; test -s out/results.json -a -s out/report.html || exit 99",
        (0,),
        needs=(),
    ),
    _stream(
        "a run into /dev/full keeps its results",
        f"{NAIVE} --out out > /dev/full; test -s out/results.json -a -s out/report.html "
        "|| exit 99",
        (0,),
        needs=(),
    ),
]


def _removed(command: str) -> str:
    return f'mkdir gone && cd gone && rmdir "$PWD" && exec {command}'


_SURROUNDED = {
    "report": "lossfuzz report ../night",
    "run": f"{RUN} --out ../out",
    "campaign": f"{RUN} --out ../out --workers 1",
    "help": "lossfuzz --help",
    "paths": "lossfuzz paths",
    "replay": "lossfuzz replay '../night#1'",
    "resume": "lossfuzz resume ../night",
}
SURROUNDINGS: Table = [
    *(
        Case(
            name=f"{what} in a folder that is deleted",
            command=_removed(command),
            codes=(0, 2),
            says=".",
            needs=("night",),
            prepare=lambda work: (work / "gone").mkdir() or (work / "gone").rmdir(),
        )
        for what, command in _SURROUNDED.items()
    ),
    *(
        Case(
            name=f"{what} with {limit} descriptors",
            command=f"ulimit -n {limit}; exec {command.replace('../', '')}",
            codes=(0, 2, 74),
            says=f"defect|stands|usage|path|{ERROR}",
            needs=("night",),
            changes=True,
        )
        for what, command in _SURROUNDED.items()
        for limit in (6, 12, 20)
        if limit == 12 or what in ("report", "campaign")
    ),
    *(
        Case(
            name=f"{what} with {memory} MiB of address space",
            command=f"ulimit -v {memory * 1024}; exec {command.replace('../', '')}",
            codes=(0, 2, 74, 134),
            says=f"defect|stands|{ERROR}|memory",
            needs=("night",),
            one_line=False,
            changes=True,
        )
        for what, command in _SURROUNDED.items()
        for memory in (200, 1500)
        if what in ("report", "run", "campaign")
    ),
    *(
        Case(
            name=f"{what} with files of at most 8 kB",
            command=f"ulimit -f 8; exec {command.replace('../', '')}",
            codes=(2, 74),
            says=ERROR,
            needs=("night",),
            changes=True,
        )
        for what, command in _SURROUNDED.items()
        if what in ("report", "run", "campaign", "resume")
    ),
    Case(
        name="run with few processes",
        command=f"ulimit -u 5; exec {RUN} --out out --workers 2",
        codes=(0, 2, 134),
        says=f"defect|{ERROR}|thread",
        one_line=False,
    ),
    *(
        Case(
            name=f"{what} with {said}",
            command=command.replace("../", ""),
            environment=variables,
            codes=(0, 2),
            says="." if said == "COLUMNS of 1" else f"defect|stands|{ERROR}",
            needs=("night",),
        )
        for said, variables in {
            "a HOME that is not there": {"HOME": "/nowhere"},
            "no HOME": {"HOME": None},
            "a TMPDIR that is not there": {"TMPDIR": "/nowhere"},
            "a TMPDIR that is a file": {"TMPDIR": "$PLACE/outside/kept/file"},
            "no PATH": {"PATH": "/nowhere"},
            "COLUMNS of nonsense": {"COLUMNS": "²"},
            "COLUMNS of 1": {"COLUMNS": "1"},
            "COLUMNS of 10^9": {"COLUMNS": "1000000000"},
            "another Keras backend": {"KERAS_BACKEND": "nothing"},
            "TF_USE_LEGACY_KERAS": {"TF_USE_LEGACY_KERAS": "1"},
            "PYTHONOPTIMIZE": {"PYTHONOPTIMIZE": "2"},
            "PYTHONWARNINGS=error": {"PYTHONWARNINGS": "error"},
            "PYTHONHASHSEED=5": {"PYTHONHASHSEED": "5"},
            "PYTHONDEVMODE": {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "ignore"},
            "XLA_FLAGS of nonsense": {"XLA_FLAGS": "--nothing=1"},
            "CUDA_VISIBLE_DEVICES of nonsense": {"CUDA_VISIBLE_DEVICES": "x"},
            "TF_CPP_MIN_LOG_LEVEL of 0": {"TF_CPP_MIN_LOG_LEVEL": "0"},
            "NO_COLOR and FORCE_COLOR": {"NO_COLOR": "1", "TERM": "dumb"},
        }.items()
        for what, command in _SURROUNDED.items()
        if what == "campaign"
        or (what in ("run", "report") and said.startswith(("a TMPDIR", "no HOME", "COLUMNS")))
        if said != "no PATH"
    ),
    Case(
        name="a campaign in a clone, whose folder lossfuzz hides the package",
        command=f"mkdir lossfuzz && touch lossfuzz/__init__.py && {RUN} --out out --workers 1",
        codes=(0,),
        says="no defect",
    ),
    Case(
        name="a module named as the library's in the current folder",
        command=f"touch json.py numpy.py random.py; exec {RUN} --out out",
        codes=(0,),
        says="no defect",
    ),
]

_LONG = {
    "run": (f"{LONG} --out out", ".", 8.0),
    "campaign": (f"{LONG} --out out --workers 2", "out/campaign.sqlite", 12.0),
}
_SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
SIGNALS: Table = [
    *(
        Case(
            name=f"{what}: {number.name} {when}",
            command=f"exec {command}",
            codes=(128 + number,) if number is not signal.SIGKILL else (137,),
            says="interrupted|" + ("measured rows" if seconds > 5 else "interrupted|"),
            seconds=120,
            interruptions=(Interruption(signal=number, seconds=seconds, file=file),),
            promised=(),
            speaks=False,
        )
        for what, (command, file, late) in _LONG.items()
        for number in _SIGNALS
        for when, seconds in (
            ("at once", 0.3),
            ("while TensorFlow starts", 2.5),
            ("while it measures", late),
        )
    ),
    *(
        Case(
            name=f"{what}: {number.name} leaves results",
            command=f"{command}; code=$?; test -s out/results.json -a -s out/report.html || "
            "exit 99; exit $code",
            codes=(128 + number,),
            says="measured rows",
            seconds=120,
            interruptions=(),
            environment={"LATER": str(late)},
            speaks=False,
        )
        for what, (plain, file, late) in _LONG.items()
        for number in _SIGNALS
        for command in (f"timeout -s {number.name[3:]} --preserve-status {late + 6:g} {plain}",)
    ),
    Case(
        name="campaign: SIGINT twice",
        command=f"exec {LONG} --out out --workers 2",
        codes=(130,),
        says=".",
        seconds=120,
        interruptions=(
            Interruption(signal=signal.SIGINT, seconds=12, file="out/campaign.sqlite"),
            Interruption(signal=signal.SIGINT, seconds=0.2),
        ),
        speaks=False,
    ),
    Case(
        name="campaign: SIGTERM to a worker",
        command=f"exec {RUN} --out out --workers 1",
        codes=(0,),
        says="no defect",
        seconds=120,
        interruptions=(
            Interruption(
                signal=signal.SIGTERM, seconds=3, file="out/campaign.sqlite", worker=True
            ),
        ),
    ),
    Case(
        name="campaign: SIGSTOP to a worker",
        command=f"exec {RUN} --out out --workers 1 --time-limit 10",
        codes=(0, 1, 2),
        says=".",
        seconds=120,
        interruptions=(
            Interruption(
                signal=signal.SIGSTOP, seconds=4, file="out/campaign.sqlite", worker=True
            ),
        ),
    ),
    Case(
        name="campaign: SIGKILL leaves no worker",
        command=f"exec {LONG} --out out --workers 2",
        codes=(137,),
        says="(?s).*",
        seconds=120,
        interruptions=(
            Interruption(signal=signal.SIGKILL, seconds=12, file="out/campaign.sqlite"),
        ),
        speaks=False,
    ),
    Case(
        name="report: SIGPIPE",
        command="lossfuzz report night | head -1; exit ${PIPESTATUS[0]}",
        codes=(0, 2, 74, 141),
        says="(?s).*",
        needs=("night",),
        speaks=False,
        changes=True,
    ),
    *(
        Case(
            name=f"{what}: SIGINT",
            command=f"exec {command}",
            codes=(130,),
            says="(?s).*",
            seconds=60,
            needs=("night",),
            interruptions=(Interruption(signal=signal.SIGINT, seconds=seconds),),
            speaks=False,
        )
        for what, command, seconds in (
            ("referee", "lossfuzz referee", 4.0),
            ("cliffs", "lossfuzz cliffs", 6.0),
            ("memory", "lossfuzz memory", 6.0),
            ("replay", "lossfuzz replay 'night#1' --issue", 4.0),
            ("starting", "lossfuzz --version", 0.03),
        )
        if what != "starting"
    ),
]

_TO = {
    "a folder": ("mkdir victim; exec ", "victim"),
    "a file's child": ("touch victim; exec ", "victim/child"),
    "/dev/full": ("exec ", "/dev/full"),
    "/proc": ("exec ", "/proc/victim"),
    "a folder that is not there": ("exec ", "no/such/victim"),
    "a long name": ("exec ", "v" * 300),
    "a link to itself": ("ln -s victim victim; exec ", "victim"),
    "nothing": ("exec ", "''"),
}
_WRITING = {
    "report --html": "lossfuzz report night --html {to}",
    "report --markdown": "lossfuzz report night --markdown {to}",
    "compare --json": "lossfuzz compare night plain --json {to}",
    "compare --html": "lossfuzz compare night plain --html {to}",
    "compare --markdown": "lossfuzz compare night plain --markdown {to}",
    "replay --script": "lossfuzz replay 'night#1' --script {to}",
    "run --markdown": f"{RUN} --out out --markdown {{to}}",
}
_FOLDERS = {
    "report --parquet": "lossfuzz report night --parquet {to}",
    "report --tensorboard": "lossfuzz report night --tensorboard {to}",
    "run --out": f"{RUN} --out {{to}}",
    "campaign --out": f"{RUN} --workers 1 --out {{to}}",
    "merge --out": "lossfuzz merge night --out {to}",
}


def _made(where: str, *, for_folders: bool) -> bool:
    """Whether an output is made there, rather than refused."""
    return (for_folders and where in ("a folder", "a folder that is not there", "nothing")) or (
        not for_folders and where in ("a folder that is not there", "a link to itself")
    )


def _written(what: str, command: str, where: str, *, for_folders: bool) -> Case:
    before, to = _TO[where]
    may = _made(where, for_folders=for_folders)
    return Case(
        name=f"{what} to {where}",
        command=before + command.format(to=to),
        codes=(0, *NOT_WRITTEN) if may else NOT_WRITTEN,
        says="." if may else ERROR,
        needs=("night", "plain"),
        changes=True,
    )


def _somebodys(name: str, content: str) -> Callable[[Path], None]:
    def prepare(work: Path) -> None:
        (work / "out").mkdir()
        (work / "out" / name).write_text(content)

    return prepare


_BEGUN = "until [ -e out/campaign.sqlite ]; do sleep 0.1; done"
OUTPUTS: Table = [
    *(
        _written(what, command, where, for_folders=False)
        for what, command in _WRITING.items()
        for where in _TO
        if what != "run --markdown" or where in ("a folder", "/dev/full", "a file's child")
    ),
    *(
        _written(what, command, where, for_folders=True)
        for what, command in _FOLDERS.items()
        for where in _TO
    ),
    *(
        Case(
            name=f"{what} into a folder with somebody's own {name}",
            command=command,
            says=f"{ERROR}.*{name}",
            needs=("night",),
            prepare=_somebodys(name, content),
        )
        for what, command in (
            ("run", f"{RUN} --out out"),
            ("campaign", f"{RUN} --out out --workers 1"),
            ("merge", "lossfuzz merge night --out out"),
        )
        for name, content in (
            ("results.json", '{"my": "own results"}'),
            ("report.html", "<p>my own report</p>"),
            ("timings.json", "[1, 2, 3]"),
        )
    ),
    *(
        Case(
            name=f"{what} over somebody's own file",
            command=f"echo mine > {name}; {command}; grep -q ^mine {name} || echo LOST",
            codes=(0, 2),
            says=".",
            needs=("night", "plain"),
            changes=True,
            one_line=False,
        )
        for what, command, name in (
            ("report --html", "lossfuzz report night --html page.html", "page.html"),
            ("replay --script", "lossfuzz replay 'night#1' --script s.py", "s.py"),
        )
    ),
    *(
        Case(
            name=f"report --memory of {what}",
            command="lossfuzz report night --memory m.json",
            says=f"{ERROR}.*m.json",
            needs=("night",),
            files=files,
        )
        for what, files in (
            ("nowhere", {}),
            ("null", {"m.json": "null"}),
            ("a list", {"m.json": "[1]"}),
            ("text", {"m.json": "text"}),
            ("other JSON", {"m.json": '{"cells": 5, "costs": 6, "schema": 1}'}),
            ("deep JSON", {"m.json": "[" * 100_000 + "]" * 100_000}),
        )
    ),
    Case(
        name="parquet into a folder named with a quote",
        command='lossfuzz report night --parquet "it\'s; DROP"',
        codes=(0,),
        says=".",
        needs=("night",),
    ),
    Case(
        name="a campaign while another one runs in its folder",
        command=f"{RUN} --workers 1 --out out & sleep 3; {RUN} --workers 1 --out out; code=$?; "
        "wait; exit $code",
        says=f"{ERROR}.*out",
        changes=True,
    ),
    Case(
        name="a plain run while a campaign runs in its folder",
        command=f"{RUN} --workers 1 --out out & {_BEGUN}; {RUN} --out out; code=$?; wait; "
        "exit $code",
        says=f"{ERROR}.*out",
        changes=True,
    ),
    Case(
        name="resume while the campaign runs",
        command=f"{RUN} --workers 1 --out out & {_BEGUN}; lossfuzz resume out; code=$?; wait; "
        "exit $code",
        says=f"{ERROR}.*out",
        changes=True,
    ),
    Case(
        name="two plain runs in one folder",
        command=f"{RUN} --out out & {RUN} --seed 1 --out out; code=$?; wait; "
        "lossfuzz report out || exit 99; exit $code",
        codes=(0, 2),
        says=".",
        changes=True,
        one_line=False,
    ),
]
