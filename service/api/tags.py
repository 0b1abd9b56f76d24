"""Entity tags: a hash of all that an answer's body depends on. Knows nothing of HTTP beyond their form.

A tag is also the key under which an answer is kept: rows count by their numbers, not by how JSON spells them.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import orjson

from models.features import Float64
from service.jobs import Sampling
from service.served import ServedModel

# Of SHA-256's 64: processors have instructions for it, and nobody finds a second request with the same 128 bits.
_DIGITS = 32


def of_prediction(model: ServedModel, rows: Float64) -> bytes:
    """The strong tag of a prediction."""
    return _tag(b"predict", model, b"", rows.data)


def of_sampling(model: ServedModel, sampling: Sampling, verb: bytes = b"sample") -> bytes:
    """The strong tag of a sampling with this seed, told at once or as a stream."""
    return _tag(verb, model, orjson.dumps(_options(sampling)), sampling.rows.data)


def of_tensors(
    model: ServedModel, sampling: Sampling | None, form: tuple[Any, ...], numbers: memoryview | None, rows: Float64
) -> bytes:
    """The strong tag of an answer in tensors, whose `form` says how it is written, and what stands around it.

    `numbers` are the rows as they came, where they came as bytes: hashing those takes half as long.
    """
    asked = orjson.dumps((None if sampling is None else _options(sampling), numbers is None, form))
    return _tag(b"infer", model, asked, rows.data if numbers is None else numbers)


def _options(sampling: Sampling) -> tuple[Any, ...]:
    committee = sampling.committee
    return (
        committee.seed,
        committee.samples,
        committee.first_sample,
        committee.p,
        sampling.method,
        sampling.aggregate,
        sampling.level,
        sampling.quantiles,
        sampling.return_draws,
        *(sampling.target or ()),
    )


# What all answers of a model share; strings alone are kept, so that no model outlives its unloading.
@lru_cache(maxsize=1024)
def _begun(verb: bytes, fingerprint: str) -> Any:
    return hashlib.sha256(b"%b\0%b\0" % (verb, fingerprint.encode()))


def _tag(verb: bytes, model: ServedModel, options: bytes, numbers: memoryview) -> bytes:
    hasher = _begun(verb, model.fingerprint).copy()
    # JSON has no zero byte in it, so that no two requests read the same.
    hasher.update(options + b"\0")
    hasher.update(numbers)
    return b'"%b"' % hasher.hexdigest()[:_DIGITS].encode()
