"""How long a plan takes here: by the cells that ended, and by a trial where none has."""

import math
from dataclasses import replace

import pytest

from bench.core import plugins
from bench.core.accelerator import device_name
from bench.core.work import Rows, Work
from bench.plan.expand import expand
from bench.plan.hours import Counted
from bench.plan.suite import build_suite
from bench.runner import minutes as m
from bench.runner import paces
from bench.runner.paces import Known, setting_of
from bench.runner.pilots import Pilots, begun, begun_fit
from tests.worlds.cheap_run import CONTENT, run


def planned(**changes):
    return expand(build_suite({**CONTENT, **changes}), Pilots())


def everything(_):
    return True


def minutes(rows, left, root, flops=0.0):
    """With networks of so many FLOPs per row."""
    pairs = {(row.task_label, row.reward_label) for row in rows}
    prices = dict.fromkeys(pairs, Counted({("flow", "forward"): flops}, frozenset()))
    return m.minutes(rows, left, str(root), prices)


def test_cells_that_ended_say_how_long_a_method_takes(tmp_path):
    """A row takes what rows of the nearest setting took, and a cell what measuring took besides."""
    store, _ = run(tmp_path, methods=["prior:steps=2", "prior:steps=4"])
    cells = store.table("cells").query("status == 'ok' and paper_nfe == 4")
    each = (cells.seconds / (cells.paper_nfe * cells.n)).median()
    besides = (cells.cell_seconds - cells.seconds - cells.warmup_seconds).median()
    more = planned(methods=["prior:steps=50"], n=1000, seeds=1)
    found = minutes(more, everything, tmp_path)
    assert found.each == pytest.approx([each * 50 * 1000 + besides])
    assert (found.ended, found.tried, found.unknown) == (4, 0, ())


METHODS = ["prior:steps=50", "dps:steps=5", "prior:steps=10"]


def test_where_nothing_ended_what_takes_longest_is_tried_first(tmp_path, monkeypatch):
    clock, tried = [0.0], []
    seconds = {"prior:steps=50": 1.0, "dps:steps=5": 3.0, "prior:steps=10": 2.0}

    def trial(row):
        clock[0] += 4.0
        tried.append(row.method_label)
        return m.Pace(seconds[row.method_label])

    monkeypatch.setattr(m, "_trial", trial)
    monkeypatch.setattr(m.time, "monotonic", lambda: clock[0])
    rows = planned(methods=[*METHODS, "prior:steps=9", "prior:steps=2"], seeds=2)
    found = minutes(rows, everything, tmp_path)
    assert tried == list(seconds) and found.tried == 3, "10 s"
    # seeds take the same, and the others what the nearest does
    each = (50 * 4, 3 * 20 * 4, 2 * 10 * 4, 2 * 9 * 4, 2 * 2 * 4)
    assert found.each == tuple(own for own in each for _ in range(2))


