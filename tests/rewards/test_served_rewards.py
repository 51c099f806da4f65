"""Rewards over HTTP: a real server process, killed, replaced, lying; and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.core.params import UserError
from bench.plan.binding import make_reward
from bench.plan.expand import expand
from bench.plan.suite import build_suite
from bench.runner.instances import instances_of
from rewards.scorer_client import ScorerError
from tests.worlds.scorer_servers import COLOURS, HEALTH, SERVER, ServerProcess, answering, serving

PATIENT = "pause=0.05,retries=6"
PROMPTS = ["a red cat", "something green", "a blue and red sky"]
WANTED = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [1, -1, 1]])


def pictures(n: int = 3, channels: int = 3) -> torch.Tensor:
    shown = torch.randint(0, 256, (n, channels, 6, 5), generator=torch.Generator().manual_seed(1))
    return shown.float() / 127.5 - 1


def truth(x: torch.Tensor, signs: torch.Tensor = WANTED) -> torch.Tensor:
    return (((x + 1) / 2).expand(-1, 3, -1, -1).mean((2, 3)) * signs).mean(1)


def reward(url: str, more: str = "pause=0.01") -> object:
    return make_reward(f"http:url={url},{more}")[1]


@pytest.fixture(scope="module")
def server():
    with serving(COLOURS) as running:
        yield running


# -- scores ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_picture_has_the_score_of_its_own_prompt(server, batch, channels):
    made, x = reward(server.url, f"name=colours,batch={batch}"), pictures(channels=channels)
    torch.testing.assert_close(made.score_pairs(x, PROMPTS), truth(x))
    torch.testing.assert_close(made(x, "a red cat"), truth(x, WANTED[0]))


def test_pictures_are_clipped_and_what_is_not_finite_has_no_score(server):
    x = torch.full((3, 3, 4, 4), 9.0)
    x[1, 0, 0, 0] = torch.nan
    found = reward(server.url)(x, "white")
    assert found[0] == found[2] == 1.0 and found[1].isnan()


def test_the_server_runs_without_anything_of_ours(server):
    code = f"import sys; sys.path.insert(0, {str(SERVER.parent)!r}); import scorer_server"
    heavy = "assert not {'torch', 'bench', 'numpy'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-I", "-c", f"{code}; {heavy}"], check=True)


def test_the_order_of_the_arguments_does_not_matter(tmp_path):
    scorer = tmp_path / "turned.py"
    scorer.write_text("def score(prompts, pictures): return [p.width / 10 for p in pictures]")
    with serving(scorer) as running:
        assert reward(running.url)(pictures(), "a").tolist() == pytest.approx([0.5] * 3)


def test_a_prompt_is_needed_only_where_the_scorer_reads_one(tmp_path, server):
    with pytest.raises(UserError, match="needs a sentence"):
        reward(server.url)(pictures(), 3)
    (tmp_path / "plain.py").write_text(
        "PROMPTS = False\ndef score(pictures, prompts): return [1.0] * 3"
    )
    with serving(tmp_path / "plain.py") as running:
        assert reward(running.url)(pictures(), 3).tolist() == [1.0] * 3


# -- killed, replaced -----------------------------------------------------------------------------

SLOW = """
import pathlib, time
def score(pictures, prompts):
    here = pathlib.Path(__file__).parent
    (here / "asked").write_text("")
    while not (here / "go").exists():
        time.sleep(0.01)
    return [p.width / 10 for p in pictures]
