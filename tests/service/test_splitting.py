"""Samplings that are divided among processes: the same bytes, whoever takes part and whatever becomes of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.features import Float32
from models.repository import Repository
from service import splitting
from service.errors import QueueFull, Unavailable
from service.inference import Inference
from service.served import Loader
from service.splitting import Range
from tests.api.inside import running
from tests.api.stores import publish
from tests.api.wire import TINY_ROWS, assert_problem

FINE = 1e-6  # seconds that a range takes: whatever is asked for is divided


class Crew:
    """Others, who are one other service in this process; `fate` says for each range what becomes of it, in turn."""

    def __init__(self, most: int = 3, fates: tuple[str, ...] = ()) -> None:
        self.most = most
        self.inference: Inference | None = None
        self.asked: list[Range] = []
        self.fates = iter(fates)

    async def evaluate(self, asked: Range, patience: float) -> Float32:
        """See `splitting.Others`."""
        self.asked.append(asked)
        fate = next(self.fates, "well")
        if fate == "dies":
            raise ConnectionResetError("it died")
        if fate == "full":
            raise QueueFull("as much work as may is waiting already", 1)
        if fate == "hangs":
            await asyncio.Event().wait()
        assert self.inference is not None
        found = await self.inference.outputs(asked, patience)
        found.flags.writeable = False  # what comes from another process can't be written to
        return found


@asynccontextmanager
async def divided(
    store: Path, crew: Crew, loader: Loader | None = None
) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Clients of a service on its own, and of one with a crew."""
    async with AsyncExitStack() as stack:
        app, alone = await stack.enter_async_context(running(loader=loader, store=store, threads=1))
        _, with_others = await stack.enter_async_context(running(crew, loader, store=store, threads=1))
        crew.inference = app.state.inference
        yield alone, with_others


def asking(**body: Any) -> dict[str, Any]:
    """A sampling of tiny rows."""
    return {"inputs": TINY_ROWS, "seed": 7, **body}


NAMES = st.sampled_from(["silent", "noisy", "headed", "colours", "trio", "rainbow", "residual", "calibrated"])
OPTIONS = st.fixed_dictionaries(
    {"samples": st.integers(1, 90), "seed": st.integers(0, 2**53 - 1)},
    optional={
        "first_sample": st.integers(0, 50),
        "interval": st.sampled_from([0.5, 0.95]),
        "dropout": st.sampled_from([0.1, 0.9]),
        "return_draws": st.booleans(),
    },
)


@pytest.fixture
def fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of next to nothing."""
    monkeypatch.setattr(splitting, "RANGE_SECONDS", FINE)


@pytest.fixture(scope="module")
def loader(tiny_store: Path) -> Loader:
    """The tiny models, made ready once."""
    made = Loader(Repository(tiny_store))
    made.prepare()
    return made


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=NAMES,
    asked=OPTIONS,
    members=st.booleans(),
    most=st.integers(1, 5),
    fates=st.lists(st.sampled_from(["well", "dies", "full"]), max_size=8),
)
async def test_the_same_bytes_whoever_takes_part(
    fine: None,
    tiny_store: Path,
    loader: Loader,
    name: str,
    asked: dict[str, Any],
    members: bool,
    most: int,
    fates: list[str],
) -> None:
    """Of any model, with any options, among any number of others, some of whom fail; the tags are the same, too."""
    body = asking(**asked)
    if name in ("trio", "rainbow") and members:
        body["method"] = "ensemble"
        if name == "rainbow":
            body["aggregate"] = "weighted"
    crew = Crew(most, tuple(fates))
    path = f"/v1/models/{name}/sample"
    async with divided(tiny_store, crew, loader) as (alone, with_others):
        plain, merged = await alone.post(path, json=body), await with_others.post(path, json=body)
    assert plain.status_code == 200
    assert merged.content == plain.content
    assert merged.headers["etag"] == plain.headers["etag"]
    assert bool(crew.asked) == (asked["samples"] > 1)
    first = asked.get("first_sample", 0)
    taken = [(each.committee.first_sample, each.committee.samples) for each in crew.asked]
    assert all(first <= start and start + samples <= first + asked["samples"] for start, samples in taken)


async def test_small_samplings_are_not_divided(tiny_store: Path, loader: Loader) -> None:
    """Nor what is sampled block by block, or not at all: nobody else is asked."""
    crew = Crew()
    async with divided(tiny_store, crew, loader) as (alone, with_others):
        for verb, body in (
            ("sample", asking(samples=50)),
            ("sample", asking(samples={"target_stderr": 1e-9, "max": 5000})),
            ("sample", {"inputs": TINY_ROWS, "method": "moments"}),
            ("predict", {"inputs": TINY_ROWS}),
            ("sample/stream", asking(samples=5000)),
        ):
            path = f"/v1/models/headed/{verb}"
            assert (await with_others.post(path, json=body)).content == (await alone.post(path, json=body)).content
    assert not crew.asked


async def test_large_samplings_are(tmp_path: Path) -> None:
    """By what their evaluation is estimated to take: what it takes to summarise them can't be divided."""
    publish(tmp_path, "wide", hidden=(512, 512))
    crew = Crew()
    body = {"inputs": TINY_ROWS, "samples": 20_000, "seed": 7}
    async with divided(tmp_path, crew) as (alone, with_others):
        path = "/v1/models/wide/sample"
        merged = await with_others.post(path, json=body)
        assert merged.content == (await alone.post(path, json=body)).content
    assert crew.asked


