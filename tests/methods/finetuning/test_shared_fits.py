"""Workers that share a fit do the fit of one worker: its weights, its curve and its work."""

from functools import partial

import pytest
import torch
from safetensors.torch import load
from torch import nn

from bench.core.divided_workers import DividedProcesses, blocks_of, in_parts
from bench.core.params import UserError
from bench.core.workers import Alone, Processes, WorkerGone, is_for_others, own_rows
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.fitting import fit
from bench.training.trainer import Trainer
from tests.tasks.test_fits_over_prompts import ITM
from tests.tasks.test_fits_over_prompts import content as prompts
from tests.worlds.two_workers import GROUPS, together

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
NARROW = expand(build_suite(prompts(["itm:iterations=4,batch=4"], dtype="bfloat16")))[0].fit.cell
PLAIN = f"itm:{SHORT}"
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


@pytest.fixture(scope="module", params=GROUPS)
def shared(tmp_path_factory, request):
    """How the weights are held, {(rank, k): what it says of the k-th cell}, and the folder."""
    folder = tmp_path_factory.mktemp("shared")
    begin(CELLS[RESUMED], folder / str(METHODS.index(RESUMED)))
    cells = [*CELLS.values(), NARROW]
    jobs = [partial(fit, cell, None, folder / str(k)) for k, cell in enumerate(cells)]
    return request.param, together(request.param, jobs, folder), folder


def far(made, alone):
    """The largest difference of two fits' weights, in parts of the largest weight."""
    weights, others = load(alone.fitted), load(made.fitted)
    size = max(float(value.abs().max()) for value in weights.values())
    return max(float((others[name] - w).abs().max()) for name, w in weights.items()) / size


@pytest.mark.parametrize("name", CELLS)
def test_two_workers_fit_as_one(shared, name):
    (_, told, _), k = shared, list(CELLS).index(name)
    alone, ours = fit(CELLS[name], None, None), [told[rank, k] for rank in range(2)]
    first = 2 if name == RESUMED else 0
    steps = list(range(first, CELLS[name].method_params["iterations"]))
    assert [one.steps for one in ours] == [steps] * 2
    made = [one.made for one in ours]
    assert [one.ending.status for one in (alone, *made)] == ["ok"] * 3, [o.ending for o in made]
    assert max(far(one, alone) for one in made) < 1e-5
    assert [len(one.curve) for one in made] == [len(alone.curve)] * 2
    rows = [name for name in alone.work if name not in ("seconds", "peak_bytes", "flops")]
    assert {n: sum(o.work[n] for o in made) for n in rows} == {n: alone.work[n] for n in rows}
    # what a call costs whatever its rows is done by each: up to a fifth in batches of eight
    assert 1 - 1e-9 < sum(one.work["flops"] for one in made) / alone.work["flops"] < 1.2


def test_narrow_networks_are_shared_as_well(shared):
    """Casts of a weight that outlive its block would hand gradients on a step late: 3 % here."""
    _, told, _ = shared
    alone, ours = fit(NARROW, None, None), told[0, len(CELLS)].made
    assert ours.curve[-1]["match"] == pytest.approx(alone.curve[-1]["match"], rel=5e-3)
    assert far(ours, alone) < 4e-3


def test_each_worker_holds_its_part_of_what_grows_with_the_network(shared):
    """Weights, their average and the optimiser's two moments of the flow in the plane."""
    held, told, _ = shared
    k = METHODS.index(PLAIN)
    weights = load(told[0, k].made.fitted).items()  # and buffers, which do not grow
    whole = 4 * sum(value.numel() for name, value in weights if name.startswith("net."))
    ours = [told[rank, k].held for rank in range(2)]
    assert ours == [whole] * 2 if held == "whole" else sum(ours) == whole
    assert held == "whole" or max(ours) < 0.51 * whole


def test_a_fit_that_two_workers_began_is_ended_by_one(shared):
    """Checkpoints are whole, however the weights were held."""
    folder = shared[2] / str(METHODS.index(PLAIN))
    before, last = sorted((folder / "fit").iterdir())
    assert (before.stem, last.stem) == ("step-00000003", "step-00000004")
    last.unlink()
    steps, update = [], Trainer._update
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_update", lambda t: (steps.append(t.step), update(t))[1])
        ended = fit(CELLS[PLAIN], None, folder)
    assert steps == [3] and far(ended, fit(CELLS[PLAIN], None, None)) < 1e-5


def test_what_is_no_trainable_flow_is_not_divided():
    """Nothing says how its parameters are called."""
    divided = object.__new__(DividedProcesses)
    with pytest.raises(UserError, match="'weight' belongs to neither: leave fsdp out"):
        divided.divide(nn.Linear(2, 2))


def test_who_is_alone_waits_for_nobody(monkeypatch):
    """Whatever an error is called, it is then its own."""

    def broken(_):
        raise RuntimeError("my reward on NCCL hardware")

    monkeypatch.setattr(Trainer, "_update", broken)
    ending = fit(CELLS[PLAIN], None, None).ending
    assert ending.reason == "RuntimeError: my reward on NCCL hardware"


def test_a_network_whose_blocks_do_not_run_as_a_whole_is_refused():
    def said(words):
        def call():
            raise RuntimeError(words)

        return in_parts(call)

    with pytest.raises(UserError, match="runs a part of one of its blocks without the block"):
        said("aten.addmm.default got mixed torch.Tensor and DTensor, need to convert")()
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        said("shapes do not fit")()


def test_blocks_are_the_members_of_the_outermost_lists():
    net = nn.Sequential(
        nn.Linear(2, 2), nn.ModuleList([nn.ModuleList([nn.Linear(2, 2)]), nn.ReLU()])
    )
    assert list(blocks_of(net)) == [net[1][0][0]]


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
    # inside a network whose weights are gathered it is raised as it is
    assert is_for_others(RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer"))
    assert not is_for_others(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_for_others(ValueError("gloo"))
