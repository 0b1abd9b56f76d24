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
    words = [_row_or_option(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    given, unknown = parser.parse_known_args(words)
    if unknown:
        hint = " (sampling options belong to penumbra sample)" if getattr(given, "command", "") == "predict" else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if given.run is None:
        parser.print_help()
        return 0
    from penumbra.errors import PenumbraError

    try:
        with _connect(given)() as client:
            given.run(client, given)
    except (PenumbraError, TypeError, ValueError, OSError) as error:
        _say(f"penumbra: {_explained(error, given)}", sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = given.command in ("score", "job result")
        hint = "; run the same command again to go on from here" if goes_on else ""
        _say(f"\npenumbra: stopped{hint}", sys.stderr)
        return 130
    return 0


def _explained(error: Exception, given: argparse.Namespace) -> str:
    """What went wrong, and what on the command line may mend it."""
    from httpx import ConnectError

    from penumbra.errors import UnknownModel

    address, _, protocol = given.url.rstrip("/").rpartition("/")
    if isinstance(error.__cause__, ConnectError):
        return f"{error} --url or PENUMBRA_URL sets the address"
    nothing_there = isinstance(error, UnknownModel) and error.problem and error.problem.type == "about:blank"
    if nothing_there and protocol in ("v1", "v2"):
        return f"nothing at {given.url}/v1/…: give the service's own address, {address}"
    return str(error)


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
    known = client.model(given.model, version=given.version)
    answer = client.predict(given.model, _rows(given.rows, known), version=known.version)
    _answer(given, answer.to_json, lambda show: show.prediction(answer, known.output_names))


def _sample(client: Any, given: argparse.Namespace) -> None:
    known = client.model(given.model, version=given.version)
    answer = client.sample(given.model, _rows(given.rows, known), version=known.version, **_options(given))
    _answer(given, answer.to_json, lambda show: show.sample(answer, known.output_names))


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
        told.append(f"{outcome.blank:,} have no answer, for want of values")
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
        raise ValueError("--engine ray needs Ray: pip install '.[score,ray]' in the source tree") from None
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


def _rows(written: Sequence[str], known: Any) -> Any:
    """The rows that were written out, or those of standard input. Says what is unusual about them."""
    from penumbra import rows, words
    from penumbra.inputs import Inputs

    if list(written) == ["-"]:
        try:
            found = json.load(sys.stdin)
        except ValueError as error:
            raise ValueError(f"standard input is not JSON: {error}") from None
        found = found["inputs"] if isinstance(found, dict) and "inputs" in found else found
        read = Inputs(known.inputs).read(rows.read(found))
    else:
        read = words.read(written, known)
    if told := words.unusual(read, known):
        _say(f"penumbra: {told}", sys.stderr)
    return read


def _row_or_option(word: str) -> str:
    """A row may begin with a minus; argparse takes what has a space in it for no option."""
    return f" {word}" if re.match(r"-[\d.][^=]*,", word) else word


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
