"""What `kafka://host:port/topic?…` names: brokers, a topic, options, and settings of librdkafka."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from pipelines.errors import SourceError

__all__ = ["Topic"]


@dataclass(frozen=True)
class Topic:
    """A topic of Kafka.

    Attributes:
        brokers: `host:port`, separated by commas.
        name: of the topic.
        options: parameters without a dot, for whoever reads or writes it.
        settings: parameters with a dot, and those in the file `config=`: librdkafka's own.
    """

    brokers: str
    name: str
    options: Mapping[str, str]
    settings: Mapping[str, str]

    @classmethod
    def parse(cls, uri: str, what: str = "source") -> "Topic":
        """Read a URI.

        Args:
            uri: as given.
            what: it is to be, for the error.

        Raises:
            SourceError: it is incomplete, holds a password, or its file cannot be read.
        """
        parts = urlsplit(uri)
        topic = unquote(parts.path.strip("/"))
        before, _, after = uri.partition("@")
        if "@" in parts.netloc or "@" in parts.path or ("@" in uri and not _in_query(before)):
            named = f" of topic {topic}" if "@" in parts.netloc and "@" not in after else ""
            raise SourceError(
                f"the address{named} holds a password; put sasl.username and "
                "sasl.password in a file and add ?config=FILE"
            )
        if parts.scheme != "kafka" or not parts.netloc or not topic or "/" in topic:
            raise SourceError(f"{uri!r} is no Kafka {what}; write kafka://host:port/topic")
        options: dict[str, str] = {}
        settings: dict[str, str] = {}
        for name, value in parse_qsl(parts.query, keep_blank_values=True):
            if name == "config":
                settings = {**_properties(Path(value)), **settings}
            else:
                (settings if "." in name else options)[name] = value
        return cls(parts.netloc, topic, options, settings)


def _in_query(before: str) -> bool:
    """Whether what follows is part of a parameter, such as the name of a file."""
    return "?" in before and "=" in before.rpartition("?")[2]


def _properties(path: Path) -> dict[str, str]:
    """`name=value` lines; `#` begins a comment.

    Raises:
        SourceError: the file cannot be read, or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"Kafka settings {path} cannot be read: {error}; check config=") from None
    found = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, equals, value = line.partition("=")
            if not equals:
                raise SourceError(f"{path}, line {number} is not name=value; mend it")
            found[name.strip()] = value.strip()
    return found
