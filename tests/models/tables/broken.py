"""Tables that are broken, each in one way: (what is wrong, file name, bytes, options, how the message begins).

A message of None means that the table is taken all the same.
"""

# ruff: noqa: E501

from __future__ import annotations

import io

import polars as pl

ROWS = [f"{i % 7},{'gas' if i % 3 else 'oil'},{i * 1.5 + (i % 5)}" for i in range(60)]
GOOD = "\n".join(["rooms,heating,price", *ROWS]).encode()


def _changed(row: int, line: str) -> bytes:
    return "\n".join(["rooms,heating,price", *ROWS[:row], line, *ROWS[row + 1 :]]).encode()


def _with(name: str, values: list[str]) -> bytes:
    lines = [f"rooms,{name},price"] + [
        f"{row.split(',')[0]},{value},{row.split(',')[2]}" for row, value in zip(ROWS, values, strict=True)
    ]
    return "\n".join(lines).encode()


def _dates() -> bytes:
    out = io.BytesIO()
    day = pl.Series("sold", ["2020-01-01"] * 60).str.to_date()
    pl.DataFrame({"sold": day, "price": [float(i) for i in range(60)]}).write_parquet(out)
    return out.getvalue()


PRICE = ["--target", "price"]
BROKEN = [
    ("empty", "t.csv", b"", PRICE, "t.csv is empty"),
    ("a header alone", "t.csv", b"rooms,heating,price\n", PRICE, "t.csv has a header and no rows"),
    ("one row", "t.csv", b"rooms,heating,price\n3,gas,100\n", PRICE, "1 row with a target; at least 40 are needed, to learn from some and to check with others"),
    ("a constant target", "t.csv", _with("heating", ["gas"] * 60).replace(b"price", b"cost") + b"", ["--target", "heating"], "the target 'heating' is 'gas' in every row: there is nothing to learn"),
    ("two columns of one name", "t.csv", GOOD.replace(b"rooms,", b"price,", 1), PRICE, "t.csv has two columns called 'price'; rename or remove one"),
    ("a column without a name", "t.csv", GOOD.replace(b"rooms,", b",", 1), PRICE, "t.csv: column 1 has no name; the first line must have one for every column"),
    ("no header", "t.csv", b"1,2,3\n" * 60, PRICE, "t.csv has numbers in its first line, where the names of the columns must be"),
    ("text among numbers", "t.csv", _changed(16, "many,gas,30"), PRICE, "column 'rooms', row 17: 'many' is not a number, and 59 of 60 values are; correct it, or say --missing 'many' or --category 'rooms'"),
    ("a number beyond floats", "t.csv", _changed(4, "1e400,gas,30"), PRICE, "column 'rooms', row 5: '1e400' is not a finite number; correct it, or say --missing '1e400'"),
    ("infinity", "t.csv", _changed(4, "3,gas,inf"), PRICE, "column 'price', row 5: 'inf' is not a finite number; correct it, or say --missing 'inf'"),
    ("a byte order mark", "t.csv", b"\xef\xbb\xbf" + GOOD, PRICE, None),
    ("semicolons", "t.csv", GOOD.replace(b",", b";"), PRICE, None),
    ("a wrong delimiter", "t.csv", GOOD.replace(b",", b"~"), PRICE, "--target: there is no column 'price'; there are: rooms~heating~price (the file may have another separator)"),
    ("10,000 categories", "t.csv", b"price,street\n" + b"".join(b"%d,street %d\n" % (i % 97, i) for i in range(10_000)), PRICE, "column 'street' has 10,000 different texts in 10,000 rows, such as 'street 0', 'street 1', 'street 10' and 9997 more: too many to learn from; leave it out with --drop 'street'"),
    ("no such target", "t.csv", GOOD, ["--target", "prize"], "--target: there is no column 'prize'; there are: rooms, heating, price"),
    ("no target", "t.csv", GOOD, [], "which column is to be learnt? --target NAME; there are: rooms, heating, price"),
    ("a target that is never there", "t.csv", _with("heating", ["NA"] * 60), ["--target", "heating"], "the target 'heating' is missing in every row"),
    ("a class of one row", "t.csv", _with("heating", ["coal", *["gas", "oil"] * 29, "gas"]), ["--target", "heating"], "the target 'heating' has fewer than 5 rows of 'coal': join or remove such classes, or is it --task regression?"),
    ("a target of texts for a regression", "t.csv", GOOD, ["--target", "heating", "--task", "regression"], "the target 'heating' is not a number, as a regression needs; it has 'gas', 'oil'"),
    ("a row that is too long", "t.csv", _changed(9, "3,gas,30,40"), PRICE, "t.csv: row 10 has 4 values, for 3 columns with commas between"),
    ("a row that is too short", "t.csv", _changed(9, "3,gas"), PRICE, "t.csv: row 10 has 2 values, for 3 columns with commas between"),
    ("Latin-1", "t.csv", GOOD.replace(b"gas", "öl".encode("latin-1"), 1), PRICE, "t.csv is neither UTF-8 nor Parquet: line 3; save it as CSV in UTF-8"),
    ("bytes that are no text", "t.csv", b"a,b\n" + bytes(100), PRICE, "t.csv is not a text: it has zero bytes in it"),
    ("Parquet cut short", "t.parquet", _dates()[:200], PRICE, "t.parquet: can't be read: parquet: File out of specification: The file must end with PAR1 or PARE"),
    ("dates", "t.parquet", _dates(), PRICE, "t.parquet has columns of kinds that can't be learnt from: 'sold' (Date); drop them there"),
    ("nothing to learn from", "t.csv", b"price\n" + b"".join(b"%d\n" % i for i in range(60)), PRICE, "no column is left to learn from"),
    ("several targets of texts", "t.csv", GOOD, ["--target", "heating", "--target", "price"], "several targets must all be numbers; train one model for each class column"),
]  # fmt: skip
