"""What there is of a job on disk: what was asked, the table, the parts that are done, the result.

    DIRECTORY/ID/asked.json   table.csv   result.csv   result.csv.parts/

Everything appears whole or not at all. Knows nothing of who works on it, or of databases.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penumbra.scoring.job import Parts
from service.errors import UnknownJob

_ID = re.compile(r"[0-9a-f]{32}")
_COMING = ".coming"


@dataclass(frozen=True, slots=True)
class Asked:
    """A settled question about a table: nothing in it is left open.

    `options` None is a prediction, else they have a seed. `kind` is the ending of the table's name and the result's;
    `rows` are about how many the table has, `created` is in seconds since 1970. `owner` is who asked.
    """

    owner: str
    model: str
    version: str
    digest: str
    options: Mapping[str, Any] | None
    keep: str
    missing: str
    kind: str
    rows: int
    chunk_rows: int
    created: float


class Folder:
    """One job's files."""

    def __init__(self, home: Path) -> None:
        self.home, self.id = home, home.name

    def asked(self) -> Asked:
        """What was asked. Raises UnknownJob where it was removed just now."""
        try:
            content = (self.home / "asked.json").read_bytes()
        except FileNotFoundError:
            raise UnknownJob("there is no such job any more") from None
        return Asked(**json.loads(content))

    def table(self, kind: str) -> Path:
        """The rows."""
        return self.home / f"table{kind}"

    def result(self, kind: str) -> Path:
        """The answers, once they are all there."""
        return self.home / f"result{kind}"

    def done(self, kind: str) -> tuple[int, int]:
        """Chunks that are done, and their rows, while the result is not there."""
        done = Parts(self.result(kind)).done().values()
        return len(done), sum(rows for rows, _ in done)

    @property
    def is_coming(self) -> bool:
        """Whether it is on its way, or was left there."""
        return self.home.name.endswith(_COMING)

    def changed(self) -> float:
        """When something last came into it, in seconds since 1970. Raises FileNotFoundError."""
        return max(path.stat().st_mtime for path in (self.home, *self.home.iterdir()))

    def tries(self, what: str) -> int:
        """How often this has been begun in a row, now included: who begins it may be ended by it."""
        file = self.home / "tries"
        begun = file.read_text().splitlines() if file.exists() else []
        count = begun.count(what) + 1
        file.write_text("\n".join([what] * count))
        return count

    def remove(self) -> None:
        """Forgets the job."""
        shutil.rmtree(self.home, ignore_errors=True)

    def accept(self, asked: Asked, directory: Path, name: str = "") -> Folder:
        """Makes a job of what has come, beside its table; by another name, where it is given one.

        Where a job of that name has come meanwhile, it is that one, and what came now is forgotten.
        """
        with (self.home / "asked.json").open("w") as file:
            json.dump(asdict(asked), file)
            file.flush()
            os.fsync(file.fileno())
        place = directory / (name or self.id.removesuffix(_COMING))
        try:
            return Folder(self.home.rename(place))
        except OSError:  # a directory is replaced by no other, unless it is empty, and no job's is
            if not place.is_dir():
                raise
            self.remove()
            return Folder(place)


def coming(directory: Path, name: str) -> Folder:
    """A place for a job that is on its way; nobody sees it yet."""
    folder = Folder(directory / f"{name}{_COMING}")
    folder.home.mkdir(mode=0o700, parents=True)
    return folder


def find(directory: Path, name: str) -> Folder | None:
    """The job of this name, which a caller may have made up."""
    folder = Folder(directory / name) if _ID.fullmatch(name) else None
    return folder if folder is not None and (folder.home / "asked.json").is_file() else None


def folders(directory: Path) -> Iterator[Folder]:
    """All jobs, and what began to come and was left."""
    for home in directory.iterdir():
        if _ID.fullmatch(home.name.removesuffix(_COMING)):
            yield Folder(home)
