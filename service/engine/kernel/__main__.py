"""python -m service.engine.kernel: compiles the kernel beside its source, unless that has been done.

The compiler is Clang as the package ziglang brings it, the same everywhere: `pip install ziglang`, at the version in
constraints.txt. Only building needs it.
"""

from __future__ import annotations

import subprocess
import sys

from service.engine.kernel.library import FLAGS, SOURCES, path, target


def main() -> None:
    """Builds; says what was made, or why not."""
    processor, library = target(), path()
    if processor is None:
        print("the kernel does not run on this kind of processor: PyTorch will evaluate")
        return
    if library.exists():
        print(f"{library.name} is there")
        return
    unfinished = library.with_suffix(".tmp")
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        *FLAGS,
        f"-mcpu={processor}",
        "-s",
        "-o",
        str(unfinished),
        *map(str, SOURCES),
    ]
    subprocess.run(command, check=True)
    unfinished.replace(library)
    for other in library.parent.glob("kernel-*.so"):
        if other != library:
            other.unlink()
    print(f"{library.name} is built")


if __name__ == "__main__":
    main()
