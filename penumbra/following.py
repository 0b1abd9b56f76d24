"""What is said and heard about jobs: a table is handed in, followed, and fetched. Does nothing itself.

A table is sent as it is; rows that are in memory become one, as CSV, whose values are read back to the last bit. A key
goes along with each table, so that a request whose answer was lost can be sent again without making a second job. Knows
nothing of how jobs are worked on.
"""

from __future__ import annotations

import csv
import io
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlencode

import httpx

from penumbra import arrays, asking, errors, rows
from penumbra.asking import Manners, Progress, parsed, seeded
from penumbra.conversation import (
    Conversation,
    Deadline,
    Pause,
    Reply,
    Request,
    Save,
    accepted,
    attempts,
    broken,
    call,
)
from penumbra.inputs import Inputs
from penumbra.schemas import JobDescription, JobList

Verb = Literal["sample", "predict"]
Keep = Literal["others", "all", "none"]
Missing = Literal["fail", "blank"]

_JOBS = "/v1/jobs"
_MEDIA = {
    ".csv": "text/csv",
    ".tsv": "text/tab-separated-values",
    ".parquet": "application/vnd.apache.parquet",
    ".pq": "application/vnd.apache.parquet",
}
# Written as they are; all other options are written as in JSON.
_TEXTS = frozenset(("method", "aggregate"))
# Pauses between two looks at a job are those between the first attempts of a request: 3.2 s at most by default.
_MOST_GROWTH = 5


def submit(
    model: str,
    version: str | None,
    table: Any,
    options: Mapping[str, Any],
    *,
    verb: Verb,
    keep: Keep,
    missing: Missing,
    manners: Manners,
) -> Conversation[JobDescription]:
    """Hands a table in: a file by its path, or rows as they are asked about."""
    question = {**options} if verb == "predict" else seeded(options)
    body: bytes | Path
    if isinstance(table, (str, os.PathLike)):
        body = Path(table)
        media = _media(body, "table")
        if not body.is_file():
            raise FileNotFoundError(f"there is no file {body}")
    else:
        found = rows.read(table)
        known = yield from asking.model(model, version, manners)
        read = Inputs(known.inputs).read(found, gaps=missing == "blank")
        version, body, media = known.version, _written(read, known.input_names), "text/csv"
    fields = {"model": model, "version": version, "verb": verb, "keep": keep, "missing": missing}
    fields |= {name: value if name in _TEXTS else arrays.as_json(value).decode() for name, value in question.items()}
    query = urlencode({name: value for name, value in fields.items() if value is not None})
    headers = {"Content-Type": media, "Idempotency-Key": secrets.token_hex(16)}
    return (yield from _described(Request("POST", f"{_JOBS}?{query}", body, headers), manners))


def job(name: str, manners: Manners) -> Conversation[JobDescription]:
    """What is told of a job."""
    return (yield from _described(Request("GET", _path(name)), manners))


def jobs(manners: Manners) -> Conversation[list[JobDescription]]:
    """What is told of all jobs of this caller."""
    reply = yield from _answered(Request("GET", _JOBS), manners)
    return parsed(reply, lambda body: JobList.model_validate_json(body).jobs)


def ended(name: str, timeout: float | None, manners: Manners, progress: Progress) -> Conversation[JobDescription]:
    """What is told of a job when it is done. Raises JobFailed where it ends otherwise, or DeadlineExceeded."""
    deadline = Deadline(replace(manners.patience, timeout=timeout))
    for look in count():
        told = yield from job(name, manners)
        # How many rows there are is an estimate, and all of them are done a moment before the job is.
        if told.state == "done" or told.rows.done < told.rows.of:
            progress(told.rows.done, told.rows.of)
        if told.has_ended:
            break
        pause = manners.patience.pause(min(look, _MOST_GROWTH), None)
        if not deadline.allows(pause):
            raise errors.DeadlineExceeded(f"the job is {told.state} still after {timeout:g} s, and goes on")
        yield Pause(pause)
    if told.state != "done":
        raise errors.JobFailed(told)
    return told


def cancel(name: str, manners: Manners) -> Conversation[JobDescription]:
    """Stops a job before its next chunk; what is told of it then."""
    return (yield from _described(Request("POST", f"{_path(name)}/cancel"), manners))


def forget(name: str, manners: Manners) -> Conversation[None]:
    """Removes a job that has ended, with its result."""
    yield from _answered(Request("DELETE", _path(name)), manners)


def destination(path: str | os.PathLike[str]) -> Path:
    """Where a result may go, before anybody waits for it. Raises InvalidRequest."""
    place = Path(path)
    _media(place, "path")
    if not place.absolute().parent.is_dir():
        raise errors.InvalidRequest.found([("path", f"there is no directory {place.parent}")])
    return place


def result(name: str, path: Path, manners: Manners) -> Conversation[Path]:
    """Writes the result to a file, which appears whole or not at all. Each part of it may take the patience's time."""
    expected = _media(path, "path")

    def place(headers: Mapping[str, str]) -> Path:
        media = headers.get("content-type", "no content type").partition(";")[0]
        if media not in _MEDIA.values():
            raise errors.UnexpectedAnswer(f"the answer is {media}, not a table: is the address right?")
        if media != expected:
            ending = next(ending for ending, kind in _MEDIA.items() if kind == media)
            raise errors.InvalidRequest.found([("path", f"must end in {ending}: the result is {media}, as the table")])
        return path

    def attempt(deadline: Deadline) -> Conversation[None]:
        try:
            reply: Reply = yield Save(Request("GET", f"{_path(name)}/result"), deadline.timeout, place)
        except (httpx.RequestError, TimeoutError) as error:
            deadline.renew()  # it is for each part, however many there were
            raise broken(error, deadline) from error
        accepted(reply)

    yield from attempts(manners.patience, attempt)
    return path


def _described(request: Request, manners: Manners) -> Conversation[JobDescription]:
    reply = yield from _answered(request, manners)
    return parsed(reply, JobDescription.model_validate_json)


def _answered(request: Request, manners: Manners) -> Conversation[Reply]:
    try:
        return (yield from call(request, manners.patience))
    except errors.UnknownModel as error:
        if error.problem and error.problem.type == "about:blank":
            raise errors.NotApplicable(
                "this service takes no jobs: start it with --jobs-dir DIR (see docs/jobs.md)"
            ) from error
        raise


def _path(name: str) -> str:
    # Others would be places of something else.
    if not re.fullmatch(r"[\w-]+", name):
        raise errors.UnknownJob("there is no such job: an id has letters and digits alone")
    return f"{_JOBS}/{quote(name, safe='')}"


def _media(path: Path, field: str) -> str:
    """What the file is, by its name. Raises InvalidRequest."""
    if media := _MEDIA.get(path.suffix.lower()):
        return media
    raise errors.InvalidRequest.found([(field, f"{path} must end in .csv, .tsv or .parquet, for its form to be known")])


def _written(table: rows.Rows, names: list[str]) -> bytes:
    """Rows as CSV, each number with as many digits as it takes to read the same one back."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(table.nested())
    return text.getvalue().encode()
