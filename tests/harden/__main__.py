"""python -m tests.harden [NUMBER …]: runs the checks, all or some, and prints them as a table with figures.

All of them at full length also rewrite their section of benchmarks/RESULTS.md. HARDEN_SHARE=0.1 makes loads a tenth as
long. Exits with 1 where one fails; whatever goes wrong with one, the others are run.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import time

from benchmarks.report import write_section
from benchmarks.timing import machine
from tests.harden.checks import CHECKS, Check
from tests.harden.measures import SHARE

_HEAD = "| # | check | held by | |\n| --- | --- | --- | --- |"
_LONGEST = 1800.0  # seconds that the tests of a check may take


def main(numbers: list[int]) -> int:
    """The exit code."""
    print(_HEAD, flush=True)
    began, failed, rows = time.monotonic(), 0, []
    for number in numbers or CHECKS:
        check = CHECKS[number]
        good, said = run(check)
        failed += not good
        by = ", ".join(f"`{name.removeprefix('tests/').partition('::')[0]}`" for name in check.tests) or "–"
        rows.append(f"| {number} | {check.do} | {by} | {said} |")
        print(rows[-1], flush=True)
    if not numbers and SHARE == 1:
        minutes = (time.monotonic() - began) / 60
        write_section("harden", _section("\n".join([_HEAD, *rows]), minutes, failed))
    return int(bool(failed))


def run(check: Check) -> tuple[bool, str]:
    """Whether it holds, and what was seen."""
    if check.open:
        return True, f"open: {check.open}"
    good, said = True, []
    if check.tests:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *check.tests]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_LONGEST)
        except subprocess.TimeoutExpired:
            return False, "**failed**: its tests did not end"
        good = ended.returncode == 0
        said.append((ended.stdout.strip().splitlines() or ["no tests"])[-1].strip("= "))
    if check.measure is not None:
        try:
            figure = check.measure()
        except Exception as error:  # noqa: BLE001 - whatever went wrong with this one, there are others
            return False, f"**failed**: {type(error).__name__}: {str(error).partition(chr(10))[0]}"
        good = good and figure.good
        said.append(("" if figure.good else "**not enough**: ") + figure.said)
    return good, "; ".join(said) if good else f"**failed**: {'; '.join(said)}"


def _section(table: str, minutes: float, failed: int) -> str:
    """What stands in RESULTS.md."""
    held = f"all hold but {failed}, and what is open" if failed else "all hold, but for what is open"
    return (
        f"## The thirty checks\n\n{machine()}; {platform.system()} {platform.release()}.\n\n"
        f"`make harden`, in {minutes:.0f} minutes: {held}. What they are about is in [SECURITY.md](../SECURITY.md).\n"
        "The service has one half of the cores, whoever asks the other. Goodput is answers a second over those at the\n"
        f"peak, which the same callers measure.\n\n{table}\n"
    )


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
