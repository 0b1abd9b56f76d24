"""What a request leaves behind on its way through the rooms, for whoever counts, logs or traces it.

The door makes a trail, handlers note on it what they find out, and nobody on the way reads it. Knows nothing of HTTP.
"""

from __future__ import annotations

import time
from typing import Any, TypeAlias

from models.features import Float64
from service.batching import Timings
from service.caching.answers import Outcome
from service.jobs import Sampling
from service.served import ServedModel

clock = time.monotonic

Asked: TypeAlias = Float64 | Sampling


class Trail:
    """One request: when it `began`, its `route`, the `name` of a model in its path, the name of the `caller`'s key.

    Handlers note the `model` that was found, what was `asked` of it (rows to predict, or a sampling) and the `timings`
    of its evaluation, and with which `outcome` an answer was looked for. `span` and `current` are the tracer's; only
    with a span it is noted when the body was `decoded`.
    """

    model: ServedModel | None = None
    asked: Asked | None = None
    timings: Timings | None = None
    outcome: Outcome | None = None
    span: Any = None
    current: Any = None
    decoded: float | None = None

    def __init__(self, request_id: bytes, method: str, route: str, name: str, caller: str = "") -> None:
        self.began = clock()
        self.request_id = request_id
        self.method = method
        self.route = route
        self.name = name
        self.caller = caller

    @property
    def rows(self) -> int:
        """Rows that were asked about, as far as is known."""
        asked = self.asked
        return 0 if asked is None else len(asked.rows) if isinstance(asked, Sampling) else len(asked)
