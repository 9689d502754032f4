"""Columns of a simulated chunk → EVENTS batches and JSON lines, without a loop over rows."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipelines.schema import CONTEXT, EVENT_TYPES, EVENTS, TIMESTAMP
from pipelines.simulate.faults import MALFORMED, Record, malformed_line
from pipelines.simulate.world.behaviour import Columns
from pipelines.simulate.world.entities import (
    COUNTRIES,
    DEVICES,
    HOUR_MS,
    Population,
    item_ids,
    user_ids,
)

__all__ = ["Encoder", "event_ids"]

PLATFORMS = ("app", "app", "web", "tv")  # by device
_HEX = np.array([f"{i:02x}" for i in range(256)], dtype="S2")
_TV = DEVICES.index("television")
_TYPES = pa.array(EVENT_TYPES)
_PLATFORMS = pa.array(PLATFORMS)


def event_ids(numbers: NDArray[np.int64], seed: int) -> pa.Array:
    """Sixteen hex digits each; distinct numbers below 2⁶⁴ give distinct ids.

    The numbers go through splitmix64's finalizer, a bijection, so ids neither
    repeat nor betray their order. Source: Steele, Lea, Flood (OOPSLA 2014).
    """
    with np.errstate(over="ignore"):
        z = numbers.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    digits = np.ascontiguousarray(_HEX[z.astype(">u8").view(np.uint8).reshape(-1, 8)])
    offsets = np.arange(len(numbers) + 1, dtype=np.int32) * 16
    return pa.StringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(digits))


def _text(values: NDArray[np.int64]) -> pa.Array:
    return pa.array(values).cast(pa.string())


class Encoder:
    """Turns columns into the published form, given who and what there is."""

    def __init__(self, people: Population, items: int, seed: int) -> None:
        """Ids and contexts are made once and looked up for each row."""
        self._seed, self._people = seed, people
        self._users, self._items = user_ids(len(people.bot)), item_ids(items)
        # A user whose country is not on record sends none along either.
        self._country = np.where(people.known[:, 0], people.country, len(COUNTRIES))
        contexts = [
            self._entries(country, device, hour)
            for country in range(len(COUNTRIES) + 1)
            for device in range(len(DEVICES))
            for hour in range(24)
        ]
        self._contexts = pa.array(contexts, CONTEXT)
        self._contexts_json = pa.array(
            [
                ',"context":{' + ",".join(f'"{k}":"{v}"' for k, v in entries) + "}}\n"
                for entries in contexts
            ]
        )

    @staticmethod
    def _entries(country: int, device: int, hour: int) -> list[tuple[str, str]]:
        own = [("country", COUNTRIES[country])] if country < len(COUNTRIES) else []
        return [*own, ("device", DEVICES[device]), ("hour", str(hour))]

    def _context(self, rows: Columns) -> pa.Array:
        hour = rows["time"] // HOUR_MS % 24
        device = rows["device"].astype(np.int64)
        return pa.array((self._country[rows["user"]] * len(DEVICES) + device) * 24 + hour)

    def batch(self, rows: Columns) -> pa.RecordBatch:
        """Schema EVENTS, one row each, in the order given; needs a column `number`."""
        device = rows["device"]
        session = pc.binary_join_element_wise("s", _text(rows["session"]), "")
        columns = [
            event_ids(rows["number"], self._seed),
            self._users.take(pa.array(rows["user"])),
            self._items.take(pa.array(rows["item"])),
            _TYPES.take(pa.array(rows["type"])),
            pa.array(rows["time"]).cast(TIMESTAMP),
            pa.array(rows["dwell"], mask=rows["dwell"] < 0),
            pa.array(rows["value"], mask=np.isnan(rows["value"])),
            # Televisions do not say which session it is.
            pc.if_else(pa.array(device == _TV), None, session),
            _PLATFORMS.take(pa.array(device)),
            self._contexts.take(self._context(rows)),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=EVENTS)

    def lines(self, rows: Columns, batch: pa.RecordBatch) -> pa.Array:
        """`[n]` binary: a line each, with its end; `batch` is `batch(rows)`."""
        time = pc.strftime(batch["event_time"], format="%Y-%m-%dT%H:%M:%S")
        whole = pc.binary_join_element_wise(
            '{"event_id":"',
            batch["event_id"],
            '","user_id":"',
            batch["user_id"],
            '","item_id":"',
            batch["item_id"],
            '","event_type":"',
            batch["event_type"],
            '","event_time":"',
            time,
            'Z"',
            _optional(',"dwell_ms":', batch["dwell_ms"].cast(pa.string()), ""),
            _optional(',"value":', batch["value"].cast(pa.string()), ""),
            _optional(',"session_id":"', batch["session_id"], '"'),
            ',"platform":"',
            batch["platform"],
            '"',
            self._contexts_json.take(self._context(rows)),
            "",
        ).cast(pa.binary())
        bad = np.flatnonzero(rows["line"] == MALFORMED)
        if len(bad) == 0:
            return whole
        records = batch.take(pa.array(bad)).to_pylist()
        spoilt = [
            malformed_line(_json_record(record), int(way)) + b"\n"
            for record, way in zip(records, rows["way"][bad], strict=True)
        ]
        mask = pa.array(rows["line"] == MALFORMED)
        return pc.replace_with_mask(whole, mask, pa.array(spoilt, pa.binary()))


def _optional(before: str, text: pa.Array, after: str) -> pa.Array:
    """A field where there is a value, nothing where there is none."""
    return pc.fill_null(pc.binary_join_element_wise(before, text, after, ""), "")


def _json_record(record: Record) -> Record:
    """A row as a JSON producer would write it; absent fields left out."""
    time = record["event_time"].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    present = {k: v for k, v in record.items() if v is not None}
    return {**present, "event_time": time, "context": dict(record["context"])}
