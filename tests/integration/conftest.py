"""Real services, started once and ended with the session.

| name | what |
|---|---|
| `services` | starts the named parts and returns name → address |
| `local_directory` | their directory, for tests that kill one |

Without Java, Maven or packages the tests skip with the reason; where `CI` is
set they fail instead, so that a green run never hides them.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipelines.errors import RequestError
from pipelines.local import PARTS, down, up
from pipelines.local.service import Place
from pipelines.local.services.postgres import reachable

FREE_PORTS = dict.fromkeys(PARTS, 0)


@pytest.fixture(scope="session")
def local_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of the session's services."""
    directory = tmp_path_factory.mktemp("local")
    yield directory
    down(directory)
    if os.geteuid() == 0:
        shutil.rmtree(reachable(Place(directory, directory)))


@pytest.fixture(scope="session")
def services(local_directory: Path) -> Callable[..., dict[str, str]]:
    """`services("kafka", "flink")` → their addresses, once they answer."""

    def start(*names: str) -> dict[str, str]:
        try:
            parts = up(local_directory, only=names, ports=FREE_PORTS)
        except RequestError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        return {part.name: part.address for part in parts}

    return start
