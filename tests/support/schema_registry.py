"""A small schema registry: the calls that the client makes, over HTTP, from a dictionary."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class SmallRegistry:
    """What it answers: path with query → answer; `asked` are the paths, in order."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    failing: int = 0  # so many requests are answered with 503 first
    password: str = ""  # `name:password`, if it lets nobody else in

    def put(self, number: int, schema: str, kind: str = "AVRO", **more: Any) -> None:
        """Register a schema under an id."""
        told = {"schema": schema, **more}
        if kind != "AVRO":  # as registries do, which leave it out of Avro
            told["schemaType"] = kind
        self.answers[f"/schemas/ids/{number}"] = told
        self.answers["/subjects"] = [*self.answers.get("/subjects", []), f"subject-{number}"]


@contextmanager
def small_registry() -> Iterator[SmallRegistry]:
    """One that runs until the end of the block."""
    registry = SmallRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            registry.asked.append(self.path)
            status, answer = self._answer()
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _answer(self) -> tuple[int, Any]:
            if registry.failing:
                registry.failing -= 1
                return 503, {}
            given = self.headers.get("Authorization", "")
            wanted = base64.b64encode(registry.password.encode()).decode()
            if registry.password and given != f"Basic {wanted}":
                return 401, {}
            if self.path not in registry.answers:
                return 404, {"error_code": 40403, "message": "Schema not found"}
            return 200, registry.answers[self.path]

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    registry.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
