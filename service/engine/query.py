"""What the engine is asked. Frozen, in the domain's words; knows nothing of how it is answered."""

from __future__ import annotations

from dataclasses import dataclass

from models.features import Float32


@dataclass(frozen=True, slots=True, eq=False)
class Committee:
    """Samples `first_sample` … `first_sample + samples − 1` of the committee that `seed` names.

    `p` replaces every site's own dropout probability (what-if); None leaves them as trained.
    """

    seed: int
    samples: int
    first_sample: int = 0
    p: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Standardised rows [rows, inputs], and whom to ask: a committee, or (None) the full network."""

    rows: Float32
    committee: Committee | None = None
