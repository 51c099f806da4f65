"""The benchmark of a GPU runs whole on a CPU in small, and weighs networks of the stated size."""

import subprocess
import sys

import pytest
import torch

from bench.core.flops import price_unbuilt
from bench.core.work import backward, forward
from bench.plan.rates import read_rates
from benchmarks import gpu
from benchmarks.gpu_networks import ShapedDecoder, Sizes
from benchmarks.gpu_parts import prices_of

ABSENT = ("ray", "mlflow", "diffusers", "open_clip")

ROWS = (
    "bf16 matmul",
    "transformer forward",
    "TFLOP/s forward / backward, bfloat16",
    "TFLOP/s forward / backward, float32",
    "mfm-g step, n = 2, N = 4, bf16",
    "the same step in a plain loop",
    "mfm-g, n = 2, N = 64, bf16",
    "32 methods, 5 steps",
    "cpu float32 against cpu float32",
    "cpu bfloat16 against cpu float32",
    "host synchronisations per step",
)


def test_the_whole_benchmark_runs_in_small_without_optional_packages(tmp_path):
    start = f"import sys; sys.modules.update(dict.fromkeys({ABSENT}))\nfrom benchmarks import gpu\n"
    options = ["--tiny", "--device", "cpu", "--rates", str(tmp_path / "cpu.json")]
    code = f"{start}sys.exit(gpu.main({options}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith(ROWS)]
    assert len(lines) == len(ROWS) and " NO" not in done.stdout
    assert "32 finite, rows as predicted" in done.stdout and "yes" in lines[7]
    (rates,) = read_rates(tmp_path)
    work, flops = forward("flow", 3) + backward("reward", 2), {("flow", "forward"): 7.0}
    for dtype in ("bfloat16", "float32"):
        assert set(rates.rates[dtype]) == {"flow", "map", "decoder", "reward"}
        rate = rates.rates[dtype]["flow"]["forward"]
        assert rates.seconds(work, flops, dtype) == pytest.approx(21 / rate)
    assert rates.seconds(work, flops, "float16") is None


def test_without_a_card_it_says_what_it_needs(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert gpu.main([]) == 2
    assert capsys.readouterr().out == (
        "benchmarks.gpu needs the device cuda, which is not here: run it on a machine with a CUDA "
        "device, or in small with --tiny --device cpu\n"
    )


def test_the_networks_weigh_what_those_of_people_weigh():
    """GFLOP per row: XL/2, the decoder of SD at 256 pixels, ViT-H/14 (as counted in open_clip)."""
    found = prices_of(Sizes(), (3, 256, 256))
    counted = {role: price.forward.per_row / 1e9 for role, price in found.items()}
    asked = {"flow": 237.3, "map": 237.3, "decoder": 622.2, "reward": 334.6}
    assert counted == pytest.approx(asked, rel=1e-3)


def test_the_decoder_of_torch_layers_costs_what_that_of_diffusers_does():
    import diffusers

    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=2,
        latent_channels=4,
        norm_num_groups=4,
    )
    z, prices = torch.zeros(2, 4, 8, 8), []
    for net in (vae, ShapedDecoder((8, 16), groups=4)):
        net.requires_grad_(False)
        made = (lambda z, net=net: net.decode(z, return_dict=False)[0]), (z,)
        prices.append(price_unbuilt(lambda made=made: made))
        assert made[0](z).shape == (2, 3, 16, 16)
    assert prices[0] == prices[1]
