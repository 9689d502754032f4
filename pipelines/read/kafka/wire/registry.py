"""Questions to a schema registry (Confluent's HTTP interface), answered once each."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from pipelines.errors import JobError, SourceError

__all__ = ["MissingSchemaError", "Schema", "SchemaRegistry"]

_TIMEOUT_S = 5.0
_WAIT_S = 20.0
"""How long a registry that is away is waited for."""

_OK, _NOT_FOUND, _SERVER_ERROR = 200, 404, 500
_MOST_REFERENCES = 100


class MissingSchemaError(LookupError):
    """The registry has no such schema."""


@dataclass(frozen=True)
class Schema:
    """A schema and what it refers to.

    Attributes:
        kind: `AVRO`, `JSON` or `PROTOBUF`.
        text: the schema; of Protobuf a serialized FileDescriptorProto in base64.
        references: (name, text) of what it refers to, what is needed first standing first.
    """

    kind: str
    text: str
    references: tuple[tuple[str, str], ...] = ()


@dataclass
class SchemaRegistry:
    """A registry, and what it said so far: schemas never change.

    Attributes:
        url: `http://host:port`, without user and password.
        user: for basic authentication, with `password`; empty for none.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    _known: dict[int | str, Schema] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
            raise SourceError(
                "registry= is no address of a schema registry: write http://host:port; user and "
                "password go into the file config= as schema.registry.basic.auth.user.info"
            )

    def check(self) -> None:
        """Ask whether it is there.

        Raises:
            SourceError: it does not answer, or lets nobody in.
        """
        try:
            self._get("/schemas/types")
        except (JobError, MissingSchemaError) as error:
            raise SourceError(str(error)) from None

    def schema(self, key: int | str) -> Schema:
        """The schema with a number, or a GUID.

        Raises:
            MissingSchemaError: there is none.
            JobError: the registry does not answer.
        """
        if key not in self._known:
            self._known[key] = self._ask(key)
        return self._known[key]

    def _ask(self, key: int | str) -> Schema:
        path = f"/schemas/{'ids' if isinstance(key, int) else 'guids'}/{key}"
        found = self._get(path)
        kind = found.get("schemaType") or "AVRO"
        how = "?format=serialized" if kind == "PROTOBUF" else ""
        if how:
            found = self._get(path + how)
        references: dict[str, str] = {}
        self._gather(found.get("references") or [], how, references)
        return Schema(kind, found["schema"], tuple(references.items()))

    def _gather(self, wanted: list[dict[str, Any]], how: str, into: dict[str, str]) -> None:
        """Schemas that are referred to, what they refer to before them."""
        for one in wanted:
            if one["name"] in into:
                continue
            if len(into) >= _MOST_REFERENCES:
                raise MissingSchemaError(f"a schema refers to more than {_MOST_REFERENCES} others")
            subject, version = quote(one["subject"], safe=""), one["version"]
            found = self._get(f"/subjects/{subject}/versions/{version}{how}")
            self._gather(found.get("references") or [], how, into)
            into[one["name"]] = found["schema"]

    def _get(self, path: str) -> Any:
        import tenacity

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_delay(_WAIT_S),
            wait=tenacity.wait_exponential(multiplier=0.2, max=2),
            retry=tenacity.retry_if_exception_type(requests.RequestException),
            reraise=True,
        )
        try:
            answer = retrying(self._answer, path)
        except requests.RequestException as error:
            raise JobError(
                f"the schema registry {self.url} does not answer ({type(error).__name__}): "
                "check registry=, or start it"
            ) from None
        if answer.status_code == _NOT_FOUND:
            raise MissingSchemaError(f"the schema registry {self.url} has no {path}")
        if answer.status_code != _OK:
            raise JobError(
                f"the schema registry {self.url} answers {answer.status_code} for {path}: check "
                "schema.registry.basic.auth.user.info in the file config="
            )
        return answer.json()

    def _answer(self, path: str) -> requests.Response:
        auth = (self.user, self.password) if self.user else None
        answer = requests.get(f"{self.url.rstrip('/')}{path}", auth=auth, timeout=_TIMEOUT_S)
        if answer.status_code >= _SERVER_ERROR:
            answer.raise_for_status()
        return answer
