"""The two faces of the client as one: what a test asks, both are asked."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from penumbra import AsyncClient, AsyncJob, Client


class InTurn:
    """AsyncClient with the methods of Client: each call runs an event loop until it is answered."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._args, self._options = args, options

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        def ask(*args: Any, **options: Any) -> Any:
            async def main() -> Any:
                async with self.client() as client:
                    asked = getattr(client, name)(*args, **options)
                    return [each async for each in asked] if name == "stream" else await asked

            found = asyncio.run(main())
            if isinstance(found, AsyncJob):
                return JobInTurn(self, found)
            return [JobInTurn(self, each) for each in found] if name == "jobs" else found

        return ask

    def client(self) -> AsyncClient:
        """One for the event loop that runs."""
        return AsyncClient(*self._args, **self._options)


class JobInTurn:
    """AsyncJob with the methods of Job, likewise."""

    def __init__(self, face: InTurn, job: AsyncJob) -> None:
        self._face, self._manners, self.told, self.id = face, job._manners, job.told, job.id

    def __getattr__(self, name: str) -> Any:
        def ask(*args: Any, **options: Any) -> Any:
            async def main() -> Any:
                async with self._face.client() as client:
                    job = AsyncJob(client._http, self._manners, self.told)
                    found = await getattr(job, name)(*args, **options)
                    self.told = job.told
                    return found

            return asyncio.run(main())

        return ask


FACES = [Client, InTurn]
