"""Apache Kafka: one node that is broker and controller (KRaft)."""

import base64
import subprocess
import uuid
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import RequestError
from pipelines.local import fetch, readiness
from pipelines.local.process import Program
from pipelines.local.service import HOST, Place

__all__ = ["Kafka"]

_VERSION = "4.1.2"
_JARS = fetch.Jars(
    [
        f"org.apache.kafka:kafka_2.13:{_VERSION}",
        f"org.apache.kafka:kafka-tools:{_VERSION}",
        "org.slf4j:slf4j-simple:1.7.36",
    ]
)

# ApiVersions, version 0, correlation id 0, no client id: answered once the broker serves.
_API_VERSIONS = bytes.fromhex("0000000a 0012 0000 00000000 ffff")


class Kafka:
    """A broker on `kafka` (9092) with topics that are made on first use."""

    name = "kafka"
    needs: tuple[str, ...] = ()

    def fetch(self, place: Place) -> None:
        """Bring Kafka's jars (54 MB)."""
        fetch.java()
        self._libraries(place)

    def _libraries(self, place: Place) -> Path:
        return fetch.cached(
            place.cache,
            f"kafka-{_VERSION}-{_JARS.key()}",
            lambda folder: fetch.jars(self.name, _JARS, folder),
        )

    def programs(self, place: Place) -> Sequence[Program]:
        """One broker; its storage is formatted on the first start."""
        folder = place.data(self.name)
        settings = folder / "server.properties"
        settings.write_text(self._settings(place, folder), encoding="utf-8")
        command = [fetch.java(), "-cp", f"{self._libraries(place)}/*"]
        if not (folder / "log" / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            done = subprocess.run(
                [*command, "kafka.tools.StorageTool", "format", f"-t={cluster}", "-c", settings],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RequestError(
                    f"kafka: {folder} cannot be formatted: {done.stderr.strip()[-300:]}; "
                    "give another --dir"
                )
        heap = ["-Xmx320m", "-Xms128m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
        return [Program("kafka", (*command, *heap, "kafka.Kafka", str(settings)))]

    def _settings(self, place: Place, folder: Path) -> str:
        broker, controller = place.port("kafka", 9092), place.port("kafka-controller")
        return "\n".join(
            [
                "process.roles=broker,controller",
                "node.id=1",
                f"controller.quorum.voters=1@{HOST}:{controller}",
                f"listeners=PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}",
                f"advertised.listeners=PLAINTEXT://{HOST}:{broker}",
                "controller.listener.names=CONTROLLER",
                f"log.dirs={folder / 'log'}",
                "num.partitions=2",
                "num.network.threads=2",
                "num.io.threads=2",
                "offsets.topic.num.partitions=1",
                "offsets.topic.replication.factor=1",
                "transaction.state.log.num.partitions=1",
                "transaction.state.log.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "share.coordinator.state.topic.num.partitions=1",
                "share.coordinator.state.topic.replication.factor=1",
                "share.coordinator.state.topic.min.isr=1",
                "group.initial.rebalance.delay.ms=0",
                # Killed and started again, a broker otherwise stays fenced for 9 s.
                "broker.session.timeout.ms=3000",
                "broker.heartbeat.interval.ms=500",
                "log.segment.bytes=134217728",
                "",
            ]
        )

    def ready(self, place: Place) -> bool:
        """Does the broker answer a request?"""
        return len(readiness.await_answer(place.port("kafka"), _API_VERSIONS, at_least=10)) >= 10

    def address(self, place: Place) -> str:
        """`host:port`, the bootstrap server."""
        port = place.ports().get("kafka")
        return f"{HOST}:{port}" if port else ""
