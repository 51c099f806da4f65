"""The files of one run, on any fsspec URL: written whole or not at all, read in one place."""

from __future__ import annotations

from pathlib import Path

import fsspec

from bench.core import atomic
from bench.core.names import safe_name
from bench.core.params import UserError
from bench.record import layout


class RunFiles:
    """One run's folder.

    Args:
        root: folder or fsspec URL that holds runs.
        name: the run's name.
    """

    def __init__(self, root: str, name: str) -> None:
        self.name = name
        try:
            self.fs, base = fsspec.core.url_to_fs(root)
        except (ImportError, ValueError) as error:
            raise UserError(f"runs cannot be kept under '{root}': {error}") from error
        self.path = f"{base.rstrip('/')}/{name}"
        self.local = "file" in self.fs.protocol or "local" in self.fs.protocol

    @property
    def folder(self) -> Path:
        """The run's folder on this machine."""
        if not self.local:
            raise UserError(f"{self.path} is not on this machine: copy the run here first")
        return Path(self.path)

    def exists(self) -> bool:
        """Whether anything was stored under this name."""
        return self.has(layout.SUITE)

    def open(self) -> None:
        """Create the folder and check that it can be written to, and is one below the root."""
        try:
            safe_name(self.name)
        except ValueError as error:
            raise UserError(f"{error}: choose another --name") from error
        try:
            self.fs.makedirs(f"{self.path}/{layout.CELLS}", exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to the run folder {self.path} ({error.strerror or error}): "
                "mend it or choose another with --root"
            ) from error
        self.write("probe", b"")
        self.fs.rm(f"{self.path}/probe")

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the run so that it is there whole or not at all."""
        path = f"{self.path}/{name}"
        try:
            if self.local:
                atomic.write(Path(path), data)
            else:
                with self.fs.open(path, "wb") as file:
                    file.write(data)
        except OSError as error:
            raise UserError(
                f"cannot write {path} ({error.strerror or error}): free space or mend "
                "the folder, then repeat the command; finished cells are kept"
            ) from error

    def read(self, name: str) -> bytes:
        """A file of the run; FileNotFoundError where there is none, else a UserError."""
        path = f"{self.path}/{name}"
        try:
            if self.local:  # a tenth of the time that it takes through fsspec
                return Path(path).read_bytes()
            with self.fs.open(path, "rb") as file:
                data: bytes = file.read()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(path) from error
        except OSError as error:
            raise UserError(
                f"cannot read {path} ({error.strerror or error}): mend the file or its folder, "
                "then repeat the command"
            ) from error
        return data

    def found(self, name: str) -> bytes | None:
        """A file of the run, or None where there is none."""
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def has(self, name: str) -> bool:
        """Whether a file of the run exists."""
        return bool(self.fs.exists(f"{self.path}/{name}"))

    def set_aside(self, name: str) -> None:
        """Rename a file of the run to NAME.damaged, where nothing looks for it."""
        path = f"{self.path}/{name}"
        try:
            self.fs.mv(path, f"{path}.damaged")
        except FileNotFoundError:
            return
        except OSError as error:
            raise UserError(
                f"cannot set the damaged {path} aside ({error.strerror or error}): remove it, "
                "then repeat the command"
            ) from error

    def names(self, folder: str) -> list[str]:
        """What lies in a folder of the run, sorted; nothing where there is no such folder."""
        try:
            if self.local:
                return sorted(each.name for each in Path(self.path, folder).iterdir())
            return sorted(Path(p).name for p in self.fs.ls(f"{self.path}/{folder}", detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def working_folder(self, fit: str) -> Path | None:
        """Where a fit keeps its checkpoints until it has ended; None for a run that is remote."""
        return self.folder / layout.work(fit) if self.local else None
