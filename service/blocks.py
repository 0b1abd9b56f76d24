"""Where blocks of samples end: there a stream reports, and a sampling with a target looks whether it knows enough.

Ends depend on nothing but how many samples lie before them, so that the same request always stops at the same sample.
Knows nothing of what is sampled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

# Samples in a block, until there are so many before it that an eighth of them is more: looking at all samples so far
# costs by their number, and blocks that grow with it keep that a small multiple of looking once.
BLOCK = 32
_SHARE = 8


class Target(NamedTuple):
    """Stop where every mean's standard error is at most `stderr`, in the units of the mean, after `least` samples."""

    stderr: float
    least: int


def ends(samples: int) -> Iterator[int]:
    """How many samples there are at the end of each block, the last of which ends with them."""
    done = 0
    while done < samples:
        done = min(done + max(BLOCK, done // _SHARE // BLOCK * BLOCK), samples)
        yield done