async def test_whoever_is_late_is_not_waited_for(
    fine: None, tiny_store: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A range that does not come back is evaluated here, and the log says why."""
    monkeypatch.setattr(splitting, "LATE_SECONDS", 0.0)
    crew = Crew(2, ("hangs", "hangs"))
    async with divided(tiny_store, crew, loader) as (alone, with_others):
        path = "/v1/models/silent/sample"
        with caplog.at_level(logging.WARNING):
            merged = await with_others.post(path, json=asking(samples=40))
        assert merged.content == (await alone.post(path, json=asking(samples=40))).content
    assert "samples are evaluated here, as others do not: TimeoutError" in caplog.text


async def test_mistakes_have_the_same_answers(fine: None, tiny_store: Path, loader: Loader) -> None:
    """What only the evaluation finds out is told as it always is, whoever found it."""
    crew = Crew()
    async with divided(tiny_store, crew, loader) as (alone, with_others):
        for name, body in (
            ("huge", asking(samples=40)),
            ("huge", {"inputs": [[1e300, 0, 0]], "samples": 40, "seed": 1}),
            ("dry", asking(samples=40)),
            ("silent", asking(samples=40, method="ensemble")),
        ):
            path = f"/v1/models/{name}/sample"
            plain, merged = await alone.post(path, json=body), await with_others.post(path, json=body)
            assert plain.status_code == merged.status_code
            assert_problem(merged, plain.status_code)
            assert merged.json()["detail"] == plain.json()["detail"]
            assert merged.json()["errors"] == plain.json()["errors"]


@pytest.mark.parametrize("change", ["digest", "processor"])
async def test_nobody_answers_for_another_build(tiny_store: Path, loader: Loader, change: str) -> None:
    """A process whose bits might be others refuses, and is not taken part of."""
    async with running(loader=loader, store=tiny_store, threads=1) as (app, _):
        inference: Inference = app.state.inference
        model = inference.resolve("silent", None)
        there = model.manifest.digest if change == "digest" else model.fingerprint.rpartition(":")[2]
        asked = Range(
            "silent",
            "1",
            model.fingerprint.replace(there, "another"),
            np.array(TINY_ROWS),
            splitting.Committee(7, 5),
            "dropout",
        )
        with pytest.raises(Unavailable, match="another build, processor or version"):
            await inference.outputs(asked, 1.0)
        assert (await inference.outputs(asked._replace(fingerprint=model.fingerprint), 1.0)).shape == (5, 3, 2)


async def test_who_hangs_up_leaves_nobody_at_work(fine: None, tiny_store: Path, loader: Loader) -> None:
    """A request that is cancelled takes back what others were asked for."""
    crew, asked_for, cancelled = Crew(2, ("hangs", "hangs")), asyncio.Event(), asyncio.Event()
    evaluate: Callable[..., Any] = crew.evaluate

    async def watched(asked: Range, patience: float) -> Float32:
        asked_for.set()
        try:
            return await evaluate(asked, patience)  # type: ignore[no-any-return]
        except asyncio.CancelledError:
            cancelled.set()
            raise

    crew.evaluate = watched  # type: ignore[method-assign]
    async with divided(tiny_store, crew, loader) as (_, with_others):
        request = asyncio.create_task(with_others.post("/v1/models/silent/sample", json=asking(samples=40)))
        await asked_for.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
        assert cancelled.is_set()


async def test_what_is_divided_is_counted_once(fine: None, tiny_store: Path, loader: Loader) -> None:
    """A request counts as one, and each process counts the samples that it evaluated."""
    crew = Crew(2)
    async with divided(tiny_store, crew, loader) as (alone, with_others):
        await with_others.post("/v1/models/silent/sample", json=asking(samples=40))
        told = [(await client.get("/metrics")).text for client in (alone, with_others)]
        stats = (await with_others.get("/v2/models/silent/stats")).json()["model_stats"][0]
    evaluated = [
        float(line.rpartition(" ")[2])
        for text in told
        for line in text.splitlines()
        if line.startswith('penumbra_evaluations_total{model="silent"')
    ]
    assert sum(evaluated) == 40 * len(TINY_ROWS)
    assert stats["inference_stats"]["success"]["count"] == 1
