"""Beam's job server for Flink: takes a pipeline from Python and hands it to the cluster."""

from collections.abc import Sequence
from pathlib import Path

from pipelines.local import fetch, readiness
from pipelines.local.process import Program
from pipelines.local.service import HOST, Place
from pipelines.local.services.job_server_patch import patch_state_names

__all__ = ["JobServer"]

_RUNNER = "2.70.0"
_SERVICE = "2.65.0"
_BEAM = "org.apache.beam:beam-"

# Not every mirror has Beam's own job-server jar. These parts are everywhere and make
# the same program; one jar instead of 163 brings a submission from 40 s down to a few.
_JARS = fetch.Jars(
    [
        f"{_BEAM}runners-flink-1.19:{_RUNNER}",
        f"{_BEAM}runners-java-job-service:{_SERVICE}",
        "org.slf4j:slf4j-simple:2.0.16",
    ],
    pinned=[
        f"{_BEAM}{name}:{_RUNNER}"
        for name in (
            "model-fn-execution",
            "model-job-management",
            "model-pipeline",
            "runners-core-java",
            "runners-java-fn-execution",
            "sdks-java-core",
            "sdks-java-expansion-service",
            "sdks-java-extensions-google-cloud-platform-core",
            "sdks-java-harness",  # holds copies of the others: another version breaks them
            "sdks-java-transform-service-launcher",
        )
    ],
    main="org.apache.beam.runners.flink.FlinkJobServerDriver",
)


class JobServer:
    """The endpoint of `--runner=PortableRunner --job_endpoint=…` on `beam` (8099)."""

    name = "beam"
    needs: tuple[str, ...] = ("flink",)

    def fetch(self, place: Place) -> None:
        """Bring the job server's jars and put them into one (160 MB)."""
        fetch.java()
        self.jar(place)

    def jar(self, place: Place) -> Path:
        """The job server in one file; also what `--flink_job_server_jar` wants."""
        folder = fetch.cached(
            place.cache,
            f"beam-flink-1.19-{_RUNNER}-{_JARS.key()}-mended",
            self._bring,
        )
        return folder / "all.jar"

    def _bring(self, folder: Path) -> None:
        fetch.jars(self.name, _JARS, folder)
        patch_state_names(folder / "all.jar")

    def programs(self, place: Place) -> Sequence[Program]:
        """One server, in front of the cluster of the same directory."""
        folder = place.data(self.name)
        return [
            Program(
                "beam",
                (
                    fetch.java(),
                    "-Xmx256m",
                    "-XX:+UseSerialGC",
                    f"-Djava.io.tmpdir={folder}",
                    "-jar",
                    str(self.jar(place)),
                    f"--flink-master={HOST}:{place.port('flink')}",
                    f"--job-host={HOST}",
                    f"--job-port={place.port('beam', 8099)}",
                    f"--artifact-port={place.port('beam-artifacts')}",
                    f"--expansion-port={place.port('beam-expansion')}",
                    f"--artifacts-dir={folder / 'artifacts'}",
                ),
            )
        ]

    def ready(self, place: Place) -> bool:
        """Does it speak HTTP/2? The server says so before it is asked anything else."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
        return len(readiness.await_answer(place.port("beam"), preface, at_least=9)) >= 9

    def address(self, place: Place) -> str:
        """`host:port`, the job endpoint."""
        port = place.ports().get("beam")
        return f"{HOST}:{port}" if port else ""
