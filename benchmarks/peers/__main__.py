"""Penumbra beside other servers, each as its documentation recommends; it installs them first, if they are not.

    python -m benchmarks.peers                      everything, about 25 minutes; writes its section of RESULTS.md
    python -m benchmarks.peers --quick              one short round; writes nothing
    python -m benchmarks.peers --only triton ray    some peers; writes nothing
    python -m benchmarks.peers --render FILE        writes the section again from raw results

Needs wrk, and Java for TorchServe; a gigabyte of disk for each peer, and more where pip finds a torch for GPUs: with
PIP_EXTRA_INDEX_URL set to PyTorch's CPU package index it does not.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import load, store
from benchmarks.gemm import Floor
from benchmarks.http.floor import as_long_as, bare_server
from benchmarks.identity import differing_answers
from benchmarks.jobs import JOBS, Job, ours
from benchmarks.load import NoWrk, Refused
from benchmarks.peers.agreement import disagreement
from benchmarks.peers.catalogue import HERE, PEERS, SEEDED_JOBS, Peer
from benchmarks.peers.install import install, versions
from benchmarks.peers.report import BARE, OURS, section
from benchmarks.report import write_section
from benchmarks.rounds import Contender, Results, cells, measure, measure_gemm
from benchmarks.servers import Server, Unavailable, bounded, free_ports, penumbra
from benchmarks.timing import machine
from service.settings import usable_cores

SCALE = 0.6
RAW = Path(__file__).parent.parent / ".raw" / "peers.json"
ALL_JOBS = (*JOBS, *SEEDED_JOBS)


@dataclass(frozen=True, slots=True)
class Run:
    """What to measure."""

    peers: Sequence[Peer]
    jobs: Sequence[Job]
    rounds: int
    scale: float
    workers: int
    raw: Path


def main() -> None:
    """Measures, and writes the section."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    parser.add_argument("--only", nargs="+", metavar="PEER", choices=[peer.name for peer in PEERS])
    parser.add_argument("--jobs", nargs="+", metavar="JOB", choices=[job.name for job in ALL_JOBS])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2, help="Penumbra's, and the bare server's")
    parser.add_argument("--json", type=Path, default=RAW, metavar="FILE", help="where raw results go")
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing: the section from raw results")
    given = parser.parse_args()
    if given.render:
        write_section("peers", section(Results.load(given.render), ALL_JOBS, PEERS))
        return
    wanted = Run(
        peers=[peer for peer in PEERS if not given.only or peer.name in given.only],
        jobs=[job for job in ALL_JOBS if not given.jobs or job.name in given.jobs],
        rounds=1 if given.quick else given.rounds,
        scale=SCALE / 2 if given.quick else SCALE,
        workers=given.workers,
        raw=given.json,
    )
    try:
        version = load.version()
    except NoWrk as error:
        sys.exit(str(error))
    results = Results(facts={"machine": machine(), "wrk": version, "workers": given.workers, "peers": {}})
    unavailable = _install(results, wanted.peers)
    with bounded(minutes=75):
        measure_all(results, replace(wanted, peers=[peer for peer in wanted.peers if peer.name not in unavailable]))
    text = section(results, wanted.jobs, wanted.peers)
    print("\n" + text)
    if not (given.quick or given.only or given.jobs):
        write_section("peers", text)


def measure_all(results: Results, wanted: Run) -> None:
    """Starts everything, measures, and ends everything."""
    with ExitStack() as stack:
        # A short name: some put sockets there, whose paths may have about a hundred characters.
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pb-")))
        store.fill(home / "store")
        gemm = stack.enter_context(Floor(usable_cores()))
        service = penumbra(home / "store", home / "penumbra.log", wanted.workers)
        stack.callback(service.stop)
        contenders = [Contender(OURS, service, ours)]
        _warm_up(results, contenders[0])
        lengths = {job.name: len(load.ask(service.port, ours(job))[0]) for job in wanted.jobs}
        bare = bare_server(home / "bare.log", wanted.workers)
        stack.callback(bare.stop)
        for peer in wanted.peers:
            try:
                server = _start(peer, home)
            except Unavailable as error:
                _give_up(results, peer, str(error))
                continue
            stack.callback(server.stop)
            contender = Contender(peer.name, server, peer.speak)
            try:
                if wrong := disagreement(server.port, peer.speak, service.port):
                    _give_up(results, peer, wrong)
                    continue
                _warm_up(results, contender)
                contenders.append(contender)
            except (Refused, OSError, RuntimeError, ValueError, LookupError) as error:
                _give_up(results, peer, f"does not answer as it should: {error}")
            finally:
                server.pause()
        floor = Contender(BARE, bare, as_long_as(lengths), lambda job: job not in SEEDED_JOBS, most_seconds=1.5)
        for number in range(1, wanted.rounds + 1):
            measure(results, [*contenders, floor], cells(wanted.jobs, wanted.scale), number)
            measure_gemm(results, gemm, wanted.jobs)
            results.save(wanted.raw)
        for contender in contenders:
            _check_identity(results, contender)
        results.save(wanted.raw)


def _install(results: Results, peers: Sequence[Peer]) -> set[str]:
    """Makes the environments that are missing; the names of peers that have none."""
    missing = set()
    for peer in peers:
        try:
            install(peer)
            results.facts["peers"][peer.name] = {"versions": versions(peer)}
        except Unavailable as error:
            missing.add(peer.name)
            _give_up(results, peer, str(error))
    return missing


def _start(peer: Peer, home: Path) -> Server:
    print(f"  starting {peer.title} …", flush=True)
    port, *more = free_ports(4)
    folder = home / peer.name
    folder.mkdir()
    own = {"TMPDIR": str(folder), "TEMP": str(folder)}  # what they leave behind goes with the folder
    environment = {"BENCH_STORE": str(home / "store"), "PYTHONPATH": str(HERE), **own, **peer.environment}
    began = time.monotonic()
    command = peer.command_line(port, more, folder)
    server = Server(command, port, home / f"{peer.name}.log", ready=peer.ready, environment=environment)
    print(f"  … ready after {time.monotonic() - began:.1f} s", flush=True)
    return server


def _warm_up(results: Results, contender: Contender) -> None:
    """Some requests of each kind, then a look at what it takes while it has nothing to do."""
    for job in JOBS:
        load.burst(contender.server.port, contender.speak(job), 2, 0.25, slow=job.slow)
    contender.server.observe_idleness()
    at_rest = {"memory": contender.server.memory(), "idle": contender.server.idle}
    results.facts.setdefault("at rest", {})[contender.name] = at_rest


def _give_up(results: Results, peer: Peer, why: str) -> None:
    print(f"  {peer.title}: {why}", flush=True)
    results.facts["peers"].setdefault(peer.name, {})["missing"] = why


def _check_identity(results: Results, contender: Contender) -> None:
    contender.server.resume()
    try:
        found: int | str = differing_answers(contender.server.port, contender.speak)
    except (Refused, OSError) as error:
        found = str(error)
    finally:
        contender.server.settle()
        contender.server.pause()
    print(f"  {contender.name}: differing answers to one request: {found}", flush=True)
    results.facts.setdefault("differing", {})[contender.name] = found


if __name__ == "__main__":
    main()
