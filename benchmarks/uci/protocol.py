"""The way of a split: learnt in a process of its own, published, loaded by the service, asked about, scored, written.

Nothing here looks at a test row's target before the service has answered.
"""

from __future__ import annotations

import json
import multiprocessing
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.uci.asking import Service, service
from benchmarks.uci.procedure import SAMPLES, STEPS, learn
from benchmarks.uci.scores import Scores, score, summary
from benchmarks.uci.tables import Table, Unreadable
from models.repository import Repository

PROCESSES = 2

Results = dict[str, dict[str, Any]]


class Work(NamedTuple):
    """A split to be done: where the set lies, and where to publish what comes of it."""

    table: Table
    split: int
    store: Path
    steps: int

    @property
    def model(self) -> str:
        """The name under which it is served."""
        return f"{self.table.name}-{self.split}"


def run(sets: list[Table], results: Results, out: Path, splits: int | None, steps: int = STEPS) -> None:
    """Adds to the results, and writes them after every split. Raises Unreadable."""
    planned = [(table, split) for table in sets for split in range(min(table.splits, splits or table.splits))]
    # Split by split, not set by set: whoever ends it early has some of each.
    left = sorted((one for one in planned if one[1] not in _done(results, one[0].name)), key=lambda one: one[1])
    if not left:
        return
    columns = (TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="uci-") as folder,
        service(Path(folder, "store"), Path(folder, "log")) as asked,
        # Not forked: the threads of PyTorch do not survive that.
        ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("uci", total=len(planned), completed=len(planned) - len(left))
        works = [Work(table, split, Path(folder, "store"), steps) for table, split in left]
        training: dict[Future[Any], Work] = {pool.submit(train, work): work for work in works}
        try:
            for done in as_completed(training):
                work = training[done]
                scores = ask(work, asked, *done.result())
                each = sorted([*_each(results, work.table.name), scores], key=lambda one: one.split)
                results[work.table.name] = summary(each)
                write(results, out)
                said = f"{work.model}: rmse {scores.rmse:.4g}, ll {scores.ll:.4f}, {scores.seconds:.0f} s"
                progress.console.print(said, highlight=False)
                progress.update(bar, advance=1)
        except BaseException:
            # The pool would wait for what is in training.
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def train(work: Work) -> tuple[dict[str, float | str], float]:
    """Publishes what the training rows give; what was chosen, and the seconds it took. In a process of its own."""
    began = time.monotonic()
    made = learn(work.table.lesson(work.split), work.model, seed=work.split, steps=work.steps)
    Repository(work.store).publish(made.manifest, made.weights)
    return made.chosen._asdict(), time.monotonic() - began


def ask(work: Work, asked: Service, chosen: dict[str, float | str], seconds: float) -> Scores:
    """Asks the service about the test rows, and only then looks at their targets."""
    began = time.monotonic()
    asked.load(work.model)
    told = asked.ask(work.model, work.table.questions(work.split), SAMPLES, seed=work.split)
    seconds += time.monotonic() - began
    return score(work.table.answers(work.split), told, work.split, chosen, seconds)


def read(path: Path) -> Results:
    """The results so far; none where there is no file. Raises Unreadable."""
    try:
        results: Results = json.loads(path.read_text())
        for name in results:
            _each(results, name)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, ValidationError, TypeError, KeyError, AttributeError) as error:
        raise Unreadable(f"{path} can't be continued: {type(error).__name__}; give another --out") from error
    return results


def write(results: Results, path: Path) -> None:
    """Whole or not at all: an interruption leaves what was there."""
    aside = path.with_name(path.name + ".part")
    aside.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n")
    aside.replace(path)


def _each(results: Results, name: str) -> list[Scores]:
    return [Scores.model_validate(one) for one in results[name]["each"]] if name in results else []


def _done(results: Results, name: str) -> set[int]:
    return {one.split for one in _each(results, name)}
