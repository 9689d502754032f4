"""Questions to a service that need no client library: is anybody there, and ready?"""

import json
import socket
import urllib.request
from typing import Any

from pipelines.local.service import HOST

__all__ = ["await_answer", "get_json"]


def await_answer(port: int, question: bytes, *, at_least: int = 1, timeout_s: float = 1.0) -> bytes:
    """What the service on `port` answers to `question`; empty when it does not."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s) as line:
            line.settimeout(timeout_s)
            line.sendall(question)
            answer = b""
            while len(answer) < at_least:
                more = line.recv(4096)
                if not more:
                    break
                answer += more
            return answer
    except OSError:
        return b""


def get_json(port: int, path: str, *, timeout_s: float = 2.0) -> Any:
    """The JSON that `http://127.0.0.1:port/path` answers; None when it does not."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=timeout_s) as answer:
            return json.load(answer)
    except (OSError, ValueError):
        return None
