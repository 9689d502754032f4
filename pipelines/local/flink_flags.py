"""What a Beam job has to be told to run on the Flink of this machine."""

import json
import os
from pathlib import Path

from pipelines.errors import RequestError
from pipelines.local.control import default_directory, status
from pipelines.local.service import Place, cache_folder
from pipelines.local.services.flink import worker_command
from pipelines.local.services.job_server import JobServer

__all__ = ["flink_address", "flink_flags", "flink_jar"]

_WHERE = "RILLET_LOCAL"
"""Environment variable: the directory that `rillet local up --dir` was given."""


def flink_flags(directory: Path | None = None) -> dict[str, str]:
    """Options that send a job to the local cluster, its Python workers beside it.

    Raises:
        RequestError: it is not up.
    """
    directory = directory or _directory()
    server = status(directory, only=["beam"])[0]
    if server.state not in {"up", "starting"}:  # a busy one may be slow to answer
        raise RequestError(
            f"Flink is not up in {directory}: start it with rillet local up --only flink,beam, "
            f"or name a cluster with --flink_master or --job_endpoint ({_WHERE} names a --dir)"
        )
    command = worker_command(Place(directory, cache_folder()))
    return {
        "job_endpoint": server.address,
        "environment_type": "PROCESS",
        "environment_config": json.dumps({"command": str(command)}),
    }


def flink_address(directory: Path | None = None) -> str:
    """`host:port` of the local Flink's REST interface.

    Raises:
        RequestError: it is not up.
    """
    directory = directory or _directory()
    found = status(directory, only=["flink"])[0]
    if not found.address:
        raise RequestError(
            f"Flink is not up in {directory}: name the REST address of another with --flink, or "
            f"its folder with --dir ({_WHERE})"
        )
    return found.address


def flink_jar() -> Path:
    """Beam's job server in one file, fetched if need be: for a Flink elsewhere, or embedded."""
    return JobServer().jar(Place(default_directory(), cache_folder()))


def _directory() -> Path:
    given = os.environ.get(_WHERE)
    return Path(given).absolute() if given else default_directory()
