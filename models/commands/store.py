"""The commands list, describe, pin and unpin: what is in a store, and what of it is served."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from models.architecture import STACK_SIZES, published_stack
from models.commands.console import DEFAULT_STORE, CacheOption, JsonOption, StoreOption, errors, fail, opened, output
from models.description import Description, describe_architecture
from models.location import DEFAULT_CACHE
from models.manifest import Manifest
from models.repository import CorruptVersion, Repository, RepositoryError


def list_command(
    store: StoreOption = DEFAULT_STORE, cache: CacheOption = DEFAULT_CACHE, as_json: JsonOption = False
) -> None:
    """List every version of every model in the store."""
    repository = opened(store, cache)
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


def describe_command(
    name: Annotated[
        str, typer.Argument(metavar="NAME[/VERSION]", help="A model, by default its newest version; or ff_stack.")
    ],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
    as_json: JsonOption = False,
    size: Annotated[
        str | None, typer.Option(help=f"ff_stack only, one of its published sizes: {', '.join(STACK_SIZES)}.")
    ] = None,
) -> None:
    """Show a model's layers, its dropout sites, and what a row and a sample cost.

    ff_stack describes a feed-forward stack of a published size, without weights.
    """
    if size is not None or name == "ff_stack":
        _describe_stack(name, size, as_json=as_json)
        return
    name, _, version = name.partition("/")
    try:
        model = opened(store, cache).load(name, version or None)
    except RepositoryError as error:
        fail(str(error))
    description = describe_architecture(model.manifest.architecture)
    if as_json:
        output.print_json(
            json.dumps({"name": name, "version": model.manifest.version, "digest": model.manifest.digest}
                       | description.as_json())
        )  # fmt: skip
        return
    _print_description(model.manifest, description)


def pin_command(
    name: Annotated[str, typer.Argument(metavar="NAME/VERSION", help="The version to serve by default.")],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Serve this version of a model by default instead of the newest, for instance to roll back.

    The version is checked first. Services that watch the store follow within seconds; other versions still answer when
    they are asked for by name.
    """
    name, _, version = name.partition("/")
    if not version:
        fail("which version? Say NAME/VERSION")
    _pin(store, cache, name, version)
    output.print(f"[bold]{escape(name)}[/] is pinned to version {escape(version)}", highlight=False)


def unpin_command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model.")],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Serve the newest version of a model by default again."""
    _pin(store, cache, name, None)
    output.print(f"the newest version of [bold]{escape(name)}[/] is served by default", highlight=False)


def _describe_stack(name: str, size: str | None, *, as_json: bool) -> None:
    if name != "ff_stack":
        fail("--size is for ff_stack")
    if size is None or size not in STACK_SIZES:
        fail(f"--size must be one of {', '.join(STACK_SIZES)}")
    description = describe_architecture(published_stack(size))
    if as_json:
        from models.networks import meta_parameters

        built = {"architecture": name, "size": size, "built_parameters": meta_parameters(published_stack(size))}
        output.print_json(json.dumps(built | description.as_json()))
        return
    output.print(f"[bold]ff_stack[/] {size}: images of 224 × 224 × 3, 1000 classes", highlight=False)
    _print_layers(description)


def _pin(store: str, cache: Path, name: str, version: str | None) -> None:
    try:
        opened(store, cache).pin(name, version)
    except RepositoryError as error:
        fail(str(error))


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
