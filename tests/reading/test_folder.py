"""What a folder holds: in which order, what is left out, what stands in it twice."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bench.core.params import UserError
from bench.reading.account import remarks, write_files
from bench.reading.folder import contents, doubtful_order, natural
from bench.reading.survey import survey
from tests.worlds.picture_files import colours, save, turned


def test_pictures_stand_in_the_order_of_their_numbers(tmp_path):
    for k in range(12):
        save(tmp_path / f"{k}.png", colours(seed=k))
    assert contents(tmp_path).names() == [f"{k}.png" for k in range(12)]


@given(numbers=st.sets(st.integers(0, 10**6), min_size=1), stem=st.sampled_from(["", "a-", "x/p_"]))
def test_numbered_names_have_the_order_of_their_numbers(numbers, stem):
    names = [f"{stem}{k}.png" for k in sorted(numbers)]
    assert sorted(set(names), key=natural) == names
    assert not doubtful_order(names)
    assert sorted((f"{stem}{k:07d}.png" for k in numbers), key=natural) == [
        f"{stem}{k:07d}.png" for k in sorted(numbers)
    ]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["1.png", "01.png"], "same number"),
        (["1.png", "1.jpg"], "same number"),
        (["cat.png", "dog.png"], "more than numbers"),
        (["cats/1.png", "dogs/1.png"], "more than numbers"),
        (["1.png", "2 (copy).png"], "more than numbers"),
        (["IMG_1.png", "img_2.png"], "more than numbers"),
    ],
)
def test_an_order_that_is_not_plain_is_known(names, reason):
    assert reason in doubtful_order(names)


def mixed(folder):
    """Three pictures among all that stands beside pictures."""
    for k in range(3):
        save(folder / f"{k}.png", colours(seed=k))
    save(folder / ".ipynb_checkpoints" / "0-checkpoint.png", colours())
    save(folder / ".hidden.png", colours())
    save(folder / "grid-0000.png", colours(20, 28))
    save(folder / "txt2img-grids" / "1.png", colours(20, 28))
    Image.fromarray(colours()).save(folder / "moving.gif")
    (folder / "notes.txt").write_text("notes")
    (folder / "metadata.jsonl").write_text("{}")
    (folder / "folder.png").mkdir()
    (folder / "link.png").symlink_to(folder / "0.png")
    (folder / "linked").symlink_to(folder.parent)
    os.mkfifo(folder / "pipe.png")
    more = [Image.fromarray(colours(seed=8))]
    save(folder / "9.webp", colours(), save_all=True, append_images=more)
    return folder


def test_what_is_no_picture_is_left_out_and_counted(tmp_path):
    found = survey(mixed(tmp_path / "own")).contents
    assert found.names() == ["0.png", "1.png", "2.png"]
    assert {reason: found.names(paths) for reason, paths in found.left_out.items()} == {
        "records": ["metadata.jsonl"],
        "hidden": [".hidden.png", ".ipynb_checkpoints"],
        "link": ["link.png", "linked"],
        "folder": ["folder.png"],
        "grid": ["grid-0000.png", "txt2img-grids/1.png"],
        "frames": ["9.webp"],
        "other": ["moving.gif", "notes.txt", "pipe.png"],
    }


def test_pictures_that_are_all_called_grid_are_no_overviews(tmp_path):
    for k in range(3):
        save(tmp_path / f"grid-{k}.png", colours(seed=k))
    assert len(contents(tmp_path).pictures) == 3


def test_a_folder_of_links_says_why_it_is_empty(tmp_path):
    save(tmp_path / "real" / "0.png", colours())
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "0.png").symlink_to(tmp_path / "real" / "0.png")
    with pytest.raises(UserError, match="1 symbolic links"):
        contents(tmp_path / "own")
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    assert contents(tmp_path / "alias").names() == ["0.png"]


def test_all_broken_pictures_are_named_at_once(tmp_path):
    save(tmp_path / "0.png", colours())
    for k in range(1, 6):
        (tmp_path / f"{k}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1\.png.*2\.png.*3\.png.*and 2 more"):
        survey(tmp_path)


def test_duplicates_are_those_of_pixels_whatever_the_file(tmp_path):
    save(tmp_path / "0.png", colours())
    save(tmp_path / "1.bmp", colours())
    save(tmp_path / "2.png", colours(seed=1))
    assert survey(tmp_path).duplicates() == [("1.bmp", "0.png")]


def test_the_account_says_what_was_done_with_each_file(tmp_path):
    folder = mixed(tmp_path / "own")
    save(folder / "3.png", colours(seed=3), exif=turned(6))
    save(folder / "4.png", colours(seed=0))
    found = survey(folder)
    said = {(r.about, r.count): r.text for r in remarks(found)}
    assert "0.png to 4.png" in said["read", 5] and "5 x 7 (1)" in said["read", 5]
    assert said["read", 1].startswith("turned upright as EXIF says; clean-fid")
    assert said["duplicates", 1].endswith("4.png is 0.png")
    write_files(tmp_path / "files.csv", [found])
    lines = (tmp_path / "files.csv").read_text().splitlines()
    everything = [p for p in folder.rglob("*") if ".ipynb_checkpoints/" not in str(p)]
    assert len(lines) == 1 + len(everything) - 1  # txt2img-grids is the folder of a file
    assert sum("left out: symbolic links" in line for line in lines) == 2
    assert f"{folder},4.png,read; same pixels as 0.png" in lines
