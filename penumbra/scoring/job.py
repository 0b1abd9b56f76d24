"""Scoring a file, in parts: each batch of rows becomes a part on disk, and all parts the result.

A part is there as a whole or not at all, and nothing in it says when it was made: whoever is stopped, by a key, a crash
or a signal that can't be caught, starts again with the parts that are there, and ends with the same bytes. What was
asked for stands beside the parts, with the seed that was drawn, so that nothing else is put together with them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import count, takewhile
from pathlib import Path
from typing import Any, Literal, TypeVar

from penumbra import arrays
from penumbra.asking import seeded
from penumbra.client import Client
from penumbra.errors import ModelChanged, PenumbraError
from penumbra.inputs import Inputs
from penumbra.rows import Rows
from penumbra.schemas import ModelDescription
from penumbra.scoring.tables import Batch, Source, TableError, check_destination, opened, write_part, write_whole

BATCH_ROWS = 8192
# Between the labels of a prediction set, which are one text in a file.
SET_SEPARATOR = "|"
T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked for; `options` None is a prediction. The result depends on this, the model and the file alone.

    `keep`: columns of the table to carry along, "others" being those that the model doesn't take. `missing`: rows
    that lack a value that the model needs "fail" the job, or are "blank" in the result. `prefix` comes before the names
    of the columns that the model's answers become.
    """

    model: str
    version: str | None = None
    options: Mapping[str, Any] | None = None
    keep: Literal["others", "all", "none"] = "others"
    missing: Literal["fail", "blank"] = "fail"
    prefix: str = ""
    batch_rows: int = BATCH_ROWS


@dataclass(frozen=True, slots=True)
class Outcome:
    """Rows of the result, how many of them are blank, how many were there before; the job as it was settled."""

    rows: int
    blank: int
    before: int
    job: Job


