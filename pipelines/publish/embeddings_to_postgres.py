"""Vectors in PostgreSQL: a table of them, and one row that says which version they are.

::

    rillet_embeddings   entity, id, embedding, version, updated_at, deleted
    rillet_served       version, digest, newest_event_time, published_at: one row

`embedding` is pgvector's `vector(dim)` where the extension is there, else
`real[]`. A publication is one transaction: every statement of a reader sees a
version as a whole. The channel `rillet_served` is notified of each version.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
import pyarrow as pa
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from models.schema import EMBEDDINGS
from pipelines.clock import wall_clock_ms
from pipelines.publish.postgres_copy import copy_rows
from pipelines.publish.sink import Shipment, SinkError, SinkState, VersionMark
from pipelines.publish.sink_uri import Address

__all__ = ["PostgresSink"]

_FORM = "postgresql://user:password@host:5432/database"

_SETTINGS = {
    "connect_timeout": "5",
    "tcp_user_timeout": "10000",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "2",
    "application_name": "rillet",
    "options": "-c statement_timeout=60s -c lock_timeout=10s",
}

_TABLES = """
create table if not exists {p}_embeddings (
  entity text not null, id text not null, embedding {vector}, version bigint not null,
  updated_at timestamptz not null, deleted boolean not null, primary key (entity, id));
create table if not exists {p}_served (
  one boolean primary key default true check (one), version bigint not null, digest text not null,
  newest_event_time timestamptz not null, published_at timestamptz not null)
"""

_STAGE = """
create temporary table incoming (entity text not null, id text not null, embedding {vector},
  version bigint not null, updated_at timestamptz not null, deleted boolean not null)
on commit drop
"""

_WIDEN = "alter table {p}_embeddings alter column embedding type {vector} using null"

_PUT = """
insert into {p}_embeddings as held select * from incoming
on conflict (entity, id) do update set embedding = excluded.embedding, version = excluded.version,
  updated_at = excluded.updated_at, deleted = excluded.deleted
where excluded.version > held.version
"""

# Tombstones that readers know of already go; what this whole copy does not have becomes one.
_RETIRE = """
delete from {p}_embeddings held where deleted and not exists (
  select from incoming where incoming.entity = held.entity and incoming.id = held.id);
update {p}_embeddings held set embedding = null, version = %(version)s, deleted = true
where not exists (
  select from incoming where incoming.entity = held.entity and incoming.id = held.id)
"""

_SERVE = """
insert into {p}_served as held (version, digest, newest_event_time, published_at)
values (%(version)s, %(digest)s, %(newest)s, %(now)s)
on conflict (one) do update set version = excluded.version, digest = excluded.digest,
  newest_event_time = excluded.newest_event_time, published_at = excluded.published_at
