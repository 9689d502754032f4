"""Questions to Flink's REST interface."""

import json
import urllib.error
import urllib.request
from typing import Any

from pipelines.errors import JobError, RequestError

__all__ = ["ask"]


def ask(master: str, path: str, body: Any = None, *, method: str | None = None) -> Any:
    """Its answer, read as JSON; None where it says nothing.

    Args:
        master: `host:port`.
        path: from the root on.
        body: sent as JSON, by POST; None for a GET.
        method: another one.

    Raises:
        RequestError: nobody answers there.
        JobError: Flink refused the question.
    """
    url = f"http://{master.removeprefix('http://').rstrip('/')}{path}"
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
        return json.loads(text) if text.strip() else None
    except urllib.error.HTTPError as error:
        said = " ".join(error.read().decode(errors="replace").split())
        raise JobError(f"Flink at {master} refused {path}: {said[:300] or error}") from None
    except (OSError, ValueError) as error:
        raise RequestError(
            f"Flink at {master} does not answer ({error}); check the address of its REST "
            "interface (--flink HOST:PORT), or start it with: rillet local up --only flink,beam"
        ) from None
