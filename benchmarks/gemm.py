"""The GEMM floor: how many requests a second the cores could do if a request were its matrix products and nothing else.

    python -m benchmarks.gemm          lines "WIDTHS ROWS SAMPLES SECONDS" in, lines "REQUESTS SECONDS" out

Dense products only, without biases, activations, masks or padding: the first layer once per row, the others once per
sample and row, at the faster of two sizes: whole layers, or blocks of 512. One process with one thread for each core.
`Floor` is the side of the benchmark; it knows nothing of servers.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from types import TracebackType
from typing import Self

import torch

BLOCK = 512


class Floor:
    """As many processes as there are cores, measured at the same time."""

    def __init__(self, cores: int) -> None:
        self._processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gemm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(cores)
        ]

    def rate(self, widths: Sequence[int], rows: int, samples: int, seconds: float) -> float:
        """Requests per second of all of them together; `samples` 0 is a prediction."""
        line = f"{','.join(map(str, widths))} {rows} {samples} {seconds}\n"
        for process in self._processes:
            assert process.stdin
            process.stdin.write(line)
            process.stdin.flush()
        total = 0.0
        for process in self._processes:
            assert process.stdout
            requests, took = map(float, process.stdout.readline().split())
            total += requests / took
        return total

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


def products(widths: Sequence[int], rows: int, samples: int, block: int | None) -> Callable[[], None]:
    """The products of one request, as a function to call again and again."""
    shapes = list(pairwise(widths))
    pairs = rows * (samples or 1)
    block = min(block or pairs, pairs)
    weights = [torch.randn(shape) / shape[0] ** 0.5 for shape in shapes]
    first, first_out = torch.randn(rows, widths[0]), torch.empty(rows, widths[1])
    results = [torch.empty(block, width) for width in widths[2:]]
    sources = [torch.randn(block, widths[1]), *results[:-1]]
    sizes = [min(block, pairs - start) for start in range(0, pairs, block)]
    steps = [
        [(a[:n], weight, out[:n]) for a, weight, out in zip(sources, weights[1:], results, strict=True)] for n in sizes
    ]

    def run() -> None:
        torch.mm(first, weights[0], out=first_out)
        for step in steps:
            for a, weight, out in step:
                torch.mm(a, weight, out=out)

    return run


def _serve() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        listed, rows, samples, seconds = line.split()
        widths = [int(width) for width in listed.split(",")]
        sizes = [products(widths, int(rows), int(samples), block) for block in (None, BLOCK)]
        each = float(seconds) / 2
        requests, took = max((_count(run, each) for run in sizes), key=lambda seen: seen[0] / seen[1])
        print(requests, took, flush=True)


def _count(run: Callable[[], None], seconds: float) -> tuple[int, float]:
    run()
    done, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        run()
        done += 1
    return done, took


if __name__ == "__main__":
    _serve()
