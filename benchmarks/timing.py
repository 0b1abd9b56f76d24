"""Side-by-side timing: contenders take turns, so that a noisy moment hits all of them, and medians are compared."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from service.settings import usable_cores

BURST = 0.05


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    seconds: float,
    least: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median milliseconds of each contender, over turns that take about `seconds` in all and at least `least`.

    By another clock than the usual, time can be what a thread spent on a processor. A turn is a burst of at least BURST
    seconds, its first run not counted: steady state, not what the one before left in the caches.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    turns, end = 0, time.perf_counter() + seconds
    while turns < least or time.perf_counter() < end:
        turns += 1
        for name, contender in contenders.items():
            contender()
            burst_end = time.perf_counter() + BURST
            while True:
                began = clock()
                contender()
                times[name].append((clock() - began) * 1e3)
                if time.perf_counter() > burst_end:
                    break
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> str:
    """What the figures were measured on."""
    cpu = platform.processor() or platform.machine()
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        models = [line.partition(":")[2].strip() for line in listing.read_text().splitlines() if "model name" in line]
        cpu = models[0] if models else cpu
    return (
        f"{cpu}, {usable_cores()} cores, {torch.backends.cpu.get_cpu_capability()}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, NumPy {np.__version__}"
    )
