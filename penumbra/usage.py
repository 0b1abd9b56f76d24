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

  penumbra models                                    which models there are
  penumbra model diabetes                            what one expects, and the ranges seen in training
  penumbra predict diabetes 0.04,0.05,0.06,…         the full network's answer to a row
  penumbra sample diabetes 0.04,0.05,0.06,… -s 100   a hundred thinned networks: the same, with its uncertainty
  penumbra score diabetes rows.csv -o answers.csv    a whole file, however large
  penumbra job submit diabetes rows.csv              the same in the background: hand it in, fetch it later
"""
_ENVIRONMENT = """\
The service is at PENUMBRA_URL (http://127.0.0.1:8000 by default); a key, where it wants one, is PENUMBRA_API_KEY.
"""
_ROWS = """\
A row is numbers in the model's order, or NAME=NUMBER pairs in any order, with commas between them:

  penumbra {verb} diabetes 0.04,0.05,0.06,0.02,-0.04,-0.03,-0.04,0,0.02,-0.02
  penumbra {verb} diabetes age=0.04,sex=0.05,bmi=0.06,bp=0.02,s1=-0.04,s2=-0.03,s3=-0.04,s4=0,s5=0.02,s6=-0.02

Several rows may follow each other. - reads JSON from standard input: a list of rows, or a request's {{"inputs": …}}.
"""
_SEED = """\
A seed names the networks that are asked: the same seed has the same answer, to the last bit, whoever asks and whenever.
Without --seed one is drawn, and shown.
"""
_SCORE = """\
Writes a file with the answers, in the order of the rows. Columns that the model doesn't take, identifiers and outcomes
among them, are carried along. CSV (.csv, .tsv) needs nothing; Parquet (.parquet) needs pip install 'penumbra[score]'.

Batches of rows are asked side by side, memory stays bounded, and what is done is kept in OUT.parts: run the same
command again after an interruption, and it goes on from there to the same bytes.

With --engine ray the workers of a Ray cluster (RAY_ADDRESS, else one on this machine) read the rows and ask, each by
--url as seen from its node; the result is the same, to the byte, however the work was divided. FILE must be Parquet, at
a place that all of them see: a shared directory, or a URL such as s3://BUCKET/rows.parquet.

  penumbra score diabetes rows.csv -o answers.csv --predict           the full network, deterministic
  penumbra score diabetes rows.csv -o answers.parquet -s 100 --seed 7  a hundred samples for each row
"""
_JOBS = """\
A job is a table that the service scores in the background; it lasts whatever becomes of whoever handed it in. It needs
a service with a directory for jobs, which says so otherwise.

  penumbra job submit diabetes rows.csv -s 100 --seed 7   prints the job's id
  penumbra job status ID                                  how far it is
  penumbra job result ID -o answers.csv                   waits until it is done, and fetches the result
  penumbra job cancel ID                                  stops it
  penumbra job forget ID                                  removes it, once it has ended
  penumbra jobs                                           all of yours, the last one first
"""
_SUBMIT = """\
Prints the job's id, for other programs to keep:

  id=$(penumbra job submit diabetes rows.csv -s 100 --seed 7)
  penumbra job result "$id" -o answers.csv

The table is .csv, .tsv or .parquet; the result has the same form, and a row for each row. Columns are found by the
model's names, others are carried along.
"""
_RESULT = """\
Waits until the job is done, with a line that says how far it is; interrupted, it can be asked again. The file appears
whole or not at all. Its name ends like that of the table that was handed in.
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
    command("model", "show what a model expects", "", _named(), _shown())
    command("predict", "ask the full network", _ROWS.format(verb="predict"), _named(), _rows(), _shown())
    about = f"{_ROWS.format(verb='sample')}\n{_SEED}"
    _sampling(command("sample", "ask a committee of thinned networks", about, _named(), _rows(), _shown()))
    _scoring(command("score", "score a whole file", f"{_SCORE}\n{_SEED}", _named()))
    command("jobs", "list your jobs", _JOBS, _shown())
    job = commands.add_parser(
        "job", help="a table scored in the background", epilog=_JOBS + _ENVIRONMENT, formatter_class=_PLAIN
    )
    of_jobs = job.add_subparsers(metavar="VERB", title="verbs", required=True)
    _table(command("job submit", "hand in a table", f"{_SUBMIT}\n{_SEED}", _named(), _shown()))
    command("job status", "how far it is", "", _job(), _shown())
    out = command("job result", "wait for it, and fetch the result", _RESULT, _job())
    out.add_argument("-o", "--out", type=Path, required=True, metavar="OUT", help="the file: .csv, .tsv or .parquet")
    command("job cancel", "stop it before its next chunk of rows", "", _job(), _shown())
    command("job forget", "remove it and its result, once it has ended", "", _job())
    return made


def _where() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument("--url", default=os.environ.get("PENUMBRA_URL") or _DEFAULT_URL, help="where the service is")
    part.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each request (60)")
    return part


def _shown() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument("--json", action="store_true", help="the service's JSON instead of a table")
    return part


def _named() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument("model", metavar="MODEL", help="its name; penumbra models lists them")
    part.add_argument("--version", metavar="VERSION", help="by default the one that is served by default")
    return part


def _rows() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument("rows", nargs="+", metavar="ROW", help="a row, or - for JSON from standard input")
    return part


def _job() -> argparse.ArgumentParser:
    part = argparse.ArgumentParser(add_help=False)
    part.add_argument("job", metavar="ID", help="what penumbra job submit printed; penumbra jobs lists them")
    return part


def _table(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the table: .csv, .tsv or .parquet")
    _columns(parser)
    _sampling(parser)


def _columns(parser: argparse.ArgumentParser) -> None:
    """What is asked of a table, and what becomes of its columns."""
    add = parser.add_argument
    add("--predict", action="store_true", help="ask the full network instead of a committee")
    add("--keep", choices=("others", "all", "none"), default="others", help="columns to carry along (others)")
    add(
        "--missing", choices=("fail", "blank"), default="fail", help="what becomes of rows with a number missing (fail)"
    )


def _scoring(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=_file, metavar="FILE", help="the table: .csv, .tsv or .parquet; a URL of a .parquet in a store")
    add("-o", "--out", type=Path, required=True, metavar="OUT", help="the result: .csv, .tsv or .parquet")
    _columns(parser)
    add("--prefix", default="", metavar="TEXT", help="before the names of the answers' columns")
    add("--restart", action="store_true", help="begin anew, whatever is there")
    add(
        "--engine",
        choices=("threads", "ray"),
        default="threads",
        help="who reads and asks: this process, or a Ray cluster",
    )
    add("--concurrency", type=_positive, default=4, metavar="N", help="batches at a time (4)")
    add("--batch-rows", type=_positive, default=8192, metavar="N", help="rows in a batch (8192)")
    _sampling(parser)


def _sampling(parser: argparse.ArgumentParser) -> None:
    """The options of a sampling; what isn't given is the service's to choose."""
    group = parser.add_argument_group("sampling")
    group.add_argument("-s", "--samples", type=int, metavar="N", help="thinned networks to ask (the model's default)")
    group.add_argument("--seed", type=int, metavar="N", help="which ones (drawn)")
    group.add_argument("--first-sample", type=int, metavar="N", help="go on where an earlier sampling stopped (0)")
    group.add_argument("--interval", type=float, metavar="LEVEL", help="of the central interval (0.9)")
    group.add_argument("--quantiles", type=_numbers, metavar="P,P,…", help="of a regression: 0.05,0.5,0.95")
    group.add_argument("--dropout", type=float, metavar="P", help="what if every layer dropped so much?")
    group.add_argument("--method", metavar="NAME", help="dropout: thinned networks (default); ensemble: members; …")
    group.add_argument("--aggregate", metavar="NAME", help="of a classification: mean (default), vote, weighted")


def _file(text: str) -> Path | str:
    """A file here, or the URL of one elsewhere, as it is."""
    return text if "://" in text else Path(text)


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number
