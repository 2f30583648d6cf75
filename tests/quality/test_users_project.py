"""A project of a user's: installs the wheel, has modules named as ours, checks its losses."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("lossfuzz", "harness", "strategies", "reports", "pyproject.toml", "README.md", "LICENSE")

FILES = {
    "strategies.py": "MINE = 'strategies'\n",
    "harness.py": "MINE = 'harness'\n",
    "reports.py": "MINE = 'reports'\n",
    "losses.py": """
import tensorflow as tf

def fused(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

def unshifted(logits, labels):
    picked = tf.gather(logits, labels, batch_dims=labels.shape.rank)
    return tf.math.log(tf.reduce_sum(tf.exp(logits), -1)) - picked
""",
    "test_names.py": """
import harness, lossfuzz, reports, strategies
from lossfuzz.strategies.cases import cases

def test_the_modules_are_the_projects_own():
    found = [one.MINE for one in (harness, reports, strategies)]
    assert found == ["harness", "reports", "strategies"]

def test_lossfuzz_is_the_installed_wheel(request):
    import lossfuzz.harness.numbers.formats, sys
    for one in (lossfuzz, lossfuzz.harness.numbers.formats):
        assert one.__file__.startswith(sys.prefix)
    plugins = [one for one, _ in request.config.pluginmanager.list_plugin_distinfo()]
    assert [one.__name__ for one in plugins].count("lossfuzz.pytest_plugin") == 1
""",
    "test_losses.py": """
import losses, lossfuzz, pytest

SMALL = {"shapes": [(32, 6)]}

@pytest.mark.lossfuzz(formats=["float32", "bfloat16"], modes=["eager", "graph"])
def test_the_fused_loss_is_sound(lossfuzz_check):
    result = lossfuzz_check(losses.fused, "softmax-cross-entropy", **SMALL)
    assert {one.cell.mode for one in result.cells} == {"eager", "graph"}

@pytest.mark.lossfuzz(modes=["eager"])
def test_the_sum_without_a_shift_overflows(lossfuzz_check):
    with pytest.raises(lossfuzz.LossDefect, match="does not compute") as failure:
        lossfuzz_check(losses.unshifted, "softmax-cross-entropy", formats=["float32"], **SMALL)
    assert len(failure.value.finding.logits) <= 3

def test_by_the_function_alone():
    where = {"formats": ["float16"], "modes": ["eager"]}
    lossfuzz.check(losses.fused, "softmax-cross-entropy", rows=64, **where, **SMALL)
""",
    "pyproject.toml": """
[tool.pytest.ini_options]
addopts = "--strict-markers"
lossfuzz_rows = "320"
""",
}


def called(*command, folder, **environment):
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PYTHONPATH"))
    }
    return subprocess.run(  # noqa: S603 - interpreters of ours
        command,
        cwd=folder,
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter that has the wheel, and of everything else what this one has."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("pip is not here to build and install the wheel")
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, source / part)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    built = called(*pip, "wheel", "--no-deps", "-w", str(wheels), str(source), folder=source)
    assert built.returncode == 0, built.stderr
    (wheel,) = wheels.glob("lossfuzz-*.whl")
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, symlinks=True)
    scheme = {"base": str(home), "platbase": str(home)}
    site = Path(sysconfig.get_path("purelib", "venv", scheme))
    paths = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (site / "what-the-tests-have.pth").write_text("\n".join(paths) + "\n")
    made = Path(sysconfig.get_path("scripts", "venv", scheme)) / Path(sys.executable).name
    made = made if made.exists() else made.with_name("python")
    installing = ("install", "--no-deps", "--target", str(site), str(wheel))
    installed = called(*pip, *installing, folder=home)
    assert installed.returncode == 0, installed.stderr
    return str(made)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("users")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def test_a_project_with_modules_of_our_names_checks_its_losses(python, project):
    run = called(python, "-m", "pytest", folder=project)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "5 passed" in run.stdout
    assert "losses:fused as softmax cross-entropy with an integer label: sound; " in run.stdout
    assert "losses:unshifted as softmax cross-entropy with an integer label: " in run.stdout


def test_so_it_does_over_two_workers_with_options(python, project):
    options = ("--lossfuzz-rows", "96", "--lossfuzz-seed", "3", "--lossfuzz-modes", "eager,graph")
    run = called(python, "-m", "pytest", "-n", "2", "-m", "lossfuzz", *options, folder=project)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "2 passed" in run.stdout
    (line,) = [one for one in run.stdout.splitlines() if one.startswith("losses:fused as ")]
    assert "sound; float32 bfloat16, eager graph, CPU:0" in line
    assert "losses:unshifted as " in run.stdout
