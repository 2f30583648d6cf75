"""Workers that die: one finding in bounded time, a sound path beside it measured in full."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lossfuzz.campaign import following, process, worker
from lossfuzz.campaign.coordinator import Coordinator
from lossfuzz.campaign.following import Following
from lossfuzz.campaign.messages import Finished, Lost, Place
from lossfuzz.campaign.outcome import merged
from lossfuzz.campaign.store import Store
from lossfuzz.campaign.tasks import task_numbered
from lossfuzz.campaign.work import carry_out
from lossfuzz.cli import main
from lossfuzz.errors import UsageError
from lossfuzz.harness import backend
from lossfuzz.harness.numbers.formats import BINARY32
from lossfuzz.harness.paths.table import paths_matching
from lossfuzz.measuring import Measuring
from lossfuzz.plan import Plan
from lossfuzz.strategies.recipes import Recipe

ROOT = Path(__file__).parents[3]
HOSTILE = str(ROOT / "tests" / "hostile")
NAMES = ["tf.nn/fused", "tf.nn/naive"]
CALM, BAD = (f"{name} float32 eager CPU:0" for name in NAMES)
SECONDS = 100.0
"""What following may take on a busy machine; without a bound it took more than 200 s."""


def plan(**changes):
    fields = {
        "paths": tuple(path for name in NAMES for path in paths_matching([name])),
        "formats": (BINARY32,),
        "devices": ("CPU:0",),
        "modes": ("eager",),
        "families": ("normal",),
        "shapes": ((4, 3),),
        "rows": 4 * 48 * 3,  # three tasks of one group
        "search": 0,
    }
    return Plan(**{**fields, **changes})


class Deaths:
    """An engine that measures in this process, and says that its workers died where it is told.

    Attributes:
        asked: every request that came.
    """

    seconds = 6.0

    def __init__(self, chosen, dies, workers=1, *, latest_first=False):
        self._plan, self._dies, self._size, self._latest = chosen, dies, workers, latest_first
        self._measuring = Measuring()
        self._running = []
        self.asked = []

    def free(self):
        return self._size - len(self._running)

    def groups(self):
        return [None] * self.free()

    def submit(self, request):
        self.asked.append(request)
        self._running.append(request)

    def close(self):
        pass

    def next_event(self):
        request = self._running.pop(-1 if self._latest else 0)
        lost = self._dies(request)
        if lost is not None:
            return lost
        if request.kind == "task":
            body = request.body
            task = task_numbered(self._plan, body["number"])
            result = carry_out(task, self._plan, self._measuring, body["left_out"])
            return Finished(request=request, result=json.loads(json.dumps(result)))
        answers = {"reduce": {"finding": request.body.get("finding")}, "cliffs": {"cliffs": []}}
        return Finished(request=request, result=answers.get(request.kind, {}))


def call(chosen, task, step, cell=BAD):
    made = task_numbered(chosen, task).recipes(chosen)[step].to_json()
    return Place(task=task, cell=cell, recipe=step, made=made)


def lost(request, *calls, **changes):
    fields = {"reason": "it died", "timeout": False, "seconds": 1.0, "usual": 0.001}
    return Lost(request=request, calls=calls, **{**fields, **changes})


def runs(request, cell=BAD):
    """Whether a task's request runs the cell."""
    return request.kind == "task" and cell not in dict(request.body["left_out"])


def campaign(folder, chosen, dies, **options):
    folder.mkdir()
    store = Store.create(folder, chosen.to_json())
    engine = Deaths(chosen, dies, **options)
    told = []
    Coordinator(store, chosen, engine, lambda *state: told.append(state)).run()
    found = merged(store, chosen)
    store.close()
    return found, engine, [what for _, _, what in told]


def crash_of(found):
    return [one for cell in found.cells for one in cell.findings.values() if one.kind == "crash"]


def dies_in(chosen, places):
    """A path that kills its worker on row 2 of a batch in each of some tasks, always."""

    def dies(request):
        if request.kind == "task":
            number = request.body["number"]
            step = places.get(number)
            ends = dict(request.body["left_out"]).get(BAD, 99)
            if step is not None and step < ends:
                return lost(request, call(chosen, number, step))
        if request.kind == "probe":
            start, stop = request.body["rows"] or (0, 4)
            if start <= 2 < stop:
                return lost(request, call(chosen, request.body["number"], 0))
        return None

    return dies


