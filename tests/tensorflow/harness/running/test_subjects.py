"""Cells in another interpreter: this one's, started a second time."""

import ast
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from lossfuzz.harness.losses.softmax_cross_entropy import SOFTMAX_CROSS_ENTROPY
from lossfuzz.harness.losses.targets import targets_of
from lossfuzz.harness.measuring.outcome import outcome_of
from lossfuzz.harness.measuring.prepared import prepare
from lossfuzz.harness.numbers.formats import BINARY16, BINARY32, TRAINING_FORMATS
from lossfuzz.harness.paths.cells import Cell
from lossfuzz.harness.paths.path import LossPath
from lossfuzz.harness.paths.table import PATHS, paths_matching
from lossfuzz.harness.records.modes import MODES
from lossfuzz.harness.running import server
from lossfuzz.harness.running.execution import CellRunner, UnavailableError
from lossfuzz.harness.running.process import (
    SubjectDiedError,
    SubjectError,
    SubjectTimeoutError,
    program_path,
)
from lossfuzz.harness.running.routes import route_of, tame_batch
from lossfuzz.harness.running.subject import start_subject

FUSED = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)"
HANG = "[0 for _ in iter(int, 1)]"

PATHS_OF_ALL_KINDS = paths_matching(
    [
        "tf.nn/fused",
        "tf.nn/binary/naive",
        "keras/function/softmax-op",
        "keras/mean-one-hot/class/from-logits",
        "tf_keras/class/cached-logits",
    ]
)
MODELS = paths_matching(
    ["model/tf_keras/softmax-head/fit", "model/keras/logits-head/train_on_batch/one-hot"]
)
COUNTING_THE_WRONG_CLASSES = {
    # along the last axis, whatever the axis is: tf.keras 2.8 and 2.11 but not 2.15, and Keras 3.15
    "tf_keras/smoothed-other-axis/function/from-logits",
    "keras/smoothed-other-axis/function/from-logits",
}


@pytest.fixture(scope="module")
def subject():
    with start_subject(sys.executable) as running:
        yield running


@pytest.fixture
def mortal():
    """A subject that a test may kill."""
    with start_subject(sys.executable) as running:
        yield running


def cell(path, fmt=BINARY32, mode="eager"):
    return Cell(path=path, format=fmt, mode=mode, device="CPU:0")


def made(source, name="made/up", api="tensorflow"):
    return cell(
        LossPath(
            name=name,
            loss=SOFTMAX_CROSS_ENTROPY,
            api=api,
            call=lambda *_: None,
            source=source,
            documented=SOFTMAX_CROSS_ENTROPY,
        )
    )


def batch(one_cell, shape=(3, 5, 7), scale=30):
    logits = one_cell.format.cast(np.random.default_rng(0).normal(0, scale, shape))
    rows = logits.reshape(-1, shape[-1])
    targets = targets_of(one_cell.path.loss.target, rows, np.arange(len(rows)) % shape[-1])
    return logits, targets.fed(shape, logits.dtype)


def assert_same(left, right):
    for name in ("loss", "gradient"):
        one, other = getattr(left, name), getattr(right, name)
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def program(folder, text):
    file = folder / "python"
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.usefixtures("tf")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fmt", TRAINING_FORMATS, ids=lambda fmt: fmt.dtype_name)
@pytest.mark.parametrize("path", PATHS_OF_ALL_KINDS, ids=lambda path: path.name)
def test_results_and_routes_are_those_of_this_process(subject, path, fmt, mode):
    one = cell(path, fmt, mode)
    arrays = batch(one)
    assert_same(subject.runner(one).run(*arrays), CellRunner(one).run(*arrays))
    assert subject.route(one) == route_of(one)


@pytest.mark.usefixtures("tf")
@pytest.mark.parametrize("mode", ["eager", "graph"])
@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_models_train_as_in_this_process_where_their_optimizer_skips_a_step_too(
    subject, path, mode
):
    one = cell(path, BINARY16, mode)
    there, here = subject.runner(one), CellRunner(one)
    for scale in (1, 30000, 1):  # the second overflows behind the loss scale
        arrays = batch(one, scale=scale)
        assert_same(there.run(*arrays), here.run(*arrays))
    assert subject.route(one) == route_of(one)


