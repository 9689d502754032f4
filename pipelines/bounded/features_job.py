"""The job of `rillet features` on one screen: from a log of events to files of feature rows."""

import logging
from pathlib import Path
from typing import Any

import apache_beam as beam

from pipelines.bounded.feature_files import WriteRows, publish, work_folder
from pipelines.bounded.featurize import Featurize
from pipelines.bounded.read_log import check_log, events_guessed, foreign_counts, read_log
from pipelines.bounded.refusals import warn
from pipelines.clean.dead_letters import KeepDeadLetters
from pipelines.clean.deduplicate import FindRepeats
from pipelines.clean.quarantine import Suspicion, by_rule
from pipelines.config import JobConfig
from pipelines.errors import RequestError, explain
from pipelines.metrics import counters, skipped_records
from pipelines.passthrough_beam_args import is_local, pipeline_options
from pipelines.read import is_stream
from pipelines.schema import DEAD_REASONS

__all__ = ["build", "run_features"]

_log = logging.getLogger("rillet")


def build(
    pipeline: beam.Pipeline, events: list[str], out: Path, config: JobConfig, now_ms: int
) -> None:
    """Lay out the job; it writes into the folders of `work_folder`."""
    features = config.features
    parsed = read_log(pipeline, events, config, now_ms)
    shuffle = out / "shuffle"
    lost = parsed.valid | "Deduplicate" >> FindRepeats(
        horizon_ms=features.dedupe_horizon, shards=features.shards, folder=shuffle
    )
    made = parsed.valid | "Featurize" >> Featurize(
        config=features,
        suspicion=Suspicion(config.clean, features.window),
        lost=lost,
        folder=shuffle,
    )
    _ = made.rows | "Write" >> WriteRows(folder=out / "features", history=features.history)
    _ = (
        (parsed.dead, made.dead)
        | "Dead" >> beam.Flatten()
        | "DeadLetters" >> KeepDeadLetters(folder=out / "dead_letters")
    )


def run_features(
    events: list[str], out: Path, config: JobConfig, beam_args: list[str], now_ms: int
) -> dict[str, Any]:
    """Compute feature rows of a log; what OUT/summary.json says.

    Everything is written beside its place and moved there at the end: a run that
    fails or is killed leaves what an earlier one wrote.

    Args:
        events: files, globs or folders, or one topic with `until=now`.
        out: where `features/`, `dead_letters/` and `summary.json` go.
        config: the job file.
        beam_args: options for Beam.
        now_ms: the clock, epoch milliseconds.

    Raises:
        RequestError: a source or the folder cannot be used; nothing was written.
        JobError: the job failed; what was there before is there still.
    """
    if is_stream(events, local=is_local(beam_args)):
        raise RequestError(
            f"{events[0].partition('?')[0]} does not end, and rillet features reads what does: "
            "of a topic, read what is there now with kafka://HOST:PORT/TOPIC?until=now, here, "
            "without a runner; of a folder, give its path without dir:"
        )
    config = _with_shards(config, events_guessed(check_log(events, config)))
    with work_folder(out) as work:
        pipeline = beam.Pipeline(options=pipeline_options(beam_args))
        build(pipeline, events, work, config, now_ms)
        try:
            result = pipeline.run()
            result.wait_until_finish()
        except Exception as error:
            raise explain(error) from error
        summary = _summary(counters(result))
        publish(work, out, summary)
    warn(summary, out / "dead_letters")
    return summary


_SHARD_EVENTS = 250_000
"""A shard is worked on at once: about 200 MB."""


def _with_shards(config: JobConfig, events: float) -> JobConfig:
    """The configuration with so many shards that each is of moderate size; rows stay the same."""
    shards = min(max(config.features.shards, int(events / _SHARD_EVENTS) + 1), 4_096)
    features = config.features.model_copy(update={"shards": shards})
    return config.model_copy(update={"features": features})


def _summary(counted: dict[str, int]) -> dict[str, Any]:
    """The counters of the job, as OUT/summary.json has them."""
    dead = {reason: counted.get(f"dead_{reason}", 0) for reason in DEAD_REASONS}
    valid, duplicates = counted.get("valid", 0), counted.get("duplicates", 0)
    return {
        "read": counted.get("read", 0),
        "valid": valid - duplicates - dead["quarantined"],
        "duplicates": duplicates,
        "duplicates_differ": counted.get("duplicates_differ", 0),
        "dead": {reason: number for reason, number in dead.items() if number},
        "rows": counted.get("rows", 0),
        "extra_fields": counted.get("extra_fields", 0),
        "unknown_values": counted.get("unknown_values", 0),
        **by_rule(counted),
        **skipped_records(counted),
        **foreign_counts(counted),
    }
