"""Everything that can go wrong with a request, in the domain's words. Knows nothing of HTTP: `api.problems` does.

PenumbraError
├── MalformedRequest      can't be read at all
├── InvalidRequest        can be read, but asks for something that does not exist or is out of bounds
├── BodyTooLarge          more bytes than this service takes
├── UnsupportedMedia      a body in a form that this service does not read
├── Unauthenticated       nobody knows who asks
├── Forbidden             not for this caller
├── UnknownModel          no such model or version
├── UnknownJob            no such job, or another's
├── NotApplicable         the model can't answer this kind of question
├── Unavailable           not now; worth trying again
│   ├── QueueFull
│   ├── ShareExceeded     this caller has more than its share of a full queue
│   ├── MemoryShort
│   ├── ShuttingDown
│   ├── ModelNotReady
│   └── RateExceeded      this caller has asked too often
├── CallerGone            nobody waits for the answer any more
└── DeadlineExceeded      the caller's deadline passed before it was the request's turn
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_COMPLAINTS = 10


class PenumbraError(Exception):
    """Base of all; its text is meant for the caller and never quotes what the caller sent."""


class MalformedRequest(PenumbraError):
    """Can't be read at all."""


class InvalidRequest(PenumbraError):
    """Readable, but invalid: `complaints` are at most ten (field, message) pairs."""

    def __init__(self, complaints: Sequence[tuple[str, str]]) -> None:
        self.complaints = tuple(complaints[:MAX_COMPLAINTS])
        super().__init__("; ".join(f"{field} {message}" for field, message in self.complaints[:1]))


class BodyTooLarge(PenumbraError):
    """More bytes than this service takes."""


class UnsupportedMedia(PenumbraError):
    """A body in a form that this service does not read."""


class Unauthenticated(PenumbraError):
    """Nobody knows who asks: no key, or one that is not known."""


class Forbidden(PenumbraError):
    """Not for this caller."""


class UnknownModel(PenumbraError):
    """No such model, or no such version of `model`; `names` are those that there are: not every caller is told."""

    def __init__(self, message: str, names: Sequence[str] = (), model: str | None = None) -> None:
        super().__init__(message)
        self.names, self.model = names, model


class UnknownJob(PenumbraError):
    """No such job, or one of somebody else's."""


class NotApplicable(PenumbraError):
    """The model can't answer this kind of question."""


class Unavailable(PenumbraError):
    """Not now; worth trying again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QueueFull(Unavailable):
    """As many requests wait as may."""


class ShareExceeded(Unavailable):
    """As many requests wait as may, and more of them are this caller's than would be if all had equal parts."""


class MemoryShort(Unavailable):
    """Memory is nearly used up: nothing large is taken for a while."""


class ShuttingDown(Unavailable):
    """No new work is taken."""


class ModelNotReady(Unavailable):
    """The model is in the store but did not pass verification."""


class RateExceeded(Unavailable):
    """Asked too often, by this caller."""


class CallerGone(PenumbraError):
    """The caller hung up before the answer was there; what had not begun was not computed."""


class DeadlineExceeded(PenumbraError):
    """The caller's deadline passed before it was the request's turn; nothing was computed."""

    def __init__(self) -> None:
        super().__init__("the deadline passed while the request was queued")