def test_a_crash_is_one_finding_with_its_row_and_its_cell_is_left_out_from_there_on(tmp_path):
    chosen = plan()
    found, engine, told = campaign(tmp_path / "a", chosen, dies_in(chosen, {1: 5, 2: 3}))
    (finding,) = crash_of(found)
    calm, bad = found.cells
    assert calm.summary.rows == 4 * 48 * 3
    assert bad.summary.rows == 4 * (48 + 5)
    assert bad.summary.defects["crash"] == 1
    assert finding.row == 2
    assert f"following a crash of {BAD} to its row" in told
    assert sum(request.kind == "probe" for request in engine.asked) <= 4


def test_what_is_found_does_not_depend_on_which_task_dies_first(tmp_path):
    chosen = plan()
    dies = dies_in(chosen, {0: 7, 1: 5, 2: 3})
    one, _, _ = campaign(tmp_path / "a", chosen, dies)
    other, _, _ = campaign(tmp_path / "b", chosen, dies, workers=3, latest_first=True)
    assert one.to_json() == other.to_json()
    assert len(crash_of(one)) == 1


def test_without_time_for_halving_the_finding_stands_without_a_row(tmp_path, monkeypatch):
    monkeypatch.setattr(following, "_MOST_SECONDS", 0.0)
    chosen = plan()
    found, engine, _ = campaign(tmp_path / "a", chosen, dies_in(chosen, {1: 5}))
    (finding,) = crash_of(found)
    assert finding.message == "it died (no single row was isolated within 0 s)"
    assert finding.unconfirmed  # so that no script is shown for a row that may not do it
    assert sum(request.kind == "probe" for request in engine.asked) == 1


def test_halving_takes_a_logarithmic_number_of_probes():
    chosen = plan(shapes=((4096, 3),), rows=4096 * 4)
    asked = []

    def ask(request):
        asked.append(request)
        start, stop = request.body["rows"] or (0, 4096)
        return lost(request, place) if start <= 3000 < stop else None

    place = call(chosen, 0, 1)
    following_it = Following(chosen, 6.0, ask, lambda _: None)
    assert following_it.batch(lost(None, place), place).row == 3000
    assert len(asked) <= 14


def test_a_probe_waits_a_few_times_what_the_batch_took_and_never_beyond_the_limit():
    chosen, waited = plan(), []

    def ask(request):
        waited.append(request.seconds)
        start, stop = request.body["rows"] or (0, 4)
        return lost(request, place, timeout=True) if start <= 2 < stop else None

    place = call(chosen, 0, 1)
    hang = lost(None, place, timeout=True, usual=0.5)
    finding = Following(chosen, 300.0, ask, lambda _: None).batch(hang, place)
    assert (finding.kind, finding.row) == ("timeout", 2)
    assert waited == [30.0, 3.5, 30.0]
    assert Following(chosen, 300.0, ask, lambda _: None).budget <= 120


def test_a_worker_that_others_kill_again_and_again_is_no_finding(tmp_path):
    chosen, left = plan(), [8]

    def dies(request):
        if request.kind == "task" and left[0]:
            left[0] -= 1
            return lost(request, call(chosen, request.body["number"], 3), outside=True)
        return None

    disturbed, _, _ = campaign(tmp_path / "a", chosen, dies)
    calm, _, _ = campaign(tmp_path / "b", chosen, lambda _: None)
    assert not left[0]
    assert not crash_of(disturbed)
    assert disturbed.to_json() == calm.to_json()


