"""`make demo`: a simulated stream, the whole job on it, and what came out.

In a folder of its own::

    OUT/demo.json            what the demo was made with; marks the folder as ours
    OUT/sim/                 the stream and its truth (pipelines.simulate)
    OUT/store/               what `rillet run` makes of it
    OUT/run.json             what the run said at its end
    OUT/embeddings.parquet   the served vectors in one file

A second call goes on from what is there: an interrupted demo is finished, a
finished one is shown again.
"""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.console import Console
from rich.text import Text

from models.serve.export import export_embeddings
from models.serve.recommend import history, recommend
from models.serve.served_version import Served
from models.serve.versions import describe_versions
from pipelines.cli.tables import answer_table, history_table, versions_table
from pipelines.clock import wall_clock_ms
from pipelines.config import JobConfig, load_job
from pipelines.errors import RequestError
from pipelines.simulate import SimulationSpec, simulate

__all__ = ["DemoSpec", "load_snippet", "run_demo"]

_log = logging.getLogger("rillet")

_MARK = "demo.json"
_SHOWN = 5  # events and recommendations a user
_STRANGER = "someone-new"

Job = Callable[..., dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class DemoSpec:
    """The size of the demo: minutes on two cores."""

    events: int = 30_000
    users: int = 150
    items: int = 300
    seed: int = 7
    max_wait: str = "8h"  # event time; some thirty versions fit on a screen

    def world(self) -> SimulationSpec:
        """The stream that is simulated."""
        return SimulationSpec.of(
            events=self.events, users=self.users, items=self.items, seed=self.seed
        )

    def job(self) -> JobConfig:
        """The job file that is used."""
        return load_job(None, {"batch": {"max_wait": self.max_wait}})

    def mark(self) -> dict[str, Any]:
        """What a folder says about the demo in it."""
        job = self.job().model_dump(mode="json")
        return {"world": self.world().model_dump(mode="json"), "job": job}


def run_demo(
    out: Path,
    spec: DemoSpec | None = None,
    *,
    console: Console | None = None,
    run: Job | None = None,
) -> None:
    """Simulate, run, show; progress goes to the logger `rillet`, results to `console`.

    Args:
        out: a folder of the demo's own; made, or found as an earlier demo left it.
        spec: its size.
        console: where results are printed; standard output.
        run: the job (`pipelines.job.run_job`), replaced in tests.

    Raises:
        RequestError: `out` holds something that is no demo.
        RilletError: the simulation or the job failed.
    """
    spec, console = spec or DemoSpec(), console or Console(highlight=False)
    _claim(out, spec)
    counts = _simulated(out, spec)
    told = _run(out, spec, run)
    _headline(console, "What was put in, and what came of it")
    _balance(console, counts, told)
    _headline(console, "Versions: each batch was predicted first, then trained on")
    console.print(versions_table(describe_versions(out / "store")))
    served = Served.load(out / "store")
    for user in _people(out, served):
        _headline(console, f"User {user}")
        console.print(history_table(user, history(served, user, _SHOWN)))
        console.print()
        console.print(answer_table(recommend(served, user, _SHOWN)))
    _headline(console, "Somebody nobody has seen before, in Germany, on a phone")
    country, device = {"country": "DE"}, {"device": "phone"}
    stranger = recommend(served, _STRANGER, _SHOWN, attributes=country, context=device)
    console.print(answer_table(stranger))
    _embeddings(console, out)


def load_snippet(path: Path) -> str:
    """Three lines of Python that load exported embeddings."""
    return (
        "import numpy as np, pyarrow.parquet as pq\n"
        f'rows = pq.read_table("{path}", filters=[("entity", "==", "item")])\n'
        'ids, vectors = rows["id"].to_pylist(), np.stack(rows["embedding"].to_numpy())'
    )


def _claim(out: Path, spec: DemoSpec) -> None:
    """Make the folder, or take over what an earlier demo left in it."""
    mark, wanted = out / _MARK, json.dumps(spec.mark(), indent=1) + "\n"
    if out.exists() and not mark.is_file() and (not out.is_dir() or any(out.iterdir())):
        raise RequestError(f"{out} holds something else: give the demo an empty or new folder")
    if mark.is_file() and mark.read_text(encoding="utf-8") != wanted:
        _log.info("demo: %s was made with other settings, starting afresh", out)
        (out / "run.json").unlink(missing_ok=True)
        for name in ("sim", "store"):
            shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    mark.write_text(wanted, encoding="utf-8")


def _simulated(out: Path, spec: DemoSpec) -> dict[str, Any]:
    """The summary of the stream; it is written unless it is there already."""
    truth = out / "sim" / "truth.json"
    if not truth.is_file():
        _log.info("demo: simulating %s events in %s", f"{spec.events:,}", out / "sim")
        simulate(out / "sim", spec.world())
    summary: dict[str, Any] = json.loads(truth.read_text(encoding="utf-8"))["summary"]
    return summary


def _run(out: Path, spec: DemoSpec, run: Job | None) -> dict[str, Any]:
    """Run the job on the simulated log, as `rillet run` would; its summary.

    A run that was interrupted goes on; a finished one is not done again.
    """
    from pipelines.job import RunRequest, run_job

    sim, store, said = out / "sim", out / "store", out / "run.json"
    if not said.is_file():
        _log.info(
            "demo: running the job, as would: rillet run --events %s --items %s --users %s "
            "--store %s",
            *(sim / name for name in ("events.jsonl", "items.parquet", "users.parquet")),
            store,
        )
        request = RunRequest(
            events=(str(sim / "events.jsonl"),),
            items=str(sim / "items.parquet"),
            users=str(sim / "users.parquet"),
            store=store,
            config=spec.job(),
            predictions=None,
            beam_args=(),
            now_ms=wall_clock_ms(),
        )
        said.write_text(json.dumps((run or run_job)(request)) + "\n", encoding="utf-8")
    told: dict[str, Any] = json.loads(said.read_text(encoding="utf-8"))
    return told


def _headline(console: Console, text: str) -> None:
    console.print()
    console.rule(Text(text, style="bold"), align="left")


def _balance(console: Console, put_in: dict[str, Any], told: dict[str, Any]) -> None:
    """The truth's counts beside the run's."""
    bad = sum(put_in["malformed"].values())
    console.print(
        f"Simulated {put_in['lines']:,} lines: {put_in['events']:,} events of {put_in['users']:,} "
        f"users on {put_in['items']:,} items, {put_in['duplicates']:,} written twice, "
        f"{put_in['late']:,} out of order, {bad:,} malformed."
    )
    dead = ", ".join(f"{n} {reason}" for reason, n in told["dead"].items()) or "none"
    console.print(
        f"Read {told['read']:,}: {told['valid']:,} valid, {told['duplicates']:,} duplicates, "
        f"dead letters: {dead}. {told['rows']:,} feature rows made {told['versions']} versions "
        f"in {told['seconds']:.0f} s."
    )


def _people(out: Path, served: Served) -> list[str]:
    """Three users who were active last and are no bots."""
    truth = pq.read_table(out / "sim" / "truth" / "users.parquet")
    people = truth.filter(pc.invert(truth["bot"]))["user_id"]
    known = served.users.filter(pc.is_in(served.users["user_id"], people.combine_chunks()))
    known = known.filter(pc.is_in(known["user_id"], served.user_ids))
    times = known["recent_times"].to_pylist()
    busy = [(len(t) >= _SHOWN, max(t, default=0)) for t in times]
    order = np.lexsort(np.array(busy, dtype=np.int64).reshape(-1, 2).T[::-1])[::-1]
    return [known["user_id"][int(i)].as_py() for i in order[:3]]


def _embeddings(console: Console, out: Path) -> None:
    """Where the vectors lie, and how to load them."""
    path = out / "embeddings.parquet"
    told = export_embeddings(out / "store", path)
    _headline(console, "The embeddings")
    console.print(
        f"{out / 'store' / 'embeddings'} holds them as published: snapshots, and a delta a version."
        f"\n{path} is version {told['version']} in one file: {told['users']:,} users, "
        f"{told['items']:,} items, {told['dim']} numbers each. To load them:\n",
        soft_wrap=True,
    )
    console.print(Text(load_snippet(path)), soft_wrap=True)
