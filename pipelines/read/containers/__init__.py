"""Files of any container → batches of records in the source's own columns.

- `find`: what `--events` names
- `compression`: gzip, zstd, bzip2, zip; bombs are refused
- `text_rows`, `delimited`: CSV and its kin, of any dialect
- `json_values`: JSON lines, arrays, values one after another
- `tables`: Parquet, ORC, Arrow IPC, Avro
- `read`: which of them a file is, and its records
"""

from pipelines.read.containers.find import Found, find
from pipelines.read.containers.read import read_records
from pipelines.read.containers.records import Lost, Records

__all__ = ["Found", "Lost", "Records", "find", "read_records"]
