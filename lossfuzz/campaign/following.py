"""What killed a worker: the batch that it ran last, one row of it, or the calls of its life.

Each question is put to a fresh worker, and all of them together have a budget: a path that kills
or hangs its process costs a campaign a bounded time, and is one finding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from lossfuzz.campaign.bisection import cell_named, record, rows_of
from lossfuzz.campaign.messages import Lost, Request
from lossfuzz.harness.results.kinds import CRASH, TIMEOUT
from lossfuzz.reports.words import amount

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lossfuzz.campaign.messages import Place
    from lossfuzz.harness.results.findings import Finding
    from lossfuzz.plan import Plan

Ask = Callable[[Request], Lost | None]
"""Has a request carried out; returns how its worker was lost, None if it was not."""

_LEAST_SECONDS, _MOST_SECONDS, _LIMITS = 60.0, 120.0, 4
"""What following one loss may take: so many time limits, but not less and not more than that."""

_USUAL_TIMES, _USUAL_MORE, _SURE_SECONDS = 3.0, 2.0, 30.0
"""A probe hangs after so many of the longest time that its cell took before, and so many more
seconds; where a finding rests on it, it is given the last ones at least, or the time limit."""

_STAY_SECONDS = 1.5
"""How long a probe's worker stays after its call, where the one before died after its call."""

_PROBES_OF_OUTSIDE = 3
_OTHER_PATHS = 3


