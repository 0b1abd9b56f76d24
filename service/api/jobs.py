"""`/v1/jobs`: tables that take longer than a request may. Submitted, looked at, cancelled, fetched, forgotten.

Knows who asks and how it is said; nothing of how jobs are worked on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import uuid4

import anyio
import numpy as np
import orjson
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from fastapi import APIRouter
from fastapi import Path as PathParameter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, MalformedRangeHeader, RangeNotSatisfiable, Response

from penumbra.inputs import Inputs
from penumbra.schemas import JobDescription, JobList, SampleOptions
from penumbra.scoring.tables import TableError, TooLarge, is_parquet, opened
from service.access.callers import Caller
from service.api import decoding, strict_json
from service.api.documentation import PROBLEMS
from service.durable import claims, files
from service.durable.database import CANCELLED, DONE, RUNNING, WAITING, Database, Standing
from service.durable.door import Door
from service.durable.files import Asked, Folder
from service.errors import (
    BodyTooLarge,
    Forbidden,
    InvalidRequest,
    NotApplicable,
    UnknownJob,
    UnsupportedMedia,
)
from service.inference import Inference
from service.served import ServedModel
from service.settings import Settings

T = TypeVar("T")
Name = Annotated[str, PathParameter(description="The id that a job was given.")]

_MOST_THREADS = 8
_threads: RunVar[CapacityLimiter] = RunVar("threads of jobs")  # of this event loop
# Tables by their media types, and what their files' names end in.
_KINDS = {"text/csv": ".csv", "text/tab-separated-values": ".tsv", "application/vnd.apache.parquet": ".parquet"}
_MEDIA = {kind: media for media, kind in _KINDS.items()}
_TEXTS = frozenset(("model", "version", "verb", "method", "aggregate", "keep", "missing"))
_CHOICES = {"verb": ("sample", "predict"), "keep": ("others", "all", "none"), "missing": ("fail", "blank")}
_OPTIONS = [*SampleOptions.__annotations__]
_OWN = ("model", "version", *_CHOICES)

_FIELDS = {
    "model": {"type": "string"},
    "version": {"type": "string"},
    **{name: {"type": "string", "enum": list(choices)} for name, choices in _CHOICES.items()},
    **{name: {"description": "as in a sampling"} for name in _OPTIONS if name != "return_draws"},
}
# What FastAPI does not see, as bodies are read as they come.
_SUBMITTED = {
    "parameters": [
        {"name": name, "in": "query", "required": False, "schema": schema} for name, schema in _FIELDS.items()
    ]
    + [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
            "description": "Any text of the caller's: whoever sends it again is told of the job that came of it first, "
            "and no second one is made.",
        }
    ],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "inputs"],
                    "properties": {**_FIELDS, "inputs": {"type": "array"}},
                },
                "example": {"model": "diabetes", "samples": 100, "seed": 7, "inputs": [[0.0] * 10]},
            },
            **{media: {"schema": {"type": "string", "format": "binary"}} for media in _KINDS},
        },
    },
}


def router_of(settings: Settings, database: Database) -> APIRouter:
    """The routes, for jobs in the directory that the settings name."""
    assert settings.jobs_dir is not None, "routes of jobs without a directory. This is a bug."
    desk = _Desk(settings, settings.jobs_dir, database)
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
    job: dict[str, Any] = {"model": JobDescription}
    table = {"content": {media: {"schema": {"type": "string", "format": "binary"}} for media in _KINDS}}
    for method, path, handler, status, told, errors in (
        ("POST", "", desk.submit, 202, job, (403, 404, 409, 413, 415, 422, 503)),
        ("GET", "", desk.list_jobs, 200, {"model": JobList}, (503,)),
        ("GET", "/{job}", desk.describe, 200, job, (404, 503)),
        ("POST", "/{job}/cancel", desk.cancel, 200, job, (404, 503)),
        ("GET", "/{job}/result", desk.result, 200, table, (404, 409, 503)),
        ("DELETE", "/{job}", desk.forget, 204, {}, (404, 409, 503)),
    ):
        router.add_api_route(
            path,
            handler,
            methods=[method],
            status_code=status,
            response_model=None,
            response_class=FileResponse if handler == desk.result else JSONResponse,
            responses={status: told, **PROBLEMS(*errors)},
            openapi_extra=_SUBMITTED if handler == desk.submit else None,
        )
    return router


class _Desk:
    """Where jobs are handed in and fetched, each by whoever handed it in."""

    def __init__(self, settings: Settings, directory: Path, database: Database) -> None:
        self._settings, self._directory, self._database = settings, directory, database
        self._door = Door(directory, database, settings.max_jobs, settings.max_kept_jobs)

    async def submit(self, request: Request) -> Response:
        """Takes a table, and the question about its rows.

        A table as CSV, TSV or Parquet is the body, and the question stands in the query: model, version, verb (sample
        or predict), the options of sampling, keep and missing. As JSON both are the body, the rows as inputs. With an
        Idempotency-Key it may be sent again: no second job comes of it.
        """
        caller: Caller = request.state.caller
        key = request.headers.get("idempotency-key")
        name = _named(caller, key)
        job = await _aside(files.find, self._directory, name)
        if job is None:
            job = await self._taken(request, name)
        else:
            # Who took it may have come no further. A second time does nothing.
            await _aside(self._database.submit, job.id, caller.name)
        described = await _aside(self._described, job)
        return JSONResponse(described, 202, {"Location": f"/v1/jobs/{job.id}"})

    async def _taken(self, request: Request, name: str) -> Folder:
        """A table that comes in as a job of this name, if it has one."""
        caller: Caller = request.state.caller
        with self._door.held(caller.name):
            # Most are refused before they are read.
            await _aside(self._door.look, caller.name)
            folder = await _aside(files.coming, self._directory, uuid4().hex)
            try:
                return await _aside(self._door.enter, folder, await self._read(request, folder), name)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await _aside(folder.remove)
                raise

    async def list_jobs(self, request: Request) -> Response:
        """One's own jobs, the last one first."""
        return JSONResponse({"jobs": await _aside(self._listed, request.state.caller.name)})

    async def describe(self, request: Request, job: Name) -> Response:
        """What a job is about, and how far it is."""
        return JSONResponse(await _aside(self._described, await self._own(request, job)))

    async def cancel(self, request: Request, job: Name) -> Response:
        """Stops a job before its next chunk. One that has ended stays as it is."""
        folder = await self._own(request, job)
        await _aside(self._database.cancel, folder.id)
        return JSONResponse(await _aside(self._described, folder))

    async def result(self, request: Request, job: Name) -> Response:
        """The table with its answers, in the form in which it came."""
        folder = await self._own(request, job)
        described = await _aside(self._described, folder)
        if described["state"] != DONE:
            raise NotApplicable(f"this job has no result: it is {described['state']}")
        kind = (await _aside(folder.asked)).kind
        return _Result(folder.result(kind), media_type=_MEDIA[kind], filename=f"{folder.id}{kind}")

    async def forget(self, request: Request, job: Name) -> Response:
        """Removes a job that has ended, and its files."""
        folder = await self._own(request, job)
        state = (await _aside(self._described, folder))["state"]
        if state in (WAITING, RUNNING):
            raise NotApplicable(f"this job is {state}: cancel it first")
        await _aside(self._database.forget, folder.id)
        await _aside(folder.remove)
        return Response(status_code=204)

    async def _own(self, request: Request, job: Name) -> Folder:
        """The caller's job. Of others' jobs nobody is told that they are there. Raises UnknownJob."""
        folder = await _aside(files.find, self._directory, job)
        if folder is None or (await _aside(folder.asked)).owner != request.state.caller.name:
            raise UnknownJob("there is no such job")
        return folder

    def _described(self, folder: Folder) -> dict[str, Any]:
        """What is told of a job. Raises UnknownJob where it was removed just now."""
        return _document(folder, self._database.standings([folder.id]).get(folder.id, Standing(CANCELLED)))

    def _listed(self, owner: str) -> list[dict[str, Any]]:
        told = []
        for name, standing in self._database.of(owner).items():
            with suppress(UnknownJob):  # removed just now
                told.append(_document(Folder(self._directory / name), standing))
        return told

    async def _read(self, request: Request, folder: Folder) -> Asked:
        """Receives the table and settles the question, or raises what is wrong with them."""
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        inference: Inference = request.app.state.inference
        caller: Caller = request.state.caller
        as_json = media == "application/json"
        if not as_json and media not in _KINDS:
            raise UnsupportedMedia(f"send JSON, or a table as one of {', '.join(_KINDS)}")
        if "content-encoding" in request.headers:
            raise UnsupportedMedia("the body must not be compressed: send no Content-Encoding")
        kind = ".csv" if as_json else _KINDS[media]
        if as_json:
            body = await _received(request, self._settings.max_body_bytes)
            fields = await _aside(strict_json.parse_object, body)
            if "inputs" not in fields:
                raise InvalidRequest([("inputs", "is missing")])
        else:
            fields = _spelled(request)
        model, settled = _settled(fields, caller, inference, self._settings)
        if as_json:
            rows = await _aside(_write_rows, fields["inputs"], model, self._settings, folder.table(kind))
        else:
            await _receive(request, self._settings.max_job_bytes, folder.table(kind))
            rows = await _aside(_checked, folder.table(kind), model, self._settings.max_job_bytes)
        if rows > self._settings.max_job_rows:
            place, most = "inputs" if as_json else "table", self._settings.max_job_rows
            raise InvalidRequest([(place, f"has about {rows} rows; at most {most} may be: split it")])
        return Asked(
            owner=caller.name,
            kind=kind,
            rows=rows,
            chunk_rows=self._settings.job_chunk_rows,
            created=time.time(),
            **settled,
        )


