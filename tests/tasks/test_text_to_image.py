"""The task text-to-image: what it says without weights, what it loads, what it refuses."""

import json
import shutil
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import Module

from bench.conformance.check import check_task
from bench.core.adapters import adapt, restore, trained_state
from bench.core.metrics import Target
from bench.core.params import UserError
from bench.core.values import Samples
from bench.metrics.reward import MeanReward
from bench.models.pipeline_folder import PipelineFolder
from bench.plan.binding import make_task
from bench.runner.instances import instances_of
from bench.runner.measuring import evaluate
from bench.tasks.text_to_image import TextToImage
from rewards.combine import PythonCallable
from tests.worlds.pipeline_flows import noise
from tests.worlds.planned_problems import cell_of
from tests.worlds.tiny_pipelines import PIPELINES, SIDE, edit, edited, saved_pipeline

SIZE = {"height": SIDE, "width": SIDE}


def task_of(name, where=None, **given):
    told = {"classes": (3, 7)} if name == "dit" else {"prompts": ("a red fox", "two cats")}
    path = str(where or saved_pipeline(name))
    return TextToImage.create(**{"path": path, **SIZE, **told, **given})


@pytest.mark.parametrize("name", PIPELINES)
def test_planning_reads_no_weights(name, monkeypatch):
    def loaded(*args, **kwargs):
        raise AssertionError("weights were read")

    monkeypatch.setattr("safetensors.torch.load_file", loaded)
    monkeypatch.setattr("diffusers.ModelMixin.from_pretrained", loaded)
    task = task_of(name)
    assert task.event_shape[1:] == ((SIDE,) * 2 if name in ("sd3", "flux") else (SIDE // 2,) * 2)
    assert task.data_shape == (3, SIDE, SIDE)
    assert task.guided == (name != "flux")
    assert len(task.conditions("report")) == 2
    assert set(task.weights()) >= {"pipeline/vae", "pipeline/scheduler"}


@pytest.mark.parametrize("name", PIPELINES)
def test_prompts_are_encoded_once_and_the_encoders_are_dropped(name, monkeypatch):
    loaded, read = [], PipelineFolder.pipeline

    def watched(folder, **parts):
        pipe = read(folder, **parts)
        loaded.append([weakref.ref(m) for m in pipe.components.values() if isinstance(m, Module)])
        return pipe

    monkeypatch.setattr(PipelineFolder, "pipeline", watched)
    task = task_of(name)
    flow, conditions = task.flow, task.conditions("report")
    x, t = noise(task), torch.full((2,), 0.5)
    b = [flow.velocity(x, t, condition) for condition in conditions]
    assert (b[0] - b[1]).abs().max() > 1e-4
    assert b[0].shape == x.shape
    encoders = {"sd3": 3, "flux": 2, "sdxl": 2}.get(name, 1)
    assert [len(modules) for modules in loaded] == ([] if name == "dit" else [encoders])
    assert not any(module() for modules in loaded for module in modules)


@pytest.mark.parametrize("name", PIPELINES)
def test_loading_draws_no_random_numbers(name):
    before = torch.get_rng_state()
    task = task_of(name)
    task.decode(task.flow.velocity(torch.zeros(1, *task.event_shape), torch.ones(1), _first(task)))
    assert torch.equal(before, torch.get_rng_state())


def _first(task):
    return task.conditions("report")[0]


def test_the_contracts_of_tasks_are_kept():
    tuned = {"tune_prompts": ("a dog",)}
    findings = check_task(TextToImage, task_of("sd15", **tuned).params, "text-to-image")
    assert not [finding for finding in findings if finding.status == "fail"]


def test_pictures_are_rendered_in_eight_bits():
    task = task_of("sd15")
    pictures = task.decode(noise(task))
    assert pictures.shape == (2, *task.data_shape)
    levels = task.render(pictures)
    assert levels.shape == (2, SIDE, SIDE, 3)
    assert levels.dtype == torch.uint8


def test_a_file_of_prompts_is_split_and_sentences_are_taken_as_they_are(tmp_path):
    file = tmp_path / "prompts.txt"
    lines = [f"a picture of {k} foxes" for k in range(40)]
    file.write_text("\n".join(lines))
    task = task_of("sd15", prompts=(), prompt_file=str(file))
    report, tune = task.conditions("report"), task.conditions("tune")
    assert sorted(report + tune) == sorted(lines)
    assert tune
    assert task_of("sd15", tune_prompts=("a dog",)).conditions("tune") == ["a dog"]
    assert task_of("dit", tune_classes=(5,)).conditions("tune") == [5]
    assert task_of("sd15").conditions("report") == ["a red fox", "two cats"]


def test_other_weights_or_another_schedule_have_another_hash(tmp_path):
    where = edited("sd15", tmp_path / "a", "scheduler/scheduler_config.json", beta_end=0.013)
    own, other = task_of("sd15").weights(), task_of("sd15", where).weights()
    assert {name for name in own if own[name] != other[name]} == {"pipeline/scheduler"}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_lora_of_a_pipeline_trains_and_comes_back(name):
    task = task_of(name)
    flow, condition = adapt(task.trainable_flow(), 2), _first(task)
    x, t = noise(task), torch.full((2,), 0.5)
    base = task.flow.velocity(x, t, condition)
    torch.testing.assert_close(flow.velocity(x, t, condition), base, rtol=1e-4, atol=1e-5)
    trained = [weight for weight in flow.parameters() if weight.requires_grad]
    optimiser = torch.optim.Adam(trained, 1e-2)
    for _ in range(2):
        optimiser.zero_grad()
        flow.velocity(x, t, condition).square().mean().backward()
        optimiser.step()
    after = flow.velocity(x, t, condition).detach()
    assert (after - base).abs().max() > 1e-5
    other = restore(task.trainable_flow, 2, trained_state(flow, 2))
    torch.testing.assert_close(other.velocity(x, t, condition), after)


# -- bad input -------------------------------------------------------------------------------------


def refusal(make):
    """What is said; one sentence for people."""
    with pytest.raises(UserError) as caught:
        make()
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_pipeline_has_to_be_given_and_to_be_there(tmp_path):
    assert "give its folder with path=" in refusal(lambda: make_task("text-to-image"))
    assert "there is no pipeline folder" in refusal(lambda: task_of("sd15", tmp_path / "none"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "model_index.json cannot be read" in refusal(lambda: task_of("sd15", empty))


def test_an_unknown_family_is_told_the_nearest(tmp_path):
    index = {"_class_name": "StableDiffusion2Pipeline"}
    where = edited("sd15", tmp_path / "a", "model_index.json", **index)
    assert "has no row yet: did you mean 'StableDiffusion" in refusal(
        lambda: task_of("sd15", where)
    )


@pytest.mark.parametrize("part", ["unet", "vae", "scheduler", "text_encoder", "tokenizer"])
def test_a_missing_part_is_named(part, tmp_path):
    where = edited("sd15", tmp_path / "a", "model_index.json")
    shutil.rmtree(where / part)
    assert f"lacks the part '{part}'" in refusal(lambda: task_of("sd15", where))


def test_missing_weights_are_named(tmp_path):
    where = edited("sd15", tmp_path / "a", "model_index.json")
    (weights,) = (where / "unet").glob("*.safetensors")
    weights.unlink()
    assert "unet lacks the weights" in refusal(lambda: task_of("sd15", where))
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (where / "unet" / "weights.safetensors.index.json").write_text(json.dumps(index))
    (where / "unet" / "part-1.safetensors").touch()
    assert "lacks the weights part-2.safetensors" in refusal(lambda: task_of("sd15", where))


def test_damaged_weights_are_named(tmp_path):
    where = edited("sd15", tmp_path / "a", "model_index.json")
    (weights,) = (where / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:200])
    assert "unet of" in refusal(lambda: task_of("sd15", where).flow)


def test_weights_that_diverged_are_named(tmp_path):
    where = edited("sd15", tmp_path / "a", "model_index.json")
    (weights,) = (where / "unet").glob("*.safetensors")
    state = load_file(weights)
    state["conv_in.weight"][0, 0, 0, 0] = float("inf")
    save_file(state, weights, {"format": "pt"})
    said = refusal(lambda: task_of("sd15", where).flow)
    assert "unet of" in said and "conv_in.weight holds infinity" in said


@pytest.mark.parametrize(
    ("name", "reader", "length", "cut"),
    [
        ("sd15", "tokenizer", 100, 100 + 2 - 77),
        ("sd3", "tokenizer", 300, 300 + 2 - 77),
        ("sana", "tokenizer", 320, 20),
    ],
)
def test_a_prompt_that_is_not_read_whole_says_how_many_tokens_are_cut(name, reader, length, cut):
    long = "a" * length
    said = refusal(lambda: task_of(name, prompts=(long,)).conditions("report"))
    assert f"the last {cut} tokens are cut by the {reader};" in said
    assert task_of(name, prompts=(long,), long_prompts="cut").conditions("report") == [long]


def rows_of(name, **given):
    """The rows of the reward that a cell of a method would get; noise stands for its samples."""
    more = ",".join(f"{key}={value}" for key, value in given.items())
    text = f"text-to-image:path={saved_pipeline(name)},height={SIDE},width={SIDE},{more}"
    made = instances_of(cell_of(text, "callable:function=tests.worlds.brightness:brightness"))
    return evaluate(Samples(noise(made.task)), made, ["reward"])[0]


def test_the_row_says_how_many_tokens_were_cut():
    long, negative = "a" * 300, "b" * 90
    (row,) = rows_of("sd3", prompts=long, negative=negative, long_prompts="cut", guidance=3)
    first, second = (f"{c * 40}...' are cut: the last " for c in "ab")
    cut = len(long) + 2 - 77
    assert f"{first}{cut} by the tokenizer, the last {cut} by the tokenizer_2" in row.note
    assert f"{second}{len(negative) + 2 - 77} by the tokenizer" in row.note
    (short,) = rows_of("sd3", prompts="a fox", long_prompts="cut", guidance=3)
    assert "cut" not in short.note


def test_the_row_says_how_much_the_reward_does_not_read():
    task = task_of("sd15")
    reward = PythonCallable.create(function="tests.worlds.brightness:brightness")
    reward.tokens_cut = lambda sentence: len(sentence) - 6
    x = torch.zeros(2, *task.data_shape)
    note = MeanReward(Target(reward, 1.0, "a red fox"))(Samples(x), task).note
    assert "the reward does not read the last 3 tokens of its prompt" in note
    assert "read" not in MeanReward(Target(reward, 1.0, "a fox!"))(Samples(x), task).note


def test_a_negative_prompt_is_read_whole_or_refused_too():
    long = "b" * 100
    said = refusal(lambda: task_of("sd15", negative=long).conditions("report"))
    assert "the prompt 'bbbb" in said
    assert "25 tokens are cut" in said
    unheard = task_of("sd15", negative=long, guidance=1.0)
    assert unheard.conditions("report") == ["a red fox", "two cats"]


def test_conditions_have_to_be_given():
    assert "prompts=" in refusal(lambda: task_of("sd15", prompts=()).conditions("report"))
    assert "tune_prompts=" in refusal(lambda: task_of("sd15").conditions("tune"))
    assert "classes=" in refusal(lambda: task_of("dit", classes=()).conditions("report"))
    assert "no class" in refusal(lambda: task_of("dit", classes=(1000,)).flow)
    assert "needs a condition" in refusal(
        lambda: task_of("sd15").flow.velocity(torch.zeros(1, 4, 16, 16), torch.zeros(1))
    )


def test_data_are_not_there():
    generator = torch.Generator()
    assert "without the data" in refusal(lambda: task_of("sd15").draw_data(1, generator))


def test_sizes_that_do_not_fit_are_refused():
    assert "multiples of 2" in refusal(lambda: task_of("sd15", height=33).event_shape)
    assert "makes pictures of 32 x 32 alone" in refusal(
        lambda: task_of("dit", width=64).event_shape
    )


def test_guidance_that_a_network_does_not_have_is_refused(tmp_path):
    assert "leave negative" in refusal(lambda: task_of("flux", negative="a dog"))
    schnell = edited("flux", tmp_path / "a", "transformer/config.json", guidance_embeds=False)
    assert "hear no guidance" in refusal(lambda: task_of("flux", schnell, guidance=3.0))
    assert task_of("flux", schnell).guided is False
    lcm = edited("sd15", tmp_path / "b", "unet/config.json", time_cond_proj_dim=8)
    assert "LCM" in refusal(lambda: task_of("sd15", lcm))
    assert "end later" in refusal(lambda: task_of("sd15", guided_from=0.8, guided_until=0.2))


def test_a_newer_class_than_the_library_has_is_said(tmp_path):
    where = edited("sd15", tmp_path / "a", "model_index.json")
    edit(where / "model_index.json", unet=["diffusers", "UNet9DConditionModel"])
    assert "diffusers has no UNet9DConditionModel" in refusal(lambda: task_of("sd15", where).flow)
