"""Flows of the tiny pipelines, and how far they are from the pipelines' own latents."""

from contextlib import contextmanager
from functools import cache

import torch

from bench.core.integrate import euler, integrate
from bench.core.native_paths import norm
from bench.models.pipeline_flow import WHOLE, PipelineFlow, guidance_of
from bench.models.pipeline_folder import PipelineFolder
from bench.models.pipeline_inputs import Asked
from bench.models.pipeline_prompts import Heard, tell
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from tests.worlds.tiny_pipelines import PIPELINES, SIDE, own_latents, saved_pipeline

PROMPT = dict.fromkeys(PIPELINES, "a red fox") | {"dit": 3}
STRONG = 3.0
REWARD = "callable:function=tests.worlds.brightness:brightness,gradient=true,strength=100"


@cache
def flow_of(name, guidance=STRONG, scheduler="folder", interval=WHOLE, where=None):
    folder = PipelineFolder(where or saved_pipeline(name))
    size, family = folder.size(SIDE, SIDE), folder.family
    network = folder.config(family.network)
    guided = guidance_of(family, network, guidance, interval, "")
    asked = Asked(network, *size, guidance=guidance, second=guided.second)
    return PipelineFlow(
        folder.network(),
        family.call,
        folder.schedule(size, scheduler),
        guided,
        Heard(lambda conditions: tell(folder, conditions, asked)),
        folder.event_shape(size),
    )


def made(flow, z, steps, condition):
    """The pipeline's own latents of noise z, by Euler's method from x0(t0)."""
    times = flow.times(steps)
    start = norm(torch.tensor(times[0], dtype=torch.float64)).item()
    with torch.no_grad():
        return integrate(euler(lambda x, t: flow.velocity(x, t, condition)), start * z, times)


def noise(flow, rows=2):
    return torch.randn(rows, *flow.event_shape, generator=torch.Generator().manual_seed(5))


def gap_to(pipe, flow, name, steps, guidance=STRONG):
    z = noise(flow)
    wanted = own_latents(pipe, z, PROMPT[name], steps, guidance)
    return (made(flow, z, steps, PROMPT[name]) - wanted).abs().max() / wanted.abs().max()


def task_name(name, **given):
    """The task on a tiny pipeline, for suites."""
    told = "classes=3" if name == "dit" else f"prompts={given.pop('prompts', PROMPT[name])}"
    more = "".join(f",{key}={value}" for key, value in given.items())
    size = f"height={SIDE},width={SIDE},guidance={STRONG}"
    return f"text-to-image:path={saved_pipeline(name)},{size},{told}{more}"


def planned_rows(name, methods, n=2, **given):
    """The planned rows of methods on a tiny pipeline, with brightness as reward."""
    content = {
        "name": "families",
        "tasks": [task_name(name, **given)],
        "rewards": [REWARD],
        "methods": list(methods),
        "seeds": 1,
        "n": n,
    }
    rows = expand(build_suite(content))
    assert all(row.status == "pending" for row in rows), [row.reason for row in rows]
    return rows


# -- rows ------------------------------------------------------------------------------------------


class Counted(torch.nn.Module):
    """A network that counts its rows."""

    def __init__(self, network):
        super().__init__()
        self.network, self.rows = network, 0

    @property
    def dtype(self):
        return self.network.dtype

    def forward(self, x, *args, **kwargs):
        self.rows += len(x)
        return self.network(x, *args, **kwargs)


@contextmanager
def counted(flow):
    """The network of a flow inside one that counts its rows, for as long as the block."""
    network = flow.network
    flow.network = Counted(network)
    try:
        yield flow.network
    finally:
        flow.network = network
