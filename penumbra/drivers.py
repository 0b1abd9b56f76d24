"""The two that hold conversations: with threads, with asyncio. All that the client ever does happens here.

What is to be done is decided by conversations (`conversation`); each effect of theirs is a case below, in both drivers,
statement by statement the same. Knows nothing of models, rows and answers.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import httpx

from penumbra.conversation import Conversation, Each, Effect, Emit, Line, Open, Pause, Reply, Save, Send
from penumbra.events import MEDIA_TYPE

T = TypeVar("T")
_LONGEST_CONNECT = 10.0  # seconds
_BLOCK = 1 << 18


def _timeouts(seconds: float | None) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=_LONGEST_CONNECT if seconds is None else min(seconds, _LONGEST_CONNECT))


def _built(
    http: httpx.Client | httpx.AsyncClient, effect: Send | Open | Save, file: BinaryIO | None = None
) -> httpx.Request:
    """The request, its body being what is in the file, if there is one."""
    asked, headers = effect.request, dict(effect.request.headers)
    content: Any = asked.body
    if file is not None:
        headers["Content-Length"] = str(os.fstat(file.fileno()).st_size)
        content = _blocks_async(file) if isinstance(http, httpx.AsyncClient) else _blocks(file)
    return http.build_request(
        asked.method, asked.path, content=content, headers=headers, timeout=_timeouts(effect.seconds)
    )


def _body(stack: ExitStack, effect: Send) -> BinaryIO | None:
    """The file that is to be sent, open as long as the stack is."""
    body = effect.request.body
    return stack.enter_context(body.open("rb")) if isinstance(body, Path) else None


def _is_stream(response: httpx.Response) -> bool:
    return response.is_success and response.headers.get("content-type", "").startswith(MEDIA_TYPE)


@contextmanager
def _appearing(path: Path) -> Iterator[BinaryIO]:
    """A file that is there as a whole, or as it was before."""
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("wb") as file:
            yield file
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def _seal(file: BinaryIO) -> None:
    """Sees to it that what was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


# With threads


def held(http: httpx.Client, conversation: Conversation[Any]) -> Iterator[Any]:
    """Does what a conversation asks for: gives what it emits, and its result last."""
    with ExitStack() as stack:
        stack.callback(conversation.close)
        opened = stack.enter_context(ExitStack())
        lines: Iterator[str] = iter(())
        answer: Any = None
        step: Callable[[Any], Effect] = conversation.send
        while True:
            try:
                effect = step(answer)
            except StopIteration as end:
                yield end.value
                return
            step, answer = conversation.send, None
            try:
                match effect:
                    case Emit():
                        yield effect
                    case Send():
                        answer = _send(http, effect)
                    case Save():
                        answer = _save(http, effect)
                    case Pause():
                        time.sleep(effect.seconds)
                    case Each():
                        answer = _each(http, effect)
                    case Open():
                        opened.close()
                        response = http.send(_built(http, effect), stream=True)
                        opened.callback(response.close)
                        body = b"" if _is_stream(response) else response.read()
                        lines = response.iter_lines()
                        answer = Reply(response.status_code, response.headers, body)
                    case Line():
                        answer = next(lines, None)
            except Exception as error:  # noqa: BLE001 - the conversation decides
                step, answer = conversation.throw, error


def result(http: httpx.Client, conversation: Conversation[T]) -> T:
    """Holds a conversation that emits nothing to its end: what it returns."""
    last: T
    (last,) = held(http, conversation)
    return last


def _send(http: httpx.Client, effect: Send) -> Reply:
    """Sends a request and reads its answer; one that trickles in is late as a whole, too."""
    end = None if effect.seconds is None else time.monotonic() + effect.seconds
    chunks = []
    with ExitStack() as stack:
        response = http.send(_built(http, effect, _body(stack, effect)), stream=True)
        stack.callback(response.close)
        for chunk in response.iter_bytes():
            chunks.append(chunk)
            if end is not None and time.monotonic() > end:
                raise TimeoutError
    return Reply(response.status_code, response.headers, b"".join(chunks))


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """What is in a file."""
    while block := file.read(_BLOCK):
        yield block


def _save(http: httpx.Client, effect: Save) -> Reply:
    """Sends a request, and writes what comes to a file."""
    with closing(http.send(_built(http, effect), stream=True)) as response:
        if not response.is_success:
            return Reply(response.status_code, response.headers, response.read())
        with _appearing(effect.place(response.headers)) as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
            _seal(file)
    return Reply(response.status_code, response.headers, b"")


