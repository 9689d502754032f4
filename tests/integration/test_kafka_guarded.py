"""A real broker behind TLS and a password."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from pipelines.errors import SourceError
from pipelines.local import PARTS, down, up
from pipelines.local.service import HOST, Place
from pipelines.local.services.kafka import Kafka
from pipelines.read.kafka.broker import partitions_by_reader
from pipelines.read.kafka.source_spec import KafkaSource
from tests.integration.test_kafka import event, read

pytestmark = pytest.mark.integration
PASSWORD = "not for others"
LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule"


class Guarded(Kafka):
    """A broker with one more listener: TLS, and one user with a password."""

    def _settings(self, place: Place, folder: Path) -> str:
        """Listeners are named in two lines; the others are added."""
        _certificate(folder)
        here = f"SASL_SSL://{HOST}:{place.port('kafka-guarded')}"
        name = "listener.name.sasl_ssl"
        lines = [
            f"{line},{here}" if line.split("=")[0].endswith("listeners") else line
            for line in super()._settings(place, folder).splitlines()
        ]
        return "\n".join(
            [
                *lines,
                "listener.security.protocol.map="
                "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
                f"{name}.ssl.keystore.location={folder / 'broker.p12'}",
                f"{name}.ssl.keystore.password={PASSWORD}",
                f"{name}.ssl.keystore.type=PKCS12",
                f"{name}.sasl.enabled.mechanisms=PLAIN",
                f'{name}.plain.sasl.jaas.config={LOGIN} required user_ann="{PASSWORD}";',
                "",
            ]
        )


def _certificate(folder: Path) -> None:
    """A key that vouches for itself, and its certificate for clients."""
    store = ["-keystore", str(folder / "broker.p12"), "-storepass", PASSWORD, "-alias", "broker"]
    about = ["-dname", f"CN={HOST}", "-ext", f"san=ip:{HOST}", "-ext", "bc:c=ca:true"]
    make = ["-genkeypair", "-keyalg", "RSA", "-storetype", "PKCS12", "-validity", "2", *about]
    tell = ["-exportcert", "-rfc", "-file", str(folder / "broker.pem")]
    for what in (make, tell):
        subprocess.run(["keytool", *what, *store], check=True, capture_output=True)


@pytest.fixture(scope="module")
def guarded(services: Callable, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder: `address`, and `broker.pem` in `kafka`."""
    services("kafka")  # skips, or fails, where there is no broker to be had
    folder = tmp_path_factory.mktemp("guarded")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PARTS, "kafka", Guarded())
        up(folder, only=["kafka"], ports=dict.fromkeys(PARTS, 0))
        yield folder
        down(folder)


def _uri(folder: Path, password: str) -> str:
    """The topic behind TLS; the password lies in a file."""
    secrets = folder / "client.conf"
    secrets.write_text(
        "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=ann\n"
        f"sasl.password={password}\nssl.ca.location={folder / 'kafka' / 'broker.pem'}\n"
    )
    port = Place(folder, folder).ports()["kafka-guarded"]
    return f"kafka://{HOST}:{port}/guarded?config={secrets}&until=now"


def test_what_lies_behind_tls_and_a_password_is_read(guarded: Path, tmp_path: Path) -> None:
    uri = _uri(guarded, PASSWORD)
    settings = {
        name: value
        for name, value in KafkaSource.parse(uri).consumer_settings().items()
        if name == "bootstrap.servers" or name.startswith(("ssl.", "sasl.", "security."))
    }
    admin = AdminClient(settings)
    admin.create_topics([NewTopic("guarded", 1, 1)])["guarded"].result(30)
    producer = Producer(settings)
    for number in range(20):
        producer.produce("guarded", event(number))
    assert producer.flush(30) == 0
    valid, dead = read(uri, tmp_path)
    assert valid == [f"e{number}" for number in range(20)]
    assert dead == []


def test_a_wrong_password_is_refused_at_the_door_and_not_told(
    guarded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.read.kafka.broker._WAIT_S", 0.5)
    monkeypatch.setattr("pipelines.read.kafka.broker._ASK_S", 2.0)
    with pytest.raises(SourceError) as refused:
        partitions_by_reader(KafkaSource.parse(_uri(guarded, "guessed")))
    assert "uthentication" in str(refused.value)
    assert "guessed" not in str(refused.value)
