"""Every mistake in what a request says, made once: which field is named, with which rule, and no echo."""

from __future__ import annotations

import json

import pytest

from tests.api.live import Server
from tests.api.mistakes import (
    CAN_BE,
    COUNT,
    DEFAULTS,
    FLAT,
    NAMED,
    ROW_TEXT,
    TRUTH,
    UNIT,
    VALUES,
    WHOLE,
    assert_no_echo,
    complaints,
    with_inputs,
    with_option,
    with_value,
)
from tests.api.wire import NAMES, PREDICT, ROW, SAMPLE, send

OPTIONS = [
    # Seeds: nothing is ever rounded, parsed or clipped into one.
    ('"seed": 1e3', "seed", WHOLE),
    ('"seed": 7.0', "seed", WHOLE),
    ('"seed": 31415.5', "seed", WHOLE),
    ('"seed": "7"', "seed", WHOLE),
    ('"seed": "canary"', "seed", WHOLE),
    ('"seed": true', "seed", WHOLE),
    ('"seed": null', "seed", WHOLE),
    ('"seed": [7]', "seed", WHOLE),
    ('"seed": {"canary": 31415}', "seed", WHOLE),
    ('"seed": -1', "seed", WHOLE),
    ('"seed": 9007199254740992', "seed", WHOLE),
    ('"seed": 18446744073709551616', "seed", WHOLE),
    ('"seed": ' + "31415" * 1000, "seed", WHOLE),
    ('"seed": -' + "31415" * 1000, "seed", WHOLE),
    ('"seed": NaN', "seed", WHOLE),
    ('"seed": 1e999', "seed", WHOLE),
    # Numbers of samples.
    ('"samples": 0', "samples", COUNT),
    ('"samples": -5', "samples", COUNT),
    ('"samples": true', "samples", COUNT),
    ('"samples": 1.0', "samples", COUNT),
    ('"samples": "100"', "samples", COUNT),
    ('"samples": null', "samples", COUNT),
    (f'"samples": {DEFAULTS.max_samples + 1}', "samples", f"must be at most {DEFAULTS.max_samples}"),
    ('"samples": 31415314153141531415', "samples", COUNT),
    ('"first_sample": -1', "first_sample", WHOLE),
    ('"first_sample": 0.0', "first_sample", WHOLE),
    ('"first_sample": 9007199254740992', "first_sample", WHOLE),
    ('"first_sample": 9007199254740991', "first_sample", "and samples must come to 9007199254740992 at most"),
    # Levels and probabilities.
    ('"interval": 0', "interval", UNIT),
    ('"interval": 1', "interval", UNIT),
    ('"interval": 1.5', "interval", UNIT),
    ('"interval": 31415', "interval", UNIT),
    ('"interval": "0.9"', "interval", UNIT),
    ('"interval": true', "interval", UNIT),
    ('"interval": null', "interval", UNIT),
    ('"interval": NaN', "interval", UNIT),
    ('"interval": -Infinity', "interval", UNIT),
    ('"quantiles": 0.5', "quantiles", "must be a list of at most 32 numbers above 0 and below 1"),
    ('"quantiles": "0.05,0.5"', "quantiles", "must be a list of at most 32 numbers above 0 and below 1"),
    ('"quantiles": null', "quantiles", "must be a list of at most 32 numbers above 0 and below 1"),
    (
        f'"quantiles": {[0.5] * 33}',
        "quantiles",
        "must be a list of at most 32 numbers above 0 and below 1",
    ),
    ('"quantiles": [0.5, 0]', "quantiles[1]", UNIT),
    ('"quantiles": [1]', "quantiles[0]", UNIT),
    ('"quantiles": [0.1, 0.2, "canary"]', "quantiles[2]", UNIT),
    ('"quantiles": [1e999]', "quantiles[0]", UNIT),
    ('"quantiles": [true]', "quantiles[0]", UNIT),
    ('"dropout": -0.1', "dropout", "must be a number from 0 to 1"),
    ('"dropout": 1.0000001', "dropout", "must be a number from 0 to 1"),
    ('"dropout": 31415', "dropout", "must be a number from 0 to 1"),
    ('"dropout": true', "dropout", "must be a number from 0 to 1"),
    ('"dropout": NaN', "dropout", "must be a number from 0 to 1"),
    ('"dropout": [0.1, 0.2, 0.2]', "dropout", "must be a number from 0 to 1"),
    # Choices.
    ('"method": "canary"', "method", "must be dropout, ensemble or moments"),
    ('"method": "Dropout"', "method", "must be dropout, ensemble or moments"),
    ('"method": null', "method", "must be dropout, ensemble or moments"),
    ('"aggregate": "median"', "aggregate", "must be mean, vote or weighted"),
    ('"aggregate": "vote"', "aggregate", "is for classifications; the samples of a regression are averaged"),
    ('"aggregate": "weighted"', "aggregate", "is for classifications; the samples of a regression are averaged"),
    ('"return_draws": 1', "return_draws", TRUTH),
    ('"return_draws": "true"', "return_draws", TRUTH),
    ('"return_draws": null', "return_draws", TRUTH),
]


