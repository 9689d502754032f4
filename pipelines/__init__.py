"""Rillet's stream: from raw feedback to published embeddings, on Apache Beam.

::

    read ─► validate ─► deduplicate ─► window ─► features ─► micro-batch ─► fine-tune ─► publish
               │          event_id      event     dwell,      event-time     TFRS, one    Parquet
               ▼                        time      intervals,  trigger,       live model
         dead letters                             history     training log

Everything that flows is a batch of rows (`pyarrow.RecordBatch`); the columns
are defined in `pipelines.schema`. Nothing here imports TensorFlow until a
worker loads the trainer (`pipelines.train.fine_tune`).
"""
