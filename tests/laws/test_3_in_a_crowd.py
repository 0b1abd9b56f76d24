"""Law 3 in a crowd: twenty thousand requests of all sizes, good and bad, some of whose callers hang up.

Plain sockets on the event loop: a full-grown client would take longer than the service.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

REQUESTS = 20_000
CONNECTIONS = 48
FIXED = 30
WIDTHS = {"diabetes": 10, "breast-cancer": 30, "digits": 64}


class Asked(NamedTuple):
    """A request; `leaves` says that its caller hangs up before the answer, `fixed` which of the repeated ones it is."""

    path: str
    body: bytes
    leaves: bool = False
    fixed: int | None = None


class Answered(NamedTuple):
    """Status and body."""

    status: int
    body: bytes


def good(rng: random.Random) -> Asked:
    """A valid request of any kind."""
    name = rng.choice(list(WIDTHS))
    rows = rng.choice((1, 1, 1, 2, 5, 20, 64))
    body: dict[str, Any] = {
        "inputs": [[round(rng.uniform(-0.05, 0.05), 4) for _ in range(WIDTHS[name])] for _ in range(rows)]
    }
    if rng.random() < 0.2:
        return Asked(f"/v1/models/{name}/predict", json.dumps(body).encode())
    body |= {
        "seed": rng.randrange(2**53),
        "samples": rng.choice((1, 7, 50, 100, 300)),
        "first_sample": rng.choice((0, 5)),
    }
    if rng.random() < 0.3:
        body["interval"] = rng.choice((0.5, 0.95))
    if rng.random() < 0.2:
        body["dropout"] = rng.choice((0.05, 0.5, 1))
    if rng.random() < 0.1 and body["samples"] * rows < 500:
        body["return_draws"] = True
    return Asked(f"/v1/models/{name}/sample", json.dumps(body).encode())


def bad(rng: random.Random) -> Asked:
    """A request that is refused, before it is queued or after it was evaluated in company."""
    row = [0.01] * 10
    bodies: list[Any] = [
        {"inputs": [row], "seed": -1},
        {"inputs": [row[:9]], "seed": 1},
        {"inputs": [row], "samples": 10**9},
        {"inputs": [[1e300, *row[1:]]], "seed": 3},
        {"inputs": [[1e37, *row[1:]]], "seed": rng.randrange(9), "samples": 100},
    ]
    return Asked("/v1/models/diabetes/sample", json.dumps(rng.choice(bodies)).encode())


def crowd() -> tuple[list[Asked], list[Asked]]:
    """The requests, and the ones that are repeated among them."""
    rng = random.Random(20261123)
    fixed = [good(rng)._replace(fixed=i) for i in range(FIXED)]
    requests = []
    for _ in range(REQUESTS):
        kind = rng.random()
        if kind < 0.4:
            requests.append(rng.choice(fixed))
        elif kind < 0.85:
            requests.append(good(rng))
        elif kind < 0.95:
            requests.append(bad(rng))
        else:
            requests.append(good(rng)._replace(leaves=True))
    return requests, fixed


async def ask(url: str, requests: list[Asked], connections: int) -> list[Answered | None]:
    """The answers, over so many connections; None to who left."""
    host, port = url.removeprefix("http://").split(":")
    answers: list[Answered | None] = [None] * len(requests)
    left = iter(enumerate(requests))

    async def talk() -> None:
        reader = writer = None
        for number, asked in left:
            if reader is None or writer is None:
                reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST {asked.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(asked.body)}\r\n\r\n".encode() + asked.body)
            if asked.leaves:
                await writer.drain()
                writer.close()
                reader = writer = None
                continue
            status, *headers = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
            named = dict(header.split(b": ", 1) for header in headers if header)
            answers[number] = Answered(int(status.split()[1]), await reader.readexactly(int(named[b"content-length"])))
            if named.get(b"connection") == b"close":
                writer.close()
                reader = writer = None
        if writer is not None:
            writer.close()

    await asyncio.gather(*(talk() for _ in range(connections)))
    return answers


@pytest.mark.slow
def test_twenty_thousand_requests_and_every_repeated_one_has_one_body(start_server: Callable[..., Any]) -> None:
    """Two workers answer all who stay; every repeated request has the body it has alone, in another process."""
    requests, fixed = crowd()
    alone = asyncio.run(ask(start_server(workers=1).url, fixed, 1))
    bodies: dict[int, set[Answered | None]] = defaultdict(set)
    statuses: Counter[int] = Counter()
    answers = asyncio.run(ask(start_server(workers=2, threads=1).url, requests, CONNECTIONS))
    for asked, answer in zip(requests, answers, strict=True):
        assert (answer is None) == asked.leaves
        if answer is not None:
            statuses[answer.status] += 1
        if asked.fixed is not None:
            bodies[asked.fixed].add(answer)
    assert [bodies[i] for i in range(FIXED)] == [{answer} for answer in alone]
    assert set(statuses) == {200, 422}
    assert statuses[422] > REQUESTS // 20
