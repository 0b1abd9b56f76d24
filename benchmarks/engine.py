"""The engine against naive loops and against the least that a dense evaluation can cost.

    python -m benchmarks.engine            prints the table and writes it to benchmarks/RESULTS.md
    python -m benchmarks.engine --quick    a shorter run; writes nothing

Model W is 64 → 512 → 512 → 512 → 10 with dropout after each hidden layer; 100 samples; one thread. Every engine run
has a new seed, so that masks are generated, never found in a cache. Milliseconds, and how many times the floor the
engine takes, and the others the engine. *Floor* is the four dense matrix products alone by PyTorch, without biases,
activations, masks or padding, at the faster of two sizes: whole layers, or blocks of 512 rows. *Tiles* is the engine
where the kernel is missing, *loop* a hundred forwards in train mode, *folded* one over a hundred copies of the rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import count

import torch
from torch import Tensor, nn

from benchmarks.report import write_section
from benchmarks.timing import alternate, machine
from models.architecture import ClassificationHead, Mlp
from models.features import Float32
from models.networks import build
from service.engine.evaluate import evaluation, use_one_thread
from service.engine.plan import Network
from service.engine.query import Committee, Query
from service.engine.verify import verified_network
from service.engine.workspace import Workspace

SAMPLES = 100
ROWS = (1, 8, 64, 1024)
PS = (0.1, 0.5)


def model_w(p: float) -> tuple[nn.Module, Network, Network]:
    """The plain module in train mode, and the network compiled for the kernel and for PyTorch."""
    spec = Mlp(inputs=64, hidden=(512, 512, 512), dropout=(p,) * 3, head=ClassificationHead(classes=10))
    module = build(spec)
    tensors = module.eval().state_dict()
    kernel, torch_alone = (verified_network(spec, tensors, kernel=wanted) for wanted in (True, False))
    return module.train(), kernel, torch_alone


def engine(network: Network, rows: Float32) -> Callable[[], object]:
    """A sampling request with a new seed each time."""
    seeds, workspace = count(), Workspace()

    def run() -> object:
        asked = evaluation(network, [Query(rows, Committee(next(seeds), SAMPLES))])
        for stage in asked.stages():
            for piece in stage:
                piece(workspace)
        return asked.outputs

    return run


def loop(module: nn.Module, rows: Tensor) -> Callable[[], object]:
    """A hundred forwards in train mode."""
    return lambda: torch.stack([module(rows) for _ in range(SAMPLES)])


def folded(module: nn.Module, rows: Tensor) -> Callable[[], object]:
    """Rows repeated a hundred times, one forward in train mode."""
    return lambda: module(rows.repeat(SAMPLES, 1)).view(SAMPLES, len(rows), -1)


def floor(rows: int, block: int | None) -> Callable[[], object]:
    """The products alone: the first layer once, the others for every pair of sample and row."""
    pairs = rows * SAMPLES
    block = min(block or pairs, pairs)
    first, hidden, head = torch.randn(64, 512), [torch.randn(512, 512) / 30 for _ in range(2)], torch.randn(512, 10)
    x, h = torch.randn(rows, 64), torch.empty(rows, 512)
    a, b, out = torch.randn(block, 512), torch.empty(block, 512), torch.empty(block, 10)

    def run() -> None:
        torch.mm(x, first, out=h)
        for start in range(0, pairs, block):
            n = min(block, pairs - start)
            torch.mm(a[:n], hidden[0], out=b[:n])
            torch.mm(b[:n], hidden[1], out=a[:n])
            torch.mm(a[:n], head, out=out[:n])

    return run


def main() -> None:
    """The whole comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a shorter run; writes nothing")
    quick = parser.parse_args().quick
    use_one_thread()
    lines = [
        "| p | rows | engine | floor | tiles | loop | folded | ÷ floor | tiles ÷ | loop ÷ | folded ÷ |",
        "| --- |" + " ---: |" * 10,
    ]
    print(machine(), *lines, sep="\n")
    for p in PS:
        module, kernel, torch_alone = model_w(p)
        for rows in ROWS:
            inputs = torch.randn(rows, 64)
            contenders = {
                "engine": engine(kernel, inputs.numpy()),
                "tiles": engine(torch_alone, inputs.numpy()),
                "floor": floor(rows, None),
                "floor in blocks": floor(rows, 512),
                "loop": loop(module, inputs),
                "folded": folded(module, inputs),
            }
            times = alternate(contenders, seconds=1 if quick else 12, least=1 if quick else 3)
            least = min(times["floor"], times["floor in blocks"])
            e, tiles, slow, fold = (times[name] for name in ("engine", "tiles", "loop", "folded"))
            lines.append(
                f"| {p} | {rows} | {e:.2f} | {least:.2f} | {tiles:.2f} | {slow:.1f} | {fold:.1f} "
                f"| {e / least:.2f} | {tiles / e:.2f} | {slow / e:.1f} | {fold / e:.1f} |"
            )
            print(lines[-1], flush=True)
    if not quick:
        about = __doc__[__doc__.index("Model W") :]
        write_section("engine", f"## Engine\n\n{machine()}.\n\n{about}\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
