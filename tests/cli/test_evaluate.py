"""`bench evaluate`: each picture has its own sentence, and every file an account."""

import json
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image

from bench.core.params import UserError
from tests.worlds.picture_files import colours, save, turned

WORDS = ["zero", "one", "two", "three", "four", "five"]
WORDS += ["six", "seven", "eight", "nine", "ten", "eleven"]


@pytest.fixture(autouse=True)
def numbers_reward(monkeypatch, tmp_path):
    """A reward that is 1 where the brightness of a picture is the number of its sentence."""

    def score(pixels, prompts):
        shown = (pixels.mean((1, 2, 3)) * 255).round()
        asked = torch.tensor([float(WORDS.index(p)) if p in WORDS else -1.0 for p in prompts])
        return (shown == asked).float()

    module = types.ModuleType("numbers_reward")
    module.score, module.__file__ = score, None
    monkeypatch.setitem(sys.modules, "numbers_reward", module)
    monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    for k in range(12):
        save(tmp_path / "own" / f"{k}.png", np.full((4, 4, 3), k, np.uint8))
    (tmp_path / "prompts.txt").write_text("\n".join(WORDS))
    return tmp_path / "own"


def invoke(*arguments):
    from typer.testing import CliRunner

    from bench.cli.main import app

    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--encoders", "pixels"])


def rows(*arguments):
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


def score(*arguments):
    found = rows(*arguments, "-r", "callable:function=numbers_reward:score")
    return next(row for row in found if row["metric"].startswith("reward"))


def refusal(*arguments):
    done = invoke(*arguments)
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


# -- which sentence -------------------------------------------------------------------------------


def test_the_kth_picture_has_the_kth_prompt(folder):
    assert score(folder, "--prompts", folder.parent / "prompts.txt")["value"] == 1.0


def test_an_order_that_is_not_plain_is_refused_and_can_be_corrected(folder):
    (folder / "1.png").rename(folder / "one.png")
    pairs = folder.parent / "pairs.csv"
    given = ("--prompts", folder.parent / "prompts.txt")
    assert "one.png differ in more than numbers" in refusal(folder, *given)
    assert "holds a guess" in refusal(folder, *given, "--write-pairs", pairs)
    lines = [f"{'one' if k == 1 else k}.png,{word}" for k, word in enumerate(WORDS)]
    pairs.write_text("\n".join(["picture,prompt", *lines]))
    assert score(folder, "--pairs", pairs)["value"] == 1.0


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_the_pairing_is_written_and_read_back(ending, folder):
    pairs, again = folder.parent / f"pairs.{ending}", folder.parent / f"again.{ending}"
    rows(folder, "--prompts", folder.parent / "prompts.txt", "--write-pairs", pairs)
    assert score(folder, "--pairs", pairs, "--write-pairs", again)["value"] == 1.0
    assert again.read_bytes() == pairs.read_bytes()


def test_what_is_no_file_is_no_sentence(folder):
    said = refusal(folder, "--prompts", "promts.txt")
    assert "there is no prompt file promts.txt" in said and "--prompt 'promts.txt'" in said
    assert "there is no file" in refusal(folder, "--pairs", "pairs.csv")


def test_one_sentence_for_all_is_an_option_of_its_own(folder):
    assert score(folder, "--prompt", "three")["value"] == pytest.approx(1 / 12)
    assert "give one" in refusal(
        folder, "--prompt", "a", "--prompts", folder.parent / "prompts.txt"
    )
    assert "empty" in refusal(folder, "--prompt", " ")


