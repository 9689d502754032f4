"""Parquet files → batches of rows with the columns of an event, as they lie there."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import SourceError
from pipelines.read.parse.event_rules import FIELDS, REQUIRED
from pipelines.read.parse.parquet_rows import column_problem, rows_schema

__all__ = ["check", "open_parquet", "read_rows", "row_groups"]

BATCH_ROWS = 65_536
"""Rows parsed at once: what costs per batch is then below a percent."""

_REPEATED = ["user_id", "item_id", "event_type", "platform"]  # read dictionary-encoded


def open_parquet(path: str, file: BinaryIO) -> pq.ParquetFile:
    """Open a file and read its footer.

    Raises:
        SourceError: it is empty, truncated, or not Parquet.
    """
    try:
        footer = pq.read_metadata(file)
        texts = [f.name for f in footer.schema.to_arrow_schema() if pa.types.is_string(f.type)]
        repeated = [name for name in _REPEATED if texts.count(name) == 1]
        return pq.ParquetFile(file, metadata=footer, read_dictionary=repeated)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(
            f"{path} is no whole Parquet file ({_line(error)}); write or fetch it again"
        ) from None


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]


def check(path: str, size: int, file: BinaryIO) -> None:
    """Refuse a file that cannot hold events.

    Raises:
        SourceError: as `open_parquet`; or a required column is missing, or a column has a type
            that no value of it could have.
    """
    if size == 0:
        raise SourceError(f"{path} is empty (0 bytes), not Parquet; write or fetch it again")
    schema = open_parquet(path, file).schema_arrow
    missing = [name for name in REQUIRED if name not in schema.names]
    if missing:
        raise SourceError(
            f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)};"
            f" it has {', '.join(schema.names[:20])}: rename or add them"
        )
    for name in FIELDS:
        if schema.names.count(name) > 1:
            raise SourceError(f"{path} has the column {name} twice; drop one of them")
        if name in schema.names:
            problem = column_problem(name, schema.field(name).type)
            if problem:
                raise SourceError(f"{path}: {problem}")
    _check_zone(path, schema)


def _check_zone(path: str, schema: pa.Schema) -> None:
    """Refuse times of which nobody says what the clock stood at: they are not taken for UTC."""
    at = schema.get_field_index("event_time")
    kind = schema.field(at).type if at >= 0 else pa.null()
    if pa.types.is_timestamp(kind) and kind.tz is None:
        raise SourceError(
            f"{path}: column event_time is {kind} without a zone, which is not guessed; cast it to "
            f"timestamp[{kind.unit}, tz=UTC], by way of the zone that its clock showed"
        )


def row_groups(path: str, file: BinaryIO) -> int:
    """How many row groups a file has."""
    return int(open_parquet(path, file).num_row_groups)


def read_rows(
    file: BinaryIO, path: str, *, start: int, end: int | None
) -> Iterator[pa.RecordBatch]:
    """Row groups [start, end) → batches of the columns of an event; others are counted.

    Raises:
        SourceError: pages of the file are damaged.
    """
    parquet = open_parquet(path, file)
    _check_zone(path, parquet.schema_arrow)
    end = parquet.num_row_groups if end is None else end
    row = sum(parquet.metadata.row_group(i).num_rows for i in range(start))
    names = parquet.schema_arrow.names
    columns = [name for name in FIELDS if name in names]
    try:
        for batch in parquet.iter_batches(
            BATCH_ROWS, row_groups=list(range(start, end)), columns=columns, use_threads=False
        ):
            if batch.num_rows:
                schema = rows_schema(
                    batch.schema, source=path, position=row, extra=len(names) - len(columns)
                )
                yield batch.replace_schema_metadata(schema.metadata)
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} is damaged ({_line(error)}); fetch or write it again") from None
