"""Single bits flipped in what is stored: each is refused in one line, or changes no figure."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import signal
from typing import TYPE_CHECKING, Any

from lossfuzz import baseline, stored
from lossfuzz.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_SECONDS = 20
_SHOWN = 40


class _TooLongError(Exception):
    """Reading a flipped file did not end."""


def _figures(path: Path) -> Any:
    return stored.read(path, with_findings=True).to_json()


def _record(path: Path) -> Any:
    return stored.record(path, "expected a run")


def _checks(path: Path) -> Any:
    try:
        return [(one.test, one.number, one.record) for one in baseline.read_stored(path)]
    except ValueError as error:
        raise UsageError(str(error)) from None


_READERS: dict[str, tuple[tuple[str, Callable[[Path], Any]], ...]] = {
    "results.json": (("its figures", _figures), ("its record", _record)),
    "campaign.sqlite": (("its figures", _figures), ("its record", _record)),
    "baseline.json": (("its checks", _checks),),
}


def flipped(seeds: Path, scratch: Path, count: int, seed: int) -> int:
    """Flip bits one at a time; prints each that is neither refused nor without effect.

    Args:
        seeds: with ``plain/results.json``, ``night/campaign.sqlite`` and ``baseline.json``.
        scratch: a folder that is written to.
        count: of each file.
        seed: of the bits.

    Returns:
        How many flips were told wrongly.
    """
    sources = {
        "results.json": seeds / "plain" / "results.json",
        "campaign.sqlite": seeds / "night" / "campaign.sqlite",
        "baseline.json": seeds / "baseline.json",
    }
    wrong = 0
    for name, source in sources.items():
        wrong += _flipped_file(name, source, scratch / f"flips of {name}", count, seed)
    return wrong


def _flipped_file(name: str, source: Path, folder: Path, count: int, seed: int) -> int:
    folder.mkdir(parents=True)
    path = folder / name
    content = source.read_bytes()
    path.write_bytes(content)
    sound = {what: _text(read(path)) for what, read in _READERS[name]}
    bits = random.Random(seed)
    counts = {"refused": 0, "without effect": 0}
    failures: list[str] = []
    for _ in range(count):
        bit = bits.randrange(8 * len(content))
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        for what, read in _READERS[name]:
            for one in folder.iterdir():  # such as an SQLite file's journals
                one.unlink()
            path.write_bytes(damaged)
            came = _came(read, path, sound[what])
            if came in counts:
                counts[came] += 1
            else:
                failures.append(f"byte {bit // 8} bit {bit % 8}, {what}: {came}")
            if path.read_bytes() != damaged:
                failures.append(f"byte {bit // 8} bit {bit % 8}: reading changed the file")
    shutil.rmtree(folder)
    told = ", ".join(f"{number:,} {what}" for what, number in counts.items())
    print(f"{name}, {len(content):,} bytes, {count:,} bits: {told}, {len(failures):,} wrong")
    for failure in failures[:_SHOWN]:
        print(f"    {failure}")
    if len(failures) > _SHOWN:
        print(f"    and {len(failures) - _SHOWN:,} more")
    return len(failures)


def _came(read: Callable[[Path], Any], path: Path, sound: str) -> str:
    """What came of reading a damaged file."""
    try:
        with _limited():
            found = _text(read(path))
    except UsageError as error:
        return "refused" if "\n" not in str(error) else f"more than one line: {str(error)[:200]!r}"
    except _TooLongError:
        return f"it hangs: {_SECONDS} s"
    except Exception as error:  # noqa: BLE001 - whatever it raises is what is looked for
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "without effect" if found == sound else f"other figures: {_difference(sound, found)}"


def _text(record: Any) -> str:
    return json.dumps(record, sort_keys=True, default=str)


def _difference(sound: str, found: str) -> str:
    place = next(
        (k for k, (one, other) in enumerate(zip(sound, found, strict=False)) if one != other),
        min(len(sound), len(found)),
    )
    start = max(0, place - 25)
    return f"…{sound[start : place + 15]}… is now …{found[start : place + 15]}…"


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    def over(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
