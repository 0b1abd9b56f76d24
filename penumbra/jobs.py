"""Job and AsyncJob: a table that was handed in, in the hands of whoever did it.

What is said and heard is decided in `following`; `client` makes these. Knows nothing of tables.
"""

from __future__ import annotations

import os
from pathlib import Path

import httpx

from penumbra import following
from penumbra.asking import Manners
from penumbra.conversation import Conversation
from penumbra.drivers import result, result_async
from penumbra.progress import Progress, shown
from penumbra.schemas import JobDescription


class _Handle:
    """What both are told: by which connections to ask, how, and what the service said last."""

    def __init__(self, told: JobDescription, manners: Manners) -> None:
        self.told = told
        self._manners = manners

    @property
    def id(self) -> str:
        """What the service calls it: `client.job(id)` finds it again, from anywhere."""
        return self.told.id

    def __repr__(self) -> str:
        rows = self.told.rows
        return f"<{type(self).__name__} {self.id}: {self.told.state}, {rows.done:,} of {rows.of:,} rows>"

    def _ended(self, timeout: float | None, progress: Progress) -> Conversation[JobDescription]:
        return following.ended(self.id, timeout, self._manners, shown(progress, before=self.told.rows.done))


class Job(_Handle):
    """A job of `Client`; it lasts as long as the service keeps it, whatever becomes of this object.

    `told` is what the service said last: state, rows and chunks that are done, the version that answers, the options
    with their seed. Methods that ask bring it up to date. All raise what `penumbra.errors` has, UnknownJob among them.
    """

    def __init__(self, http: httpx.Client, manners: Manners, told: JobDescription) -> None:
        super().__init__(told, manners)
        self._http = http

    def status(self) -> JobDescription:
        """How far it is."""
        self.told = result(self._http, following.job(self.id, self._manners))
        return self.told

    def wait(self, *, timeout: float | None = None, progress: Progress = False) -> JobDescription:
        """Waits until it is done, for so many seconds at most (None: as long as it takes), with looks now and then.

        `progress` True draws a line on the terminal; a function is called with the rows that are done and all rows.
        Raises JobFailed where it fails or is cancelled, and DeadlineExceeded where it takes longer: it goes on then.
        """
        self.told = result(self._http, self._ended(timeout, progress))
        return self.told

    def result(self, path: str | os.PathLike[str], *, timeout: float | None = None, progress: Progress = False) -> Path:
        """Waits until it is done, as `wait` does, and writes its result to a file: a row for each row, in their order.

        The file has the form in which the table came, and a name that says so (rows that were no file come as CSV). It
        appears whole or not at all, in the place of one that is there.
        """
        place = following.destination(path)
        self.wait(timeout=timeout, progress=progress)
        return result(self._http, following.result(self.id, place, self._manners))

    def cancel(self) -> JobDescription:
        """Stops it before its next chunk of rows. A job that has ended stays as it is."""
        self.told = result(self._http, following.cancel(self.id, self._manners))
        return self.told

    def forget(self) -> None:
        """Removes it from the service, with its result. Raises NotApplicable unless it has ended: cancel it first."""
        result(self._http, following.forget(self.id, self._manners))


class AsyncJob(_Handle):
    """A job of `AsyncClient`. The same as `Job` in all else."""

    def __init__(self, http: httpx.AsyncClient, manners: Manners, told: JobDescription) -> None:
        super().__init__(told, manners)
        self._http = http

    async def status(self) -> JobDescription:
        """See `Job.status`."""
        self.told = await result_async(self._http, following.job(self.id, self._manners))
        return self.told

    async def wait(self, *, timeout: float | None = None, progress: Progress = False) -> JobDescription:
        """See `Job.wait`."""
        self.told = await result_async(self._http, self._ended(timeout, progress))
        return self.told

    async def result(
        self, path: str | os.PathLike[str], *, timeout: float | None = None, progress: Progress = False
    ) -> Path:
        """See `Job.result`."""
        place = following.destination(path)
        await self.wait(timeout=timeout, progress=progress)
        return await result_async(self._http, following.result(self.id, place, self._manners))

    async def cancel(self) -> JobDescription:
        """See `Job.cancel`."""
        self.told = await result_async(self._http, following.cancel(self.id, self._manners))
        return self.told

    async def forget(self) -> None:
        """See `Job.forget`."""
        await result_async(self._http, following.forget(self.id, self._manners))
