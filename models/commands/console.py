"""What commands share: options, the store, a bar while they train, how they end badly. Knows nothing of the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from models.location import SCHEMES, is_url
from models.manifest import Manifest
from models.mirror import open_store
from models.repository import Repository, RepositoryError, Unreachable

if TYPE_CHECKING:
    from models.training import Epoch, Recipe

DEFAULT_STORE = str(Path(__file__).resolve().parents[1] / "store")

output = Console()
errors = Console(stderr=True)

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="PENUMBRA_STORE",
        help="Directory with the models, or the URL of an object store.",
        show_default=False,
    ),
]
CacheOption = Annotated[
    Path,
    typer.Option("--cache", envvar="PENUMBRA_CACHE", help="Directory in which object stores are mirrored."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def opened(store: str, cache: Path) -> Repository:
    """The store, as it is now; what keeps it from being read ends the command."""
    if "://" in store and not is_url(store):
        fail(f"not a store's URL; these begin with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}")
    repository = open_store(store, cache)
    try:
        repository.refresh()
    except Unreachable as error:
        fail(str(error))
    return repository


def writable(store: str, cache: Path) -> Repository:
    """The store; a directory that can't take models is found out before training, not after."""
    repository = opened(store, cache)
    try:
        repository.root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{store} can't hold models: {error.strerror}")
    return repository


def publish(repository: Repository, manifest: Manifest, weights: bytes, *known: Manifest) -> Manifest:
    """Publishes a version and says so, unless the newest one or one that is `known` answers the same.

    Returns the one that is in the store.
    """
    with suppress(RepositoryError):  # there is none, or it is broken
        known = (*known, repository.load(manifest.name).manifest)
    same = next((one for one in known if one.digest == manifest.digest), None)
    if same is None:
        repository.publish(manifest, weights)
    word = "published as" if same is None else "not published, the same as"
    found = same or manifest
    output.print(f"[bold]{found.name}[/] {word} version {found.version}  {found.digest}", soft_wrap=True)
    return found


def fail(message: str) -> NoReturn:
    """Ends the command with a message."""
    errors.print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


@contextmanager
def progress(recipe: Recipe, errors: Console) -> Iterator[Callable[[Epoch], None]]:
    """A bar that is gone when it is done; what shows an epoch in it."""
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("epochs · validation loss {task.fields[loss]} · best {task.fields[best]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=errors, transient=True) as bars:
        bar = bars.add_task(recipe.name, total=recipe.hyperparameters.max_epochs, loss="–", best="–")

        def show(epoch: Epoch) -> None:
            loss, best = f"{epoch.validation_loss:.4f}", f"{epoch.best_loss:.4f}"
            name = f"{recipe.name} {epoch.member}/{recipe.members}" if recipe.members else recipe.name
            bars.update(bar, description=name, completed=epoch.number, loss=loss, best=best)

        yield show
