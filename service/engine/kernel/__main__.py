"""python -m service.engine.kernel: compiles the kernel beside its source, unless that has been done.

All libraries for machines like this one are made, so that an image built here is fast on other processors, too. The
compiler is Clang as the package ziglang brings it, the same everywhere: `pip install ziglang`, at the version in
constraints.txt. Only building needs it.
"""

from __future__ import annotations

import subprocess
import sys

from service.engine.kernel.binaries import SOURCES, Build, builds


def main() -> None:
    """Builds; says what was made, or why not."""
    if not builds():
        print("the kernel does not run on this kind of processor: PyTorch will evaluate")
        return
    wanted = [build.path for build in builds()]
    for build in builds():
        made = "is there" if build.path.exists() else "is built"
        if not build.path.exists():
            compile_library(build)
        print(f"{build.path.name} {made}")
    for other in wanted[0].parent.glob("kernel-*.so"):
        if other not in wanted:
            other.unlink()


def compile_library(build: Build) -> None:
    """Makes one library, which appears as a whole or not at all."""
    unfinished = build.path.with_suffix(".tmp")
    command = [sys.executable, "-m", "ziglang", "cc", *build.flags, "-s", "-o", str(unfinished), *map(str, SOURCES)]
    subprocess.run(command, check=True)
    unfinished.replace(build.path)


if __name__ == "__main__":
    main()
