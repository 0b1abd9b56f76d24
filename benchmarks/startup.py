"""How long until the first correct answer, and how much memory then, beside a bare `import torch`.

    python -m benchmarks.startup                    seven rounds, about two minutes; writes to benchmarks/RESULTS.md
    python -m benchmarks.startup --rounds 1 --dry   writes nothing

Contenders take turns: a Python that imports PyTorch and nothing else, the service with one worker, with two, and both
with a large model. Memory is what all processes of a contender have resident, each shared page divided among those who
share it (PSS), and what one process has to itself (USS). So this process itself must not import PyTorch before the end.
Linux only: reads /proc.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.report import table, write_section
from benchmarks.servers import bounded, free_ports
from service.settings import SHIPPED_STORE

_LARGE_INPUTS, _LARGE_WIDTHS = 16, (2896, 2896, 2896)
_SMALL_BODY = {"inputs": [[0.04, 0.05, 0.06, 0.02, -0.04, -0.03, -0.04, 0.0, 0.02, -0.02]], "samples": 100, "seed": 7}
_LARGE_BODY = {"inputs": [[0.5] * _LARGE_INPUTS], "samples": 10, "seed": 7}
_PATIENCE = 120.0  # seconds
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes resident: in all processes together, and private to each, the least first."""

    together: int
    private: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """One start: seconds from the process's start to what it was started for, and memory then."""

    seconds: float
    memory: Memory


@dataclass(frozen=True, slots=True)
class Asked:
    """A model of a store, what it is asked, and the answer that is correct."""

    name: str
    store: Path
    body: bytes
    answer: bytes | None


def bare() -> Start:
    """A Python that imports PyTorch, says so, and waits."""
    began = time.perf_counter()
    program = "import torch, sys; print('done', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        return Start(time.perf_counter() - began, _memory(process.pid))


def service(workers: int, asked: Asked) -> Start:
    """The service, until it has answered correctly."""
    began = time.perf_counter()
    with _running(asked, workers) as (process, port):
        answer = _answer(process, port, asked)
        seconds = time.perf_counter() - began
        if answer != asked.answer:
            raise RuntimeError("the answer is not the one it should be")
        _settle(process, port, asked, workers)
        return Start(seconds, _memory(process.pid))


