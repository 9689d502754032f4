"""Conversation with a schema registry, in the three calls that Confluent's and its like answer.

| call | what for |
|---|---|
| `GET /schemas/ids/{id}`, `GET /schemas/guids/{guid}` | the schema of a value |
| `GET /subjects/{subject}/versions/{version}` | a schema that another one refers to |
| `GET /subjects` | whether the registry answers, before a job starts |

A registry that is away is waited for; one that does not know a schema is asked again
after a while, since a schema may be registered late.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlsplit

import msgspec

from pipelines.errors import JobError, SourceError
from pipelines.read.kafka.wire.avro import AvroSchema
from pipelines.read.kafka.wire.framing import SchemaKey
from pipelines.read.kafka.wire.outcome import Node, WireError
from pipelines.read.kafka.wire.protobuf import ProtobufSchema

__all__ = ["JsonSchema", "Registry", "Schema", "Schemas"]

_log = logging.getLogger("rillet")
_ASK_S = 5.0
_MAX_REFERENCES = 1_000
_REFUSED = {401, 403}
_MISSING = {404, 422}
_NAMES = ("url", "basic.auth.user.info", "ssl.ca.location")
_PREFIX = "schema.registry."


class Schema(Protocol):
    """Reads the bodies that were written with it."""

    kind: str
    """`AVRO`, `PROTOBUF` or `JSON`, as registries say it."""

    def decode(self, body: bytes, index: bytes | None = None) -> Node:
        """A body → its record; `index`: of a Protobuf message, where it is not in the body."""


class Schemas(Protocol):
    """Knows schemas by their keys."""

    def schema(self, key: SchemaKey) -> Schema:
        """The schema; raises WireError where there is none."""

    def check(self) -> None:
        """Raises SourceError where no schema can be had."""


class JsonSchema:
    """JSON text is read without its schema."""

    kind = "JSON"

    def decode(self, body: bytes, index: bytes | None = None) -> Node:
        """The text itself."""
        return msgspec.Raw(body)


class _Reference(msgspec.Struct, frozen=True):
    name: str
    subject: str
    version: int


class _Told(msgspec.Struct, frozen=True):
    """A schema, as registries tell it; they leave out the type of Avro."""

    schema: str
    kind: str = msgspec.field(name="schemaType", default="AVRO")
    references: list[_Reference] | None = None


class _AwayError(Exception):
    """The registry does not answer, or not now."""


@dataclass
class Registry:
    """A registry, and the schemas that it has told so far.

    Attributes:
        url: where it answers, without a password.
        settings: `basic.auth.user.info` (`name:password`), `ssl.ca.location` (a file).
        wait_s: how long one that is away is waited for.
        forget_s: how long a schema that it did not know is not asked for again.
    """

    url: str
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)
    wait_s: float = 60.0
    forget_s: float = 30.0
    _known: dict[SchemaKey, Schema] = field(default_factory=dict, repr=False)
    _unknown: dict[SchemaKey, tuple[float, str]] = field(default_factory=dict, repr=False)
    _http: Any = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, settings: Mapping[str, str], **more: Any) -> "Registry":
        """The registry that a source names.

        Raises:
            SourceError: its address or a setting is wrong.
        """
        own = {name.removeprefix(_PREFIX): value for name, value in settings.items()}
        for name in own:
            if name not in _NAMES:
                known = ", ".join(_PREFIX + one for one in _NAMES)
                raise SourceError(
                    f"there is no setting {_PREFIX}{name} of a schema registry: choose from {known}"
                )
        url = url or own.pop("url", "")
        parts = urlsplit(url)
        if "@" in parts.netloc:
            raise SourceError(
                f"the address of the schema registry at {parts.hostname} holds a password; put "
                f"{_PREFIX}basic.auth.user.info into a file and add ?config=FILE"
            )
        if parts.scheme not in {"http", "https"} or not parts.netloc:
            raise SourceError(f"registry={url} is no address; write registry=http://host:port")
        return cls(url.rstrip("/"), own, **more)

    def check(self) -> None:
        """Refuse a registry that cannot be used.

        Raises:
            SourceError: it does not answer, lets nobody in, or holds no schema.
        """
        try:
            subjects = self._get("/subjects", list[str])
        except _AwayError as error:
            raise SourceError(f"{self._away(error)}; check registry=, or start it") from None
        if not subjects:
            raise SourceError(
                f"the schema registry {self.url} holds no schema; check the address, or register "
                "the schema that the topic is written with"
            )

    def schema(self, key: SchemaKey) -> Schema:
        """The schema of a key, asked for once.

        Raises:
            WireError: the registry does not know it, or what it knows cannot be used.
            JobError: it is away for too long.
            SourceError: it lets nobody in.
        """
        if key in self._known:
            return self._known[key]
        since, problem = self._unknown.get(key, (0.0, ""))
        if problem and time.monotonic() - since < self.forget_s:
            raise WireError(problem)
        try:
            self._known[key] = self._ask(key)
        except _AwayError as error:
            raise JobError(f"{self._away(error)}, and schema {key} is needed; start it") from None
        except WireError as error:
            self._unknown[key] = (time.monotonic(), str(error))
            raise
        return self._known[key]

    def _ask(self, key: SchemaKey) -> Schema:
        path = f"/schemas/ids/{key}" if isinstance(key, int) else f"/schemas/guids/{key}"
        told = self._get(path, _Told)
        if told is None:
            raise WireError(f"schema {key}: the registry {self.url} does not know it")
        try:
            return self._read(path, told)
        except WireError as error:
            raise WireError(f"schema {key}: {error}") from None

    def _read(self, path: str, told: "_Told") -> Schema:
        if told.kind == "JSON":
            return JsonSchema()
        if told.kind == "AVRO":
            return AvroSchema(told.schema, list(self._references(told, "").values()))
        if told.kind == "PROTOBUF":
            binary = self._get(path + "?format=serialized", _Told)
            more = self._references(told, "?format=serialized")
            return ProtobufSchema(binary.schema if binary else "", more)
        raise WireError(f"is of type {told.kind}, expected AVRO, PROTOBUF or JSON")

    def _references(self, told: "_Told", how: str) -> dict[str, str]:
        """Name → schema of all that one refers to, each after those that it refers to."""
        found: dict[str, str] = {}
        self._gather(told, how, found, set())
        return found

    def _gather(self, told: "_Told", how: str, found: dict[str, str], begun: set[str]) -> None:
        for one in told.references or ():
            if one.name in begun:
                continue
            begun.add(one.name)
            if len(begun) > _MAX_REFERENCES:
                raise WireError(f"refers to over {_MAX_REFERENCES} others")
            path = f"/subjects/{quote(one.subject, safe='')}/versions/{one.version}"
            schema = self._get(path + how, _Told)
            if schema is None:
                raise WireError(f"refers to {one.subject} {one.version}, which is not there")
            self._gather(schema, how, found, begun)
            found[one.name] = schema.schema

    # -- HTTP ------------------------------------------------------------------------

    def _get(self, path: str, kind: Any) -> Any:
        """What the registry answers; None where it has nothing of that name.

        Raises:
            _AwayError: it is away for too long.
            SourceError: it lets nobody in.
        """
        import tenacity

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(self.wait_s),
            wait=tenacity.wait_exponential(multiplier=0.2, max=5),
            retry=tenacity.retry_if_exception_type(_AwayError),
            reraise=True,
        )
        return retrying(self._get_once, path, kind)

    def _away(self, error: _AwayError) -> str:
        return f"the schema registry {self.url} does not answer ({error})"

    def _get_once(self, path: str, kind: Any) -> Any:
        import requests

        self._http = self._http or self._session(requests)
        try:
            answer = self._http.get(self.url + path, timeout=_ASK_S)
        except requests.exceptions.SSLError as error:
            raise SourceError(
                f"the schema registry {self.url} cannot be trusted ({_line(error)}); check "
                f"{_PREFIX}ssl.ca.location"
            ) from None
        except (requests.ConnectionError, requests.Timeout) as error:
            raise _AwayError(type(error).__name__) from None
        if answer.status_code in _REFUSED:
            raise SourceError(
                f"the schema registry {self.url} does not let us in ({answer.status_code}); check "
                f"{_PREFIX}basic.auth.user.info"
            )
        if answer.status_code in _MISSING:
            return None
        if not answer.ok:
            raise _AwayError(f"status {answer.status_code}")
        return self._read_answer(answer.content, kind)

    def _read_answer(self, content: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(content, type=kind)
        except msgspec.DecodeError:  # also where fields are missing
            raise SourceError(
                f"{self.url} is no schema registry: it answers {content[:40]!r}; check registry="
            ) from None

    def _session(self, requests: Any) -> Any:
        session = requests.Session()
        session.headers["Accept"] = "application/vnd.schemaregistry.v1+json, application/json"
        name, colon, password = self.settings.get("basic.auth.user.info", "").partition(":")
        if colon:
            session.auth = (name, password)
        if "ssl.ca.location" in self.settings:
            session.verify = self.settings["ssl.ca.location"]
        return session


def _line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:120]
