"""Lines to a topic of Kafka, each confirmed by the broker. Knows confluent-kafka, not Beam."""

import logging
from typing import Any

import pyarrow as pa

from pipelines.errors import JobError, RequestError
from pipelines.kafka_uri import Topic

__all__ = ["TopicWriter"]

_log = logging.getLogger("rillet")
_ASK_S = 10.0
_PATIENCE_S = 60.0
"""How long a broker may be away before what it was sent counts as lost."""


class TopicWriter:
    """Sends lines to a topic, a user's to one partition; makes the topic where there is none.

    Attributes:
        confirmed: lines that the broker has.
    """

    def __init__(self, uri: str) -> None:
        """Ask the broker for the topic.

        Args:
            uri: `kafka://host:port/topic?partitions=2&…`; names with a dot, and those in the
                file `config=`, go to librdkafka. `partitions` is for a topic that is made.

        Raises:
            RequestError: the URI is wrong, the client library is missing, no broker answers, or
                the topic cannot be made.
        """
        self.topic = Topic.parse(uri, "topic")
        partitions = _partitions(self.topic)
        self.confirmed, self._refusal = 0, ""
        self._producer = _producer(self.topic)
        if self.topic.name not in self._topics():
            _create(self.topic, partitions)

    def send(self, lines: pa.Array, users: pa.Array) -> None:
        """Hand over `[n]` lines, with or without their ends, and whose they are.

        Raises:
            JobError: the broker refused a line, or was away for too long.
        """
        keys = users.dictionary_decode() if pa.types.is_dictionary(users.type) else users
        for line, key in zip(lines.to_pylist(), keys.to_pylist(), strict=True):
            self._hand_over(line.removesuffix(b"\n"), key)
        self._producer.poll(0)
        self._check()

    def close(self) -> None:
        """Wait until every line is confirmed.

        Raises:
            JobError: some are not.
        """
        left = self._producer.flush(_PATIENCE_S)
        self._check()
        if left:
            raise JobError(f"{self._where()} has not confirmed {left} lines; {_CURE}")

    def _hand_over(self, line: bytes, key: str) -> None:
        while True:
            try:
                self._producer.produce(self.topic.name, line, key, on_delivery=self._heard)
                return
            except BufferError:  # full: wait until the broker has taken some
                self._producer.poll(0.1)
                self._check()

    def _heard(self, error: Any, _message: Any) -> None:
        if error is None:
            self.confirmed += 1
        else:
            self._refusal = error.str()

    def _check(self) -> None:
        if self._refusal:
            raise JobError(
                f"{self._where()} did not take a line ({self._refusal}) after "
                f"{self.confirmed} were confirmed; {_CURE}"
            )

    def _where(self) -> str:
        return f"Kafka at {self.topic.brokers}, topic {self.topic.name},"

    def _topics(self) -> set[str]:
        import confluent_kafka

        try:
            return set(self._producer.list_topics(timeout=_ASK_S).topics)
        except confluent_kafka.KafkaException as error:
            raise RequestError(
                f"Kafka at {self.topic.brokers} does not answer: {error.args[0].str()}; check "
                "--to, or start it with: rillet local up --only kafka"
            ) from None


_CURE = "see whether it is up, then run the command again"


def _producer(topic: Topic) -> Any:
    try:
        import confluent_kafka
    except ImportError:
        raise RequestError(
            "writing to Kafka needs confluent-kafka; install it with: pip install 'rillet[kafka]'"
        ) from None
    settings = {
        "linger.ms": 5,
        "message.timeout.ms": int(_PATIENCE_S * 1_000),
        "reconnect.backoff.max.ms": 1_000,
        "log_level": 3,  # what it tries again is no news
        **topic.settings,
        "bootstrap.servers": topic.brokers,
        # Each line once and in order, also where the broker is away for a moment.
        "enable.idempotence": True,
    }
    try:
        return confluent_kafka.Producer(settings, logger=_log)
    except confluent_kafka.KafkaException as error:
        raise RequestError(
            f"Kafka refuses a setting: {error.args[0].str()}; see librdkafka's list of settings"
        ) from None


def _partitions(topic: Topic) -> int:
    other = sorted(set(topic.options) - {"partitions"})
    if other:
        raise RequestError(f"--to has no option {other[0]}; only partitions and config are known")
    given = topic.options.get("partitions", "2")
    if not given.isdecimal() or int(given) < 1:
        raise RequestError(f"--to: partitions={given} is no number from 1; write partitions=2")
    return int(given)


def _create(topic: Topic, partitions: int) -> None:
    import confluent_kafka
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({**topic.settings, "bootstrap.servers": topic.brokers}, logger=_log)
    made = admin.create_topics([NewTopic(topic.name, partitions)])[topic.name]
    try:
        made.result(_ASK_S)
    except confluent_kafka.KafkaException as error:
        if error.args[0].code() != confluent_kafka.KafkaError.TOPIC_ALREADY_EXISTS:
            raise RequestError(
                f"topic {topic.name} cannot be made: {error.args[0].str()}; create it yourself"
            ) from None
    _log.info("simulate: topic %s was made, with %d partitions", topic.name, partitions)
