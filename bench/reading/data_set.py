"""Somebody's data from a folder of pictures or a file of arrays, with labels from where they stand.

    pictures/                  labels=folders: the first folder below names the class
    points.npy                 labels=classes.csv:kind, a column of a CSV with a line for each row
    points.npz, .safetensors   labels=NAME, another array of the file; FILE:NAME of several
    points.parquet             labels=COLUMN; the other columns are the numbers

A CSV of pictures has their paths in the column `picture`.  Without a column's name it is `label`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.core.params import UserError, nearest
from bench.core.unpacking import most_unpacked
from bench.models import tensor_files
from bench.models.data_set import DataSet
from bench.reading.folder import Contents, contents
from bench.reading.picture import read_picture
from bench.reading.tables import csv_rows
from bench.reading.text import read_text

FOLDERS = "folders"
ARRAYS = (".npy", ".npz", ".safetensors", ".parquet")
Columns = Mapping[str, Any]
"""Arrays of one file by name; "" is the name of the only one."""


def read_data_set(data: str, labels: str = "") -> DataSet:
    """The data in a folder or a file with its labels.

    Raises UserError, in one sentence, for what cannot be learnt from: other kinds of file, rows of
    several shapes, numbers that are not finite, labels that do not fit.
    """
    path, name = _located(data)
    if path.is_dir():
        found = contents(path)
        x, said = _pictures(found), _picture_labels(found, labels)
    else:
        x, said = _array(path, name, labels)
    _require_finite(data, x)
    if said is None:
        return DataSet(x, pictures=path.is_dir())
    if len(said) != len(x):
        raise UserError(f"there are {len(said)} labels ({labels}) for {len(x)} rows of {data}")
    classes = _classes(said, labels)
    index = {name: k for k, name in enumerate(classes)}
    label = torch.tensor([index[one] for one in said])
    return DataSet(x, label, classes, path.is_dir())


def _located(data: str) -> tuple[Path, str]:
    """(path, name of an array in it): `FILE` or `FILE:NAME`."""
    path, _, name = data.rpartition(":")
    if not Path(data).expanduser().exists() and path and Path(path).expanduser().is_file():
        return Path(path).expanduser(), name
    found = Path(data).expanduser()
    if not found.exists():
        raise UserError(f"there is no folder or file {data} to learn from")
    return found, ""


def _require_finite(data: str, x: Tensor) -> None:
    bad = (~x.flatten(1).isfinite()).any(1).nonzero()[:, 0]
    if len(bad):
        raise UserError(
            f"{len(bad)} of {len(x)} rows of {data} are not finite, first row {int(bad[0])}: "
            "leave them out"
        )
    if len(x) > 1 and bool((x == x[:1]).all()):
        raise UserError(f"all rows of {data} are the same: there is nothing to learn")


def _classes(said: Sequence[str], labels: str) -> tuple[str, ...]:
    """The classes in the order of their numbers where they are numbers, else of their names."""
    names = set(said)
    if len(names) < 2 or 2 * len(names) > len(said):
        raise UserError(
            f"the labels ({labels}) name {len(names)} classes for {len(said)} rows: classes need "
            "at least two rows each on average, and there must be two of them"
        )
    try:
        return tuple(sorted(names, key=float))
    except ValueError:
        return tuple(sorted(names))


# -- pictures --------------------------------------------------------------------------------------


def _pictures(found: Contents) -> Tensor:
    """(n, channels, height, width) in [-1, 1]; one channel where all pictures are grey."""
    pixels = [read_picture(path).pixels for path in found.pictures]
    sizes = {tuple(one.shape[:2]): name for one, name in zip(pixels, found.names(), strict=True)}
    if len(sizes) > 1:
        (a, first), (b, other) = list(sizes.items())[:2]
        raise UserError(
            f"the pictures in {found.folder} have several sizes, {a[1]} x {a[0]} ({first}) and "
            f"{b[1]} x {b[0]} ({other}): scale or crop them to one"
        )
    levels = torch.stack(pixels)
    grey = bool((levels == levels[..., :1]).all())
    shown = (levels[..., :1] if grey else levels).permute(0, 3, 1, 2)
    return (shown.float() / 127.5 - 1).contiguous()


def _picture_labels(found: Contents, labels: str) -> list[str] | None:
    if not labels:
        return None
    names = found.names()
    if labels == FOLDERS:
        loose = [name for name in names if "/" not in name]
        if loose:
            raise UserError(
                f"{loose[0]} lies in no folder below {found.folder}, so it has no label: move it "
                "into the folder of its class, or give a CSV as labels"
            )
        return [name.partition("/")[0] for name in names]
    path, column = _csv(labels)
    by_name: dict[str, str] = {}
    for row in _rows(path, ("picture", column)):
        by_name[row["picture"]] = row[column]
    missing = [name for name in names if name not in by_name]
    if missing:
        raise UserError(f"{path} has no line for {len(missing)} pictures, first {missing[0]}")
    return [by_name[name] for name in names]


def _csv(labels: str) -> tuple[Path, str]:
    """`FILE.csv` or `FILE.csv:COLUMN`."""
    file, _, column = labels.partition(".csv")
    path = Path(f"{file}.csv").expanduser()
    if not labels.startswith(f"{file}.csv") or not path.is_file():
        raise UserError(
            f"the labels '{labels}' are neither '{FOLDERS}' (of pictures), nor an array or column "
            "of the data's file, nor a CSV file that exists"
        )
    return path, column.removeprefix(":") or "label"


def _rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        return [row.cells for row in csv_rows(read_text(path), needed)]
    except (ValueError, OSError) as error:
        raise UserError(f"the labels in {path} cannot be read: {error}") from error


# -- arrays ----------------------------------------------------------------------------------------


def _array(path: Path, name: str, labels: str) -> tuple[Tensor, list[str] | None]:
    """The numbers and the labels of a file."""
    columns = _columns(path)
    inside = labels in columns and labels != ""
    label = _label_names(columns[labels], labels) if inside else None
    if labels and not inside:
        if not labels.partition(":")[0].endswith(".csv"):
            known = [key for key in columns if key]
            raise UserError(f"{path} has no labels '{labels}': {nearest(labels, known)}")
        file, column = _csv(labels)
        label = [row[column] for row in _rows(file, (column,))]
    rest = {key: value for key, value in columns.items() if not (inside and key == labels)}
    if path.suffix == ".parquet":
        return _numbers(path, _table(path, rest, name)), label
    return _numbers(path, _one(path, rest, name)), label


def _columns(path: Path) -> Columns:
    readers = {".npy": _npy, ".npz": _npz, ".safetensors": _tensors, ".parquet": _parquet}
    if path.suffix not in readers:
        raise UserError(
            f"{path} is none of {', '.join(ARRAYS)}: save the rows as one of these, or give a "
            "folder of pictures"
        )
    try:
        return readers[path.suffix](path)
    except UserError:
        raise
    except Exception as error:  # NumPy and Arrow raise whatever the bytes lead them into
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"{path} cannot be read: {text}") from error


def _npy(path: Path) -> Columns:
    return {"": np.load(path, allow_pickle=False)}


def _npz(path: Path) -> Columns:
    with np.load(path, allow_pickle=False) as file:
        _refuse_bomb(path, sum(one.file_size for one in file.zip.infolist()))
        return {key: file[key] for key in file.files}


def _tensors(path: Path) -> Columns:
    return {key: _numpy(value) for key, value in tensor_files.read(path).items()}


def _numpy(value: Tensor) -> Any:
    return (value.float() if value.dtype is torch.bfloat16 else value).numpy()


def _parquet(path: Path) -> Columns:
    from pyarrow import parquet

    told = parquet.read_metadata(path)
    _refuse_bomb(path, 8 * told.num_rows * told.num_columns)
    table = parquet.read_table(path)
    return {key: _plain(table[key]) for key in table.column_names}


def _plain(column: Any) -> Any:
    """A column as NumPy has it; lists, words and gaps by way of Python's own values."""
    from pyarrow import types

    kind = column.type
    plain = types.is_integer(kind) or types.is_floating(kind)
    if plain and not column.null_count:
        return column.to_numpy()
    return np.asarray(column.to_pylist())