class Following:
    """Questions to fresh workers about one that was lost."""

    def __init__(self, plan: Plan, seconds: float, ask: Ask, tell: Callable[[str], None]) -> None:
        """Nothing asked.

        Args:
            plan: the campaign's.
            seconds: the time limit of a call.
            ask: a worker.
            tell: the user what is being asked.
        """
        self._plan, self._seconds, self._ask, self._tell = plan, seconds, ask, tell
        self._deadline = 0.0

    @property
    def budget(self) -> float:
        """Seconds that following one loss may take."""
        return min(max(_LIMITS * self._seconds, _LEAST_SECONDS), _MOST_SECONDS)

    def batch(self, lost: Lost, place: Place) -> Finding | None:
        """The finding of a batch that kills or hangs a cell's process by itself; else None.

        A death by a signal that others send has to come again several times.
        """
        self._deadline = time.monotonic() + self.budget
        self._tell(f"following {_what(lost)} of {place.cell}")
        again: Lost | None = None
        for _ in range(_PROBES_OF_OUTSIDE if lost.outside else 1):
            again = self._probe(lost, place, None, sure=True)
            if again is None:
                return None
        if again is None:
            return None
        seen = lost if lost.timeout == again.timeout else again
        row, why = None, ""
        if place.made is not None:
            self._tell(f"following {_what(seen)} of {place.cell} to its row")
            row, why = self._row(seen, place)
        kind = TIMEOUT if seen.timeout else CRASH
        return record(kind, self._plan, place, row, seen.reason + why)

    def history(self, lost: Lost) -> Finding | None:
        """The finding of calls that kill or hang a worker one after the other; else None.

        The calls of the last one's path are made again, then those of others, then all of them.
        """
        self._deadline = time.monotonic() + self.budget
        by_path: dict[str, list[Place]] = {}
        for call in reversed(lost.calls):
            by_path.setdefault(self._path(call), []).append(call)
        sequences = [calls[::-1] for calls in by_path.values()][: _OTHER_PATHS + 1]
        if len(by_path) > 1:
            sequences.append(list(lost.calls))
        for calls in sequences:
            if time.monotonic() > self._deadline:
                return None
            paths = len({self._path(call) for call in calls})
            who = self._path(calls[-1]) if paths == 1 else amount(paths, "path")
            count = amount(len(calls), "call")
            self._tell(f"following {_what(lost)}: the last {count} of {who} again, in order")
            again = self._replay(lost, calls)
            if again is not None and again.place is not None:
                return record(
                    TIMEOUT if again.timeout else CRASH,
                    self._plan,
                    again.place,
                    None,
                    f"{again.reason}{_needed(len(again.calls), paths)}",
                )
        return None

    def unexplained(self, losses: Sequence[Lost], place: Place) -> Finding:
        """The finding of workers that died at a cell, none of which did so again when asked."""
        last = losses[-1]
        return record(
            TIMEOUT if last.timeout else CRASH,
            self._plan,
            place,
            None,
            f"{last.reason}; {amount(len(losses), 'worker')} were lost on this task, the last one "
            f"at this cell, but none when the last {amount(len(last.calls), 'call')} were made "
            "again: it does not repeat",
        )

    def _row(self, like: Lost, place: Place) -> tuple[int | None, str]:
        """The row that does it alone, by halving, or why none is told."""
        start, stop = 0, rows_of(place.made or {})
        while stop - start > 1:
            if time.monotonic() > self._deadline:
                return None, f" (no single row was isolated within {self.budget:g} s)"
            middle = (start + stop) // 2
            alone = middle - start == 1
            if self._does_it(like, place, (start, middle), sure=alone):
                if alone:
                    return start, ""
                stop = middle
            else:
                start = middle
        if self._does_it(like, place, (start, stop), sure=True):
            return start, ""
        return None, " (no single row of the batch was found to do it alone)"

    def _does_it(
        self, like: Lost, place: Place, rows: tuple[int, int], *, sure: bool = False
    ) -> bool:
        """Whether some rows lose a worker in the same way."""
        lost = self._probe(like, place, rows, sure=sure)
        return lost is not None and lost.timeout == like.timeout

    def _probe(
        self, like: Lost, place: Place, rows: tuple[int, int] | None, *, sure: bool = False
    ) -> Lost | None:
        """Run a batch, or rows of it, through a cell alone; None if the worker survives."""
        body = {
            "number": place.task,
            "cell": place.cell,
            "made": dict(place.made) if place.made else None,
            "rows": list(rows) if rows else None,
            "stay": _STAY_SECONDS if like.away else 0.0,
        }
        seconds = self._patience(like, sure=sure)
        request = Request(
            kind="probe", key=f"probe {place.task}", group=-1, body=body, seconds=seconds
        )
        return self._asked(request, like)

    def _replay(self, like: Lost, calls: Sequence[Place]) -> Lost | None:
        """Make calls again in a fresh worker, in about the time that they took."""
        body = {
            "calls": [[one.task, one.cell, one.made and dict(one.made)] for one in calls],
            "seconds": max(0.0, self._deadline - time.monotonic()),
            "stay": like.seconds + _STAY_SECONDS,
        }
        return self._asked(
            Request(kind="replay", key="replay", group=-1, body=body, fresh=True), like
        )

    def _asked(self, request: Request, like: Lost) -> Lost | None:
        """How a request's worker was lost to it; again, where others seem to have ended it."""
        for _ in range(_PROBES_OF_OUTSIDE):
            lost = self._ask(request)
            if lost is None:
                return None
            if lost.place is not None and (like.outside or not lost.outside):
                return lost
        return None

    def _patience(self, like: Lost, *, sure: bool) -> float:
        """Seconds that a probe may take: no more than are needed to tell that it hangs."""
        if not like.timeout or like.usual is None:
            return self._seconds
        needed = _USUAL_TIMES * like.usual + _USUAL_MORE
        return min(self._seconds, max(needed, _SURE_SECONDS) if sure else needed)

    def _path(self, place: Place) -> str:
        return cell_named(self._plan, place.task, place.cell).path.name


def _needed(calls: int, paths: int) -> str:
    """How many calls it takes, as the end of a message."""
    if calls == 1:
        return ", a while after a call of this path had returned"
    whose = "this path" if paths == 1 else f"{amount(paths, 'path')} in turns"
    return (
        f"; it takes {amount(calls, 'call')} of {whose} in one process, the last of which does "
        "not do it alone"
    )


def _what(lost: Lost) -> str:
    return "a hang" if lost.timeout else "a crash"