where excluded.version > held.version
"""

_READ = """
select s.version, e.id, e.embedding::real[], e.version, e.updated_at
from {p}_served s
left join {p}_embeddings e on e.entity = %s and e.id = any(%s) and not e.deleted
"""


class PostgresSink:
    """See `Sink`. `postgresql://…` as libpq reads it.

    Args:
        uri: where; `?prefix=name` begins the names of the tables.
        clock: epoch milliseconds.

    Raises:
        RequestError: the URI is wrong.
    """

    def __init__(self, uri: str, clock: Callable[[], int] | None = None) -> None:
        known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
        self._address = Address.parse(uri, _FORM, known)
        self._clock = clock or wall_clock_ms
        self._held: psycopg.Connection[Any] | None = None

    @property
    def shown(self) -> str:
        """See `Sink`."""
        return self._address.shown

    def close(self) -> None:
        """See `Sink`."""
        if self._held is not None:
            self._held.close()
            self._held = None

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            if self._held is None:
                self._held = psycopg.connect(self._conninfo())
            with self._held.transaction():
                yield self._held
        except (psycopg.Error, OSError) as error:
            self.close()
            raise SinkError(f"{self.shown}: {self._address.explain(error)}") from None

    def _conninfo(self) -> str:
        """What the URI says, and our time limits where it is silent."""
        given = conninfo_to_dict(self._address.uri)
        return make_conninfo("", **{**_SETTINGS, **given})

    def _sql(self, text: str, **names: str) -> Any:
        """A statement with the names of tables filled in: only `Address` and this file say them."""
        return cast(Any, text.format(p=self._address.prefix, **names))

    def held(self) -> SinkState:
        """See `Sink`."""
        with self._transaction() as connection:
            if self._has_tables(connection):
                return SinkState(self._mark(connection))
            may = "select current_schema(), has_schema_privilege(current_schema(), 'create')"
            schema, allowed = connection.execute(may).fetchone() or (None, False)
        if not allowed:
            raise SinkError(
                f"{self.shown}: this user may not make tables in schema {schema}: grant it create"
            )
        return SinkState()

    def _has_tables(self, connection: psycopg.Connection[Any]) -> bool:
        found = connection.execute(self._sql("select to_regclass('{p}_served')")).fetchone()
        return bool(found and found[0])

    def _mark(self, connection: psycopg.Connection[Any]) -> VersionMark | None:
        row = connection.execute(self._sql("select version, digest from {p}_served")).fetchone()
        return VersionMark(*row) if row else None

    def publish(self, shipment: Shipment) -> int:
        """See `Sink`."""
        with self._transaction() as connection:
            lock = self._sql("select pg_advisory_xact_lock(hashtext('{p}'))")
            connection.execute(lock)
            kind = self._prepared(connection, shipment)
            if self._mark(connection) != shipment.held.served:
                raise SinkError(f"{self.shown}: another process publishes to this sink")
            with connection.cursor().copy("copy incoming from stdin (format binary)") as copy:
                for piece in copy_rows(shipment.rows, pgvector=kind.startswith("vector")):
                    copy.write(piece)
            now = self._clock()
            self._serve(connection, shipment, now)
        return now

    def _prepared(self, connection: psycopg.Connection[Any], shipment: Shipment) -> str:
        """Make the tables where they are missing, and a place for the rows; type of a vector."""
        wide = _width(shipment.rows)
        if not self._has_tables(connection):
            there = connection.execute("select to_regtype('vector')").fetchone()
            kind = f"vector{wide}" if there and there[0] else "real[]"
            connection.execute(self._sql(_TABLES, vector=kind))
        kind = self._kind(connection)
        if shipment.whole and wide and kind.startswith("vector(") and kind != f"vector{wide}":
            kind = f"vector{wide}"  # a model of another width: all rows come anew
            connection.execute(self._sql(_WIDEN, vector=kind))
        connection.execute(self._sql(_STAGE, vector=kind))
        return kind

    def _kind(self, connection: psycopg.Connection[Any]) -> str:
        told = connection.execute(
            self._sql(
                "select format_type(atttypid, atttypmod) from pg_attribute "
                "where attrelid = '{p}_embeddings'::regclass and attname = 'embedding'"
            )
        ).fetchone()
        return str(told[0]) if told else ""

    def _serve(self, connection: psycopg.Connection[Any], shipment: Shipment, now: int) -> None:
        mark = shipment.mark
        if shipment.whole:
            for statement in _RETIRE.split(";"):
                connection.execute(self._sql(statement), {"version": mark.version})
        connection.execute(self._sql(_PUT))
        facts = {"version": mark.version, "digest": mark.digest}
        times = {"newest": _utc(shipment.newest_event_ms), "now": _utc(now)}
        connection.execute(self._sql(_SERVE), facts | times)
        channel = f"{self._address.prefix}_served"
        connection.execute("select pg_notify(%s, %s)", (channel, str(mark.version)))

    def read(self, entity: str, ids: Sequence[str]) -> tuple[int, pa.Table]:
        """See `Sink`."""
        with self._transaction() as connection:
            if not self._has_tables(connection):
                return 0, EMBEDDINGS.empty_table()
            found = connection.execute(self._sql(_READ), (entity, list(ids))).fetchall()
        served = found[0][0] if found else 0
        rows = [
            {
                "entity": entity,
                "id": one,
                "embedding": vector,
                "version": version,
                "updated_at": updated_at,
                "deleted": False,
            }
            for _, one, vector, version, updated_at in found
            if one is not None
        ]
        return served, pa.Table.from_pylist(rows, schema=EMBEDDINGS)


def _width(rows: pa.Table) -> str:
    """`(dim)` of the vectors; nothing where they do not say."""
    kind = rows["embedding"].type
    if pa.types.is_fixed_size_list(kind):
        return f"({kind.list_size})"
    return f"({len(rows['embedding'][0])})" if len(rows) else ""


def _utc(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1_000, UTC)
