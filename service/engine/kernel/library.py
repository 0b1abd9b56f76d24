"""Finds, loads and names the compiled kernel. Knows nothing of networks.

The library lies beside its source and carries a hash of it in its name, so that one made from another source is never
taken for it. Where there is none, or the processor lacks what it was compiled for, PyTorch evaluates instead.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import platform
import sys
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


logger = logging.getLogger(__name__)

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernel.c", "mixtures.c"))
# The instructions that may be used: those of every x86 server since 2015 (AVX2, FMA), or any 64-bit ARM.
_PROCESSORS = {"x86_64": "x86_64_v3", "aarch64": "generic", "arm64": "generic"}
# No term may be contracted, reordered or approximated: the bits are those that the source spells out.
FLAGS = ("-shared", "-fPIC", "-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno", "-Wall", "-Wextra", "-Werror")


def target() -> str | None:
    """The processor to compile for; None where the kernel can't run."""
    return _PROCESSORS.get(platform.machine())


def path() -> Path:
    """Where this source's library for this machine lies, or would lie."""
    named = (
        b"".join(source.read_bytes() for source in SOURCES) + " ".join((*FLAGS, target() or "", sys.platform)).encode()
    )
    return Path(__file__).with_name(f"kernel-{platform.machine()}-{hashlib.sha256(named).hexdigest()[:12]}.so")


@cache
def load() -> ctypes.CDLL | None:
    """The library; None where it was not built or can't run here, which is said in the log."""
    if target() is None or (platform.machine() == "x86_64" and not _has_avx2()):
        logger.warning("the kernel does not run on this processor: PyTorch evaluates, several times slower")
        return None
    if not path().is_file():
        logger.warning("the kernel is not built (make kernel): PyTorch evaluates, several times slower")
        return None
    library = ctypes.CDLL(str(path()))
    library.evaluate.argtypes = [c_void_p, c_char_p, c_int32, c_void_p, c_void_p, c_void_p]
    library.evaluate.restype = None
    library.quantiles.argtypes = [c_void_p, c_void_p, c_int64, c_int32, c_int32, c_void_p, c_int32, c_void_p, c_void_p]
    library.quantiles.restype = None
    library.room.argtypes, library.room.restype = [c_void_p], c_int64
    library.draw.argtypes, library.draw.restype = [c_uint64, c_uint64, c_int32, c_int32, POINTER(c_uint64)], None
    return library


def name() -> str:
    """Which kernel computes here: its source, flags and processor; none where PyTorch does."""
    return path().name if load() is not None else "none"


def _has_avx2() -> bool:
    import torch  # not needed to build

    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


def address(array: np.ndarray[Any, Any]) -> int:
    """Where an array's numbers are."""
    found: int = array.__array_interface__["data"][0]
    return found