@contextmanager
def _running(asked: Asked, workers: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "service", "--store", str(asked.store), "--port", str(port)]
    command += ["--workers", str(workers), "--stop-delay-seconds", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process, port
    finally:
        process.terminate()
        process.wait()


def _answer(process: subprocess.Popen[bytes], port: int, asked: Asked) -> bytes:
    """Asks until there is an answer."""
    end = time.perf_counter() + _PATIENCE
    while time.perf_counter() < end and process.poll() is None:
        with suppress(ConnectionError):
            return _ask(port, asked)
        time.sleep(0.002)
    raise RuntimeError(f"no answer: exit code {process.poll()}")


def _ask(port: int, asked: Asked) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/v1/models/{asked.name}/sample", asked.body, headers)
        response = connection.getresponse()
        body = response.read()
        if response.status != http.client.OK:
            raise RuntimeError(body.decode())
        return body
    finally:
        connection.close()


def _settle(process: subprocess.Popen[bytes], port: int, asked: Asked, workers: int) -> None:
    """Until every worker is up and has answered: a worker that has never computed is smaller than it will be."""
    end = time.perf_counter() + _PATIENCE
    while len(_family(process.pid)) < (workers + 1 if workers > 1 else 1) and time.perf_counter() < end:
        time.sleep(0.02)
    for _ in range(40 * workers):
        _ask(port, asked)


def _family(pid: int) -> list[int]:
    """A process and its children."""
    with suppress(OSError):
        return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return []


def _memory(pid: int) -> Memory:
    together, private = 0, []
    for each in _family(pid):
        sizes = dict.fromkeys(("Pss", "Private_Clean", "Private_Dirty"), 0)
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()[1:]:
            name, size = line.split()[:2]
            if name.rstrip(":") in sizes:
                sizes[name.rstrip(":")] = int(size) * 1024
        together += sizes["Pss"]
        private.append(sizes["Private_Clean"] + sizes["Private_Dirty"])
    return Memory(together, tuple(sorted(private)))


def publish_large(root: Path) -> None:
    """Publishes a model whose weights are worth sharing; runs in a process of its own."""
    import hashlib

    import torch

    from models.architecture import Mlp, RegressionHead
    from models.features import Feature, Target
    from models.manifest import seal
    from models.networks import build
    from models.repository import Repository, serialise

    head = RegressionHead(outputs=1)
    spec = Mlp(inputs=_LARGE_INPUTS, hidden=_LARGE_WIDTHS, dropout=(0.1,) * len(_LARGE_WIDTHS), head=head)
    torch.manual_seed(0)
    weights = serialise(build(spec).state_dict())
    manifest = seal(
        name="large",
        version="1",
        task="regression",
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        inputs=tuple(Feature(name=f"x{i}", range=(-5.0, 5.0)) for i in range(spec.inputs)),
        outputs=(Target(name="y", mean=0.0, scale=1.0),),
        architecture=spec,
    )
    Repository(root).publish(manifest, weights)


def section(starts: dict[str, list[Start]], load: float, large: int) -> str:
    """Markdown of what was seen: medians, and what each has beyond the import; `large` are that model's bytes."""
    from benchmarks.timing import machine

    plain = starts["import torch"]
    rows = []
    for name, seen in starts.items():
        least, most = min(start.seconds for start in seen), max(start.seconds for start in seen)
        rows.append(
            [
                name,
                f"{_seconds(seen):.2f}",
                f"{least:.2f}–{most:.2f}",
                "–" if seen is plain else f"{_seconds(seen) - _seconds(plain):+.2f}",
                f"{_together(seen) / _MIB:.0f}",
                "–" if seen is plain else f"{(_together(seen) - _together(plain)) / _MIB:+.0f}",
                f"{statistics.median(start.memory.private[0] for start in seen) / _MIB:.0f}",
            ]
        )
    header = ("", "seconds", "least–most", "beyond", "MiB together", "beyond", "MiB of one worker's own")
    return f"""## Start-up

{machine()}; load {load:.1f} when it began.

Medians of {len(plain)} rounds, contenders in turns. Seconds are from a process's start to its first correct answer (a
hundred samples of one row; ten of the large model's), or to the end of the import. Memory is resident once every worker
has answered, shared pages divided among those who share them; beside two workers there is a supervisor, which is
counted. The large model has {large / _MIB:.0f} MiB of weights, all of which are verified when it is loaded.

{table(header, rows)}
"""


def _seconds(starts: Sequence[Start]) -> float:
    return statistics.median(start.seconds for start in starts)


def _together(starts: Sequence[Start]) -> float:
    return statistics.median(start.memory.together for start in starts)


def main() -> None:
    """Measures, and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--dry", action="store_true", help="print the section instead of writing it")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    starts: dict[str, list[Start]] = {}
    with bounded(minutes=15), tempfile.TemporaryDirectory() as folder:
        publishing = multiprocessing.get_context("spawn").Process(target=publish_large, args=(Path(folder),))
        publishing.start()
        publishing.join()
        (weights,) = Path(folder).glob("large/1/*.safetensors")
        size = weights.stat().st_size
        small = _asked("diabetes", SHIPPED_STORE, _SMALL_BODY)
        large = _asked("large", Path(folder), _LARGE_BODY)
        contenders: dict[str, Callable[[], Start]] = {
            "import torch": bare,
            "one worker": lambda: service(1, small),
            "two workers": lambda: service(2, small),
            "one worker, large model": lambda: service(1, large),
            "two workers, large model": lambda: service(2, large),
        }
        for number in range(given.rounds):
            for name, contender in contenders.items():
                start = contender()
                starts.setdefault(name, []).append(start)
                print(
                    f"{number}  {name:<26} {start.seconds:6.2f} s  {start.memory.together / _MIB:6.0f} MiB", flush=True
                )
    text = section(starts, load, size)
    if given.dry:
        print(text)
    else:
        write_section("startup", text)


def _asked(name: str, store: Path, body: dict[str, object]) -> Asked:
    """With what a service answers that has been up for long."""
    asked = Asked(name, store, json.dumps(body).encode(), None)
    with _running(asked, 1) as (process, port):
        _answer(process, port, asked)
        return replace(asked, answer=_ask(port, asked))


if __name__ == "__main__":
    main()
