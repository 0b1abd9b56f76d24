"""The store: list · resolve · load · publish · pin, in a local directory.

    store/<name>/<version>/{manifest.json, weights.safetensors}
    store/<name>/pinned    the version to serve by default, in a line of text; where there is none, the newest

Nothing is handed out before names, shapes and digest were checked; nothing half-written is ever visible. Reads
safetensors and JSON only, so that no file in a store can run code. Knows nothing of training or serving.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import safetensors.torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from models.manifest import NAME_PATTERN, Manifest
from models.members import expected, parted

MANIFEST = "manifest.json"
WEIGHTS = "weights.safetensors"
PINNED = "pinned"
_LONGEST_PIN = 100  # bytes


class RepositoryError(Exception):
    """Something in the store is not as it must be.

    RepositoryError
    ├── NoSuchModel       a name or version that the store does not have
    ├── CorruptVersion    files that are missing, unreadable, or not what the manifest says
    └── Unreachable       the store itself can't be read or written now
    """


class NoSuchModel(RepositoryError):
    """A name or version that the store does not have."""


class CorruptVersion(RepositoryError):
    """Files that are missing, unreadable, or not what the manifest says."""


class Unreachable(RepositoryError):
    """The store itself can't be read or written now."""


class Kept(NamedTuple):
    """What a store has of a model: its versions, oldest first, each with a stamp that changes with its files.

    `pinned` is the version to serve by default; None: the newest.
    """

    versions: Mapping[str, str]
    pinned: str | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """A verified version: its manifest and its tensors by name."""

    manifest: Manifest
    tensors: Mapping[str, Tensor]

    @property
    def networks(self) -> tuple[Mapping[str, Tensor], ...]:
        """The tensors of each member by their plain names; of the only network, where there are no members."""
        return parted(self.tensors, self.manifest.architecture, len(self.manifest.members))


@dataclass(frozen=True, slots=True)
class Repository:
    """The models under one directory."""

    root: Path

    def names(self) -> tuple[str, ...]:
        """All model names, sorted."""
        return tuple(sorted(entry.name for entry in _folders(self.root) if self.versions(entry.name)))

    def versions(self, name: str) -> tuple[str, ...]:
        """All versions of a model, oldest first: by number where they are numbers. Empty for an unknown name."""
        if not re.fullmatch(NAME_PATTERN, name):
            return ()
        found = [entry.name for entry in _folders(self.root / name) if (entry / MANIFEST).is_file()]
        return tuple(sorted(found, key=version_order))

    def refresh(self) -> None:
        """Looks for what is new elsewhere: there is no elsewhere. Raises Unreachable where there is, and it is not."""

    def look(self) -> Mapping[str, Kept]:
        """Everything in the store, by name; no file is read but the pins. Raises Unreachable."""
        try:
            return {name: kept for name in self.names() if (kept := self._kept(name)).versions}
        except OSError as error:
            raise Unreachable(f"{self.root} can't be read: {error.strerror or error}") from error

    def _kept(self, name: str) -> Kept:
        stamps = {version: _stamp(self.root / name / version) for version in self.versions(name)}
        return Kept(stamps, _pin(self.root / name / PINNED))

    def pin(self, name: str, version: str | None) -> None:
        """From now on this version is to be served by default; None: the newest.

        Raises NoSuchModel, CorruptVersion where it would not be served, and Unreachable.
        """
        if version is not None:
            self.load(name, version)
        elif not self.versions(name):
            self.load(name)  # raises, naming those that exist
        self._write_pin(name, version)

    def _write_pin(self, name: str, version: str | None) -> None:
        pinned = self.root / name / PINNED
        try:
            if version is None:
                pinned.unlink(missing_ok=True)
            else:
                aside = pinned.with_name(f".{PINNED}-{os.getpid()}")
                aside.unlink(missing_ok=True)
                write_durably(aside, f"{version}\n".encode())
                aside.rename(pinned)
            _sync_folder(pinned.parent)
        except OSError as error:
            raise Unreachable(f"{pinned} can't be written: {error.strerror or error}") from error

    def load(self, name: str, version: str | None = None) -> Model:
        """A version (the newest by default), verified.

        Raises NoSuchModel, or CorruptVersion saying what does not fit.
        """
        versions = self.versions(name)
        if not versions:
            known = ", ".join(self.names()) or "none"
            raise NoSuchModel(f"no model {name!r} in {self.root}; there are: {known}")
        if version is None:
            version = versions[-1]
        if version not in versions:
            raise NoSuchModel(f"no version {version!r} of {name!r}; there are: {', '.join(versions)}")
        folder = self.root / name / version
        if not all(_lies_in(self.root, folder / file) for file in (MANIFEST, WEIGHTS)):
            raise CorruptVersion(f"{name}/{version} leads out of the store")
        return _verified(folder, name, version)

    def has(self, name: str, version: str) -> bool:
        """Whether the store has that version, whole or not."""
        return version in self.versions(name)

    def describes(self, manifest: Manifest) -> bool:
        """Whether the store's manifest of that name and version is this one; its weights are not read."""
        try:
            return _manifest(self.root / manifest.name / manifest.version) == manifest
        except (OSError, ValidationError):
            return False

    def publish(self, manifest: Manifest, weights: bytes) -> Path:
        """Makes a version visible, whole or not at all; its folder.

        Raises FileExistsError where that version exists already, CorruptVersion where the parts do not fit.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        # Written aside on the same file system, under a name that no listing shows, then renamed.
        aside = Path(tempfile.mkdtemp(prefix=".publishing-", dir=self.root))
        try:
            aside.chmod(0o755)
            write_durably(aside / WEIGHTS, weights)
            write_durably(aside / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
            _verified(aside, manifest.name, manifest.version)
            home = self.root / manifest.name
            home.mkdir(exist_ok=True)
            folder = home / manifest.version
            _rename(aside, folder)
            for changed in (folder, home, self.root):
                _sync_folder(changed)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return folder

    def next_version(self, name: str) -> str:
        """The number after the highest numbered version, "1" for a new model."""
        return version_number(self.versions(name))


def serialise(tensors: Mapping[str, Tensor]) -> bytes:
    """The weights file for these tensors: equal tensors give equal bytes."""
    return safetensors.torch.save({name: tensor.contiguous() for name, tensor in sorted(tensors.items())})


def version_number(taken: Iterable[str]) -> str:
    """The number after the highest one that is taken."""
    return str(max((int(version) for version in taken if version.isdecimal()), default=0) + 1)


def version_order(version: str) -> tuple[Any, ...]:
    """Sort key under which 2 < 10, and 1.9 < 1.10; no two versions have the same."""
    parts = re.split(r"(\d+)", version)
    return tuple((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts), version


def _stamp(folder: Path) -> str:
    """Something that changes with a version's files, for which none of them is read."""
    seen = hashlib.sha256()
    with os.scandir(folder) as files:
        for file in sorted(files, key=lambda file: file.name):
            with suppress(OSError):  # gone already, or a link that leads nowhere
                found = file.stat()
                seen.update(f"{file.name}/{found.st_size}/{found.st_mtime_ns}/".encode())
    return seen.hexdigest()[:16]


