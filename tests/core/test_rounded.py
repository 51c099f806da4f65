"""Weights that are kept rounded make the bits that autocast makes of whole ones."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from bench.core import plugins
from bench.core.place import Place, modules_in
from bench.core.rounded import LAYERS, _rounded_copy, keep_rounded, part_at
from bench.runner.cell import Job
from bench.runner.instances import instances_of
from tests.core.test_place import rows_of, sampled
from tests.worlds.pipeline_flows import PROMPT, flow_of, noise, planned_rows
from tests.worlds.tiny_pipelines import PIPELINES

NARROW = Place(dtype="bfloat16")
DTYPES = ("float32", "bfloat16")


def both(flow, x, condition=None):
    """b and the gradient of its sum of squares, at the narrow place."""
    leaf, t = x.clone().requires_grad_(), torch.full((len(x),), 0.4)
    told = () if condition is None else (condition,)
    out = NARROW.network(flow.velocity)(leaf, t, *told)
    return out, torch.autograd.grad(out.square().sum(), leaf)[0]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def rounded(module):
    other = copy.deepcopy(module).requires_grad_(False)
    keep_rounded(other, NARROW)
    return other


def narrow_layers(module):
    return [p.dtype == torch.bfloat16 for p in module.parameters()]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_makes_the_same_bits(name):
    flow = flow_of(name)
    other, x = rounded(flow), noise(flow, 3)
    assert sum(narrow_layers(other)) > 10 and not any(narrow_layers(flow))
    assert same(both(other, x, PROMPT[name]), both(flow, x, PROMPT[name]))


@pytest.mark.parametrize("world", ["digits", "shapes", "gmm-paper"])
def test_a_world_makes_the_same_bits(world):
    task = plugins.load("tasks", world).create()
    flow = task.trainable_flow()
    other = rounded(flow)
    assert any(narrow_layers(other))
    x = torch.randn(5, *task.event_shape, generator=torch.Generator().manual_seed(0))
    assert same(both(other, x), both(flow.requires_grad_(False), x))


def test_the_samples_of_cells_stay_and_the_task_keeps_its_weights(monkeypatch):
    (wide,), (thin,) = (rows_of("digits", ["mfm-g:steps=5"], dtype=d)[:1] for d in DTYPES)
    kept, whole = sampled(thin.cell)[0].x, sampled(wide.cell)[0].x
    assert not torch.equal(kept, whole)
    task = instances_of(thin.cell).task
    for name in ("flow", "flow_map"):
        parts = part_at(task, name, NARROW), getattr(task, name)
        assert [any(map(any, map(narrow_layers, modules_in(p)))) for p in parts] == [True, False]
    unrounded(monkeypatch)
    assert torch.equal(sampled(thin.cell)[0].x, kept)


def unrounded(monkeypatch):
    """Nothing is rounded from here on."""
    monkeypatch.setattr("bench.core.rounded._rounds", lambda _: False)
    _rounded_copy.cache_clear()


@pytest.mark.parametrize("rank", [0, 2])
def test_a_fit_starts_from_whole_weights_and_a_lora_from_rounded_ones(rank, monkeypatch):
    method = f"draft-k:rank={rank},iterations=2,batch=2,steps=2"
    (row,) = planned_rows("sd15", [method])
    cell = replace(row.fit.cell, dtype="bfloat16")
    first = Job(cell).run()
    assert first.ok, first.log
    unrounded(monkeypatch)
    assert Job(cell).run().fitted == first.fitted
    _rounded_copy.cache_clear()


def test_a_network_that_flow_and_map_share_is_copied_once():
    net = nn.Linear(3, 3).requires_grad_(False)
    task = SharedTask(net)
    found = [part_at(task, name, NARROW).net for name in ("flow", "flow_map")]
    assert found[0] is found[1] is not net
    assert found[0].weight.dtype == torch.bfloat16 and net.weight.dtype == torch.float32


class SharedTask:
    """A flow and a map of one network."""

    def __init__(self, net):
        self.flow, self.flow_map = SimpleNamespace(net=net), SimpleNamespace(net=net)


class Held:
    """A task whose flow holds its network in a closure, which no copy reaches."""

    def __init__(self):
        net = nn.Linear(3, 3).requires_grad_(False)
        self.flow, self.net = SimpleNamespace(velocity=lambda x, t: net(x)), net


def test_a_network_that_cannot_be_copied_is_left_alone():
    task = Held()
    assert part_at(task, "flow", NARROW) is task.flow
    assert task.net.weight.dtype == torch.float32


# -- what stays as it is ---------------------------------------------------------------------------


class Tied(nn.Module):
    """An embedding whose weights a linear map shares."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.words.weight
        self.alone = nn.Linear(3, 3)


class Scaled(nn.Linear):
    """Reads its weights before they are rounded."""

    def forward(self, x):
        return nn.functional.linear(x, 3 * self.weight, self.bias)


def test_layers_that_read_their_weights_otherwise_stay():
    tied = rounded(Tied())
    assert tied.words.weight.dtype == torch.float32 and tied.out.weight is tied.words.weight
    assert tied.alone.weight.dtype == torch.bfloat16
    normed = nn.Sequential(weight_norm(nn.Linear(3, 3)), Scaled(3, 3), nn.LayerNorm(3))
    assert not any(narrow_layers(rounded(normed)))


def test_layers_that_are_trained_stay():
    half = nn.Sequential(nn.Linear(3, 3), nn.Conv2d(3, 3, 1).requires_grad_(False))
    keep_rounded(half, NARROW)
    assert narrow_layers(half) == [False, False, True, True]


def test_where_products_are_wide_nothing_is_rounded():
    layer = nn.Linear(3, 3).requires_grad_(False)
    keep_rounded(layer, Place())
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize("layer", [kind(2, 2, *([1] * (k > 0))) for k, kind in enumerate(LAYERS)])
def test_every_kind_of_layer_makes_the_same_bits(layer):
    x = torch.randn(4, 2, *[3] * (layer.weight.dim() - 2))
    assert torch.equal(NARROW.network(rounded(layer))(x), NARROW.network(layer)(x))
