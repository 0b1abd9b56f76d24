"""The laws for ensembles: members take turns at the samples of one committee, and nothing else about a seed changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.features import Float32
from service.engine import reference
from service.engine.ensemble import Ensemble
from service.engine.evaluate import evaluate
from service.engine.plan import Network
from service.engine.query import Committee, Query
from service.engine.workspace import Workspace
from tests.networks import architectures, compiled, engines, module_of, rows_of, seeds

members = st.integers(2, 4)


def ensemble_of(spec: Any, engine: str, count: int) -> list[Network]:
    """Networks of one architecture with weights of their own, evaluated as the first was verified to be."""
    first, *others = (module_of(spec, seed=number) for number in range(count))
    verified = compiled(spec, first, engine)
    return [verified, *(compiled(spec, module, plan=verified.row_plan) for module in others)]


def answered(networks: Sequence[Network], queries: Sequence[Query], threads: int = 1) -> list[Float32]:
    """What an ensemble says to each of these queries, evaluated together."""
    begun, workspace = Ensemble(networks, queries, threads), Workspace()
    for stage in begun.stages():
        for piece in stage:
            piece(workspace)
    return [begun.of(place) for place in range(len(queries))]


@settings(max_examples=15)
@given(
    engine=engines,
    spec=architectures(),
    count=members,
    seed=seeds,
    first=st.integers(0, 2**50),
    samples=st.integers(1, 30),
    rows=st.integers(1, 9),
)
def test_sample_i_is_member_i_mod_ms(
    engine: str, spec: Any, count: int, seed: int, first: int, samples: int, rows: int
) -> None:
    """Each sample is, bit for bit, what that member says alone under the masks of that sample's number."""
    networks, inputs = ensemble_of(spec, engine, count), rows_of(rows, spec.inputs)
    (whole,) = answered(networks, [Query(inputs, Committee(seed, samples, first))])
    for place in range(samples):
        i = first + place
        alone = evaluate(networks[i % count], Query(inputs, Committee(seed, 1, i)))
        assert np.array_equal(whole[place : place + 1], alone, equal_nan=True)


@settings(max_examples=15)
@given(
    engine=engines,
    spec=architectures(),
    count=members,
    seed=seeds,
    first=st.integers(0, 2**50),
    samples=st.integers(2, 60),
    data=st.data(),
)
def test_any_sub_range_is_part_of_the_whole(
    engine: str, spec: Any, count: int, seed: int, first: int, samples: int, data: st.DataObject
) -> None:
    """The prefix law: samples a … b, asked for alone, are those of the larger range, whoever's turn a is."""
    networks, inputs = ensemble_of(spec, engine, count), rows_of(3, spec.inputs)
    (whole,) = answered(networks, [Query(inputs, Committee(seed, samples, first))])
    start = data.draw(st.integers(0, samples - 1))
    stop = data.draw(st.integers(start + 1, samples))
    (part,) = answered(networks, [Query(inputs, Committee(seed, stop - start, first + start))])
    assert np.array_equal(part, whole[start:stop], equal_nan=True)


@settings(max_examples=10)
@given(
    engine=engines,
    spec=architectures(),
    count=members,
    sizes=st.lists(st.tuples(st.integers(1, 9), st.integers(1, 20)), min_size=2, max_size=8),
    what_if=st.one_of(st.none(), st.floats(0.0, 1.0)),
    threads=st.integers(1, 4),
)
def test_company_and_threads_do_not_matter(
    engine: str, spec: Any, count: int, sizes: list[tuple[int, int]], what_if: float | None, threads: int
) -> None:
    """The company law: queries of any seeds, ranges and rows get together what each gets alone, or predicted."""
    networks = ensemble_of(spec, engine, count)
    sampled = [
        Query(rows_of(rows, spec.inputs, i), Committee(i % 5, samples, 3 * i, what_if))
        for i, (rows, samples) in enumerate(sizes)
    ]
    for queries in (sampled, sampled[::-1], [Query(query.rows) for query in sampled]):
        for query, together in zip(queries, answered(networks, queries), strict=True):
            (alone,) = answered(networks, [query], threads)
            assert np.array_equal(together, alone, equal_nan=True)


@settings(max_examples=10)
@given(engine=engines, spec=architectures(), count=members, rows=st.integers(1, 5))
def test_a_prediction_has_each_full_network_once(engine: str, spec: Any, count: int, rows: int) -> None:
    """Without a committee every member's full network is a sample, in their order."""
    networks, inputs = ensemble_of(spec, engine, count), rows_of(rows, spec.inputs)
    (said,) = answered(networks, [Query(inputs)])
    for member, network in enumerate(networks):
        assert np.array_equal(said[member : member + 1], evaluate(network, Query(inputs)), equal_nan=True)


@settings(max_examples=10)
@given(spec=architectures(), seed=seeds, first=st.integers(0, 100), samples=st.integers(1, 9), step=st.integers(2, 7))
def test_every_so_many_th_sample_equals_the_loop(spec: Any, seed: int, first: int, samples: int, step: int) -> None:
    """The agreement law, where members take turns: kernel, PyTorch and the plain loop skip the same samples."""
    module, inputs = module_of(spec), rows_of(4, spec.inputs)
    query = Query(inputs, Committee(seed, samples, first, step=step))
    widths = tuple(compiled(spec, module, "torch").site_widths)
    expected = reference.evaluate(module, widths, query)
    for engine in ("kernel", "torch"):
        found = evaluate(compiled(spec, module, engine), query)
        scale = np.abs(expected).max(initial=1.0)
        assert np.abs(found - expected).max() <= 2e-5 * scale


def test_ensembles_continue_over_http(server: Any) -> None:
    """The draws of 7 samples and of the next 6 are those of 13, and without dropout they repeat with the members."""
    path = "/v1/models/digits-ensemble/sample"
    body = {"inputs": [[3.0] * 64] * 2, "seed": 11, "return_draws": True, "method": "ensemble"}
    whole = server.client.post(path, json={**body, "samples": 13}).json()["draws"]
    head = server.client.post(path, json={**body, "samples": 7}).json()["draws"]
    tail = server.client.post(path, json={**body, "samples": 6, "first_sample": 7}).json()["draws"]
    assert head + tail == whole
    full = server.client.post(path, json={**body, "samples": 11, "dropout": 0}).json()["draws"]
    assert full[:6] == full[5:]
    assert len({str(draw) for draw in full}) == 5
