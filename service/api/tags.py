"""Entity tags: a hash of all that an answer's body depends on. Knows nothing of HTTP beyond their form."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import orjson

from models.features import Float64
from service.jobs import Sampling
from service.served import ServedModel


def of_prediction(model: ServedModel, rows: Float64) -> bytes:
    """The strong tag of a prediction."""
    return _tag(_key(b"predict", model.fingerprint), rows.data)


def of_sampling(model: ServedModel, sampling: Sampling, verb: bytes = b"sample") -> bytes:
    """The strong tag of a sampling with this seed, told at once or as a stream."""
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
        *(sampling.target or ()),
    )
    # JSON has no zero byte in it, so that no two requests read the same.
    return _tag(_key(verb, model.fingerprint), orjson.dumps(options), b"\0", sampling.rows.data)


def of_request(model: ServedModel, body: bytes) -> bytes:
    """The strong tag of the answer to these very bytes, for requests that also say how the answer is to be written."""
    hasher = hashlib.sha256(
        _key(b"request", model.fingerprint)
    )  # for large bodies: processors have instructions for it
    hasher.update(body)
    return b'"%b"' % hasher.hexdigest()[:32].encode()


# What all answers of a model share; strings alone are kept, so that no model outlives its unloading.
@lru_cache(maxsize=1024)
def _key(verb: bytes, fingerprint: str) -> bytes:
    return hashlib.blake2b(b"%b\0%b" % (verb, fingerprint.encode())).digest()


def _tag(key: bytes, *parts: bytes | memoryview) -> bytes:
    hasher = hashlib.blake2b(key=key, digest_size=16)
    for part in parts:
        hasher.update(part)
    return b'"%b"' % hasher.hexdigest().encode()
