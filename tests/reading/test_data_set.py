"""Own data: folders and files become rows with labels, or an error that says what is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet as pq
from safetensors.torch import save_file

from bench.core.params import UserError
from bench.models.data_set import DataSet
from bench.models.picture_folder import pillow
from bench.reading.data_set import read_data_set

ROWS = 24
X = np.random.default_rng(0).normal(size=(ROWS, 3)).astype(np.float32)
KIND = np.arange(ROWS) % 3


def picture(path: Path, level: int, side: int = 4, colour: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((side, side, 3), level, np.uint8)
    values[0, 0] = (255, 0, 0) if colour else 0
    pillow().fromarray(values).save(path)


@pytest.fixture
def pictures(tmp_path):
    for k in range(ROWS):
        picture(tmp_path / "pictures" / f"class-{k % 3}" / f"{k}.png", 10 * k)
    return tmp_path / "pictures"


# -- pictures --------------------------------------------------------------------------------------


def test_sub_folders_are_labels_and_grey_pictures_have_one_channel(pictures):
    found = read_data_set(str(pictures), "folders")
    assert found.x.shape == (ROWS, 1, 4, 4) and found.pictures
    assert found.classes == ("class-0", "class-1", "class-2")
    levels = ((found.x[:, 0, 1, 1] + 1) * 127.5).round().int()
    order = [k for c in range(3) for k in range(c, ROWS, 3)]  # by folder, then by number
    assert levels.tolist() == [10 * k for k in order]
    assert found.label.tolist() == [k % 3 for k in order]
    assert read_data_set(str(pictures)).label is None


def test_a_csv_gives_labels_by_the_pictures_path(pictures, tmp_path):
    names = [f"class-{k % 3}/{k}.png" for k in range(ROWS)]
    lines = [f"{name},{k % 2},{k % 4}" for k, name in enumerate(names)]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(["picture,label,other", *reversed(lines)]))
    found = read_data_set(str(pictures), str(table))
    levels = ((found.x[:, 0, 1, 1] + 1) * 127.5).round().int() // 10
    assert found.label.tolist() == [int(k) % 2 for k in levels]
    assert read_data_set(str(pictures), f"{table}:other").classes == ("0", "1", "2", "3")
    table.write_text(
        "\n".join(["picture,label", *[line[: line.rindex(",")] for line in lines[1:]]])
    )
    with pytest.raises(UserError, match=r"no line for 1 pictures, first class-0/0\.png"):
        read_data_set(str(pictures), str(table))


def test_pictures_that_do_not_fit_together(pictures):
    picture(pictures / "class-1" / "colour.png", 3, colour=True)
    assert read_data_set(str(pictures)).event_shape == (3, 4, 4)
    picture(pictures / "loose.png", 3)
    with pytest.raises(UserError, match=r"loose\.png lies in no folder below"):
        read_data_set(str(pictures), "folders")
    picture(pictures / "class-0" / "large.png", 3, side=8)
    with pytest.raises(UserError, match=r"several sizes, .*8 x 8 \(class-0/large\.png\)"):
        read_data_set(str(pictures))


# -- arrays ----------------------------------------------------------------------------------------


def parquet(path: Path) -> None:
    columns = {f"x{k}": X[:, k] for k in range(3)}
    pq.write_table(pa.table({**columns, "kind": [f"k{k}" for k in KIND]}), path)


def test_files_of_arrays_hold_the_same_rows(tmp_path):
    np.save(tmp_path / "a.npy", X.astype(np.float64))
    np.savez(tmp_path / "a.npz", points=X, kind=KIND, other=KIND // 2)
    save_file({"points": torch.from_numpy(X), "kind": torch.from_numpy(KIND)},
              tmp_path / "a.safetensors")  # fmt: skip
    parquet(tmp_path / "a.parquet")
    (tmp_path / "kinds.csv").write_text("kind\n" + "\n".join(map(str, KIND)))
    for data, labels, first in (
        ("a.npy", f"{tmp_path}/kinds.csv:kind", "0"),
        ("a.npz:points", "kind", "0"),
        ("a.safetensors", "kind", "0"),
        ("a.parquet", "kind", "k0"),
    ):
        found = read_data_set(str(tmp_path / data), labels)
        assert torch.equal(found.x, torch.from_numpy(X)), data
        assert found.label.tolist() == KIND.tolist() and found.classes[0] == first
        assert not found.pictures


def test_classes_that_are_numbers_are_in_their_order(tmp_path):
    label = np.array([10, 9, 2] * 8)
    np.savez(tmp_path / "a.npz", x=X, y=label)
    found = read_data_set(str(tmp_path / "a.npz"), "y")
    assert found.classes == ("2", "9", "10") and found.label[:3].tolist() == [2, 1, 0]


REFUSED = {
    "two arrays": ({"x": X, "y": X}, "", "holds the arrays x, y: say which are the data"),
    "no such labels": ({"x": X, "kind": KIND}, "knid", "did you mean 'kind'"),
    "whole numbers": ({"x": KIND[:, None]}, "", "are int64 of shape"),
    "complex": ({"x": X.astype(np.complex64)}, "", "are complex64 of shape"),
    "no rows": ({"x": X[:, 0]}, "", "with a row for each"),
    "NaN": ({"x": np.where(X[5, 1] == X, np.nan, X)}, "", "1 of 24 rows of .* first row 5"),
    "constant": ({"x": np.ones_like(X)}, "", "are the same: there is nothing to learn"),
    "fractions": ({"x": X, "y": X[:, 0]}, "y", "classes are whole numbers or words"),
    "bytes of no type": ({"x": X, "y": np.zeros(ROWS, "V24")}, "y", "none may be missing"),
    "dates": ({"x": X, "y": KIND.astype("M8[ns]")}, "y", "classes are whole numbers or words"),
    "complex labels": ({"x": X, "y": KIND.astype(complex)}, "y", "are complex128 of shape"),
    "infinite": ({"x": X, "y": np.where(KIND == 1, np.inf, KIND)}, "y", "are float64 of shape"),
    "huge": ({"x": X, "y": np.where(KIND == 1, 1e300, KIND)}, "y", "are float64 of shape"),
    "a class each": ({"x": X, "y": np.arange(ROWS)}, "y", "name 24 classes for 24 rows"),
    "one class": ({"x": X, "y": np.zeros(ROWS, int)}, "y", "name 1 classes for 24 rows"),
    "other length": ({"x": X, "y": KIND[:-2]}, "y", "22 labels .* for 24 rows"),
}


@pytest.mark.parametrize("damage", REFUSED)
def test_arrays_that_cannot_be_learnt_from(tmp_path, damage):
    arrays, labels, why = REFUSED[damage]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=why):
        read_data_set(str(tmp_path / "a.npz"), labels)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_label_that_is_missing_is_no_class(tmp_path, missing):
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    for label in (KIND.tolist(), [f"class {one}" for one in KIND]):
        frame.assign(y=label).to_parquet(tmp_path / "a.parquet")
        assert len(read_data_set(str(tmp_path / "a.parquet"), "y").classes) == len(set(label))
        frame.assign(y=[missing, *label[1:]]).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(UserError, match="none may be missing"):
            read_data_set(str(tmp_path / "a.parquet"), "y")


def test_files_that_are_none_are_said(tmp_path):
    (tmp_path / "a.txt").write_text("1 2")
    (tmp_path / "a.npy").write_text("1 2")
    np.save(tmp_path / "code.npy", np.array([{"a": 1}]), allow_pickle=True)
    for name, why in {
        "a.txt": "none of .npy, .npz",
        "a.npy": "cannot be read",
        "code.npy": "cannot be read",
        "absent.npz": "there is no folder or file",
    }.items():
        with pytest.raises(UserError, match=why):
            read_data_set(str(tmp_path / name))


# -- what is kept of them --------------------------------------------------------------------------


def test_identity_tells_rows_and_labels_apart():
    x = torch.from_numpy(X)
    one = DataSet(x, torch.from_numpy(KIND), ("a", "b", "c"))
    assert one.identity == DataSet(x.clone(), one.label.clone(), one.classes).identity
    moved = DataSet(x.flip(0), one.label, one.classes).identity
    assert moved["data"] != one.identity["data"] and moved["labels"] == one.identity["labels"]
    for other in (
        DataSet(x, one.label.flip(0), one.classes),
        DataSet(x, one.label, ("a", "b", "d")),
    ):
        assert other.identity["data"] == one.identity["data"]
        assert other.identity["labels"] != one.identity["labels"]
    assert DataSet(x).identity["labels"] == ""


def test_what_is_saved_is_read_back_and_splits_alike(tmp_path):
    one = DataSet(torch.from_numpy(X), torch.from_numpy(KIND), ("a", "b", "c"))
    one.save(tmp_path / "d.safetensors")
    again = DataSet.load(tmp_path / "d.safetensors")
    assert again.identity == one.identity and again.classes == one.classes
    learned, held_out = again.split()
    assert len(learned.x) == 22 and len(held_out.x) == 2
    both = torch.cat([learned.x, held_out.x])
    assert sorted(both[:, 0].tolist()) == sorted(X[:, 0].tolist())
    assert all(bool((one.x[one.label == k] == row).all(1).any())
               for row, k in zip(learned.x, learned.label, strict=True))  # fmt: skip
    assert len(one.part(10 * one.x[:1].nbytes).x) == 10 and one.part() is one
    (tmp_path / "e.safetensors").write_bytes(b"12")
    with pytest.raises(UserError, match="cannot be read"):
        DataSet.load(tmp_path / "e.safetensors")
    with pytest.raises(UserError, match="at least 20"):
        one.rows(torch.arange(5)).split()


# -- bombs -----------------------------------------------------------------------------------------


def test_a_small_file_of_many_numbers_is_refused_before_it_is_unpacked(tmp_path):
    zeros = np.zeros((60_000_000, 1), dtype=np.float64)  # never touched: it takes no memory
    np.savez_compressed(tmp_path / "x.npz", x=zeros)
    column = pa.repeat(pa.scalar(0.0), len(zeros))
    pq.write_table(pa.table({"x": column}), tmp_path / "x.parquet")
    for name in ("x.npz", "x.parquet"):
        with pytest.raises(UserError, match=r"and unpacks to 0\.5 GB: numbers to learn from"):
            read_data_set(str(tmp_path / name))


def test_columns_of_parquet_are_read_alike_however_they_are_stored(tmp_path):
    """Numbers at once, and words, lists and gaps value by value."""
    path = tmp_path / "x.parquet"
    columns = {"a": X[:, 0], "b": [list(map(float, row)) for row in X[:, 1:]], "kind": KIND}
    pq.write_table(pa.table({**columns, "word": [f"w{k}" for k in KIND]}), path)
    found = read_data_set(f"{path}:b", "kind")
    assert torch.equal(found.x, torch.from_numpy(X[:, 1:])) and found.label.tolist() == list(KIND)
    assert read_data_set(f"{path}:b", "word").classes == ("w0", "w1", "w2")
    pq.write_table(pa.table({"a": [1.5, None, 2.5]}), path)
    with pytest.raises(UserError, match="holds no numbers"):
        read_data_set(str(path))


@pytest.mark.parametrize(
    ("change", "says"),
    [(lambda frame: frame[["label"]], "no columns of numbers"), (lambda f: f.iloc[:0], "no rows")],
)
def test_a_table_with_nothing_in_it_is_one_sentence(tmp_path, change, says):
    frame = pd.DataFrame({"a": [0.5, 1.5], "label": ["x", "y"]})
    change(frame).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(UserError, match=says):
        read_data_set(str(tmp_path / "x.parquet"), "label")