def _each(http: httpx.Client, each: Each) -> list[Any]:
    """Holds conversations on threads. A few more than can be held are kept ready, and no more are begun before that."""
    results: list[Any] = []
    pool = ThreadPoolExecutor(each.at_once)
    pending: deque[Future[Any]] = deque()

    def collect(ready: int) -> None:
        while len(pending) > ready:
            results.append(pending.popleft().result())
            each.done(len(results))

    try:
        for conversation in each.conversations:
            pending.append(pool.submit(result, http, conversation))
            collect(2 * each.at_once)
        collect(0)
    finally:
        # What went wrong is told now, not when those that have begun are done.
        pool.shutdown(wait=False, cancel_futures=True)
    return results


# With asyncio


async def held_async(http: httpx.AsyncClient, conversation: Conversation[Any]) -> AsyncGenerator[Any, None]:
    """The same as `held`, statement by statement."""
    async with AsyncExitStack() as stack:
        stack.callback(conversation.close)
        opened = await stack.enter_async_context(AsyncExitStack())
        lines: AsyncIterator[str] | None = None
        answer: Any = None
        step: Callable[[Any], Effect] = conversation.send
        while True:
            try:
                effect = step(answer)
            except StopIteration as end:
                yield end.value
                return
            step, answer = conversation.send, None
            try:
                match effect:
                    case Emit():
                        yield effect
                    case Send():
                        answer = await _send_async(http, effect)
                    case Save():
                        answer = await _save_async(http, effect)
                    case Pause():
                        await asyncio.sleep(effect.seconds)
                    case Each():
                        answer = await _each_async(http, effect)
                    case Open():
                        await opened.aclose()
                        async with asyncio.timeout(effect.seconds):
                            response = await http.send(_built(http, effect), stream=True)
                            opened.push_async_callback(response.aclose)
                            body = b"" if _is_stream(response) else await response.aread()
                        lines = response.aiter_lines()
                        answer = Reply(response.status_code, response.headers, body)
                    case Line():
                        assert lines is not None, "a line before anything was opened. This is a bug."
                        async with asyncio.timeout(effect.seconds):
                            answer = await anext(lines, None)
            except Exception as error:  # noqa: BLE001 - the conversation decides
                step, answer = conversation.throw, error


async def result_async(http: httpx.AsyncClient, conversation: Conversation[T]) -> T:
    """The same as `result`."""
    last: T
    (last,) = [step async for step in held_async(http, conversation)]
    return last


async def _send_async(http: httpx.AsyncClient, effect: Send) -> Reply:
    with ExitStack() as stack:
        async with asyncio.timeout(effect.seconds):
            response = await http.send(_built(http, effect, _body(stack, effect)))
    return Reply(response.status_code, response.headers, response.content)


async def _blocks_async(file: BinaryIO) -> AsyncIterator[bytes]:
    """The same as `_blocks`; disks can be slow."""
    while block := await asyncio.to_thread(file.read, _BLOCK):
        yield block


async def _save_async(http: httpx.AsyncClient, effect: Save) -> Reply:
    """The same as `_save`; disks can be slow."""
    async with AsyncExitStack() as stack:
        response = await http.send(_built(http, effect), stream=True)
        stack.push_async_callback(response.aclose)
        if not response.is_success:
            return Reply(response.status_code, response.headers, await response.aread())
        with _appearing(effect.place(response.headers)) as file:
            async for chunk in response.aiter_bytes():
                await asyncio.to_thread(file.write, chunk)
            await asyncio.to_thread(_seal, file)
    return Reply(response.status_code, response.headers, b"")


async def _each_async(http: httpx.AsyncClient, each: Each) -> list[Any]:
    """The same as `_each`, with tasks."""
    results: list[Any] = []
    places = asyncio.Semaphore(each.at_once)

    async def held(conversation: Conversation[Any]) -> Any:
        async with places:
            return await result_async(http, conversation)

    pending: deque[asyncio.Task[Any]] = deque()

    async def collect(ready: int) -> None:
        while len(pending) > ready:
            results.append(await pending.popleft())
            each.done(len(results))

    try:
        for conversation in each.conversations:
            pending.append(asyncio.create_task(held(conversation)))
            await collect(2 * each.at_once)
        await collect(0)
    except BaseException:
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        raise
    return results
