"""What a Parquet file says of itself, looked at before anything of it is decoded. Knows nothing of what is asked.

It may lie: what is decoded is bounded where it is read.
"""

from __future__ import annotations

from pathlib import Path

from service.errors import InvalidRequest

# Read at once, and some thirty times as large in memory.
_LARGEST_FOOTER = 1 << 20
_MOST_COLUMNS = 16_384
# Numbers that compress well.
_TIMES = 4


def check(path: Path, most_bytes: int) -> None:
    """Refuses a file that would be too much to decode: InvalidRequest. What can't be read at all is let through."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return
    if (footer := _footer(path)) > _LARGEST_FOOTER:
        raise _refused(f"has a footer of {footer} bytes; at most {_LARGEST_FOOTER} may be")
    try:
        told = pq.read_metadata(path)
    except (pa.ArrowException, OSError, ValueError):
        return
    groups = [told.row_group(number) for number in range(told.num_row_groups)]
    if told.num_columns > _MOST_COLUMNS:
        raise _refused(f"has {told.num_columns} columns; at most {_MOST_COLUMNS} may be")
    if told.num_rows != sum(group.num_rows for group in groups):
        raise _refused("has row groups of other than its number of rows")
    sizes = [group.total_byte_size for group in groups]
    if max(sizes, default=0) > most_bytes:
        raise _refused(f"has a row group of {max(sizes)} bytes, uncompressed; at most {most_bytes} may be")
    if sum(sizes) > _TIMES * most_bytes:
        raise _refused(f"has {sum(sizes)} bytes, uncompressed; at most {_TIMES * most_bytes} may be")


def _footer(path: Path) -> int:
    """How large a file says that its footer is; 0 where it has none."""
    with path.open("rb") as file:
        file.seek(-min(8, path.stat().st_size), 2)
        size, mark = file.read(4), file.read()
    return int.from_bytes(size, "little") if mark == b"PAR1" else 0


def _refused(text: str) -> InvalidRequest:
    return InvalidRequest([("table", text)])
