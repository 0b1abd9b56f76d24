"""The two faces of the client as one: what a test asks, both are asked."""

from __future__ import annotations

import asyncio
from typing import Any, Self

from penumbra import AsyncClient, Client


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
                async with AsyncClient(*self._args, **self._options) as client:
                    asked = getattr(client, name)(*args, **options)
                    return [each async for each in asked] if name == "stream" else await asked

            return asyncio.run(main())

        return ask


FACES = [Client, InTurn]
