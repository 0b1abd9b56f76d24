"""The encoder: answers of any size, in one piece or in slices, are the same bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pytest

from service.api import encoding
from service.api.encoding import encode


def whole(fields: dict[str, Any]) -> bytes:
    """The fields encoded by one call."""
    return orjson.dumps(fields, option=orjson.OPT_SERIALIZE_NUMPY)


def numbers(*shape: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Numbers of all magnitudes, with some that JSON does not have."""
    random = np.random.Generator(np.random.Philox(len(shape)))
    drawn = random.standard_normal(shape) * 10.0 ** random.integers(-300, 300, shape)
    drawn.flat[::97] = np.nan
    drawn.flat[5::101] = -np.inf
    return drawn


# Around the size of a slice, far above it, with rows larger than a slice, and with ends that don't come out even.
SHAPES = [
    (0,),
    (0, 3),
    (49_999,),
    (50_000,),
    (50_001,),
    (123_457,),
    (25_001, 2),
    (3, 70_001),
    (1, 100_000),
    (7, 11, 1301),
    (100_000, 1, 1),
    (2, 2, 60_000),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
async def test_slices_are_the_whole(shape: tuple[int, ...]) -> None:
    """An array of any shape gives the bytes that one call gives."""
    fields = {"before": 1, "array": numbers(*shape), "after": "end"}
    assert await encode(fields) == whole(fields)


async def test_everything_an_answer_may_hold_is_encoded_alike() -> None:
    """Nested objects, empty ones, nulls, text, whole numbers and small arrays beside a large one: the same bytes."""
    fields = {
        "model": {"name": 'ünï "quoted"', "empty": {}},
        "std": None,
        "labels": ["a", "b"],
        "votes": np.arange(60_000).reshape(-1, 3),
        "interval": {"level": 0.1, "lower": numbers(60_000, 1), "upper": None},
        "quantiles": {"0.05": numbers(30_000, 2), "0.5": numbers(2, 1)},
        "draws": numbers(10, 6_000, 2),
    }
    assert await encode(fields) == whole(fields)


async def test_it_is_the_slices_that_are_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """With slices of a few numbers a small answer is cut many times over, and is still the same bytes."""
    fields = {"a": numbers(7, 5), "b": {"c": numbers(3), "d": numbers(2, 3, 4)}, "e": []}
    pieces = []
    for size in (1, 2, 3, 10, 34, 35, 36):
        monkeypatch.setattr(encoding, "_SLICE", size)
        pieces.append(len(list(encoding._pieces(fields))))
        assert await encode(fields) == whole(fields)
    assert pieces[0] > pieces[-1]


@pytest.mark.parametrize("rows", [1, 100_000])
async def test_what_is_not_finite_is_null(rows: int) -> None:
    """NaN and both infinities are null in answers of any size, so that every JSON reader can read them."""
    array = np.tile([[np.nan, np.inf, -np.inf, 0.5]], (rows, 1))
    assert orjson.loads(await encode({"array": array})) == {"array": [[None, None, None, 0.5]] * rows}


async def test_numbers_survive_the_way() -> None:
    """Every float64 is written so that reading it gives the same bits."""
    array = np.frombuffer(np.random.Generator(np.random.Philox(1)).bytes(8 * 60_000), np.float64)
    array = array[np.isfinite(array)]
    found = np.array(orjson.loads(await encode({"array": array}))["array"])
    assert found.tobytes() == array.tobytes()


@pytest.mark.parametrize("rows", [3, 100_000])
async def test_arrays_need_not_lie_in_one_piece(rows: int) -> None:
    """Parts and turned arrays are written like copies of them, in answers of any size."""
    array = numbers(4, rows, 5)
    views = {"part": array[:, 1:2, ::2], "turned": array.T, "backwards": array[::-1]}
    assert await encode(views) == whole({name: view.copy() for name, view in views.items()})
