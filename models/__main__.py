"""python -m models: train · calibrate · list · describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.description import Description, describe_architecture
from models.features import InvalidRows
from models.manifest import DEFAULT_SAMPLES, Manifest
from models.repository import CorruptVersion, Repository, RepositoryError

if TYPE_CHECKING:
    from models.held_out import HeldOut
    from models.training import Epoch, Recipe

DEFAULT_STORE = Path(__file__).resolve().parent / "store"
# By their files: importing them would make every command wait for scikit-learn.
RECIPES = sorted(
    path.stem.replace("_", "-") for path in Path(__file__).with_name("recipes").glob("*.py") if path.stem != "__init__"
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train networks, and look at the ones in the store.",
)
output = Console()
errors = Console(stderr=True)

StoreOption = Annotated[
    Path, typer.Option("--store", envvar="PENUMBRA_STORE", help="Directory that holds the models.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("train")
def train_command(
    names: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE", help=f"One or more of {', '.join(RECIPES)}; or all.", show_default=False),
    ],
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Train recipes and publish what comes out as new versions.

    A recipe says which data, which network, and how to train it; each is a small file in models/recipes.

    The same recipe gives the same digest, and a version that exists already is not published twice.
    """
    from models.recipes import recipes
    from models.training import Diverged

    known = recipes()
    if unknown := [name for name in names if name not in known and name != "all"]:
        _fail(f"there is no recipe {unknown[0]!r}; there are: {', '.join(known)}, or all of them: all")
    try:
        store.mkdir(parents=True, exist_ok=True)  # found out before training, not after
    except OSError as error:
        _fail(f"{store} can't hold models: {error.strerror}")
    for name in known if "all" in names else names:
        try:
            manifest, published = _train(known[name], Repository(store))
        except Diverged as error:
            _fail(str(error))
        word = "published as" if published else "the same as before:"
        output.print(f"[bold]{name}[/] {word} version {manifest.version}  {manifest.digest}")
        output.print(_figures(manifest), style="dim", highlight=False)


@app.command("calibrate")
def calibrate_command(
    name: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="A model; its newest version by default.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE.csv",
            help="Rows that it was not trained with: columns named like its inputs, and its outputs, or one with the "
            "names of classes. Without it: the validation rows of its recipe.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", min=2, max=10_000, help="How many samples intervals and sets are to hold for.")
    ] = DEFAULT_SAMPLES,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Fit a version's noise, temperature and conformal quantiles again, and publish it as a new version.

    The weights stay as they are. Intervals and prediction sets hold for requests with as many samples as are given
    here; that becomes the version's default.
    """
    from models.calibrating import calibrated
    from models.held_out import Unusable, of_file

    name, _, version = name.partition("/")
    repository = Repository(store)
    try:
        model = repository.load(name, version or None)
        held = of_file(data, model.manifest) if data is not None else _validation_rows(model.manifest)
        manifest, weights = calibrated(model, held, repository.next_version(name), samples)
    except (RepositoryError, Unusable, InvalidRows) as error:
        _fail(str(error))
    published = manifest.digest != model.manifest.digest
    if published:
        repository.publish(manifest, weights)
    word = "published as" if published else "the same as before:"
    output.print(
        f"[bold]{name}[/] {word} version {(manifest if published else model.manifest).version}  {manifest.digest}"
    )
    output.print(_calibration(manifest, len(held.inputs)), style="dim", highlight=False)


@app.command("list")
def list_command(store: StoreOption = DEFAULT_STORE, as_json: JsonOption = False) -> None:
    """List the models in the store, with every version."""
    repository = Repository(store)
    lines = [_line(repository, name, version) for name in repository.names() for version in repository.versions(name)]
    if as_json:
        output.print_json(json.dumps(lines))
        return
    if not lines:
        output.print(f"no models in {escape(str(store))}; train one: python -m models train all", soft_wrap=True)
        return
    table = Table(box=None, header_style="bold")
    columns = ("name", "version", "task", "inputs", "outputs", "parameters")
    for column in (*columns, "digest"):
        table.add_column(column, overflow="fold", no_wrap=column != "name")
    for line in lines:
        # The beginning of a digest tells versions apart; all of it stands in the JSON and in `describe`.
        start = line.get("digest", "").removeprefix("sha256:")[:8]
        table.add_row(*(str(line.get(column, "")) for column in columns), start)
    output.print(table)
    for line in lines:
        if "error" in line:
            errors.print(f"[red]corrupt:[/] {escape(line['error'])}", highlight=False, soft_wrap=True)


@app.command("describe")
def describe_command(
    name: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="A model; its newest version by default.")],
    store: StoreOption = DEFAULT_STORE,
    as_json: JsonOption = False,
) -> None:
    """Show a model's layers, its dropout sites, and what a row and a sample cost."""
    name, _, version = name.partition("/")
    try:
        model = Repository(store).load(name, version or None)
    except RepositoryError as error:
        _fail(str(error))
    description = describe_architecture(model.manifest.architecture)
    if as_json:
        output.print_json(
            json.dumps({"name": name, "version": model.manifest.version, "digest": model.manifest.digest}
                       | description.as_json())
        )  # fmt: skip
        return
    _print_description(model.manifest, description)


