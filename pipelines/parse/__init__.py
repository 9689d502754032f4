"""From bytes and tables to valid events: pure functions, no Beam.

- `rules`: what an event has to be, record by record, with a reason for what it is not
- `vector`: the same rules on whole columns; says which rows hold, not why the others don't
- `template`: JSON lines of one shape, parsed column by column
- `lines`: a batch of JSON lines → events and dead letters
- `table`: a batch of Parquet rows → events and dead letters

The fast paths accept a record exactly when `rules` finds no fault with it.
"""
