"""The keys that count now: from the environment, and from a file that is read again whenever it has changed.

A file that can't be read any more, or is half-written, changes nothing: the keys that were known go on to count, and
the log says why. Knows nothing of HTTP.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from pathlib import Path

from service.access.callers import Caller
from service.access.keys import WrongKeys, hashed, parse

logger = logging.getLogger(__name__)

# More is no file of keys.
_LARGEST_FILE = 1 << 22


class Keyring:
    """Keys given as `text` and as a `file` of the same lines. Raises WrongKeys where they can't be read at first."""

    def __init__(self, text: str = "", file: Path | None = None) -> None:
        self._given = _callers(text, "PENUMBRA_KEYS")
        self._file = file
        self._seen: object = None
        self._callers: Mapping[bytes, Caller] = self._given
        self._read()

    def find(self, secret: bytes) -> Caller | None:
        """Who has this key.

        What is looked up is a hash, of which nobody can choose a part; the match itself takes constant time.
        """
        digest = hashed(secret)
        caller = self._callers.get(digest)
        known = digest if caller is not None else bytes(len(digest))
        return caller if hmac.compare_digest(known, digest) else None

    def refresh(self) -> None:
        """Reads the file again if it has changed. Takes a system call, or the time of a disk: not on an event loop."""
        try:
            changed = self._read()
        except WrongKeys as error:
            logger.error("keys stay as they were: %s", error)  # noqa: TRY400 - nothing of ours is in the stack
            return
        if changed:
            logger.info("there are %d keys now", len(self._callers))

    def _read(self) -> bool:
        """Whether there was anything new."""
        if self._file is None:
            return False
        try:
            found = self._file.stat()
            seen = found.st_mtime_ns, found.st_size, found.st_ino
            if seen == self._seen:
                return False
            # Noted first: what is wrong is told once, until it changes again.
            self._seen = seen
            if found.st_size > _LARGEST_FILE:
                raise WrongKeys(f"{self._file}: is too large for a file of keys")
            text = self._file.read_text("utf-8")
        except FileNotFoundError:
            if self._seen == "gone":
                return False
            self._seen = "gone"
            raise WrongKeys(f"{self._file}: there is no such file") from None
        except OSError as error:
            raise WrongKeys(f"{self._file}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise WrongKeys(f"{self._file}: is not UTF-8") from None
        self._callers = {**self._given, **_callers(text, str(self._file))}
        return True


def _callers(text: str, where: str) -> dict[bytes, Caller]:
    return {bytes.fromhex(key.sha256): key.caller for key in parse(text, where)}
