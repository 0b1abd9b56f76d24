"""Law 5: a unit is kept iff its own counter-based random number says so, from a stream that never changes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.evaluate import evaluate
from service.engine.masks import draw_masks, kept_scale, random_lanes, threshold
from service.engine.query import Committee, Query
from tests.networks import Mlp, RegressionHead, compiled, module_of, rows_of, seeds

widths_and_ps = st.lists(st.tuples(st.integers(1, 40), st.floats(0.0, 1.0)), min_size=1, max_size=4)

# Stream version 1. These are literals on purpose: a change of the stream, in NumPy or here, must fail loudly.
KNOWN_LANES = {
    (0, 0): [
        55451,
        2276,
        47716,
        756,
        50610,
        40104,
        11019,
        15830,
        11897,
        23952,
        26533,
        7302,
        46300,
        12245,
        31237,
        36989,
        34755,
        34873,
        62242,
        32923,
    ],
    (7, 0): [
        64420,
        10729,
        13496,
        57152,
        16519,
        63718,
        4301,
        19357,
        44184,
        20586,
        34174,
        27531,
        28242,
        45498,
        51525,
        26567,
        59622,
        32462,
        11687,
        5429,
    ],
    (7, 5): [
        3399,
        27732,
        7835,
        62277,
        6374,
        15713,
        15043,
        57587,
        22283,
        34439,
        59044,
        23999,
        9958,
        10799,
        63579,
        29313,
        55896,
        34368,
        3022,
        41778,
    ],
    (2**53 - 1, 1_000_000_007): [
        38051,
        16876,
        56577,
        26959,
        36541,
        64385,
        30533,
        7432,
        3483,
        60103,
        18869,
        59386,
        10174,
        14041,
        15242,
        57206,
        2405,
        44534,
        39968,
        31201,
    ],
}


@pytest.mark.parametrize(("seed", "sample"), KNOWN_LANES)
def test_known_answers(seed: int, sample: int) -> None:
    """The first lanes of widths (5, 3, 12) are these numbers for ever."""
    assert random_lanes(seed, sample, 1, (5, 3, 12))[0, :20].tolist() == KNOWN_LANES[seed, sample]


def test_the_generator_is_philox4x64_10() -> None:
    """NumPy's Philox gives the published known answer of Philox4x64-10 for counter 0 and key 0 (Random123 1.14)."""
    # NumPy counts up before it generates: the block of counter 0 is the one after 2^256 − 1.
    words = np.random.Philox(key=0, counter=2**256 - 1).random_raw(4)
    assert words.tolist() == [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]


def test_known_mask() -> None:
    """A whole mask, spelled out: seed 7, sample 3, one site of 12 units, p = 0.25."""
    (mask,) = draw_masks(7, 3, 1, (12,), (0.25,))
    assert (mask[0] > 0).astype(int).tolist() == [1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1]
    assert set(np.unique(mask)) <= {np.float32(0), np.float32(4 / 3)}


@given(seed=seeds, sample=st.integers(0, 2**53 - 1), sites=widths_and_ps)
def test_anyone_can_recompute_a_mask_with_numpy_alone(seed: int, sample: int, sites: list[tuple[int, float]]) -> None:
    """The documented recipe, spelled out with NumPy, gives the engine's masks to the bit."""
    widths, ps = zip(*sites, strict=True)
    blocks = math.ceil(sum(widths) / 16)
    lanes = np.random.Philox(key=seed, counter=sample * blocks).random_raw(4 * blocks).view("<u2")
    start = 0
    for width, p, mask in zip(widths, ps, draw_masks(seed, sample, 1, widths, ps), strict=True):
        dropped = round(65536 * p) if p in (0.0, 1.0) else min(max(round(65536 * p), 1), 65535)
        if mask is None:
            assert p == 0.0
        else:
            kept = lanes[start : start + width] >= dropped
            scale = 0.0 if p == 1.0 else 1.0 / (1.0 - dropped / 65536)
            assert np.array_equal(mask[0], np.where(kept, np.float32(scale), np.float32(0)))
        start += width


