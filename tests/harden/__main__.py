"""python -m tests.harden [NUMBER …]: runs the checks, all or some, and prints them as a table with figures.

HARDEN_SHARE=0.1 makes loads a tenth as long. Exits with 1 where one fails.
"""

from __future__ import annotations

import subprocess
import sys

from tests.harden.checks import CHECKS, Check


def main(numbers: list[int]) -> int:
    """The exit code."""
    print("| # | check | held by | |\n| --- | --- | --- | --- |", flush=True)
    failed = 0
    for number in numbers or CHECKS:
        check = CHECKS[number]
        good, said = run(check)
        failed += not good
        by = ", ".join(f"`{name.removeprefix('tests/').partition('::')[0]}`" for name in check.tests) or "–"
        print(f"| {number} | {check.do} | {by} | {said} |", flush=True)
    return int(bool(failed))


def run(check: Check) -> tuple[bool, str]:
    """Whether it holds, and what was seen."""
    if check.open:
        return True, f"open: {check.open}"
    good, said = True, []
    if check.tests:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *check.tests]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
        good = ended.returncode == 0
        said.append(ended.stdout.strip().splitlines()[-1])
    if check.measure is not None:
        figure = check.measure()
        good = good and figure.good
        said.append(("" if figure.good else "**not enough**: ") + figure.said)
    return good, "; ".join(said) if good else f"**failed**: {'; '.join(said)}"


if __name__ == "__main__":
    sys.exit(main([int(word) for word in sys.argv[1:]]))