@pytest.mark.parametrize(("text", "field", "message"), OPTIONS, ids=[text[:60] for text, _, _ in OPTIONS])
def test_a_bad_option_is_named_with_the_rule_it_breaks(server: Server, text: str, field: str, message: str) -> None:
    """422 names the option and says the whole rule, in words that help to mend it."""
    response = send(server.client, SAMPLE, with_option(text))
    assert complaints(response) == [(field, message)]
    assert_no_echo(response)


NOT_NUMBERS = ['"canary"', '"1.5"', "true", "false", "null", "[31415]", '{"canary": 31415}', '""']


@pytest.mark.parametrize("path", [PREDICT, SAMPLE])
@pytest.mark.parametrize("value", VALUES, ids=[value[:12] for value in VALUES])
def test_numbers_that_are_not_finite_are_refused(server: Server, path: str, value: str) -> None:
    """Bare NaN and Infinity, and digits or exponents beyond float64, are named by row and input."""
    response = send(server.client, path, with_value(value))
    assert complaints(response) == [("inputs[0].bmi", "must be a finite number")]
    assert_no_echo(response)


@pytest.mark.parametrize("path", [PREDICT, SAMPLE])
@pytest.mark.parametrize("value", NOT_NUMBERS)
def test_what_is_not_a_number_is_refused(server: Server, path: str, value: str) -> None:
    """Text, truth, null and nesting in place of a number are named by row and input; nothing is parsed into one."""
    response = send(server.client, path, with_value(value))
    assert complaints(response) == [("inputs[0].bmi", "must be a number")]
    assert_no_echo(response)


INPUTS: list[tuple[str, list[tuple[str, str]]]] = [
    ("null", [("inputs", "must be a list of rows")]),
    ('"canary"', [("inputs", "must be a list of rows")]),
    ("31415", [("inputs", "must be a list of rows")]),
    (json.dumps(NAMED), [("inputs", "must be a list of rows")]),
    ("[]", [("inputs", "must have at least one row")]),
    ("[[]]", [("inputs[0]", "has 0 values, expected 10")]),
    (f"[{ROW_TEXT}, {json.dumps(ROW[:9])}]", [("inputs[1]", "has 9 values, expected 10")]),
    (f"[{ROW_TEXT}, {json.dumps([*ROW, 31415])}]", [("inputs[1]", "has 11 values, expected 10")]),
    (f"[[{ROW_TEXT}]]", [("inputs[0]", "has 1 value, expected 10")]),
    (json.dumps(["canary"]), [("inputs[0]", CAN_BE)]),
    (json.dumps([0.25]), [("inputs", FLAT)]),
    (ROW_TEXT, [("inputs", FLAT)]),
    (json.dumps([0.25, "canary", None, 31415]), [("inputs", FLAT)]),
    (json.dumps([31415, ROW]), [("inputs[0]", CAN_BE)]),
    (json.dumps([ROW, "canary", None]), [("inputs[1]", CAN_BE), ("inputs[2]", CAN_BE)]),
    (json.dumps([ROW, NAMED]), [("inputs[1]", "is an object, but the first row is a list: use one form")]),
    (json.dumps([NAMED, ROW]), [("inputs[1]", "is not an object, but the first row is one: use one form")]),
    (json.dumps([{**NAMED, "sex": "canary"}]), [("inputs[0].sex", "must be a number")]),
    (
        json.dumps([NAMED, {name: value for name, value in NAMED.items() if name not in {"sex", "s6"}}]),
        [("inputs[1].sex", "is missing"), ("inputs[1].s6", "is missing")],
    ),
    (
        json.dumps([{**NAMED, "canary": 31415}]),
        [("inputs[0]", f"has 1 unknown name; known are {', '.join(NAMES)}")],
    ),
    (
        json.dumps([{**NAMED, "canary": 31415, "Age": 1}]),
        [("inputs[0]", f"has 2 unknown names; known are {', '.join(NAMES)}")],
    ),
]


