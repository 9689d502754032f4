"""Vectors in Redis: one hash an id, and a pointer to the version that readers see.

::

    rillet:served       hash: version, digest, newest_event_time, published_at (epoch ms)
    rillet:item:<id>    hash: version, vector (float32, little-endian), updated_at (epoch ms),
                        deleted (0 or 1), and the same as was_version …: what was there before
    rillet:begun        hash: the publication that goes on, if one does
    rillet:token        its number; whoever holds an older one is refused

Rows newer than the served version are being published; readers take `was_…` of
these. So a version appears as a whole when `rillet:served` moves on, however
many rows it has, and with two vectors an id. Each piece is one Lua script: it
happens or does not. The channel `rillet:served` is told each version.
"""

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any

import numpy as np
import pyarrow as pa
import redis as client

from models.schema import EMBEDDINGS
from pipelines.clock import wall_clock_ms
from pipelines.publish.sink import Shipment, SinkError, SinkState, VersionMark
from pipelines.publish.sink_uri import Address

__all__ = ["RedisSink"]

_FORM = "redis://:password@host:6379/0"
_TIMEOUT_S = 5.0
_CHUNK = 500
"""Rows in one script: a few milliseconds in which Redis answers nobody else."""

_FIELDS = ("version", "vector", "updated_at", "deleted")
_BOTH = (*_FIELDS, *(f"was_{name}" for name in _FIELDS))

_GUARD = """
if redis.call('HGET', KEYS[2], 'token') ~= ARGV[1] then
  return redis.error_reply('OVERTAKEN another process publishes to this sink')
end
local seen = tonumber(redis.call('HGET', KEYS[1], 'version') or '0')
"""

_BEGIN = """
local served = redis.call('HGET', KEYS[1], 'version') or '0'
local token = redis.call('HGET', KEYS[2], 'token') or '0'
if served ~= ARGV[1] or token ~= ARGV[2] then
  return redis.error_reply('OVERTAKEN another process publishes to this sink')
end
token = redis.call('INCR', KEYS[3])
redis.call('HSET', KEYS[2], 'token', token, 'version', ARGV[3], 'digest', ARGV[4])
return token
"""

# A hidden row (newer than what is served) is what a dead process left: it goes. A row
# that is served moves to was_…, unless what comes is not newer.
_PUT = (
    _GUARD
    + """
for i = 3, #KEYS do
  local a, key = (i - 3) * 4 + 2, KEYS[i]
  local has = tonumber(redis.call('HGET', key, 'version') or '0')
  if has > seen then
    local row = redis.call('HMGET', key, 'was_version', 'was_vector', 'was_updated_at',
                           'was_deleted')
    has = tonumber(row[1] or '0')
    if tonumber(ARGV[a]) <= has then
      redis.call('HSET', key, 'version', row[1], 'vector', row[2], 'updated_at', row[3],
                 'deleted', row[4])
    end
  elseif has > 0 and tonumber(ARGV[a]) > has then
    local row = redis.call('HMGET', key, 'version', 'vector', 'updated_at', 'deleted')
    redis.call('HSET', key, 'was_version', row[1], 'was_vector', row[2],
               'was_updated_at', row[3], 'was_deleted', row[4])
  end
  if tonumber(ARGV[a]) > has then
    redis.call('HSET', key, 'version', ARGV[a], 'vector', ARGV[a + 1],
               'updated_at', ARGV[a + 2], 'deleted', ARGV[a + 3])
  end
  redis.call('HSET', key, 'token', ARGV[1])
end
"""
)

# Rows that this whole copy does not have: tombstones, or gone if readers see none already.
_RETIRE = (
    _GUARD
    + """
for i = 3, #KEYS do
  local key = KEYS[i]
  local row = redis.call('HMGET', key, 'version', 'vector', 'updated_at', 'deleted', 'token')
  if row[1] and row[5] ~= ARGV[1] then
    if tonumber(row[1]) > seen then
      row = redis.call('HMGET', key, 'was_version', 'was_vector', 'was_updated_at', 'was_deleted')
    end
    if not row[1] or row[4] == '1' then
      redis.call('DEL', key)
    else
      redis.call('HSET', key, 'was_version', row[1], 'was_vector', row[2],
                 'was_updated_at', row[3], 'was_deleted', row[4], 'version', ARGV[2],
                 'vector', '', 'deleted', '1', 'token', ARGV[1])
    end
  end
end
"""
)

_SERVE = (
    _GUARD
    + """
if tonumber(ARGV[2]) > seen then
  redis.call('HSET', KEYS[1], 'version', ARGV[2], 'digest', ARGV[3],
             'newest_event_time', ARGV[4], 'published_at', ARGV[5])
  redis.call('PUBLISH', KEYS[1], ARGV[2])
end
redis.call('DEL', KEYS[2])
"""
)


def _options() -> set[str]:
    """Parameters of a URI that the client takes."""
    connections = (client.Redis, client.Connection, client.SSLConnection)
    return {name for kind in connections for name in signature(kind).parameters} - {"kwargs"}


