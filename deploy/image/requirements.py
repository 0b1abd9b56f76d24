"""python requirements.py PYPROJECT [EXTRA,…]: prints what serving needs, and what these extras do besides, for pip.

The project itself is run from its sources.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
    extras = project["optional-dependencies"]
    names = ["serve", *filter(None, "".join(sys.argv[2:]).split(","))]
    if unknown := [name for name in names if name not in extras]:
        sys.exit(f"there is no extra {unknown[0]}; there are: {', '.join(extras)}")
    print(*project["dependencies"], *(line for name in names for line in extras[name]), sep="\n")
