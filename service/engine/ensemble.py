"""Queries to an ensemble: independently trained networks of one architecture, which take turns at the samples.

Sample i is member i mod M's, under the masks that sample i of the seed has in any network: members add nothing to the
stream, and a range of samples is the same whoever asks for it and in how many parts. Of a prediction every member's
full network is a sample. Each member is evaluated like a network of its own. Knows nothing of queues or clocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, zip_longest

import numpy as np

from models.features import Float32
from service.engine.evaluate import evaluation
from service.engine.evaluation import Evaluation, Piece
from service.engine.mask_cache import MaskCache
from service.engine.plan import Cut, Network
from service.engine.query import Query


def turns(query: Query, member: int, members: int) -> tuple[int, Query | None]:
    """A member's share of a query, None where it has none, and the place of its first sample among all."""
    committee = query.committee
    if committee is None:
        return member, query
    place = (member - committee.first_sample) % members
    own = len(range(place, committee.samples, members))
    if not own:
        return place, None
    share = committee._replace(samples=own, first_sample=committee.first_sample + place, step=members)
    return place, query._replace(committee=share)


class Ensemble:
    """An evaluation by several networks; what it offers is what `Evaluation` does.

    `outputs` [pairs, width] has the queries one after the other, each in the order samples × rows; a prediction has as
    many samples as there are members.
    """

    def __init__(
        self,
        members: Sequence[Network],
        queries: Sequence[Query],
        threads: int = 1,
        cuts: Sequence[Cut] | None = None,
        cache: MaskCache | None = None,
    ) -> None:
        self._members, self._queries = members, queries
        sizes = [self._samples(query) * len(query.rows) for query in queries]
        self._starts = list(accumulate(sizes, initial=0))
        self.outputs: Float32 = np.empty((self._starts[-1], members[0].outputs), np.float32)
        # Of each member that has any: its evaluation, and the query and the place that each of its shares has.
        self._shares: list[tuple[Evaluation, list[tuple[int, int]]]] = []
        for number, network in enumerate(members):
            taken = [(query, *turns(queries[query], number, len(members))) for query in range(len(queries))]
            own = [share for _, _, share in taken if share]
            if own:
                begun = evaluation(network, own, threads, cut=cuts[number] if cuts else None, cache=cache)
                self._shares.append((begun, [(query, place) for query, place, share in taken if share]))

    def stages(self) -> Iterator[Sequence[Piece]]:
        """The members' stages, those of all at once; after the last the outputs are put in order."""
        for stages in zip_longest(*(begun.stages() for begun, _ in self._shares), fillvalue=()):
            yield list(chain.from_iterable(stages))
        for begun, places in self._shares:
            for own, (query, place) in enumerate(places):
                self.of(query)[place :: len(self._members)] = begun.of(own)

    def of(self, place: int) -> Float32:
        """The outputs of the query at this place: a view [samples, rows, outputs]."""
        outputs = self.outputs[self._starts[place] : self._starts[place + 1]]
        return outputs.reshape(-1, len(self._queries[place].rows), outputs.shape[-1])

    def _samples(self, query: Query) -> int:
        return query.committee.samples if query.committee else len(self._members)
