"""Entity tags: a hash of all that an answer's body depends on. Knows nothing of HTTP beyond their form."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any

import orjson

from models.features import Float64
from service.jobs import Sampling
from service.served import ServedModel


def of_prediction(model: ServedModel, rows: Float64) -> bytes:
    """The strong tag of a prediction."""
    return _tag(_key(b"predict", model.fingerprint), rows.data)


def of_sampling(model: ServedModel, sampling: Sampling) -> bytes:
    """The strong tag of a sampling with this seed."""
    committee = sampling.committee
    options = (
        committee.seed,
        committee.samples,
        committee.first_sample,
        committee.p,
        sampling.method,
        sampling.aggregate,
        sampling.level,
        sampling.quantiles,
        sampling.return_draws,
    )
    # JSON has no zero byte in it, so that no two requests read the same.
    return _tag(_key(b"sample", model.fingerprint), orjson.dumps(options), b"\0", sampling.rows.data)


def spelled(tag: bytes, spelling: Any) -> bytes:
    """The tag of the same answer where its body also depends on how it was asked to be written."""
    return _tag(tag, orjson.dumps(spelling))


# What all answers of a model share; strings alone are kept, so that no model outlives its unloading.
@lru_cache(maxsize=1024)
def _key(verb: bytes, fingerprint: str) -> bytes:
    return hashlib.blake2b(b"%b\0%b" % (verb, fingerprint.encode())).digest()


def _tag(key: bytes, *parts: bytes | memoryview) -> bytes:
    hasher = hashlib.blake2b(key=key, digest_size=16)
    for part in parts:
        hasher.update(part)
    return b'"%b"' % hasher.hexdigest().encode()
