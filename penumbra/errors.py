"""Everything that can go wrong for a caller. Knows nothing of how requests are made.

PenumbraError
├── InvalidRequest        rows, options or sizes that can't be answered as they stand  (400, 413, 415, 422, 431)
│   └── NotApplicable     the model can't answer this kind of question, or the job has not come so far  (409)
├── AccessDenied          no key, an unknown key, or a key that may not do this  (401, 403)
├── UnknownModel          no such model or version  (404)
├── UnknownJob            no such job of this caller's, or not any more  (404)
├── JobFailed             a job has ended, and has no result
├── Unavailable           not now: asked again as long as there was time, and still not  (429, 502, 503)
│   └── RateLimited       more requests than this caller may make  (429)
├── DeadlineExceeded      no answer within the timeout  (504)
├── ConnectionFailed      the service can't be reached, or hung up each time
├── ServiceFailed         a bug in the service; its log knows the request id  (500 and the like)
├── UnexpectedAnswer      what came back is no answer of this service: is the address right?
└── ModelChanged          chunks of one answer came from different models
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from pydantic import BaseModel, ValidationError

from penumbra.schemas import JobDescription, Problem

_QUOTED = 200  # characters of an answer that isn't a problem


class _ProtocolError(BaseModel):
    error: str


class PenumbraError(Exception):
    """Base of all. `problem` is the service's own account (RFC 9457) where there is one, `status` its HTTP status."""

    problem: Problem | None = None
    status: int | None = None

    @property
    def request_id(self) -> str | None:
        """What the service's log calls the request."""
        return self.problem.request_id if self.problem else None


class InvalidRequest(PenumbraError, ValueError):
    """What is asked can't be answered as it stands; found by the client before anything is sent, or by the service.

    `complaints` are (field, message) pairs; a field is named as in the request: `inputs[3].bmi`.
    """

    complaints: tuple[tuple[str, str], ...] = ()

    @classmethod
    def found(cls, complaints: Sequence[tuple[str, str]]) -> InvalidRequest:
        """What the client itself found; all complaints are in the text."""
        error = cls("; ".join(f"{field}: {message}" for field, message in complaints))
        error.complaints = tuple(complaints)
        return error


class NotApplicable(InvalidRequest):
    """What is asked does not apply: the model has no active dropout, or no members; the job has not ended, or has."""


class AccessDenied(PenumbraError):
    """No key, an unknown key, or a key that may not do this."""


class UnknownModel(PenumbraError, LookupError):
    """No such model or version."""


class UnknownJob(PenumbraError, LookupError):
    """No such job of this caller's, or not any more."""


class JobFailed(PenumbraError):
    """A job has ended without a result: `job` says whether it was cancelled, or why it failed."""

    def __init__(self, job: JobDescription) -> None:
        super().__init__(f"the job failed: {job.error}" if job.error else f"the job was {job.state}")
        self.job = job


class Unavailable(PenumbraError):
    """Not now. It was asked again as often as the client may, or `retry_after` (seconds) is beyond the timeout."""

    retry_after: float | None = None


class RateLimited(Unavailable):
    """More requests than this caller may make."""


class DeadlineExceeded(PenumbraError, TimeoutError):
    """No answer within the timeout."""


class ConnectionFailed(PenumbraError, ConnectionError):
    """The service can't be reached, or the connection broke each time."""


class ServiceFailed(PenumbraError):
    """A bug in the service."""


class UnexpectedAnswer(PenumbraError):
    """What came back is no answer of this service."""


class ModelChanged(PenumbraError):
    """Chunks of one answer came from different models: the version was replaced under the same name meanwhile."""


_KINDS: dict[int, type[PenumbraError]] = {
    **dict.fromkeys((400, 413, 415, 422, 431), InvalidRequest),
    **dict.fromkeys((401, 403), AccessDenied),
    404: UnknownModel,
    409: NotApplicable,
    429: RateLimited,
    **dict.fromkeys((502, 503), Unavailable),
    504: DeadlineExceeded,
}
# Where the status alone does not say what is missing.
_UNKNOWN_JOB = "urn:penumbra:problem:unknown-job"


def of_answer(status: int, body: bytes, request_id: str, retry_after: float | None = None) -> PenumbraError:
    """The error that an HTTP answer is. A body that isn't the service's is quoted, in short: it may be a proxy's."""
    kind = _KINDS.get(status, ServiceFailed if status >= HTTPStatus.INTERNAL_SERVER_ERROR else UnexpectedAnswer)
    problem = problem_of(body) or _of_protocol(status, body, request_id)
    if problem and problem.type == _UNKNOWN_JOB:
        kind = UnknownJob
    error = kind(_told(problem) if problem else _quoted(status, body))
    error.problem, error.status = problem, status
    if isinstance(error, InvalidRequest) and problem:
        error.complaints = tuple((each.field, each.message) for each in problem.errors)
    if isinstance(error, Unavailable):
        error.retry_after = retry_after
    return error


def problem_of(body: bytes) -> Problem | None:
    """The problem that a body is, if it is one."""
    try:
        return Problem.model_validate_json(body)
    except ValidationError:
        return None


def _of_protocol(status: int, body: bytes, request_id: str) -> Problem | None:
    """What the Open Inference Protocol leaves of a problem: a single text."""
    try:
        said = _ProtocolError.model_validate_json(body).error
    except ValidationError:
        return None
    title = HTTPStatus(status).phrase
    return Problem(type="about:blank", title=title, status=status, detail=said, request_id=request_id)


def _told(problem: Problem) -> str:
    """The detail, which has the first complaint, and the others."""
    return "; ".join([problem.detail, *(f"{each.field}: {each.message}" for each in problem.errors[1:])])


def _quoted(status: int, body: bytes) -> str:
    text = " ".join(body[: 4 * _QUOTED].decode("utf-8", "replace").split())
    return f"HTTP {status}{': ' if text else ''}{text[:_QUOTED]}{'…' if len(text) > _QUOTED else ''}"