@given(seed=seeds, first=st.integers(0, 2**40), samples=st.integers(1, 12), sites=widths_and_ps)
def test_any_sample_can_be_drawn_alone(seed: int, first: int, samples: int, sites: list[tuple[int, float]]) -> None:
    """The masks of a range are the masks of its samples, drawn one by one."""
    widths, ps = zip(*sites, strict=True)
    together = draw_masks(seed, first, samples, widths, ps)
    for i in range(samples):
        for mask, alone in zip(together, draw_masks(seed, first + i, 1, widths, ps), strict=True):
            assert (mask is None and alone is None) or np.array_equal(mask[i], alone[0])


@pytest.mark.parametrize("p", [0.00002, 0.1, 0.25, 0.5, 0.9])
def test_keep_rate(p: float) -> None:
    """Over a million units the keep rate is 1 − p to five standard deviations, for any of several seeds."""
    for seed in (0, 1, 2**53 - 1):
        (mask,) = draw_masks(seed, 0, 1000, (1000,), (p,))
        assert abs((mask > 0).mean() - (1 - p)) < 5 * math.sqrt(p * (1 - p) / 1e6) + 1 / 65536


@pytest.mark.parametrize("apart", ["unit", "sample", "site", "seed", "block"])
def test_neighbours_are_independent(apart: str) -> None:
    """Neighbouring units, samples, sites and seeds are uncorrelated to five standard deviations."""
    n, p = 1_000_000, 0.5
    one, two = ((m > 0).astype(float) for m in draw_masks(11, 0, 1000, (1000, 1000), (p, p)))
    (other,) = ((m > 0).astype(float) for m in draw_masks(12, 0, 1000, (1000,), (p,)))
    pairs = {
        "unit": (one[:, :-1], one[:, 1:]),
        "sample": (one[:-1], one[1:]),
        "site": (one, two),
        "seed": (one, other),
        "block": (one[:, :-16], one[:, 16:]),
    }
    a, b = pairs[apart]
    assert abs(((a - p) * (b - p)).mean() / (p * (1 - p))) < 5 / math.sqrt(n * 0.98)


def test_extremes() -> None:
    """A p of 0 keeps all, 1 drops all, and what lies between is never rounded to either."""
    keeps, drops, nearly_keeps, nearly_drops = draw_masks(3, 0, 50, (64,) * 4, (0.0, 1.0, 1e-12, 1 - 1e-12))
    assert keeps is None
    assert not drops.any()
    assert np.isfinite(nearly_keeps).all()
    assert np.isfinite(nearly_drops).all()
    assert (threshold(1e-12), threshold(1 - 1e-12)) == (1, 65535)
    assert kept_scale(1.0) == 0.0


@given(seed=seeds, p=st.floats(0.0, 1.0), more=st.floats(0.0, 1.0))
def test_a_larger_p_drops_a_superset(seed: int, p: float, more: float) -> None:
    """What-if committees differ as little as they can: what p drops, a larger p drops too."""
    low, high = sorted((p, more))
    lanes = random_lanes(seed, 0, 4, (33,))
    assert not ((lanes < threshold(low)) & ~(lanes < threshold(high))).any()


def test_p_one_gives_zeros_not_nan() -> None:
    """With p = 1 everywhere a layer's output is 0, so that every sample is the head's bias."""
    spec = Mlp(inputs=4, hidden=(8, 8), dropout=(1.0, 1.0), head=RegressionHead(outputs=2))
    module = module_of(spec)
    outputs = evaluate(compiled(spec, module), Query(rows_of(3, 4), Committee(seed=1, samples=5)))
    assert np.allclose(outputs, module.head.bias.detach().numpy(), rtol=1e-6)
