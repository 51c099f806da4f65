"""Files of numbers of somebody else, mutated, or well-formed at their surface and wrong below."""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from bench.reading.data_set import read_data_set
from tests.faults.foreign_files import Use, emptied
from tests.faults.mutation import mutated


def _npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array, allow_pickle=True)
    return out.getvalue()


def _claimed(shape: str) -> bytes:
    """A file of NumPy whose header says another shape than its few bytes hold."""
    whole = _npy(np.zeros((4, 2)))
    return whole.replace(b"(4, 2), }", f"{shape}, }}".encode()[:9].ljust(9))


def zipped(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return out.getvalue()


def _arrays(rng: random.Random) -> tuple[str, bytes]:
    """The ending and the content of a file of arrays."""
    x = np.random.default_rng(rng.randrange(9)).normal(size=(8, 3))
    label = np.arange(8) % 2
    frame = pd.DataFrame(x, columns=list("abc")).assign(label=label)
    makes: dict[str, Callable[[], bytes]] = {
        ".npy": lambda: _npy(x),
        ".npz": lambda: zipped({"x.npy": _npy(x), "label.npy": _npy(label)}),
        ".parquet": lambda: frame.to_parquet(),
    }
    ending = rng.choice(sorted(makes))
    return ending, makes[ending]()


def _many_rows() -> bytes:
    """A small file of Parquet whose one value stands in fifty million rows."""
    import pyarrow as pa
    from pyarrow import parquet

    out = io.BytesIO()
    with parquet.ParquetWriter(out, pa.schema([("x", pa.float64())])) as writer:
        rows = pa.table({"x": np.zeros(10**6)})
        for _ in range(50):
            writer.write_table(rows)
    return out.getvalue()


def _header(rng: random.Random, x: np.ndarray) -> bytes:
    """A file of NumPy whose header is well-formed and says something else than its bytes."""
    described = rng.choice(
        ("<f8", "<f4", "<f2", "<i8", "<c16", "<U3", "|O", "|V24", "|b1", ">f8", "<M8[ns]", "<f16")
    )
    shape = rng.choice(
        ((8, 3), (3, 8), (24,), (), (0, 3), (8, 0), (8, 3, 1), (2**62, 4), (-8, 3), (1, 24), (9, 3))
    )
    order = rng.random() < 0.2
    head = f"{{'descr': {described!r}, 'fortran_order': {order}, 'shape': {shape}, }}"
    if rng.random() < 0.1:
        head = rng.choice(("{}", "[]", head[:-1], "{'descr': [('a', '<f8', (99999999,))], }", "0"))
    version = rng.choice(((1, 0), (2, 0), (3, 0), (9, 9)))
    size = (2 if version[0] == 1 else 4, len(head) + 1)
    said = size[1] if rng.random() < 0.9 else rng.randrange(2**16)
    start = b"\x93NUMPY" + bytes(version) + said.to_bytes(size[0], "little")
    return start + head.encode() + b"\n" + x.tobytes()[: rng.choice((None, 0, 1, 100, -1))]


def _values(rng: random.Random, x: np.ndarray) -> bytes:
    """A sound file of NumPy whose values are of another type, or no numbers."""
    odd = x.copy()
    odd.flat[rng.randrange(odd.size)] = rng.choice((np.nan, np.inf, -np.inf, 1e308, -0.0, 5e-324))
    kinds: tuple[Callable[[], np.ndarray], ...] = (
        lambda: odd,
        lambda: odd.astype(np.float16),
        lambda: x.astype(complex),
        lambda: x.astype("<U8"),
        lambda: x > 0,
        lambda: x[:, :0],
        lambda: x[:0],
        lambda: x.astype(np.int64) * 2**60,
        lambda: np.float64(3.0),
        lambda: np.zeros(8, dtype=[("a", "<f8"), ("b", "<i4")]),
        lambda: x.astype("datetime64[s]"),
        lambda: np.full((8, 3), np.nan),
    )
    with np.errstate(all="ignore"):
        return _npy(rng.choice(kinds)())


def _archive_of_arrays(rng: random.Random, x: np.ndarray, label: np.ndarray) -> bytes:
    """An archive of NumPy whose members are odd, twice there, cut or of a wrong checksum."""
    names = ["x.npy", "label.npy", "label", "x.npy", " ", "a/x.npy", "x.npy\0", "x.txt", "é.npy"]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as file:
        for name in rng.sample(names, rng.randint(1, 4)):
            data = rng.choice((_npy(x), _npy(label), _header(rng, x), _values(rng, x), b""))
            file.writestr(name, data)
    whole = bytearray(out.getvalue())
    if rng.random() < 0.3:  # below the directory of the archive, which stays as it is
        at = whole.rfind(b"PK\x01\x02")
        where = rng.randrange(14, max(15, at))
        whole[where : where + rng.choice((1, 4))] = rng.randbytes(rng.choice((1, 4)))
    if rng.random() < 0.2:  # the directory: sizes, sums, flags, methods, offsets
        at = whole.rfind(b"PK\x01\x02")
        field = at + rng.choice((8, 10, 16, 20, 24, 28, 42))
        whole[field : field + 2] = rng.randbytes(2)
    return bytes(whole)


def _odd_table(rng: random.Random, frame: pd.DataFrame) -> tuple[str, bytes]:
    """A sound table whose columns are odd: kinds, names, nothing in them, lists, twice there."""
    changes: tuple[Callable[[], pd.DataFrame], ...] = (
        lambda: frame.assign(a=["x"] * len(frame)),
        lambda: frame.assign(a=[None] * len(frame)),
        lambda: frame.assign(a=[[1.0, 2.0]] * len(frame)),
        lambda: frame.assign(label=[0.5] * len(frame)),
        lambda: frame.assign(label=list(range(10**6, 10**6 + len(frame)))),
        lambda: frame.assign(label=[-1] * len(frame)),
        lambda: frame.iloc[:0],
        lambda: frame[[]],
        lambda: frame.assign(a=[b"\xff"] * len(frame)),
        lambda: frame.assign(a=pd.Timestamp(0)),
        lambda: frame.rename(columns={"a": "label "}),
        lambda: frame.assign(a=np.inf),
    )
    return ".parquet", rng.choice(changes)().to_parquet()


def _shaped(rng: random.Random) -> tuple[str, bytes]:
    """A file of arrays that is well-formed at its surface and wrong below it."""
    x = np.random.default_rng(rng.randrange(9)).normal(size=(8, 3))
    label = np.arange(8) % 2
    frame = pd.DataFrame(x, columns=list("abc")).assign(label=label)
    makes: tuple[Callable[[], tuple[str, bytes]], ...] = (
        lambda: (".npy", _header(rng, x)),
        lambda: (".npy", _values(rng, x)),
        lambda: (".npz", _archive_of_arrays(rng, x, label)),
        lambda: _odd_table(rng, frame),
    )
    return rng.choice(makes)()


LABELS = b"label,kind\n" + b"".join(b"%d,%c\n" % (k % 2, 97 + k % 3) for k in range(8))

ARRAY_BOMBS: tuple[tuple[str, Callable[[], bytes]], ...] = (
    (".npy", lambda: _claimed("(9**9,9)")),
    (".npy", lambda: _npy(np.array([{"a": print}], dtype=object))),
    (".npz", lambda: zipped({"x.npy": _npy(np.zeros((10**5, 1000), dtype=np.float32))})),
    (".npz", lambda: zipped({"../../../x.npy": _npy(np.zeros((4, 2)))})),
    (".parquet", _many_rows),
)


def arrays(rng: random.Random, folder: Path) -> Use:
    """A file of numbers, mutated, learnt from."""
    place = emptied(folder / "arrays")
    if rng.random() < 0.02:
        ending, make = rng.choice(ARRAY_BOMBS)
        data = make()
    elif rng.random() < 0.7:
        ending, data = _shaped(rng)
    else:
        ending, data = _arrays(rng)
        data = mutated(data, rng)
    path = place / f"x{ending}"
    path.write_bytes(data)
    beside = place / "labels.csv"
    beside.write_bytes(mutated(LABELS, rng) if rng.random() < 0.7 else LABELS)
    said, labels = rng.choice(
        {
            ".npy": ((path, ""), (path, ""), (path, beside), (path, f"{beside}:kind")),
            ".npz": ((f"{path}:x", ""), (f"{path}:x", "label"), (f"{path}:x", beside), (path, "")),
            ".parquet": ((path, ""), (path, "label"), (f"{path}:a", ""), (path, beside)),
        }.get(ending, ((path, ""),))
    )
    return lambda: read_data_set(str(said), str(labels))
