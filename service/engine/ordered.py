"""Queries through a network by the kernel: any number of them in one call, prefix, masks and all.

Knows nothing of what happens inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from service.engine.evaluation import Evaluation, Piece, runs
from service.engine.kernel.program import BLOCK, Part
from service.engine.query import Committee, Query
from service.engine.workspace import Workspace

# Samples a piece should have at least, so that what they share is not evaluated too often.
_FEWEST_SAMPLES = 16


class Ordered(Evaluation):
    """An evaluation by the kernel."""

    def stages(self) -> Sequence[Sequence[Piece]]:
        """A single stage."""
        pieces: list[Piece] = []
        together: list[Part] = []
        pairs = row = room = 0
        for query in self._queries:
            for part in self._parts(query, pairs, row):
                size = part.samples * part.rows
                if size > room or len(self._queries) == 1:
                    together, room = [], self._network.pairs_per_tile
                    pieces.append(partial(self._evaluate, together))
                together.append(part)
                room -= size
            pairs += self.pairs(query)
            row += len(query.rows)
        return [pieces]

    def _parts(self, query: Query, pair: int, row: int) -> list[Part]:
        """A query in parts of a piece's size at most; its pairs begin at `pair`, its rows at `row`."""
        rows, most, flops = len(query.rows), self._network.pairs_per_tile, self._network.flops_per_row
        samples = self.pairs(query) // rows
        seed, _, first, _, step = query.committee or Committee(0, 1)
        if len(self._queries) > 1 and samples * rows <= most:
            return [Part(seed, first, pair, row, samples, rows, rows, step)]
        # All rows of a few samples, unless that would leave less than a few samples to a piece.
        some_rows = min(rows, max(BLOCK, most // min(samples, _FEWEST_SAMPLES) // BLOCK * BLOCK))
        if len(self._queries) == 1 and samples < self._threads:
            some_rows = min(some_rows, self.share(rows, flops * samples))
        some_samples = max(1, min(most // some_rows, samples))
        if len(self._queries) == 1:
            some_samples = min(some_samples, self.share(samples, flops * some_rows))
        return [
            Part(
                seed,
                first + sample.start * step,
                pair + sample.start * rows + part.start,
                row + part.start,
                sample.stop - sample.start,
                part.stop - part.start,
                rows,
                step,
            )
            for sample in runs(samples, some_samples)
            for part in runs(rows, some_rows)
        ]

    def _evaluate(self, parts: Sequence[Part], workspace: Workspace) -> None:
        program = self._cut.program
        assert program is not None, "a network in order has a program for every cut. This is a bug."
        program.evaluate(parts, self._rows, self.outputs, workspace.room(program.room))
