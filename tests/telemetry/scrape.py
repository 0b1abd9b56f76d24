"""What /metrics says, as a table, and what two scrapes differ in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeAlias

import httpx
from prometheus_client.parser import text_string_to_metric_families

Labels: TypeAlias = frozenset[tuple[str, str]]
Scraped: TypeAlias = dict[tuple[str, Labels], float]


def parsed(text: str) -> Scraped:
    """Samples by name and labels."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(client: httpx.Client) -> Scraped:
    """What the service says of itself now."""
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return parsed(answer.text)


async def scrape_inside(client: httpx.AsyncClient) -> Scraped:
    """The same of a service in this process."""
    return parsed((await client.get("/metrics")).text)


def value(scraped: Mapping[tuple[str, Labels], float], name: str, **labels: str) -> float:
    """One sample; 0 where there is none."""
    return scraped.get((name, frozenset(labels.items())), 0.0)


def total(scraped: Mapping[tuple[str, Labels], float], name: str, **labels: str) -> float:
    """All samples of a name whose labels include these, added up."""
    return sum(number for _, number in matching(scraped, name, **labels))


def matching(
    scraped: Mapping[tuple[str, Labels], float], name: str, **labels: str
) -> Iterator[tuple[dict[str, str], float]]:
    """Samples of a name whose labels include these."""
    for (found, known), number in scraped.items():
        if found == name and labels.items() <= dict(known).items():
            yield dict(known), number
