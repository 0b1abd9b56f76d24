"""python -m models: train · import · export · calibrate · list · describe · pin · unpin."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import typer

from models.commands import calibration, exchange, store, training

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, import and export models, inspect the store, and choose which versions are served.",
)


def _flowing(docstring: str) -> str:
    """Its paragraphs in a line each: how they are broken depends on the terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in docstring.split("\n\n"))


# In the order in which they are listed.
COMMANDS: Mapping[str, Callable[..., None]] = {
    "train": training.train_command,
    "import": exchange.import_command,
    "export": exchange.export_command,
    "calibrate": calibration.calibrate_command,
    "list": store.list_command,
    "describe": store.describe_command,
    "pin": store.pin_command,
    "unpin": store.unpin_command,
}
for name, command in COMMANDS.items():
    app.command(name, help=_flowing(command.__doc__ or ""))(command)


def main() -> None:
    """The command line."""
    app(prog_name="python -m models")


if __name__ == "__main__":
    main()
