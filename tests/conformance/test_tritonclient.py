"""tritonclient[http], with threads and with asyncio, unchanged, against the real service."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio
from tritonclient.http import InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from tests.api.live import Server
from tests.api.wire import PREDICT, ROW, SAMPLE, TINY_ROWS, ask, rows_of

ROWS = [ROW, ROW[::-1]]
PREDICTED = {"diabetes": ("mean", "aleatoric_std"), "digits": ("labels", "probabilities")}
SAMPLING = {"samples": 100, "seed": 7, "first_sample": 3, "interval": 0.8, "quantiles": "0.05,0.5,0.95", "draws": True}
DIGITS = [str(digit) for digit in range(10)]
Call = Callable[..., Awaitable[Any]]


@pytest.fixture(params=[tritonclient.http, tritonclient.http.aio], ids=["threads", "asyncio"])
async def call(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Call]:
    """Calls a method of a client by its name, and waits for what it returns."""
    client = request.param.InferenceServerClient(server.url.removeprefix("http://"))

    async def called(method: str, *arguments: Any, **options: Any) -> Any:
        found = getattr(client, method)(*arguments, **options)
        return await found if inspect.isawaitable(found) else found

    yield called
    await called("close")


def tensor(rows: Any, datatype: str = "FP64", *, binary: bool = True) -> list[InferInput]:
    """The input."""
    array = np.array(rows, tritonclient.http.triton_to_np_dtype(datatype))
    return [InferInput("inputs", array.shape, datatype).set_data_from_numpy(array, binary_data=binary)]


def arrays(result: InferResult) -> dict[str, Any]:
    """Every output, in order."""
    return {each["name"]: result.as_numpy(each["name"]) for each in result.get_response()["outputs"]}


def assert_same(found: dict[str, Any], native: dict[str, Any], quantiles: tuple[str, ...] = ()) -> None:
    """The arrays hold every summary of a native answer, to the bit, and nothing else."""
    expected = {name: value for name, value in native.items() if name not in NOT_SUMMARIES and value is not None}
    if "interval" in native:
        expected |= {bound: native["interval"][bound] for bound in ("lower", "upper")}
    if quantiles:
        expected["quantiles"] = [native["quantiles"][one] for one in quantiles]
    if expected.get("prediction_set"):
        expected["prediction_set"] = [[label in one for label in DIGITS] for one in expected["prediction_set"]]
    assert found.keys() == expected.keys()
    for name, array in found.items():
        told = [label.encode() if isinstance(label, str) else label for label in expected[name]]
        np.testing.assert_array_equal(as_bytes(array), np.array(told), err_msg=name)


def as_bytes(array: Any) -> Any:
    """Texts as bytes, which they are if they came as such."""
    return np.array([t.encode() if isinstance(t, str) else t for t in array]) if array.dtype == object else array


NOT_SUMMARIES = ("model", "seed", "first_sample", "samples", "method", "interval", "quantiles")


async def test_health_and_metadata(call: Call) -> None:
    """The service is live and ready, says what it speaks, and describes its models' tensors."""
    assert await call("is_server_live")
    assert await call("is_server_ready")
    assert {"binary_tensor_data", "model_repository", "statistics"} <= {
        *(await call("get_server_metadata"))["extensions"]
    }
    for version in ("", "1"):
        assert await call("is_model_ready", "diabetes", version)
        described = await call("get_model_metadata", "diabetes", version)
        assert (described["name"], described["versions"]) == ("diabetes", ["1"])
        assert described["inputs"] == [{"name": "inputs", "datatype": "FP32", "shape": [-1, 10]}]
        assert {"name": "mean", "datatype": "FP64", "shape": [-1, 1]} in described["outputs"]
        configured = await call("get_model_config", "diabetes", version)
        assert configured["input"] == [{"name": "inputs", "data_type": "TYPE_FP32", "dims": [-1, 10]}]
        assert len(configured["output"]) == len(described["outputs"])
    assert not await call("is_model_ready", "none")
    assert not await call("is_model_ready", "diabetes", "2")


@pytest.mark.parametrize("written", [True, False], ids=["bytes", "JSON"])
@pytest.mark.parametrize("sent", [True, False], ids=["bytes", "JSON"])
async def test_a_prediction_is_the_native_one(server: Server, call: Call, sent: bool, written: bool) -> None:
    """Every output has the native numbers, to the bit, whichever way rows and answer are written."""
    for name in ("diabetes", "digits"):
        rows = rows_of(server.client, name)
        outputs = None if written else [InferRequestedOutput(output, binary_data=False) for output in PREDICTED[name]]
        result = await call("infer", name, tensor(rows, binary=sent), outputs=outputs)
        native = ask(server.client, f"/v1/models/{name}/predict", inputs=rows)
        assert_same(arrays(result), native)
        assert result.get_response().keys() == {"model_name", "model_version", "parameters", "outputs"}
        assert result.get_response()["parameters"] == {"digest": native["model"]["digest"]}


