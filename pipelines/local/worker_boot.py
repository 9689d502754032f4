"""Start one Beam Python worker without a container (`--environment_type=PROCESS`).

Run as a file, not as a module: `pipelines` must not be imported before the
code that the job staged stands first on the path. The runner calls it with the
arguments of Beam's container contract; it asks the provision service for the
options, fetches what was staged, and becomes the worker.

A staged source distribution (`--setup_file`) is unpacked, not installed: the
environment already has what it depends on, and unpacking takes milliseconds
where installing takes seconds of every recovery.
"""

import argparse
import fcntl
import os
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_artifact_api_pb2,
    beam_artifact_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from google.protobuf import json_format, text_format

_FILES = "beam:artifact:type:file:v1"
_LOCK = ".in-use"
_NAMED = "beam:artifact:role:staging_to:v1"


def main(arguments: list[str]) -> None:
    """Become the worker that `arguments` describe; returns when the runner lets it go."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--id", required=True)
    parser.add_argument("--provision_endpoint", required=True)
    for name in ("logging_endpoint", "artifact_endpoint", "control_endpoint"):
        parser.add_argument(f"--{name}", default="")
    given, _ = parser.parse_known_args(arguments)
    told = _provision(given.provision_endpoint, given.id)
    with _work_folder(Path(tempfile.gettempdir())) as folder:
        os.environ.update(_environment(given, told, folder))
        artifacts = told.artifact_endpoint.url or given.artifact_endpoint
        staged = folder / "staged"
        staged.mkdir()
        if told.dependencies:
            _fetch(artifacts, given.id, told.dependencies, staged)
        sys.path[:0] = [str(root) for root in _unpack(staged)]
        from apache_beam.runners.worker import sdk_worker_main

        sdk_worker_main.main([])


@contextmanager
def _work_folder(place: Path) -> Iterator[Path]:
    """A folder of this process in `place`; those that killed workers left there go.

    Each holds a file that its process keeps locked as long as it lives: the system itself
    lets go of it, however the process ends.
    """
    _sweep(place)
    made = Path(tempfile.mkdtemp(prefix=".rillet-worker-", dir=place))
    with (made / _LOCK).open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = made.with_name(made.name.removeprefix("."))
        made.rename(folder)  # seen by others only once it is locked
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(place: Path) -> None:
    """Take away what no living process uses; a folder without a lock is left alone."""
    for folder in place.glob("rillet-worker-*"):
        try:
            with (folder / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, another user's, or gone meanwhile
            continue


def _channel(endpoint: str, worker: str) -> grpc.Channel:
    from apache_beam.runners.worker.worker_id_interceptor import WorkerIdInterceptor

    channel = grpc.insecure_channel(
        endpoint, options=[("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    )
    return grpc.intercept_channel(channel, WorkerIdInterceptor(worker))


def _provision(endpoint: str, worker: str) -> Any:
    with _channel(endpoint, worker) as channel:
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        return stub.GetProvisionInfo(request, timeout=60).info


def _environment(given: argparse.Namespace, told: Any, folder: Path) -> dict[str, str]:
    """What the worker reads from its environment."""

    def endpoint(url: str) -> str:
        return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))

    found = {
        "WORKER_ID": given.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(told.pipeline_options),
        "LOGGING_API_SERVICE_DESCRIPTOR": endpoint(
            told.logging_endpoint.url or given.logging_endpoint
        ),
        "CONTROL_API_SERVICE_DESCRIPTOR": endpoint(
            told.control_endpoint.url or given.control_endpoint
        ),
        "RUNNER_CAPABILITIES": " ".join(told.runner_capabilities),
        "SEMI_PERSISTENT_DIRECTORY": str(folder),
    }
    if told.status_endpoint.url:
        found["STATUS_API_SERVICE_DESCRIPTOR"] = endpoint(told.status_endpoint.url)
    return found


def _fetch(endpoint: str, worker: str, dependencies: Iterable[Any], folder: Path) -> None:
    """Write the staged files to `folder` under the names they were staged as."""
    with _channel(endpoint, worker) as channel:
        stub = beam_artifact_api_pb2_grpc.ArtifactRetrievalServiceStub(channel)
        resolved = stub.ResolveArtifacts(
            beam_artifact_api_pb2.ResolveArtifactsRequest(
                artifacts=dependencies, preferred_urns=[_FILES]
            ),
            timeout=60,
        )
        for number, artifact in enumerate(resolved.replacements):
            answer = stub.GetArtifact(
                beam_artifact_api_pb2.GetArtifactRequest(artifact=artifact), timeout=300
            )
            with (folder / _name(artifact, number)).open("wb") as out:
                for part in answer:
                    out.write(part.data)


def _name(artifact: Any, number: int) -> str:
    if artifact.role_urn != _NAMED:
        return f"artifact-{number}"
    role = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload)
    return Path(role.staged_name).name  # never outside the folder


def _unpack(folder: Path) -> list[Path]:
    """Roots of the source distributions in `folder`, unpacked."""
    roots = []
    for archive in sorted(folder.glob("*.tar.gz")):
        target = archive.with_name(archive.name + ".d")
        with tarfile.open(archive) as content:
            content.extractall(target, filter="data")
        roots += [path for path in sorted(target.iterdir()) if path.is_dir()]
    return roots


if __name__ == "__main__":
    main(sys.argv[1:])
