"""`rillet local` with the real services: up, up again, one killed, down."""

import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.local import down, process, status, up
from pipelines.local.process import Program

pytestmark = pytest.mark.integration


def test_a_second_up_changes_nothing(services: Callable, local_directory: Path) -> None:
    services("redis", "postgres")
    before = status(local_directory, only=["redis", "postgres"])
    assert {part.state for part in before} == {"up"}
    assert up(local_directory, only=["redis", "postgres"]) == before
    assert all(Path(log).is_file() for part in before for log in part.logs)


def test_a_killed_part_comes_back_with_its_data_and_its_port(
    services: Callable, local_directory: Path
) -> None:
    address = services("redis")["redis"]
    assert _redis(address, b"SET colour green\r\n") == b"+OK\r\n"
    assert process.kill(local_directory, "redis")
    assert [part.state for part in status(local_directory, only=["redis"])] == ["down"]
    assert services("redis")["redis"] == address
    assert _redis(address, b"GET colour\r\n") == b"$5\r\ngreen\r\n"


def test_down_ends_only_what_was_asked_for(services: Callable, local_directory: Path) -> None:
    services("redis", "postgres")
    other = process.start(
        local_directory.parent,
        Program("bystander", (sys.executable, "-c", "import time; time.sleep(60)")),
    )
    down(local_directory, only=["redis"])
    states = {part.name: part.state for part in status(local_directory)}
    assert (states["redis"], states["postgres"]) == ("down", "up")
    assert process.alive(local_directory.parent) == {"bystander": other}
    process.stop(local_directory.parent, "bystander")


def test_postgres_has_pgvector(services: Callable, local_directory: Path) -> None:
    # Spoken by hand: no client library is needed for one question.
    port = int(services("postgres")["postgres"].rpartition(":")[2].partition("/")[0])
    words = b"user\0postgres\0database\0postgres\0\0"
    start = (8 + len(words)).to_bytes(4, "big") + (196608).to_bytes(4, "big") + words
    query = b"select '[1,2]'::vector <-> '[4,6]'::vector\0"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(start + b"Q" + (4 + len(query)).to_bytes(4, "big") + query)
        answer = b""
        while b"SELECT 1" not in answer and b"ERROR" not in answer:
            answer += line.recv(4096)
    assert b"\x00\x00\x00\x015C" in answer  # sqrt(3² + 4²)


def _redis(address: str, command: bytes) -> bytes:
    port = int(address.rpartition(":")[2].partition("/")[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        line.sendall(command)
        return line.recv(4096)
