"""Feature rows in Beam as its guide teaches it: an event is an element, state is per user.

    python benchmarks/peers/beam_per_element.py EVENTS OUT

Repeats go by `DeduplicatePerKey`. A stateful DoFn per user keeps what is known of the user,
buffers events until a timer says that their window is over, and works them off in order.
Rows are written as JSON lines, without histories. The same in-process runner as ours.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.coders import PickleCoder
from apache_beam.io import ReadFromParquet, WriteToText
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.deduplicate import DeduplicatePerKey
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

sys.path.insert(0, str(Path(__file__).parent))
from user_rows import WINDOW_MS, add, finish, fresh

_DAY = Duration(seconds=86_400)


def stamped(event: dict[str, Any]) -> TimestampedValue:
    """An event at its own time; (event_id, event) for what follows."""
    milliseconds = int(event["event_time"].timestamp() * 1000 + 0.5)
    event = {**event, "event_time": milliseconds, "context": event["context"]}
    return TimestampedValue((event["event_id"], event), Timestamp(micros=milliseconds * 1000))


class UserRows(beam.DoFn):
    """(user, event) → rows, once the watermark has passed the user's newest window."""

    KNOWN = ReadModifyWriteStateSpec("known", PickleCoder())
    WAITING = BagStateSpec("waiting", PickleCoder())
    DUE = TimerSpec("due", TimeDomain.WATERMARK)

    def process(
        self,
        keyed: tuple[str, dict[str, Any]],
        waiting: Any = beam.DoFn.StateParam(WAITING),  # noqa: B008 - Beam's way
        due: Any = beam.DoFn.TimerParam(DUE),  # noqa: B008 - Beam's way
    ) -> None:
        """Keep the event until its window is over."""
        event = keyed[1]
        waiting.add(event)
        end = (event["event_time"] // WINDOW_MS + 1) * WINDOW_MS
        due.set(Timestamp(micros=end * 1000))

    @on_timer(DUE)
    def over(
        self,
        known: Any = beam.DoFn.StateParam(KNOWN),  # noqa: B008 - Beam's way
        waiting: Any = beam.DoFn.StateParam(WAITING),  # noqa: B008 - Beam's way
    ) -> Iterator[str]:
        """Work off what waits, in the order of time."""
        ready = sorted(waiting.read(), key=lambda e: (e["event_time"], e["event_id"]))
        waiting.clear()
        state = known.read() or fresh()
        rows: dict[Any, Any] = {}
        for event in ready:
            add(state, rows, event)
        known.write(state)
        for row in rows.values():
            yield json.dumps(finish(row))


def main(events: str, out: str) -> None:
    options = PipelineOptions(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "Read" >> ReadFromParquet(events)
            | "Stamp" >> beam.Map(stamped).with_output_types(tuple[str, dict[str, Any]])
            | "Once" >> DeduplicatePerKey(event_time_duration=_DAY)
            | "User"
            >> beam.Map(lambda keyed: (keyed[1]["user_id"], keyed[1])).with_output_types(
                tuple[str, dict[str, Any]]
            )
            | "Rows" >> beam.ParDo(UserRows()).with_output_types(str)
            | "Write" >> WriteToText(out, num_shards=1, shard_name_template="")
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
