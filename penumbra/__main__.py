"""The command line: `penumbra models · model · predict · sample · score · jobs · job`. Says what it is told.

Decides nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from penumbra import usage


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; the exit code: 0, 1 for what went wrong, 2 for a command that can't be read."""
    parser = usage.parser(COMMANDS)
    given = parser.parse_args([_row_or_option(word) for word in (sys.argv[1:] if arguments is None else arguments)])
    if given.run is None:
        parser.print_help()
        return 0
    from penumbra.errors import PenumbraError

    try:
        with _connect(given)() as client:
            given.run(client, given)
    except (PenumbraError, TypeError, ValueError, OSError) as error:
        _say(f"penumbra: {error}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = given.command in ("score", "job result")
        hint = "; run the same command again to go on from here" if goes_on else ""
        _say(f"\npenumbra: stopped{hint}", sys.stderr)
        return 130
    return 0


def _connect(given: argparse.Namespace) -> Callable[[], Any]:
    """What makes a client of the service that was named."""
    from penumbra.client import Client

    return partial(Client, given.url, api_key=os.environ.get("PENUMBRA_API_KEY") or None, timeout=given.timeout)


def _models(client: Any, given: argparse.Namespace) -> None:
    entries = client.models()
    _answer(given, lambda: {"models": [entry.model_dump() for entry in entries]}, lambda show: show.models(entries))


def _model(client: Any, given: argparse.Namespace) -> None:
    known = client.model(given.model, version=given.version)
    _answer(given, known.model_dump, lambda show: show.model(known))


def _predict(client: Any, given: argparse.Namespace) -> None:
    answer = client.predict(given.model, _rows(given.rows), version=given.version)
    _answer(given, answer.to_json, lambda show: show.prediction(answer, _names(client, answer)))


def _sample(client: Any, given: argparse.Namespace) -> None:
    answer = client.sample(given.model, _rows(given.rows), version=given.version, **_options(given))
    _answer(given, answer.to_json, lambda show: show.sample(answer, _names(client, answer)))


def _score(client: Any, given: argparse.Namespace) -> None:
    from penumbra.progress import Bar
    from penumbra.scoring import Job, score

    options = _options(given)
    job = Job(
        model=given.model,
        version=given.version,
        options=None if given.predict else options,
        keep=given.keep,
        missing=given.missing,
        prefix=given.prefix,
        batch_rows=given.batch_rows,
    )
    bar: Bar | None = None

    def progress(done: int, total: int, before: int) -> None:
        nonlocal bar
        bar = bar or Bar(before=before)
        bar(done, total)

    outcome = score(
        client, job, given.file, given.out,
        concurrency=given.concurrency, restart=given.restart, progress=progress, engine=_engine(given),
    )  # fmt: skip
    told = [f"{outcome.rows:,} rows in {given.out}"]
    if outcome.before:
        told.append(f"{outcome.before:,} of them were done before")
    if outcome.blank:
        told.append(f"{outcome.blank:,} have no answer, for want of numbers")
    if outcome.job.options is not None:
        told.append(f"seed {outcome.job.options['seed']}")
    _say("; ".join(told), sys.stderr)


def _engine(given: argparse.Namespace) -> Any:
    """What makes the parts; None: threads of this process."""
    if given.engine == "threads":
        return None
    try:
        from penumbra.scoring.cluster import Cluster
    except ImportError:
        raise ValueError("--engine ray needs Ray: pip install 'penumbra[score,ray]'") from None
    return Cluster(_connect(given), given.concurrency)


_OPTIONS = ("samples", "seed", "first_sample", "interval", "quantiles", "dropout", "method", "aggregate")


def _options(given: argparse.Namespace) -> dict[str, Any]:
    options = {name: getattr(given, name) for name in _OPTIONS if getattr(given, name) is not None}
    if options and getattr(given, "predict", False):
        raise ValueError(f"--predict asks no samples: leave out --{min(options).replace('_', '-')}")
    return options


def _jobs(client: Any, given: argparse.Namespace) -> None:
    told = [each.told for each in client.jobs()]
    _answer(given, lambda: {"jobs": [each.model_dump() for each in told]}, lambda show: show.jobs(told))


def _submit(client: Any, given: argparse.Namespace) -> None:
    verb = "predict" if given.predict else "sample"
    job = client.submit(
        given.model, given.file,
        version=given.version, verb=verb, keep=given.keep, missing=given.missing, **_options(given),
    )  # fmt: skip
    _answer(given, job.told.model_dump, lambda _: job.id)
    seed = (job.told.options or {}).get("seed")
    about = [f"about {job.told.rows.of:,} rows", *([] if seed is None else [f"seed {seed}"])]
    _say(f"{'; '.join(about)}; penumbra job result {job.id} -o OUT waits for them", sys.stderr)


def _status(client: Any, given: argparse.Namespace) -> None:
    _tell(given, client.job(given.job).told)


def _result(client: Any, given: argparse.Namespace) -> None:
    job = client.job(given.job)
    out = job.result(given.out, progress=True)
    _say(f"{job.told.rows.done:,} rows in {out}", sys.stderr)


def _cancel(client: Any, given: argparse.Namespace) -> None:
    _tell(given, client.job(given.job).cancel())


def _forget(client: Any, given: argparse.Namespace) -> None:
    client.job(given.job).forget()


def _tell(given: argparse.Namespace, told: Any) -> None:
    _answer(given, told.model_dump, lambda show: show.job(told))


COMMANDS = {
    "models": _models,
    "model": _model,
    "predict": _predict,
    "sample": _sample,
    "score": _score,
    "jobs": _jobs,
    "job submit": _submit,
    "job status": _status,
    "job result": _result,
    "job cancel": _cancel,
    "job forget": _forget,
}


def _rows(words: Sequence[str]) -> Any:
    """The rows that were written out, or those of standard input."""
    if list(words) == ["-"]:
        try:
            read = json.load(sys.stdin)
        except ValueError as error:
            raise ValueError(f"standard input is not JSON: {error}") from None
        return read["inputs"] if isinstance(read, dict) and "inputs" in read else read
    return [_row(number, word) for number, word in enumerate(words, 1)]


def _row(number: int, word: str) -> list[float] | dict[str, float]:
    cells = [cell.strip() for cell in word.strip().rstrip(",").split(",")]
    named = [cell.partition("=") for cell in cells]
    try:
        if any(sign for _, sign, _ in named):
            return {name.strip(): float(value) for name, _, value in named}
        return [float(cell) for cell in cells]
    except ValueError:
        raise ValueError(f"row {number} must be numbers, or NAME=NUMBER pairs, with commas between them") from None


def _row_or_option(word: str) -> str:
    """A row may begin with a minus; argparse takes what has a space in it for no option."""
    return f" {word}" if re.match(r"-[\d.][^=]*,", word) else word


def _names(client: Any, answer: Any) -> list[str]:
    """What the outputs of the version that answered are called."""
    names: list[str] = client.model(answer.model.name, version=answer.model.version).output_names
    return names


def _answer(given: argparse.Namespace, as_json: Callable[[], Any], as_text: Callable[[Any], str]) -> None:
    """Prints an answer, for programs or for people."""
    if given.json:
        told = as_json()
        _say(told.decode() if isinstance(told, bytes) else json.dumps(told, ensure_ascii=False))
        return
    from penumbra import show

    _say(as_text(show))


def _say(text: str, stream: Any = None) -> None:
    stream = stream or sys.stdout
    try:
        stream.write(text + "\n")
    except UnicodeEncodeError:  # a terminal that knows ASCII alone
        from penumbra.show import plain

        stream.write(plain(text) + "\n")
    stream.flush()


if __name__ == "__main__":
    sys.exit(main())
