"""python -m models: train · calibrate · import · export · list · describe · pin."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.architecture import STACK_SIZES, ClassificationHead, RegressionHead, published_stack
from models.description import Description, describe_architecture
from models.features import InvalidRows
from models.location import DEFAULT_CACHE, SCHEMES, is_url
from models.manifest import DEFAULT_SAMPLES, NAME_PATTERN, Manifest
from models.mirror import open_store
from models.repository import CorruptVersion, Repository, RepositoryError, Unreachable

if TYPE_CHECKING:
    from models.held_out import HeldOut
    from models.training import Epoch, Recipe

DEFAULT_STORE = str(Path(__file__).resolve().parent / "store")
# By their files: importing them would make every command wait for scikit-learn.
RECIPES = sorted(
    path.stem.replace("_", "-") for path in Path(__file__).with_name("recipes").glob("*.py") if path.stem != "__init__"
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train networks, look at the ones in the store, and say which are served.",
)
output = Console()
errors = Console(stderr=True)

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="PENUMBRA_STORE",
        help="Directory that holds the models, or URL of an object store that does.",
        show_default=False,
    ),
]
CacheOption = Annotated[
    Path,
    typer.Option("--cache", envvar="PENUMBRA_CACHE", help="Directory in which object stores are mirrored."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command("train")
def train_command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE|TABLE",
            help=f"One or more of {', '.join(RECIPES)}; or all. Or a table of your own: a CSV or Parquet file.",
            show_default=False,
        ),
    ],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
    target: Annotated[
        list[str] | None, typer.Option(help="Of a table: the column to learn; several for several outputs.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of a table: the model's name. Default: the file's.")] = None,
    task: Annotated[
        str, typer.Option(help="Of a table: regression or classification. Default: by the target.")
    ] = "auto",
    drop: Annotated[list[str] | None, typer.Option(help="Of a table: a column to leave out; may be repeated.")] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Of a table: a column whose numbers are categories; may be repeated.")
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option(help="Of a table: a text that means a missing value; may be repeated.")
    ] = None,
    hidden: Annotated[str, typer.Option(help="Of a table: widths of the hidden layers.")] = "128,128",
    dropout: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of a table: p of every hidden layer.")] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of a table: how rows are divided, and how training begins.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Of a table: most epochs.")] = 300,
    search: Annotated[
        float, typer.Option(min=0.0, help="Of a table: minutes to search for better widths, p and steps first.")
    ] = 0.0,
    plot: Annotated[
        Path | None, typer.Option(help="Of a table: file for the reliability diagram (.png, .svg).")
    ] = None,
) -> None:
    """Train recipes, or a table of your own, and publish what comes out as new versions.

    A recipe says which data, which network, and how to train it; each is a small file in models/recipes.
    The same recipe gives the same digest, and a version that exists already is not published twice.

    A table: python -m models train houses.csv --target price
    """
    from models.training import Diverged

    if _is_table(names):
        from models.commands import table
        from models.tables.errors import UnusableTable
        from models.tables.preparing import Wanted

        repository = _writable(store, cache)
        try:
            asked = table.Asked(
                path=Path(names[0]),
                wanted=Wanted(target or (), table.task_choice(task), drop or (), category or ()),
                name=name,
                missing=tuple(missing or ()),
                hidden=_widths(hidden),
                p=dropout,
                seed=seed,
                epochs=epochs,
                search_minutes=search,
                plot=plot,
            )
            table.train_table(asked, repository, output, errors)
        except (UnusableTable, Diverged, Unreachable, FileExistsError) as error:
            _fail(str(error))
        return
    if target or name or drop or category or missing or plot or search:
        _fail("--target, --name, --drop, --category, --missing, --search and --plot are for one table")
    from models.recipes import recipes

    known = recipes()
    if unknown := [recipe for recipe in names if recipe not in known and recipe != "all"]:
        _fail(
            f"there is no recipe {unknown[0]!r}; there are: {', '.join(known)}, or all of them: all; "
            "a table is a file that ends with .csv, .tsv, .txt or .parquet"
        )
    repository = _writable(store, cache)
    for recipe in known if "all" in names else names:
        try:
            manifest, published = _train(known[recipe], repository)
        except (Diverged, Unreachable, FileExistsError) as error:
            _fail(str(error))
        word = "published as" if published else "the same as before:"
        output.print(f"[bold]{recipe}[/] {word} version {manifest.version}  {manifest.digest}")
        output.print(_figures(manifest), style="dim", highlight=False)


@app.command("import")
def import_command(
    file: Annotated[Path, typer.Argument(help="A state_dict or nn.Sequential from torch.save, or safetensors.")],
    name: Annotated[str, typer.Option(help="The model's name.")],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
    spec: Annotated[
        Path | None,
        typer.Option(help="JSON: architecture, head, inputs, outputs, image, dropout, examples; as needed."),
    ] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="A classification of so many classes.")] = None,
    outputs: Annotated[int | None, typer.Option(min=1, help="A regression of so many outputs.")] = None,
    dropout: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="p of all sites, for checkpoints of stacks, which have none.")
    ] = None,
) -> None:
    """Publish a network that PyTorch trained: no code in a file is run.

    An nn.Sequential of plain layers, or a checkpoint of a feed-forward stack, says itself which network it is; other
    tensors need an architecture in --spec. Outputs are compared with the original's on random rows before publishing.
    """
    from models.exchange.files import ImportRefused
    from models.exchange.importing import import_file, read_spec

    if not re.fullmatch(NAME_PATTERN, name):
        _fail(f"{name!r} can't be a name: letters, digits, dots, dashes and underscores can, at most 64")
    head: Any = None
    if classes and outputs:
        _fail("--classes and --outputs are for different tasks")
    if classes or outputs:
        head = ClassificationHead(classes=classes) if classes else RegressionHead(outputs=outputs or 1)
    repository = _writable(store, cache)
    try:
        changes = {"head": head, "dropout": dropout}
        asked = read_spec(spec).model_copy(update={key: value for key, value in changes.items() if value is not None})
        imported = import_file(file, asked, name, repository.next_version(name))
        manifest = imported.manifest
        repository.publish(manifest, imported.weights)
    except (ImportRefused, Unreachable, FileExistsError) as error:
        _fail(str(error))
    output.print(f"[bold]{name}[/] published as version {manifest.version}  {manifest.digest}", soft_wrap=True)
    if imported.apart is None:
        output.print(
            "  compared with nothing: tensors alone can't be run; examples in --spec can be checked", style="dim"
        )
    else:
        output.print(f"  at most {imported.apart:.1e} from the original, on random rows", style="dim", highlight=False)


@app.command("export")
def export_command(
    name: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="A model; its newest version by default.")],
    file: Annotated[Path, typer.Option("--out", help="Python file to write; the weights go beside it, as .pt.")],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Write a model as a plain PyTorch module: a Python file and its weights, which run without us."""
    from models.exchange.exporting import export

    name, _, version = name.partition("/")
    try:
        model = _opened(store, cache).load(name, version or None)
    except RepositoryError as error:
        _fail(str(error))
    if file.suffix != ".py" or not file.stem.isidentifier():
        _fail(f"--out must be a Python file with a name that can be imported, such as {name.replace('-', '_')}.py")
    try:
        weights = export(model.manifest, model.tensors, file)
    except OSError as error:
        _fail(f"{file} can't be written: {error.strerror}")
    output.print(f"{escape(str(file))} and {escape(weights.name)}", soft_wrap=True, highlight=False)


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
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Fit a version's noise, temperature and conformal quantiles again, and publish it as a new version.

    The weights stay as they are. Intervals and prediction sets hold for requests with as many samples as are given
    here; that becomes the version's default.
    """
    from models.calibrating import calibrated
    from models.held_out import Unusable, of_file

    name, _, version = name.partition("/")
    repository = _opened(store, cache)
    try:
        model = repository.load(name, version or None)
        held = of_file(data, model.manifest) if data is not None else _validation_rows(model.manifest)
        manifest, weights = calibrated(model, held, repository.next_version(name), samples)
        published = manifest.digest != model.manifest.digest
        if published:
            repository.publish(manifest, weights)
    except (RepositoryError, Unusable, InvalidRows, FileExistsError) as error:
        _fail(str(error))
    word = "published as" if published else "the same as before:"
    output.print(
        f"[bold]{name}[/] {word} version {(manifest if published else model.manifest).version}  {manifest.digest}"
    )
    output.print(_calibration(manifest, len(held.inputs)), style="dim", highlight=False)


@app.command("list")
def list_command(
    store: StoreOption = DEFAULT_STORE, cache: CacheOption = DEFAULT_CACHE, as_json: JsonOption = False
) -> None:
    """List the models in the store, with every version."""
    repository = _opened(store, cache)
    models = repository.look()
    lines = [_line(repository, name, version) for name, kept in models.items() for version in kept.versions]
    if as_json:
        output.print_json(json.dumps(lines))
        return
    if not lines:
        output.print(f"no models in {escape(store)}; train one: python -m models train all", soft_wrap=True)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    columns = ("name", "version", "task", "inputs", "outputs", "parameters")
    for column in (*columns, "digest"):
        table.add_column(column, overflow="fold", no_wrap=column != "name")
    for line in lines:
        # The beginning of a digest tells versions apart; all of it stands in the JSON and in `describe`.
        start = line.get("digest", "").removeprefix("sha256:")[:8]
        table.add_row(*(str(line.get(column, "")) for column in columns), start)
    output.print(table)
    for name, kept in models.items():
        if kept.pinned:
            output.print(f"{name} is pinned to version {kept.pinned}", highlight=False, soft_wrap=True)
    for line in lines:
        if "error" in line:
            errors.print(f"[red]corrupt:[/] {escape(line['error'])}", highlight=False, soft_wrap=True)


@app.command("describe")
def describe_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME[/VERSION]", help="A model; its newest version by default. Or ff_stack.")
    ],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
    as_json: JsonOption = False,
    size: Annotated[
        str | None, typer.Option(help=f"Of ff_stack, as it was published: {', '.join(STACK_SIZES)}.")
    ] = None,
) -> None:
    """Show a model's layers, its dropout sites, and what a row and a sample cost.

    ff_stack is described without weights: the network is built on PyTorch's meta device.
    """
    if size is not None or name == "ff_stack":
        _describe_stack(name, size, as_json=as_json)
        return
    name, _, version = name.partition("/")
    try:
        model = _opened(store, cache).load(name, version or None)
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


@app.command("pin")
def pin_command(
    name: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="The version to serve by default.")],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Have a version served by default instead of the newest, to roll back, say.

    It is checked first. Services that watch the store follow within seconds; other versions can still be asked by name.
    """
    name, _, version = name.partition("/")
    if not version:
        _fail("which version? Say NAME/VERSION")
    _pin(store, cache, name, version)
    output.print(f"[bold]{escape(name)}[/] is pinned to version {escape(version)}", highlight=False)