def test_a_subject_tells_what_it_is(subject):
    told = subject.subject
    assert told.python == sys.executable
    assert told.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"tensorflow", "numpy"} <= told.versions.keys()
    assert told.devices[0] == "CPU:0"
    assert told.name == f"tensorflow {told.versions['tensorflow']}"


def test_a_runner_serves_outcomes_while_the_reference_is_computed(subject):
    one = cell(paths_matching(["tf.nn/fused"])[0])
    prepared = prepare(*tame_batch(one), {})
    outcome = outcome_of(subject.runner(one), prepared)
    assert not any(flags.any() for flags in outcome.measurement.defects.values())
    runner = subject.runner(one)
    runner.submit(prepared.logits, prepared.fed)
    assert_same(runner.result(), outcome.observed)


def test_a_later_batch_takes_the_place_of_one_whose_result_was_not_taken(subject):
    first, second = subject.runner(made(FUSED)), subject.runner(made(f"2 * {FUSED}"))
    arrays = tame_batch(first.cell)
    first.submit(*arrays)
    second.submit(*arrays)
    with pytest.raises(RuntimeError, match="one submit"):
        first.result()
    doubled = second.result()
    np.testing.assert_array_equal(doubled.loss, 2 * first.run(*arrays).loss)


def test_refusals_are_one_line_and_leave_the_subject_alive(subject):
    logits, labels = tame_batch(made(FUSED))
    for source, said in (
        ("tf.no_such_thing(logits)", "^AttributeError: .*no_such_thing"),
        ("no expression (", "^SyntaxError"),
        ("tf.constant([1.0, 1.0])", "^the loss has no gradient"),
        ("", "^the path is a function of this process"),
    ):
        for _ in range(2):
            with pytest.raises(UnavailableError, match=said) as refusal:
                subject.runner(made(source)).run(logits, labels)
            assert "\n" not in str(refusal.value)
    with pytest.raises(UnavailableError, match="no_such_thing"):
        subject.route(made("tf.no_such_thing(logits)"))
    with pytest.raises(UnavailableError, match=r"^needs no_such_package"):
        subject.route(made(FUSED, api="no_such_package"))
    subject.runner(made(FUSED)).run(logits, labels)


@pytest.mark.parametrize(
    "spoiler",
    [
        "print('{}', flush=True)",
        "__import__('os').system('echo {}')",
        "__import__('sys').stdin.read()",
        "'ünïcödé ∂L/∂x 🙂'",
    ],
)
def test_what_a_path_prints_and_reads_stays_out_of_the_protocol(subject, spoiler):
    arrays = tame_batch(made(FUSED))
    spoilt = subject.runner(made(f"({spoiler}, {FUSED})[1]", name=f"π/{spoiler}"))
    assert_same(spoilt.run(*arrays), subject.runner(made(FUSED)).run(*arrays))


