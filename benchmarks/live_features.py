"""What feature rows cost on a cluster: from Kafka on Flink, and PyFlink's beside it."""

import argparse
import os
import random
import subprocess
import time
from datetime import UTC, datetime
from typing import Any

import apache_beam as beam
from cluster import CACHE, REPOSITORY, Cluster, Sampler, cost
from live_events import settled, timed

from pipelines.config import JobConfig
from pipelines.schema import EVENTS


def features(cluster: Cluster, given: argparse.Namespace) -> dict[str, Any]:
    """Kafka → deduplicated features on Flink, nothing after; and PyFlink's."""
    told = {"ours": _ours(cluster, given.events)}
    if not given.no_pyflink:
        try:
            told["pyflink"] = _pyflink(cluster, given.pyflink_events)
        except SystemExit as problem:
            return told | {"pyflink": {"failed": str(problem)}}
        ratio = told["ours"]["events_per_cpu_s"] / told["pyflink"]["events_per_cpu_s"]
        told["times_pyflink"] = round(ratio, 1)
    return told


def _ours(cluster: Cluster, count: int) -> dict[str, Any]:
    from pipelines.live.cluster_options import live_args, live_options
    from pipelines.live.stateful_stages import DedupeLive, FeaturizeLive
    from pipelines.read.kafka.source import ReadKafka
    from pipelines.read.kafka.source_spec import KafkaSource

    log = timed(settled(1_000, random.Random(7)), count, count / 1_000)
    source = KafkaSource.parse(f"{cluster.backlog('features', log)}?until=now")
    config = JobConfig.model_validate({"features": {"window": "fixed:5m", "shards": 4}}).features
    options = live_options(live_args(["--runner=FlinkRunner", "--parallelism=1"], source))
    begun, seen = time.monotonic(), Sampler(cluster)
    with beam.Pipeline(options=options) as pipeline:
        read = pipeline | ReadKafka(source=source)
        unique = read.valid | DedupeLive(config=config)
        made = unique.unique | FeaturizeLive(config=config)
        _ = made.rows | beam.Map(len_of)
    return cost(count, seen.stop(), time.monotonic() - begun)


def len_of(keyed: tuple[int, bytes]) -> int:
    """Stands for a sink."""
    return len(keyed[1])


def _pyflink(cluster: Cluster, count: int) -> dict[str, Any]:
    """The peer of benchmarks/features.py, sent to the same cluster."""
    from features import pyflink_problem

    if problem := pyflink_problem():
        raise SystemExit(f"PyFlink cannot be had: {problem}; leave it out with --no-pyflink")
    path, out = cluster.work / "events.jsonl", cluster.work / "pyflink"
    blank = dict.fromkeys(EVENTS.names) | {"context": {}}  # the peer reads all columns
    with path.open("wb") as lines:
        for event in timed(settled(1_000, random.Random(7)), count, count / 1_000):
            moment = datetime.fromtimestamp(event["event_time"] / 1_000, UTC).isoformat()
            lines.write(cluster.encode({**blank, **event, "event_time": moment}) + b"\n")
    home = CACHE / "pyflink"
    package = next(home.glob("lib/python3*/site-packages/pyflink"))
    python = str(home / "bin" / "python")
    command = [str(package / "bin" / "flink"), "run", "-m", cluster.address["flink"]]
    command += ["-j", str(next(package.glob("lib/flink-connector-files-*.jar")))]
    command += ["-pyexec", python, "-pyclientexec", python]
    # Our cluster has Flink's core alone; PyFlink's operators name classes of the tables, too.
    for jar in ("flink-table-api-java-uber", "flink-table-runtime"):
        command += ["-C", next(package.glob(f"lib/{jar}-*.jar")).as_uri()]
    command += ["-pyfs", str(REPOSITORY / "benchmarks" / "peers" / "user_rows.py")]
    command += [
        "-py",
        str(REPOSITORY / "benchmarks" / "peers" / "pyflink_keyed.py"),
        str(path),
        str(out),
        "process",
    ]
    begun, seen = time.monotonic(), Sampler(cluster)
    paths = os.pathsep.join([str(home / "bin"), os.environ["PATH"]])
    done = subprocess.run(
        command,
        env={**os.environ, "PATH": paths, "FLINK_HOME": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).splitlines()
        causes = [line for line in said if "Caused by" in line or "Error" in line]
        raise SystemExit(f"PyFlink failed: {'; '.join(causes)[:3_000]}")
    return cost(count, seen.stop(), time.monotonic() - begun)
