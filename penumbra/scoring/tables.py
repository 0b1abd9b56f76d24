"""Tables in files, a batch of rows at a time: CSV and Parquet, in and out. Knows nothing of services.

How a value is read is for the model's inputs to say; columns that the model doesn't take are carried along as they
are: text in CSV, typed in Parquet. Parquet files are read from object stores, too, by their URL.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from penumbra import arrays
from penumbra.errors import InvalidRequest, PenumbraError
from penumbra.inputs import Inputs
from penumbra.rows import Rows, Table, read

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_PARQUET = (".parquet", ".pq")
_BLOCK = 1 << 20
# Bounds of a row of text: it is parsed at once, which holds the interpreter and takes many times its length in memory.
_LARGEST_ROW = 1 << 20
_MOST_DELIMITERS = 16_384
_MOST_LINES = 4096
# Rows of Parquet are decoded so many at a time, and looked at: a few bytes of a file can become any number of them.
_DECODED_ROWS = 256
_DECODED_BYTES = 1 << 25


class TableError(PenumbraError, ValueError):
    """A file that can't be read or written as a table, and where."""


class TooLarge(TableError):
    """More than is read at once, and how much may be. Quotes nothing of the file."""


class Batch(NamedTuple):
    """Successive rows of a table, from row `first` on: what the model takes, NaN being missing, and what is kept."""

    first: int
    rows: Rows
    kept: Mapping[str, Any]


class Source:
    """A table in a file: the names of its columns, about how many rows it has, and the rows in batches."""

    def __init__(self, path: Path | str) -> None:
        self.path = path
        self.names: list[str] = []

    def stamp(self) -> tuple[int, int]:
        """The file's size, and when it was changed, in nanoseconds: whether it is the same as before."""
        found = Path(self.path).stat()
        return found.st_size, found.st_mtime_ns

    def check(self, inputs: Sequence[str]) -> None:
        """Refuses a table without the columns that the model takes, or with two of the same name. Raises TableError."""
        if len(set(self.names)) != len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise TableError(f"{self.path} has two columns called {twice!r}")
        if missing := [name for name in inputs if name not in self.names]:
            raise TableError(f"{self.path} has no column {', '.join(missing)}; it has {', '.join(self.names[:20])}")

    def count(self) -> int:
        """About how many rows there are: for a line that says how far it is."""
        raise NotImplementedError

    def batches(self, size: int, inputs: Inputs, keep: Sequence[str], skip: int = 0) -> Iterator[Batch]:
        """Batches of so many rows, all but the first `skip` of them, whole batches. Raises TableError."""
        raise NotImplementedError

    def batch(self, first: int, size: int, inputs: Inputs, keep: Sequence[str]) -> Batch:
        """A batch by itself, where `is_parquet`. Raises TableError."""
        raise NotImplementedError

    def _coded(self, written: Rows | Table, first: int, inputs: Inputs) -> Rows:
        """Rows from row `first` on, as the model takes them; what is missing is NaN. Raises TableError."""
        rows, complaints = inputs.coded(written)
        if complaints:
            row, name, message = complaints[0]
            raise TableError(f"{self.path}, row {first + row + 1}: {name} {message}")
        return rows


def opened(path: Path | str) -> Source:
    """The table in a file, told by its name; a URL is one of a Parquet file in an object store. Raises TableError."""
    if is_url(path):
        if not is_parquet(path):
            raise TableError(f"{path} must end in .parquet: of files elsewhere no others are read")
        return _Parquet(path)
    path = Path(path)
    if not path.is_file():
        raise TableError(f"there is no file {path}")
    kind = path.suffix.lower()
    if kind in _DELIMITERS:
        return _Csv(path, _DELIMITERS[kind])
    if kind in _PARQUET:
        return _Parquet(path)
    raise TableError(f"{path} must end in .csv, .tsv or .parquet, for what is in it to be known")


def write_part(path: Path, like: Path, columns: Mapping[str, Any], kinds: Mapping[str, str]) -> None:
    """Writes the rows of one batch, as the file that it will be a part of has them.

    `kinds` are "number", "whole" or "text", for the columns that have one: some of their values may be None or NaN.
    """
    if is_parquet(like):
        arrow = _arrow()
        import pyarrow.parquet as pq

        types = {"number": arrow.float64(), "whole": arrow.int64(), "text": arrow.string()}
        typed = {
            name: arrow.array(column, types[kinds[name]], from_pandas=True) if name in kinds else column
            for name, column in columns.items()
        }
        pq.write_table(arrow.table(typed), path)
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=_DELIMITERS[like.suffix.lower()], lineterminator="\n")
        writer.writerows(zip(*map(_printed, columns.values()), strict=True))


