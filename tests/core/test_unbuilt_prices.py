"""Prices on fake tensors: those of real rows, without weights, arithmetic or memory."""

import resource
import time

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

from bench.core import flops
from bench.core.flops import counted, price, price_unbuilt
from bench.models.dit import DiT, DiTConfig

ROWS = 2


def dit(config, rows=ROWS):
    net = DiT(config).requires_grad_(False)
    x, t = torch.zeros(rows, *config.event_shape), torch.full((rows,), 0.5)
    label = torch.zeros(rows, dtype=torch.long)
    return net, (x, t, t, x.clone(), t, label, torch.ones(rows))


def decoder(side):
    import diffusers

    net = diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
        sample_size=side,
    ).requires_grad_(False)
    z = torch.zeros(ROWS, 4, side // 8, side // 8)
    return (lambda z: net.decode(z, return_dict=False)[0]), (z,)


def flux():
    import diffusers

    net = diffusers.FluxTransformer2DModel(guidance_embeds=True).requires_grad_(False)
    tokens, words = 64 * 64, 512
    x, text = torch.zeros(ROWS, tokens, 64), torch.zeros(ROWS, words, 4096)
    places, orders = torch.zeros(tokens, 3), torch.zeros(words, 3)

    def fn(x, text, pooled, t, guidance):
        return net(x, text, pooled, t, places, orders, guidance, return_dict=False)[0]

    return fn, (x, text, torch.zeros(ROWS, 768), torch.ones(ROWS), torch.ones(ROWS))


def test_the_price_of_b2_is_a_counted_run():
    found = price_unbuilt(lambda: dit(DiTConfig.b2()))
    net, args = dit(DiTConfig.b2(), rows=1)
    x, context = args[0].requires_grad_(), args[3].requires_grad_()
    out = []
    assert found.forward(1) == counted(lambda: out.append(net(*args)))
    assert found.backward(1) == counted(lambda: torch.autograd.grad(out[0].sum(), (x, context)))


GIGA, GIB = 1e9, 2**30
LARGE = [
    ("XL/2", lambda: dit(DiTConfig.xl2()), 237, 245),
    pytest.param("decoder 256", lambda: decoder(256), 622, 624, marks=pytest.mark.slow),
    pytest.param("decoder 1024", lambda: decoder(1024), 10_470, 11_020, marks=pytest.mark.slow),
    pytest.param("FLUX", flux, 74_400, 89_300, marks=pytest.mark.slow),
]
"""GFLOP per row, forward and backward, as counted on real rows where they fitted."""


@pytest.mark.parametrize(("name", "make", "forward", "backward"), LARGE)
def test_large_networks_are_priced_without_weights(name, make, forward, backward):
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = price_unbuilt(make)
    assert found.forward.per_row / GIGA == pytest.approx(forward, rel=0.005)
    assert found.backward.per_row / GIGA == pytest.approx(backward, rel=0.005)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2 * GIB / 1024
    assert time.process_time() - started < 60


class Attending(nn.Module):
    """A network with all that is counted: products, a convolution, attention."""

    def __init__(self, room=10**9):
        super().__init__()
        self.conv, self.linear, self.room = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(4, 4), room
        self.shared, self.seen = nn.Linear(1, 4), []

    def forward(self, x, t):
        self.seen.append(type(x))
        if len(x) > self.room and not isinstance(x, FakeTensor):
            raise torch.OutOfMemoryError(f"{len(x)} rows")
        tokens = self.linear(self.conv(x).flatten(2).transpose(1, 2)) + self.shared(t[:1, None])
        return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.fixture
def _nothing_priced(monkeypatch):
    monkeypatch.setattr(flops, "_PRICES", {})


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.usefixtures("_nothing_priced")
def test_a_count_that_does_not_fit_is_made_on_fake_rows(grad):
    x, t = torch.randn(8, 2, 6, 6).requires_grad_(grad), torch.ones(8)
    real, _ = price(("a",), Attending(), (x, t))
    small = Attending(room=1)
    unreal, _ = price(("b",), small, (x, t))
    assert real == unreal and real.forward.shared > 0 and (real.backward(1) > 0) is grad
    assert FakeTensor in small.seen
    assert all(type(p) is nn.Parameter for p in small.parameters()), "the weights stay real"
    if grad:
        made = price_unbuilt(lambda: (Attending().requires_grad_(False), (x.detach(), t)))
        assert made == real


@pytest.mark.usefixtures("_nothing_priced")
def test_rows_that_fit_are_counted_as_they_were():
    net = Attending()
    price(("a",), net, (torch.randn(8, 2, 6, 6), torch.ones(8)))
    assert set(net.seen) == {torch.Tensor}
