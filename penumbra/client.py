"""Client and AsyncClient: two faces of one implementation.

What is said and heard is decided by conversations (`asking`, `conversation`), which `drivers` hold, with threads and
with asyncio. Here is what callers see, and the connections that this needs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Self, TypeVar, Unpack

import httpx

from penumbra import __version__, asking, following
from penumbra.answers import Prediction, Sample
from penumbra.asking import Manners
from penumbra.conversation import Conversation, Emit, Patience
from penumbra.drivers import held, held_async, result, result_async
from penumbra.following import Keep, Missing, Verb
from penumbra.jobs import AsyncJob, Job
from penumbra.progress import Progress, shown
from penumbra.schemas import ModelDescription, ModelEntry, SampleOptions

DEFAULT_URL = "http://127.0.0.1:8000"
T = TypeVar("T")


class _Face:
    """What both faces are told: where the service is, and how to ask it."""

    def __init__(
        self,
        base_url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout: float | None = 60.0,
        retries: int = 5,
        concurrency: int = 4,
        chunk_rows: int | None = None,
        binary: bool | None = None,
        patience: Patience | None = None,
        **httpx_options: Any,
    ) -> None:
        self._manners = Manners(
            patience or Patience(timeout=timeout, retries=retries),
            at_once=_positive("concurrency", concurrency),
            chunk_rows=None if chunk_rows is None else _positive("chunk_rows", chunk_rows),
            binary=binary,
        )
        if "://" not in str(base_url):
            raise ValueError(f"{base_url} is not a URL: write http://{base_url}")
        try:
            httpx.URL(base_url)
        except httpx.InvalidURL as error:
            raise ValueError(f"{base_url} is not a URL: {error}") from None
        headers = httpx.Headers({"User-Agent": f"penumbra/{__version__}"})
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        headers.update(httpx_options.pop("headers", None))
        self._connect({"base_url": base_url, "headers": headers, **httpx_options})

    def _connect(self, options: dict[str, Any]) -> None:
        raise NotImplementedError

    def _with(self, timeout: float | None) -> Manners:
        if timeout is None:
            return self._manners
        return replace(self._manners, patience=replace(self._manners.patience, timeout=timeout))


class Client(_Face):
    """Asks a Penumbra service; for threads. `AsyncClient` has the same methods for asyncio.

    `api_key` is sent as a bearer token. `timeout` is how many seconds each request may take in all, retries included;
    it goes along as a deadline, so that the service drops what nobody waits for. Requests are sent again, up to
    `retries` times and with growing pauses, where the service is busy or the connection broke: each is a pure function
    of what it says (a sampling without a seed is given one first), so that asking twice does no harm. A table that is
    too large for one request is sent in chunks of rows, `concurrency` of them at a time, with the same answer to the
    bit; `chunk_rows` overrides their size, `binary` whether numbers travel as bytes (by default: where they are many).
    `patience` replaces `timeout` and `retries` and says more.

    What else is given goes to httpx.Client: `headers`, `verify`, `proxy`, `limits`, `transport` and so on. A client
    keeps connections open and can be shared by threads; close it, or use it in a `with`.

    >>> from penumbra import Client
    >>> client = Client("http://127.0.0.1:8000")
    >>> [entry.version for entry in client.models() if entry.name == "diabetes"]
    ['1']

    All methods raise what `penumbra.errors` has: InvalidRequest, UnknownModel, Unavailable, DeadlineExceeded, ….
    """

    def _connect(self, options: dict[str, Any]) -> None:
        self._http = httpx.Client(**options)

    def models(self, *, timeout: float | None = None) -> list[ModelEntry]:
        """Every model of the service, sorted by name, with the version that is served by default."""
        return self._hold(asking.models(self._with(timeout)))

    def model(self, model: str, *, version: str | None = None, timeout: float | None = None) -> ModelDescription:
        """What a model expects and how good it is: its manifest; the version served by default, if none is named.

        >>> client.model("diabetes").input_names
        ['age', 'sex', 'bmi', 'bp', 's1', 's2', 's3', 's4', 's5', 's6']
        """
        return self._hold(asking.model(model, version, self._with(timeout)))

    def predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: str | None = None,
        timeout: float | None = None,
        progress: Progress = False,
    ) -> Prediction:
        """The full network's answer, deterministic: a RegressionPrediction or a ClassPrediction.

        `inputs` hold rows in raw units: a list of rows (lists of values in the manifest's order, or dicts by name), a
        two-dimensional array, a frame of pandas, polars or Arrow, a dict of columns, or a dict of values, one row.
        Where the model takes them, values may be texts, truth values, or missing: None, NaN or NA. `progress` True
        draws a line on the terminal; a function is called with the rows that are done and all rows.

        >>> row = [0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]
        >>> client.predict("diabetes", [row]).mean.round(1)
        array([[198.3]])
        """
        return self._hold(asking.predict(model, version, inputs, self._with(timeout), shown(progress)))

    def sample(
        self,
        model: str,
        inputs: Any,
        *,
        version: str | None = None,
        timeout: float | None = None,
        progress: Progress = False,
        **options: Unpack[SampleOptions],
    ) -> Sample:
        """A committee's answer, with its uncertainty: a RegressionSample or a ClassSample.

        `inputs`, `progress`: see `predict`. `options` are those of the wire contract: `seed` (omitted: drawn here, and
        returned), `samples`, `first_sample`, `method`, `aggregate`, `interval`, `quantiles`, `dropout`,
        `return_draws`. The same seed has the same answer, to the bit.

        >>> answer = client.sample("diabetes", [row], samples=100, seed=7)
        >>> answer.mean.round(1), answer.epistemic_std.round(1), answer.aleatoric_std.round(1)
        (array([[199.9]]), array([[13.1]]), array([[58.6]]))
        """
        return self._hold(asking.sample(model, version, inputs, options, self._with(timeout), shown(progress)))

    def stream(
        self,
        model: str,
        inputs: Any,
        *,
        version: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SampleOptions],
    ) -> Iterator[Sample]:
        """A committee's answer as it grows: one after each block of samples, and the whole answer last.

        Answers on the way have `progress`, the last one has none and is what `sample` returns. A connection that breaks
        is made anew, and nothing is told twice. `timeout` is the longest wait for the next answer. Whoever stops
        listening closes the generator, or lets go of it: the service stops sampling then.

        >>> for answer in client.stream("diabetes", [row], samples=96, seed=7):
        ...     print(answer.samples, answer.mean.round(1).item(), answer.stderr.round(2).item(), answer.progress)
        32 197.9 2.17 Progress(samples=32, of=96)
        64 199.8 1.74 Progress(samples=64, of=96)
        96 199.8 1.35 Progress(samples=96, of=96)
        96 199.8 1.35 None
        """
        for step in held(self._http, asking.stream(model, version, inputs, options, self._with(timeout))):
            if isinstance(step, Emit):
                yield step.value

    def submit(
        self,
        model: str,
        table: Any,
        *,
        version: str | None = None,
        verb: Verb = "sample",
        keep: Keep = "others",
        missing: Missing = "fail",
        timeout: float | None = None,
        **options: Unpack[SampleOptions],
    ) -> Job:
        """Hands a table in that takes longer than a request may; the service scores it in the background: a Job.

        `table` is the path of a file (.csv, .tsv or .parquet), whose columns are found by the model's names, or rows
        as in `predict`. `verb` says what is asked, `options` are those of `sample`, but for `return_draws` and targets.
        `keep`: which other columns are carried along; `missing`: rows that lack a value make the job "fail", or stay
        "blank". The table must have been taken within `timeout`; what it takes after that is `Job.wait`'s.

            job = client.submit("diabetes", "patients.csv", samples=100, seed=7)
            job.result("scored.csv", progress=True)

        Raises NotApplicable where the service takes no jobs, and Unavailable where it has too many of this caller's.
        """
        manners = self._with(timeout)
        conversation = following.submit(
            model, version, table, options, verb=verb, keep=keep, missing=missing, manners=manners
        )
        return Job(self._http, self._manners, self._hold(conversation))

    def job(self, job: str, *, timeout: float | None = None) -> Job:
        """The job of this id, whoever handed it in with this client's key. Raises UnknownJob."""
        return Job(self._http, self._manners, self._hold(following.job(job, self._with(timeout))))

    def jobs(self, *, timeout: float | None = None) -> list[Job]:
        """All jobs that were handed in with this client's key and are kept, the last one first."""
        return [Job(self._http, self._manners, told) for told in self._hold(following.jobs(self._with(timeout)))]

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _hold(self, conversation: Conversation[T]) -> T:
        """Holds a conversation to its end, and returns its result."""
        return result(self._http, conversation)


class AsyncClient(_Face):
    """Asks a Penumbra service; for asyncio. The same as `Client` in all else, httpx's options included.

    >>> import asyncio
    >>> from penumbra import AsyncClient
    >>> async def main():
    ...     async with AsyncClient("http://127.0.0.1:8000") as client:
    ...         answers = await asyncio.gather(*(client.sample("diabetes", [row], seed=seed) for seed in (1, 2, 3)))
    ...     return [answer.mean.round(1).item() for answer in answers]
    >>> asyncio.run(main())
    [197.2, 198.5, 197.6]
    """

    def _connect(self, options: dict[str, Any]) -> None:
        self._http = httpx.AsyncClient(**options)

    async def models(self, *, timeout: float | None = None) -> list[ModelEntry]:
        """See `Client.models`."""
        return await self._hold(asking.models(self._with(timeout)))

    async def model(self, model: str, *, version: str | None = None, timeout: float | None = None) -> ModelDescription:
        """See `Client.model`."""
        return await self._hold(asking.model(model, version, self._with(timeout)))

    async def predict(
        self,
        model: str,
        inputs: Any,
        *,
        version: str | None = None,
        timeout: float | None = None,
        progress: Progress = False,
    ) -> Prediction:
        """See `Client.predict`."""
        return await self._hold(asking.predict(model, version, inputs, self._with(timeout), shown(progress)))

    async def sample(
        self,
        model: str,
        inputs: Any,
        *,
        version: str | None = None,
        timeout: float | None = None,
        progress: Progress = False,
        **options: Unpack[SampleOptions],
    ) -> Sample:
        """See `Client.sample`."""
        return await self._hold(asking.sample(model, version, inputs, options, self._with(timeout), shown(progress)))

    async def stream(
        self,
        model: str,
        inputs: Any,
        *,
        version: str | None = None,
        timeout: float | None = None,
        **options: Unpack[SampleOptions],
    ) -> AsyncIterator[Sample]:
        """See `Client.stream`."""
        steps = held_async(self._http, asking.stream(model, version, inputs, options, self._with(timeout)))
        async with aclosing(steps):
            async for step in steps:
                if isinstance(step, Emit):
                    yield step.value

    async def submit(
        self,
        model: str,
        table: Any,
        *,
        version: str | None = None,
        verb: Verb = "sample",
        keep: Keep = "others",
        missing: Missing = "fail",
        timeout: float | None = None,
        **options: Unpack[SampleOptions],
    ) -> AsyncJob:
        """See `Client.submit`."""
        manners = self._with(timeout)
        conversation = following.submit(
            model, version, table, options, verb=verb, keep=keep, missing=missing, manners=manners
        )
        return AsyncJob(self._http, self._manners, await self._hold(conversation))

    async def job(self, job: str, *, timeout: float | None = None) -> AsyncJob:
        """See `Client.job`."""
        return AsyncJob(self._http, self._manners, await self._hold(following.job(job, self._with(timeout))))

    async def jobs(self, *, timeout: float | None = None) -> list[AsyncJob]:
        """See `Client.jobs`."""
        found = await self._hold(following.jobs(self._with(timeout)))
        return [AsyncJob(self._http, self._manners, told) for told in found]

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _hold(self, conversation: Conversation[T]) -> T:
        """Holds a conversation to its end, and returns its result."""
        return await result_async(self._http, conversation)


def _positive(name: str, number: int) -> int:
    if number < 1:
        raise ValueError(f"{name} must be at least 1")
    return number
