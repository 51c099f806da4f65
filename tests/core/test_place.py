"""A place moves networks and narrows their products, and leaves everything else as it is."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load
from torch import nn
from typer.testing import CliRunner

from bench.cli.main import app
from bench.core import plugins
from bench.core.cells import digest
from bench.core.metering import Meter
from bench.core.params import UserError
from bench.core.place import HOST, Place, modules_in
from bench.models import clip_small
from bench.plan.expand import expand
from bench.plan.resources import read_resources, requested
from bench.plan.suite import build_suite
from bench.runner.cell import Job, sample_in_batches
from bench.runner.instances import instances_of
from bench.runner.measuring import wanted_metrics
from bench.runner.problems import make_problem
from sweeps.spec import Spec
from tests.worlds.pretend_cuda import PretendCuda

WORLDS = {
    "gmm-paper": "quadratic",
    "digits": "class-mixture:strength=1",
    "shapes": "prompt:strength=1",
}
slow = pytest.mark.slow
SLOWLY = ["gmm-paper", pytest.param("digits", marks=slow), pytest.param("shapes", marks=slow)]
STEPS = {"best-of-n": 10, "best-of-n-pruned": 10}
NARROW = Place(dtype="bfloat16")


def rows_of(task, methods, n=4, reward=None, **keys):
    """The rows of the first condition."""
    content = {
        "name": "t",
        "tasks": [task],
        "rewards": [reward or WORLDS[task]],
        "methods": methods,
        "seeds": 1,
        "n": n,
        **keys,
    }
    rows = expand(build_suite(content))
    return [row for row in rows if row.cell.condition == rows[0].cell.condition]


def sampled(cell):
    instances, meter = instances_of(cell), Meter(count_flops=True)
    problem = make_problem(cell, instances, meter, range(cell.n))
    return sample_in_batches(instances.method, problem, cell), meter.work()


def short(row):
    """A cell with few steps; a fine-tuning method samples the flow that a fit would start from."""
    values = dict(row.cell.method_params)
    if "steps" in values:
        values["steps"] = min(values["steps"], STEPS.get(row.cell.method, 5))
    return replace(row.cell, method_params=values, fit="")


# -- the device -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SLOWLY)
def test_every_method_samples_on_a_card_as_on_the_cpu(task, monkeypatch):
    rows = [r for r in rows_of(task, list(plugins.points("methods")), n=2) if r.status == "pending"]
    assert len(rows) > 40
    for row in rows:
        cell = short(row)
        here, work = sampled(cell)
        with PretendCuda(monkeypatch) as card:
            there, same = sampled(replace(cell, device="cuda"))
        assert there.x.pretended, row.method_label
        assert torch.equal(here.x, there.x) and work.same_rows(same), row.method_label
        assert card.waits, "the pretended card sees who waits for it"
        monkeypatch.undo()


def test_the_pretended_card_refuses_what_meets_across_devices(monkeypatch):
    with PretendCuda(monkeypatch):
        x, y = torch.ones(2, device="cuda"), torch.ones(2)
        assert x.device.type == (x + 1).device.type == "cuda" and y.device.type == "cpu"
        with pytest.raises(RuntimeError, match="meet tensors"):
            x + y
        with pytest.raises(TypeError):
            x.numpy()
        net = nn.Linear(2, 2)
        with pytest.raises(RuntimeError, match="meet tensors"):
            net(x)
        assert net.to("cuda")(x).device.type == "cuda"


@pytest.mark.parametrize("task", SLOWLY)
def test_a_cell_is_measured_on_the_card(task, monkeypatch):
    names = tuple(name for name in wanted_metrics(task) if name != "mmd2-data")  # slow, as others
    (row, *_) = rows_of(task, ["fk:steps=5"], n=128)
    here = Job(row.cell, metrics=names).run()
    with PretendCuda(monkeypatch):
        there = Job(replace(row.cell, device="cuda"), metrics=names).run()
    assert there.ok, there.log
    assert here.samples == there.samples and here.metrics == there.metrics


def test_networks_come_back_when_a_cell_runs_on_the_cpu_again(monkeypatch):
    (row,) = rows_of("digits", ["prior:steps=5"])
    flow = instances_of(row.cell).task.flow
    with PretendCuda(monkeypatch):
        instances_of(replace(row.cell, device="cuda"))
        assert next(flow.parameters()).device.type == "cuda"
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        instances_of(row.cell)
        assert next(flow.parameters()).device.type == "cpu"


def test_networks_are_found_in_attributes_closures_and_containers():
    net, other = nn.Linear(1, 1), nn.Linear(1, 1)

    class Holder:
        def __init__(self):
            self.parts = {"a": [net]}
            self.itself = self

        def method(self):
            return self.parts

    assert list(modules_in(Holder())) == list(modules_in(Holder().method)) == [net]
    assert list(modules_in(lambda x: other(net(x)))) == [net, other]
    assert not list(modules_in(len)) and not list(modules_in(None))


# -- the precision --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "method"),
    [
        ("digits", "prior:steps=250"),
        ("digits", "mfm-g:steps=250,draws=1,scale=clip"),
        ("shapes", "prior:steps=250"),
        pytest.param("shapes", "mfm-g:steps=250,draws=1,scale=clip", marks=slow),
    ],
)
def test_narrow_networks_stay_within_a_percent_after_250_steps(task, method):
    """Clipped, as unbounded steering lets some samples change sides at any small difference."""
    (row, *_), (thin, *_) = (rows_of(task, [method], n=4, dtype=d) for d in ("float32", "bfloat16"))
    (wide, work), (narrow, same) = sampled(row.cell), sampled(thin.cell)
    assert 0 < (narrow.x - wide.x).norm() < 0.01 * wide.x.norm()
    assert narrow.x.dtype == torch.float32
    assert work.same_rows(same) and work.flops == same.flops


def test_products_are_narrow_and_everything_around_them_is_not():
    seen = []

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def velocity(self, x, t):
            hidden = self.linear(x)
            seen.extend([x.dtype, t.dtype, hidden.dtype])
            return hidden

    net, x, t = Net(), torch.ones(2, 3), torch.ones(2, dtype=torch.float64)
    assert NARROW.network(net.velocity)(x, t).dtype == torch.float32
    assert seen == [torch.float32, torch.float64, torch.bfloat16]
    assert net.linear.weight.dtype == torch.float32


def test_the_place_of_a_laptop_wraps_nothing():
    task = plugins.load("tasks", "gmm-paper").create()
    reward = plugins.load("rewards", "quadratic").create()
    assert HOST.network(len) is HOST.closed_form(len) is HOST.of(task, len) is len
    assert HOST.reward(reward, task) is reward


@pytest.mark.parametrize("method", ["oracle:steps=5", "mfm-gf:steps=5,posterior=exact", "exact"])
def test_closed_forms_are_as_exact_at_every_precision(method):
    (row,), (thin,) = (rows_of("gmm-paper", [method], dtype=d) for d in ("float32", "bfloat16"))
    assert torch.equal(sampled(row.cell)[0].x, sampled(thin.cell)[0].x)


def test_scores_and_judges_keep_the_cells_precision():
    instances = {d: instances_of(rows_of("digits", ["prior"], dtype=d)[0].cell) for d in DTYPES}
    x = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for name in ("__call__", "judge"):
        wide, narrow = (getattr(made.target.reward, name)(x, None) for made in instances.values())
        assert wide.dtype == narrow.dtype == torch.float32
        assert 0 < (wide - narrow).abs().max() < 0.3
    assert instances["bfloat16"].target.reward.params == instances["float32"].target.reward.params


DTYPES = ("float32", "bfloat16")


def test_what_is_computed_once_does_not_depend_on_who_asks_first():
    prompt = "a red circle"
    clip_small.text_features.cache_clear()
    first = NARROW.network(clip_small.text_features)(prompt)
    clip_small.text_features.cache_clear()
    assert torch.equal(first, clip_small.text_features(prompt))


def test_a_fit_runs_narrow_and_leaves_wide_weights():
    (row, *_) = rows_of("gmm-paper", ["itm:iterations=2"], dtype="bfloat16")
    attempt = Job(row.fit.cell).run()
    assert attempt.ok, attempt.log
    state = load(attempt.fitted)
    assert {value.dtype for value in state.values()} <= {torch.float32, torch.int64}
    assert Job(row.cell, fitted=attempt.fitted).run().ok


# -- identity -------------------------------------------------------------------------------------


def test_the_dtype_is_part_of_the_id_and_where_a_cell_runs_is_not():
    (row,) = rows_of("gmm:dimension=3", ["mfm-g:draws=2"], n=8, reward="quadratic")
    assert row.id == "109958a3c5d6a70c", "as it was before there was a choice"
    moved = replace(row.cell, device="cuda", resources={"gpu": 0.5})
    assert moved.id == row.id != replace(row.cell, dtype="bfloat16").id


def test_a_sweep_is_another_one_only_at_another_precision():
    spec = Spec(task="gmm-paper", reward="quadratic", methods=("dps",), budget="paper-nfe=100")
    assert digest(spec.identity()) == "4e4eff3e2413ad3c"
    assert replace(spec, device="cuda", resources={"gpu": 1.0}).identity() == spec.identity()
    assert replace(spec, dtype="bfloat16").identity() != spec.identity()


# -- what is asked for ----------------------------------------------------------------------------

RUN = ["run", "-t", "gmm-paper", "-r", "quadratic", "-m", "prior:steps=5", "-b", "none"]
REFUSED = [
    (["--device", "cuda", "--executor", "inline"], "0 CUDA devices are here: use --device cpu"),
    (["--device", "tpu", "--executor", "inline"], "unknown device 'tpu'"),
    (["--device", "cuda:1"], "Ray hands them out: use --device cuda"),
    (["--dtype", "bfloat"], "did you mean 'bfloat16'?"),
    (["--dtype", "float16", "--executor", "inline"], "use --dtype bfloat16 or --device cuda"),
    (["--set", "resources={gpu: 1.5}"], "gpu is a part of one or a whole number, not 1.5"),
    (["--set", "resources={tpu: 1}"], "cpu, gpu, memory, rows, limit, workers and fsdp: {gpu:"),
    (["--set", "resources={fsdp: true}"], "divides weights among workers: give workers as well"),
    (["--set", "resources={workers: 2, fsdp: 1}"], "fsdp is true or false, not 1"),
    (["--set", "resources={memory: much}"], "memory is a size such as 16GiB, not 'much'"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_cannot_be_had_is_refused_in_one_sentence(options, said, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    result = CliRunner().invoke(app, [*RUN, "--root", str(tmp_path), "--no-track", *options])
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)
    assert not list(tmp_path.iterdir()), "nothing was begun"


def test_a_card_without_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    Place("cuda").check()
    with pytest.raises(UserError, match="'cuda' has no bfloat16: use --dtype float16 or float32"):
        Place("cuda", "bfloat16").check()


def test_float32_on_a_card_is_float32_in_convolutions_too(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    Place("cuda").check()
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_what_ray_sets_aside_follows_from_cell_and_suite():
    (row,) = rows_of("gmm-paper", ["prior"], threads=2, resources={"gpu": 0.5, "memory": "2GiB"})
    assert requested(row.cell) == {"CPU": 2.0, "memory": 2.0**31}
    on_card = replace(row.cell, device="cuda")
    assert requested(on_card) == {"CPU": 2.0, "GPU": 0.5, "memory": 2.0**31}
    assert requested(replace(on_card, resources={}))["GPU"] == 1.0
    assert read_resources({"memory": "1.5GB", "cpu": 4}) == {"memory": 1.5e9, "cpu": 4.0}