def test_records_with_one_missing_prompt_are_refused(folder):
    lines = [json.dumps({"file_name": f"{k}.png", "prompt": w}) for k, w in enumerate(WORDS)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    assert score(folder)["value"] == 1.0
    (folder / "metadata.jsonl").write_text("\n".join(lines[1:]))
    assert "0.png has no prompt" in refusal(folder, "-r", "jpeg-compressibility")


# -- every file -----------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    """A folder with a picture of every kind, and with what is none."""
    own = tmp_path / "mixed"
    save(own / "0.png", colours())
    save(own / "1.tif", np.full((5, 7), 31981, np.uint16))
    save(own / "2.png", np.concatenate([colours(), colours(seed=1)[..., :1]], -1))
    save(own / "3.jpg", colours(), exif=turned(6))
    save(own / "4.bmp", colours())
    save(own / ".ipynb_checkpoints" / "0-checkpoint.png", colours())
    save(own / "grid-0.png", colours(20, 28))
    Image.fromarray(colours()).save(own / "5.gif")
    (own / "6.png").symlink_to(own / "0.png")
    (own / "7.png").mkdir()
    return own


def test_a_mixed_folder_says_what_was_done_with_each_file(mixed):
    table = invoke(mixed)
    assert table.exit_code == 0, table.output
    found = rows(mixed)
    assert {row["n"] for row in found if row["metric"] == "brightness"} == {5}
    notes = [row["note"] for row in found if row["metric"].startswith("(")]
    for name in ("1.tif", "2.png", "3.jpg", "4.bmp", "grid-0.png", "5.gif", "6.png", "7.png"):
        assert sum(name in note for note in notes[1:]) == 1, name
        assert name in table.output
    assert sum(".ipynb_checkpoints" in note for note in notes) == 1
    assert any("clean-fid does not turn" in note for note in notes)


def test_brackets_in_names_are_shown(tmp_path):
    save(tmp_path / "own" / "[red]0.png", colours())
    assert "[red]0.png" in invoke(tmp_path / "own").output


def test_every_file_stands_in_the_list(mixed, tmp_path):
    rows(mixed, "--files", tmp_path / "files.csv")
    listed = (tmp_path / "files.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[1] for line in listed) == sorted(p.name for p in mixed.iterdir())


def test_a_run_twice_gives_the_same_bytes(mixed, tmp_path, monkeypatch):
    given = (mixed, "--reference", mixed, "-r", "jpeg-compressibility", "--files")
    done = []
    for k, cache in enumerate(("cache", "cache", "other")):
        monkeypatch.setenv("TILTBENCH_CACHE", str(tmp_path / cache))
        out = [tmp_path / f"{k}.{ending}" for ending in ("csv", "json", "parquet")]
        texts = [invoke(*given, tmp_path / "f.csv", "--out", path).stdout for path in out]
        texts.append(invoke(*given, tmp_path / "f.csv", "--json").stdout)
        done.append([*texts, *(p.read_bytes() for p in out), (tmp_path / "f.csv").read_bytes()])
    assert done[0] == done[1] == done[2]


def test_pictures_that_stand_in_the_reference_are_counted(mixed, folder):
    notes = {r["note"]: r["n"] for r in rows(mixed, "--reference", mixed)}
    assert notes["pictures of the folder that also stand in the reference, pixel by pixel"] == 4
    assert not any("also stand" in r["note"] for r in rows(mixed, "--reference", folder))


def test_broken_files_are_one_sentence(folder):
    (folder / "3.png").write_bytes((folder / "3.png").read_bytes()[:30])
    said = refusal(folder)
    assert "3.png cannot be read" in said and "\n" not in said


def test_mistakes_are_known_before_anything_is_computed(folder):
    assert "no encoder 'pixel'" in str(invoke(folder, "--weights", "pixel=a").exception)
    assert "end it with" in refusal(folder, "--out", "rows.xlsx")


# -- the cache ------------------------------------------------------------------------------------


def test_a_mended_reader_or_encoder_has_new_features(folder, monkeypatch):
    from dataclasses import replace

    from bench.metrics.encoders import pixels
    from bench.metrics.image_row import Folder, folder_features
    from bench.reading import depth, picture

    first = folder_features(Folder.of(folder), pixels())
    twice = replace(pixels(), encode=lambda x: 2 * x.flatten(1), version="2")
    assert np.allclose(folder_features(Folder.of(folder), twice), 2 * first)

    def mended(opened, stored):
        read = depth.channels(opened, stored)
        return replace(read, colours=255 - read.colours)

    monkeypatch.setattr(picture, "channels", mended)
    assert np.allclose(folder_features(Folder.of(folder), pixels()), 1 - first)


# -- numbers --------------------------------------------------------------------------------------


def test_a_number_that_is_not_finite_is_no_number(monkeypatch, folder):
    from bench.metrics import feature_diversity

    monkeypatch.setattr(feature_diversity, "pairwise_distance", lambda x: float("nan"))
    found = next(row for row in rows(folder) if row["metric"] == "pairwise")
    assert found["value"] is None and "not finite: value" in found["note"]