def _named(caller: Caller, key: str | None) -> str:
    """What a job is called: the same for one key of one caller, and never what another's is; without a key nothing."""
    return "" if key is None else hashlib.sha256(f"{caller.name}\n{key}".encode()).hexdigest()[:32]


def _settled(
    fields: Mapping[str, Any], caller: Caller, inference: Inference, settings: Settings
) -> tuple[ServedModel, dict[str, Any]]:
    """The model, and the question with its seed. Raises InvalidRequest, UnknownModel, Forbidden or NotApplicable."""
    asked = {name: fields[name] for name in fields if name != "inputs"}
    own = {name: asked.pop(name, None) for name in _OWN}
    for name, choices in _CHOICES.items():
        if own[name] is None:
            own[name] = choices[0]
        elif own[name] not in choices:
            raise InvalidRequest([(name, f"must be one of {', '.join(choices)}")])
    for name in ("model", "version"):
        if not isinstance(own[name], (str, type(None))):
            raise InvalidRequest([(name, "must be a text")])
    if not own["model"]:
        raise InvalidRequest([("model", "is missing")])
    if not caller.sees(own["model"]):
        raise Forbidden("this key is not for that")
    model = inference.resolve(own["model"], own["version"])
    known = _OPTIONS if own["verb"] == "sample" else []
    if not asked.keys() <= set(known):
        raise InvalidRequest([("body", f"has an unknown field; known are {', '.join([*_OWN, *known])}")])
    options = None
    if own["verb"] == "sample":
        # Of a table each chunk would stop by itself, and a draw is no column.
        if not isinstance(asked.get("samples", 1), int):
            raise InvalidRequest([("samples", "must be a whole number: jobs know no target")])
        if asked.get("return_draws"):
            raise InvalidRequest([("return_draws", "can't be true: a result has no columns for draws")])
        # Any row: it is looked at by nobody.
        row = np.zeros((1, len(model.manifest.inputs)))
        sampling = decoding.sampling_of(decoding.read_options(asked), 1, lambda: row, model, settings)
        inference.check(model, sampling)
        options = {**asked, "seed": sampling.committee.seed}
    manifest = model.manifest
    return model, {
        "model": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "options": options,
        "keep": own["keep"],
        "missing": own["missing"],
    }


