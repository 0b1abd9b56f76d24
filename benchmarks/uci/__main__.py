"""The published UCI regression protocol, end to end: search, train, publish, serve, ask over HTTP, score.

    python -m benchmarks.uci --data DIR --out FILE.json                    all sets of a folder, all splits
    python -m benchmarks.uci --data DIR --out FILE.json --sets a,b --splits 5
    python -m benchmarks.uci --data DIR --out FILE.json --quick            three splits of each
    python -m benchmarks.uci --out FILE.json --report                      writes the section of benchmarks/RESULTS.md

Splits that FILE has already are not done again, so that a run can be ended at any time and continued. Two networks are
in training at once, each on a core.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.report import write_section
from benchmarks.servers import Unavailable, bounded
from benchmarks.uci.procedure import STEPS
from benchmarks.uci.protocol import read, run
from benchmarks.uci.report import section
from benchmarks.uci.tables import Unreadable, tables

QUICK = 3


def main() -> None:
    """Does what is left to do, split by split."""
    given = _arguments()
    try:
        results = read(given.out)
        if given.data is not None:
            names = tuple(name for name in given.sets.split(",") if name)
            splits = QUICK if given.quick else given.splits
            with bounded(minutes=given.minutes):
                run(tables(given.data, names), results, given.out, splits, given.steps)
    except (Unreadable, Unavailable) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(f"ended; the splits that are done are in {given.out}")
    if given.report:
        write_section("uci", section(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.uci", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder of sets; without it nothing is run")
    parser.add_argument("--out", type=Path, metavar="FILE.json", required=True, help="results, written and continued")
    parser.add_argument("--sets", default="", metavar="a,b", help="only these sets")
    parser.add_argument("--splits", type=_positive, metavar="N", help="at most so many splits of each set")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} splits of each set")
    parser.add_argument(
        "--steps", type=_positive, default=STEPS, metavar="N", help="of the search (default %(default)s)"
    )
    parser.add_argument("--minutes", type=float, default=24 * 60.0, help="end after so long; what is done is kept")
    parser.add_argument("--report", action="store_true", help="write the results' section of benchmarks/RESULTS.md")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    main()
