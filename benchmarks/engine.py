"""The engine against naive loops and against the least that a dense evaluation can cost.

    python -m benchmarks.engine            prints the table and writes it to benchmarks/RESULTS.md
    python -m benchmarks.engine --quick    a shorter run; writes nothing

Model W is 64 → 512 → 512 → 512 → 10 with dropout after each hidden layer; 100 samples; one thread. Every engine run
has a new seed, so that masks are generated, never found in a cache. The floor is the four matrix products alone,
without biases, activations, masks or padding, at the faster of two sizes: whole layers, or blocks of 512 rows.
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
from service.engine.cost import Way
from service.engine.evaluate import Evaluation, use_one_thread
from service.engine.plan import Network, RowPlan, compile_network
from service.engine.query import Committee, Query
from service.engine.tiles import Workspace
from service.engine.verify import with_verified_plan

SAMPLES = 100
ROWS = (1, 8, 64, 1024)
PS = (0.1, 0.5)


def model_w(p: float) -> tuple[nn.Module, Network]:
    """The plain module in train mode, and the compiled network."""
    spec = Mlp(inputs=64, hidden=(512, 512, 512), dropout=(p,) * 3, head=ClassificationHead(classes=10))
    module = build(spec)
    network = compile_network(spec, module.eval().state_dict(), RowPlan("aligned", 16))
    return module.train(), with_verified_plan(network)


def engine(network: Network, rows: Float32, way: Way | None = None) -> Callable[[], object]:
    """A sampling request with a new seed each time."""
    seeds, workspace = count(), Workspace()

    def run() -> object:
        evaluation = Evaluation(network, [Query(rows, Committee(next(seeds), SAMPLES))], way=way)
        for stage in evaluation.stages():
            for piece in stage:
                piece(workspace)
        return evaluation.outputs

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
        "| p | rows | engine ms | floor ms | loop ms | folded ms | engine ÷ floor | loop ÷ engine | folded ÷ engine |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    print(machine(), *lines, sep="\n")
    for p in PS:
        module, network = model_w(p)
        for rows in ROWS:
            inputs = torch.randn(rows, 64)
            contenders = {
                "engine": engine(network, inputs.numpy()),
                "floor": floor(rows, None),
                "floor in blocks": floor(rows, 512),
                "loop": loop(module, inputs),
                "folded": folded(module, inputs),
            }
            times = alternate(contenders, seconds=1 if quick else 12, least=1 if quick else 3)
            least = min(times["floor"], times["floor in blocks"])
            e, slow, fold = times["engine"], times["loop"], times["folded"]
            lines.append(
                f"| {p} | {rows} | {e:.2f} | {least:.2f} | {slow:.1f} | {fold:.1f} "
                f"| {e / least:.2f} | {slow / e:.1f} | {fold / e:.1f} |"
            )
            print(lines[-1], flush=True)
    if not quick:
        about = __doc__[__doc__.index("Model W") :]
        write_section("engine", f"## Engine\n\n{machine()}.\n\n{about}\n" + "\n".join(lines))


if __name__ == "__main__":
    main()
