"""A table that is handed in as a job, and the question about its rows: received within bounds, settled, or refused.

Knows nothing of jobs that are there already, or of how they are worked on.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio
import numpy as np
import orjson
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar
from starlette.requests import Request

from penumbra.inputs import Inputs
from penumbra.schemas import SampleOptions
from penumbra.scoring.tables import TableError, TooLarge, is_parquet, opened
from service.access.callers import Caller
from service.api import decoding, strict_json
from service.durable import claims
from service.durable.files import Asked, Folder
from service.errors import BodyTooLarge, Forbidden, InvalidRequest, UnsupportedMedia
from service.inference import Inference
from service.served import ServedModel
from service.settings import Settings

T = TypeVar("T")

_MOST_THREADS = 8
_threads: RunVar[CapacityLimiter] = RunVar("threads of jobs")  # of this event loop
# Tables by their media types, and what their files' names end in.
KINDS = {"text/csv": ".csv", "text/tab-separated-values": ".tsv", "application/vnd.apache.parquet": ".parquet"}
_TEXTS = frozenset(("model", "version", "verb", "method", "aggregate", "keep", "missing"))
CHOICES = {"verb": ("sample", "predict"), "keep": ("others", "all", "none"), "missing": ("fail", "blank")}
OPTIONS = [*SampleOptions.__annotations__]
_OWN = ("model", "version", *CHOICES)


async def receive(request: Request, folder: Folder, settings: Settings) -> Asked:
    """Receives the table and settles the question, or raises what is wrong with them."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    inference: Inference = request.app.state.inference
    caller: Caller = request.state.caller
    as_json = media == "application/json"
    if not as_json and media not in KINDS:
        raise UnsupportedMedia(f"send JSON, or a table as one of {', '.join(KINDS)}")
    if "content-encoding" in request.headers:
        raise UnsupportedMedia("the body must not be compressed: send no Content-Encoding")
    kind = ".csv" if as_json else KINDS[media]
    if as_json:
        body = await _received(request, settings.max_body_bytes)
        fields = await aside(strict_json.parse_object, body)
        if "inputs" not in fields:
            raise InvalidRequest([("inputs", "is missing")])
    else:
        fields = _spelled(request)
    model, settled = _settled(fields, caller, inference, settings)
    if as_json:
        rows = await aside(_write_rows, fields["inputs"], model, settings, folder.table(kind))
    else:
        await _receive(request, settings.max_job_bytes, folder.table(kind))
        rows = await aside(_checked, folder.table(kind), model, settings.max_job_bytes)
    if rows > settings.max_job_rows:
        place, most = "inputs" if as_json else "table", settings.max_job_rows
        raise InvalidRequest([(place, f"has about {rows} rows; at most {most} may be: split it")])
    return Asked(
        owner=caller.name,
        kind=kind,
        rows=rows,
        chunk_rows=settings.job_chunk_rows,
        created=time.time(),
        **settled,
    )


def _settled(
    fields: Mapping[str, Any], caller: Caller, inference: Inference, settings: Settings
) -> tuple[ServedModel, dict[str, Any]]:
    """The model, and the question with its seed. Raises InvalidRequest, UnknownModel, Forbidden or NotApplicable."""
    asked = {name: fields[name] for name in fields if name != "inputs"}
    own = {name: asked.pop(name, None) for name in _OWN}
    for name, choices in CHOICES.items():
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
    known = OPTIONS if own["verb"] == "sample" else []
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
            known = name if name in OPTIONS else "query"
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


async def aside(work: Callable[..., T], *arguments: Any) -> T:
    """On another thread, as disks and databases are slow; on one of few, so that all else has those it needs."""
    try:
        limiter = _threads.get()
    except LookupError:
        _threads.set(limiter := CapacityLimiter(_MOST_THREADS))
    return await to_thread.run_sync(partial(work, *arguments), limiter=limiter)