def _refuse_bomb(path: Path, unpacked: int) -> None:
    """Raise UserError for a small file that would fill the memory."""
    size = path.stat().st_size
    if unpacked > most_unpacked(size):
        raise UserError(
            f"{path} has {size / 1e6:.1f} MB and unpacks to {unpacked / 1e9:.1f} GB: numbers to "
            "learn from do not repeat so often; save them as .npy if these do"
        )


def _one(path: Path, columns: Columns, name: str) -> Any:
    """The array that is meant: the named one, or the only one."""
    if name and name not in columns:
        raise UserError(f"{path} has no array '{name}': {nearest(name, list(columns))}")
    if not name and len(columns) != 1:
        raise UserError(
            f"{path} holds the arrays {', '.join(columns)}: say which are the data with "
            f"--data {path}:NAME, and which the labels with --labels NAME"
        )
    return columns[name] if name else next(iter(columns.values()))


def _table(path: Path, columns: Columns, name: str) -> Any:
    """The columns side by side, or the named one, whose cells are lists."""
    if name:
        return _one(path, columns, name)
    words = [key for key, value in columns.items() if np.asarray(value).dtype.kind not in "fiu"]
    if words:
        raise UserError(
            f"the column {words[0]} of {path} holds no numbers: leave it out, or name it as labels"
        )
    if not columns:
        raise UserError(f"{path} has no columns of numbers beside its labels: add some")
    parts = [np.asarray(value, dtype=np.float64) for value in columns.values()]
    if not len(parts[0]):
        raise UserError(f"{path} has no rows: add some")
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1)


def _numbers(path: Path, array: Any) -> Tensor:
    """float32 rows; UserError for whole and complex numbers, whose range nobody said."""
    array = np.asarray(array)
    if array.dtype.kind != "f" or array.ndim < 2:
        raise UserError(
            f"the data in {path} are {array.dtype} of shape {array.shape}: give floating-point "
            "numbers with a row for each, (rows, numbers) or (rows, channels, height, width)"
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _label_names(array: Any, labels: str) -> list[str]:
    array = np.asarray(array)
    known = array.ndim == 1 and array.dtype.kind in "iubUSOf"
    said = array.tolist() if known else [None]
    if not all(map(_is_class, said)):
        raise UserError(
            f"the labels '{labels}' are {array.dtype} of shape {array.shape}: classes are whole "
            "numbers or words, one for each row, and none may be missing"
        )
    return [str(int(one)) if isinstance(one, float) else str(one) for one in said]


def _is_class(value: object) -> bool:
    """A word, or a whole number; of floats those whose neighbours are other numbers."""
    if isinstance(value, float):
        return value.is_integer() and abs(value) <= 2**53
    return isinstance(value, str | bytes | int)
