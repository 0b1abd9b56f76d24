"""What the engine is asked. Frozen, in the domain's words; knows nothing of how it is answered."""

from __future__ import annotations

from typing import NamedTuple

from models.features import Float32


class Committee(NamedTuple):
    """Samples `first_sample` … `first_sample + samples − 1` of the committee that `seed` names.

    With a `step` it is every so many-th sample from there: members of an ensemble take turns. `p` replaces every site's
    own dropout probability (what-if); None leaves them as trained.
    """

    seed: int
    samples: int
    first_sample: int = 0
    p: float | None = None
    step: int = 1


class Query(NamedTuple):
    """Standardised rows [rows, inputs], and whom to ask: a committee, or (None) the full network."""

    rows: Float32
    committee: Committee | None = None
