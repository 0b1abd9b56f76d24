"""Finds, loads and names the compiled kernel. Knows nothing of networks.

There is a library for each kind of processor that the same source runs on, all with the same bits. They lie beside the
source and carry a hash of it in their names, so that one made from another source is never taken for it. Where there is
none, or the processor lacks what they were compiled for, PyTorch evaluates instead.
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
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np


logger = logging.getLogger(__name__)

SOURCES = tuple(Path(__file__).with_name(name) for name in ("kernel.c", "mixtures.c"))


class Build(NamedTuple):
    """What one library is compiled for: a processor, as Clang names it, and how many floats that computes at once."""

    processor: str
    vector: int

    @property
    def flags(self) -> tuple[str, ...]:
        """For Clang. No term may be contracted, reordered or approximated: the bits are those the source spells out."""
        return (
            *("-shared", "-fPIC", "-O3", "-std=c11", "-ffp-contract=off", "-fno-math-errno"),
            *("-Wall", "-Wextra", "-Werror", f"-mcpu={self.processor}", f"-DVECTOR={self.vector}"),
        )

    @property
    def path(self) -> Path:
        """Where this source's library lies, or would lie."""
        named = b"".join(source.read_bytes() for source in SOURCES) + " ".join((*self.flags, sys.platform)).encode()
        digest = hashlib.sha256(named).hexdigest()[:12]
        return Path(__file__).with_name(f"kernel-{platform.machine()}-{self.vector}-{digest}.so")


# Any 64-bit ARM; of x86, servers since 2015 have AVX2, and most of those since 2017 AVX-512.
ARM, AVX2, AVX512 = Build("generic", 8), Build("x86_64_v3", 8), Build("x86_64_v4", 16)
_BUILDS = {"x86_64": (AVX512, AVX2), "aarch64": (ARM,), "arm64": (ARM,)}


def builds() -> tuple[Build, ...]:
    """All that are made for machines like this one; none where the kernel can't run."""
    return _BUILDS.get(platform.machine(), ())


def suitable() -> Build | None:
    """The best of them that this very processor can run."""
    return next(filter(runs_here, builds()), None)


def runs_here(build: Build) -> bool:
    """Whether this very processor has the instructions; PyTorch, which is asked, knows ATEN_CPU_CAPABILITY, too."""
    import torch  # not needed to build

    needed = {AVX512: "AVX512", AVX2: "AVX"}.get(build, "")
    return torch.backends.cpu.get_cpu_capability().startswith(needed)


@cache
def load() -> ctypes.CDLL | None:
    """The library; None where it was not built or can't run here, which is said in the log."""
    build = suitable()
    if build is None:
        logger.warning("the kernel does not run on this processor: PyTorch evaluates, several times slower")
        return None
    if not build.path.is_file():
        logger.warning("the kernel is not built (make kernel): PyTorch evaluates, several times slower")
        return None
    library = ctypes.CDLL(str(build.path))
    library.evaluate.argtypes = [c_void_p, c_char_p, c_int32, c_void_p, c_void_p, c_void_p]
    library.evaluate.restype = None
    library.quantiles.argtypes = [c_void_p, c_void_p, c_int64, c_int32, c_int32, c_void_p, c_int32, c_void_p, c_void_p]
    library.quantiles.restype = None
    library.room.argtypes, library.room.restype = [c_void_p], c_int64
    library.draw.argtypes, library.draw.restype = [c_uint64, c_uint64, c_int32, c_int32, POINTER(c_uint64)], None
    return library


@cache
def vector() -> int:
    """Floats that the kernel computes at once here, and that it wants widths to be multiples of."""
    build = suitable()
    assert build is not None, "networks are laid out for the kernel only where it runs. This is a bug."
    return build.vector


def name() -> str:
    """Which kernel computes here: its source, flags and processor; none where PyTorch does."""
    build = suitable()
    return "none" if build is None or load() is None else build.path.name


def address(array: np.ndarray[Any, Any]) -> int:
    """Where an array's numbers are."""
    found: int = array.__array_interface__["data"][0]
    return found
