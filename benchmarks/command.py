"""What most benchmarks are on the command line: measure, print a section, and write it to RESULTS.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from benchmarks.load import NoWrk, Refused
from benchmarks.report import write_section
from benchmarks.servers import Unavailable, bounded


def run(name: str, about: str | None, section: Callable[[bool], str], *, minutes: float) -> None:
    """Makes the section `name`, for which there are so many minutes; `section` is told whether to be quick.

    Ends the process with a line where something that is needed is missing.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    quick: bool = parser.parse_args().quick
    try:
        with bounded(minutes=minutes):
            text = section(quick)
    except (NoWrk, Refused, Unavailable) as error:
        sys.exit(str(error))
    print("\n" + text)
    if not quick:
        write_section(name, text)
