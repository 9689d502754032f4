"""Kafka, Flink, Beam's job server, Redis and PostgreSQL on this machine.

`up`, `status` and `down` are all there is to it. A part is one file that
names what it needs, which processes it runs and how one sees that it is ready
(`pipelines.local.service`). Everything listens on 127.0.0.1 alone; programs lie
in a cache folder, data, logs and process ids in the directory that is asked for.
"""

from pipelines.local.control import PARTS, default_directory, down, status, up
from pipelines.local.flink_flags import flink_address, flink_flags, flink_jar
from pipelines.local.flink_rest import ask
from pipelines.local.savepoint import Stopped, running_jobs, stop_with_savepoint
from pipelines.local.service import ServiceStatus

__all__ = [
    "PARTS",
    "ServiceStatus",
    "Stopped",
    "ask",
    "default_directory",
    "down",
    "flink_address",
    "flink_flags",
    "flink_jar",
    "running_jobs",
    "status",
    "stop_with_savepoint",
    "up",
]