def test_batches_grow_and_shrink(subject):
    one = made(FUSED)
    for rows in (1, 50_000, 3, 400_000, 2):
        logits = np.full((rows, 10), 3, np.float32)
        logits[-1, 0] = rows
        observed = subject.runner(one).run(logits, np.zeros(rows, np.int32))
        assert observed.loss.shape == (rows,)
        assert observed.gradient.shape == logits.shape
        assert observed.loss[0] == observed.loss[rows // 2] or rows < 3


def test_results_may_need_more_room_than_their_inputs(subject):
    logits = np.zeros((64, 64), np.float16)
    one = made("tf.repeat(tf.reduce_sum(tf.cast(logits, tf.float64), -1), 9999)")
    observed = subject.runner(one).run(logits, np.zeros(64, np.int32))
    assert observed.loss.shape == (64 * 9999,)
    assert (observed.gradient == 9999).all()


def test_a_death_is_told_with_its_signal_and_last_words(mortal):
    runner = mortal.runner(
        made("(__import__('os').write(2, b'last words\\n'), __import__('os').abort())")
    )
    with pytest.raises(SubjectDiedError, match=r"ended with signal SIGABRT: last words$"):
        runner.run(*tame_batch(runner.cell))
    assert not mortal.alive
    for again in (mortal.runner(made(FUSED)).run, lambda *_: mortal.route(made(FUSED))):
        with pytest.raises(SubjectDiedError, match="has ended"):
            again(*tame_batch(runner.cell))


def test_an_exit_is_told_with_its_code(mortal):
    with pytest.raises(SubjectDiedError, match="ended with exit code 7"):
        mortal.route(made("__import__('os')._exit(7)"))


def test_a_hang_ends_at_the_time_limit(mortal):
    mortal.timeout = 0.5
    with pytest.raises(SubjectTimeoutError, match=r"within 0\.5 s"):
        mortal.runner(made(HANG)).run(*tame_batch(made(HANG)))
    assert not mortal.alive
    assert mortal._process._process.returncode is not None


def test_a_subject_ends_with_its_client_even_from_a_hang(mortal):
    mortal.runner(made(HANG)).submit(*tame_batch(made(HANG)))
    mortal._process._process.stdin.close()  # as the system does when a process ends
    assert mortal._process._process.wait(10) == 0


def test_closing_leaves_no_process_and_no_file_open():
    before = set(Path("/dev/fd").iterdir())
    running = start_subject(sys.executable)
    running.close()
    running.close()
    assert running._process._process.returncode == 0
    assert set(Path("/dev/fd").iterdir()) == before


def test_a_missing_interpreter_is_told():
    with pytest.raises(SubjectError, match=r"^cannot start /no/such/python: No such file"):
        start_subject("/no/such/python")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'exec {sys.executable} -S -E "$@"', r"has no TensorFlow: .*No module named"),
        ("echo boom >&2; exit 3", r"ended with exit code 3: boom \(at its start"),
        ("echo hello; cat", r"is no Python that runs subjects; it said 'hello'"),
        ("echo '{\"protocol\": 0}'; cat", r"speaks protocol 0, .* install"),
    ],
)
def test_what_is_no_subject_is_told_in_one_line(tmp_path, text, said):
    with pytest.raises(SubjectError, match=said) as told:
        start_subject(program(tmp_path, text))
    assert "\n" not in str(told.value)


def test_the_server_is_written_for_python_3_8():
    ast.parse(Path(server.__file__).read_text(), feature_version=(3, 8))


@pytest.mark.skipif("LOSSFUZZ_SUBJECT" not in os.environ, reason="LOSSFUZZ_SUBJECT names none")
def test_tame_rows_are_right_in_the_subject_that_is_named():
    refused = []
    with start_subject(os.environ["LOSSFUZZ_SUBJECT"]) as other:
        for path in PATHS:
            one = cell(path)
            logits = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 5)).astype(np.float32)
            prepared = prepare(logits, np.arange(8) % 5, {}, path.loss)
            try:
                outcome = outcome_of(other.runner(one), prepared)
            except UnavailableError as refusal:
                refused.append(str(refusal))
                continue
            designed = np.asarray(outcome.rounding.by_design if outcome.rounding else False)
            defects = outcome.measurement.defects.items()
            shown = {kind for kind, flags in defects if (flags & ~designed).any()}
            assert not shown or path.name in COUNTING_THE_WRONG_CLASSES
            assert other.route(one).name != "other"
    assert len(refused) < len(PATHS) - 50
    assert not any("\n" in line for line in refused)


def test_a_program_may_be_named_as_in_a_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    python = tmp_path / "old" / "bin" / "some-python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    monkeypatch.setenv("PATH", str(python.parent))
    for name in ("old/bin/some-python", "./old/bin/some-python", "~/old/bin/some-python"):
        assert program_path(name) == str(python)  # the link itself, not what it leads to
    assert program_path("some-python") == str(python)
    assert program_path("old/../old/bin/some-python").startswith("/")
    with pytest.raises(SubjectError, match=r"^cannot start python9: no program .* on PATH"):
        program_path("python9")
    with pytest.raises(SubjectError, match=r"it is a folder; expected an interpreter, such as "):
        program_path("old")
    with pytest.raises(SubjectError, match=r"^cannot start ~nobody9/bin/python: "):
        program_path("~nobody9/bin/python")
