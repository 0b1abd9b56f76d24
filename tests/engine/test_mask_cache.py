"""The mask cache: what is found equals what would be drawn, and it never grows past its bound."""

from __future__ import annotations

import threading

import numpy as np

from service.engine.mask_cache import KeptUnits, MaskCache


def masks(value: bool = True, size: int = 100) -> KeptUnits:
    """Masks of so many bytes."""
    return np.full((1, size), value)


def test_masks_are_kept_when_their_seed_returns() -> None:
    """The first request is only noted, the second stores, the third finds."""
    cache, drawn = MaskCache(1000), []

    def draw() -> KeptUnits:
        drawn.append(1)
        return masks()

    for _ in range(5):
        assert np.array_equal(cache.get("seed", draw), masks())
    assert (len(drawn), cache.hits, cache.misses) == (2, 3, 2)


def test_the_least_recently_used_go_first() -> None:
    """Bytes are bounded, whatever comes; what is larger than the bound is never stored."""
    cache = MaskCache(250)
    for key in ("a", "a", "b", "b", "a", "c", "c"):  # c needs room: b was asked for longest ago
        cache.get(key, masks)
    before = cache.hits
    for key in ("a", "c", "b"):
        cache.get(key, masks)
    assert cache.hits == before + 2
    assert cache.bytes <= 250
    for _ in range(3):
        cache.get("large", lambda: masks(size=251))
    assert cache.hits == before + 2


def test_seeds_that_never_return_take_no_room() -> None:
    """A flood of new seeds stores nothing, and what it leaves behind is bounded."""
    cache = MaskCache(10_000)
    for seed in range(20_000):
        cache.get(seed, masks)
    assert cache.bytes == 0
    assert cache.hits == 0


def test_threads_share_it() -> None:
    """Many threads asking for the same and for other seeds all get the right masks."""
    cache, wrong = MaskCache(5_000), []

    def ask(offset: int) -> None:
        for i in range(500):
            seed = (i * 7 + offset) % 60
            if not np.array_equal(cache.get(seed, lambda seed=seed: masks(seed % 2 == 0)), masks(seed % 2 == 0)):
                wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(offset,)) for offset in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert cache.bytes <= 5_000
    assert cache.hits > 0
