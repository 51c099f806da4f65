"""A run as one file, and out of it again; and what of a run nobody needs.

An archive is a gzipped tar of the run's own files below `NAME/`: no work in progress, no page (it
is made again where it is read, so that no script travels).  Reading one believes nothing: it takes
regular files with the names of the layout and no others, into a folder that is new.
"""

from __future__ import annotations

import lzma
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from bench.core.names import safe_name
from bench.core.params import UserError
from bench.core.unpacking import most_unpacked
from bench.record import layout
from bench.record.store import Store

TABLES = tuple(layout.table(name) for name in ("cells", "metrics", "samples", "results"))

OF_A_RUN = (layout.SUITE, layout.PILOTS, layout.PROJECTIONS, *TABLES)
OF_AN_ATTEMPT = (
    *(layout.RESULT, layout.SAMPLES, layout.FITTED),
    *(layout.SCORES, layout.CURVE, layout.LOG),
)


def _any(names: tuple[str, ...]) -> str:
    return f"(?:{'|'.join(map(re.escape, names))})"


TROUBLES = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)
"""What `tarfile` raises for bytes that are no archive, and its decompressors below it."""


KNOWN = re.compile(
    rf"{_any(OF_A_RUN)}|{layout.value_study('[0-9a-f]+')}|{layout.CELLS}/[0-9a-f]+/"
    rf"(?:cell\.json|metrics\.json|attempts/[0-9]+/{_any(OF_AN_ATTEMPT)})"
)
"""Files of a run that an archive holds; whatever else lies there stays."""


def packed(store: Store, to: Path) -> int:
    """Write the run's files to an archive; returns how many."""
    inside = [path for path in _files(store.folder) if KNOWN.fullmatch(path)]
    part = to.with_name(f".{to.name}.part")
    try:
        with tarfile.open(part, "w:gz") as archive:
            for path in inside:
                archive.add(store.folder / path, f"{store.name}/{path}", recursive=False)
        part.replace(to)
    except OSError as error:
        raise UserError(f"cannot write {to} ({error.strerror or error})") from error
    finally:
        part.unlink(missing_ok=True)
    return len(inside)


def unpacked(archive: Path, root: Path, name: str | None = None) -> Path:
    """The run of an archive as a new folder below `root`, all of it or nothing.

    Raises UserError for what is no archive of a run, for one that unpacks to far more than a run
    does, for a name that is no folder's, and for a run that is there already.
    """
    try:
        with tarfile.open(archive, "r:*") as opened:
            members = _members(opened, archive)
            folder = root / _folder(name or _only_run(members, archive), archive)
            if folder.exists():
                raise UserError(f"{folder} is there already: give another name with --name")
            _room(sum(m.size for m in members.values()), root)
            _extract(opened, members, folder)
    except TROUBLES as error:
        said = str(error).partition("\n")[0].rstrip(":") or type(error).__name__
        raise UserError(f"{archive} cannot be read as an archive of a run: {said}") from error
    return folder


def _members(opened: tarfile.TarFile, archive: Path) -> dict[tuple[str, str], tarfile.TarInfo]:
    """The files of an archive, each checked before the bytes behind it are unpacked."""
    found: dict[tuple[str, str], tarfile.TarInfo] = {}
    whole, most = 0, most_unpacked(archive.stat().st_size)
    for member in opened:
        if not member.isdir():
            found[_checked(member, archive)] = member
            whole += member.size
        if whole > most:
            raise UserError(
                f"{archive} is no archive of a run: it has {archive.stat().st_size / 1e6:.1f} MB "
                f"and unpacks to more than {most / 1e9:.1f} GB"
            )
    return found


def _folder(name: str, archive: Path) -> str:
    """The name, if it is one of a folder below a root."""
    try:
        return safe_name(name)
    except ValueError as error:
        raise UserError(f"{error}: give the run of {archive} another one with --name") from error


def _checked(member: tarfile.TarInfo, archive: Path) -> tuple[str, str]:
    """Run and file of a member; UserError for anything that a run does not hold."""
    run, _, path = member.name.partition("/")
    plain = str(PurePosixPath(member.name)) == member.name and run not in ("", ".", "..")
    if not (member.isreg() and plain and KNOWN.fullmatch(path)):
        raise UserError(f"{archive} is no archive of a run: it holds '{member.name}'")
    return run, path


def _only_run(members: dict[tuple[str, str], tarfile.TarInfo], archive: Path) -> str:
    runs = {run for run, _ in members}
    if len(runs) != 1 or not any(path == layout.SUITE for _, path in members):
        raise UserError(f"{archive} is no archive of a run: it has no {layout.SUITE}")
    return runs.pop()


def _room(size: int, root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if size > free:
        raise UserError(f"the run needs {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free")


def _extract(
    opened: tarfile.TarFile, members: dict[tuple[str, str], tarfile.TarInfo], folder: Path
) -> None:
    """Write beside the place and rename, so that a folder is a whole run."""
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        for (_, path), member in members.items():
            source, target = opened.extractfile(member), part / path
            assert source is not None
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as file:
                shutil.copyfileobj(source, file)
        part.replace(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


# -- what nobody needs ----------------------------------------------------------------------------


def leftovers(store: Store) -> Iterator[tuple[Path, str]]:
    """Folders of a run that none of its rows needs, with why.

    Cells that the last plan does not have (of other weights, versions or settings), attempts that a
    later one replaced, checkpoints of fits that have ended.
    """
    if not store.has(layout.table("cells")):
        raise UserError(f"{store.path} has no tables yet: run it, or 'bench report {store.path}'")
    cells = store.table("cells")
    needed = set(cells["cell"]) | set(cells["fit"].dropna())
    for cell in store.names(layout.CELLS):
        if cell not in needed:
            yield store.folder / layout.CELLS / cell, "no row of the last plan"
            continue
        last = store.index.last(cell)
        for number in store.names(layout.attempts(cell)):
            if last is not None and int(number) < last.number:
                yield store.folder / layout.attempts(cell) / number, "replaced by a later attempt"
    for fit in store.names(layout.WORK):
        ended = store.index.last(fit)
        if fit not in needed or (ended is not None and ended.ok):
            yield store.folder / layout.WORK / fit, "checkpoints of a fit that has ended"


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _files(folder: Path) -> list[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in found)