def test_calls_that_end_a_worker_together_are_one_finding_that_counts_them(tmp_path):
    chosen = plan()

    def dies(request):
        if request.kind == "replay":
            calls = [call(chosen, 0, step) for step in range(len(request.body["calls"]))]
            cells = {cell for _, cell, _ in request.body["calls"]}
            return lost(request, *calls) if len(calls) >= 11 and BAD in cells else None
        if runs(request):
            calls = [
                call(chosen, 0, k, cell) for k in range(11) for cell in (BAD, CALM)
            ]  # the last call of all was a sound path's
            return lost(request, *calls)
        return None

    found, _, told = campaign(tmp_path / "a", chosen, dies)
    (finding,) = crash_of(found)
    assert finding.cell_name == BAD
    assert "it takes 11 calls of this path in one process" in finding.message
    assert found.cells[0].summary.rows == 4 * 48 * 3
    assert any("the last 11 calls of tf.nn/naive again, in order" in one for one in told)


def test_what_does_not_repeat_is_told_as_such(tmp_path):
    chosen = plan()

    def dies(request):
        return lost(request, call(chosen, 0, 4)) if runs(request) else None

    found, engine, _ = campaign(tmp_path / "a", chosen, dies)
    (finding,) = crash_of(found)
    assert "3 workers were lost on this task" in finding.message
    assert "it does not repeat" in finding.message
    assert found.cells[0].summary.rows == 4 * 48 * 3
    assert len(engine.asked) < 20


def test_a_task_that_no_worker_survives_is_left_with_a_note(tmp_path):
    chosen = plan()

    def dies(request):
        if request.kind == "task" and request.body["number"] == 0:
            left = [cell for cell in (BAD, CALM) if cell not in dict(request.body["left_out"])]
            return lost(request, call(chosen, 0, 4, left[0])) if left else None
        return None

    found, engine, _ = campaign(tmp_path / "a", chosen, dies)
    assert len(engine.asked) < 40
    assert all(one.summary.rows or one.findings for one in found.cells)


@pytest.mark.parametrize("starting", [True, False])
def test_workers_that_never_get_to_a_path_end_the_campaign_with_one_line(starting, tmp_path):
    chosen = plan()

    def dies(request):
        return lost(request, starting=starting)

    with pytest.raises(UsageError, match=r"workers keep dying .*: it died"):
        campaign(tmp_path / "a", chosen, dies)


def run(folder, names, *more):
    choices = [
        *("--paths", ",".join(["tf.nn/fused", *(f"hostile_paths:{name}" for name in names)])),
        *("--modes", "eager", "--formats", "float32", "--shapes", "4x3", "--rows", "64"),
        *("--families", "normal,outlier", "--device", "CPU:0", "--workers", "1", "--quiet"),
    ]
    started = time.monotonic()
    assert main(["run", *choices, "--out", str(folder), *more]) == 0
    assert time.monotonic() - started < SECONDS
    return json.loads((folder / "results.json").read_text())


def test_a_path_that_disturbs_its_process_is_measured_like_a_calm_one(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HOSTILE)
    found = run(tmp_path / "h", ["SETS", "FORKS", "LEAVES_BEHIND", "SPEAKS"])
    calm, *others = (one["summary"] for one in found["cells"])
    assert calm["rows"] == 64
    assert others == [calm] * 4


def test_a_crash_at_the_11th_call_is_one_finding_and_the_sound_path_is_measured(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(HOSTILE)
    found = run(tmp_path / "h", ["CRASHES_LATER"])
    calm, bad = (one["summary"] for one in found["cells"])
    assert calm["rows"] == 64
    assert bad["defects"] == {"crash": 1}
    (finding,) = [one for one in found["worst"] if one["kind"] == "crash"]
    assert "SIGSEGV; it takes 11 calls of this path in one process" in finding["message"]
    told = capsys.readouterr().out
    assert "1 of 2 cells crashed; no other defect in 64 measured rows of 1 cell." in told


def test_a_loss_that_raises_system_exit_is_told_by_that_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HOSTILE)
    found = run(tmp_path / "h", ["RAISES_SYSTEM_EXIT"])
    assert found["cells"][0]["summary"]["rows"] == 64
    (finding,) = [one for one in found["worst"] if one["kind"] in ("crash", "refusal")]
    assert "SystemExit" in finding["message"]
    assert max(finding["logits"]) > 100


