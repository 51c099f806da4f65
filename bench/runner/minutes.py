"""How long what is left of a plan takes on this machine, by cells that ended here and by trials.

A cell takes its rows, counted as paper-nfe, times the seconds of a row, and what measuring its
samples takes besides (`bench.runner.paces`).  Where nothing has been run, methods of every task and
reward are begun as they are planned, the dearest first, for as many seconds as there are for
trials; the others take what the nearest of these takes, or all of them in the middle.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.core import plugins
from bench.core.accelerator import device_name
from bench.core.cells import Cell, Planned
from bench.core.methods import Method
from bench.core.units import DEFAULT
from bench.plan.hours import Counted
from bench.runner.paces import Known, Pace, Setting, ended, setting_of
from bench.runner.pilots import begun, begun_fit

TRIAL_SECONDS = 10.0
"""After so many no further method of a task and reward is tried."""

FITS_SECONDS = 20.0
"""Of all trials of fits; each pair that has some tries one at least."""

PLAN_SECONDS = 30.0
"""Of all trials, which the pairs of a task and a reward share; each tries one method at least."""

GLIMPSE, FIT_GLIMPSE = 0.2, 1.5
"""Seconds for which a run, or a fit, is looked at."""

FAILURES = 3
"""Rows that are tried at most, whatever time is left, if none of them runs."""

GROWTH = 8
"""A trial begins with one sample, then so many times as many, as long as that saves time a row."""

SAVES = 1.2
"""Times fewer seconds a row, at the least."""

LARGE = 1e10
"""FLOPs of a row above which a network is not loaded for trials."""


Pair = tuple[str, str]
"""A task and a reward."""


@dataclass(frozen=True)
class Minutes:
    """Seconds of each planned row in turn, None where it is not known; and how they were found.

    A row that is not left to compute takes none.  unknown: tasks that cannot be tried here.
    """

    each: tuple[float | None, ...]
    ended: int
    tried: int
    unknown: tuple[str, ...]

    @property
    def total(self) -> float:
        """Of all that is known, one cell after another."""
        return sum(each for each in self.each if each is not None)


@dataclass
class Paces:
    """What is known of this machine; `tried` counts the trials that were made for it.

    prices: FLOPs per row of the networks of every pair of a task and a reward.
    """

    known: Known
    prices: Mapping[Pair, Counted]
    ended: int = 0
    tried: int = 0
    unknown: dict[str, None] = field(default_factory=dict)
    fits: Known = field(default_factory=Known)

    @staticmethod
    def of(root: str, device: str, prices: Mapping[Pair, Counted]) -> Paces:
        """From the finished cells below a root, of a device of this name."""
        found = list(ended(root, device)) if Path(root).is_dir() else []
        cells = [cell for cell, _ in found if cell is not None]
        fits = [fit for _, fit in found if fit is not None]
        return Paces(Known.of(cells), prices, len(cells), fits=Known.of(fits))

    def look(self, left: Iterable[Planned]) -> None:
        """Try what is left of every pair of a task and a reward of which nothing is known."""
        pairs: dict[Pair, list[Planned]] = {}
        for row in left:
            pairs.setdefault((row.task_label, row.reward_label), []).append(row)
        for pair, rows in pairs.items():
            if pair not in self.known.middle and pair[0] not in self.unknown:
                self._try(pair, rows)
            if pair not in self.fits.middle and pair[0] not in self.unknown:
                self._try_fits(pair, [row for row in rows if row.fit is not None])

    def seconds(self, row: Planned) -> float | None:
        """Of one cell that is left, without its fit; None if nothing is known."""
        setting = _setting(row)
        pace = self.known.pace(row.task_label, row.reward_label, setting)
        if pace is None:
            return None
        return pace.row * setting.cost * row.cell.total + pace.besides

    def fit_seconds(self, row: Planned) -> float:
        """Of the fit behind a row; if no fit is known, by the pace of what samples."""
        pair = row.task_label, row.reward_label
        pace = self.fits.pace(*pair, _fit_setting(row)) or self.known.middle.get(pair)
        return 0.0 if pace is None else pace.row * _fit_setting(row).cost

    def _try(self, pair: Pair, rows: Sequence[Planned]) -> None:
        """Run the rows of a pair, while there is time; a task that none runs on is unknown."""
        share = min(TRIAL_SECONDS, PLAN_SECONDS / len(self.prices))
        some = {_setting(row): row for row in _triable(rows) or rows[:1]}
        there = self.known.settings.get((pair[0], ""), {})
        found = {} if self._large(pair) else _timed(_in_turn(some, there), _trial, share)
        self.tried += len(found)
        if found:
            self.known.learn(*pair, found)
        else:
            self.unknown[pair[0]] = None

    def _try_fits(self, pair: Pair, rows: Sequence[Planned]) -> None:
        """Begin the fits of a pair that are new to the task, while there is time."""
        there = self.fits.settings.get((pair[0], ""), {})
        some = {_fit_setting(row): row for row in rows if _fit_setting(row) not in there}
        share = FITS_SECONDS / max(1, len(self.prices))
        if found := _timed(_in_turn(some, there), _fit_trial, share):
            self.fits.learn(*pair, found)
            self.tried += len(found)

    def _large(self, pair: Pair) -> bool:
        return max(self.prices[pair].flops.values(), default=0.0) > LARGE


def _in_turn(rows: Mapping[Setting, Planned], there: Container[Setting]) -> dict[Setting, Planned]:
    """The rows from dear to cheap: first one of every method, then of every choice of its
    parameters, then the others; of each first those that are not there.

    What takes longest is what an error would be large in.
    """
    dear = sorted(rows, key=lambda setting: setting.cost, reverse=True)
    methods = {setting.method: setting for setting in reversed(dear)}.values()
    kinds = {setting[:2]: setting for setting in reversed(dear)}.values()

    def rank(setting: Setting) -> tuple[bool, bool, bool]:
        return setting in there, setting not in methods, setting not in kinds

    return {setting: rows[setting] for setting in sorted(dear, key=rank)}


def _timed(
    rows: Mapping[Setting, Planned], trial: Callable[[Planned], Pace], seconds: float
) -> dict[Setting, Pace]:
    """Paces of the first rows, for so many seconds or at least until one, or a few, were tried."""
    found, end = dict[Setting, Pace](), time.monotonic() + seconds
    for k, (setting, row) in enumerate(rows.items()):
        if time.monotonic() > end and (found or k >= FAILURES):
            break
        with suppress(Exception):  # whatever keeps it from running is said by `bench run`
            found[setting] = trial(row)
    return found


def minutes(
    rows: Sequence[Planned],
    left: Callable[[Planned], bool],
    root: str,
    prices: Mapping[Pair, Counted],
) -> Minutes:
    """What is left of a plan; a fit counts with the first row that waits for it.

    prices: FLOPs per row of the networks of every pair of a task and a reward that has rows left.
    """
    devices = {row.cell.device for row in rows}
    paces = Paces.of(root, device_name(next(iter(devices), "cpu")), prices)
    paces.look(filter(left, rows))
    fits = set[str]()

    def took(row: Planned) -> float | None:
        if not left(row):
            return 0.0
        own = paces.seconds(row)
        if own is None or row.fit is None or row.fit.id in fits:
            return own
        fits.add(row.fit.id)
        return own + paces.fit_seconds(row)

    each = tuple(map(took, rows))
    return Minutes(each, paces.ended, paces.tried, tuple(paces.unknown))


def _triable(rows: Iterable[Planned]) -> list[Planned]:
    return [row for row in rows if row.fit is None and row.status == "pending"]


def _setting(row: Planned) -> Setting:
    return setting_of(row.cell.method, row.cell.method_params, row.predicted.cost(DEFAULT))


def _fit_setting(row: Planned) -> Setting:
    assert row.fit is not None
    cost = row.fit.predicted.cost(DEFAULT)
    return setting_of(row.fit.cell.method, row.fit.cell.method_params, cost)


def _fit_trial(row: Planned) -> Pace:
    """Of the fit behind a planned row."""
    assert row.fit is not None
    work = begun_fit(row.fit.cell, FIT_GLIMPSE)
    return Pace(work.seconds / work.cost(DEFAULT))


def _trial(row: Planned) -> Pace:
    """Of a planned row, under the first of many conditions; the first look warms up."""
    cell = row.cell.each[0]
    method = plugins.load("methods", cell.method).create(**cell.method_params)
    n, most = 1, min(row.cell.total, cell.batch)
    pace = _glimpse(cell, method, n)
    while n < most:
        n = min(GROWTH * n, most)
        before, pace = pace, _glimpse(cell, method, n)
        if pace * SAVES > before:
            break
    return Pace(pace)


def _glimpse(cell: Cell, method: Method[Any], n: int) -> float:
    """Seconds of a row in a batch of n samples."""
    work = begun(cell, method, n, GLIMPSE)
    return work.seconds / work.cost(DEFAULT)
