"""Who somebody is, by key or token, and whether they have asked too often. Knows nothing of HTTP."""

from __future__ import annotations

import logging
from pathlib import Path

from anyio import to_thread

from service.access.callers import Caller
from service.access.keyring import Keyring
from service.access.tokens import Tokens
from service.errors import RateExceeded, Unauthenticated
from service.looking import every

FOLLOW_SECONDS = 1.0

logger = logging.getLogger(__name__)


class Access:
    """The keys and tokens that count. Made before worker processes are forked, so that they share what is counted."""

    def __init__(self, keyring: Keyring, tokens: Tokens | None = None) -> None:
        self._keyring, self._tokens = keyring, tokens
        from service.access.rates import Rates  # takes a tenth of a second, which who needs no keys need not wait

        self._rates = Rates()

    def identify(self, secret: bytes | None) -> Caller:
        """Who has this key or token. Raises Unauthenticated."""
        if not secret:
            raise Unauthenticated("a key is needed: send Authorization: Bearer KEY, or X-API-Key: KEY")
        caller = self._keyring.find(secret)
        if caller is None and self._tokens is not None:
            caller = self._tokens.verify(secret)
        if caller is None:
            raise Unauthenticated("this key is not known, or no longer")
        return caller

    def count(self, caller: Caller) -> None:
        """Counts a request. Raises RateExceeded if they have asked too often."""
        if caller.rate and (seconds := self._rates.wait(caller.name, caller.rate)):
            raise RateExceeded(f"this key may ask {caller.rate}; that much was asked", seconds)

    async def follow(self) -> None:
        """Takes note of keys that come and go, until it is cancelled.

        Begins at once: a worker may be forked from a process that has read them long ago.
        """
        await every(FOLLOW_SECONDS, "looking at keys", lambda: to_thread.run_sync(self.refresh), at_once=True)

    def refresh(self) -> None:
        """Looks once. Whatever goes wrong, it can look again: no key that was taken away may count on for that."""
        for source in (self._keyring, self._tokens):
            try:
                if source is not None:
                    source.refresh()
            except Exception:
                logger.exception("keys could not be looked at, which is a bug; it will be tried again")


def new_access(keys: str, keys_file: str, jwt_keys: str, jwt_issuer: str, jwt_audience: str) -> Access | None:
    """As the settings say; None where nobody needs a key. Raises WrongKeys."""
    if not (keys or keys_file or jwt_keys):
        return None
    keyring = Keyring(keys, Path(keys_file) if keys_file else None)
    return Access(keyring, Tokens(jwt_keys, jwt_issuer, jwt_audience) if jwt_keys else None)
