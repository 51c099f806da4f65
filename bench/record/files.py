"""The files of one run, on any fsspec URL: written whole or not at all, read in one place."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path

import fsspec

from bench.core import atomic
from bench.core.names import safe_name
from bench.core.params import UserError
from bench.record import layout

OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}
"""Where a folder is a part of a name: there is none to make, and a bucket is not ours to make."""


def troubles() -> tuple[type[Exception], ...]:
    """What a file system raises when it does not do what it is asked to."""
    of_boto = sys.modules.get("botocore.exceptions")
    return (OSError,) if of_boto is None else (OSError, of_boto.BotoCoreError)


class RunFiles:
    """One run's folder.

    Args:
        root: folder or fsspec URL that holds runs.
        name: the run's name.
    """

    def __init__(self, root: str, name: str) -> None:
        self.root, self.name = root, name
        try:
            self.fs, base = fsspec.core.url_to_fs(root)
        except (ImportError, ValueError) as error:  # no such protocol, or no package for it
            raise UserError(
                f"cannot open {root} ({error}): for s3:// run pip install 'tiltbench[s3]', for "
                "others the package of fsspec that reads them"
            ) from error
        self.path = f"{base.rstrip('/')}/{name}"
        protocols = {self.fs.protocol} if isinstance(self.fs.protocol, str) else {*self.fs.protocol}
        self.local = bool(protocols & {"file", "local"})
        self._folders = not protocols & OBJECT_STORES
        self._opened: tuple[int, int] | None = None

    @property
    def url(self) -> str:
        """The run as a command would be given it."""
        return self.path if self.local else str(self.fs.unstrip_protocol(self.path))

    @property
    def folder(self) -> Path:
        """The run's folder on this machine."""
        if not self.local:
            raise UserError(f"{self.url} is not on this machine: copy the run here first")
        return Path(self.path)

    def exists(self) -> bool:
        """Whether anything was stored under this name."""
        try:
            return self.has(layout.SUITE)
        except troubles() as error:
            raise UserError(
                f"cannot read {self.url} ({error}): check the address and the "
                "credentials, then repeat the command"
            ) from error

    def open(self) -> None:
        """Create the folder and check that it can be written to, and is one below the root."""
        try:
            safe_name(self.name)
        except ValueError as error:
            raise UserError(f"{error}: choose another --name") from error
        try:
            if self._folders:
                self.fs.makedirs(f"{self.path}/{layout.CELLS}", exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot write to the run folder {self.path} ({error.strerror or error}): "
                "mend it or choose another with --root"
            ) from error
        self.write("probe", b"some bytes: an empty file has room on a full disk")
        self.fs.rm(f"{self.path}/probe")
        self._opened = self._identity()

    def _identity(self) -> tuple[int, int] | None:
        """Which folder of this machine it is, whatever its name; None where there is none."""
        if not self.local:
            return None
        try:
            found = Path(self.path).stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def present(self) -> None:
        """Raise UserError if the folder that was opened is no longer there.

        Storage that was unmounted leaves an empty folder, in which a second record would begin.
        """
        if self._opened is not None and self._identity() != self._opened:
            raise UserError(
                f"the run folder {self.path} is not there any more: mount or move it back, then "
                "repeat the command; finished cells are kept"
            )

    def write(self, name: str, data: bytes) -> None:
        """Write a file of the run so that it is there whole or not at all."""
        self.present()
        path = f"{self.path}/{name}"
        try:
            if self.local:
                atomic.write(Path(path), data)
            else:
                with self.fs.open(path, "wb") as file:
                    file.write(data)
        except troubles() as error:
            said = getattr(error, "strerror", None) or error
            raise UserError(
                f"cannot write {path} ({said}): free space or mend "
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
        except troubles() as error:
            said = getattr(error, "strerror", None) or error
            raise UserError(
                f"cannot read {path} ({said}): mend the file or its folder, then repeat the command"
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
            self.fs.invalidate_cache()  # workers write too
            return sorted(Path(p).name for p in self.fs.ls(f"{self.path}/{folder}", detail=False))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove(self, name: str) -> None:
        """Remove a file of the run, or a folder and what lies in it, if it is there."""
        self.fs.invalidate_cache()  # workers write too
        if self.has(name):
            self.fs.rm(f"{self.path}/{name}", recursive=True)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file where there is none; False where there is, whoever is the quicker."""
        try:
            self.fs.pipe_file(f"{self.path}/{name}", data, mode="create")
        except FileExistsError:
            return False
        return True

    def modified(self, name: str) -> datetime | None:
        """When a file was written, on the clock of who keeps it; None where there is none."""
        self.fs.invalidate_cache()
        try:
            found: datetime = self.fs.modified(f"{self.path}/{name}")
        except FileNotFoundError:
            return None
        return found

    def file_names(self) -> list[str]:
        """The files that lie in the run itself: its suite, tables and pages."""
        self.fs.invalidate_cache()
        found = self.fs.ls(self.path, detail=True)
        return sorted(Path(one["name"]).name for one in found if one["type"] == "file")

    def below(self, folder: str, *names: str) -> list[str]:
        """Files of these names anywhere below a folder of the run."""
        found = self.fs.find(f"{self.path}/{folder}")
        prefix = self.path.lstrip("/") + "/"
        inside = [path.lstrip("/").removeprefix(prefix) for path in found]
        return sorted(path for path in inside if Path(path).name in names)

    def fetch(self, names: list[str], folder: Path) -> None:
        """Copy files of the run into a folder of this machine, many at a time."""
        here = [folder / name for name in names]
        for parent in {path.parent for path in here}:
            parent.mkdir(parents=True, exist_ok=True)
        self.fs.get([f"{self.path}/{name}" for name in names], [str(path) for path in here])

    def working_folder(self, fit: str) -> Path | None:
        """Where a fit keeps its checkpoints until it has ended; None for a run that is remote."""
        return self.folder / layout.work(fit) if self.local else None
