"""How records are wrapped in Kafka values, and how they come out: bytes and headers → lines.

::

    value, headers ──► framing ──► Avro, Protobuf, JSON ──► CloudEvents ──► Connect ──► Debezium
                       (schema id)  (schema registry)         envelopes, if there are any   │
                                                                              a line of JSON ▼

No Beam and no Kafka in here: each file knows one format.
"""
