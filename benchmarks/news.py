"""Make up a news log, on which popularity is nearly everything, for benchmarks/quality.py.

    .venv/bin/python benchmarks/news.py --out /tmp/news
    .venv/bin/python benchmarks/quality.py /tmp/news

Articles appear at an even rate and are read while they are new. A reader follows a link of
the article that they read last (`--follow`), or picks one that they have not read with a
chance in proportion to

    draw · 2^(-age / half-life) · exp(taste · [the reader's section] + local · [their region])

`draw` is log-normal: most articles are read by hardly anybody. A part of the articles is of
one region, and read the less elsewhere. Readers come as often as a power law says, more of
them by day; their region is in the events' context, their section nowhere. Without
--catalogue nothing is known of the articles; with it their section is, and when they
appeared. --taste 0 --local 0 --follow 0 leaves nothing but popularity to be found.
A function of its arguments.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.progress import track

from pipelines.schema import EVENTS, ITEMS

HOUR_MS = 3_600_000
START_MS = 1_735_689_600_000  # 2025-01-01
ALIVE = 12.0  # half-lives after which nobody reads an article
SECTIONS = 12
REGIONS = 16
LOCAL = 0.3  # of the articles
LINKS = 3  # of an article, to others that appeared shortly before it
SHORTLY = 30  # articles
K = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", type=Path, required=True, help="folder, made if missing")
    parser.add_argument("--events", type=int, default=80_000)
    parser.add_argument("--readers", type=int, default=15_000)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--articles", type=int, default=300, help="a day")
    parser.add_argument("--half-life", type=float, default=4.0, help="of interest, in hours")
    parser.add_argument("--spread", type=float, default=2.0, help="of ln draw")
    parser.add_argument("--taste", type=float, default=0.5, help="ln odds of one's own section")
    parser.add_argument("--local", type=float, default=1.0, help="ln odds of one's own region")
    parser.add_argument("--follow", type=float, default=0.1, help="share of reads by a link")
    parser.add_argument("--catalogue", action="store_true", help="write items.parquet, too")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(given.seed)
    articles = Articles.made(rng, given)
    readers = Readers.made(rng, given)
    read, above = picked(rng, articles, readers, given)
    made = events(readers, read)
    pq.write_table(made, given.out / "events.parquet")
    if given.catalogue:
        pq.write_table(articles.table(), given.out / "items.parquet")
    print(f"{given.out}: {len(made)} events of {pc.count_distinct(made['item_id'])} articles")
    late = above[len(above) // 2 :][read[len(above) // 2 :] >= 0]
    gain = np.where(late < K, 1.0 / np.log2(2.0 + late), 0.0)
    print(
        f"who knew every draw, reader and link would find recall@{K} {np.mean(late < K):.4f}, "
        f"NDCG@{K} {gain.mean():.4f} in the last half"
    )


@dataclass(frozen=True)
class Articles:
    """Of the whole time, in the order they appear."""

    published: np.ndarray  # [n] epoch ms
    draw: np.ndarray  # [n]
    section: np.ndarray  # [n]
    region: np.ndarray  # [n]; -1: of none
    links: np.ndarray  # [n, LINKS] articles; -1: none

    @classmethod
    def made(cls, rng: np.random.Generator, given: argparse.Namespace) -> "Articles":
        """From one lifetime before the first event on, so that there is something to read."""
        before = ALIVE * given.half_life / 24
        count = round(given.articles * (given.days + before))
        day = np.sort(rng.uniform(-before, given.days, count))
        local = rng.random(count) < LOCAL
        back = rng.integers(1, SHORTLY, (count, LINKS))
        return cls(
            START_MS + np.int64(24 * HOUR_MS * day),
            np.exp(given.spread * rng.standard_normal(count)),
            rng.integers(0, SECTIONS, count),
            np.where(local, rng.integers(0, REGIONS, count), -1),
            np.maximum(np.arange(count)[:, None] - back, -1),
        )

    def table(self) -> pa.Table:
        """`ITEMS`: sections as categories, and when they appeared."""
        count = len(self.published)
        columns = {
            "item_id": [f"a{i}" for i in range(count)],
            "title": [None] * count,
            "text": [None] * count,
            "categories": [[f"section {s}"] for s in self.section.tolist()],
            "duration_ms": [None] * count,
            "published_at": self.published.tolist(),
        }
        return pa.table(
            [pa.array(columns[field.name], field.type) for field in ITEMS], schema=ITEMS
        )


@dataclass(frozen=True)
class Readers:
    """Who reads when, and what they are."""

    times: np.ndarray  # [events] epoch ms, ascending
    reader: np.ndarray  # [events]
    section: np.ndarray  # [readers]
    region: np.ndarray  # [readers]

    @classmethod
    def made(cls, rng: np.random.Generator, given: argparse.Namespace) -> "Readers":
        """Most by day; a reader's share falls with their number."""
        candidates = rng.uniform(0, given.days, 3 * given.events)
        by_day = rng.random(len(candidates)) < 0.55 - 0.45 * np.cos(2 * np.pi * candidates)
        times = np.sort(candidates[by_day][: given.events])
        share = 1.0 / (10.0 + np.arange(given.readers))
        return cls(
            START_MS + np.int64(24 * HOUR_MS * times),
            rng.choice(given.readers, len(times), p=share / share.sum()),
            rng.integers(0, SECTIONS, given.readers),
            rng.integers(0, REGIONS, given.readers),
        )


