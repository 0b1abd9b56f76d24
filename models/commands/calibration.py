"""The command calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.commands.console import DEFAULT_STORE, CacheOption, StoreOption, fail, opened, output, publish
from models.features import InvalidRows
from models.location import DEFAULT_CACHE
from models.manifest import DEFAULT_SAMPLES, Manifest
from models.repository import RepositoryError

if TYPE_CHECKING:
    from models.held_out import HeldOut


def calibrate_command(
    name: Annotated[str, typer.Argument(metavar="NAME[/VERSION]", help="A model, by default its newest version.")],
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FILE",
            help="CSV or Parquet file of rows that the model was not trained on, with a column for each input and "
            "output, or one with the class. Without it: the validation rows of its recipe.",
            show_default=False,
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            "--samples",
            min=2,
            max=10_000,
            help="Number of samples per request for which intervals and sets are to hold.",
        ),
    ] = DEFAULT_SAMPLES,
    store: StoreOption = DEFAULT_STORE,
    cache: CacheOption = DEFAULT_CACHE,
) -> None:
    """Fit a version's noise, temperature and conformal quantiles again, and publish the result as a new version.

    The weights stay as they are. Intervals and prediction sets hold for requests for this many samples, which becomes
    the version's default.
    """
    from models.calibrating import PRIOR_ROWS, calibrated
    from models.held_out import Unusable, of_file

    name, _, version = name.partition("/")
    repository = opened(store, cache)
    try:
        model = repository.load(name, version or None)
        held, prior_rows = (
            (of_file(data, model.manifest), PRIOR_ROWS) if data is not None else _validation_rows(model.manifest)
        )
        manifest, weights = calibrated(model, held, repository.next_version(name), samples, prior_rows)
        publish(repository, manifest, weights, model.manifest)
    except (RepositoryError, Unusable, InvalidRows, FileExistsError) as error:
        fail(str(error))
    output.print(_calibration(manifest, len(held.inputs)), style="dim", highlight=False)


def _validation_rows(manifest: Manifest) -> tuple[HeldOut, float]:
    """Those of the recipe that made a version, and the prior that it was calibrated with."""
    from models.held_out import of_dataset
    from models.recipes import recipes

    made_by = str(manifest.provenance.get("recipe"))
    if (recipe := recipes().get(made_by)) is None:
        fail(f"{manifest.name} was not made by a recipe: give rows that it was not trained with, --data FILE.csv")
    dataset = recipe.load()
    return of_dataset(dataset, recipe.split(len(dataset.inputs))), recipe.prior_rows


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