async def test_sampling_by_parameters(server: Server, call: Call) -> None:
    """Every summary of the native answer is an output of the same bits; what took effect is in the parameters."""
    result = await call("infer", "diabetes", tensor(ROWS), parameters=SAMPLING)
    options = {"samples": 100, "seed": 7, "first_sample": 3, "interval": 0.8, "quantiles": [0.05, 0.5, 0.95]}
    native = ask(server.client, SAMPLE, inputs=ROWS, return_draws=True, **options)
    assert_same(arrays(result), native, ("0.05", "0.5", "0.95"))
    assert result.as_numpy("quantiles").shape == (3, 2, 1)
    assert result.as_numpy("draws").shape == (100, 2, 1)
    assert result.get_response()["parameters"] == {
        "digest": native["model"]["digest"],
        "seed": 7,
        "first_sample": 3,
        "samples": 100,
        "method": "dropout",
        "interval": 0.8,
        "interval_kind": "conformal",
    }


async def test_sampling_a_classification(server: Server, call: Call) -> None:
    """Labels, probabilities, entropies and votes of a committee; a seed may be a text."""
    rows = rows_of(server.client, "digits")
    result = await call("infer", "digits", tensor(rows), parameters={"seed": "9007199254740991", "aggregate": "vote"})
    native = ask(server.client, "/v1/models/digits/sample", inputs=rows, seed=9007199254740991, aggregate="vote")
    assert_same(arrays(result), native)
    assert result.get_response()["parameters"]["seed"] == 9007199254740991


async def test_an_omitted_seed_is_drawn_and_returned(call: Call) -> None:
    """Asked again with the seed that it returned, it returns the same bits."""
    first = await call("infer", "diabetes", tensor(ROWS), parameters={"samples": 20})
    seed = first.get_response()["parameters"]["seed"]
    again = await call("infer", "diabetes", tensor(ROWS), parameters={"samples": 20, "seed": seed})
    assert again.get_response() == first.get_response()
    np.testing.assert_array_equal(again.as_numpy("std"), first.as_numpy("std"))


async def test_selected_outputs_in_bytes_and_json(call: Call) -> None:
    """Outputs come in the order in which they are named, each written as asked, and no others."""
    asked = (("std", True), ("mean", False), ("upper", True))
    wanted = [InferRequestedOutput(name, binary_data=binary) for name, binary in asked]
    result = await call("infer", "diabetes", tensor(ROWS), outputs=wanted, parameters={"seed": 7, "samples": 10})
    told = result.get_response()["outputs"]
    assert [(each["name"], "data" in each) for each in told] == [("std", False), ("mean", True), ("upper", False)]
    everything = await call("infer", "diabetes", tensor(ROWS), parameters={"seed": 7, "samples": 10})
    for name, array in arrays(result).items():
        np.testing.assert_array_equal(array, everything.as_numpy(name))