def main() -> None:
    """The command line."""
    app(prog_name="python -m models")


def _train(recipe: Recipe, repository: Repository) -> tuple[Manifest, bool]:
    """The version that this recipe gives, and whether it is new."""
    from models.training import train

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs · validation loss {task.fields[loss]} · best {task.fields[best]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as progress:
        bar = progress.add_task(recipe.name, total=recipe.hyperparameters.max_epochs, loss="–", best="–")

        def show(epoch: Epoch) -> None:
            loss, best = f"{epoch.validation_loss:.4f}", f"{epoch.best_loss:.4f}"
            progress.update(bar, completed=epoch.number, loss=loss, best=best)

        trained = train(recipe, repository.next_version(recipe.name), show)
    newest = _newest(repository, recipe.name)
    if newest is not None and newest.digest == trained.manifest.digest:
        return newest, False
    repository.publish(trained.manifest, trained.weights)
    return trained.manifest, True


def _newest(repository: Repository, name: str) -> Manifest | None:
    """The newest version's manifest; None where there is none, or where it is broken."""
    try:
        return repository.load(name).manifest
    except RepositoryError:
        return None


def _figures(manifest: Manifest) -> str:
    test = ", ".join(f"{name} {value:.4g}" for name, value in manifest.metrics["test"].items())
    plain = "; ".join(
        f"{method} {name} {value:.4g}"
        for method, figures in manifest.metrics["baseline"].items()
        for name, value in figures.items()
    )
    return f"  on held-out rows: {test}\n  plain methods on the same rows: {plain}"


def _validation_rows(manifest: Manifest) -> HeldOut:
    from models.held_out import of_dataset
    from models.recipes import recipes

    made_by = str(manifest.provenance.get("recipe"))
    if (recipe := recipes().get(made_by)) is None:
        _fail(f"{manifest.name} was not made by a recipe: give rows that it was not trained with, --data FILE.csv")
    dataset = recipe.load()
    return of_dataset(dataset, recipe.split(len(dataset.inputs)))


def _calibration(manifest: Manifest, rows: int) -> str:
    calibration, facts = manifest.calibration, []
    if manifest.noise_variance is not None:
        facts.append("noise " + ", ".join(f"{variance**0.5:.4g}" for variance in manifest.noise_variance))
    if calibration.temperature is not None:
        facts.append(f"temperature {calibration.temperature:.4g}")
    if calibration.conformal is not None:
        quantiles = ("–" if found is None else f"{found:.4g}" for found in calibration.conformal.at(0.9))
        facts.append(f"conformal quantile at 90 % {', '.join(quantiles)}, for {calibration.conformal.samples} samples")
    return f"  from {rows} rows: " + "; ".join(facts)


def _line(repository: Repository, name: str, version: str) -> dict[str, Any]:
    try:
        manifest = repository.load(name, version).manifest
    except CorruptVersion as error:
        return {"name": name, "version": version, "task": "corrupt", "error": str(error)}
    return {
        "name": name,
        "version": version,
        "task": manifest.task,
        "inputs": len(manifest.inputs),
        "outputs": len(manifest.outputs),
        "parameters": describe_architecture(manifest.architecture).parameters,
        "digest": manifest.digest,
    }


def _print_description(manifest: Manifest, description: Description) -> None:
    output.print(f"[bold]{manifest.name}[/] version {manifest.version}, {manifest.task}", highlight=False)
    output.print(manifest.description, markup=False)
    output.print(manifest.digest, style="dim", highlight=False)
    table = Table("layer", "kind", "in", "out", "parameters", "p", box=None, header_style="bold")
    for layer in description.layers:
        table.add_row(*("" if value is None else str(value) for value in layer.as_row()))
    output.print(table)
    sites = len(description.sites)
    output.print(
        f"{description.parameters:,} parameters, {sites} dropout site{'' if sites == 1 else 's'}. "
        f"A row costs {description.flops_per_row:,} FLOPs in the full network, "
        f"and for each sample {description.flops_per_sample:,}",
        highlight=False,
    )


def _fail(message: str) -> NoReturn:
    errors.print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


if __name__ == "__main__":
    main()
