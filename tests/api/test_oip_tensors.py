"""Tensors of the Open Inference Protocol: what is sent is what is read, what is written is what a client reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from tritonclient.http import InferResult

from models.features import InvalidRows
from models.repository import Repository
from service.api.oip import outputs, requests
from service.api.oip.tensors import FLOATS, NUMBERS, Tensor
from service.errors import InvalidRequest
from service.served import Loader, ServedModel
from service.settings import Settings

LIMITS = Settings.model_construct()
WIDTH = 3


@pytest.fixture(scope="module")
def model(tiny_store: Path) -> ServedModel:
    """A model of three inputs."""
    found = Loader(Repository(tiny_store))("silent", "1")
    assert found
    return found


def numbers(datatype: str) -> st.SearchStrategy[Any]:
    """Any tensor of this datatype [rows, 3] that float64 can hold exactly, as NumPy has it; BF16 as the FP32 it is."""
    shape = st.tuples(st.integers(1, 5), st.just(WIDTH))
    if datatype == "BF16":
        halves = arrays_of.arrays(np.uint16, shape)
        return halves.map(lambda half: (half.astype(np.uint32) << 16).view(np.float32)).filter(all_finite)
    kind = NUMBERS[datatype]
    if kind.kind == "f":
        return arrays_of.arrays(kind, shape, elements={"allow_nan": False, "allow_infinity": False})
    exact = {"min_value": -(2**53) * (kind.kind == "i"), "max_value": 2**53} if kind.itemsize == 8 else {}
    return arrays_of.arrays(kind, shape, elements=exact)


def all_finite(array: Any) -> bool:
    """Whether no element is infinite or not a number."""
    return bool(np.isfinite(array).all())


def in_bytes(array: Any, datatype: str) -> bytes:
    """The protocol's spelling."""
    return ((array.view(np.uint32) >> 16).astype("<u2") if datatype == "BF16" else array).tobytes()


def read(model: ServedModel, tensor: dict[str, Any], raw: bytes | None = None) -> Any:
    """What the service reads from a request of this tensor."""
    text = orjson.dumps({"inputs": [{"name": "inputs", **tensor}]})
    length = None if raw is None else str(len(text)).encode()
    return requests.read(model, LIMITS, length, text + (raw or b"")).rows


@pytest.mark.parametrize("datatype", NUMBERS)
@given(data=st.data())
def test_what_is_sent_is_what_is_read(model: ServedModel, datatype: str, data: st.DataObject) -> None:
    """Any tensor of any datatype of numbers, in bytes or in JSON, nested or flat, is read as what it holds."""
    array = data.draw(numbers(datatype))
    described = {"shape": array.shape, "datatype": datatype}
    raw = in_bytes(array, datatype)
    spelled = [
        read(model, {**described, "parameters": {"binary_data_size": len(raw)}}, raw),
        read(model, {**described, "data": array.tolist()}),
        read(model, {**described, "data": array.ravel().tolist()}),
    ]
    for found in spelled:
        assert found.dtype == np.float64
        assert found.tolist() == array.tolist()  # Python compares integers with floats exactly
        np.testing.assert_array_equal(found, array.astype(np.float64))


@given(st.lists(st.floats(-1e30, 1e30), min_size=WIDTH, max_size=WIDTH))
def test_digits_are_taken_as_they_stand(model: ServedModel, row: list[float]) -> None:
    """A number in JSON is read as natively, with all its digits, also where its tensor is called FP32."""
    for datatype in ("FP32", "FP64", "BF16"):
        assert read(model, {"shape": [1, WIDTH], "datatype": datatype, "data": row}).tolist() == [row]


@pytest.mark.parametrize(("datatype", "largest"), FLOATS.items())
def test_what_a_datatype_can_not_hold_is_refused(model: ServedModel, datatype: str, largest: float) -> None:
    """The largest number of a datatype is one; what is larger is not."""
    tensor = {"shape": [1, WIDTH], "datatype": datatype}
    assert read(model, {**tensor, "data": [largest, -largest, 0.0]})[0, 0] == largest
    if datatype != "FP64":
        with pytest.raises(InvalidRequest, match="too large for"):
            read(model, {**tensor, "data": [0.0, -largest * 1.01, 0.0]})


@given(st.integers(-(2**63), 2**64 - 1))
def test_integers_are_converted_where_that_is_exact(model: ServedModel, number: int) -> None:
    """An integer is read if float64 holds it exactly, and refused by its place if not; in bytes as in JSON."""
    datatype = "INT64" if number < 2**63 else "UINT64"
    array = np.array([[0, number, 1]], NUMBERS[datatype])
    described = {"shape": [1, WIDTH], "datatype": datatype}
    spellings = [
        lambda: read(model, {**described, "parameters": {"binary_data_size": array.nbytes}}, array.tobytes()),
        lambda: read(model, {**described, "data": array.tolist()}),
    ]
    for spelling in spellings:
        if int(float(number)) == number:
            assert int(spelling()[0, 1]) == number
        else:
            with pytest.raises(InvalidRows) as refused:
                spelling()
            assert refused.value.complaints == (("inputs[0].second", "is an integer that float64 can't hold exactly"),)


TENSORS = st.one_of(
    arrays_of.arrays(np.float64, arrays_of.array_shapes(max_dims=3, max_side=4)),
    arrays_of.arrays(np.int64, (3, 2), elements={"min_value": 0, "max_value": 2**53}),
    arrays_of.arrays(np.float64, (4, 5)).map(lambda array: array[::2, 1:3]),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1, max_size=4),
)


@given(st.lists(st.tuples(TENSORS, st.booleans()), min_size=1, max_size=4))
async def test_what_is_written_is_what_a_client_reads(chosen: list[tuple[Any, bool]]) -> None:
    """Tensors in bytes, in JSON and mixed come out of Triton's client as they went in; null is its NaN."""
    tensors = [(Tensor(f"t{place}", values), binary) for place, (values, binary) in enumerate(chosen)]
    body, length = await outputs.written({"model_name": "any"}, tensors)
    assert (length is not None) is any(binary for _, binary in tensors)
    result = InferResult.from_response_body(body, header_length=length)
    for tensor, binary in tensors:
        found = result.as_numpy(tensor.name)
        if isinstance(tensor.values, list):
            assert [text.decode() if isinstance(text, bytes) else text for text in found] == tensor.values
        elif binary:
            np.testing.assert_array_equal(found, tensor.values)
        else:
            finite = np.where(np.isfinite(tensor.values), tensor.values, np.nan)
            np.testing.assert_array_equal(found, finite)


def test_numbers_are_not_copied_on_their_way_out() -> None:
    """What lies in order already is handed on as it is."""
    values = np.arange(6.0).reshape(2, 3)
    assert np.shares_memory(np.frombuffer(Tensor("any", values).raw()), values)
