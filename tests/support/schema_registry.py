"""A small schema registry: an HTTP server that speaks the calls that a reader of a topic makes."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

AUTHORIZED = "Basic bWU6aHVzaA=="  # me:hush


@contextmanager
def registry(answers: Mapping[str, Any]) -> Iterator[str]:
    """Serve answers by path, with its query, to whoever is `me`; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers.get("Authorization") == AUTHORIZED
            answer = answers.get(self.path) if allowed else {"error_code": 401}
            status = 401 if not allowed else 200 if answer is not None else 404
            body = json.dumps(answer or {"error_code": 40403}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing: the test says what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
