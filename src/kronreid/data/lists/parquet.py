"""The rows of a Parquet file in Python's types."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
from pyarrow import parquet

from kronreid.data.lists.tables import column_names
from kronreid.errors import InputError, one_line

#: What pyarrow raises on a value that Python does not have, such as a date in the year 10000.
_NO_VALUE = (pa.ArrowException, ValueError, OverflowError, KeyError)


def parquet_values(path: Path) -> Iterator[Mapping[str, Any] | InputError]:
    """The rows of the file.

    Yields:
        The values of each row by the names of the columns. A row with a value that Python does not have gives
        an error in its place, which names the column.

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
        raise InputError(path, f"not a Parquet file that can be read ({what})") from error


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
    """The column in types that give the values that a CSV file of the same things has.

    A 32-bit 0.1 is 0.1, not 0.10000000149011612. Nanoseconds are cut to microseconds, because Python has no
    type for them without pandas.
    """
    try:
        written = column.cast(_type(column.type, pa.string()), safe=False)
        return written.cast(_type(column.type, pa.float64()))
    except _NO_VALUE:  # then row by row
        return column


def _type(kind: pa.DataType, number: pa.DataType) -> pa.DataType:
    """The type without nanoseconds, with `number` in place of numbers of 32 bits."""
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
