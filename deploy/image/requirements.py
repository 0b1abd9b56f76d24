"""python requirements.py PYPROJECT: prints what serving needs, for pip. The project itself is run from its sources.

With the client of Redis, and with what works on jobs, by way of the project's own client: Compose can bring both along.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text())["project"]
    extras = project["optional-dependencies"]
    print(*project["dependencies"], *extras["serve"], *extras["redis"], *extras["jobs"], sep="\n")
