"""Reading the rows of a Parquet file as Python values."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from kronreid.data.lists.tables import column_names
from kronreid.errors import InputError, one_line

#: The errors of pyarrow for a value that Python cannot represent, such as a date in the year 10000.
_NO_VALUE = (pa.ArrowException, ValueError, OverflowError, KeyError)


def parquet_values(path: Path) -> Iterator[Mapping[str, Any] | InputError]:
    """The rows of the file.

    Yields:
        The values of each row by column name. For a row with a value that Python cannot represent, an error
        that names the column.

    Raises:
        InputError: The file is not Parquet or is damaged, or no column can be the path.
    """
    try:
        with parquet.ParquetFile(path) as file:
            names = column_names(path, file.schema_arrow.names)
            for batch in file.iter_batches():
                named = {name: _simple(column) for name, column in zip(names, batch.columns) if name}
                yield from _rows(list(named), list(named.values()))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        what = one_line(error)
        raise InputError(path, f"is not a readable Parquet file ({what})") from error


def _rows(names: list[str], columns: list[pa.Array]) -> Sequence[Mapping[str, Any] | InputError]:
    batch = pa.RecordBatch.from_arrays(columns, names)
    try:
        return batch.to_pylist(maps_as_pydicts="strict")
    except _NO_VALUE:
        return [_row(names, columns, number) for number in range(batch.num_rows)]


def _row(names: list[str], columns: list[pa.Array], number: int) -> dict[str, Any] | InputError:
    row = {}
    for name, column in zip(names, columns):
        try:
            row[name] = column[number].as_py(maps_as_pydicts="strict")
        except _NO_VALUE as error:
            return InputError(name, one_line(error))
    return row


def _simple(column: pa.Array) -> pa.Array:
    """The column in types whose Python values equal those from a CSV file.

    A 32-bit 0.1 becomes 0.1, not 0.10000000149011612. Nanoseconds are truncated to microseconds, because
    Python has no type for them without pandas.
    """
    try:
        written = column.cast(_type(column.type, pa.string()), safe=False)
        return written.cast(_type(column.type, pa.float64()))
    except _NO_VALUE:  # `_rows` then converts row by row
        return column


def _type(kind: pa.DataType, number: pa.DataType) -> pa.DataType:
    """The type with microseconds instead of nanoseconds, and `number` instead of 32-bit floats."""
    if pa.types.is_float32(kind):
        return number
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return pa.timestamp("us", kind.tz)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return pa.duration("us")
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_type(kind.value_type, number))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _type(field.type, number)) for field in kind])
    return kind
