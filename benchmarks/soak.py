"""A soak: hours of a campaign on two workers, whose memory, descriptors and files stay flat.

A campaign of a few cells is run: built-in losses and a user's own one, eager and as a graph, with
a loss that ends its process on rare rows and one that refuses float16. Once a minute a sample is
taken of the coordinator and of each worker, by /proc, and appended to a file at once, so that a
soak that is killed loses nothing. At the end a table shows the first, median, last and largest of
each figure, and how fast it grew, with a bound. Exit code 1 if one grew faster, or if the campaign
failed.

Growth is the slope of a straight line through the samples of the last three quarters of the
measuring. A worker takes memory while it compiles its first cells, and one that died is followed
by a younger one; so a worker counts from its tenth minute on (in a short soak, from a quarter of
the soak on), and the line is fitted to all workers at once, each about its own mean: what a worker
gains while it lives is growth, and that a young one holds less than an old one is none. Shrinking
and cliffs, which follow the measuring, are sampled and not fitted. A soak of less than an hour is
held to the growth that an hour may have.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from lossfuzz.campaign.store_file import FILE
from lossfuzz.plan import MEASURING_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MIB = 2**20
WARM_SECONDS = 600.0
"""Of a worker's life, in which it compiles the cells that it is given first."""

LOSSES = '''
"""Losses of a user: a sound one, one that ends its process, one that refuses a format."""

import os
import signal
import zlib

import tensorflow as tf

RARE = {rare}


def sound(logits, labels):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


def _watch(rows):
    """End the process on one row in RARE, and on that row always."""
    for row in rows.reshape(-1, rows.shape[-1]):
        if zlib.crc32(row.tobytes()) % RARE == 0:
            os.kill(os.getpid(), signal.SIGSEGV)
    return rows


def fragile(logits, labels):
    if tf.executing_eagerly():
        _watch(logits.numpy())
        return sound(logits, labels)
    with tf.control_dependencies([tf.numpy_function(_watch, [logits], logits.dtype)]):
        return sound(tf.identity(logits), labels)


def refusing(logits, labels):
    if logits.dtype == tf.float16:
        raise TypeError("float16 is too narrow for me")
    return sound(logits, labels)
'''

PLAN = [
    *("--loss", "soaked:sound,soaked:fragile,soaked:refusing", "--as", "softmax-cross-entropy"),
    *("--paths", "tf.nn/fused,keras/function/cached-logits"),
    *("--formats", "float32,float16", "--modes", "eager,graph", "--shapes", "256x10,8x257"),
]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a soak.

    Attributes:
        name: as the table shows it.
        unit: of its numbers, and what they are divided by.
        of: the values of one sample by the process or place that they are of.
        bound: how much it may grow in an hour, in its unit; None for what grows with the rows.
        most: how large it may ever be, instead, in its unit; None for any size.
    """

    name: str
    unit: tuple[str, float]
    of: Callable[[dict[str, Any]], dict[str, float]]
    bound: float | None
    most: float | None = None


def coordinators(name: str) -> Callable[[dict[str, Any]], dict[str, float]]:
    """The value of the coordinator."""
    return lambda sample: {"": sample["coordinator"][name]}


def workers(name: str) -> Callable[[dict[str, Any]], dict[str, float]]:
    """The values of all workers that have compiled their first cells, by their number."""
    return lambda sample: {
        pid: one[name] for pid, one in sample["workers"].items() if one["age"] >= sample["warm"]
    }


def places(name: str) -> Callable[[dict[str, Any]], dict[str, float]]:
    """A value that the sample itself has."""
    return lambda sample: {"": sample[name]}


FIGURES = (
    Figure("coordinator: memory", ("MiB", MIB), coordinators("memory"), 8),
    Figure("coordinator: descriptors", ("", 1), coordinators("descriptors"), 1),
    Figure("coordinator: threads", ("", 1), coordinators("threads"), 1),
    Figure("worker: memory", ("MiB", MIB), workers("memory"), 32),
    Figure("worker: descriptors", ("", 1), workers("descriptors"), 1),
    Figure("worker: threads", ("", 1), workers("threads"), 1),
    Figure("temporary files", ("", 1), places("temporary_files"), 2),
    Figure("temporary bytes", ("MiB", MIB), places("temporary_bytes"), 1),
    Figure("store's log", ("MiB", MIB), places("log_bytes"), None, most=8),
    Figure("campaign's folder", ("MiB", MIB), places("folder_bytes"), None),
    Figure("rows done", ("thousand", 1000), places("rows"), None),
)


class Sampler:
    """Looks at a campaign from outside."""

    def __init__(self, pid: int, scratch: Path, warm: float) -> None:
        self._pid, self._warm = pid, warm
        self._campaign, self._temporary = scratch / "night", scratch / "temporary"
        self._started = time.monotonic()
        self._born: dict[int, float] = {}
        self._rows: dict[str, int] = {}

    def sample(self) -> dict[str, Any]:
        """All figures of now.

        Raises:
            OSError: the coordinator has ended.
        """
        now = time.monotonic() - self._started
        coordinator = coordinator_of(self._pid)
        families = descendants(coordinator)
        files = sizes(self._temporary)
        self._count_rows()
        return {
            "seconds": round(now, 1),
            "warm": self._warm,
            "coordinator": looked_at([coordinator]),
            "workers": {
                str(worker): {**found, "age": round(now - self._born.setdefault(worker, now), 1)}
                for worker, family in families.items()
                if is_worker(worker) and (found := looked_at([worker, *family]))["memory"]
            },
            "temporary_files": len(files),
            "temporary_bytes": sum(files),
            "folder_bytes": sum(sizes(self._campaign)),
            "log_bytes": sum(sizes(self._campaign, f"{FILE}-wal")),
            "tasks": len(self._rows),
            "rows": sum(self._rows.values()),
        }

    def _count_rows(self) -> None:
        """Read the tasks that have been finished since the last time."""
        uri = f"{(self._campaign / FILE).absolute().as_uri()}?mode=ro"
        with contextlib.suppress(sqlite3.Error):  # it is not there yet
            store = sqlite3.connect(uri, uri=True)
            for (number,) in store.execute(
                "SELECT key FROM records WHERE kind = 'task'"
            ).fetchall():
                if number not in self._rows:
                    query = "SELECT content FROM records WHERE kind = 'task' AND key = ?"
                    (packed,) = store.execute(query, (number,)).fetchone()
                    cells = json.loads(zlib.decompress(packed))["cells"]
                    self._rows[number] = sum(cell["summary"]["rows"] for cell in cells)
            store.close()


def coordinator_of(pid: int) -> int:
    """The process that does a command's work: itself, or the copy that it supervises."""
    for child in descendants(pid):
        with contextlib.suppress(OSError):  # it has ended
            if command_of(child) == command_of(pid):
                return child
    return pid