def _spelled(request: Request) -> dict[str, Any]:
    """The question as it stands in a query: numbers, lists and objects as in JSON. Raises InvalidRequest."""
    found: dict[str, Any] = {}
    for name, text in request.query_params.multi_items():
        if name in found:
            raise InvalidRequest([("query", "has a field twice")])
        try:
            found[name] = text if name in _TEXTS else orjson.loads(text)
        except orjson.JSONDecodeError:
            known = name if name in _OPTIONS else "query"
            raise InvalidRequest([(known, "must be written as in JSON")]) from None
    return found


def _write_rows(rows: Any, model: ServedModel, settings: Settings, path: Path) -> int:
    """Rows of JSON as a table: how many. Raises InvalidRequest or InvalidRows."""
    inputs = _inputs(model)
    decoding.check_prediction(len(rows) if isinstance(rows, list) else 0, model, settings)
    numbers = model.standard.read(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(inputs.names)
        writer.writerows(inputs.spelled(numbers.tolist()))
    return len(numbers)


def _inputs(model: ServedModel) -> Inputs:
    """How a table of this model's rows is read and written."""
    return Inputs([column.model_dump() for column in model.manifest.inputs])


def _checked(path: Path, model: ServedModel, most_bytes: int) -> int:
    """About how many rows a table has. Raises InvalidRequest."""
    if is_parquet(path):
        claims.check(path, most_bytes)
    try:
        table = opened(path)
        rows = table.count()
    except TooLarge as error:
        raise InvalidRequest([("table", _said(error, path))]) from None
    except TableError as error:
        lacking = "needs pyarrow" in str(error)
        text = "can't be Parquet: this service lacks pyarrow, and takes CSV" if lacking else "can't be read in its form"
        raise InvalidRequest([("table", text)]) from None
    if len(set(table.names)) != len(table.names):
        raise InvalidRequest([("table", "has two columns of one name")])
    inputs = _inputs(model)
    missing = [name for name in inputs.names if name not in table.names]
    if missing:
        raise InvalidRequest([("table", f"has no column {', '.join(missing)}")])
    try:
        # Of Parquet a page may become any number of bytes: whoever works on jobs has bounds for that.
        empty = not rows if is_parquet(path) else next(table.batches(1, inputs, []), None) is None
    except TooLarge as error:
        raise InvalidRequest([("table", _said(error, path))]) from None
    except TableError:
        raise InvalidRequest([("table", "has a first row that can't be read")]) from None
    if empty:
        raise InvalidRequest([("table", "has no rows")])
    # Lines are counted by their ends, which the last one may lack.
    return max(1, rows)


def _said(error: TooLarge, path: Path) -> str:
    """Without the place of a file of the service's own."""
    return str(error).removeprefix(str(path)).lstrip(",: ")


async def _received(request: Request, most: int) -> bytes:
    held = io.BytesIO()
    async for block in request.stream():
        if held.tell() + len(block) > most:
            raise BodyTooLarge(f"the body is larger than {most} bytes; send a table as CSV or Parquet")
        held.write(block)
    return held.getvalue()


async def _receive(request: Request, most: int, path: Path) -> None:
    """Writes a body to a file, block by block. Raises BodyTooLarge."""
    size = 0
    async with await anyio.open_file(path, "wb") as file:
        async for block in request.stream():
            size += len(block)
            if size > most:
                raise BodyTooLarge(f"the table is larger than {most} bytes; split it")
            await file.write(block)


def _document(folder: Folder, standing: Standing) -> dict[str, Any]:
    """What is told of a job."""
    asked = folder.asked()
    total, all_rows = -(-asked.rows // asked.chunk_rows), asked.rows
    if standing.state == DONE:
        total, all_rows = standing.chunks, standing.rows
    # Of a result that has just been put together the parts are gone already.
    whole = folder.result(asked.kind).exists()
    chunks, rows = (total, all_rows) if whole else folder.done(asked.kind)
    return {
        "id": folder.id,
        "state": standing.state,
        "error": standing.error or None,
        "model": {"name": asked.model, "version": asked.version, "digest": asked.digest},
        "verb": "predict" if asked.options is None else "sample",
        "options": asked.options,
        "chunks": {"done": chunks, "of": max(total, chunks)},
        "rows": {"done": rows, "of": max(all_rows, rows)},
        "created": datetime.fromtimestamp(asked.created, UTC).isoformat(timespec="seconds"),
    }


class _Result(FileResponse):
    """A file, and what is wrong with a header Range in the contract's form."""

    @classmethod
    def _parse_range_header(cls, http_range: str, file_size: int) -> list[tuple[int, int]]:
        try:
            return super()._parse_range_header(http_range, file_size)
        except MalformedRangeHeader:
            return []  # as if it was not there: RFC 9110, 14.2
        except RangeNotSatisfiable:
            raise HTTPException(416, headers={"Content-Range": f"bytes */{file_size}"}) from None


async def _aside(work: Callable[..., T], *arguments: Any) -> T:
    """On another thread, as disks and databases are slow; on one of few, so that all else has those it needs."""
    try:
        limiter = _threads.get()
    except LookupError:
        _threads.set(limiter := CapacityLimiter(_MOST_THREADS))
    return await to_thread.run_sync(partial(work, *arguments), limiter=limiter)
