"""Seven families of pipelines: Euler on the flow's own times makes the pipeline's own latents."""

import copy

import pytest
import torch

from bench.core.flops import price, price_unbuilt
from bench.models.pipeline_folder import PipelineFolder
from tests.worlds.pipeline_flows import PROMPT, STRONG, counted, flow_of, gap_to, noise
from tests.worlds.tiny_pipelines import PIPELINES, SIDE, edited, saved_pipeline, tiny_pipeline


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("guidance", [STRONG, 1.0])
@pytest.mark.parametrize("steps", [8, 20])
def test_the_flow_on_its_own_times_makes_the_latents_of_the_pipeline(name, guidance, steps):
    flow = flow_of(name, guidance)
    assert gap_to(tiny_pipeline(name), flow, name, steps, guidance) < 1e-5


# -- guidance --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("guidance", [0.0, 1.0, STRONG])
def test_a_row_costs_as_many_network_rows_as_the_flow_says(name, guidance):
    flow = flow_of(name, guidance)
    told = 2 if guidance == STRONG and name != "flux" else 1
    with counted(flow) as network, torch.no_grad():
        flow.velocity(noise(flow, 3), torch.full((3,), 0.4), PROMPT[name])
    assert network.rows == 3 * told
    assert flow.rows(0.4) == told


def test_outside_its_interval_guidance_costs_nothing_and_changes_nothing():
    guided, plain = flow_of("sd3"), flow_of("sd3", 1.0)
    some = flow_of("sd3", interval=(0.3, 0.6))
    x, t = noise(some, 4), torch.tensor([0.1, 0.3, 0.6, 0.9])
    with counted(some) as network, torch.no_grad():
        b = some.velocity(x, t, "a red fox")
        both = [flow.velocity(x, t, "a red fox") for flow in (plain, guided)]
    assert network.rows == sum(some.rows(s) for s in t.tolist()) == 6
    torch.testing.assert_close(b[[0, 3]], both[0][[0, 3]])
    torch.testing.assert_close(b[[1, 2]], both[1][[1, 2]])
    assert not torch.allclose(both[0], both[1], rtol=1e-2)


def test_the_guidance_that_a_network_is_told_matters():
    x, t = noise(flow_of("flux")), torch.full((2,), 0.4)
    told = [flow_of("flux", g).velocity(x, t, "a red fox") for g in (1.0, STRONG)]
    assert (told[0] - told[1]).abs().max() > 1e-4


def test_a_copy_of_a_flow_shares_what_was_heard():
    flow = flow_of("sd15")
    other = copy.deepcopy(flow)
    assert other._heard is flow._heard
    assert other.network is not flow.network


# -- the decoder -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIPELINES)
def test_decoded_latents_are_the_pictures_of_the_pipeline(name):
    pipe, folder = tiny_pipeline(name), PipelineFolder(saved_pipeline(name))
    shape = folder.event_shape(folder.size(SIDE, SIDE))
    z = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    scale = pipe.vae.config.scaling_factor
    shift = getattr(pipe.vae.config, "shift_factor", None) or 0.0
    wanted = pipe.vae.decode(z / scale + shift).sample
    decoder = folder.decoder()
    decoder.rows = 2
    torch.testing.assert_close(decoder(z), wanted, rtol=1e-4, atol=1e-5)
    assert wanted.shape == (3, 3, SIDE, SIDE)


def test_a_decoder_may_say_mean_and_deviation_of_its_latents(tmp_path):
    spread, mean = [0.5, 1.0, 2.0, 4.0], [0.1, -0.2, 0.3, 0.0]
    values = {"latents_mean": mean, "latents_std": spread}
    where = edited("sdxl", tmp_path / "folder", "vae/config.json", **values)
    z = torch.randn(1, 4, SIDE // 2, SIDE // 2, generator=torch.Generator().manual_seed(1))
    column = (torch.tensor(values)[None, :, None, None] for values in (spread, mean))
    inside = z * next(column) / 0.13025 + next(column)
    torch.testing.assert_close(
        PipelineFolder(where).decoder()(z), tiny_pipeline("sdxl").vae.decode(inside).sample
    )


def test_what_is_told_of_a_prompt_does_not_depend_on_the_precision_of_who_asks_first(tmp_path):
    x, t = noise(flow_of("sd3"), 2), torch.full((2,), 0.4)
    folders = [edited("sd3", tmp_path / name, "model_index.json") for name in "ab"]
    narrow, wide = (flow_of("sd3", where=folder) for folder in folders)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        narrow.velocity(x, t, "a blue owl")
    with torch.no_grad():
        found, wanted = (flow.velocity(x, t, "a blue owl") for flow in (narrow, wide))
    assert torch.equal(found, wanted)


# -- counts without weights ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PIPELINES)
def test_a_folder_is_priced_from_its_configurations_as_it_is_counted(name):
    """A row of the network, one of two under guidance, and of the decoder, forward and backward."""
    folder = PipelineFolder(saved_pipeline(name))
    flow, decoder, said = flow_of(name, 1.0), folder.decoder(), folder.unbuilt((SIDE, SIDE))
    x = noise(flow, 2).requires_grad_()
    real = {
        "flow": price((name, "flow"), flow.velocity, (x, torch.full((2,), 0.4), PROMPT[name])),
        "decoder": price((name, "decoder"), decoder, (x,)),
    }
    for role, (counted_on_rows, _) in real.items():
        blank = price_unbuilt(said[role])
        assert blank.forward.per_row == counted_on_rows.forward.per_row > 0, role
        assert blank.backward.per_row == counted_on_rows.backward.per_row > 0, role