@pytest.mark.parametrize("name", ["LEAVES", "RAISES_SYSTEM_EXIT"])
def test_a_process_that_ends_with_exit_code_0_is_a_crash_that_replay_sees(
    name, tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(HOSTILE)
    found = run(tmp_path / "h", [name])
    (finding,) = [one for one in found["worst"] if one["kind"] == "crash"]
    capsys.readouterr()
    again = ["replay", f"{tmp_path / 'h'}#{finding['id']}"]
    assert main(again) == 2
    assert f"--loss hostile_paths:{name}" in capsys.readouterr().err
    assert main([*again, "--trust"]) == 0
    assert "it still stands" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_of_a_campaign_outlives_its_coordinator(number, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    choices = ["--paths", "tf.nn/fused", "--modes", "eager", "--formats", "float32"]
    coordinator = subprocess.Popen(  # noqa: S603
        [
            *(sys.executable, "-m", "lossfuzz", "run", *choices, "--rows", "4000000"),
            *("--device", "CPU:0", "--workers", "1", "--out", "c", "--quiet"),
        ],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    wait_until(lambda: list(scratch.glob("*/*")))
    children = Path(f"/proc/{coordinator.pid}/task/{coordinator.pid}/children")
    started = [int(child) for child in children.read_text().split()]
    assert started
    coordinator.send_signal(number)
    _, errors = coordinator.communicate(timeout=60)
    assert coordinator.returncode == (-9 if number == signal.SIGKILL else 129)
    assert b"Traceback" not in errors
    wait_until(lambda: not any(Path(f"/proc/{child}").exists() for child in started))
    wait_until(lambda: not list(scratch.iterdir()))


def wait_until(holds):
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture
def pipe():
    """A worker process's pipe, with what the coordinator makes of it."""
    reading, writing = os.pipe()
    speaker = worker._Worker(writing)
    yield speaker, reading
    os.close(reading)


def test_a_forked_process_says_nothing_for_the_worker(pipe):
    speaker, reading = pipe
    child = os.fork()
    if not child:
        speaker._say({"done": {}})  # it ends there
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    speaker._say({"done": "mine"})
    (line,) = os.read(reading, 1 << 16).splitlines()
    assert json.loads(line) == {"id": 0, "pid": os.getpid(), "done": "mine"}


@pytest.fixture
def listening(monkeypatch):
    """A worker process that is none, and has been given a request."""
    monkeypatch.setattr(process, "module_paths", list)
    monkeypatch.setattr(sys, "executable", "/bin/cat")
    folder = Path(tempfile.mkdtemp())
    listener = process.WorkerProcess({}, folder, {})
    yield listener
    listener.end()
    assert not folder.exists()


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not JSON",
        b"[1]",
        b"null",
        b'{"done": {}}',
        b'{"id": 0, "pid": 1, "done": {}}',
        b'{"id": 7, "pid": PID, "done": {}}',
        b'{"id": 0, "pid": PID, "done": {}',
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_answer_of_the_worker_says_nothing(line, listening):
    pid = str(listening._process.pid).encode()
    request = Place  # any object: it is only kept
    listening.request = request
    assert listening.take(line.replace(b"PID", pid)) is None
    assert listening.take(b'{"id": 0, "pid": PID, "done": {}}'.replace(b"PID", pid)) is None
    listening.take(b'{"id": 0, "pid": PID, "done": {}}'.replace(b"PID", pid))
    assert listening.request is None  # the first one ended the start, the second the request


@pytest.mark.parametrize(("held", "allowed"), [(0, 1 << 30), (1 << 30, -4096), (1 << 30, 0)])
def test_where_memory_cannot_be_seen_none_is_watched(held, allowed, listening, monkeypatch):
    monkeypatch.setattr(process, "resident_bytes", lambda _: held)
    listening.request = Place
    assert listening.overdue(60.0, allowed) is None
    assert process.resident_bytes(0) == held


def test_without_proc_tensorflow_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backend, "_PROGRAM", str(tmp_path / "none"))
    assert main(["run", "--paths", "tf.nn/fused", "--out", str(tmp_path / "o"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert "mount /proc" in error
    assert error.count("\n") == 1


def test_a_recipe_survives_a_replay():
    made = call(plan(), 0, 3).made
    assert Recipe.from_json(json.loads(json.dumps(made))).to_json() == made
