"""The command train: recipes, or a table of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.commands.console import (
    DEFAULT_STORE,
    CacheOption,
    StoreOption,
    errors,
    fail,
    output,
    progress,
    publish,
    writable,
)
from models.commands.figures import comparison, coverage
from models.location import DEFAULT_CACHE
from models.repository import Repository, Unreachable

if TYPE_CHECKING:
    from models.training import Recipe

_TABLES = (".csv", ".tsv", ".txt", ".parquet")
_ENDINGS = f"{', '.join(_TABLES[:-1])} or {_TABLES[-1]}"
# By their files: importing them would make every command wait for scikit-learn.
RECIPES = sorted(
    path.stem.replace("_", "-")
    for path in (Path(__file__).parents[1] / "recipes").glob("*.py")
    if path.stem != "__init__"
)


def train_command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE|TABLE",
            help=f"Recipes: {', '.join(RECIPES)}, or all of them: all. Or a table of your own: a CSV or Parquet file.",
            show_default=False,
        ),
    ],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
    target: Annotated[
        list[str] | None, typer.Option(help="Tables: the column to predict; repeat it for several outputs.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Tables: the model's name; by default that of the file.")] = None,
    task: Annotated[
        str, typer.Option(help="Tables: regression, classification, or auto: inferred from the target.")
    ] = "auto",
    drop: Annotated[list[str] | None, typer.Option(help="Tables: a column to leave out; may be repeated.")] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Tables: a column whose numbers are categories; may be repeated.")
    ] = None,
    missing: Annotated[
        list[str] | None, typer.Option(help="Tables: a text that stands for a missing value; may be repeated.")
    ] = None,
    hidden: Annotated[str, typer.Option(help="Tables: widths of the hidden layers.")] = "128,128",
    dropout: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Tables: dropout probability p of every hidden layer.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Tables: seed of the split and of training.")] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Tables: maximum number of epochs.")] = 300,
    search: Annotated[
        float, typer.Option(min=0.0, help="Tables: minutes to spend on a hyperparameter search first.")
    ] = 0.0,
    plot: Annotated[
        Path | None, typer.Option(help="Tables: write the reliability diagram to this file (.png, .svg or .pdf).")
    ] = None,
) -> None:
    """Train recipes, or a table of your own, and publish the results as new versions.

    A recipe is a small file in models/recipes: data, network, hyperparameters. The same recipe, or the same table with
    the same options, gives the same digest, and what equals the newest version is not published again.

    A table: python -m models train houses.csv --target price
    """
    from models.training import Diverged

    if _is_table(names):
        from models.commands import table
        from models.tables.errors import UnusableTable
        from models.tables.preparing import Wanted

        repository = writable(store, cache)
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
            table.train_table(asked, repository)
        except (UnusableTable, Diverged, Unreachable, FileExistsError) as error:
            fail(str(error))
        return
    options = {"--target": target, "--name": name, "--drop": drop, "--category": category, "--missing": missing,
               "--search": search, "--plot": plot}  # fmt: skip
    _refuse_options(names, [option for option, value in options.items() if value])
    from models.recipes import recipes

    known = recipes()
    if unknown := [recipe for recipe in names if recipe not in known and recipe != "all"]:
        fail(
            f"there is no recipe {unknown[0]!r}; there are: {', '.join(known)}, or all of them: all; "
            f"a table is a file that ends with {_ENDINGS}"
        )
    repository = writable(store, cache)
    for recipe in known if "all" in names else names:
        try:
            _train(known[recipe], repository)
        except (Diverged, Unreachable, FileExistsError) as error:
            fail(str(error))


def _train(recipe: Recipe, repository: Repository) -> None:
    """Publishes the version that this recipe gives, unless it is there, and prints its figures."""
    from models.training import train

    with progress(recipe, errors) as show:
        trained = train(recipe, repository.next_version(recipe.name), show)
    manifest = publish(repository, trained.manifest, trained.weights)
    output.print(comparison(manifest))
    for sentence in coverage(manifest):
        output.print(f"  {sentence}", highlight=False, soft_wrap=True)


def _refuse_options(names: list[str], given: list[str]) -> None:
    """Options of tables without a table: perhaps a file of another kind was meant for one."""
    if given:
        files = [name for name in names if Path(name).suffix]
        reason = f"{files[0]} is not a table ({_ENDINGS}); " if files else ""
        fail(f"{reason}{', '.join(given)} {'is' if len(given) == 1 else 'are'} for tables")


def _is_table(names: list[str]) -> bool:
    """Whether a file is meant, by its suffix. Several tables would be several models, with options of their own."""
    tables = [name for name in names if Path(name).suffix.lower() in _TABLES]
    if tables and len(names) > 1:
        fail("train one table at a time, and apart from recipes")
    return bool(tables)


def _widths(text: str) -> tuple[int, ...]:
    try:
        widths = tuple(int(width) for width in text.split(","))
    except ValueError:
        widths = ()
    if not widths or not all(1 <= width <= 65536 for width in widths) or len(widths) > 256:
        fail("--hidden must be widths with commas between them, such as 128,128")
    return widths
