"""Random small logs: few users, items, ids and instants, so that everything collides."""

from typing import Any

from hypothesis import strategies as st

from pipelines.config import FeatureConfig, WindowSpec
from pipelines.schema import EVENT_TYPES

START = 1_700_000_000_000  # no multiple of any window below
WINDOWS = (
    "fixed:5s",
    "fixed:1s",
    "sliding:6s/2s",
    "sliding:5s/2s",
    "sliding:3s/3s",
    "session:4s",
    "session:1s",
)
TIMES = st.integers(0, 30).map(lambda k: START + 500 * k)


def events(ids: int = 12) -> st.SearchStrategy[dict[str, Any]]:
    """One valid event; of some fields only a few values, to make ties."""
    return st.fixed_dictionaries(
        {
            "event_id": st.integers(0, ids).map(lambda k: f"e{k}" if k % 3 else f"é{k}"),
            "user_id": st.sampled_from(["u1", "u2", "ü"]),
            "item_id": st.sampled_from(["a", "b", "c"]),
            "event_type": st.sampled_from(EVENT_TYPES),
            "event_time": TIMES,
            "dwell_ms": st.none() | st.none() | st.integers(0, 3_000),
            "value": st.none() | st.sampled_from([0.1, 0.2, 3.7, -1.5]),
            "session_id": st.none() | st.sampled_from(["s", "t"]),
            "platform": st.none() | st.sampled_from(["web", "app"]),
            "context": st.none() | st.sampled_from([[], [("k", "v")], [("k", None), ("l", "w")]]),
        }
    )


def logs(ids: int = 40, size: int = 30) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(events(ids), max_size=size)


configs = st.builds(
    FeatureConfig,
    window=st.sampled_from(WINDOWS).map(WindowSpec.parse),
    session_gap=st.sampled_from(["0", "500ms", "2000ms", "30000ms"]),
    retention=st.sampled_from(["0", "1000ms", "3000ms", "90000ms"]),
    history=st.sampled_from([0, 1, 3, 50]),
    dedupe_horizon=st.sampled_from(["0", "1500ms", "30000ms"]),
)