def write_whole(path: Path, like: Path, parts: Sequence[Path], names: Sequence[str]) -> None:
    """Puts parts together, one at a time."""
    if is_parquet(like):
        import pyarrow.parquet as pq

        with pq.ParquetWriter(path, pq.read_schema(parts[0])) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part))
        return
    with path.open("wb") as whole:
        head = io.StringIO()
        csv.writer(head, delimiter=_DELIMITERS[like.suffix.lower()], lineterminator="\n").writerow(names)
        whole.write(head.getvalue().encode())
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, whole, _BLOCK)


def check_destination(path: Path) -> None:
    """Refuses a file that couldn't be written at the end of it all. Raises TableError."""
    if is_parquet(path):
        _arrow()
    elif path.suffix.lower() not in _DELIMITERS:
        raise TableError(f"{path} must end in .csv, .tsv or .parquet, for its form to be known")
    if not path.resolve().parent.is_dir():
        raise TableError(f"there is no directory {path.resolve().parent}")


def is_url(path: Path | str) -> bool:
    """Whether a table is somewhere else than on this machine."""
    return isinstance(path, str) and "://" in path


class _Csv(Source):
    """Text with a header."""

    path: Path

    def __init__(self, path: Path, delimiter: str) -> None:
        super().__init__(path)
        self._delimiter = delimiter
        with self._reader() as reader:
            self.names = [name.strip() for name in next(reader, [])]
        if not self.names:
            raise TableError(f"{path} is empty: its first line must have the names of the columns")

    def count(self) -> int:
        with self.path.open("rb") as file:
            blocks = iter(lambda: file.read(_BLOCK), b"")
            return max(0, sum(max(block.count(b"\n"), block.count(b"\r")) for block in blocks) - 1)

    def batches(self, size: int, inputs: Inputs, keep: Sequence[str], skip: int = 0) -> Iterator[Batch]:
        with self._reader() as reader:
            next(reader)
            rows = self._of_width(reader)
            for _ in islice(rows, skip):
                pass
            first = skip
            while lines := list(islice(rows, size)):
                columns = dict(zip(self.names, zip(*lines, strict=True), strict=True))
                written = Table(None, [columns[name] for name in inputs.names], written=True)
                yield Batch(first, self._coded(written, first, inputs), {name: list(columns[name]) for name in keep})
                first += len(lines)

    def _of_width(self, reader: Iterator[list[str]]) -> Iterator[list[str]]:
        """Rows with a value for each column. Others are refused before there are many of them in memory."""
        width = len(self.names)
        for number, line in enumerate(reader, 1):
            if len(line) != width:
                raise TableError(f"{self.path}, row {number}: has {len(line)} values, expected {width}")
            yield line

    @contextmanager
    def _reader(self) -> Iterator[Iterator[list[str]]]:
        try:
            with self.path.open(newline="", encoding="utf-8-sig") as file:
                yield self._filled(file)
        except UnicodeDecodeError as error:
            raise TableError(f"{self.path} is not UTF-8: {error.reason} at byte {error.start}") from None
        except csv.Error as error:
            raise TableError(f"{self.path} can't be read as CSV: {error}") from None

    def _filled(self, file: IO[str]) -> Iterator[list[str]]:
        """Rows with something on them, each of bounded size with the empty lines before it."""
        letters = delimiters = 0

        def lines() -> Iterator[str]:
            nonlocal letters, delimiters
            while line := file.readline(_LARGEST_ROW):
                letters += max(len(line), _LARGEST_ROW // _MOST_LINES)
                delimiters += line.count(self._delimiter)
                if letters >= _LARGEST_ROW or delimiters >= _MOST_DELIMITERS:
                    most = f"{_LARGEST_ROW} characters, {_MOST_DELIMITERS} delimiters and {_MOST_LINES} lines"
                    raise TooLarge(f"{self.path}, line {reader.line_num + 1}: a row must have less than {most}")
                yield line

        reader = csv.reader(lines(), delimiter=self._delimiter, strict=True)
        for row in reader:
            if row:
                letters = delimiters = 0
                yield row


class _Parquet(Source):
    """Typed columns, a few row groups at a time; any batch can be had without those before it."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        arrow = _arrow()
        import pyarrow.fs
        import pyarrow.parquet as pq

        try:
            if is_url(path):
                store, self._place = pyarrow.fs.FileSystem.from_uri(path)
            else:
                store, self._place = pyarrow.fs.LocalFileSystem(), str(path)
            self._store = store
            self._file = pq.ParquetFile(store.open_input_file(self._place), pre_buffer=is_url(path))
            self.names = list(self._file.schema_arrow.names)
        except (arrow.ArrowException, OSError, ValueError) as error:
            raise TableError(f"{path} can't be read as Parquet: {error}") from None

    def stamp(self) -> tuple[int, int]:
        found = self._store.get_file_info(self._place)
        return int(found.size), int(found.mtime_ns or 0)

    def count(self) -> int:
        return int(self._file.metadata.num_rows)

    def batches(self, size: int, inputs: Inputs, keep: Sequence[str], skip: int = 0) -> Iterator[Batch]:
        first = 0
        with self._reading():
            for table in self._tables(size, list(dict.fromkeys([*inputs.names, *keep]))):
                if first >= skip:
                    yield self._batch(table, first, inputs, keep)
                first += len(table)

    def batch(self, first: int, size: int, inputs: Inputs, keep: Sequence[str]) -> Batch:
        """So many rows from row `first` on, or what there is of them. Raises TableError."""
        groups: list[int] = []
        start = end = 0
        columns = list(dict.fromkeys([*inputs.names, *keep]))
        for number in range(self._file.num_row_groups):
            after = end + self._file.metadata.row_group(number).num_rows
            if after > first and end < first + size:
                start = start if groups else end
                groups.append(number)
            end = after
        with self._reading():
            table = self._file.read_row_groups(groups, columns=columns)
            return self._batch(table.slice(first - start, size).combine_chunks(), first, inputs, keep)

    def _tables(self, size: int, columns: Sequence[str]) -> Iterator[Any]:
        """Tables of so many rows, the last one of fewer."""
        from_batches = _arrow().Table.from_batches
        held: list[Any] = []
        rows = 0
        for piece in self._file.iter_batches(min(size, _DECODED_ROWS), columns=columns):
            if piece.nbytes > _DECODED_BYTES:
                raise TooLarge(
                    f"{self.path}: {len(piece)} rows take {piece.nbytes} bytes, at most {_DECODED_BYTES} may be"
                )
            held, rows = [*held, piece], rows + len(piece)
            if rows >= size:
                yield from_batches(held).slice(0, size).combine_chunks()
                held, rows = from_batches(held).slice(size).to_batches(), rows - size
        if rows:
            yield from_batches(held).combine_chunks()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """What is wrong with a file as what is wrong with a table; also where it takes more memory than there is."""
        try:
            yield
        except (_arrow().ArrowException, OSError) as error:
            raise TableError(f"{self.path} can't be read as Parquet: {error}") from None

    def _batch(self, table: Any, first: int, inputs: Inputs, keep: Sequence[str]) -> Batch:
        try:
            rows = read(table.select(list(inputs.names)))
        except InvalidRequest as error:
            raise TableError(f"{self.path}, in rows {first + 1} to {first + len(table)}: {error}") from None
        written = replace(rows, written=True) if isinstance(rows, Table) else rows
        return Batch(first, self._coded(written, first, inputs), {name: table[name] for name in keep})


def is_parquet(path: Path | str) -> bool:
    """Whether a file is one of Parquet, by its name."""
    return PurePosixPath(urlsplit(str(path)).path if is_url(path) else path).suffix.lower() in _PARQUET


def _printed(column: Any) -> Any:
    """Values for CSV: what is missing is nothing at all."""
    values = column.to_pylist() if hasattr(column, "to_pylist") else arrays.nested(column)
    return ("" if value is None or value != value else value for value in values)


def _arrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError:
        raise TableError(
            "Parquet needs pyarrow: pip install '.[score]' in the source tree; CSV needs nothing"
        ) from None
    return pa
