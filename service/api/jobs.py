"""`/v1/jobs`: tables that take longer than a request may. Submitted, looked at, cancelled, fetched, forgotten.

Knows who asks and how it is said; nothing of how jobs are worked on, or of what may be handed in (`submissions`).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import anyio
from fastapi import APIRouter
from fastapi import Path as PathParameter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, MalformedRangeHeader, RangeNotSatisfiable, Response

from penumbra.schemas import JobDescription, JobList
from service.access.callers import Caller
from service.api import submissions
from service.api.documentation import PROBLEMS
from service.api.submissions import CHOICES, KINDS, OPTIONS, aside
from service.durable import files
from service.durable.database import CANCELLED, DONE, RUNNING, WAITING, Database, Standing
from service.durable.door import Door
from service.durable.files import Folder
from service.errors import NotApplicable, UnknownJob
from service.settings import Settings

Name = Annotated[str, PathParameter(description="The id that a job was given.")]

# What a result is sent as.
_MEDIA = {kind: media for media, kind in KINDS.items()}
_FIELDS = {
    "model": {"type": "string"},
    "version": {"type": "string"},
    **{name: {"type": "string", "enum": list(choices)} for name, choices in CHOICES.items()},
    **{name: {"description": "as in a sampling"} for name in OPTIONS if name != "return_draws"},
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
            **{media: {"schema": {"type": "string", "format": "binary"}} for media in KINDS},
        },
    },
}


def router_of(settings: Settings, database: Database) -> APIRouter:
    """The routes, for jobs in the directory that the settings name."""
    assert settings.jobs_dir is not None, "routes of jobs without a directory. This is a bug."
    desk = _Desk(settings, settings.jobs_dir, database)
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
    job: dict[str, Any] = {"model": JobDescription}
    table = {"content": {media: {"schema": {"type": "string", "format": "binary"}} for media in KINDS}}
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
        job = await aside(files.find, self._directory, name)
        if job is None:
            job = await self._taken(request, name)
        else:
            # Who took it may have come no further. A second time does nothing.
            await aside(self._database.submit, job.id, caller.name)
        described = await aside(self._described, job)
        return JSONResponse(described, 202, {"Location": f"/v1/jobs/{job.id}"})

    async def _taken(self, request: Request, name: str) -> Folder:
        """A table that comes in as a job of this name, if it has one."""
        caller: Caller = request.state.caller
        with self._door.held(caller.name):
            # Most are refused before they are read.
            await aside(self._door.look, caller.name)
            folder = await aside(files.coming, self._directory, uuid4().hex)
            try:
                asked = await submissions.receive(request, folder, self._settings)
                return await aside(self._door.enter, folder, asked, name)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await aside(folder.remove)
                raise

    async def list_jobs(self, request: Request) -> Response:
        """One's own jobs, the last one first."""
        return JSONResponse({"jobs": await aside(self._listed, request.state.caller.name)})

    async def describe(self, request: Request, job: Name) -> Response:
        """What a job is about, and how far it is."""
        return JSONResponse(await aside(self._described, await self._own(request, job)))

    async def cancel(self, request: Request, job: Name) -> Response:
        """Stops a job before its next chunk. One that has ended stays as it is."""
        folder = await self._own(request, job)
        await aside(self._database.cancel, folder.id)
        return JSONResponse(await aside(self._described, folder))

    async def result(self, request: Request, job: Name) -> Response:
        """The table with its answers, in the form in which it came."""
        folder = await self._own(request, job)
        described = await aside(self._described, folder)
        if described["state"] != DONE:
            raise NotApplicable(f"this job has no result: it is {described['state']}")
        kind = (await aside(folder.asked)).kind
        return _Result(folder.result(kind), media_type=_MEDIA[kind], filename=f"{folder.id}{kind}")

    async def forget(self, request: Request, job: Name) -> Response:
        """Removes a job that has ended, and its files."""
        folder = await self._own(request, job)
        state = (await aside(self._described, folder))["state"]
        if state in (WAITING, RUNNING):
            raise NotApplicable(f"this job is {state}: cancel it first")
        await aside(self._database.forget, folder.id)
        await aside(folder.remove)
        return Response(status_code=204)

    async def _own(self, request: Request, job: Name) -> Folder:
        """The caller's job. Of others' jobs nobody is told that they are there. Raises UnknownJob."""
        folder = await aside(files.find, self._directory, job)
        if folder is None or (await aside(folder.asked)).owner != request.state.caller.name:
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


def _named(caller: Caller, key: str | None) -> str:
    """What a job is called: the same for one key of one caller, and never what another's is; without a key nothing."""
    return "" if key is None else hashlib.sha256(f"{caller.name}\n{key}".encode()).hexdigest()[:32]


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
