"""What lives as long as the application: opened in order, closed in the opposite one, also when opening fails."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from anyio import to_thread

from models.mirror import open_store
from models.repository import Repository
from service.access.access import Access
from service.agreement import Agreement
from service.api.hot import Application
from service.batching import Batcher
from service.caching.answers import Answers
from service.caching.memory import Memory
from service.caching.shared import Shared
from service.catalogue import Catalogue
from service.engine.evaluate import usable_device, use_one_thread
from service.engine.mask_cache import MaskCache
from service.inference import Inference
from service.memory import MemoryGuard, reader, trim
from service.served import Loader
from service.settings import Settings
from service.splitting import Others
from service.telemetry.observer import Observer, Watched

if TYPE_CHECKING:
    from service.durable.database import Database

# Objects made before the collector looks for cycles among them: a request makes dozens, and leaves no cycle. At
# Python's own 700 looking took two hundredths of the time.
_COLLECT_EVERY = 20_000


@dataclass(frozen=True, slots=True)
class Parts:
    """What there is before the application starts. See `app.create_app`."""

    settings: Settings
    observer: Observer
    access: Access | None
    database: Database | None
    loader: Loader | None
    agreement: Agreement | None
    others: Others | None


@asynccontextmanager
async def alive(parts: Parts, app: Application) -> AsyncIterator[None]:
    """The application answers within."""
    async with AsyncExitStack() as closing:
        await _open(parts, app, closing)
        app.state.ready = True
        yield
        app.state.ready = False


async def _open(parts: Parts, app: Application, closing: AsyncExitStack) -> None:
    settings, observer = parts.settings, parts.observer
    closing.push_async_callback(observer.stop)
    if parts.database is not None:
        closing.push_async_callback(to_thread.run_sync, parts.database.close)
    use_one_thread()
    mask_cache, answers = MaskCache(settings.mask_cache_bytes), answers_of(settings)
    if answers is not None and answers.shared is not None:
        closing.push_async_callback(answers.shared.close)
    memory = MemoryGuard(
        settings.memory_share, reader(settings.worker_processes), partial(_relieve, mask_cache, answers)
    )
    batcher = Batcher(
        settings.engine_threads,
        settings.max_queue,
        settings.max_queue_seconds,
        observe=observer.evaluated,
        memory_short=lambda: memory.short,
    )
    closing.push_async_callback(to_thread.run_sync, batcher.close)
    catalogue = await _catalogue(parts)
    app.state.inference = Inference(catalogue, batcher, mask_cache, answers, parts.others)
    observer.start(Watched(catalogue, batcher, mask_cache, answers), app.templates.values())
    _collect_seldom()
    app.state.memory = memory
    memory.look()
    loops: list[Coroutine[Any, Any, None]] = [catalogue.follow(), memory.watch()]
    if settings.watch_seconds:
        loops.append(catalogue.watch(settings.watch_seconds))
    if parts.access is not None:
        loops.append(parts.access.follow())
    closing.push_async_callback(_end, [asyncio.create_task(loop) for loop in loops])


async def _catalogue(parts: Parts) -> Catalogue:
    settings = parts.settings
    repository = open_store(settings.store, settings.cache)
    if parts.loader is None:  # nobody else has looked
        await to_thread.run_sync(repository.refresh)
    loader = parts.loader or new_loader(settings, repository)
    return Catalogue(repository, loader, parts.agreement, keep=settings.keep_versions)


def _relieve(mask_cache: MaskCache, answers: Answers | None) -> None:
    """Frees what can be computed again."""
    mask_cache.clear()
    if answers is not None:
        answers.memory.clear()
    trim()


def _collect_seldom() -> None:
    # What has been made by now stays. The collector need not look at it again, which takes it a tenth of a second,
    # not even once: imports leave hardly any garbage behind.
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY)
    gc.enable()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def answers_of(settings: Settings) -> Answers | None:
    """Where answers are kept, as the settings say; None: nowhere."""
    if not settings.answer_cache_bytes:
        return None
    return Answers(Memory(settings.answer_cache_bytes), Shared(settings.redis_url) if settings.redis_url else None)


def new_loader(settings: Settings, repository: Repository) -> Loader:
    """What makes networks ready to answer, where and how the settings say."""
    return Loader(repository, usable_device(settings.device))
