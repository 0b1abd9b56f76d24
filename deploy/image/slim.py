"""python slim.py SITE_PACKAGES: takes out of an installation what serving never loads; prints what that freed.

Headers, static libraries, tests and their programs, stubs for type checkers, what only compiling needs, symbol tables.
What stays is what a fresh installation has: nothing is rebuilt. Needs `strip`. Knows nothing of images.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

# A pattern that fits nothing is an error: the list would otherwise go stale unseen.
UNUSED = (
    "torch/bin/*",
    "torch/include",
    "torch/lib/*_test.so",
    "torch/lib/libaoti_custom_ops.so",
    "torch/lib/libbackend_with_compiler.so",
    "torch/share",
    "torch/test",
    "torch/testing/_internal/*",
    "numpy/**/tests",
    "numpy/_core/include",
    "numpy/**/*.a",
    "**/*.pyi",
    # What torch.compile reasons with, and what builds extensions: nothing is compiled in an image.
    "mpmath*",
    "networkx*",
    "sympy*",
    "isympy.py",
    "setuptools*",
    "_distutils_hack",
    "distutils-precedence.pth",
)
# Looked for, or imported, by `import torch`.
NEEDED = (
    "torch/bin/torch_shm_manager",
    "torch/testing/_internal/__init__.py",
    "torch/testing/_internal/common_dtype.py",
    "torch/testing/_internal/logging_tensor.py",
)
# Most of their symbols are for debuggers; those that are linked against stay. As patterns, likewise.
STRIPPED = (
    "torch/lib/libtorch_cpu.so",
    "torch/lib/libtorch_python.so",
    "torch/lib/libc10.so",
    "uvloop/*.so",
    "obstore/*.so",
    "httptools/parser/*.so",
)


def slim(packages: Path) -> None:
    """Removes and strips in place. Raises FileNotFoundError for a pattern that fits nothing."""
    before = size(packages)
    needed = {packages / name for name in NEEDED}
    unused, stripped = ({pattern: set(packages.glob(pattern)) for pattern in listed} for listed in (UNUSED, STRIPPED))
    for pattern, found in {**unused, **stripped}.items():
        if not found - needed:
            raise FileNotFoundError(f"{packages} has nothing like {pattern}: mend the list")
    for path in set().union(*unused.values()) - needed:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)  # gone with its folder
    for library in set().union(*stripped.values()):
        subprocess.run(["strip", "--strip-unneeded", library], check=True)
    print(f"{packages}: {before >> 20} MiB, slimmed to {size(packages) >> 20} MiB")


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


if __name__ == "__main__":
    slim(Path(sys.argv[1]))
