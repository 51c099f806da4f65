"""Schedulers: settings that leave Euler's method are followed, all others are refused."""

import pytest
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)

from bench.core.params import UserError
from tests.worlds.pipeline_flows import flow_of, gap_to
from tests.worlds.tiny_pipelines import BETAS, edited, rescheduled


def ddim(**given):
    return DDIMScheduler(**{**BETAS, "clip_sample": False, "steps_offset": 1, **given})


def sde_euler(**given):
    spacing = {"timestep_spacing": "leading", "steps_offset": 1}
    return EulerDiscreteScheduler(**{**BETAS, **spacing, **given})


def flow_euler(**given):
    return FlowMatchEulerDiscreteScheduler(**given)


def edm_euler(**given):
    """As Playground v2.5 has it."""
    return EDMEulerScheduler(**{"sigma_data": 0.5, "sigma_min": 0.002, "sigma_max": 80.0, **given})


SCHEDULERS = {
    "trailing times that divide": ("sd15", ddim(timestep_spacing="trailing")),
    "a sample as output": ("sd15", ddim(prediction_type="sample")),
    "no signal at the first time": (
        "sd15-v",
        ddim(prediction_type="v_prediction", rescale_betas_zero_snr=True),
    ),
    "Karras sigmas": ("sdxl", sde_euler(use_karras_sigmas=True)),
    "exponential sigmas": ("sdxl", sde_euler(use_exponential_sigmas=True)),
    "Euler on v": ("sdxl", sde_euler(prediction_type="v_prediction")),
    "a shift by size": ("sd3", flow_euler(use_dynamic_shifting=True)),
    "a linear shift by size": (
        "flux",
        flow_euler(use_dynamic_shifting=True, time_shift_type="linear"),
    ),
    "no shift by size": ("flux", flow_euler(shift=2.0)),
    "a network of Karras sigmas": ("sdxl", edm_euler()),
    "other Karras sigmas": ("sdxl", edm_euler(sigma_data=1.0, sigma_max=20.0, rho=3.0)),
    "exponential sigmas of such": ("sdxl", edm_euler(sigma_schedule="exponential")),
    "v of such": ("sdxl", edm_euler(prediction_type="v_prediction")),
    "Karras sigmas of a flow": ("sana", flow_euler(shift=3.0, use_karras_sigmas=True)),
}


@pytest.mark.parametrize("case", SCHEDULERS)
def test_settings_of_a_scheduler_that_leave_eulers_method_are_followed(case, tmp_path):
    name, scheduler = SCHEDULERS[case]
    pipe, where = rescheduled(name, scheduler, tmp_path / "folder")
    assert gap_to(pipe, flow_of(name, where=where), name, 8) < 1e-5


STAND_INS = {
    "ddim": ("sd15", PNDMScheduler(**BETAS, steps_offset=1, skip_prk_steps=True), ddim()),
    "euler": ("sd15", PNDMScheduler(**BETAS, steps_offset=1, skip_prk_steps=True), sde_euler()),
    "flow-euler": (
        "sana",
        DPMSolverMultistepScheduler(
            use_flow_sigmas=True, flow_shift=3.0, prediction_type="flow_prediction"
        ),
        flow_euler(shift=3.0),
    ),
    "edm-euler": ("sdxl", EDMDPMSolverMultistepScheduler(sigma_data=0.5), edm_euler()),
}


@pytest.mark.parametrize("scheduler", STAND_INS)
def test_a_scheduler_may_stand_in_for_one_whose_steps_cannot_be_stated(scheduler, tmp_path):
    name, shipped, wanted = STAND_INS[scheduler]
    _, where = rescheduled(name, shipped, tmp_path / "shipped")
    pipe, _ = rescheduled(name, wanted, tmp_path / "wanted")
    with pytest.raises(UserError, match="cannot be stated: use scheduler=ddim"):
        flow_of(name, where=where)
    assert gap_to(pipe, flow_of(name, scheduler=scheduler, where=where), name, 8) < 1e-5


def test_what_the_pipeline_sets_in_its_scheduler_is_set(tmp_path):
    """Stable Diffusion's class makes offset 1 and no clipping of whatever its folder says."""
    file = "scheduler/scheduler_config.json"
    where = edited("sd15", tmp_path / "old", file, steps_offset=0, clip_sample=True)
    assert flow_of("sd15", where=where).times(8) == flow_of("sd15").times(8)


REFUSED = {
    "several stages": ("sd15", HeunDiscreteScheduler(**BETAS), 8, "HeunDiscreteScheduler"),
    "noise": ("sd15", EulerAncestralDiscreteScheduler(**BETAS), 8, "EulerAncestral"),
    "trailing": ("sd15", ddim(timestep_spacing="trailing"), 7, "that divides 1000"),
    "linspace": ("sd15", ddim(timestep_spacing="linspace"), 8, "'leading'"),
    "clipping": ("dit", ddim(clip_sample=True), 8, "set clip_sample to false"),
    "not to the end": ("sd15", ddim(set_alpha_to_one=False), 8, "set_alpha_to_one to true"),
    "noise left": ("sdxl", sde_euler(final_sigmas_type="sigma_min"), 8, "final_sigmas_type to"),
    "another start": ("sdxl", sde_euler(timestep_spacing="linspace"), 8, "starts from noise"),
    "too many steps": ("sd15", ddim(), 2000, "use fewer"),
    "a step beyond the table": ("sd15", ddim(), 1000, "use fewer"),
    "noise in a flow": ("sd3", flow_euler(stochastic_sampling=True), 8, "set stochastic_sampling"),
    "a diffusion's": ("sd3", ddim(), 8, "network of flow matching"),
    "a network of sigmas'": ("sd3", edm_euler(), 8, "network of flow matching"),
    "sigmas left": ("sdxl", edm_euler(final_sigmas_type="sigma_min"), 8, "final_sigmas_type to"),
    "a flow's": ("sdxl", flow_euler(), 8, "network of discrete diffusion"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_steps_that_cannot_be_stated_are_refused_with_the_fix(case, tmp_path):
    name, scheduler, steps, said = REFUSED[case]
    _, where = rescheduled(name, scheduler, tmp_path / "folder")
    with pytest.raises(UserError, match=said) as caught:
        flow_of(name, where=where).times(steps)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("own", "given", "said"),
    [(edm_euler(), "ddim", "has sigma_data"), (sde_euler(), "edm-euler", "has no sigma_data")],
)
def test_a_stand_in_for_another_kind_of_network_is_refused(own, given, said, tmp_path):
    _, where = rescheduled("sdxl", own, tmp_path / "folder")
    with pytest.raises(UserError, match=said):
        flow_of("sdxl", scheduler=given, where=where)
