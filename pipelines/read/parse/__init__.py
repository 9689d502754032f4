"""From bytes and tables to valid events: pure functions, no Beam.

- `event_rules`: what an event has to be, record by record, with a reason for what it is not
- `column_rules`: the same rules on whole columns; says which rows hold, not why the others don't
- `line_template`: JSON lines of one shape, parsed column by column
- `json_lines`: a batch of JSON lines → events and dead letters
- `event_table`: a batch of Parquet rows → events and dead letters

The fast paths accept a record exactly when `event_rules` finds no fault with it.
"""
