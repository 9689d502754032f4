"""What a sink's URI says, and how it is shown: without passwords."""

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from pipelines.errors import RequestError

__all__ = ["Address"]

_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Address:
    """Where a sink is.

    Attributes:
        uri: for the client library; may hold a password.
        shown: scheme, host, port and database only: for logs and errors.
        prefix: begins the names of all keys or tables, so that stores can share a database.
    """

    uri: str = field(repr=False)
    shown: str
    prefix: str = "rillet"

    @classmethod
    def parse(cls, uri: str, form: str, options: Collection[str] = ()) -> "Address":
        """Read `scheme://user:password@host:port/path?prefix=name&…`.

        Args:
            uri: as given.
            form: what it should look like, for the error.
            options: parameters that the client library knows, beside `prefix`; none: any.

        Raises:
            RequestError: it has no host, a bad port or prefix, an unknown parameter, or an `@`
                that is not written as %40: nobody knows then where the password ends.
        """
        if uri.count("@") > 1 or "@" in "".join(_behind_host(uri)):
            scheme = uri.partition("://")[0]
            raise RequestError(
                f"--sink {scheme}://…: in a name, a password or a parameter, write @ as %40, / as "
                f"%2F, ? as %3F, # as %23 and : as %3A: {form}"
            )
        try:
            parts = urlsplit(uri)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = None
        if not host:
            scheme = uri.partition("://")[0]
            raise RequestError(f"--sink {scheme}://… names no host and port: write {form}")
        query = parse_qsl(parts.query, keep_blank_values=True)
        _check_options([name for name, _ in query], options)
        prefix = dict(query).get("prefix", "rillet")
        if not _PREFIX.fullmatch(prefix):
            raise RequestError(
                f"--sink: prefix {prefix!r} is no name of a to z, 0 to 9 and _, at most 31 "
                "characters: choose another"
            )
        kept = urlencode([(name, value) for name, value in query if name != "prefix"])
        at = f"[{host}]" if ":" in host else host
        at = f"{at}:{port}" if port else at
        shown = f"{parts.scheme}://{at}{parts.path}"
        return cls(
            urlunsplit(parts._replace(query=kept)),
            shown if prefix == "rillet" else f"{shown}?prefix={prefix}",
            prefix,
        )

    def explain(self, error: BaseException) -> str:
        """What a client library said, in one line, without the password."""
        text = " ".join(str(error).split()) or type(error).__name__
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "…")
        return text[:300]

    def _secrets(self) -> set[str]:
        raw = urlsplit(self.uri).password or ""
        hidden = {value for name, value in parse_qsl(urlsplit(self.uri).query) if "pass" in name}
        return {text for text in {raw, unquote(raw), *hidden} if text}


def _behind_host(uri: str) -> tuple[str, str, str]:
    """(path, query, fragment) of a URI; empty where it is none."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return "", "", ""
    return parts.path, parts.query, parts.fragment


def _check_options(names: Iterable[str], options: Collection[str]) -> None:
    """Refuse a parameter that neither Rillet nor the client library knows.

    Raises:
        RequestError: with the name that was meant, if one is near.
    """
    known = sorted({"prefix", *options})
    for name in names:
        if options and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            cure = f"did you mean {near[0]}?" if near else "leave it out, or look for its name"
            raise RequestError(f"--sink: there is no option {name}: {cure}")
