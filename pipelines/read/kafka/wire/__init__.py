"""What a record's value is wrapped in on a topic, and how it is taken out. No Beam.

- `framing`: the schema's id before the value, or its GUID in a header (Confluent's registry)
- `registry`: asks the registry for a schema
- `schemas`: a value and its schema (JSON, Avro, Protobuf) → a record
- `envelopes`: what Connect, Debezium and CloudEvents put around a record
- `decode`: all of it, message by message; plain JSON lines pass untouched
"""