async def test_ids_and_versions(call: Call) -> None:
    """An id comes back, and is left out where none was sent; a version answers for itself."""
    named = await call("infer", "diabetes", tensor(ROWS), request_id="mine", model_version="1")
    assert named.get_response()["id"] == "mine"
    assert named.get_response()["model_version"] == "1"
    assert "id" not in (await call("infer", "diabetes", tensor(ROWS))).get_response()


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
async def test_requests_may_be_compressed(server: Server, call: Call, compression: str) -> None:
    """The answer is the same; a compressed answer may be asked for, and need not come."""
    result = await call(
        "infer",
        "diabetes",
        tensor(ROWS),
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert_same(arrays(result), ask(server.client, PREDICT, inputs=ROWS))


@pytest.mark.parametrize(
    "datatype", ["FP16", "FP32", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]
)
@pytest.mark.parametrize("binary", [True, False], ids=["bytes", "JSON"])
async def test_other_datatypes_are_converted_exactly(server: Server, call: Call, datatype: str, binary: bool) -> None:
    """A tensor of any kind of number gives what its values give as JSON numbers."""
    array = np.array(rows_of(server.client, "digits")).astype(tritonclient.http.triton_to_np_dtype(datatype))
    result = await call("infer", "digits", tensor(array, datatype, binary=binary))
    assert_same(arrays(result), ask(server.client, "/v1/models/digits/predict", inputs=array.tolist()))


async def test_errors_are_the_clients_own_with_our_message(call: Call) -> None:
    """What the service says is the message of the exception that the client raises, with the status."""
    cases: list[tuple[Any, dict[str, Any], str, str]] = [
        (
            "none",
            {},
            "404",
            "there is no model of that name; there are: breast-cancer, diabetes, digits, digits-ensemble",
        ),
        ("diabetes", {"model_version": "2"}, "404", "diabetes has no such version; there are: 1"),
        (
            "diabetes",
            {"parameters": {"seed": -1}},
            "400",
            "parameters.seed: must be a whole number from 0 to 900719925474",
        ),
        ("diabetes", {"parameters": {"sed": 7}}, "400", "parameters: has 1 unknown name; known are seed, samples, "),
        (
            "diabetes",
            {"outputs": [InferRequestedOutput("canary")]},
            "400",
            "outputs: has a name that this model has no",
        ),
        (
            "diabetes",
            {"outputs": [InferRequestedOutput("std")]},
            "400",
            "outputs: std comes of sampling: ask for it with",
        ),
        (
            "diabetes",
            {"outputs": [InferRequestedOutput("mean", class_count=2)]},
            "400",
            "outputs.parameters: has 1 unk",
        ),
        (
            "diabetes",
            {"parameters": {"samples": 10, "dropout": 0}},
            "409",
            "diabetes has no active dropout here, so ev",
        ),
        ("digits", {}, "400", "inputs.shape: must be [rows, 64], with at least one row"),
    ]
    for name, options, status, message in cases:
        with pytest.raises(InferenceServerException) as raised:
            await call("infer", name, tensor(ROWS), **options)
        assert raised.value.status() == status
        assert raised.value.message().startswith(message)


async def test_a_timeout_and_what_servers_schedule_by_are_taken(call: Call) -> None:
    """Priorities and sequences change nothing here; a timeout is the longest wait in the queue."""
    options = {"priority": 1, "timeout": 60_000_000, "sequence_id": 3, "sequence_start": True}
    plain = await call("infer", "diabetes", tensor(ROWS))
    taken = await call("infer", "diabetes", tensor(ROWS), **options)
    np.testing.assert_array_equal(taken.as_numpy("mean"), plain.as_numpy("mean"))


async def test_statistics_count(call: Call) -> None:
    """Rows and requests that were answered are counted, for one model and for all."""

    def counted(told: dict[str, Any]) -> dict[str, tuple[int, int]]:
        return {
            one["name"]: (one["inference_count"], one["inference_stats"]["success"]["count"])
            for one in told["model_stats"]
        }

    (rows, requests) = counted(await call("get_inference_statistics", "diabetes"))["diabetes"]
    for _ in range(3):
        await call("infer", "diabetes", tensor(ROWS))
    assert counted(await call("get_inference_statistics", "diabetes", "1")) == {"diabetes": (rows + 6, requests + 3)}
    assert counted(await call("get_inference_statistics")).keys() == {
        "breast-cancer",
        "diabetes",
        "digits",
        "digits-ensemble",
        "mnist-ff",
    }


async def test_the_repository_is_listed_with_an_empty_body(call: Call) -> None:
    """Every version with its state."""
    listed = await call("get_model_repository_index")
    assert listed == [
        {"name": name, "version": "1", "state": "READY", "reason": ""}
        for name in ("breast-cancer", "diabetes", "digits", "digits-ensemble", "mnist-ff")
    ]


def test_what_is_undefined_has_no_output(tiny: Server) -> None:
    """With one sample and noise that is not known only the mean is defined: the client has None for the others."""
    client = tritonclient.http.InferenceServerClient(tiny.url.removeprefix("http://"))
    result = client.infer("silent", tensor(TINY_ROWS), parameters={"samples": 1, "seed": 7, "quantiles": "0.5"})
    assert list(arrays(result)) == ["mean"]
    assert result.as_numpy("std") is None
    with pytest.raises(InferenceServerException, match="std is undefined for this request"):
        client.infer("silent", tensor(TINY_ROWS), outputs=[InferRequestedOutput("std")], parameters={"samples": 1})
    with pytest.raises(InferenceServerException, match="has a name that this model has no output for"):
        client.infer("silent", tensor(TINY_ROWS), outputs=[InferRequestedOutput("aleatoric_std")])
    client.close()
