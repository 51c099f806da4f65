"""Workers that share a fit do the fit of one worker: its weights, its curve and its work."""

import pytest
import torch
from safetensors.torch import load
from torch import multiprocessing as mp

from bench.core.params import UserError
from bench.core.workers import Alone, Processes, WorkerGone, own_rows
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.fitting import fit
from bench.training.trainer import Trainer
from tests.methods.finetuning.shared import serve
from tests.tasks.test_fits_over_prompts import ITM
from tests.tasks.test_fits_over_prompts import content as prompts

SHORT = "iterations=4,batch=8,learning_rate=0.01"
METHODS = [
    f"adjoint-matching:{SHORT},fit_steps=4,matched=2",
    f"awm:{SHORT},group=4,fit_steps=3,points=3",
    f"draft-k:{SHORT},fit_steps=3",
    f"flow-grpo:{SHORT},group=4,fit_steps=3,spread=batch",
    f"flow-map-grpo:{SHORT},group=8,jumps=2",
    f"itm:{SHORT}",
    f"mfm-ft:{SHORT}",
    f"mfm-ft:{SHORT},estimator=G",
    f"diffusion-nft:{SHORT},group=4,fit_steps=3,points=3",
    f"vgg-flow:{SHORT},fit_steps=3,matched=2",
]


def fits(methods, task="gmm-paper", reward="linear", **more):
    """The cells of the fits behind methods."""
    given = {"tasks": [task], "rewards": [reward], "methods": methods, "n": 8, "seeds": 1, **more}
    rows = expand(build_suite({"name": "t", **given}))
    return [row.fit.cell for row in rows if row.cell.condition == rows[0].cell.condition]


CELLS = {
    **dict(zip(METHODS, fits(METHODS), strict=True)),
    "a LoRA": fits([f"itm:{SHORT},rank=2"], "digits", "class-mixture")[0],
    "prompts, base samples": expand(build_suite(prompts([ITM])))[0].fit.cell,
}
RESUMED = METHODS[3]
"""One worker begins it and ends after two of its four steps; two go on."""


def begin(cell, folder):
    """The first two steps of a fit, by one worker that is then interrupted."""
    save = Trainer._save

    def stop(trainer):
        save(trainer)
        if trainer.step == 2:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(cell, None, folder)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """{(rank, k): result} of the k-th cell, by two processes."""
    folder = tmp_path_factory.mktemp("shared")
    begin(CELLS[RESUMED], folder / str(METHODS.index(RESUMED)))
    work = [(cell, folder / str(k)) for k, cell in enumerate(CELLS.values())]
    context = mp.get_context("spawn")
    answers = context.Queue()
    ranks = [
        context.Process(target=serve, args=(rank, folder / "meeting", work, answers), daemon=True)
        for rank in range(2)
    ]
    for rank in ranks:
        rank.start()
    told = [answers.get(timeout=300) for _ in range(2 * len(CELLS))]
    return {(rank, k): (made, steps) for rank, k, made, steps in told}


@pytest.mark.parametrize("name", CELLS)
def test_two_workers_fit_as_one(shared, name):
    k = list(CELLS).index(name)
    alone = fit(CELLS[name], None, None)
    ours, steps = zip(*(shared[rank, k] for rank in range(2)), strict=True)
    first = 2 if name == RESUMED else 0
    assert steps[0] == steps[1] == list(range(first, CELLS[name].method_params["iterations"]))
    assert [one.ending.status for one in (alone, *ours)] == ["ok"] * 3, [o.ending for o in ours]
    weights, *others = (load(one.fitted) for one in (alone, *ours))
    size = max(float(value.abs().max()) for value in weights.values())
    for other in others:
        assert all((other[n] - w).abs().max() < 1e-5 * size for n, w in weights.items())
    assert [len(one.curve) for one in ours] == [len(alone.curve)] * 2
    rows = [name for name in alone.work if name not in ("seconds", "peak_bytes", "flops")]
    assert {n: sum(o.work[n] for o in ours) for n in rows} == {n: alone.work[n] for n in rows}


def test_rows_that_cannot_be_shared_equally_are_refused():
    """The mean of the workers' means would not be the mean over the rows."""
    assert [list(own_rows(Alone(rank, 2), 4)) for rank in range(2)] == [[0, 1], [2, 3]]
    with pytest.raises(UserError, match="2 workers cannot share 3 rows equally"):
        own_rows(Alone(0, 2), 3)


def test_what_torch_raises_for_a_worker_that_is_gone_is_that(monkeypatch):
    def broken(*_):
        raise RuntimeError("Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 0)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", broken)
    with pytest.raises(WorkerGone, match="another worker of this training has ended: Connection"):
        Processes().average([torch.ones(2)])
