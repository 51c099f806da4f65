"""`bench prefetch`: published weights, once; afterwards no network is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "bench prefetch hpsv2:release=v2.1 inception"


def prefetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Rewards (pickscore:unit=cosine), tasks (imagenet256), files."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", help="A file, a folder or the URL of a mirror with the same files.",
                     envvar="TILTBENCH_MIRROR"),
    ] = None,
    sha256: Annotated[
        str | None, typer.Option("--sha256", help="What a single file's hash has to be.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Fetch what is there already.")] = False,
) -> None:  # fmt: skip
    """Fetch weights, check and record their SHA-256; without names, list what is known."""
    from bench.models.external import EXTERNAL, cache_folder, entry

    if not names:
        _list()
        return
    files = [file for name in names for file in _files(name, set(EXTERNAL))]
    total = sum(entry(file).megabytes for file in files)
    typer.echo(f"{len(files)} files, about {total:,.0f} MB, into {cache_folder()}")
    for file in dict.fromkeys(files):
        _fetch(file, source, sha256 if len(files) == 1 else None, again)


def _files(name: str, known: set[str]) -> list[str]:
    """The files that a name stands for: itself, or what a reward or a task asks for."""
    from bench.core import plugins
    from bench.core.params import UserError, nearest, parse_name

    plain, values = parse_name(name)
    groups: tuple[plugins.Group, ...] = ("rewards", "tasks")
    for group in groups:
        if plain in plugins.points(group):
            values.pop("strength", None)
            plugin = plugins.load(group, plain).create(**values)
            return list(getattr(plugin, "external", tuple)())
    if plain in known:
        return [plain]
    known = known.union(*map(plugins.points, groups))
    raise UserError(f"nothing to fetch for '{name}': {nearest(plain, known)}")


def _list() -> None:
    from bench.models.external import EXTERNAL, cache_folder

    for name, file in EXTERNAL.items():
        here = "here" if (cache_folder() / file.file).is_file() else "-"
        typer.echo(f"{name:<20}{file.megabytes:>8,.0f} MB  {here:<6}{file.url}")


def _fetch(name: str, source: str | None, sha256: str | None, again: bool) -> None:
    from bench.models.external import cache_folder, entry, recorded

    known = entry(name)
    target = cache_folder() / known.file
    record = None if again else recorded(target)
    if target.is_file() and record is not None:
        typer.echo(f"{name}: here, sha256 {record['sha256']}")
        return
    found = _download(_address(known.file, known.url, source), target, sha256 or known.sha256)
    typer.echo(f"{name}: {target.stat().st_size / 1e6:,.1f} MB, sha256 {found}")


def _address(file: str, url: str, source: str | None) -> str:
    """Where the file comes from: its publisher, a mirror, a folder, or a file."""
    if source is None:
        return url
    if "://" in source:
        return f"{source.rstrip('/')}/{file}"
    path = Path(source).expanduser()
    return str(path / file if path.is_dir() else path)


def _download(address: str, target: Path, expected: str) -> str:
    """Copy to a temporary name, check, record, rename; returns the SHA-256."""
    import hashlib
    import json
    import os
    from datetime import UTC, datetime

    import fsspec

    from bench.core.params import UserError
    from bench.core.secrets import redacted
    from bench.models.external import record_path

    target.parent.mkdir(parents=True, exist_ok=True)
    partial, total = target.with_name(target.name + ".partial"), hashlib.sha256()
    try:
        with fsspec.open(address, "rb") as source, partial.open("wb") as sink:
            while chunk := source.read(1 << 20):
                total.update(chunk)
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
    except Exception as error:  # every file system has errors of its own
        partial.unlink(missing_ok=True)
        raise UserError(
            f"cannot fetch {address} ({error}): without a network give --from a file, a folder or "
            "the URL of a mirror"
        ) from error
    found = total.hexdigest()
    if not found.startswith(expected):
        partial.unlink()
        raise UserError(f"{address} has sha256 {found}, which does not begin with {expected}")
    record = {
        "url": redacted(address),
        "bytes": partial.stat().st_size,
        "sha256": found,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    partial.replace(target)
    record_path(target).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return found