"""


def wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def slow(tmp_path):
    (tmp_path / "slow.py").write_text(SLOW)
    server = ServerProcess(tmp_path / "slow.py")
    yield server, tmp_path
    server.kill()


def test_killed_in_the_middle_and_started_again_it_is_asked_again(slow):
    server, folder = slow
    made, found = reward(server.url, "pause=0.1,retries=8"), []
    thread = threading.Thread(target=lambda: found.append(made(pictures(), "a").tolist()))
    assert made.health.name == "slow"
    thread.start()
    wait_for(folder / "asked")
    server.kill()
    (folder / "go").write_text("")
    again = ServerProcess(folder / "slow.py", server.port)
    thread.join(30)
    again.kill()
    assert found == [pytest.approx([0.5] * 3)]


def test_killed_for_good_it_is_one_clear_error(slow):
    server, folder = slow
    made, errors = reward(server.url, "pause=0.01,retries=3"), []

    def ask():
        try:
            made(pictures(), "a")
        except ScorerError as error:
            errors.append(str(error))

    assert made.health
    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(folder / "asked")
    server.kill()
    thread.join(30)
    (said,) = errors
    assert server.url in said and "4 tries" in said and "start it with" in said
    assert "\n" not in said


def test_a_server_that_takes_too_long_is_one_clear_error(slow):
    server, _ = slow
    made = reward(server.url, "pause=0.01,retries=1,timeout=0.2")
    with pytest.raises(ScorerError, match=r"2 tries over .* \(timed out\).*timeout"):
        made(pictures(), "a")


def test_another_version_in_the_middle_is_refused(tmp_path):
    scorer = tmp_path / "colours.py"
    scorer.write_text(COLOURS.read_text())
    server = ServerProcess(scorer)
    made = reward(server.url, PATIENT)
    assert made(pictures(), "red").shape == (3,)
    server.kill()
    scorer.write_text(COLOURS.read_text() + "\n# mended\n")
    again = ServerProcess(scorer, server.port)
    try:
        with pytest.raises(ScorerError, match="never mixed"):
            made(pictures(), "red")
    finally:
        again.kill()


# -- answers that are not to be believed ----------------------------------------------------------


def right(scores: object, **other: object) -> tuple[int, dict[str, object]]:
    return 200, {"protocol": 1, "name": "liar", "version": "1", "scores": scores} | other


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (right([0.1, 0.2]), "2 scores for 3 pictures"),
        (right([0.1] * 9), "9 scores for 3 pictures"),
        (right([0.1, float("nan"), 0.2]), "nan for picture 1"),
        (right([0.1, 0.2, float("inf")]), "inf for picture 2"),
        (right([0.1, 0.2, "0.3"]), "'0.3' for picture 2"),
        (right([0.1, None, 0.3]), "None for picture 1"),
        (right([True, 0.2, 0.3]), "True for picture 0"),
        (right({"0": 1}), "no list of scores"),
        (right([0.1] * 3, name="other"), "another one, 'other'"),
        (right([0.1] * 3, protocol=2), "protocol 2"),
        (right([0.1] * 3, version="2"), "never mixed"),
        ((200, b"<html>"), "no JSON"),
        ((200, [1]), "no JSON object"),
        ((500, {"error": "CUDA\nout of memory"}), "answered 500: CUDA out of memory"),
        ((404, b""), "answered 404"),
        ((307, "http://example.org/score"), "answered 307"),
    ],
)
def test_a_wrong_answer_is_an_error_that_names_the_server_and_is_not_asked_for_again(answer, said):
    with answering(answer) as (url, asked):
        with pytest.raises(ScorerError, match=f"liar at {url}.*{said}|{said}"):
            reward(url, "name=liar,pause=0.01")(pictures(), "red")
        assert len(asked) == 1


def test_a_busy_server_is_asked_again():
    with answering((503, {"error": "loading"}), right([0.1, 0.2, 0.3])) as (url, asked):
        made = reward(url, "name=liar,pause=0.01")(pictures(), "red")
    assert made.tolist() == pytest.approx([0.1, 0.2, 0.3]) and len(asked) == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return [1.0]", "1 numbers for 3 pictures"),
        ("return [1.0, float('nan'), 2.0]", "nan for picture 1"),
        ("raise RuntimeError('no memory')", "RuntimeError: no memory"),
    ],
)
def test_a_broken_scorer_is_named_by_its_server(tmp_path, body, said):
    (tmp_path / "broken.py").write_text(f"def score(pictures, prompts): {body}")
    with (
        serving(tmp_path / "broken.py") as running,
        pytest.raises(ScorerError, match=f"{running.url}.*{said}"),
    ):
        reward(running.url)(pictures(), "red")


def test_requests_that_are_wrong_are_said_to_be(server):
    from urllib import error, request

    def ask(path: str, body: bytes, kind: str = "application/json") -> str:
        try:
            request.urlopen(request.Request(server.url + path, body, {"Content-Type": kind}))
        except error.HTTPError as refused:
            assert refused.code == 400
            return str(json.loads(refused.read())["error"])
        return ""

    good = {"protocol": 1, "pictures": [], "prompts": []}
    assert "POST JSON" in ask("/score", b"{}", "text/plain")
    assert "no JSON" in ask("/score", b"{")
    assert "protocol 1" in ask("/score", b"{}")
    assert "0 pictures and 1 prompts" in ask(
        "/score", json.dumps(good | {"prompts": ["a"]}).encode()
    )
    bad = good | {"pictures": ["eHl6"], "prompts": ["a"]}
    assert "no PNG" in ask("/score", json.dumps(bad).encode())


# -- where pictures may go ------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["gpu-box", "10.0.0.7", "0.0.0.0", "localhost.example.org"])
def test_another_machine_has_to_be_asked_for(host):
    with pytest.raises(UserError, match=f"{host} is not this machine.*remote=true"):
        make_reward(f"http:url=http://{host}:8750")
    assert make_reward(f"http:url=http://{host}:8750,remote=true")[1].params.remote


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8750", "http://"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(UserError, match="http://HOST:PORT"):
        make_reward(f"http:url={url}")


def test_a_server_lets_nobody_else_in_unless_it_is_asked_for():
    command = [sys.executable, str(SERVER), str(COLOURS), "--host", "0.0.0.0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "--remote" in done.stderr


def test_a_file_without_score_is_no_scorer(tmp_path):
    (tmp_path / "none.py").write_text("def score(x): return x")
    for path, said in ((tmp_path / "none.py", "score(pictures, prompts)"), (tmp_path, "no scorer")):
        done = subprocess.run([sys.executable, str(SERVER), path], capture_output=True, text=True)
        assert done.returncode == 1 and said in done.stderr and "Traceback" not in done.stderr


# -- the record -----------------------------------------------------------------------------------


def planned(url: str, **more: object):
    content = {"name": "t", "tasks": ["shapes"], "methods": ["prior:steps=2"], "n": 4, "seeds": 1}
    return expand(build_suite(content | {"rewards": [f"http:url={url},name=colours"]} | more))[0]


def test_the_version_decides_the_cell_and_the_address_does_not(server, tmp_path):
    cell = planned(server.url).cell
    version = cell.weights["scorer colours"]
    with serving(COLOURS) as other:
        assert planned(other.url).cell.id == cell.id
    (tmp_path / "colours.py").write_text(COLOURS.read_text() + "\n# mended\n")
    with serving(tmp_path / "colours.py") as mended:
        changed = planned(mended.url).cell
    assert changed.id != cell.id and changed.weights["scorer colours"] != version
    assert replace(cell, reward_params=cell.reward_params | {"prompt": "a"}).id != cell.id


def test_a_cell_is_not_run_with_another_version_than_it_was_planned_with(server):
    cell = planned(server.url).cell
    assert instances_of(cell).target.reward.health.name == "colours"
    with pytest.raises(UserError, match="when the cell was planned"):
        instances_of(replace(cell, weights=cell.weights | {"scorer colours": "older"}))


def test_the_wrong_scorer_behind_an_address_is_refused(server):
    with pytest.raises(ScorerError, match="another one, 'colours'"):
        reward(server.url, "name=hpsv3").weights()


# -- the scorers that we bring --------------------------------------------------------------------

FOREIGN = {
    # The order of the arguments as in release 1.0.0 and as in later source.
    "hpsv3.py": "class HPSv3RewardInferencer:\n"
    "    def __init__(self, checkpoint_path, device): pass\n"
    "    def reward(self, {order}):\n"
    "        return [(p.width / 10 + len(t), 99) for p, t in zip(image_paths, prompts)]\n",
    "t2v_metrics.py": "from PIL import Image\n"
    "class VQAScore:\n"
    "    def __init__(self, model): pass\n"
    "    def __call__(self, images, texts):\n"
    "        return [[Image.open(i).width / 100 + len(t) / 100 for t in texts] for i in images]\n",
    "easyocr.py": "class Reader:\n"
    "    def __init__(self, languages, gpu): pass\n"
    "    def readtext(self, picture, detail): return ['He', 'llo w']\n",
    "torch.py": "import contextlib\ninference_mode = contextlib.nullcontext\n",
}


def foreign(folder: Path, order: str = "prompts, image_paths") -> dict[str, str]:
    """The packages that the scorers import, by stand-ins with the same signatures."""
    for name, text in FOREIGN.items():
        (folder / name).write_text(text.replace("{order}", order))
    for name in ("hpsv3", "t2v_metrics", "easyocr"):
        about = folder / f"{name}-1.0.dist-info" / "METADATA"
        about.parent.mkdir(exist_ok=True)
        about.write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n")
    weights = folder / "weights.safetensors"
    weights.write_bytes(b"weights")
    return {**os.environ, "PYTHONPATH": str(folder), "HPSV3_CHECKPOINT": str(weights)}


@pytest.mark.parametrize("order", ["prompts, image_paths", "image_paths, prompts"])
def test_hpsv3_is_called_right_in_both_releases(tmp_path, order):
    with serving(COLOURS.with_name("hpsv3.py"), foreign(tmp_path, order)) as running:
        made = reward(running.url, "name=hpsv3")
        found = made.score_pairs(pictures(), ["a", "bb", "ccc"])
        assert found.tolist() == pytest.approx([1.5, 2.5, 3.5])
        assert made.health.version.startswith("hpsv3 1.0 ")
        assert "HPD v2 85.4 %" in made.credibility().accuracy


def test_vqascore_takes_the_diagonal(tmp_path):
    with serving(COLOURS.with_name("vqascore.py"), foreign(tmp_path)) as running:
        found = reward(running.url).score_pairs(pictures(), ["a", "bb", "ccc"])
        assert found.tolist() == pytest.approx([0.06, 0.07, 0.08])


def test_ocr_reads_what_stands_in_quotation_marks(tmp_path):
    with serving(COLOURS.with_name("ocr.py"), foreign(tmp_path)) as running:
        made = reward(running.url)
        asked = ['a sign "hello"', 'a sign "hellow orld"', "a sign “xyz”"]
        # "hellow" was read: all of it; 4 of 10 letters lacking; nothing of it.
        assert made.score_pairs(pictures(), asked).tolist() == pytest.approx([1.0, 0.6, 0.0])
        with pytest.raises(ScorerError, match="no text in quotation marks"):
            made(pictures(), "a sign")


def test_an_answer_of_unified_reward_without_a_rating_is_no_rating():
    import importlib.util

    spec = importlib.util.spec_from_file_location("unified", COLOURS.with_name("unified_reward.py"))
    unified = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(unified)
    assert unified.rating("It fits.\nFinal Score: 3.5") == 3.5
    for text in ("no idea", "Final Score: 9", "Final Score: 55", "Final Score: -"):
        with pytest.raises(ValueError, match="no rating"):
            unified.rating(text)


def test_health_of_the_double_is_that_of_the_server(server):
    assert set(HEALTH) <= set(vars(reward(server.url).health))


def test_a_cell_is_scored_by_the_server_and_fails_in_one_sentence_without_it(tmp_path):
    from bench.runner.cell import Job

    scorer = tmp_path / "colours.py"
    scorer.write_text(COLOURS.read_text())
    with serving(scorer) as running:
        cell = planned(f"{running.url},pause=0.01,prompt=red").cell
        found = Job(cell, metrics=("reward",)).run()
    (row,) = found.metrics
    assert found.ok and -1 <= row.value <= 1 and row.accuracy == "not published"
    assert len(found.scores["reward"]) == cell.n
    lost = Job(cell, metrics=("reward",)).run()
    assert lost.status == "failed" and "\n" not in lost.reason
    assert running.url in lost.reason and "5 tries" in lost.reason
