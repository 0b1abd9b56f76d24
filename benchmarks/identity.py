"""Is an identical seeded request answered identically while others are answered too? The bytes of 30 answers decide.

Sixteen connections send requests of mixed models, sizes and seeds all the while. Knows nothing of speed.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore

from benchmarks.jobs import Job, Speaker, Spelling
from benchmarks.load import PATIENCE, ask, next_seeds

TIMES = 30
COMPANY = 16
_ASKED = Job("identity", "W", 1)
_OTHERS = (
    Job("other", "W", 1),
    Job("other", "W", 3),
    Job("other", "W5", 2),
    Job("other", "W", 16),
    Job("other", "S", 1),
    Job("other", "S", 64),
    Job("other", "S", 1, samples=0),
)


def differing_answers(port: int, speak: Speaker) -> int:
    """How many of 30 answers to one request differ from the first. Raises Refused."""
    asked, others = speak(_ASKED), [speak(job) for job in _OTHERS]
    seed, over, begun = next_seeds(), Event(), Semaphore(0)
    with ThreadPoolExecutor(COMPANY) as pool:
        company = [pool.submit(_keep_asking, port, others, over, begun, number) for number in range(COMPANY)]
        try:
            for _ in company:
                begun.acquire(timeout=PATIENCE)
            bodies = [ask(port, asked, number=0, seed=seed)[0] for _ in range(TIMES)]
        finally:
            over.set()
        for one in company:
            one.result(timeout=PATIENCE)
    return sum(body != bodies[0] for body in bodies)


def _keep_asking(port: int, spellings: list[Spelling], over: Event, begun: Semaphore, number: int) -> None:
    chance, seed = random.Random(number), next_seeds()
    try:
        while not over.is_set():
            seed += 1
            ask(port, chance.choice(spellings), number=chance.randrange(16), seed=seed)
            begun.release()
    finally:
        begun.release()
