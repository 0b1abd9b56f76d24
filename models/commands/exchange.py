"""The commands import and export: networks that PyTorch trained, and ours as PyTorch's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from models.architecture import ClassificationHead, RegressionHead
from models.commands.console import DEFAULT_STORE, CacheOption, StoreOption, fail, opened, output, writable
from models.location import DEFAULT_CACHE
from models.manifest import NAME_PATTERN
from models.repository import RepositoryError, Unreachable


def import_command(
    file: Annotated[
        Path, typer.Argument(help="An nn.Sequential or a state_dict saved by torch.save, or a .safetensors file.")
    ],
    name: Annotated[str, typer.Option(help="The model's name.")],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
    spec: Annotated[
        Path | None,
        typer.Option(
            help="JSON with what the file does not say: architecture, head, inputs, outputs, image, dropout, examples."
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=2, help="The network is a classifier with this many classes.")
    ] = None,
    outputs: Annotated[
        int | None, typer.Option(min=1, help="The network is a regression with this many outputs.")
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Dropout probability of every site of a feed-forward stack, since its checkpoints do not record it.",
        ),
    ] = None,
) -> None:
    """Publish a network trained with PyTorch. Code in the file is never run.

    An nn.Sequential of plain layers, or a checkpoint of a feed-forward stack, describes its own architecture; other
    tensors need one in --spec. Before it is published, the network is compared with the original on random rows.
    """
    from models.exchange.files import ImportRefused
    from models.exchange.importing import import_file, read_spec

    if not re.fullmatch(NAME_PATTERN, name):
        fail(f"{name!r} can't be a name: letters, digits, dots, dashes and underscores can, at most 64")
    head: Any = None
    if classes and outputs:
        fail("--classes and --outputs are for different tasks")
    if classes or outputs:
        head = ClassificationHead(classes=classes) if classes else RegressionHead(outputs=outputs or 1)
    repository = writable(store, cache)
    try:
        changes = {"head": head, "dropout": dropout}
        asked = read_spec(spec).model_copy(update={key: value for key, value in changes.items() if value is not None})
        imported = import_file(file, asked, name, repository.next_version(name))
        manifest = imported.manifest
        repository.publish(manifest, imported.weights)
    except (ImportRefused, Unreachable, FileExistsError) as error:
        fail(str(error))
    output.print(f"[bold]{name}[/] published as version {manifest.version}  {manifest.digest}", soft_wrap=True)
    if imported.apart is None:
        output.print("  not compared: tensors alone can't be run; examples in --spec can be checked", style="dim")
    else:
        output.print(
            f"  outputs differ from the original's by at most {imported.apart:.1e}, on random rows",
            style="dim",
            highlight=False,
        )


def export_command(
    name: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="A model, by default its newest version.")],
    file: Annotated[Path, typer.Option("--out", help="Python file to write; the weights go beside it, as .pt.")],
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Write a model as a plain PyTorch module: a Python file and its weights, which need nothing of Penumbra."""
    from models.exchange.exporting import export

    name, _, version = name.partition("/")
    try:
        model = opened(store, cache).load(name, version or None)
    except RepositoryError as error:
        fail(str(error))
    if file.suffix != ".py" or not file.stem.isidentifier():
        fail(f"--out must be a Python file with a name that can be imported, such as {name.replace('-', '_')}.py")
    try:
        weights = export(model.manifest, model.tensors, file)
    except OSError as error:
        fail(f"{file} can't be written: {error.strerror}")
    output.print(f"{escape(str(file))} and {escape(weights.name)}", soft_wrap=True, highlight=False)
