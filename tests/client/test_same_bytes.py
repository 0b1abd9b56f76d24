"""However a table is cut and spelled, its answer is that of one request, to the byte."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penumbra import AsyncClient, Client
from tests.api.live import Server
from tests.api.wire import rows_of

MODELS = (
    "diabetes",
    "silent",
    "noisy",
    "headed",
    "calibrated",
    "breast-cancer",
    "colours",
    "calibrated-colours",
    "calibrated-rainbow",
)


def one_request(server: Server, model: str, verb: str, rows: Any, **options: Any) -> bytes:
    """The body of the native answer to all rows at once."""
    response = server.client.post(f"/v1/models/{model}/{verb}", json={"inputs": rows, **options})
    assert response.status_code == 200, response.text
    return response.content


OPTIONS: list[dict[str, Any]] = [
    {},
    {"samples": 1},
    {"samples": 3, "first_sample": 5, "interval": 0.5, "dropout": 0.25},
    {"samples": 4, "return_draws": True},
    {"samples": 20, "return_draws": True, "interval": 0.5},  # what tiny calibrations hold for
]


@pytest.mark.parametrize("model", MODELS)
def test_every_cut_and_spelling_gives_the_same_bytes(face: Any, server: Server, tiny: Server, model: str) -> None:
    """Small and large chunks, JSON and bytes, both faces: predictions and samplings, with every kind of answer."""
    server = server if model in {"diabetes", "breast-cancer"} else tiny
    rows = rows_of(server.client, model, 7)
    regression = model != "breast-cancer" and not model.endswith(("colours", "rainbow"))
    last = {"quantiles": [0.05, 0.5, 0.9]} if regression else {"aggregate": "vote"}
    for manners in ({}, {"chunk_rows": 3}, {"chunk_rows": 2, "binary": False}, {"chunk_rows": 4, "binary": True}):
        with face(server.url, **manners) as client:
            assert client.predict(model, rows).to_json() == one_request(server, model, "predict", rows)
            for options in (*OPTIONS, {"samples": 5, **last}):
                answer = client.sample(model, rows, seed=11, **options)
                assert answer.to_json() == one_request(server, model, "sample", rows, seed=11, **options), options


@settings(max_examples=15)
@given(data=st.data(), size=st.integers(1, 9), chunk=st.integers(1, 5), binary=st.booleans())
def test_any_rows_in_any_chunks(tiny: Server, data: st.DataObject, size: int, chunk: int, binary: bool) -> None:
    """Whatever the numbers: their digits survive the way there and back."""
    near = st.floats(-1e6, 1e6, allow_nan=False)
    rows = data.draw(st.lists(st.lists(near, min_size=3, max_size=3), min_size=size, max_size=size))
    with Client(tiny.url, chunk_rows=chunk, binary=binary) as client:
        answer = client.sample("noisy", rows, seed=3, samples=4, return_draws=True)
    assert answer.to_json() == one_request(tiny, "noisy", "sample", rows, seed=3, samples=4, return_draws=True)


def test_a_large_table_travels_as_bytes_in_chunks(server: Server) -> None:
    """Without being told, the client cuts by what rows cost, pins the version, and asks for bytes."""
    paths: list[str] = []
    rows = np.random.default_rng(0).normal(0, 0.05, (20_000, 10))
    hooks = {"request": [lambda request: paths.append(request.url.path)]}
    told: list[tuple[int, int]] = []
    with Client(server.url, event_hooks=hooks) as client:
        whole = client.predict("diabetes", rows, progress=lambda done, total: told.append((done, total)))
        assert paths == ["/v1/models/diabetes", *["/v2/models/diabetes/versions/1/infer"] * 3]
        assert whole.mean.shape == (20_000, 1)
        assert told == [(0, 20_000), (8192, 20_000), (16_384, 20_000), (20_000, 20_000)]
        one = client.predict("diabetes", rows[12_345:12_346])
    assert paths[-1] == "/v1/models/diabetes/predict"
    assert one.mean[0, 0] == whole.mean[12_345, 0]


def test_without_numpy_answers_are_lists(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers, the same bytes, and nothing of NumPy."""
    from penumbra import arrays

    rows = rows_of(server.client, "diabetes", 5)
    expected = one_request(server, "diabetes", "sample", rows, seed=2, samples=6, return_draws=True, quantiles=[0.5])
    monkeypatch.setattr(arrays, "numpy_or_none", lambda: None)
    for manners in ({}, {"chunk_rows": 2, "binary": False}, {"chunk_rows": 2, "binary": True}):
        with Client(server.url, **manners) as client:
            answer = client.sample("diabetes", rows, seed=2, samples=6, return_draws=True, quantiles=[0.5])
            assert type(answer.mean) is list
            assert answer.to_json() == expected
            assert client.predict("digits", [[0.0] * 64] * 5).columns()["label"] == ["2"] * 5


async def test_many_calls_of_one_client_share_it(server: Server) -> None:
    """Calls that are made at the same time on one asynchronous client each get their own answer."""
    import asyncio

    rows = rows_of(server.client, "diabetes", 2)
    async with AsyncClient(server.url) as client:
        answers = await asyncio.gather(*(client.sample("diabetes", rows, seed=seed) for seed in range(20)))
    assert [answer.seed for answer in answers] == list(range(20))
    assert len({answer.to_json() for answer in answers}) == 20


def test_an_omitted_seed_is_drawn_and_returned(face: Any, server: Server) -> None:
    """What came back can be asked for again."""
    rows = rows_of(server.client, "diabetes", 2)
    with face(server.url) as client:
        first = client.sample("diabetes", rows, samples=5)
        assert client.sample("diabetes", rows, samples=5, seed=first.seed).to_json() == first.to_json()
        assert client.sample("diabetes", rows, samples=5).seed != first.seed


def test_numpys_scalars_are_options_like_others(server: Server) -> None:
    """Seeds and levels often come out of arrays."""
    rows = rows_of(server.client, "diabetes", 2)
    plain = {"seed": 5, "samples": 6, "interval": 0.5, "quantiles": [0.25, 0.75]}
    arrays_of = {
        "seed": np.int64(5), "samples": np.int32(6), "interval": np.float64(0.5), "quantiles": np.array([0.25, 0.75]),
    }  # fmt: skip
    for binary in (False, True):
        with Client(server.url, binary=binary, chunk_rows=1) as client:
            one, other = (client.sample("diabetes", rows, **each) for each in (plain, arrays_of))
        assert one.to_json() == other.to_json()


def test_a_client_can_be_driven_without_sockets(face: Any) -> None:
    """What else is given goes to httpx: a transport of one's own, for the tests of an application."""
    model = {"name": "m", "version": "1", "digest": "sha256:0"}
    answer = {"model": model, "labels": ["yes"], "probabilities": [[0.25, 0.75]]}
    transport = httpx.MockTransport(lambda _: httpx.Response(200, json=answer))
    with face("http://test", transport=transport) as client:
        assert client.predict("m", [[1.0]]).labels == ["yes"]


@pytest.mark.parametrize("binary", [False, True])
def test_answers_without_samples(server: Server, binary: bool) -> None:
    """What is worked out instead of sampled has no seed, no votes, and the same bytes all the same."""
    for model in ("diabetes", "breast-cancer"):
        rows = rows_of(server.client, model, 5)
        with Client(server.url, chunk_rows=2, binary=binary) as client:
            answer = client.sample(model, rows, method="moments")
        assert answer.seed is None
        assert answer.to_json() == one_request(server, model, "sample", rows, method="moments")