@pytest.mark.parametrize("path", [PREDICT, SAMPLE])
@pytest.mark.parametrize(("text", "expected"), INPUTS, ids=[text[:50] for text, _ in INPUTS])
def test_bad_rows_are_named(server: Server, path: str, text: str, expected: list[tuple[str, str]]) -> None:
    """Empty, ragged, mixed and misnamed rows: the row, what is wrong with it, and what was expected."""
    response = send(server.client, path, with_inputs(text))
    assert complaints(response) == expected
    assert_no_echo(response)


def test_several_mistakes_are_told_at_once(server: Server) -> None:
    """Every bad option and every bad value is named, up to ten, in the order in which they stand."""
    body = with_option('"samples": 0, "seed": -1, "interval": 2, "quantiles": [0, 0.5, 1]')
    fields = [field for field, _ in complaints(send(server.client, SAMPLE, body))]
    assert sorted(fields) == ["interval", "quantiles[0]", "quantiles[2]", "samples", "seed"]
    body = with_inputs(f"[{ROW_TEXT}, [null, 0, 0, 0, 0, 0, 0, 0, 0, 1e999], {ROW_TEXT}]")
    assert complaints(send(server.client, SAMPLE, body)) == [
        ("inputs[1].age", "must be a number"),
        ("inputs[1].s6", "must be a finite number"),
    ]


@pytest.mark.parametrize(
    ("path", "known"),
    [(PREDICT, ("inputs",)), (SAMPLE, ("inputs", "seed", "samples", "quantiles", "dropout", "return_draws"))],
)
@pytest.mark.parametrize(
    ("members", "count"),
    [('"canary": 1', "1 unknown field;"), ('"canary": 1, "Seed": 2, "": 3', "3 unknown fields;")],
)
def test_unknown_fields_are_counted_and_the_known_ones_listed(
    server: Server, path: str, known: tuple[str, ...], members: str, count: str
) -> None:
    """A misspelled option is never dropped silently, and its name is not repeated."""
    response = send(server.client, path, with_option(members))
    ((field, message),) = complaints(response)
    assert field == "body"
    assert message.startswith(f"has {count} known are ")
    assert set(known) <= set(message.partition("known are ")[2].split(", "))
    assert_no_echo(response)


@pytest.mark.parametrize("path", [PREDICT, SAMPLE])
@pytest.mark.parametrize("body", [b"{}", b'{"Inputs": [[0]]}', b'{"instances": [[31415]], "canary": 1}'])
def test_missing_inputs_are_said_to_be_missing(server: Server, path: str, body: bytes) -> None:
    """Before anything else, a request without rows learns the name under which rows are looked for."""
    response = send(server.client, path, body)
    assert complaints(response) == [("inputs", "is missing")]
    assert_no_echo(response)


def test_quantiles_are_for_regressions(server: Server) -> None:
    """A classification has no quantiles to give."""
    body = {"inputs": [[1] * 64], "quantiles": [0.5]}
    response = server.client.post("/v1/models/digits/sample", json=body)
    assert complaints(response) == [("quantiles", "are for regressions")]
