"""Evaluation of pictures: distances, their intervals, refusals, folders, prompts."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from bench.metrics import frechet, intervals

RNG = np.random.default_rng


# -- Frechet --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 5), (60, 500, 24), (20, 25, 40)])
def test_frechet_agrees_with_the_nuclear_norm(n, m, d):
    """tr (C C')^(1/2) is the nuclear norm of A B' / sqrt((n-1)(m-1)) for centred data A, B."""
    rng = RNG(d)
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    y = rng.standard_normal((m, d)) * 2 + 1
    a, b = x - x.mean(0), y - y.mean(0)
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt((n - 1) * (m - 1))
    traces = (a**2).sum() / (n - 1) + (b**2).sum() / (m - 1)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + traces - 2 * overlap
    found = frechet.frechet_distance(frechet.moments(x), frechet.moments(y))
    assert found == pytest.approx(expected, rel=1e-6)


def test_frechet_of_commuting_gaussians_is_closed_form():
    a = frechet.Moments(np.zeros(3), np.diag([1.0, 4.0, 0.0]), 10)
    b = frechet.Moments(np.ones(3), np.diag([9.0, 4.0, 1.0]), 10)
    assert frechet.frechet_distance(a, b) == pytest.approx(3 + (3 - 1) ** 2 + 0 + 1, rel=1e-12)


def test_the_libraries_agree_on_the_same_features():
    from bench.metrics import libraries

    rng = RNG(1)
    x, y = rng.standard_normal((500, 6)), rng.standard_normal((700, 6)) * 1.3 + 0.2
    own = frechet.frechet_distance(frechet.moments(x), frechet.moments(y))
    assert libraries.torchmetrics_frechet(x, y) == pytest.approx(own, rel=1e-6)
    assert libraries.clean_frechet(x, y) == pytest.approx(own, rel=1e-6)


def test_small_samples_are_refused():
    assert "2,048" in frechet.too_few(500, 2048, inception=True)
    assert "2,048" in frechet.too_few(2047, 2048, inception=True)
    assert not frechet.too_few(2048, 2048, inception=True)
    assert "640" in frechet.too_few(639, 64, inception=False)
    assert not frechet.too_few(640, 64, inception=False)


# -- intervals ------------------------------------------------------------------------------------

DIMENSION = 4


def third_moment(m, k):
    """E (x.y)^j for j = 1, 2, 3, x ~ N(m, 1), y ~ N(k, 1), by conditioning on y."""
    a, s, t, d = float(m @ k), float(m @ m), float(k @ k), len(m)
    return a, s + a * a + d + t, a**3 + 3 * a * s + 3 * (a * (d + t) + 2 * a)


def cubic_truth(shift):
    """MMD^2 of N(0, 1) and N(shift e1, 1) under the cubic kernel, in closed form."""
    zero, mean = np.zeros(DIMENSION), np.eye(DIMENSION)[0] * shift

    def expected(m, k):
        u = third_moment(m, k)
        d = DIMENSION
        return 1 + 3 * u[0] / d + 3 * u[1] / d**2 + u[2] / d**3

    return expected(zero, zero) + expected(mean, mean) - 2 * expected(zero, mean)


def gaussian_truth(shift, bandwidth):
    """MMD^2 of N(0, 1) and N(shift e1, 1) under a Gaussian kernel."""
    spread = bandwidth**2 + 2
    factor = (bandwidth**2 / spread) ** (DIMENSION / 2)
    return 2 * factor * (1 - np.exp(-(shift**2) / (2 * spread)))


KERNELS = {
    "cubic": (intervals.cubic, cubic_truth),
    "gaussian": (intervals.gaussian(2.0), lambda shift: gaussian_truth(shift, 2.0)),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_intervals_cover_the_truth(name, shift):
    """90 % nominal, 1,000 simulations, equal and unequal laws: 87 to 93 %."""
    kernel, truth = KERNELS[name]
    rng, hits, middle = RNG(0), 0, []
    for k in range(1000):
        x, y = rng.standard_normal((2, 200, DIMENSION))
        y[:, 0] += shift
        found = intervals.kernel_interval(x, y, kernel, seed=k)
        hits += found.low <= truth(shift) <= found.high
        middle.append(found.value)
    assert 870 <= hits <= 930
    error = np.std(middle) / np.sqrt(1000)
    assert abs(np.mean(middle) - truth(shift)) < 4 * error


def test_intervals_do_not_depend_on_the_order_of_a_folder():
    """Rows of two clusters, sorted: blocks drawn at random keep the interval centred."""
    rng = RNG(5)
    x = np.concatenate([rng.standard_normal((100, 2)) + s for s in (-3, 3)])
    y = np.concatenate([rng.standard_normal((100, 2)) + s for s in (-3, 3)])
    found = intervals.kernel_interval(x, y, intervals.gaussian(1.0))
    assert found.low < 0 < found.high
    assert found.high < 0.3
    with pytest.raises(ValueError, match="40"):
        intervals.kernel_interval(x[:39], y, intervals.gaussian(1.0))


def test_mean_interval_is_the_t_interval():
    values = RNG(2).standard_normal(10)
    low, high = stats.t.interval(0.9, 9, values.mean(), stats.sem(values))
    found = intervals.mean_interval(values)
    assert (found.low, found.high) == pytest.approx((low, high))


# -- pictures -------------------------------------------------------------------------------------


def pictures(n, seed=0, side=12, shift=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 200, (n, 3, 3, 3), generator=g) + shift
    return x.to(torch.uint8).repeat_interleave(side // 3, 1).repeat_interleave(side // 3, 2)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    from bench.models import picture_folder

    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / "cache"))
    own, real = tmp_path / "own", tmp_path / "real"
    picture_folder.write_pictures(
        own, pictures(60, 1, shift=40), [{"prompt": f"picture {k}"} for k in range(60)]
    )
    picture_folder.write_pictures(real, pictures(80, 2))
    return own, real


def test_folders_are_lossless_and_known_by_their_contents(folders, tmp_path):
    from bench.models import picture_folder
    from bench.reading.picture import read_pictures
    from bench.reading.records import recorded_prompts
    from bench.reading.survey import survey

    own = survey(folders[0])
    assert torch.equal(torch.stack(list(read_pictures(own.paths))), pictures(60, 1, shift=40))
    assert recorded_prompts(folders[0], own.contents.names())[7] == "picture 7"
    picture_folder.write_pictures(tmp_path / "copy", pictures(60, 1, shift=40))
    assert survey(tmp_path / "copy").digest == own.digest
    own.paths[0].rename(own.paths[0].with_name("99999.png"))
    assert survey(folders[0]).digest != own.digest


def rows_of(folders, encoders):
    from bench.metrics.image_row import Folder, metric_rows

    own, real = map(Folder.of, folders)
    return {(r.metric, r.encoder, r.implementation): r for r in metric_rows(own, real, encoders)}


def test_the_row_has_distances_with_intervals_and_refusals(folders):
    from bench.metrics.encoders import pixels

    rows = rows_of(folders, {"pixels": pixels(), "dinov2": "not here"})
    refused = rows["frechet", "pixels", "tiltbench"]
    assert refused.value is None and "1,920" in refused.note
    kernel = rows["kernel-distance", "pixels", "tiltbench"]
    assert kernel.low < kernel.value < kernel.high
    assert rows["(all)", "dinov2", "tiltbench"].note == "not here"
    assert rows["vendi", "pixels", "tiltbench"].value > 1
    assert rows["brightness", "", "tiltbench"].standard_error > 0


def test_a_500_sample_inception_fid_is_refused_and_implementations_stay_apart():
    from bench.metrics.encoders import Encoder
    from bench.metrics.image_distances import distances

    x, y = RNG(0).standard_normal((2, 500, 8))
    for name, library in (("inception-clean", "clean-fid"), ("inception-legacy", "torchmetrics")):
        encoder = Encoder(name, 8, lambda x: x, lambda x: x, inception=True)
        rows = list(distances(x, y, encoder))
        fids = [r for r in rows if r.metric == "fid"]
        assert {r.implementation for r in fids} == {library, "tiltbench"}
        assert all(r.value is None and "2,048" in r.note for r in fids)
        kids = {r.implementation: r for r in rows if r.metric == "kid"}
        assert set(kids) == {library, "tiltbench"}
        assert kids["tiltbench"].low < kids["tiltbench"].high
        many = RNG(1).standard_normal((2, 2048, 8))
        given = [r.value for r in distances(*many, encoder) if r.metric == "fid"]
        assert given == pytest.approx([given[0]] * 2, rel=1e-6)


def test_features_are_computed_once_per_contents(folders):
    from dataclasses import replace

    from bench.metrics.encoders import pixels
    from bench.metrics.image_row import Folder, folder_features

    folder = Folder.of(folders[0])
    first = folder_features(folder, pixels())

    def never(x):
        raise AssertionError("the cache was not used")

    assert np.array_equal(folder_features(folder, replace(pixels(), encode=never)), first)


def test_precision_and_recall_of_samples_that_cover_half():
    from bench.metrics.manifold import precision_recall

    y = RNG(0).random((600, 2))
    half = RNG(1).random((600, 2)) * [0.5, 1]
    precision, recall = precision_recall(half, y)
    assert precision > 0.95 and 0.45 < recall < 0.6
    assert precision_recall(y + 10, y) == (0.0, 0.0)


def test_legacy_resize_is_bilinear_without_the_half_pixel():
    from bench.metrics.encoders import legacy_resize

    ramp = torch.arange(6.0)[None, :, None].expand(4, 6, 3).to(torch.uint8) * 10
    out = legacy_resize(ramp, 12)[0, 0]
    assert torch.allclose(out[:11], torch.arange(11.0) * 5) and float(out[11]) == 50


def test_inception_differs_from_torchvision_by_its_pooling_only():
    """With torchvision's pooling put back, features are torchvision's own."""
    from torch.nn import functional as F

    from bench.models import inception

    torch.manual_seed(0)
    own = inception.FIDInception().eval()
    plain = type(own.net)(num_classes=1008, aux_logits=False, init_weights=False).eval()
    plain.load_state_dict(own.net.state_dict())
    plain.fc = torch.nn.Identity()
    x = torch.randn(1, 3, 299, 299)
    with torch.no_grad():
        expected, found = plain(x), own(x)
        size = float(expected.max())  # random layers shrink what passes through them
        assert not torch.allclose(found / size, expected / size, atol=1e-2)
        for name in ("5b", "5c", "5d", "6b", "6c", "6d", "6e", "7b", "7c"):
            inception._repool(
                getattr(own.net, f"Mixed_{name}"), lambda x: F.avg_pool2d(x, 3, stride=1, padding=1)
            )
        torch.testing.assert_close(own(x) / size, expected / size, atol=1e-4, rtol=1e-4)
    assert own.logits(found).shape == (1, 1008)


# -- diversity ------------------------------------------------------------------------------------


def test_vendi_counts_different_rows():
    from bench.metrics.feature_diversity import mode_count, mode_radius, vendi_score

    eye = np.eye(8)
    assert vendi_score(eye) == pytest.approx(8)
    assert vendi_score(np.repeat(eye[:3], 5, 0)) == pytest.approx(3)
    assert vendi_score(np.ones((9, 4))) == pytest.approx(1)
    real = RNG(0).standard_normal((200, 3))
    collapsed = np.repeat(real[:5], 40, 0) + 1e-6
    radius = mode_radius(real)
    assert mode_count(collapsed, radius) <= 5 < 100 < mode_count(real, radius)


# -- the command line -----------------------------------------------------------------------------


def invoke(*arguments):
    from typer.testing import CliRunner

    from bench.cli.main import app

    return CliRunner().invoke(app, list(map(str, arguments)))


def test_evaluate_gives_rows_for_a_folder_made_elsewhere(folders, tmp_path):
    own, real = folders
    result = invoke(
        "evaluate", own, "--reference", real, "--encoders", "pixels,dinov2",
        "-r", "jpeg-compressibility", "--out", tmp_path / "rows.csv", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    rows = {row["metric"]: row for row in json.loads(result.stdout)}
    assert rows["reward jpeg-compressibility"]["n"] == 60
    assert "bench prefetch dinov2-vit-l-14" in rows["(all)"]["note"]
    assert (tmp_path / "rows.csv").read_text().startswith("metric,encoder")


def test_prefetch_records_a_hash_and_then_needs_no_network(tmp_path, monkeypatch):
    import hashlib

    from bench.core.params import UserError
    from bench.models import external

    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / "cache"))
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    content = b"weights" * 1000
    (mirror / "HPS_v2.1_compressed.pt").write_bytes(content)
    result = invoke("prefetch", "hpsv2", "--from", mirror)
    assert result.exit_code == 0, result.output
    expected = hashlib.sha256(content).hexdigest()
    path = external.locate("hpsv2-2.1")
    assert external.recorded(path)["sha256"] == expected and expected in result.output
    assert invoke("prefetch", "hpsv2", "--from", tmp_path / "nowhere").exit_code == 0
    path.write_bytes(content[:-1])
    with pytest.raises(UserError, match="--again"):
        external.locate("hpsv2-2.1")
    bad = invoke("prefetch", "hpsv2", "--from", mirror, "--again", "--sha256", "0000")
    assert isinstance(bad.exception, UserError) and "sha256" in str(bad.exception)
    missing = invoke("prefetch", "pickscore", "--from", mirror)
    assert isinstance(missing.exception, UserError) and "mirror" in str(missing.exception)
    unknown = invoke("prefetch", "pikscore")
    assert "did you mean 'pickscore'" in str(unknown.exception)


# -- prompts --------------------------------------------------------------------------------------

TWO = ["a cat", "a dog"]
SETS = {
    "plain.txt": ("text", "a cat\n\n a dog \n", TWO, ["", ""]),
    "own.jsonl": (
        "jsonl",
        '{"prompt": "a cat"}\n{"text": "a dog", "category": "x"}\n',
        TWO,
        ["", "x"],
    ),
    "anime.json": ("hpdv2", '["a cat", "a dog"]', TWO, ["anime"] * 2),
    "draw.csv": (
        "drawbench",
        'Prompts,Category\n"a cat, sitting",Colors\n',
        ["a cat, sitting"],
        ["Colors"],
    ),
    "PartiPrompts.tsv": (
        "parti",
        "Prompt\tCategory\tChallenge\tNote\na cat\tAnimals\tBasic\t\n",
        ["a cat"],
        ["Animals"],
    ),
    "meta.jsonl": (
        "geneval",
        '{"tag": "single_object", "include": [], "prompt": "a photo of a cat"}\n',
        ["a photo of a cat"],
        ["single_object"],
    ),
}


@pytest.mark.parametrize("file", SETS)
def test_prompt_sets_are_read_and_recognised(file, tmp_path):
    from bench import prompts

    kind, content, texts, categories = SETS[file]
    (tmp_path / file).write_text(content)
    assert prompts._guess(tmp_path / file) == kind
    found = prompts.read_set(tmp_path / file)
    assert [p.text for p in found] == texts and [p.category for p in found] == categories


def test_bad_prompt_files_are_one_sentence(tmp_path):
    from bench.core.params import UserError
    from bench.prompts import read_prompts

    for name, content in {
        "a.jsonl": "{",
        "b.jsonl": '{"x": 1}',
        "c.csv": "P\n1\n",
        "d.txt": "\n",
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=name[0]):
            read_prompts(tmp_path / name)


def test_splits_are_disjoint_stable_and_near_their_share():
    from bench.prompts import split

    said = [f"prompt number {k}" for k in range(2000)]
    tune, report = split(said, "tune"), split(said, "report")
    assert not set(tune) & set(report) and len(tune) + len(report) == 2000
    assert abs(len(tune) / 2000 - 0.25) < 4 * (0.25 * 0.75 / 2000) ** 0.5
    some = said[1500:][::-1]
    assert split(some, "tune") == [p for p in some if p in set(tune)]
    assert bool(split(["A  Cat"], "tune")) == bool(split(["a cat"], "tune"))
