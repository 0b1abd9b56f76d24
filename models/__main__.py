"""python -m models: train · import · export · calibrate · list · describe · pin · unpin."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import typer

from models.commands import calibration, exchange, store, training

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train networks, look at the ones in the store, and say which are served.",
)
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
    app.command(name)(command)


def main() -> None:
    """The command line."""
    app(prog_name="python -m models")


if __name__ == "__main__":
    main()
