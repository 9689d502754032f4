"""Foreign logs as events: a declared mapping, done to columns. Pure functions, no Beam.

- `spec`: `[source]` of a job file, and a preset's form
- `paths`, `follow`: where a value stands in a record
- `json_columns`: JSON texts → the columns that are wanted of them
- `texts`, `numbers`, `times`: a column of any type as what an event wants
- `frame`, `evaluate`, `apply`: records → rows with the columns of an event
"""

from pipelines.read.mapping.apply import Mapped, apply
from pipelines.read.mapping.spec import Source

__all__ = ["Mapped", "Source", "apply"]
