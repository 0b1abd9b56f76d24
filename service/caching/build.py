"""A name for all that makes an answer's bytes besides the request and the model: sources, libraries, processor.

Machines that share answers must be alike in it; those that differ share nothing, and know nothing of each other. It is
told apart more often than necessary, and never too rarely.
"""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from pathlib import Path

import numpy as np
import orjson
import torch

from penumbra import __version__
from service.engine.kernel import binaries

_ROOT = Path(__file__).resolve().parents[2]


@cache
def name() -> str:
    """32 hexadecimal digits; takes some milliseconds the first time."""
    hasher = hashlib.sha256()
    for part in (
        __version__,
        platform.python_version(),
        torch.__version__,
        torch.__config__.show(),
        np.__version__,
        orjson.__version__,
        torch.backends.cpu.get_cpu_capability(),
        platform.machine(),
        platform.system(),
        *platform.libc_ver(),
        binaries.name(),
    ):
        hasher.update(part.encode() + b"\0")
    for source in sorted(path for room in ("models", "service") for path in (_ROOT / room).rglob("*.py")):
        hasher.update(os.fsencode(source.relative_to(_ROOT)) + b"\0" + source.read_bytes())
    return hasher.hexdigest()[:32]
