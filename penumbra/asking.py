"""What each method of the client says and hears: requests, chunks of rows, answers. Does nothing itself.

A small table goes as JSON, in one request. A large one goes as bytes, in chunks of rows that are answered at the same
time. Since all rows share the thinned networks of a seed, chunks put in order are one answer, to the bit. A small table
of nothing but numbers is asked about at once; how to read anything else, the manifest says, which is fetched first.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote

from pydantic_core import from_json

from penumbra import answers, arrays, errors, tensors
from penumbra import rows as tables
from penumbra.answers import Prediction, Sample
from penumbra.conversation import Conversation, Deadline, Each, Emit, Patience, Reply, Request, attempts, call
from penumbra.events import failed, next_event, opened
from penumbra.inputs import Coded, Inputs
from penumbra.rows import Rows
from penumbra.schemas import MAX_SEED, ModelDescription, ModelEntry, ModelList, SampleOptions

T = TypeVar("T")

# From so many numbers on, bytes are worth asking first what the model's inputs are called.
_BYTES_FROM = 2000
# One chunk: a fraction of what the service takes by default, so that others get their turn, too.
_ROWS, _EVALUATIONS, _NUMBERS, _DRAWS, _BODY_BYTES = 8192, 500_000, 2_000_000, 500_000, 3 * 2**20
_DIGITS_OF_A_NUMBER = 25
_MOST_FOR_TARGET = 4096


@dataclass(frozen=True, slots=True)
class Manners:
    """How a client asks: how patiently, with how many requests at once, how many rows in each, and how written.

    `chunk_rows` None: by what a row costs. `binary` None: by size.
    """

    patience: Patience = field(default_factory=Patience)
    at_once: int = 4
    chunk_rows: int | None = None
    binary: bool | None = None


class Question(NamedTuple):
    """What is asked of which model, whose manifest is `known` where it was needed; `options` None: a prediction."""

    model: str
    version: str | None
    rows: Rows
    options: Mapping[str, Any] | None
    known: ModelDescription | None = None

    def samples(self, default: int) -> int:
        """How many samples it takes, at most; 1 for a prediction."""
        asked = 1 if self.options is None else self.options.get("samples", default)
        return int(asked.get("max", _MOST_FOR_TARGET) if isinstance(asked, Mapping) else asked)


# Is told how many rows are there, and how many of them are answered.
Progress = Callable[[int, int], None]


def models(manners: Manners) -> Conversation[list[ModelEntry]]:
    """The list of models."""
    reply = yield from call(Request("GET", "/v1/models"), manners.patience)
    return parsed(reply, lambda body: ModelList.model_validate_json(body).models)


def model(name: str, version: str | None, manners: Manners) -> Conversation[ModelDescription]:
    """The description of a version."""
    reply = yield from call(Request("GET", _path("v1", name, version)), manners.patience)
    return parsed(reply, ModelDescription.model_validate_json)


def predict(
    name: str, version: str | None, data: Any, manners: Manners, progress: Progress
) -> Conversation[Prediction]:
    """The full network's answer to all rows."""
    question = yield from _question(name, version, data, None, manners)
    found = yield from _understood(question, manners, lambda question: _ask(question, manners, progress))
    if not isinstance(found, (answers.RegressionPrediction, answers.ClassPrediction)):
        raise _of_another_kind()
    return found


def sample(
    name: str, version: str | None, data: Any, options: Mapping[str, Any], manners: Manners, progress: Progress
) -> Conversation[Sample]:
    """A committee's answer to all rows."""
    question = yield from _question(name, version, data, seeded(options), manners)
    found = yield from _understood(question, manners, lambda question: _ask(question, manners, progress))
    if not isinstance(found, (answers.RegressionSample, answers.ClassSample)):
        raise _of_another_kind()
    return found


def stream(
    name: str, version: str | None, data: Any, options: Mapping[str, Any], manners: Manners
) -> Conversation[None]:
    """Emits a committee's answer as it grows, the whole answer last. A stream that breaks is taken up where it was.

    Each event may take as long as the patience says.
    """
    question = yield from _question(name, version, data, seeded(options), manners)
    yield from _understood(question, manners, lambda question: _streamed(question, manners))