def picked(
    rng: np.random.Generator, articles: Articles, readers: Readers, given: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray]:
    """`[events]` article of each, and how many unread ones had a better chance; -1 for none."""
    times, reader = readers.times, readers.reader
    first = np.searchsorted(articles.published, times - ALIVE * given.half_life * HOUR_MS)
    last = np.searchsorted(articles.published, times)
    had: dict[int, list[int]] = {}
    out, above = np.full(len(times), -1), np.full(len(times), -1)
    for event in track(range(len(times)), "reading"):
        who, begin = int(reader[event]), int(first[event])
        done = had.setdefault(who, [])
        alive = slice(begin, int(last[event]))
        chance = interest(articles, alive, int(times[event]), readers, who, given)
        chance[[i - begin for i in done if i >= begin]] = 0.0
        if not chance.sum():
            continue
        chance /= chance.sum()
        linked = articles.links[done[-1]].tolist() if done else []
        linked = [i - begin for i in linked if i >= begin and i not in done]
        if linked:
            chance *= 1.0 - given.follow
            np.add.at(chance, linked, given.follow / len(linked))
        place = int(np.searchsorted(np.cumsum(chance), rng.random(), side="right"))
        place = min(place, len(chance) - 1)
        out[event], above[event] = begin + place, (chance > chance[place]).sum()
        done.append(begin + place)
    return out, above


def interest(
    articles: Articles,
    alive: slice,
    now_ms: int,
    readers: Readers,
    who: int,
    given: argparse.Namespace,
) -> np.ndarray:
    """How much a reader cares for each article of a slice, `[articles]`, at least 0."""
    age_h = (now_ms - articles.published[alive]) / HOUR_MS
    region = articles.region[alive]
    near = np.where(region < 0, 0.0, np.where(region == readers.region[who], 1.0, -1.0))
    mine = articles.section[alive] == readers.section[who]
    taste = np.exp(given.taste * mine + given.local * near)
    return np.asarray(articles.draw[alive] * 2.0 ** (-age_h / given.half_life) * taste)


def events(readers: Readers, read: np.ndarray) -> pa.Table:
    """`EVENTS`: a click each."""
    kept = np.flatnonzero(read >= 0)
    who = readers.reader[kept]
    known = {
        "event_id": [f"e{i}" for i in range(len(kept))],
        "user_id": [f"u{i}" for i in who.tolist()],
        "item_id": [f"a{i}" for i in read[kept].tolist()],
        "event_type": ["click"] * len(kept),
        "event_time": readers.times[kept].tolist(),
        "context": [[("region", f"r{i}")] for i in readers.region[who].tolist()],
    }
    return pa.table(
        [pa.array(known.get(field.name, [None] * len(kept)), field.type) for field in EVENTS],
        schema=EVENTS,
    )


if __name__ == "__main__":
    main()