def _pin(path: Path) -> str | None:
    """The version that a file names; None where there is no such file, or something else in it."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_PIN).decode().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if re.fullmatch(NAME_PATTERN, text) else None


def _manifest(folder: Path) -> Manifest:
    return Manifest.model_validate_json((folder / MANIFEST).read_bytes())


def _verified(folder: Path, name: str, version: str) -> Model:
    where = f"{name}/{version}"
    try:
        manifest = _manifest(folder)
        weights = (folder / WEIGHTS).read_bytes()
    except OSError as error:
        raise CorruptVersion(f"{where}: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise CorruptVersion(f"{where}: {MANIFEST} is not valid: {place} {first['msg']}".rstrip()) from error
    if (manifest.name, manifest.version) != (name, version):
        raise CorruptVersion(f"{where}: the manifest is that of {manifest.name}/{manifest.version}")
    # The bytes are checked before anything parses them.
    if hashlib.sha256(weights).hexdigest() != manifest.weights_sha256:
        raise CorruptVersion(f"{where}: {WEIGHTS} is not the file that the manifest was made for")
    if manifest.computed_digest() != manifest.digest:
        raise CorruptVersion(f"{where}: the digest is not that of the contents")
    try:
        tensors = safetensors.torch.load(weights)
    except (SafetensorError, KeyError) as error:  # KeyError: a kind of number that torch does not have
        raise CorruptVersion(f"{where}: {WEIGHTS} can't be read: {error}") from error
    _check_tensors(where, tensors, manifest)
    return Model(manifest, MappingProxyType(tensors))


def _check_tensors(where: str, tensors: Mapping[str, Tensor], manifest: Manifest) -> None:
    wanted = expected(manifest.architecture, len(manifest.members))
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise CorruptVersion(f"{where}: {WEIGHTS} lacks {missing[0]}")
    if unknown := sorted(tensors.keys() - wanted.keys()):
        raise CorruptVersion(f"{where}: {WEIGHTS} has {unknown[0]}, which the architecture does not")
    for tensor_name, (dtype, shape) in wanted.items():
        tensor = tensors[tensor_name]
        if (tensor.dtype, tuple(tensor.shape)) != (dtype, shape):
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise CorruptVersion(f"{where}: {tensor_name} is {found}, expected {dtype} {list(shape)}")
        if not bool(tensor.isfinite().all()):
            raise CorruptVersion(f"{where}: {tensor_name} holds NaN or infinity")


def _folders(path: Path) -> list[Path]:
    try:
        return [entry for entry in path.iterdir() if re.fullmatch(NAME_PATTERN, entry.name) and entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _lies_in(root: Path, path: Path) -> bool:
    """Whether a path, links followed, leads to a place under the root."""
    try:
        return root.resolve() in path.resolve().parents
    except (OSError, RuntimeError):  # links that lead round in a circle
        return False


def _rename(aside: Path, folder: Path) -> None:
    """Gives a finished folder its name, unless that is taken."""
    taken = f"{folder} exists; versions are never overwritten"
    if folder.exists():
        raise FileExistsError(taken)
    try:
        aside.rename(folder)
    except OSError as error:
        if folder.exists():  # another publication came between the look and the rename
            raise FileExistsError(taken) from error
        raise


def write_durably(path: Path, content: bytes) -> None:
    """A new file, on the disk when this returns. Raises OSError."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
