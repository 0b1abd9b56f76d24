"""The section on peers in RESULTS.md, from raw results. Measures nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.jobs import Job
from benchmarks.peers.catalogue import Peer
from benchmarks.report import figure, ratio, table
from benchmarks.rounds import Results

OURS, BARE = "penumbra", "bare"
_ABOUT = """\
Models, jobs and floors are those of the section above; all servers have the same weights, and their predictions were
compared before anything was measured. Peers repeat the rows a hundred times and run one forward with dropout switched
on, or a loop where the name says so; they answer mean and standard deviation over the samples. Penumbra answers all it
always does, with {workers}, and every sampling request to it has a seed of its own. Peers are asked *without* seeds,
which lets them batch freely, the harder comparison; and once more with seeds honoured by `torch.manual_seed`, one
request at a time. All run on the same cores as wrk, on the same Python, with one torch thread in each of two workers.
Contenders take turns burst by burst; figures are medians over the rounds, rates per second, times in milliseconds."""
_ABOUT_LIST = """\
*The same under load*: of 30 answers to one seeded request, sent while sixteen connections ask for other things, whether
all are the same bytes. MB: memory of all processes after some requests, shared pages divided among those who
share; idle: of one core, while nobody asks. Who keeps a core busy then was paused while others were measured."""


def section(results: Results, jobs: Sequence[Job], peers: Sequence[Peer]) -> str:
    """The whole section, Markdown."""
    jobs = [job for job in jobs if any(seen["job"] == job.name for seen in results.bursts)]
    facts = results.facts
    present = [peer for peer in peers if "missing" not in facts["peers"].get(peer.name, {"missing": ""})]
    workers = f"{facts['workers']} worker{'s' if facts['workers'] > 1 else ''}"
    parts = [
        "## Beside other servers",
        f"{facts['machine']}; {facts['wrk']}.",
        _ABOUT.format(workers=workers),
        "### At a glance",
        "At the highest concurrency of each job; *p99* is Penumbra's, *peer's p99* that of the best peer.",
        _glance(results, jobs, present),
    ]
    for job in jobs:
        parts += [f"### {job.title}", _job(results, job, present)]
    parts += ["### The servers", _ABOUT_LIST, _servers(results, present)]
    missing = [peer for peer in peers if facts["peers"].get(peer.name, {}).get("missing")]
    if missing:
        reasons = "\n".join(f"- {peer.title}: {facts['peers'][peer.name]['missing']}" for peer in missing)
        parts += ["### Not measured, and why", reasons]
    if results.complaints:
        parts += ["### What went wrong", "\n".join(f"- {complaint}" for complaint in results.complaints)]
    return "\n\n".join(parts)


def _glance(results: Results, jobs: Iterable[Job], peers: Sequence[Peer]) -> str:
    rows = []
    for job in jobs:
        place = (job.name, max(job.connections))
        ours, bare = (results.median(name, *place, "rate") for name in (OURS, BARE))
        gemm = results.gemm_rate(job)
        both = 1 / (1 / bare + 1 / gemm) if bare and gemm else None
        rated = [(results.median(peer.name, *place, "rate") or 0.0, peer) for peer in peers]
        best_rate, best = max(rated, key=lambda pair: pair[0], default=(None, None))
        p99, best_p99 = (results.median(name, *place, "p99") for name in (OURS, best.name if best else ""))
        rows.append(
            [
                job.title,
                str(place[1]),
                figure(ours),
                f"{figure(best_rate)} ({best.title})" if best and best_rate else "–",
                ratio(ours, best_rate),
                *map(figure, (bare, gemm, both)),
                ratio(ours, bare),
                ratio(ours, both),
                *map(figure, (p99, best_p99)),
            ]
        )
    header = ["job", "conn.", "Penumbra", "best peer", "÷ peer", "bare", "GEMM", "both", "÷ bare", "÷ both", "p99"]
    return table([*header, "peer's p99"], rows)


def _job(results: Results, job: Job, peers: Iterable[Peer]) -> str:
    """Every contender at every concurrency."""
    named = [(OURS, "**Penumbra**"), *((peer.name, peer.title) for peer in peers), (BARE, "*bare*")]
    ours = results.median(OURS, job.name, max(job.connections), "rate")
    rows = []
    for name, title in named:
        cells = []
        for connections in job.connections:
            seen = [results.median(name, job.name, connections, what) for what in ("rate", "p50", "p99")]
            cells += [f"**{figure(seen[0])}**" if name == OURS else figure(seen[0]), *map(figure, seen[1:])]
        theirs = results.median(name, job.name, max(job.connections), "rate")
        rows.append([title, *cells, "" if name == OURS else ratio(ours, theirs)])
    header = [part for connections in job.connections for part in (f"{connections}: rate", "p50", "p99")]
    return table(["connections", *header, "Penumbra ÷"], [row for row in rows if set(row[1:]) != {"–"}])


def _servers(results: Results, peers: Iterable[Peer]) -> str:
    facts = results.facts
    rows = [["**Penumbra**", "", f"{facts['workers']} workers", *_at_rest(results, OURS), ""]]
    for peer in peers:
        named = ", ".join(f"{name} {version}" for name, version in facts["peers"][peer.name]["versions"].items())
        file = f"[{peer.file}](peers/servers/{peer.file})"
        rows.append([peer.title, named, peer.configuration, *_at_rest(results, peer.name), file])
    return table(["server", "versions", "as", "the same under load", "MB", "idle %", "code"], rows)


def _at_rest(results: Results, name: str) -> list[str]:
    differing = results.facts.get("differing", {}).get(name)
    said = "–" if differing is None else "yes" if differing == 0 else f"no: {differing}"
    seen = results.facts.get("at rest", {}).get(name)
    return [said, f"{seen['memory'] / 1e6:,.0f}", f"{seen['idle']:.0%}"] if seen else [said, "–", "–"]
