"""What networks on a card are asked between two trainings: they get it there, and give it back."""

import torch

from bench.models.autoencoder import Autoencoder
from bench.models.meta_flow_map import FlowNet, Known
from bench.models.shapes_render import SIDE
from bench.training.ode_pairs import solve
from bench.worlds.shapes.latents import make_pool
from tests.worlds.pretend_cuda import PretendCuda


def on_the_cpu(value):
    return torch.device("cpu") == value.device


def test_solved_pairs_of_a_flow_on_a_card(monkeypatch):
    torch.manual_seed(0)
    flow = FlowNet((3,), 8, 1, classes=2)
    noise, known = torch.randn(5, 3), Known(torch.tensor([0, 1, 2, 1, 0]), torch.full((5,), 2.5))
    torch.nn.init.normal_(flow.net.leave[1].weight)
    here = solve(flow, noise, known, steps=3, chunk=2)
    with PretendCuda(monkeypatch):
        there = solve(flow.to("cuda"), noise, known, steps=3, chunk=2)
        assert on_the_cpu(there.end)
    assert torch.equal(here.end, there.end) and not torch.equal(here.end, noise)


def test_codes_of_an_encoder_on_a_card(monkeypatch):
    torch.manual_seed(0)
    net = Autoencoder((3, SIDE, SIDE), 4, 16)
    here = make_pool(net, 6, seed=1, chunk=4)
    with PretendCuda(monkeypatch):
        there = make_pool(net.to("cuda"), 6, seed=1, chunk=4)
        assert on_the_cpu(there.code.mean) and on_the_cpu(there.code.sigma)
    assert torch.equal(here.code.mean, there.code.mean)
    assert torch.equal(here.code.sigma, there.code.sigma)


def test_pairs_of_a_flow_that_is_told_no_scale_are_of_the_scale_one():
    flow, noise, label = (
        FlowNet((3,), 8, 1, classes=2),
        torch.randn(4, 3),
        torch.tensor([0, 1, 2, 0]),
    )
    torch.nn.init.normal_(flow.net.leave[1].weight)
    told, untold = (solve(flow, noise, Known(label, s), 2) for s in (torch.ones(4), None))
    assert torch.equal(told.end, untold.end) and torch.equal(untold.scale, torch.ones(4))
