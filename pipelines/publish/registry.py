"""The kinds of sinks, by scheme, and the door that they stand behind."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from models.errors import StoreError
from models.store.store import Store
from pipelines.errors import RequestError
from pipelines.publish.sink import Sink, SinkError, SinkState

__all__ = ["check_sinks", "open_sink"]


@dataclass(frozen=True)
class _Kind:
    """Where a kind of sink is written, and the extra that brings its client."""

    module: str
    name: str
    extra: str

    def open(self, uri: str) -> Sink:
        try:
            maker: Callable[[str], Sink] = getattr(importlib.import_module(self.module), self.name)
        except ModuleNotFoundError as error:
            raise RequestError(
                f"--sink {uri.partition(':')[0]}://… needs the Python package {error.name}: "
                f"pip install 'rillet[{self.extra}]'"
            ) from None
        return maker(uri)


_REDIS = _Kind("pipelines.publish.embeddings_to_redis", "RedisSink", "redis")
_POSTGRES = _Kind("pipelines.publish.embeddings_to_postgres", "PostgresSink", "postgres")
_KAFKA = _Kind("pipelines.publish.embeddings_to_kafka", "KafkaSink", "kafka")
_KINDS: Mapping[str, _Kind] = {
    "redis": _REDIS,
    "rediss": _REDIS,
    "postgresql": _POSTGRES,
    "postgres": _POSTGRES,
    "kafka": _KAFKA,
}


def open_sink(uri: str) -> Sink:
    """The sink that a URI names; connects to nothing yet.

    Raises:
        RequestError: no such kind, a bad URI, or its client is not installed.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator or scheme not in _KINDS:
        shown = f"{scheme}://…" if separator else repr(uri)
        shown = "…" if "@" in shown else shown  # there may be a password in it
        raise RequestError(
            f"--sink {shown}: no such kind of sink: write "
            "redis://host:port/db, postgresql://user@host:port/database or kafka://host:port/topic"
        )
    return _KINDS[scheme].open(uri)


def check_sinks(uris: Sequence[str], store: Store) -> None:
    """Refuse sinks that cannot be reached or hold another store's versions. Writes nothing.

    Raises:
        RequestError: says which, and what to do.
    """
    for uri in uris:
        sink = open_sink(uri)
        try:
            held = sink.held()
        except SinkError as error:
            raise RequestError(f"--sink {error}; start it or correct the address") from None
        finally:
            sink.close()
        if not _ours(store, held):
            raise RequestError(
                f"--sink {sink.shown} holds version {held.served and held.served.version} of "
                f"another store than {store.root}: give another database or ?prefix=…, or empty it"
            )


def _ours(store: Store, held: SinkState) -> bool:
    if held.served is None:
        return True
    try:
        return store.manifest(held.served.version).digest == held.served.digest
    except StoreError:
        return False
