"""The feature rows of `duckdb_rows.py` from a foreign file, mapped in the same query.

python benchmarks/peers/duckdb_mapped.py EVENTS OUT.parquet HISTORY
"""

import sys

import duckdb_rows

KINDS = {"pv": "view", "buy": "purchase", "fav": "like"}
NESTED = (
    "{id: 'VARCHAR', moment: 'BIGINT', verb: 'VARCHAR', who: 'STRUCT(id VARCHAR, session VARCHAR)',"
    " what: 'STRUCT(sku VARCHAR, price DOUBLE, stay BIGINT)', platform: 'VARCHAR'}"
)


def source(events: str) -> str:
    """The mapping as SQL."""
    user, session, item, price, stay = "who", "session", "what", "price", "stay"
    if events.endswith(".json"):
        table = f"read_json('{events}', format = 'newline_delimited', columns = {NESTED})"
        user, session, item = "who.id", "who.session", "what.sku"
        price, stay = "what.price", "what.stay"
    elif events.endswith(".parquet"):
        table = f"read_parquet('{events}')"
    else:
        delimiter = "\\t" if events.endswith(".inter") else ","
        table = (
            f"read_csv('{events}', delim = E'{delimiter}', header = true, auto_detect = false,"
            " columns = {id: 'VARCHAR', moment: 'BIGINT', verb: 'VARCHAR', who: 'VARCHAR',"
            " session: 'VARCHAR', what: 'VARCHAR', price: 'DOUBLE', stay: 'BIGINT',"
            " platform: 'VARCHAR'})"
        )
    words = " ".join(f"WHEN '{word}' THEN '{kind}'" for word, kind in KINDS.items())
    return (
        f"(SELECT id AS event_id, {user} AS user_id, {item} AS item_id,"
        f" CASE verb {words} ELSE verb END AS event_type,"
        f" make_timestamp_ms(moment)::TIMESTAMPTZ AS event_time, {stay} AS dwell_ms,"
        f" {price} AS value, {session} AS session_id, platform,"
        f" NULL::MAP(VARCHAR, VARCHAR) AS context FROM {table})"
    )


if __name__ == "__main__":
    duckdb_rows.source = source
    duckdb_rows.main(*sys.argv[1:])
