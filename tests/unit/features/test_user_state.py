"""What is remembered of users is enough: in two steps as in one."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from oracle import deduplicate, feature_rows, from_batch, row_key
from strategies import START, configs, logs

from pipelines.config import FeatureConfig, WindowSpec
from pipelines.features.user_state import UserMemory, rows_and_memory
from pipelines.schema import EVENTS

fixed = st.builds(
    lambda config, size: config.model_copy(update={"window": WindowSpec.parse(f"fixed:{size}")}),
    configs,
    st.sampled_from(["1s", "5s"]),
)


def batch_of(events):
    return pa.RecordBatch.from_pylist(events, schema=EVENTS)


def steps(events, cuts, config):
    """Rows of a log in steps that end at `cuts`, ms since the epoch."""
    memory, rows, left = UserMemory.empty(), [], events
    for cut in [*sorted(cuts), 1 << 60]:
        due = [e for e in left if e["event_time"] < cut]
        left = [e for e in left if e["event_time"] >= cut]
        found, memory, _ = rows_and_memory(memory, batch_of(due), config)
        memory = UserMemory.from_bytes(memory.to_bytes())
        rows += from_batch(found.materialise())
    return sorted(rows, key=row_key), memory


@given(logs(), fixed, st.lists(st.integers(-1, 4), max_size=3))
def test_steps_between_windows_give_the_rows_of_the_whole(events, config, cuts):
    unique = deduplicate(events, config.dedupe_horizon)
    ends = [START // 5_000 * 5_000 + 5_000 * cut for cut in cuts]
    rows, _ = steps(unique, ends, config)
    want = feature_rows(events, config)
    for row in want:  # floats: the kernel's own, test_features compares them with the oracle's
        row.pop("confidence")
    for row in rows:
        row.pop("confidence")
        row["purchase_value"] = round(row["purchase_value"], 9)
    for row in want:
        row["purchase_value"] = round(row["purchase_value"], 9)
    assert rows == want


def event(number, kind="view", item=None):
    known = {"event_id": f"{number:05}", "user_id": "u", "item_id": item or f"i{number % 3}"}
    return dict.fromkeys(EVENTS.names) | known | {"event_type": kind, "event_time": number * 1_000}


def test_memory_is_bounded_by_items_and_history():
    config = FeatureConfig(history=5, window="fixed:1s")
    kinds = ["view", "impression", "purchase"]
    log = [event(n, kinds[n % 3]) for n in range(1, 2_000)]
    _, memory = steps(log, [500_000, 1_000_000], config)
    assert memory.facts.num_rows == 1
    # Three items, six for histories, the last event, first and last purchase.
    assert memory.events.num_rows <= 3 + 6 + 1 + 2
