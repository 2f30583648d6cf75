"""Mergeable histograms of ULP errors: 32 bins an octave, so quantiles are good to 3 %."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from lossfuzz.harness.records.fields import are_whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_BINS_PER_OCTAVE_BITS = 5
_SHIFT = np.int64(52 - _BINS_PER_OCTAVE_BITS)
_LOWEST_EXPONENT = -40
_HIGHEST_EXPONENT = 300
_FIRST = (_LOWEST_EXPONENT + 1023) << _BINS_PER_OCTAVE_BITS
_LAST = (_HIGHEST_EXPONENT + 1023) << _BINS_PER_OCTAVE_BITS
_BINS = _LAST - _FIRST + 3

ZERO_BIN = 0
"""Where errors below ``2**-40`` ulp count as none."""

INFINITE_BIN = _BINS - 1
"""Where wrong infinities and NaNs count."""

NO_OCTAVE = -11
"""Where `Octaves` count errors below ``2**-10`` ulp, or none."""

INFINITE_OCTAVE = _HIGHEST_EXPONENT + 1
"""Where `Octaves` count wrong infinities and NaNs."""


@dataclass(slots=True)
class Histogram:
    """Counts of nonnegative errors by the leading bits of their binary representation.

    Attributes:
        counts: of each bin; merging adds them, in any order, exactly.
    """

    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(_BINS, np.int64))

    def add(self, errors: NDArray[np.float64]) -> None:
        """Count errors of 0 or more; infinity is counted apart, NaN is not allowed."""
        self.consume(np.array(errors, np.float64))

    def consume(self, errors: NDArray[np.float64]) -> None:
        """The same, using up the array's memory."""
        bins = errors.ravel(order="K").view(np.int64)
        bins >>= _SHIFT
        bins -= _FIRST - 1
        np.clip(bins, ZERO_BIN, INFINITE_BIN, out=bins)
        self.counts += np.bincount(bins, minlength=_BINS)

    def merge(self, other: Histogram) -> None:
        """Add the counts of another histogram."""
        self.counts += other.counts

    @property
    def total(self) -> int:
        """How many errors were counted."""
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """The smallest bin edge below which at least that share of the errors lies.

        NaN if nothing was counted; 0 for errors that are none; infinity where the share reaches
        into wrong infinities and NaNs.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"expected a share in [0, 1], got {share}")
        if self.total == 0:
            return math.nan
        cumulative = np.cumsum(self.counts)
        index = int(np.searchsorted(cumulative, max(1, math.ceil(share * self.total))))
        return upper_edge(index)

    def to_json(self) -> list[list[int]]:
        """Runs of occupied bins: the first one's index, then the counts."""
        occupied = np.flatnonzero(self.counts)
        runs = np.split(occupied, np.flatnonzero(np.diff(occupied) > 1) + 1)
        return [[int(run[0]), *self.counts[run].tolist()] for run in runs if run.size]

    @classmethod
    def from_json(cls, record: list[list[int]]) -> Histogram:
        """The histogram that `to_json` wrote.

        Raises:
            ValueError: a run is none, or lies outside the bins.
        """
        histogram = cls()
        if not record:
            return histogram
        flat, lengths = _flat(record), np.array([*map(len, record)])
        starts = np.cumsum(lengths) - lengths
        firsts, values = flat[starts], np.delete(flat, starts)
        if firsts.min() < ZERO_BIN or (firsts + lengths - 1).max() > _BINS:
            raise ValueError(f"a run of bins lies outside a histogram of {_BINS}")
        within = np.arange(len(values)) - np.repeat(starts - np.arange(len(starts)), lengths - 1)
        histogram.counts[np.repeat(firsts, lengths - 1) + within] = values
        return histogram


def upper_edge(index: int) -> float:
    """The error at which a bin ends."""
    if index == ZERO_BIN:
        return 0.0
    if index == INFINITE_BIN:
        return math.inf
    octave, step = divmod(_FIRST + index, 1 << _BINS_PER_OCTAVE_BITS)
    return math.ldexp(1 + step / (1 << _BINS_PER_OCTAVE_BITS), octave - 1023)


@dataclass(slots=True)
class Octaves:
    """The same counts by whole octaves, for what is kept in many copies.

    Attributes:
        counts: exponent e to how many errors lie in ``[2**e, 2**(e + 1))``; `NO_OCTAVE` for
            smaller ones and `INFINITE_OCTAVE` for infinities; merging adds them exactly.
    """

    counts: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, histogram: Histogram) -> Octaves:
        """The counts of a histogram, its bins joined."""
        occupied = np.flatnonzero(histogram.counts)
        octaves = _LOWEST_EXPONENT + ((occupied - 1) >> _BINS_PER_OCTAVE_BITS)
        octaves = np.maximum(octaves, NO_OCTAVE)
        octaves[occupied == INFINITE_BIN] = INFINITE_OCTAVE
        sums = np.zeros(INFINITE_OCTAVE - NO_OCTAVE + 1, np.int64)
        np.add.at(sums, octaves - NO_OCTAVE, histogram.counts[occupied])
        return cls({int(at) + NO_OCTAVE: int(sums[at]) for at in np.flatnonzero(sums)})

    def merge(self, other: Octaves) -> None:
        """Add the counts of another one."""
        for octave, count in other.counts.items():
            self.counts[octave] = self.counts.get(octave, 0) + count

    @property
    def total(self) -> int:
        """How many errors were counted."""
        return sum(self.counts.values())

    def to_json(self) -> list[list[int]]:
        """Runs of occupied octaves: the first one's exponent, then the counts."""
        runs: list[list[int]] = []
        last = NO_OCTAVE - 2
        for octave, count in sorted(self.counts.items()):
            if octave == last + 1:
                runs[-1].append(count)
            else:
                runs.append([octave, count])
            last = octave
        return runs

    @classmethod
    def from_json(cls, record: list[list[int]]) -> Octaves:
        """The counts that `to_json` wrote.

        Raises:
            ValueError: a run is none, or lies outside the octaves.
        """
        counts = {
            first + place: count for first, run in _runs(record) for place, count in enumerate(run)
        }
        if counts and not NO_OCTAVE <= min(counts) <= max(counts) <= INFINITE_OCTAVE:
            raise ValueError(f"octaves {min(counts)} to {max(counts)} lie outside a histogram")
        return cls(counts)


def _runs(record: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
    """Runs as they were written: the place of the first one, then their counts."""
    for run in record:
        if not isinstance(run, list) or len(run) < 2 or not are_whole(run) or min(run[1:]) < 0:
            raise ValueError(_NO_RUN)
        yield run[0], run[1:]


def _flat(record: list[list[int]]) -> NDArray[np.int64]:
    """All numbers of all runs; thousands of runs are checked at once."""
    if set(map(type, record)) != {list} or min(map(len, record)) < 2:
        raise ValueError(_NO_RUN)
    flat = [*itertools.chain.from_iterable(record)]
    if not are_whole(flat) or min(flat) < 0:
        raise ValueError(_NO_RUN)
    return np.array(flat, np.int64)


_NO_RUN = "a histogram's run is no list of a place and its counts"