def test_every_method_is_tried_before_another_of_its_settings(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(m, "_trial", lambda row: tried.append(row.method_label) or m.Pace(1.0))
    names = ["dps:steps=40", "dps:steps=30", "dps:steps=30,scale=rescale", "prior:steps=9"]
    minutes(planned(methods=names, seeds=1), everything, tmp_path)
    assert tried == [names[0], names[3], names[2], names[1]]


def test_a_reward_s_own_pace_goes_before_another_s_that_is_a_little_nearer():
    def at(cost):
        return setting_of("prior", {"steps": 1, "solver": "euler"}, cost)

    slow, fast = m.Pace(100.0), m.Pace(1.0)
    known = Known.of([("t", "own", at(50), fast), ("t", "other", at(100), slow)])
    assert known.pace("t", "own", at(90)) == fast and known.pace("t", "other", at(40)) == slow
    assert known.pace("t", "own", at(1000)).row == pytest.approx(1.0)
    assert known.pace("t", "new", at(90)) == slow and known.pace("t", "new", at(51)) == fast
    far = Known.of([("t", "own", at(5), fast), ("t", "other", at(100), slow)])
    assert far.pace("t", "own", at(90)) == slow


def test_a_task_on_which_nothing_runs_is_given_up_after_a_while(tmp_path, monkeypatch):
    clock, tried = [0.0], []

    def broken(row):
        clock[0] += 6.0
        tried.append(row)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(m, "_trial", broken)
    monkeypatch.setattr(m.time, "monotonic", lambda: clock[0])
    many = [f"prior:steps={k}" for k in range(1, 20)]
    found = minutes(planned(methods=many, seeds=1), everything, tmp_path)
    assert len(tried) == m.FAILURES and found.unknown == ("gmm-paper",)


FITS = ["draft-k:steps=5,iterations=300", "mfm-ft:steps=5,iterations=400"]


def test_fits_are_tried_by_themselves(tmp_path, monkeypatch):
    """A row of a fit has its backward and its optimiser, and batches of its own."""
    tried = []

    def fit_trial(row):
        tried.append(row.fit.cell.method)
        return m.Pace(100.0)

    monkeypatch.setattr(m, "_trial", lambda row: m.Pace(1.0))
    monkeypatch.setattr(m, "_fit_trial", fit_trial)
    rows = planned(methods=["prior", *FITS], budgets=["none"], seeds=2, fits="shared")
    found = minutes(rows, everything, tmp_path)
    assert sorted(tried) == ["draft-k", "mfm-ft"] and found.tried == 3
    for name in tried:
        first, second = (k for k, row in enumerate(rows) if row.cell.method == name)
        fit = 100 * rows[first].fit.predicted.cost("paper-nfe")
        assert found.each[first] - found.each[second] == pytest.approx(fit)


def test_a_fit_that_is_looked_at_says_what_it_did_in_its_seconds():
    (row,) = planned(methods=FITS[:1], budgets=["none"], seeds=1, fits="shared")
    work = begun_fit(row.fit.cell, 0.3)
    assert 0 < work.cost("paper-nfe") < row.fit.predicted.cost("paper-nfe")
    assert m._fit_trial(row).row == pytest.approx(work.seconds / work.cost("paper-nfe"), rel=3)


def test_fits_that_ended_say_how_long_one_takes(tmp_path):
    store, _ = run(tmp_path, methods=["draft-k:steps=2,iterations=3"], budgets=["none"])
    cells = store.table("cells").query("status == 'ok'")
    each = (cells.fit_seconds_total / cells.fit_paper_nfe).median()
    rows = planned(methods=["draft-k:steps=2,iterations=3"], budgets=["none"], seeds=[7], n=9)
    pair = rows[0].task_label, rows[0].reward_label
    here = m.Paces.of(str(tmp_path), device_name("cpu"), {})
    assert here.fits.middle[pair].row == pytest.approx(each)
    assert here.fit_seconds(rows[0]) == pytest.approx(
        each * rows[0].fit.predicted.cost("paper-nfe")
    )


@pytest.mark.parametrize("seconds", [math.nan, 0.0])
def test_fits_that_nobody_timed_say_nothing(tmp_path, monkeypatch, seconds):
    run(tmp_path, methods=["draft-k:steps=2,iterations=3"], budgets=["none"])
    read = paces.read_table
    monkeypatch.setattr(
        paces, "read_table", lambda *args: read(*args).assign(fit_seconds_total=seconds)
    )
    found = list(paces.ended(str(tmp_path), device_name("cpu")))
    assert found and all(cell is not None and fit is None for cell, fit in found)


def test_a_choice_of_a_method_has_its_own_pace(tmp_path, monkeypatch):
    """Exact draws and a network's differ by far more than two numbers of draws do."""
    names = [f"mfm-gf:draws={n},posterior={p}" for n in (2, 8) for p in ("exact", "map")]
    tried = []

    def trial(row):
        tried.append(row.method_label)
        return m.Pace(1.0 if row.cell.method_params["posterior"] == "exact" else 100.0)

    monkeypatch.setattr(m, "_trial", trial)
    rows = planned(methods=names, seeds=1)
    cost = [row.predicted.cost("paper-nfe") * 4 for row in rows]
    assert minutes(rows, everything, tmp_path).each == pytest.approx(
        (cost[0], 100 * cost[1], cost[2], 100 * cost[3])
    )
    assert sorted(tried) == sorted(names)
    tried.clear()
    monkeypatch.setattr(m, "TRIAL_SECONDS", 0.0)
    first, second = minutes(rows[:2], everything, tmp_path).each
    assert second / cost[1] == pytest.approx(first / cost[0])
    assert len(tried) == 1, "another choice of the method, where nothing is nearer"


def test_a_trial_is_of_the_method_and_methods_share_what_there_is_time_for(tmp_path, monkeypatch):
    monkeypatch.setattr(m, "TRIAL_SECONDS", 0.0)
    found = minutes(planned(methods=METHODS, seeds=1), everything, tmp_path)
    long, steered, short = found.each
    assert found.tried == 1 and short > 0
    assert long == pytest.approx(5 * short) and steered == pytest.approx(2 * short)


def test_many_pairs_share_the_time_for_trials_and_each_tries_a_method(tmp_path, monkeypatch):
    clock, tried = [0.0], []

    def trial(row):
        clock[0] += 4.0
        tried.append(row.reward_label)
        return m.Pace(1.0, 0.0)

    monkeypatch.setattr(m, "_trial", trial)
    monkeypatch.setattr(m.time, "monotonic", lambda: clock[0])
    rewards = [f"linear:a={k}|1" for k in range(10)]
    methods = ["prior", "dps", "mfm-g", "sir"]
    minutes(planned(methods=methods, rewards=rewards, seeds=1), everything, tmp_path)
    assert len(tried) == 10 and len(set(tried)) == 10, "3 s each"
    tried.clear()
    minutes(planned(methods=methods, rewards=rewards[:1], seeds=1), everything, tmp_path)
    assert len(tried) == 3, "10 s"


@pytest.mark.parametrize(
    ("once", "each", "drawn", "pace"),
    [
        (1.0, 0.0, [1, 8, 64, 100], 0.01),  # a loop that a batch shares
        (0.0, 2.0, [1, 8], 2.0),  # a network that takes its time for every row
        (1.0, 0.6, [1, 8, 64], 0.6 + 1 / 64),
    ],
)
def test_a_trial_grows_as_long_as_that_saves_time(monkeypatch, once, each, drawn, pace):
    seen = []

    def begun(cell, _method, n, seconds):
        assert seconds == m.GLIMPSE
        seen.append((cell.condition, n))
        return Work(Rows(n), seconds=once + each * n)

    monkeypatch.setattr(m, "begun", begun)
    (row,) = planned(methods=["prior:steps=10"], seeds=1, n=50)
    many = replace(row, cell=replace(row.cell, conditions=("a", "b")))
    assert m._trial(many).row == pytest.approx(pace)
    assert seen == [("a", n) for n in drawn]


def test_a_run_that_is_looked_at_ends_after_its_seconds_and_says_what_it_did():
    (row,) = planned(methods=["prior:steps=2000"], seeds=1)
    method = plugins.load("methods", "prior").create(steps=2000)
    part = begun(row.cell, method, 4, 0.02)
    assert 0 < part.flow.forward < 4 * 2000
    assert begun(row.cell, method, 1, 600.0).flow.forward == 2000


def test_methods_that_a_task_has_not_seen_are_tried_before_cheaper_ones(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(m, "TRIAL_SECONDS", 0.0)
    monkeypatch.setattr(m, "_trial", lambda row: tried.append(row.cell.method) or m.Pace(1.0))
    rows = planned(methods=METHODS, rewards=["linear", "inverse"], seeds=1)
    minutes(rows, everything, tmp_path)
    assert tried == ["prior", "dps"]


def test_a_large_network_is_not_loaded_for_trials(tmp_path, monkeypatch):
    monkeypatch.setattr(m, "_trial", lambda _: pytest.fail("it was tried"))
    found = minutes(planned(methods=METHODS, seeds=1), everything, tmp_path, flops=1e12)
    assert found.unknown == ("gmm-paper",) and found.total == 0


def test_a_row_that_cannot_run_is_not_tried(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(m, "_trial", lambda row: tried.append(row.method_label) or m.Pace(1.0, 0.0))
    rows = planned(methods=["prior"], seeds=1)
    never = [replace(row, status="infeasible", predicted=Work()) for row in rows]
    minutes([*never, *rows], everything, tmp_path)
    assert len(tried) == 1 and tried == [rows[0].method_label]


def test_rows_that_are_stored_take_no_time_and_a_task_that_fails_is_named(tmp_path, monkeypatch):
    rows = planned(methods=["prior:steps=50"], seeds=1)
    assert minutes(rows, lambda _: False, tmp_path).total == 0

    def broken(_):
        raise RuntimeError("no weights")

    monkeypatch.setattr(m, "_trial", broken)
    found = minutes(rows, everything, tmp_path)
    assert found.each == (None,) and found.unknown == ("gmm-paper",) and found.total == 0


def test_a_fit_counts_with_the_first_row_that_waits_for_it(monkeypatch):
    rows = planned(methods=["draft-k:steps=5,iterations=3"], tasks=["digits"],
                   rewards=["template"], budgets=["none"], fits="shared")  # fmt: skip
    known = Known(middle={("digits", "template"): m.Pace(2.0, 1.0)})
    fits = Known(middle={("digits", "template"): m.Pace(5.0)})
    known_here = m.Paces(known, {}, fits=fits)
    monkeypatch.setattr(m.Paces, "of", staticmethod(lambda *_: known_here))
    first, second = minutes(rows, everything, "").each
    assert second == pytest.approx(2 * rows[0].predicted.cost("paper-nfe") * 4 + 1)
    assert first == pytest.approx(second + 5 * rows[0].fit.predicted.cost("paper-nfe"))
