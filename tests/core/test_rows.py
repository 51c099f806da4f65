"""Rows in pieces: the same numbers and the same ledger as in one piece, however little fits."""

import pytest
import torch

from bench.core import rows as core_rows
from bench.core.metering import Meter
from bench.core.params import UserError
from bench.core.rows import in_rows
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.cell import sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.problems import make_problem

METHODS = [
    "mfm-g:steps=5,draws=4,scale=clip",
    "mfm-gf:steps=5,draws=4,scale=clip",
    "mfm-g:steps=5,draws=3,posterior=gaussian",
    "mfm-g:steps=5,draws=2,posterior=glass,inner_steps=3",
    "mfm-g:steps=5,draws=2,posterior=sde,inner_steps=2",
    "mfm-g:steps=5,draws=2,posterior=jump",
    "dps:steps=5,scale=clip",
    "mpgd:steps=5",
    "lgd-mc:steps=5,draws=3",
]


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(core_rows, "_FITTED", {})


def cell_of(method, task="digits", reward="class-mixture:strength=1", n=2, **keys):
    content = {
        "name": "t",
        "tasks": [task],
        "rewards": [reward],
        "methods": [method],
        "seeds": 1,
        "n": n,
        **keys,
    }
    return expand(build_suite(content))[0].cell


class Card:
    """Memory for so many rows of a role at once; `failures` counts what did not fit."""

    def __init__(self, monkeypatch, room, role="reward", kind="forward"):
        self.room, self.role, self.kind, self.failures = room, role, kind, 0
        charge = Meter.charge

        def charging(meter, role, kind, rows, flops=0.0):
            charge(meter, role, kind, rows, flops)
            if (role, kind) == (self.role, self.kind) and rows > self.room:
                self.failures += 1
                raise torch.OutOfMemoryError(f"{rows} rows")

        monkeypatch.setattr(Meter, "charge", charging)


def sampled(cell):
    instances, meter = instances_of(cell), Meter(count_flops=True)
    problem = make_problem(cell, instances, meter, range(cell.n))
    return sample_in_batches(instances.method, problem, cell).x, meter


def agree(one, other):
    (x, meter), (y, same) = one, other
    assert (x - y).abs().max() < 1e-5 * x.abs().max()
    assert meter.work().same_rows(same.work())
    assert meter.flops() == pytest.approx(same.flops(), rel=1e-9)


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("method", METHODS)
def test_pieces_of_any_size_give_the_numbers_and_the_ledger_of_one(method, pieces):
    whole = sampled(cell_of(method))
    agree(whole, sampled(cell_of(method, resources={"rows": pieces})))


@pytest.mark.parametrize("kind", ["forward", "backward"])
def test_running_out_of_memory_changes_neither_ledger_nor_samples(kind, monkeypatch):
    cell = cell_of(METHODS[0])
    whole = sampled(cell)
    card = Card(monkeypatch, room=2, kind=kind)
    agree(whole, sampled(cell))
    first = card.failures
    assert first > 1
    agree(whole, sampled(cell))
    assert card.failures - first == 1, "the size that fits is remembered"


def test_a_decoder_that_does_not_fit_is_run_in_pieces(monkeypatch):
    cell = cell_of("mfm-g:steps=5,draws=2,scale=clip", "shapes", "prompt:strength=1")
    whole = sampled(cell)
    card = Card(monkeypatch, room=1, role="decoder")
    agree(whole, sampled(cell))
    assert card.failures


def test_exact_draws_are_scored_in_pieces():
    cell = cell_of("mfm-gf:steps=5,draws=4,posterior=exact", "gmm-paper", "quadratic")
    pieces = cell_of(
        "mfm-gf:steps=5,draws=4,posterior=exact", "gmm-paper", "quadratic", resources={"rows": 5}
    )
    assert cell.id == pieces.id
    agree(sampled(cell), sampled(pieces))


def test_a_row_that_does_not_fit_is_one_clear_error(monkeypatch):
    Card(monkeypatch, room=0)
    with pytest.raises(UserError, match=r"a single row .* does not fit the memory of 'cpu'"):
        sampled(cell_of(METHODS[0]))


def test_a_failed_piece_leaves_nothing_but_its_seconds_which_stand_apart(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("bench.core.metering.time.perf_counter", lambda: clock[0])
    meter = Meter(limit=6, unit="paper-nfe")

    def fn(x):
        meter.charge("flow", "forward", len(x), 2.0 * len(x))
        clock[0] += 1.0
        if len(x) > 2:
            raise torch.OutOfMemoryError("no")
        return 2 * x, None

    x = torch.arange(5.0)
    out, nothing = in_rows(fn, x, meter=meter)
    assert torch.equal(out, 2 * x) and nothing is None
    assert meter.work().cost("paper-nfe") == 5 and sum(meter.flops().values()) == 10
    # Of five rows, of three, then three pieces of at most two: two failures of a second each.
    assert meter.elapsed() == 3.0 and clock[0] == 5.0


def test_sizes_are_remembered_by_shape_dtype_gradient_mode_and_key():
    sizes = []

    def fn(x):
        sizes.append(len(x))
        if len(x) > 1:
            raise torch.OutOfMemoryError("no")
        return x

    x = torch.ones(2, 3)
    for call in (x, x, x.double(), x[:, :2], x.clone().requires_grad_()):
        in_rows(fn, call)
    in_rows(fn, x, key="other")
    with torch.no_grad():
        in_rows(fn, x)
    assert sizes == [2, 1, 1, 1, 1, *[2, 1, 1] * 5]


def test_no_rows_are_no_rows():
    assert in_rows(lambda x: 2 * x, torch.ones(0, 3)).shape == (0, 3)