def _streamed(question: Question, manners: Manners) -> Conversation[None]:
    request = as_json(question, verb_path(question, "sample/stream"))
    told = 0

    def attempt(deadline: Deadline) -> Conversation[None]:
        nonlocal told
        yield from opened(request, deadline)
        while True:
            event, text = yield from next_event(deadline)
            if event == "problem":
                failed(text)
            answer = _told(event, text)
            if answer.progress is None:
                yield Emit(answer)
                return
            deadline.renew()
            # Blocks end where they ended before: what was told once is not told again.
            if answer.samples > told:
                told = answer.samples
                yield Emit(answer)

    yield from attempts(manners.patience, attempt)


def seeded(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, and a seed: with one, asking again gives the same answer, and chunks agree.

    Raises TypeError for a name that is no option, as Python does for any other function.
    """
    if unknown := options.keys() - SampleOptions.__annotations__.keys():
        known = ", ".join(SampleOptions.__annotations__)
        raise TypeError(f"there is no option {min(unknown)!r} of sampling; there are {known}")
    given = {name: arrays.nested(value) for name, value in options.items() if value is not None}
    return given if "seed" in given else {"seed": secrets.randbelow(MAX_SEED + 1), **given}


def _question(
    name: str, version: str | None, data: Any, options: Mapping[str, Any] | None, manners: Manners
) -> Conversation[Question]:
    """What is asked. Raises InvalidRequest, or TypeError for what is no table."""
    found = tables.read(data)
    if isinstance(found, Coded) or (isinstance(found, Rows) and found.are_finite):
        return Question(name, version, found, options)
    known = yield from model(name, version, manners)
    return Question(name, known.version, Inputs(known.inputs).read(found), options, known)


def _understood(question: Question, manners: Manners, ask: Callable[[Question], Conversation[T]]) -> Conversation[T]:
    """Asks; where the service refuses numbers, the manifest says what is wrong with them, or how else to read them."""
    try:
        return (yield from ask(question))
    except errors.InvalidRequest as refused:
        of_rows = refused.problem and any(field.startswith("inputs") for field, _ in refused.complaints)
        if not of_rows or question.known or isinstance(question.rows, Coded):
            raise
        known = yield from model(question.model, question.version, manners)
        rows = Inputs(known.inputs).read(question.rows)
        if not isinstance(rows, Coded):
            raise
    return (yield from ask(question._replace(version=known.version, rows=rows, known=known)))


def as_json(question: Question, path: str) -> Request:
    """A question in native JSON."""
    rows = question.rows
    inputs: list[Any] = rows.nested()
    if rows.names is not None:
        inputs = [dict(zip(rows.names, row, strict=True)) for row in inputs]
    body = arrays.as_json({"inputs": inputs, **(question.options or {})})
    return Request("POST", path, body, {"Content-Type": "application/json"})


def verb_path(question: Question, verb: str = "") -> str:
    """Where a question is posted to."""
    verb = verb or ("predict" if question.options is None else "sample")
    return f"{_path('v1', question.model, question.version)}/{verb}"


def _ask(question: Question, manners: Manners, progress: Progress) -> Conversation[Prediction | Sample]:
    rows = question.rows
    numbers = len(rows.flat) + (rows.count * question.samples(100) if _wants_draws(question) else 0)
    large = manners.binary or numbers >= _BYTES_FROM
    if not large and rows.count <= (manners.chunk_rows or rows.count):
        reply = yield from call(as_json(question, verb_path(question)), manners.patience)
        progress(rows.count, rows.count)
        return parsed(reply, lambda body: _read_json(question, body))
    # Names in order, a version that stays the same, and how wide the answer will be.
    known = question.known or (yield from model(question.model, question.version, manners))
    rows = Inputs(known.inputs).read(rows)
    question = question._replace(version=known.version, rows=rows, known=known)
    size = manners.chunk_rows or _chunk_rows(question, known)
    if size < rows.count and _has_target(question):
        raise errors.InvalidRequest.found(
            [("samples", f"can be a target for at most {size} rows at a time: the rows stop together")]
        )
    binary = tensors.POSSIBLE and manners.binary is not False and not _has_target(question)
    starts = range(0, rows.count, size)

    def chunks() -> Iterator[Conversation[Prediction | Sample]]:
        for start in starts:
            chunk = question._replace(rows=question.rows.part(start, start + size))
            yield _ask_chunk(chunk, manners, known if binary else None)

    done = 0

    def count(_: int) -> None:
        nonlocal done
        done += 1
        progress(min(done * size, rows.count), rows.count)

    progress(0, rows.count)
    parts: list[Any] = yield Each(chunks(), manners.at_once, count)
    whole: Prediction | Sample = answers.joined(parts)
    if whole.model.digest != known.digest:
        raise errors.ModelChanged(f"{known.name} was replaced while it was asked: ask again")
    return whole


def _ask_chunk(
    question: Question, manners: Manners, known: ModelDescription | None
) -> Conversation[Prediction | Sample]:
    """The answer to a chunk, as bytes where the model is known."""
    if known is None:
        reply = yield from call(as_json(question, verb_path(question)), manners.patience)
        return parsed(reply, lambda body: _read_json(question, body))
    body, headers = tensors.spell(question.rows, question.options or {})
    path = f"{_path('v2', question.model, question.version)}/infer"
    reply = yield from call(Request("POST", path, body, headers), manners.patience)
    head = reply.headers.get(tensors.LENGTH_HEADER, "")
    quantiles = (question.options or {}).get("quantiles", ())
    return parsed(reply, lambda body: tensors.read(body, head, quantiles, known.set_labels))


def _chunk_rows(question: Question, known: ModelDescription) -> int:
    """Rows of one chunk: as many as stay within each bound, at least one."""
    rows, samples, outputs = question.rows, max(1, question.samples(known.default_samples)), len(known.outputs)
    bounds = [
        _ROWS,
        _BODY_BYTES // (_DIGITS_OF_A_NUMBER * rows.width),
        _EVALUATIONS // samples,
        _NUMBERS // (samples * outputs),
    ]
    if _wants_draws(question):
        bounds.append(_DRAWS // (samples * outputs))
    return max(1, min(bounds))


def _wants_draws(question: Question) -> bool:
    return bool((question.options or {}).get("return_draws"))


def _has_target(question: Question) -> bool:
    return isinstance((question.options or {}).get("samples"), Mapping)


def _path(protocol: str, name: str, version: str | None) -> str:
    path = f"/{protocol}/models/{quote(name, safe='')}"
    return path if version is None else f"{path}/versions/{quote(str(version), safe='')}"


def _object(body: bytes | str) -> dict[str, Any]:
    fields = from_json(body, allow_inf_nan=False)
    if not isinstance(fields, dict):
        raise TypeError("not an object")
    return fields


def _read_json(question: Question, body: bytes) -> Prediction | Sample:
    fields = _object(body)
    return answers.prediction(fields) if question.options is None else answers.sample(fields)


def parsed(reply: Reply, read: Callable[[bytes], T]) -> T:
    """What a good reply says. Raises UnexpectedAnswer where it is none of the service's: a proxy's page, mostly."""
    try:
        return read(reply.body)
    except (ValueError, TypeError, LookupError) as error:
        media = reply.headers.get("content-type", "no content type")
        raise errors.UnexpectedAnswer(
            f"HTTP {reply.status} with {media} that is no answer of a Penumbra service: is the address right?"
        ) from error


def _told(event: str, text: str) -> Sample:
    """The answer, whole or so far, that an event tells."""
    try:
        return answers.sample(_object(text)) if event == "answer" else answers.running(_object(text))
    except (ValueError, TypeError, LookupError) as error:
        raise errors.UnexpectedAnswer(f"an event ({event}) that is none of a Penumbra service's") from error


def _of_another_kind() -> errors.UnexpectedAnswer:
    return errors.UnexpectedAnswer("the answer is of another kind than was asked for")
