"""python requirements.py PYPROJECT: prints what serving needs, for pip. The image has no package of the project."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
    print(*project["optional-dependencies"]["serve"], sep="\n")
