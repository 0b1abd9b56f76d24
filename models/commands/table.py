"""python -m models train TABLE: from a file to a published version, told step by step."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from rich.markup import escape
from rich.table import Table as Lines

from models.commands.console import errors, output, progress, publish
from models.commands.figures import comparison, coverage, lines_of
from models.data import describe_inputs
from models.features import Boolean, Category, Input
from models.manifest import NAME_PATTERN, Manifest
from models.repository import Repository
from models.tables import fitting, report
from models.tables.errors import UnusableTable, shown
from models.tables.preparing import TaskChoice, Wanted, prepare
from models.tables.reading import read_table
from models.training import Recipe, train

_BAR = 30  # characters


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line says."""

    path: Path
    wanted: Wanted
    name: str | None = None
    missing: tuple[str, ...] = ()
    hidden: tuple[int, ...] = fitting.HIDDEN_WIDTHS
    p: float = fitting.P
    seed: int = 0
    epochs: int = fitting.HYPERPARAMETERS.max_epochs
    search_minutes: float = 0.0
    plot: Path | None = None


def task_choice(text: str) -> TaskChoice:
    """One of the tasks, or auto. Raises UnusableTable."""
    for choice in ("auto", "regression", "classification"):
        if text == choice:
            return choice
    raise UnusableTable(f"--task must be regression or classification, not {shown(text)}")


def train_table(asked: Asked, repository: Repository) -> None:
    """Trains a version, publishes it unless it is there, and prints what became of the table.

    Raises UnusableTable or Diverged.
    """
    name = _name(asked)
    hyper = replace(fitting.HYPERPARAMETERS, seed=asked.seed, max_epochs=asked.epochs)
    table = read_table(asked.path, asked.missing)
    prepared = prepare(table, asked.wanted, hyper.seed, hyper.validation_fraction, hyper.test_fraction)
    dataset = prepared.dataset
    parts = fitting.parts_of(dataset, hyper)
    what = ", ".join(asked.wanted.targets)
    recipe = fitting.recipe_of(
        name, f"{what}, learnt from {asked.path.name}.", dataset, hidden=asked.hidden, p=asked.p, hyperparameters=hyper
    )
    sizes = f"{len(parts.train)} training, {len(parts.validation)} validation, {len(parts.test)} test"
    output.print(f"[bold]{escape(asked.path.name)}[/]: {len(dataset.inputs)} rows ({sizes})", highlight=False)
    output.print(_columns(describe_inputs(dataset, parts.train)))
    for note in prepared.notes:
        output.print(f"  {note}", style="dim", markup=False, highlight=False, soft_wrap=True)
    if asked.search_minutes > 0:
        recipe = _search(recipe, asked.search_minutes * 60)
    with progress(recipe, errors) as show:
        trained = train(recipe, repository.next_version(name), show)
    points = report.reliability(trained, dataset, parts)
    manifest = trained.manifest.model_copy(
        update={"metrics": trained.manifest.metrics | {"reliability": [point.as_json() for point in points]}}
    )
    manifest = publish(repository, manifest, trained.weights)
    output.print(comparison(manifest))
    for sentence in coverage(manifest):
        output.print(f"  {sentence}", highlight=False, soft_wrap=True)
    output.print(_reliability(points, manifest))
    if asked.plot is not None:
        report.plot(points, manifest.task, f"{name} version {manifest.version}", asked.plot)
        output.print(f"reliability diagram: {escape(str(asked.plot))}", highlight=False, soft_wrap=True)


def _name(asked: Asked) -> str:
    """The model's name: as it is given, or the file's with what names can't have replaced."""
    name = asked.name or re.sub(r"[^A-Za-z0-9._-]+", "-", asked.path.stem).strip("-._")
    if not re.fullmatch(NAME_PATTERN, name):
        raise UnusableTable(
            f"{shown(name)} can't be the name of a model: letters, digits, dots, dashes and underscores can, at most 64"
        )
    if asked.plot is not None and asked.plot.suffix not in (".png", ".svg", ".pdf"):
        raise UnusableTable(f"--plot must end with .png, .svg or .pdf, not {shown(asked.plot.name)}")
    if asked.plot is not None and not asked.plot.parent.is_dir():
        raise UnusableTable(f"--plot: there is no folder {asked.plot.parent}")
    return name


def _search(recipe: Recipe, seconds: float) -> Recipe:
    output.print(f"searching for {seconds / 60:g} minutes; the loss is that of the validation rows:")

    def tell(tried: fitting.Tried) -> None:
        loss = "nothing" if tried.loss is None else f"{tried.loss:.4f}"
        line = f"  {tried.number:3} {_spec(tried.recipe)}: {loss}{'  best so far' if tried.best else ''}"
        output.print(line, highlight=False)

    with progress(recipe, errors) as show:
        return fitting.search(recipe, seconds, tell, show)


def _spec(recipe: Recipe) -> str:
    spec, hyper = recipe.architecture, recipe.hyperparameters
    widths = "-".join(map(str, getattr(spec, "hidden", ())))
    return f"{widths} p {spec.dropout[0]:g}, weight decay {hyper.weight_decay:g}, rate {hyper.learning_rate:g}"


def _columns(inputs: tuple[Input, ...]) -> Lines:
    lines = lines_of("column", "kind", "")
    for each in inputs:
        match each:
            case Category(categories=categories):
                said = ", ".join(shown(name, 15) for name in categories[:4]) + (", …" if len(categories) > 4 else "")
                lines.add_row(escape(each.name), f"{len(categories)} categories", escape(said))
            case Boolean():
                lines.add_row(escape(each.name), "boolean", "may be missing" if each.missing else "")
            case _:
                low, high = each.limits
                said = f"{low:g} … {high:g}" + (", may be missing" if each.missing else "")
                lines.add_row(escape(each.name), "number", said)
    return lines


def _reliability(points: list[report.Point], manifest: Manifest) -> Lines:
    """Levels against coverage, or confidence against accuracy, as the service answers when it is not told otherwise."""
    if manifest.task == "classification":
        headers = ("confidence", "accuracy")
    else:
        kind = "predictive" if manifest.calibration.conformal is None else "conformal"
        headers = (f"{kind} interval", "coverage")
    lines = lines_of(*headers, "")
    for point in points:
        filled = round(point.observed * _BAR)
        at = min(_BAR - 1, round(point.claimed * _BAR))
        bar = "█" * filled + "·" * (_BAR - filled)
        lines.add_row(f"{point.claimed:.0%}", f"{point.observed:.0%}", bar[:at] + "│" + bar[at + 1 :])
    return lines
