# ruff: noqa: D102 - what the methods do is Flink's to say
"""Feature rows in PyFlink: two keyed process functions, state per id and per user.

    python benchmarks/peers/pyflink_keyed.py EVENTS.jsonl OUT MODE

Runs in an environment of its own (`benchmarks/features.py` makes it). MODE is `process` or
`thread`, as Flink calls the ways of running Python. Streaming mode: batch mode
took five times the CPU, for it ends a bundle at every key. Rows are written as JSON lines,
without histories.
"""

import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from pyflink.common import Configuration, Duration, Encoder, Types, WatermarkStrategy
from pyflink.common.watermark_strategy import TimestampAssigner
from pyflink.datastream import RuntimeExecutionMode, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import FileSink, FileSource, StreamFormat
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ListStateDescriptor, ValueStateDescriptor

sys.path.insert(0, str(Path(__file__).parent))
from user_rows import WINDOW_MS, add, finish, fresh

anything = Types.PICKLED_BYTE_ARRAY  # made where it is used: an instance holds on to the JVM


class Time(TimestampAssigner):
    """Event time."""

    def extract_timestamp(self, value: dict[str, Any], record_timestamp: int) -> int:
        return value["event_time"]


DISORDER_HOURS = 24  # half the CPU of ten minutes: timers then fire together, at the end


def parse(line: str) -> Iterator[dict[str, Any]]:
    try:
        event = json.loads(line)
    except ValueError:
        return
    event["event_time"] = round(datetime.fromisoformat(event["event_time"]).timestamp() * 1000)
    yield event


class Once(KeyedProcessFunction):
    """The first event of an id."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.seen = runtime_context.get_state(ValueStateDescriptor("seen", Types.BOOLEAN()))

    def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
        if not self.seen.value():
            self.seen.update(True)
            yield value


class UserRows(KeyedProcessFunction):
    """Events of a user → rows, at the end of each window."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.known = runtime_context.get_state(ValueStateDescriptor("known", anything()))
        self.waiting = runtime_context.get_list_state(ListStateDescriptor("waiting", anything()))

    def process_element(self, value: Any, ctx: Any) -> None:
        self.waiting.add(value)
        ctx.timer_service().register_event_time_timer(
            (value["event_time"] // WINDOW_MS + 1) * WINDOW_MS
        )

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[str]:
        events = list(self.waiting.get())
        later = [e for e in events if e["event_time"] >= timestamp]
        ready = [e for e in events if e["event_time"] < timestamp]
        self.waiting.update(later)
        state, rows = self.known.value() or fresh(), {}
        for event in sorted(ready, key=lambda e: (e["event_time"], e["event_id"])):
            add(state, rows, event)
        self.known.update(state)
        for row in rows.values():
            yield json.dumps(finish(row))


def main(events: str, out: str, mode: str) -> None:
    settings = Configuration()
    settings.set_string("python.execution-mode", mode)
    settings.set_string("python.executable", sys.executable)
    env = StreamExecutionEnvironment.get_execution_environment(settings)
    env.set_runtime_mode(RuntimeExecutionMode.STREAMING)
    env.set_parallelism(1)
    source = FileSource.for_record_stream_format(StreamFormat.text_line_format(), events).build()
    rows = (
        env.from_source(source, WatermarkStrategy.no_watermarks(), "events")
        .flat_map(parse, output_type=anything())
        .assign_timestamps_and_watermarks(
            WatermarkStrategy.for_bounded_out_of_orderness(
                Duration.of_hours(DISORDER_HOURS)
            ).with_timestamp_assigner(Time())
        )
        .key_by(lambda event: event["event_id"], key_type=Types.STRING())
        .process(Once(), output_type=anything())
        .key_by(lambda event: event["user_id"], key_type=Types.STRING())
        .process(UserRows(), output_type=Types.STRING())
    )
    rows.sink_to(FileSink.for_row_format(out, Encoder.simple_string_encoder()).build())
    env.execute("rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
