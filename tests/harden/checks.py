"""The thirty checks: what is done, what must be seen, and which tests or measurements hold it.

That each fails on a build that is weakened for it shows `weakened`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.harden import measures
from tests.harden.measures import Figure

_API, _SERVICE, _MODELS, _LAWS = "tests/api/", "tests/service/", "tests/models/", "tests/laws/"


@dataclass(frozen=True)
class Check:
    """One row: `tests` are pytest's names, `measure` takes minutes and gives a figure; `open` says what is not held."""

    do: str
    tests: tuple[str, ...] = ()
    measure: Callable[[], Figure] | None = None
    open: str = ""


CHECKS: dict[int, Check] = {
    1: Check(
        "every route without a key: 401 but health and pages",
        (_API + "test_guard.py::test_without_a_key_nothing_is_open_but_health_and_pages",),
    ),
    2: Check("malformed Host: 400", (_API + "test_guard.py::test_another_host_is_refused",)),
    3: Check("no keys where others can ask: no start", (_API + "test_settings.py::test_nobody_is_served_by_accident",)),
    4: Check("no pickle, no torch.load", (_SERVICE + "test_no_pickle.py",)),
    5: Check("a .pt in the store is not loaded", (_SERVICE + "test_no_pickle.py",)),
    6: Check("weights that are not what the manifest says: refused", (_MODELS + "test_repository_refusals.py",)),
    7: Check("names that lead elsewhere: 4xx", (_MODELS + "test_repository_refusals.py", _API + "test_models.py")),
    8: Check(
        "numbers, keys, encodings, nesting: 4xx, no echo", (_API + "test_refused.py", _API + "test_strict_json.py")
    ),
    9: Check(
        "20,000 invalid rows: under 4 KB", (_API + "test_refused.py::test_thousands_of_bad_rows_get_a_short_answer",)
    ),
    10: Check(
        "200 MB by length and in chunks, a table that is one line: 413, 422, memory as before",
        (_API + "test_refused.py::test_a_body_that_grows_too_large_is_cut_off", "tests/durable/test_bounds.py"),
        measures.large_bodies,
    ),
    11: Check(
        "a bomb of gzip, of Parquet: 415, 422, or bounded",
        (_API + "test_refused.py::test_compressed_bodies_are_415_and_not_inflated", "tests/client/test_tables.py"),
    ),
    12: Check(
        "rows × samples over the limit: 422 before anything is made",
        (_API + "test_refused.py::test_requests_over_the_limits_are_refused_by_their_sizes",),
    ),
    13: Check(
        "200 slow or silent connections: closed, others unaffected; more than may be: health is answered",
        (_SERVICE + "test_receiving.py::test_who_does_not_go_on_is_let_go", _SERVICE + "test_connections.py"),
        measures.slow_connections,
    ),
    14: Check(
        "ambiguous requests: one 400, closed",
        (_SERVICE + "test_receiving.py::test_what_is_ambiguous_or_broken_is_one_400",),
    ),
    15: Check("1 MB of headers, 5,000 headers: 431", (_SERVICE + "test_receiving.py::test_headers_are_bounded",)),
    16: Check("schemathesis over the schema, atheris on the readers: no 5xx", (), measures.schema),
    17: Check("keys as hashes, constant time, rotated while it runs", ("tests/access/test_keys.py",)),
    18: Check(
        "one key floods, another is served",
        (_API + "test_guard.py::test_a_rate_is_per_key_and_says_when_to_come_back", _API + "test_fair.py"),
        measures.flood,
    ),
    19: Check(
        "open loop at 2 and 10 times the peak: goodput stays",
        (_API + "test_fair.py::test_what_comes_to_nothing_is_not_read",),
        measures.overload,
    ),
    20: Check("expired in the queue: never computed", (_API + "test_queue.py",)),
    21: Check("callers who hung up: not computed", (_API + "test_queue.py", _API + "test_company.py")),
    22: Check(
        "one poisoned request among others: theirs unchanged",
        (_API + "test_company.py", _LAWS + "test_3_in_a_crowd.py"),
    ),
    23: Check("same seed: same bytes and tag", (_LAWS + "test_1_seed_law.py",)),
    24: Check(
        "200 reloads under load, some corrupt",
        ("tests/conformance/test_model_repository.py", _SERVICE + "test_publications.py"),
        measures.reloads,
    ),
    25: Check("SIGTERM under load: nothing admitted is lost", (_SERVICE + "test_serving.py",)),
    26: Check("kill −9, SIGSTOP: replaced", (_SERVICE + "test_supervisor.py", _SERVICE + "test_serving.py")),
    27: Check(
        "object store away, disk full under its mirror, Redis down: what is served stays, and that is told",
        (_SERVICE + "test_object_store.py", "tests/caching/test_shared.py"),
    ),
    28: Check(
        "a million requests: memory flat; where it runs short, nothing large is taken",
        (_SERVICE + "test_memory.py", _API + "test_fair.py::test_while_memory_is_short_nothing_large_is_taken"),
        measures.million,
    ),
    29: Check("the image", ("tests/deploy/test_image_files.py", "tests/image/test_image.py")),
    30: Check("two Ray nodes, one killed", open="`make ray-check` installs Ray, and shows it"),
}
