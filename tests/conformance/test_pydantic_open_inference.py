"""pydantic-open-inference, unchanged, against the real service."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import pytest
from pydantic_open_inference import InputsBaseModel, OutputsBaseModel, RemoteModel
from pydantic_open_inference._client import BadStatusCodeFromServerError
from pydantic_open_inference._utils import DatatypeOverride, IncompatibleTensorError

from tests.api.live import Server
from tests.api.wire import PREDICT, ROW, ask, rows_of

ROWS = [ROW, ROW[::-1]]


class Patient(NamedTuple):
    """A row of diabetes."""

    age: float
    sex: float
    bmi: float
    bp: float
    s1: float
    s2: float
    s3: float
    s4: float
    s5: float
    s6: float


class One(NamedTuple):
    """An answer to it."""

    progression: float


class Rows(InputsBaseModel):
    """What diabetes takes."""

    inputs: list[Patient]


TWO = Rows(inputs=[Patient(*row) for row in ROWS])


class Pixels(InputsBaseModel):
    """What digits takes, as whole numbers."""

    inputs: Annotated[list[list[int]], DatatypeOverride("UINT8")]


class Progression(OutputsBaseModel):
    """What diabetes answers."""

    mean: list[One]


class Digit(OutputsBaseModel):
    """What digits answers."""

    labels: list[str]
    probabilities: list[list[float]]


class Wrong(OutputsBaseModel):
    """What no model answers."""

    canary: list[float]


def remote(server: Server, name: str = "diabetes", outputs: type = Progression, **more: object) -> RemoteModel:
    """The client of one model."""
    taken = Pixels if name == "digits" else Rows
    return RemoteModel(model_name=name, inputs_model=taken, outputs_model=outputs, server_url=server.url, **more)


def test_a_model_is_ready_and_as_it_is_described(server: Server) -> None:
    """The tensors that the metadata announces fit those that are declared; one that isn't there does not."""
    for version in (None, "1"):
        model = remote(server, model_version=version)
        assert model.is_ready()
        model.validate()
    with pytest.raises(IncompatibleTensorError):
        remote(server, outputs=Wrong).validate()
    assert not remote(server, name="none").is_ready()


def test_predictions_are_the_native_ones(server: Server) -> None:
    """The same digits of a row give the same bits of an answer, though the client calls them FP32."""
    native = ask(server.client, PREDICT, inputs=ROWS)
    assert [list(row) for row in remote(server).infer(TWO).mean] == native["mean"]


def test_labels_and_other_datatypes(server: Server) -> None:
    """Whole numbers go in, texts and probabilities come out."""
    rows = rows_of(server.client, "digits")
    pixels = [[round(value) for value in row] for row in rows]
    native = ask(server.client, "/v1/models/digits/predict", inputs=pixels)
    answer = remote(server, name="digits", outputs=Digit).infer(Pixels(inputs=pixels))
    assert answer.labels == native["labels"]
    assert answer.probabilities == native["probabilities"]


def test_errors_are_the_clients_own(server: Server) -> None:
    """An unknown model and an unknown output raise what the client has for it, with our status."""
    for model, status in ((remote(server, name="none"), 404), (remote(server, outputs=Wrong), 400)):
        with pytest.raises(BadStatusCodeFromServerError) as raised:
            model.infer(TWO)
        assert raised.value.status_code == status