@app.command("unpin")
def unpin_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model.")],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Have the newest version of a model served by default again."""
    _pin(store, cache, name, None)
    output.print(f"the newest version of [bold]{escape(name)}[/] is served by default", highlight=False)


def _describe_stack(name: str, size: str | None, *, as_json: bool) -> None:
    if name != "ff_stack":
        _fail("--size is for ff_stack")
    if size is None or size not in STACK_SIZES:
        _fail(f"--size must be one of {', '.join(STACK_SIZES)}")
    description = describe_architecture(published_stack(size))
    if as_json:
        from models.networks import meta_parameters

        built = {"architecture": name, "size": size, "built_parameters": meta_parameters(published_stack(size))}
        output.print_json(json.dumps(built | description.as_json()))
        return
    output.print(f"[bold]ff_stack[/] {size}: images of 224 × 224 × 3, 1000 classes", highlight=False)
    _print_layers(description)


def main() -> None:
    """The command line."""
    app(prog_name="python -m models")


def _opened(store: str, cache: Path) -> Repository:
    """The store, as it is now; what keeps it from being read ends the command."""
    if "://" in store and not is_url(store):
        _fail(f"not a store's URL; these begin with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    repository = open_store(store, cache)
    try:
        repository.refresh()
    except Unreachable as error:
        _fail(str(error))
    return repository


def _pin(store: str, cache: Path, name: str, version: str | None) -> None:
    try:
        _opened(store, cache).pin(name, version)
    except RepositoryError as error:
        _fail(str(error))


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
            name = f"{recipe.name} {epoch.member}/{recipe.members}" if recipe.members else recipe.name
            progress.update(bar, description=name, completed=epoch.number, loss=loss, best=best)

        trained = train(recipe, repository.next_version(recipe.name), show)
    newest = _newest(repository, recipe.name)
    if newest is not None and newest.digest == trained.manifest.digest:
        return newest, False
    repository.publish(trained.manifest, trained.weights)
    return trained.manifest, True


def _is_table(names: list[str]) -> bool:
    """Whether a file is meant, by its suffix. Several tables would be several models, with options of their own."""
    tables = [name for name in names if Path(name).suffix.lower() in (".csv", ".tsv", ".txt", ".parquet")]
    if tables and len(names) > 1:
        _fail("train one table at a time, and apart from recipes")
    return bool(tables)


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(width) for width in text.split(","))
    except ValueError:
        widths = ()
    if not widths or not all(1 <= width <= 65536 for width in widths) or len(widths) > 256:
        _fail("--hidden must be widths with commas between them, such as 128,128")
    return widths


def _writable(store: str, cache: Path) -> Repository:
    """The store; a directory that can't take models is found out before training, not after."""
    repository = _opened(store, cache)
    try:
        repository.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _fail(f"{store} can't hold models: {error.strerror}")
    return repository


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
    for held in calibration.all_conformal:
        quantiles = ("–" if found is None else f"{found:.4g}" for found in held.at(0.9))
        of = f"{held.samples} samples" + (f" of method {held.method}" if manifest.members else "")
        facts.append(f"conformal quantile at 90 % {', '.join(quantiles)}, for {of}")
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
    if manifest.members:
        output.print(f"{len(manifest.members)} members, each of them:", highlight=False)
    _print_layers(description)


def _print_layers(description: Description) -> None:
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
