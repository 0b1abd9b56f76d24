"""How requests are spoilt, and what every refusal of one must be like."""

from __future__ import annotations

import json

import httpx

from service.settings import Settings
from tests.api.wire import NAMES, ROW, assert_problem

# What a body holds of these must not be in the answer.
CANARIES = ("canary", "31415")
ROW_TEXT = json.dumps(ROW)
NAMED = dict(zip(NAMES, ROW, strict=True))
WHOLE = "must be a whole number from 0 to 9007199254740991, written without quotes, decimal point or exponent"
COUNT = "must be a whole number from 1, written without quotes, decimal point or exponent"
DEFAULTS = Settings.model_construct()
UNIT = "must be a number above 0 and below 1"
TRUTH = "must be true or false"
# Numbers as JSON may write them, or as it may not, that no float64 holds.
VALUES = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "31415" * 1000, "-" + "31415" * 1000, "31415" * 70]
FLAT = "must be a list of rows: a single row is [[…]], not […]"
CAN_BE = "must be a list of numbers or an object of named numbers"


def with_option(text: str) -> bytes:
    """A good request but for these members, as they are written."""
    return f'{{"inputs": [{ROW_TEXT}], {text}}}'.encode()


def with_inputs(text: str) -> bytes:
    """A request with these inputs, as they are written."""
    return f'{{"inputs": {text}}}'.encode()


def with_value(text: str) -> bytes:
    """A request with one row whose `bmi` is written like this."""
    return f'{{"inputs": [[0, 0, {text}, 0, 0, 0, 0, 0, 0, 0]]}}'.encode()


def complaints(response: httpx.Response, status: int = 422) -> list[tuple[str, str]]:
    """The (field, message) pairs of a problem; `detail` must be the first of them in words."""
    problem = assert_problem(response, status)
    found = [(error["field"], error["message"]) for error in problem["errors"]]
    assert problem["detail"] == f"{found[0][0]}: {found[0][1]}"
    assert problem["type"] == "urn:penumbra:problem:invalid-request"
    return found


def assert_no_echo(response: httpx.Response) -> None:
    """Nothing of what was sent comes back, neither in the body nor in a header."""
    said = (response.text + repr(sorted(response.headers.items()))).lower()
    # The id of a request is random and may hold any digits.
    said = said.replace(response.headers["x-request-id"].lower(), "")
    assert not [canary for canary in CANARIES if canary in said]