class RedisSink:
    """See `Sink`. `redis://…` and `rediss://…` (TLS) as redis-py reads them; one server.

    Args:
        uri: where; `?prefix=name` begins the names of all keys.
        clock: epoch milliseconds.

    Raises:
        RequestError: the URI is wrong.
    """

    def __init__(self, uri: str, clock: Callable[[], int] | None = None) -> None:
        self._address = Address.parse(uri, _FORM, _options())
        self._clock = clock or wall_clock_ms
        self._redis: Any = None
        prefix = self._address.prefix
        self._served, self._begun = f"{prefix}:served", f"{prefix}:begun"
        self._token, self._prefix = f"{prefix}:token", prefix

    @property
    def shown(self) -> str:
        """See `Sink`."""
        return self._address.shown

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            if self._redis is None:
                self._redis = client.Redis.from_url(
                    self._address.uri,
                    socket_timeout=_TIMEOUT_S,
                    socket_connect_timeout=_TIMEOUT_S,
                    retry=None,  # whoever calls tries again
                )
            yield self._redis
        except (client.RedisError, OSError, ValueError) as error:
            self.close()
            raise SinkError(f"{self.shown}: {self._address.explain(error)}") from None

    def close(self) -> None:
        """See `Sink`."""
        if self._redis is not None:
            self._redis.close()
            self._redis = None

    def held(self) -> SinkState:
        """See `Sink`."""
        with self._connected() as redis:
            served = redis.hmget(self._served, "version", "digest")
            begun = redis.hmget(self._begun, "version", "digest", "token")
        return SinkState(_mark(served), _mark(begun), int(begun[2] or 0))

    def publish(self, shipment: Shipment) -> int:
        """See `Sink`."""
        mark, held = shipment.mark, shipment.held
        served = held.served.version if held.served else 0
        with self._connected() as redis:
            keys = [self._served, self._begun]
            expected = [served, held.token, mark.version, mark.digest]
            token = redis.eval(_BEGIN, 3, *keys, self._token, *expected)
            put = redis.register_script(_PUT)
            for rows, values in _pieces(shipment.rows, self._prefix):
                put(keys=keys + rows, args=[token, *values])
            if shipment.whole:
                retire = redis.register_script(_RETIRE)
                for names in self._names(redis):
                    retire(keys=keys + names, args=[token, mark.version])
            now = self._clock()
            facts = [mark.version, mark.digest, shipment.newest_event_ms, now]
            redis.eval(_SERVE, 2, *keys, token, *facts)
        return now

    def _names(self, redis: Any) -> Iterator[list[Any]]:
        """All rows' keys, piece by piece."""
        for entity in ("item", "user"):
            cursor = -1
            while cursor:
                match = f"{self._prefix}:{entity}:*"
                cursor, names = redis.scan(max(cursor, 0), match=match, count=_CHUNK)
                if names:
                    yield names

    def read(self, entity: str, ids: Sequence[str]) -> tuple[int, pa.Table]:
        """See `Sink`."""
        with self._connected() as redis:
            asked = redis.pipeline(transaction=True).hget(self._served, "version")
            for one in ids:
                asked.hmget(_name(self._prefix, entity, one), *_BOTH)
            version, *found = asked.execute()
        served = int(version or 0)
        rows = [_seen(entity, one, row, served) for one, row in zip(ids, found, strict=True)]
        return served, pa.Table.from_pylist([row for row in rows if row], schema=EMBEDDINGS)


def _mark(fields: Sequence[bytes | None]) -> VersionMark | None:
    version, digest = fields[:2]
    return VersionMark(int(version), digest.decode()) if version and digest else None


def _name(prefix: str, entity: str, one: str) -> str:
    return f"{prefix}:{entity}:{one}"


def _pieces(rows: pa.Table, prefix: str) -> Iterator[tuple[list[str], list[Any]]]:
    """(Keys, four arguments for each of them) of so many rows at a time."""
    for batch in rows.to_batches(max_chunksize=_CHUNK):
        columns = batch.to_pydict() | {
            "updated_at": batch.column("updated_at").cast(pa.int64()).to_pylist()
        }
        names, values = [], []
        for i in range(len(batch)):
            gone = columns["deleted"][i]
            names.append(_name(prefix, columns["entity"][i], columns["id"][i]))
            vector = b"" if gone else np.asarray(columns["embedding"][i], "<f4").tobytes()
            values += [columns["version"][i], vector, columns["updated_at"][i], int(gone)]
        yield names, values


def _seen(entity: str, one: str, row: Sequence[Any], served: int) -> dict[str, Any] | None:
    """What a reader of version `served` sees of a row with the fields `_BOTH`."""
    new, old = row[:4], row[4:]
    fields = new if new[0] and int(new[0]) <= served else old
    if not fields[0] or fields[3] == b"1":
        return None
    version, vector, updated_at, _ = fields
    return {
        "entity": entity,
        "id": one,
        "embedding": struct.unpack(f"<{len(vector) // 4}f", vector),
        "version": int(version),
        "updated_at": int(updated_at),
        "deleted": False,
    }
