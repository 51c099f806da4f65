"""What stands below a folder: its pictures in the order of their numbers, and what is left out.

Nothing is left out without being counted: hidden files (checkpoints of notebooks, previews),
symbolic links, overviews of many pictures (grids), files of other kinds.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.params import UserError
from bench.models.picture_folder import RECORDS

ENDINGS = (".png", ".webp", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")

LEFT_OUT = {
    "records": "records, read where prompts are asked for",
    "hidden": "hidden",
    "link": "symbolic links",
    "folder": "folders with the name of a picture",
    "grid": "overviews of several pictures, by their name",
    "frames": "animations and files of several pages",
    "other": "no pictures",
}
"""Why something is no picture of the folder, in the order in which it is reported."""

NUMBER = re.compile(r"([0-9]+)")
GRID_FILE = re.compile(r"(^|[-_ ])grid([-_ ]?[0-9]+)?$", re.IGNORECASE)
GRID_FOLDER = re.compile(r"(^|[-_ ])grids?$", re.IGNORECASE)


@dataclass(frozen=True)
class Contents:
    """Paths below `folder`: pictures in natural order, and by reason what is left out."""

    folder: Path
    pictures: tuple[Path, ...]
    left_out: dict[str, tuple[Path, ...]]

    def names(self, paths: Sequence[Path] | None = None) -> list[str]:
        """Paths as they are written in records, relative and with slashes."""
        return [relative(self.folder, p) for p in (self.pictures if paths is None else paths)]


def relative(folder: Path, path: Path) -> str:
    """A path below a folder, with slashes."""
    return path.relative_to(folder).as_posix()


def listing(folder: Path, paths: Iterable[Path]) -> str:
    """SHA-256 of names with their sizes in bytes: what was there to read."""
    lines = (f"{relative(folder, path)}\t{path.stat().st_size}\n" for path in paths)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def contents(folder: Path) -> Contents:
    """Everything below a folder; raises UserError where no picture is among it."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    found: dict[str, list[Path]] = {}
    for reason, path in _entries(folder):
        found.setdefault(reason, []).append(path)
    _take_out_grids(folder, found)
    ordered = {
        reason: tuple(sorted(paths, key=lambda p: natural(relative(folder, p))))
        for reason, paths in found.items()
    }
    pictures = ordered.pop("", ())
    if not pictures:
        less = "; ".join(f"{len(ordered[r])} {LEFT_OUT[r]}" for r in LEFT_OUT if r in ordered)
        aside = f", and these are left out: {less}" if less else ""
        raise UserError(f"{folder} holds no pictures ({', '.join(ENDINGS)}){aside}")
    return Contents(folder, pictures, {r: ordered[r] for r in LEFT_OUT if r in ordered})


def _entries(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each file with the reason to leave it out, or ""; hidden and linked folders as one entry."""

    def unreadable(error: OSError) -> None:
        raise UserError(f"the folder {error.filename} cannot be listed: {error.strerror}")

    for place, folders, files in os.walk(folder, onerror=unreadable):
        for name in list(folders):
            reason = _folder_reason(Path(place, name))
            if reason:
                yield reason, Path(place, name)
            if reason in ("hidden", "link"):
                folders.remove(name)
        for name in files:
            path = Path(place, name)
            yield "records" if path == folder / RECORDS else _file_reason(path), path


def _folder_reason(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "link"
    return "folder" if path.suffix.lower() in ENDINGS else ""


def _file_reason(path: Path) -> str:
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink():
        return "link"
    # What is no regular file, such as a pipe, would wait for ever when it is opened.
    return "" if path.suffix.lower() in ENDINGS and path.is_file() else "other"


def _take_out_grids(folder: Path, found: dict[str, list[Path]]) -> None:
    """Pictures named as overviews are of the others; where all are named so, none is."""
    pictures = found.get("", [])
    grids = [path for path in pictures if _is_grid(path.relative_to(folder))]
    if 0 < len(grids) < len(pictures):
        found["grid"] = grids
        found[""] = [path for path in pictures if path not in set(grids)]


def _is_grid(path: Path) -> bool:
    folders = any(GRID_FOLDER.search(part) for part in path.parts[:-1])
    return folders or GRID_FILE.search(path.stem) is not None


# -- order ----------------------------------------------------------------------------------------

Key = tuple[tuple[tuple[str | int, ...], ...], str]


def natural(name: str) -> Key:
    """Sorts 2.png before 10.png: numbers by their value, folder by folder."""
    parts = (NUMBER.split(part) for part in name.split("/"))
    split = (tuple(int(p) if k % 2 else p for k, p in enumerate(part)) for part in parts)
    return tuple(split), name


def doubtful_order(names: Sequence[str]) -> str:
    """Why pictures cannot be counted through by their names, or "" if their numbers say how.

    Plain is an order of names that differ in numbers and nothing else, and differ there.
    """
    first_with: dict[str, str] = {}
    seen: dict[Key | tuple[object, ...], str] = {}
    for name in names:
        stem = name.rpartition(".")[0]
        other = first_with.setdefault(NUMBER.sub("0", stem), name)
        if len(first_with) > 1:
            return f"{next(iter(first_with.values()))} and {other} differ in more than numbers"
        if (twin := seen.setdefault(natural(stem)[0], name)) != name:
            return f"{twin} and {name} have the same number"
    return ""
