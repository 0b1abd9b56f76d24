"""python -m service.telemetry: prints docs/metrics.md."""

from __future__ import annotations

import sys

from service.telemetry.catalogue import markdown

if __name__ == "__main__":
    sys.stdout.write(markdown())
