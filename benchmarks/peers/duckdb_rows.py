"""Feature rows by one DuckDB query, written to one Parquet file.

    python benchmarks/peers/duckdb_rows.py EVENTS OUT.parquet HISTORY

What it leaves out favours it: no dead letters, no retention (no log here is long
enough to forget anybody), no horizon of deduplication (likewise). Fixed windows of
five minutes, a session gap of thirty.
"""

import sys

import duckdb
from user_rows import TYPES, WEIGHTS

COLUMNS = {
    **dict.fromkeys(["event_id", "user_id", "item_id", "event_type"], "VARCHAR"),
    "event_time": "TIMESTAMPTZ",
    "dwell_ms": "BIGINT",
    "value": "DOUBLE",
    **dict.fromkeys(["session_id", "platform"], "VARCHAR"),
    "context": "MAP(VARCHAR, VARCHAR)",
}


def source(events: str) -> str:
    if events.endswith(".parquet"):
        return f"read_parquet('{events}')"
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in COLUMNS.items())
    return (
        f"(SELECT * FROM read_json('{events}', format = 'newline_delimited', "
        f"ignore_errors = true, columns = {{{columns}}}) WHERE event_id IS NOT NULL)"
    )


def query(events: str, history: int) -> str:
    counts = ",\n".join(
        f"count(*) FILTER (known IS NULL AND event_type = '{t}')::INTEGER AS n_{t}" for t in TYPES
    )
    weighted = " + ".join(f"{w} * n_{t}" for t, w in WEIGHTS.items())
    past = f"""
past AS (  -- the last {history} events up to and with each that is no impression
  SELECT user_id, nth,
    list(item_id) OVER last_few AS items, list(event_type) OVER last_few AS types,
    list(t) OVER last_few AS times
  FROM (SELECT *, before + 1 AS nth FROM seen WHERE event_type <> 'impression')
  WINDOW last_few AS (PARTITION BY user_id ORDER BY nth ROWS {history - 1} PRECEDING)
),"""
    lists = """coalesce(past.items, []) AS history_items, coalesce(past.types, []) AS history_types,
  coalesce(list_transform(past.times, lambda x: anchor.t - x), []) AS history_age_ms"""
    join = "LEFT JOIN past ON past.user_id = rows.user_id AND past.nth = anchor.before"
    if not history:
        past, join = "", ""
        lists = """[]::VARCHAR[] AS history_items, []::VARCHAR[] AS history_types,
  []::BIGINT[] AS history_age_ms"""
    return f"""
WITH events AS (
  SELECT *, epoch_ms(event_time) AS t FROM {source(events)}
  QUALIFY row_number() OVER (
    PARTITION BY event_id ORDER BY event_time, user_id, item_id, event_type, dwell_ms) = 1
),
seen AS (
  SELECT *,
    lead(t) OVER u AS next_t, lead(session_id) OVER u AS next_session,
    t - lag(t) OVER u AS since_event_ms,
    t - lag(t) OVER (PARTITION BY user_id, item_id ORDER BY t, event_id) AS since_item_ms,
    max(t) FILTER (event_type = 'purchase') OVER earlier AS last_bought,
    min(t) FILTER (event_type = 'purchase') OVER earlier AS first_bought,
    count(*) FILTER (event_type = 'purchase') OVER earlier AS bought,
    count(*) FILTER (event_type <> 'impression') OVER earlier AS before
  FROM events
  WINDOW u AS (PARTITION BY user_id ORDER BY t, event_id),
    earlier AS (PARTITION BY user_id ORDER BY t, event_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
),{past}
observed AS (
  SELECT *, t AS moment, NULL::BIGINT AS known FROM seen
  UNION ALL
  SELECT *, next_t AS moment, next_t - t AS known FROM seen
  WHERE event_type IN ('view', 'click') AND dwell_ms IS NULL AND next_t - t <= 1800000
    AND (session_id = next_session OR session_id IS NULL OR next_session IS NULL)
),
rows AS (
  SELECT user_id, item_id, moment // 300000 * 300000 AS start,
    {counts},
    (count(known) + count(dwell_ms))::INTEGER AS n_dwell,
    coalesce(sum(coalesce(known, dwell_ms)), 0)::BIGINT AS dwell_ms_sum,
    max(coalesce(known, dwell_ms)) AS dwell_ms_max,
    arg_max(coalesce(value, 'NaN'), (t, event_id))
      FILTER (event_type = 'rating' AND known IS NULL) AS rating,
    coalesce(sum(value) FILTER (event_type = 'purchase' AND known IS NULL), 0) AS purchase_value,
    arg_min(
      struct_pack(t, since_event_ms, since_item_ms, last_bought, first_bought, bought, before,
                  platform, context),
      (known IS NOT NULL, t, event_id)) AS anchor
  FROM observed GROUP BY ALL
)
SELECT rows.user_id, item_id, make_timestamp_ms(start)::TIMESTAMPTZ AS window_start,
  make_timestamp_ms(start + 300000)::TIMESTAMPTZ AS window_end,
  {", ".join(f"n_{t}" for t in TYPES)}, n_dwell, dwell_ms_sum, dwell_ms_max,
  CASE WHEN isnan(rating) THEN NULL ELSE rating END AS rating, purchase_value,
  make_timestamp_ms(anchor.t)::TIMESTAMPTZ AS anchor_time,
  anchor.since_event_ms, anchor.since_item_ms,
  anchor.t - anchor.last_bought AS since_purchase_ms,
  CASE WHEN anchor.bought > 1
    THEN (anchor.last_bought - anchor.first_bought) / (anchor.bought - 1) END
    AS purchase_interval_ms,
  {lists},
  1 + 0.5 * ln(1 + dwell_ms_sum / 1000) + {weighted} AS confidence,
  anchor.platform, anchor.context, 0::INTEGER AS revision
FROM rows {join}
"""


def main(events: str, out: str, history: str) -> None:
    duckdb.execute("SET TimeZone = 'UTC'")
    duckdb.execute("SET preserve_insertion_order = false")
    duckdb.execute(f"COPY ({query(events, int(history))}) TO '{out}' (FORMAT parquet)")


if __name__ == "__main__":
    main(*sys.argv[1:])
