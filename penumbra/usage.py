"""The command line as it is written and explained: commands, options, help. Knows nothing of what they do."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penumbra import __version__

_PLAIN = argparse.RawDescriptionHelpFormatter
_DEFAULT_URL = "http://127.0.0.1:8000"
_ABOUT = """\
Ask a Penumbra service for predictions, and how far to trust them.

  penumbra models                                    list the models
  penumbra model diabetes                            show what one takes, with the values seen in training
  penumbra predict diabetes 0.04,0.05,0.06,…         answer a row with the full network
  penumbra sample diabetes 0.04,0.05,0.06,… -s 100   answer it with a hundred thinned networks, and their uncertainty
  penumbra score diabetes rows.csv -o answers.csv    score a whole file, however large
  penumbra job submit diabetes rows.csv              score it in the background: submit it now, fetch it later
"""
_ENVIRONMENT = """\
PENUMBRA_URL is the address of the service (default: http://127.0.0.1:8000), PENUMBRA_API_KEY the key, if it wants one.
"""
_ROWS = """\
A row is a list of values in the model's order, or of NAME=VALUE pairs in any order, separated by commas:

  penumbra {verb} diabetes 0.04,0.05,0.06,0.02,-0.04,-0.03,-0.04,0,0.02,-0.02
  penumbra {verb} diabetes age=0.04,sex=0.05,bmi=0.06,bp=0.02,s1=-0.04,s2=-0.03,s3=-0.04,s4=0,s5=0.02,s6=-0.02
  penumbra {verb} houses rooms=3,heating=gas,garden=true,age=

A value is a number, a text, or true or false, as the model takes it; an empty one is missing. Several rows may follow
each other. - reads JSON from standard input: a list of rows, or a request's {{"inputs": …}}.
"""
_SEED = """\
The seed chooses the networks: the same seed gives the same answer, to the last bit, whoever asks and whenever. Without
--seed a random one is used, and shown.
"""
_SCORE = """\
Writes the answers to a file, in the order of the rows. Columns that the model doesn't take, such as identifiers and
outcomes, are copied. CSV needs nothing; Parquet needs pip install '.[score]' in the source tree.

Batches of rows are asked about in parallel, in bounded memory. What is done is kept in OUT.parts: after an interruption
run the same command again, and it resumes there and ends with the same bytes.

With --engine ray the workers of a Ray cluster (RAY_ADDRESS, or a new one on this machine) read the rows and ask the
service, each at --url as seen from its node; the result is the same, to the byte, however the work was divided. FILE
must be Parquet where all of them can read it: in a shared directory, or at a URL such as s3://BUCKET/rows.parquet.

  penumbra score diabetes rows.csv -o answers.csv --predict           the full network, deterministic
  penumbra score diabetes rows.csv -o answers.parquet -s 100 --seed 7  a hundred samples for each row
"""
_JOBS = """\
A job is a table that the service scores in the background, whether or not you stay connected. It needs a service that
was started with --jobs-dir.

  penumbra job submit diabetes rows.csv -s 100 --seed 7   submit a table; prints the job's id
  penumbra job status ID                                  show how far it is
  penumbra job result ID -o answers.csv                   wait until it is done, and fetch the result
  penumbra job cancel ID                                  stop it
  penumbra job forget ID                                  delete it, once it has ended
  penumbra jobs                                           list yours, the latest first
"""
_SUBMIT = """\
Prints the job's id, for scripts to keep:

  id=$(penumbra job submit diabetes rows.csv -s 100 --seed 7)
  penumbra job result "$id" -o answers.csv

The table is .csv, .tsv or .parquet, and the result has the same format and a row for each row. Columns are found by the
names of the model's inputs; others are copied.
"""
_RESULT = """\
Waits until the job is done, with a progress line; if it is interrupted, run it again. The file appears whole or not at
all. Its name must end as that of the table did.
"""


def parser(run: Mapping[str, Callable[..., None]]) -> argparse.ArgumentParser:
    """The whole command line; `run` has what each command does."""
    made = argparse.ArgumentParser("penumbra", description=_ABOUT, epilog=_ENVIRONMENT, formatter_class=_PLAIN)
    made.add_argument("--version", action="version", version=f"penumbra {__version__}")
    made.set_defaults(run=None)
    commands = made.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    of_jobs: Any = None

    def command(name: str, told: str, epilog: str, *parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
        group, _, last = name.rpartition(" ")
        one: argparse.ArgumentParser = (of_jobs if group else commands).add_parser(
            last,
            help=told,
            description=f"{told[0].upper()}{told[1:]}.",
            epilog=epilog + _ENVIRONMENT,
            formatter_class=_PLAIN,
            parents=[*parents, _where()],
        )
        one.set_defaults(run=run[name], command=name)
        return one

    command("models", "list the models", "", _shown())
    command("model", "show what a model takes", "", _named(), _shown())
    command("predict", "ask the full network", _ROWS.format(verb="predict"), _named(), _rows(), _shown())
    about = f"{_ROWS.format(verb='sample')}\n{_SEED}"
    _sampling(command("sample", "ask a committee of thinned networks", about, _named(), _rows(), _shown()))
    _scoring(command("score", "score a whole file", f"{_SCORE}\n{_SEED}", _named()))
    command("jobs", "list your jobs", _JOBS, _shown())
    job = commands.add_parser(
        "job", help="score a table in the background", epilog=_JOBS + _ENVIRONMENT, formatter_class=_PLAIN
    )
    of_jobs = job.add_subparsers(metavar="VERB", title="verbs", required=True)
    _table(command("job submit", "submit a table", f"{_SUBMIT}\n{_SEED}", _named(), _shown()))
    command("job status", "show how far a job is", "", _job(), _shown())
    out = command("job result", "wait for a job, and fetch its result", _RESULT, _job())
    out.add_argument(
        "-o", "--out", type=Path, required=True, metavar="OUT", help="file to write: .csv, .tsv or .parquet"
    )
    command("job cancel", "stop a job before its next chunk of rows", "", _job(), _shown())
    command("job forget", "delete a job that has ended, and its result", "", _job())
    return made


def _where() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument(
        "--url",
        default=os.environ.get("PENUMBRA_URL") or _DEFAULT_URL,
        help="address of the service (default: PENUMBRA_URL, or http://127.0.0.1:8000)",
    )
    part.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="for each request, retries included (default: 60)",
    )
    return part


def _shown() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument("--json", action="store_true", help="print the service's JSON instead of a table")
    return part


def _named() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument("model", metavar="MODEL", help="name of the model; penumbra models lists them")
    part.add_argument("--version", metavar="VERSION", help="version of the model (default: the served version)")
    return part


def _rows() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument("rows", nargs="+", metavar="ROW", help="a row; or - for JSON from standard input")
    return part


def _job() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument("job", metavar="ID", help="id that penumbra job submit printed; penumbra jobs lists them")
    return part


def _table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="table to score: .csv, .tsv or .parquet")
    _columns(parser)
    _sampling(parser)


def _columns(parser: argparse.ArgumentParser) -> None:
    """What is asked of a table, and what becomes of its columns."""
    add = parser.add_argument
    add("--predict", action="store_true", help="ask the full network instead of a committee")
    add(
        "--keep",
        choices=("others", "all", "none"),
        default="others",
        help="columns of the table to copy: those that the model doesn't take (default), all, or none",
    )
    add(
        "--missing",
        choices=("fail", "blank"),
        default="fail",
        help="rows that lack a value that the model needs: fail (default), or leave their answers blank",
    )


def _scoring(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=_file, metavar="FILE", help="table to score: .csv, .tsv or .parquet, or the URL of a .parquet")
    add("-o", "--out", type=Path, required=True, metavar="OUT", help="file to write: .csv, .tsv or .parquet")
    _columns(parser)
    add("--prefix", default="", metavar="TEXT", help="put before the names of the answers' columns")
    add("--restart", action="store_true", help="start again, and discard what is in OUT.parts")
    add(
        "--engine",
        choices=("threads", "ray"),
        default="threads",
        help="who reads the rows and asks: this process (default), or a Ray cluster",
    )
    add("--concurrency", type=_positive, default=4, metavar="N", help="batches in flight at a time (default: 4)")
    add("--batch-rows", type=_positive, default=8192, metavar="N", help="rows in a batch (default: 8192)")
    _sampling(parser)


def _sampling(parser: argparse.ArgumentParser) -> None:
    """The options of a sampling; what isn't given is the service's to choose."""
    group = parser.add_argument_group("sampling")
    group.add_argument(
        "-s", "--samples", type=int, metavar="N", help="how many thinned networks to ask (default: the model's)"
    )
    group.add_argument("--seed", type=int, metavar="N", help="seed that chooses the networks (default: random)")
    group.add_argument(
        "--first-sample",
        type=int,
        metavar="N",
        help="index of the first sample, to continue an earlier sampling (default: 0)",
    )
    group.add_argument("--interval", type=float, metavar="LEVEL", help="level of the central interval (default: 0.9)")
    group.add_argument(
        "--quantiles", type=_numbers, metavar="P,P,…", help="quantiles to report, of a regression: 0.05,0.5,0.95"
    )
    group.add_argument("--dropout", type=float, metavar="P", help="what if: drop this fraction in every layer")
    group.add_argument(
        "--method",
        metavar="NAME",
        help="dropout: thinned networks (default); ensemble: members in turn; moments: no sampling",
    )
    group.add_argument(
        "--aggregate",
        metavar="NAME",
        help="how samples decide the label, of a classification: mean (default), vote or weighted",
    )


def _file(text: str) -> Path | str:
    """A file here, or the URL of one elsewhere, as it is."""
    return text if "://" in text else Path(text)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