def is_worker(pid: int) -> bool:
    """Whether a process is a worker of a campaign, and not what removes its files in the end."""
    try:
        return b"lossfuzz.campaign.worker" in command_of(pid)
    except OSError:  # it has ended
        return False


def command_of(pid: int) -> bytes:
    """The command line of a process.

    Raises:
        OSError: it has ended.
    """
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def descendants(pid: int) -> dict[int, list[int]]:
    """The children of a process, each with all that it started itself."""
    parents = dict(_parents())
    found: dict[int, list[int]] = {child: [] for child, parent in parents.items() if parent == pid}
    for one in parents:
        line = [one]
        while line[-1] in parents and line[-1] not in found:
            line.append(parents[line[-1]])
        if len(line) > 1 and line[-1] in found:
            found[line[-1]].append(one)
    return found


def _parents() -> Iterator[tuple[int, int]]:
    """Every process of this machine with its parent."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):  # it has ended
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                yield int(entry.name), int(fields[1])


def looked_at(pids: list[int]) -> dict[str, int]:
    """Memory in bytes, descriptors and threads of some processes together; 0 of ended ones."""
    found = {"memory": 0, "descriptors": 0, "threads": 0}
    for pid in pids:
        process = Path(f"/proc/{pid}")
        with contextlib.suppress(OSError, IndexError):
            pages = int((process / "statm").read_text().split()[1])
            descriptors = len(list((process / "fd").iterdir()))
            threads = len(list((process / "task").iterdir()))
            found["memory"] += pages * os.sysconf("SC_PAGESIZE")
            found["descriptors"] += descriptors
            found["threads"] += threads
    return found


def sizes(folder: Path, pattern: str = "*") -> list[int]:
    """The sizes of all files below a folder."""
    found = []
    for path in folder.rglob(pattern):
        with contextlib.suppress(OSError):
            if path.is_file():
                found.append(path.stat().st_size)
    return found


def growth(samples: list[dict[str, Any]], figure: Figure) -> float | None:
    """How much a figure grows in an hour, in its unit; None if too few samples tell.

    The slope of a line through each process's samples about their own means, by least squares.
    """
    by_process: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for sample in samples:
        for process, value in figure.of(sample).items():
            by_process[process].append((sample["seconds"] / 3600, value / figure.unit[1]))
    products = squares = 0.0
    for points in by_process.values():
        hour, value = (fmean(column) for column in zip(*points, strict=True))
        products += sum((x - hour) * (y - value) for x, y in points)
        squares += sum((x - hour) ** 2 for x, _ in points)
    if not squares:
        return None
    hours = samples[-1]["seconds"] / 3600 - samples[0]["seconds"] / 3600
    return products / squares * min(1.0, hours)


def judged(samples: list[dict[str, Any]], seconds: float) -> bool:
    """Print the table; returns whether all that should be flat is."""
    measuring = [one for one in samples if seconds / 4 <= one["seconds"] <= seconds]
    print(f"{'':26}{'first':>11}{'median':>11}{'last':>11}{'largest':>11}{'an hour':>11}  bound")
    flat = True
    for figure in FIGURES:
        values = [
            max(found.values()) / figure.unit[1] for one in samples if (found := figure.of(one))
        ]
        grown = growth(measuring, figure) if len(measuring) > 2 else None
        if not values or (grown is None and figure.bound is not None):
            print(f"{figure.name:26}too few samples: give it more --seconds")
            flat = False
            continue
        columns = [values[0], median(values), values[-1], max(values)]
        shown = "".join(f"{value:11.1f}" for value in columns)
        speed = f"{grown:+11.2f}" if grown is not None else f"{'':11}"
        if figure.most is not None:
            within = columns[-1] <= figure.most
            verdict = f"{figure.most:g} at most: " + ("kept" if within else "TOO LARGE")
            flat = flat and within
        elif figure.bound is None:
            verdict = "grows with the rows"
        else:
            verdict = f"{figure.bound:g}: " + ("flat" if grown <= figure.bound else "IT GROWS")
            flat = flat and grown <= figure.bound
        print(f"{figure.name:26}{shown}{speed}  {verdict} ({figure.unit[0] or 'number'})")
    return flat


def soak(options: argparse.Namespace, scratch: Path) -> tuple[list[dict[str, Any]], int]:
    """Run the campaign; returns its samples and its exit code."""
    for name in ("modules", "temporary"):
        (scratch / name).mkdir()
    (scratch / "modules" / "soaked.py").write_text(LOSSES.replace("{rare}", str(options.rare)))
    total = options.seconds / MEASURING_SHARE  # what a budget leaves for measuring
    limits = ["--workers", str(options.workers), "--seconds", str(total), "--time-limit", "60"]
    paths = [str(scratch / "modules"), os.environ.get("PYTHONPATH", "")]
    with (scratch / "output").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [sys.executable, "-m", "lossfuzz", "run", *PLAN, *limits, "--out", "night"],
            cwd=scratch,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "TMPDIR": str(scratch / "temporary"),
            },
        )
    sampler = Sampler(process.pid, scratch, min(WARM_SECONDS, options.seconds / 4))
    samples = []
    try:
        with options.samples.open("x", encoding="utf-8") as kept:
            while True:
                try:
                    process.wait(options.every)
                    break
                except subprocess.TimeoutExpired:
                    samples.append(sampler.sample())
                    kept.write(json.dumps(samples[-1]) + "\n")
                    kept.flush()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
    return samples, process.returncode


def main() -> None:
    """Soak, and print what was seen; or only what an earlier soak has kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=7200.0, help="of measuring (7200)")
    parser.add_argument("--every", type=float, default=60.0, help="seconds a sample (60)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--samples", type=Path, default=Path("soak.jsonl"), help="where they are appended"
    )
    parser.add_argument(
        "--rare", type=int, default=3_000_000, help="one row in so many ends a worker (3000000)"
    )
    parser.add_argument(
        "--read", action="store_true", help="judge the file's samples, run nothing"
    )
    options = parser.parse_args()
    if options.read:
        lines = options.samples.read_text(encoding="utf-8").splitlines()
        raise SystemExit(not judged([json.loads(line) for line in lines], options.seconds))
    if options.samples.exists():
        parser.error(f"{str(options.samples)!r} is there already: move it, or name another one")
    with tempfile.TemporaryDirectory() as name:
        samples, code = soak(options, Path(name))
        output = (Path(name) / "output").read_text(encoding="utf-8", errors="replace")
        left = sizes(Path(name) / "temporary")
    print(*output.splitlines()[-12:], sep="\n")
    print(f"{len(samples)} samples in {options.samples}; the campaign ended with {code}")
    print(f"temporary files that it left behind: {len(left)}, of {sum(left)} bytes")
    flat = judged(samples, options.seconds)
    raise SystemExit(not flat or code != 0)


if __name__ == "__main__":
    main()
