"""What all commands share: options, the store, and how they end badly. Knows nothing of what they do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from models.location import SCHEMES, is_url
from models.mirror import open_store
from models.repository import Repository, Unreachable

DEFAULT_STORE = str(Path(__file__).resolve().parents[1] / "store")

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


def fail(message: str) -> NoReturn:
    """Ends the command with a message."""
    errors.print(f"[red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)
