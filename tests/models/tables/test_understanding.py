"""What columns are taken for, which rows and categories are kept, and how a search spends its time."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
import torch

from models.data import describe_inputs, split
from models.features import UNKNOWN, Boolean, Category, Feature
from models.mixed import standardise
from models.tables import fitting
from models.tables.columns import understand
from models.tables.errors import UnusableTable
from models.tables.preparing import Wanted, prepare
from models.tables.reading import read_table

ROWS = 120


def written(path, **columns):
    """A CSV file with these columns."""
    pl.DataFrame({name: list(map(str, values)) for name, values in columns.items()}).write_csv(path)
    return path


@pytest.fixture
def homes(tmp_path):
    """A table with every kind of column, with missing values in some of them."""
    rng = np.random.default_rng(0)
    rooms, garden = rng.integers(1, 8, ROWS), rng.random(ROWS) < 0.5
    heating = rng.choice(["gas", "oil", "wood"], ROWS)
    return written(
        tmp_path / "homes.csv",
        rooms=rooms,
        heating=["peat" if i == 3 else "?" if i == 4 else name for i, name in enumerate(heating)],
        garden=garden,
        age=["NA" if i % 5 == 0 else i for i in range(ROWS)],
        plot=[7] * ROWS,
        price=["" if i == 9 else 100 * value for i, value in enumerate(rooms)],
    )


def prepared(path, **changes):
    """The data set that a table becomes with default settings."""
    hyper = fitting.HYPERPARAMETERS
    wanted = Wanted(**({"targets": ("price",)} | changes))
    return prepare(read_table(path), wanted, hyper.seed, hyper.validation_fraction, hyper.test_fraction)


def test_kinds(homes):
    """Numbers, booleans and texts are told apart; marks of missing values are none of them."""
    table = read_table(homes)
    kinds = {name: understand(table, name).kind for name in table.columns}
    numbers = dict.fromkeys(("rooms", "age", "plot", "price"), "number")
    assert kinds == numbers | {"heating": "category", "garden": "boolean"}
    assert understand(table, "age").missing == ROWS // 5
    assert understand(table, "rooms", ["rooms"]).distinct[:2] == ["1", "2"]


def test_parquet_is_read_as_csv_is(homes, tmp_path):
    """The same columns come out of both kinds of file."""
    csv, path = read_table(homes), tmp_path / "homes.parquet"
    pl.DataFrame(
        {"rooms": csv.columns["rooms"].cast(pl.Int16), "heating": csv.columns["heating"].cast(pl.Categorical),
         "garden": csv.columns["garden"].str.to_lowercase() == "true", "age": csv.columns["age"].cast(pl.Float32)}
    ).write_parquet(path)  # fmt: skip
    parquet = read_table(path)
    for name in parquet.columns:
        ours, theirs = understand(parquet, name), understand(csv, name)
        assert (ours.kind, ours.labels()) == (theirs.kind, theirs.labels())


def test_rows_and_columns_that_are_left_out(homes):
    """A row without a target and a column with a single value are left out, and it is said."""
    found = prepared(homes)
    assert found.dataset.inputs.shape == (ROWS - 1, 4)
    assert list(found.dataset.input_names) == ["rooms", "heating", "garden", "age"]
    assert "1 of 120 rows have no 'price': left out" in found.notes
    assert "column 'plot' has a single value or none: left out" in found.notes


def test_inputs_are_described_from_training_rows(homes):
    """Categories that are rare in training rows are unknown, ranges are those of training rows."""
    dataset = prepared(homes).dataset
    train = fitting.parts_of(dataset, fitting.HYPERPARAMETERS).train
    rooms, heating, garden, age = describe_inputs(dataset, train)
    assert isinstance(rooms, Feature)
    assert rooms.range == (dataset.inputs[train, 0].min(), dataset.inputs[train, 0].max())
    assert isinstance(heating, Category)
    assert heating.categories == ("gas", "oil", "wood")
    assert sorted(np.flatnonzero(dataset.inputs[:, 1] == UNKNOWN).tolist()) == [3, 4]
    assert isinstance(garden, Boolean)
    assert not garden.missing
    assert isinstance(age, Feature)
    assert age.missing


def test_task_is_inferred(homes):
    """Texts, booleans and two numbers are classes; other numbers are not."""
    assert not prepared(homes).dataset.classification
    assert prepared(homes, targets=("garden",)).dataset.output_names == ["false", "true"]
    assert prepared(homes, targets=("rooms", "price")).dataset.targets.shape[1] == 2
    with pytest.raises(UnusableTable, match="several targets must all be numbers"):
        prepared(homes, targets=("rooms", "garden"))


def test_what_may_be_absent_is_hidden_now_and_then(homes):
    """In training an input that may be absent is so in about one of a hundred cells, and no other ever is."""
    dataset = prepared(homes).dataset
    inputs = describe_inputs(dataset, split(len(dataset.inputs), 0).train)
    rows = torch.from_numpy(standardise(dataset.inputs, inputs))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        seen = torch.stack([fitting.hiding(inputs)(rows) for _ in range(300)])
    changed = (seen != rows).any(dim=1)
    assert (seen[..., 0] == rows[:, 0]).all()  # rooms are never missing
    assert changed.any(dim=0)[1:5].all()
    hidden = (seen[..., 1] == 1).float().mean() - (rows[:, 1] == 1).float().mean()
    assert 0.005 < float(hidden) < 0.02
    # Every row is one that could be asked for: a single category each.
    assert (seen[..., 1:5].sum(dim=-1) == 1).all()


def test_a_search_stops_when_its_time_is_over(homes):
    """The first recipe is always tried; what is being tried when time is over does not count."""
    dataset = prepared(homes).dataset
    hyper = dataclasses.replace(fitting.HYPERPARAMETERS, max_epochs=2)
    recipe = fitting.recipe_of("homes", "", dataset, hidden=(4,), hyperparameters=hyper)
    now, tried = iter(range(1000)), []
    found = fitting.search(recipe, seconds=6.0, on_try=tried.append, clock=lambda: float(next(now)))
    assert tried[0].recipe is recipe
    assert 1 < len(tried) < 6
    assert found is min(tried, key=lambda each: each.loss).recipe
    alone = []
    assert fitting.search(recipe, 0.0, alone.append, clock=lambda: float(next(now))) is recipe
    assert len(alone) == 1
