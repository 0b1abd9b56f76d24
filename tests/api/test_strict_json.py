"""The strict JSON reader: what any reader would read, and nothing that two readers would read differently."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.api.strict_json import parse
from service.errors import InvalidRequest, MalformedRequest, PenumbraError

texts = st.text(max_size=8) | st.sampled_from([":", "a:b", '":', "::", "{", '"a":1', "\\u003a", "inputs"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    texts,
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
encoders = st.sampled_from(
    [
        lambda value: json.dumps(value).encode(),
        lambda value: json.dumps(value, ensure_ascii=False).encode(),
        lambda value: json.dumps(value, indent=1, separators=(" ,", " : ")).encode(),
    ]
)
# Where the contract has objects: the body, the rows in a list, an option; and places where it has none.
NESTINGS = {
    "top level": "{}",
    "row": '{{"inputs": [{}]}}',
    "later row": '{{"inputs": [{{"x": 1}}, {}], "seed": 1}}',
    "row after a list": '{{"inputs": [[1], {}]}}',
    "option": '{{"inputs": [[1]], "samples": {}}}',
    "in an option": '{{"samples": {{"min": {}}}}}',
    "in a row": '{{"inputs": [[{}]]}}',
    "list": "[{}]",
    "deep": '[[{{"a": [{{"b": [{}]}}]}}]]',
}


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type, all the way down; -0.0 is not 0.0."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and repr(one) == repr(other)


@given(value=values, encode=encoders)
@example(value={"inputs": [{"a:b": "c:d", ":": ":::"}], "seed": 7}, encode=lambda value: json.dumps(value).encode())
@example(value={"a": {"b": {"c": {"d": 1}}}}, encode=lambda value: json.dumps(value).encode())
@example(value=[1, 1.0, -0.0, 1e22, 5e-324, 2**64 - 1], encode=lambda value: json.dumps(value).encode())
def test_what_was_written_is_read(value: Any, encode: Any) -> None:
    """Any JSON value of 64-bit integers, finite floats and text, however it is laid out, is read as it was."""
    assert same(parse(encode(value)), value)


@pytest.mark.parametrize("nesting", NESTINGS.values(), ids=NESTINGS.keys())
@given(members=st.dictionaries(texts, scalars, min_size=1, max_size=4), data=st.data())
def test_a_key_that_is_there_twice_is_refused(nesting: str, members: dict[str, Any], data: st.DataObject) -> None:
    """An object with the same key twice, equal values or not, is refused wherever it stands; without, it is read."""
    pairs = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in members.items()]
    key, value = data.draw(st.sampled_from(sorted(members))), data.draw(scalars)
    # The same key may be spelled with escapes.
    spelled = data.draw(st.sampled_from([json.dumps(key), json.dumps(key, ensure_ascii=False), escaped(key)]))
    place = data.draw(st.integers(0, len(pairs)))
    twice = [*pairs[:place], f"{spelled}: {json.dumps(value)}", *pairs[place:]]
    once = nesting.format("{" + ", ".join(pairs) + "}")
    assert same(parse(once.encode()), json.loads(once))
    with pytest.raises(MalformedRequest, match="an object has the same key twice"):
        parse(nesting.format("{" + ", ".join(twice) + "}").encode())


def escaped(key: str) -> str:
    """A key with every UTF-16 unit written as an escape."""
    units = key.encode("utf-16-be", "surrogatepass")
    return '"' + "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2)) + '"'


def test_colons_in_texts_are_no_keys() -> None:
    """A missing key can't be made up for by a colon in a text: the duplicate is still found."""
    with pytest.raises(MalformedRequest, match="same key twice"):
        parse(b'{"seed": 1, "seed": 2, "note": ":"}')
    assert parse(b'{"seed": 1, "note": "a: b: c"}') == {"seed": 1, "note": "a: b: c"}


def test_the_same_key_in_two_objects_is_no_duplicate() -> None:
    """Rows share their names."""
    assert parse(b'{"inputs": [{"a": 1}, {"a": 2}], "a": {"a": 3}}') == {
        "inputs": [{"a": 1}, {"a": 2}],
        "a": {"a": 3},
    }


@pytest.mark.parametrize("written", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5000, "-" + "9" * 5000])
def test_numbers_beyond_float64_are_read_as_not_finite(written: str) -> None:
    """They reach those who check values, who know the field's name; 5,000 digits are never turned into an integer."""
    found = parse(b'{"a": [%s]}' % written.encode())["a"][0]
    assert type(found) is float
    assert not math.isfinite(found)
    assert math.copysign(1, found) == (-1 if written.startswith("-") else 1)


@given(body=st.binary(max_size=40) | st.text('{}[]:,"1e-.tfn \\u', max_size=18).map(str.encode))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    """Whatever the bytes, the outcome is a value that the standard reader agrees with, or MalformedRequest."""
    try:
        value = parse(body)
    except MalformedRequest:
        return
    assert repr(value) == repr(json.loads(body.decode("utf-8")))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b"\n\n", "the body is empty"),
        (b'{"a":\n\n  1,,}', r"\(line 3, column 5\)$"),
        (b"\xff", "^the body is not UTF-8$"),
        ('{"a": 1}'.encode("utf-16"), "^the body is not UTF-8$"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"[" * 100_000, "^the body is nested too deeply$"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "^the body is nested too deeply$"),
    ],
)
def test_what_cannot_be_read_is_said(body: bytes, message: str) -> None:
    """The message says what is wrong, and where if that helps."""
    with pytest.raises(MalformedRequest, match=message):
        parse(body)


@pytest.mark.parametrize("depth", [100, 900])
def test_nesting_that_a_reader_can_bear_is_read(depth: int) -> None:
    """Unusual depth alone is no error of syntax."""
    value = parse(b"[" * depth + b"]" * depth)
    for _ in range(depth - 1):
        (value,) = value
    assert value == []


@pytest.mark.parametrize("empty", [b"[]", b"{}", b"[{}]"])
def test_brackets_alone_are_not_read(empty: bytes) -> None:
    """Millions of lists would take as long as a hundred times as many numbers; rows of any length are read."""
    with pytest.raises(MalformedRequest, match="too many"):
        parse(b'{"inputs": [' + b",".join([empty] * 500_000) + b"]}")
    assert len(parse(b"[" + b",".join([b"[1]"] * 100_000) + b"]")) == 100_000
    assert len(parse(b"[" + b",".join([b'{"a":0.5,"b":1.5,"c":2.25}'] * 200_000) + b"]")) == 200_000


@pytest.mark.parametrize("depth", [900, 980, 1000, 1020, 1023, 5000])
@pytest.mark.parametrize("inner", [b'{"a":1}', b'{":":1}', b'":"'])
def test_nesting_is_borne_or_refused(depth: int, inner: bytes) -> None:
    """The fast parser goes deeper than Python can call itself: looking through what it read must not fail there."""
    for opening, closing in ((b"[", b"]"), (b'{"b":', b"}")):
        with suppress(MalformedRequest):
            parse(opening * depth + inner + closing * depth)


@pytest.mark.parametrize("body", [b'{"\\ud800": 1}', b'{"a": ["\\udfff"]}', b'{"a": NaN, "b": "\\ud800x"}'])
@pytest.mark.parametrize("size", [0, 1 << 19])
def test_half_a_character_is_refused(body: bytes, size: int) -> None:
    """A lone surrogate is in no text that could be stored or answered: refused wherever it stands, in any body."""
    with pytest.raises(PenumbraError) as raised:
        parse(body + b" " * size)
    assert isinstance(raised.value, MalformedRequest if b"NaN" not in body or not size else InvalidRequest)
