"""python fuzz.py SECONDS: everything that reads what callers send, under a coverage-guided fuzzer (atheris).

Each input goes to one of the readers, which its first byte chooses. Whatever they raise must be one of the errors that
the table of problems knows; anything else ends the run, and libFuzzer keeps the input. Needs atheris.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["service", "penumbra", "models.features"]):
    from models.repository import Repository
    from service.access import keys
    from service.api import decoding, problems, strict_json
    from service.api.compression import inflated
    from service.api.guard import Guard, scope_of
    from service.api.oip import orders, requests
    from service.engine.evaluate import usable_device
    from service.served import Loader
    from service.settings import SHIPPED_STORE, Settings

SETTINGS = Settings(max_rows=64, max_samples=1000, max_evaluations=10_000, max_body_bytes=1 << 16)
MODEL = Loader(Repository(SHIPPED_STORE), usable_device("cpu"))("diabetes", "1")
assert MODEL is not None
KNOWN = (*problems.KNOWN, keys.WrongKeys)
GUARD = Guard(None, ("localhost", "*.example.com"))


def _guard(data: bytes) -> None:
    host, _, path = data.partition(b"\n")
    text = "/" + path.decode("utf-8", "replace")
    scope_of("GET", text)
    GUARD.admit({"method": "POST", "path": text, "state": {}}, {b"host": host})


def _binary(data: bytes) -> None:
    length, _, body = data.partition(b"\n")
    requests.read(MODEL, SETTINGS, length, body)


READERS: tuple[Callable[[bytes], object], ...] = (
    strict_json.parse_object,
    lambda data: decoding.sampling(strict_json.parse_object(data), MODEL, SETTINGS),
    lambda data: decoding.prediction(strict_json.parse_object(data), MODEL, SETTINGS),
    lambda data: requests.read(MODEL, SETTINGS, None, data),
    _binary,
    orders.index,
    orders.change,
    lambda data: keys.parse(data.decode("utf-8", "replace"), "fuzz"),
    lambda data: inflated(data, b"gzip", 1 << 16),
    lambda data: inflated(data, b"deflate", 1 << 16),
    _guard,
)
SEEDS = (
    b'{"inputs": [[0,0,0,0,0,0,0,0,0,0]], "samples": 10, "seed": 7, "interval": 0.9, "quantiles": [0.5]}',
    b'{"inputs": [{"age": 1, "sex": 0}], "dropout": 0.1, "return_draws": true, "first_sample": 3, "aggregate": "mean"}',
    b'{"inputs": [[1e999, NaN, -Infinity, 1E5, 0.1]], "samples": {"target_stderr": 0.01, "min": 32, "max": 64}}',
    b'{"id": "a", "parameters": {"seed": "7"}, "inputs": [{"name": "inputs", "shape": [1, 1], "data": [0]}]}',
    b'{"inputs": [], "outputs": [{"name": "mean", "parameters": {"binary_data": true}}]}',
    b'95\n{"inputs": [{"name": "inputs", "shape": [1,1], "parameters": {"binary_data_size": 4}}]}0000',
    b'{"name":"a","sha256":"' + b"0" * 64 + b'","scopes":["read"],"rate":"10/second"}',
    b"localhost:80\nv2/models/a/infer",
)


def one(data: bytes) -> None:
    """One input."""
    if not data:
        return
    with suppress(*KNOWN):
        READERS[data[0] % len(READERS)](data[1:])


def main(seconds: int, corpus: Path) -> None:
    """Fuzzes for so long."""
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS):
        for reader in range(len(READERS)):
            (corpus / f"seed-{number}-{reader}").write_bytes(bytes([reader]) + seed)
    options = [
        f"-max_total_time={seconds}",
        "-timeout=5",
        "-rss_limit_mb=4096",
        "-max_len=4096",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={corpus.parent}/", str(corpus)], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
