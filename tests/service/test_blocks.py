"""Where blocks of samples end."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from service.blocks import BLOCK, ends


@given(samples=st.integers(1, 200_000))
def test_blocks_are_few_and_fine(samples: int) -> None:
    """They end with the last sample, grow by an eighth at most, and looking at all so far after each costs little."""
    found = list(ends(samples))
    assert found[-1] == samples
    assert found[0] == min(BLOCK, samples)
    for before, end in pairwise(found):
        assert before < end <= before + max(BLOCK, before // 8)
    assert sum(found) <= 16 * samples


@given(samples=st.integers(1, 20_000), fewer=st.integers(1, 20_000))
def test_ends_do_not_depend_on_what_is_to_come(samples: int, fewer: int) -> None:
    """A shorter sampling ends its blocks where a longer one does, but for its very last."""
    short, long = sorted((samples, fewer))
    assert list(ends(short))[:-1] == [end for end in ends(long) if end < short]
