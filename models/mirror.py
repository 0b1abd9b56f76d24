"""A store in an object store (S3 and its kind), mirrored into a directory that is then a store like any other.

    s3://bucket/prefix/<name>/<version>/{manifest.json, weights.safetensors}
    mirror/<name>/<version> → .pulled/<digest of what the object store says of these files>

A version is there once its manifest is: that is written last, and like all files of a version only where there is none.
Pulling copies what is new as it is; whether it is whole is seen when it is loaded, as anywhere. A version appears in
the mirror whole or not at all, under a link that is replaced at once. Credentials are found as the object store's own
tools find them, in the environment or on the machine. Knows nothing of training or serving.

Reading an object store starts threads: nobody who is going to fork may do that.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from models.location import DEFAULT_CACHE, is_url
from models.manifest import NAME_PATTERN, Manifest
from models.repository import MANIFEST, PINNED, Repository, Unreachable, version_number, write_durably

if TYPE_CHECKING:
    from obstore import ObjectMeta
    from obstore.store import ObjectStore

_PULLED = ".pulled"
# While an object store is away, whoever looks should know soon; and the next look comes soon.
_RETRY_SECONDS, _RETRIES, _ANSWER_SECONDS, _CONNECT_SECONDS = 10, 3, "60s", "5s"


def open_store(where: str | Path, cache: Path = DEFAULT_CACHE) -> Repository:
    """The store in a directory; for a URL its mirror in the cache, which is as it was when it was last refreshed."""
    if not is_url(where):
        return Repository(Path(where))
    url = str(where).rstrip("/")
    return Mirror(cache.expanduser() / hashlib.sha256(url.encode()).hexdigest()[:16], url)


@dataclass(frozen=True, slots=True)
class Mirror(Repository):
    """The models under one URL, and under `root` what has been pulled of them."""

    url: str

    def refresh(self) -> None:
        """Pulls what is new, and forgets what is gone. Raises Unreachable; what was there is whole in any case."""
        with self._alone():
            files, before = self._listed(""), self._links()
            wanted = {at: self._pulled(*at, objects) for at, objects in _versions(files).items()}
            for name, version in before.keys() - wanted.keys():
                (self.root / name / version).unlink(missing_ok=True)
            for (name, version), key in wanted.items():
                if before.get((name, version)) != key:
                    self._link(name, version, key)
            self._pull_pins(files)
            # What was replaced just now may be being read; what was before that is not.
            for pulled in (self.root / _PULLED).iterdir():
                if pulled.name not in {*before.values(), *wanted.values()}:
                    shutil.rmtree(pulled, ignore_errors=True)

    def publish(self, manifest: Manifest, weights: bytes) -> Path:
        """See Repository. The manifest comes last: until then nobody sees the version. Raises Unreachable, too."""
        with tempfile.TemporaryDirectory(prefix="penumbra-") as aside:
            folder = Repository(Path(aside)).publish(manifest, weights)
            for file in sorted(folder.iterdir(), key=lambda file: (file.name == MANIFEST, file.name)):
                self._create(f"{manifest.name}/{manifest.version}/{file.name}", file.read_bytes())
        self.refresh()
        return self.root / manifest.name / manifest.version

    def next_version(self, name: str) -> str:
        """See Repository. A number under which something half-written lies is not used again. Raises Unreachable."""
        return version_number({path.split("/")[1] for path in self._listed(f"{name}/") if path.count("/") > 1})

    def _write_pin(self, name: str, version: str | None) -> None:
        import obstore

        with self._reached() as store:
            if version is None:
                obstore.delete(store, f"{name}/{PINNED}")
            else:
                obstore.put(store, f"{name}/{PINNED}", f"{version}\n".encode())
        self.refresh()

    def _listed(self, prefix: str) -> Mapping[str, ObjectMeta]:
        import obstore

        with self._reached() as store:
            return {meta["path"]: meta for page in obstore.list(store, prefix or None) for meta in page}

    def _create(self, path: str, content: bytes) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        try:
            with self._reached() as store:
                obstore.put(store, path, content, mode="create", use_multipart=False)
        except AlreadyExistsError as error:
            message = f"{self.url}/{path} exists; versions are never overwritten, not even half-written ones"
            raise FileExistsError(message) from error

    def _get(self, meta: ObjectMeta) -> bytes:
        import obstore

        with self._reached() as store:
            content = bytes(obstore.get(store, meta["path"]).bytes())
        if len(content) != meta["size"]:
            raise Unreachable(f"{self.url}/{meta['path']} changed while it was read")
        return content

    def _pulled(self, name: str, version: str, objects: Iterable[ObjectMeta]) -> str:
        """The name under which these files have been pulled, now if they weren't before."""
        files = {meta["path"].rpartition("/")[2]: meta for meta in objects}
        told = [
            f"{name}/{version}",
            *(f"{file} {meta['size']} {meta['e_tag']}" for file, meta in sorted(files.items())),
        ]
        key = hashlib.sha256("\n".join(told).encode()).hexdigest()
        folder = self.root / _PULLED / key
        if not folder.is_dir():
            aside = Path(tempfile.mkdtemp(prefix=".pulling-", dir=self.root))
            try:
                for file, meta in files.items():
                    write_durably(aside / file, self._get(meta))
                aside.rename(folder)
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        return key

    def _links(self) -> dict[tuple[str, str], str]:
        """What each version's link leads to."""
        return {
            (link.parent.name, link.name): link.readlink().name
            for home in self.root.iterdir()
            if not home.name.startswith(".") and home.is_dir()
            for link in home.iterdir()
            if link.is_symlink()
        }

    def _link(self, name: str, version: str, key: str) -> None:
        home = self.root / name
        home.mkdir(exist_ok=True)
        aside = self.root / f".link-{os.getpid()}"
        aside.unlink(missing_ok=True)
        aside.symlink_to(Path("..") / _PULLED / key)
        aside.rename(home / version)

    def _pull_pins(self, files: Mapping[str, ObjectMeta]) -> None:
        for home in self.root.iterdir():
            pin, meta = home / PINNED, files.get(f"{home.name}/{PINNED}")
            if meta is None:
                if pin.is_file():
                    pin.unlink()
            elif home.is_dir():
                aside = self.root / f".{PINNED}-{os.getpid()}"
                aside.write_bytes(self._get(meta))
                aside.rename(pin)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time changes the mirror. Raises Unreachable where it can't be written."""
        try:
            (self.root / _PULLED).mkdir(parents=True, exist_ok=True)
            with (self.root / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise Unreachable(f"the mirror of {self.url} in {self.root}: {error.strerror or error}") from error

    @contextmanager
    def _reached(self) -> Iterator[ObjectStore]:
        """The object store; what goes wrong with it, in a line. Raises Unreachable, or obstore's AlreadyExistsError."""
        from obstore.exceptions import AlreadyExistsError, BaseError

        try:
            yield _opened(self.url)
        except AlreadyExistsError:
            raise
        except (BaseError, OSError, ValueError) as error:
            raise Unreachable(f"{self.url}: {_cause(error)}") from error


@lru_cache(maxsize=8)
def _opened(url: str) -> ObjectStore:
    from obstore.store import from_url

    return from_url(
        url,
        # Plain HTTP is spoken only where somebody has set an endpoint of that kind.
        client_options={"timeout": _ANSWER_SECONDS, "connect_timeout": _CONNECT_SECONDS, "allow_http": True},
        retry_config={"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_RETRY_SECONDS)},
    )


def _versions(files: Mapping[str, ObjectMeta]) -> dict[tuple[str, str], list[ObjectMeta]]:
    """The files of every version that has a manifest."""
    found: dict[tuple[str, str], list[ObjectMeta]] = {}
    for path, meta in files.items():
        parts = path.split("/")
        if len(parts) == 3 and all(re.fullmatch(NAME_PATTERN, part) for part in parts):
            found.setdefault((parts[0], parts[1]), []).append(meta)
    return {at: metas for at, metas in found.items() if f"{at[0]}/{at[1]}/{MANIFEST}" in files}


def _cause(error: Exception) -> str:
    """An object store's complaint in a line: its status and message, or what kept it from being asked."""
    text = str(error)
    if status := re.search(r"status code: (\d+ [A-Z][A-Za-z ]*)", text):
        said = re.search(r"<Message>(.*?)</Message>", text, re.DOTALL)
        return f"{status[1]}: {said[1]}" if said else status[1]
    line = text.partition("\n")[0].strip()
    return line.rpartition(" - ")[2] or line