@dataclass(frozen=True, slots=True)
class Work:
    """A settled job, and all that is needed to make any of its parts, wherever that is done.

    `kinds` are those of the answer's columns; `keep` the table's columns that stand before them.
    """

    job: Job
    known: ModelDescription
    source: Path | str
    destination: Path
    kinds: Mapping[str, str]
    keep: Sequence[str]

    def part(self, client: Client, batch: Batch) -> Part:
        """What becomes of a batch. Raises TableError, or what the client raises."""
        answer = partial(_columns, client, self.job, self.known)
        columns, blank = _scored(self.job, self.known, answer, self.kinds, batch)
        return Part(batch.first // self.job.batch_rows, batch.rows.count, blank, {**batch.kept, **columns})

    def write(self, part: Part, path: Path) -> None:
        """The part as it is kept."""
        write_part(path, self.destination, part.columns, self.kinds)

    def stamped(self, table: Source) -> dict[str, Any]:
        """All that parts of one result have in common: the job, the model and the file."""
        size, changed = table.stamp()
        return asdict(self.job) | {"digest": self.known.digest, "size": size, "changed": changed}

    @property
    def names(self) -> list[str]:
        """The columns of the result."""
        return [*self.keep, *self.kinds]


@dataclass(frozen=True, slots=True)
class Part:
    """A batch in the result: its number, how many rows, how many of them blank; its columns, or its file's bytes."""

    number: int
    rows: int
    blank: int
    columns: Mapping[str, Any]
    content: bytes = b""


# Makes the parts with these numbers, in any order.
Engine = Callable[[Work, Sequence[int]], Iterator[Part]]


def score(
    client: Client,
    job: Job,
    source: Path | str,
    destination: Path,
    *,
    concurrency: int = 4,
    restart: bool = False,
    progress: Callable[[int, int, int], None] = lambda _done, _total, _before: None,
    engine: Engine | None = None,
) -> Outcome:
    """Asks for all rows of one file, and writes the answers to another, in the same order.

    So many batches are asked at a time, and no more than twice as many are held; an `engine` decides that for itself.
    `progress` is told the rows that are done, about how many there are, and how many were done before. Raises
    TableError, or what the client raises; the parts that are done are kept, and asking again goes on from there, with
    whatever engine, unless `restart` begins anew.
    """
    check_destination(destination)
    if destination.exists():
        raise TableError(f"{destination} exists already: name another file, or remove it")
    table, parts = opened(source), Parts(destination)
    if restart:
        parts.remove()
    told = parts.told()
    work = planned(client, job, table, destination, told)
    with parts.begun(work.stamped(table), told):
        done, total = parts.done(), table.count()
        if engine is None:
            done = _unbroken(done)
            made = _by_threads(client, work, table, sum(rows for rows, _ in done.values()), concurrency)
        else:
            made = engine(work, [number for number in range(-(-total // work.job.batch_rows)) if number not in done])
        rows, blank = (sum(numbers) for numbers in zip(*done.values(), strict=True)) if done else (0, 0)
        before = rows
        progress(rows, max(total, rows), before)
        for part in made:
            parts.add(work, part)
            rows, blank = rows + part.rows, blank + part.blank
            progress(rows, max(total, rows), before)
        if not rows:
            raise TableError(f"{source} has no rows")
    progress(rows, rows, before)
    parts.finish(work.names)
    return Outcome(rows, blank, before, work.job)


def planned(client: Client, job: Job, table: Source, destination: Path, told: Mapping[str, Any]) -> Work:
    """What is to be done, with nothing left open; `told` is what the parts that are there were asked for.

    Raises TableError, or what the client raises.
    """
    known = client.model(job.model, version=job.version or told.get("version"))
    table.check(known.input_names)
    job = _settled(job, known, told)
    answer = _columns(client, job, known, _middle(known))
    kinds = {name: _kind(column) for name, column in answer.items()}
    keep = [n for n in table.names if job.keep == "all" or (job.keep == "others" and n not in known.input_names)]
    if twice := kinds.keys() & set(keep):
        raise TableError(f"{destination} would have two columns called {min(twice)}: --keep none, or a --prefix")
    return Work(job, known, table.path, destination, kinds, keep)


class Parts:
    """The parts of a result, in a directory beside it. Their names say how many rows they have, and how many blank."""

    def __init__(self, whole: Path) -> None:
        self._whole = whole
        self._home = whole.with_name(whole.name + ".parts")
        self._settings = self._home / "job.json"

    def told(self) -> dict[str, Any]:
        """What the parts that are there were asked for; nothing where there are none."""
        try:
            found: dict[str, Any] = json.loads(self._settings.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            raise TableError(f"{self._settings} can't be read: --restart begins anew") from None
        return found

    def begin(self, asked: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        """Goes on where the parts are those of this job. Raises TableError where they are of another."""
        asked = json.loads(json.dumps(asked))
        # Parts that were made where no row may be blank are the same where some may.
        likened = (
            {**told, "missing": "blank"} if told.get("missing") == "fail" and asked["missing"] == "blank" else told
        )
        if told and (other := [name for name in asked if likened.get(name) != asked[name]]):
            names = {"size": "the table", "changed": "the table", "digest": "the model"}
            what = ", ".join(dict.fromkeys(names.get(name, name) for name in other))
            raise TableError(
                f"{self._home} has the beginning of another result ({what}): ask for that again, or --restart"
            )
        self._home.mkdir(exist_ok=True)
        if told != asked:
            self._put("job.json", lambda path: path.write_text(json.dumps(asked)))

    @contextmanager
    def begun(self, asked: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[None]:
        """The same while parts are made: where that fails before the first is done, nothing is left behind."""
        self.begin(asked, told)
        try:
            yield
        except (PenumbraError, OSError):
            if not self._parts():
                self.remove()
            raise

    def done(self) -> dict[int, tuple[int, int]]:
        """The numbers of the parts that are there, with their rows, and how many of those are blank."""
        named = (part.name.split(".") for part in self._parts())
        return {int(number): (int(rows), int(blank)) for number, rows, blank, _ in named}

    def add(self, work: Work, part: Part) -> None:
        """One more part, which may be there already: it is the same then."""
        name = f"{part.number:08}.{part.rows}.{part.blank}.part"
        self._put(name, lambda path: path.write_bytes(part.content) if part.content else work.write(part, path))

    def finish(self, names: Sequence[str]) -> None:
        """Makes the whole of them, which appears at once, and leaves nothing else behind."""
        self._put("whole", lambda path: write_whole(path, self._whole, self._parts(), names))
        (self._home / "whole").replace(self._whole)
        self.remove()

    def remove(self) -> None:
        """Forgets what is there."""
        shutil.rmtree(self._home, ignore_errors=True)

    def _parts(self) -> list[Path]:
        return sorted(self._home.glob("*.part"))

    def _put(self, name: str, write: Callable[[Path], object]) -> None:
        """Writes a file aside, sees it to the disk, and gives it its name."""
        aside = self._home / "aside"
        write(aside)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(self._home / name)


def _unbroken(done: Mapping[int, tuple[int, int]]) -> dict[int, tuple[int, int]]:
    """Parts from the first up to where one is missing: others can only be had by reading what is before them."""
    return {number: done[number] for number in takewhile(done.__contains__, count())}


def _by_threads(client: Client, work: Work, table: Source, skip: int, concurrency: int) -> Iterator[Part]:
    """All parts but those of the first rows, which are skipped, in order."""
    with ThreadPoolExecutor(concurrency) as pool:
        batches = table.batches(work.job.batch_rows, Inputs(work.known.inputs), work.keep, skip=skip)
        yield from _in_order(pool, partial(work.part, client), batches, 2 * concurrency)


def _settled(job: Job, known: ModelDescription, told: Mapping[str, Any]) -> Job:
    """The job with nothing left open: the version, and the seed, which is the one that was drawn before."""
    options = job.options
    if options is not None and options.get("seed") is None:
        drawn = (told.get("options") or {}).get("seed")
        options = seeded({**options, "seed": drawn})
    return replace(job, version=known.version, options=options)


def _middle(known: ModelDescription) -> Rows:
    """A row within the ranges: to learn what the answers look like, before a large file is read."""
    middle = [sum(column.get("range") or (0.0, 0.0)) / 2 for column in known.inputs]
    return Inputs(known.inputs).rows_of(middle)


def _columns(client: Client, job: Job, known: ModelDescription, rows: Rows) -> dict[str, Any]:
    """The answer to some rows as columns of the result."""
    if job.options is None:
        answer: Any = client.predict(job.model, rows, version=job.version)
    else:
        answer = client.sample(job.model, rows, version=job.version, **job.options)
    if answer.model.digest != known.digest:
        raise ModelChanged(f"{job.model} was replaced while it was asked: begin anew with --restart")
    columns = answer.columns(known.output_names)
    if "prediction_set" in columns:
        columns["prediction_set"] = [SET_SEPARATOR.join(labels) for labels in columns["prediction_set"]]
    return {job.prefix + name: column for name, column in columns.items()}


def _scored(
    job: Job,
    known: ModelDescription,
    answer: Callable[[Rows], dict[str, Any]],
    kinds: Mapping[str, str],
    batch: Batch,
) -> tuple[dict[str, Any], int]:
    """The columns of a batch, and how many of its rows are blank. Raises TableError."""
    unusable = Inputs(known.inputs).gaps(batch.rows)
    if not unusable:
        return answer(batch.rows), 0
    if job.missing == "fail":
        row, column = unusable[0]
        raise TableError(
            f"row {batch.first + row + 1}: {known.input_names[column]} is missing, NaN or infinite; "
            "--missing blank leaves such rows without an answer"
        )
    left_out = {row for row, _ in unusable}
    usable = batch.rows.without(left_out)
    found = answer(usable) if usable.flat else {}
    spread: dict[str, Any] = {}
    for name in kinds:
        values = iter(arrays.nested(found.get(name, [])))
        spread[name] = [None if row in left_out else next(values) for row in range(batch.rows.count)]
    return spread, len(left_out)


def _kind(column: Any) -> str:
    value = arrays.nested(column)[0]
    return "text" if isinstance(value, str) else "whole" if isinstance(value, int) else "number"


def _in_order(pool: ThreadPoolExecutor, work: Callable[[T], U], items: Iterable[T], ahead: int) -> Iterator[U]:
    """What comes of each item, in order; so many are taken before the first of them is done, and no more."""
    pending: deque[Future[U]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) >= ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for left in pending:
            left.cancel()
