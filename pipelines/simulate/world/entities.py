"""The things and the people of a simulated world, drawn once from the seed.

Items are numbered in the order in which they are published, so that those out
at a given time are a prefix. Topic k is category k // S in style k % S, with
S = len(STYLES); K topics in all.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.schema import ITEMS, TIMESTAMP, USERS
from pipelines.simulate.spec import SimulationSpec
from pipelines.simulate.world.words import CATEGORIES, COMMON, PLACES, SHOP, STYLES, VOCABULARY

__all__ = [
    "AGES",
    "COUNTRIES",
    "DAYPARTS",
    "DAY_MS",
    "DEVICES",
    "HOUR_MS",
    "TOPICS",
    "Catalogue",
    "Population",
    "item_ids",
    "item_table",
    "make_catalogue",
    "make_population",
    "user_ids",
    "user_table",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
TOPICS = len(CATEGORIES) * len(STYLES)
COUNTRIES = ("AT", "BR", "DE", "IN", "JP", "US")
AGES = ("13-17", "18-24", "25-34", "35-49", "50+")
DEVICES = ("phone", "tablet", "laptop", "television")
DAYPARTS = 4  # six hours each, from midnight
_MEDIAN_DURATION_S = (20.0, 150.0, 45.0)  # by style: quick, deep, playful
_PARALLEL = 8  # series that run at the same time


@dataclass(frozen=True)
class Catalogue:
    """`n` items; every array is `[n]`, times are event time in milliseconds."""

    published: Ints
    topic: Ints  # main topic, 0 ≤ topic < TOPICS
    second: Ints  # another topic
    share: Floats  # of the main topic in the item's factors, 0.7 to 1
    fame: Floats  # pull when new, median 1
    half_life_ms: Floats
    duration: Ints  # milliseconds
    price: Floats  # 0: not for sale
    series: Ints  # number of the series, −1: none
    episode: Ints  # from 1; 0: none
    following: Ints  # the next episode's item, −1: none
    series_name: tuple[str, ...]

    @property
    def category(self) -> Ints:
        """Main category of each item."""
        return self.topic // len(STYLES)


@dataclass(frozen=True)
class Population:
    """`n` users; every array is `[n]`, `arrives` in milliseconds of event time."""

    bot: NDArray[np.bool_]
    arrives: Ints
    activity: Floats
    country: Ints
    age: Ints
    device: Ints  # the one they like best
    known: NDArray[np.bool_]  # [n, 2]: whether country and age are on record
    mean: NDArray[np.float32]  # [n, TOPICS] what demographics say, unit variance


def make_catalogue(spec: SimulationSpec, rng: np.random.Generator) -> Catalogue:
    """Draw items: half out before the start, the rest spread over the stream."""
    n = spec.items
    published = _published(spec, rng)
    topic = rng.integers(0, TOPICS, n)
    series, episode, following = _series(n, spec.series_share, rng)
    count = int(series.max()) + 1
    in_series = series >= 0
    # One series is one topic: what its first episode is about.
    topic[in_series] = rng.integers(0, TOPICS, max(count, 1))[series[in_series]]
    half_life = spec.item_half_life_h * HOUR_MS * np.exp(rng.normal(0, 0.4, n))
    median = np.array(_MEDIAN_DURATION_S)[topic % len(STYLES)] * 1000
    duration = np.clip(median * np.exp(rng.normal(0, 0.5, n)), 5_000, 2 * HOUR_MS)
    sold = np.array([c in SHOP for c in CATEGORIES])[topic // len(STYLES)]
    price = np.round(np.exp(rng.normal(3.0, 0.7, n)), 2) * sold
    return Catalogue(
        published=published,
        topic=topic,
        second=(topic + rng.integers(1, TOPICS, n)) % TOPICS,
        share=rng.uniform(0.7, 1.0, n),
        fame=np.exp(rng.normal(0, 0.9, n)),
        half_life_ms=half_life,
        duration=duration.astype(np.int64),
        price=price,
        series=series,
        episode=episode,
        following=following,
        series_name=_series_names(count, topic, series, rng),
    )


def _published(spec: SimulationSpec, rng: np.random.Generator) -> Ints:
    """Sorted times: a backlog from the past, then evenly over the stream."""
    old = min(max(round(spec.backlog * spec.items), 10), spec.items)
    span = spec.days * DAY_MS
    past = max(2 * min(spec.item_half_life_h, 240.0) * HOUR_MS, span)
    times = np.concatenate(
        [rng.uniform(-past, -1, old), rng.uniform(0, span, spec.items - old)]
    ).astype(np.int64)
    return np.sort(times) + spec.start_ms


def _series(n: int, share: float, rng: np.random.Generator) -> tuple[Ints, Ints, Ints]:
    """Number of the series, of the episode, and the next episode's item.

    Items of series are taken in order of publication, 64 at a time, and dealt
    to eight series: so a series runs for a while, beside others.
    """
    series = np.full(n, -1, dtype=np.int64)
    members = np.flatnonzero(rng.random(n) < share)
    block = np.arange(len(members)) // (_PARALLEL * _PARALLEL)
    series[members] = block * _PARALLEL + rng.integers(0, _PARALLEL, len(members))
    used, compact = np.unique(series[members], return_inverse=True)
    series[members] = compact
    episode = np.zeros(n, dtype=np.int64)
    following = np.full(n, -1, dtype=np.int64)
    by_series = members[np.argsort(compact, kind="stable")]
    lengths = np.bincount(compact, minlength=len(used))
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    episode[by_series] = np.arange(len(by_series)) - first + 1
    same = series[by_series[1:]] == series[by_series[:-1]]
    following[by_series[:-1][same]] = by_series[1:][same]
    return series, episode, following


def _series_names(
    count: int, topic: Ints, series: Ints, rng: np.random.Generator
) -> tuple[str, ...]:
    about = np.zeros(count, dtype=np.int64)
    about[series[series >= 0]] = topic[series >= 0]
    word = rng.random(count)
    names = []
    for i in range(count):
        place, again = PLACES[i % len(PLACES)], i // len(PLACES)
        name = f"{place} {_pick(VOCABULARY[about[i]], word[i])}"
        names.append(f"{name} {again + 1}" if again else name)
    return tuple(names)


def _pick(words: tuple[str, ...], u: float) -> str:
    return words[int(u * len(words))]


def item_ids(n: int) -> pa.Array:
    """`i000000`, `i000001`, … by order of publication."""
    return pa.array([f"i{i:06d}" for i in range(n)], pa.string())


def user_ids(n: int) -> pa.Array:
    """`u000000`, `u000001`, … by number."""
    return pa.array([f"u{i:06d}" for i in range(n)], pa.string())


def item_table(items: Catalogue, rng: np.random.Generator) -> pa.Table:
    """The catalogue as published: schema ITEMS, one row an item."""
    n = len(items.topic)
    draws = rng.random((n, 20))
    titles, texts, categories = [], [], []
    for i in range(n):
        main, second = VOCABULARY[items.topic[i]], VOCABULARY[items.second[i]]
        own = [_pick(main, u) for u in draws[i, :10]]
        other = [_pick(second, u) for u in draws[i, 10:13]]
        titles.append(_title(items, i, own))
        texts.append(" ".join([*own[3:], *other, *(_pick(COMMON, u) for u in draws[i, 13:18])]))
        names = [CATEGORIES[items.topic[i] // len(STYLES)]]
        beside = CATEGORIES[items.second[i] // len(STYLES)]
        if items.share[i] < 0.85 and beside not in names:
            names.append(beside)
        categories.append(names)
    columns = [
        item_ids(n),
        pa.array(titles),
        pa.array(texts),
        pa.array(categories, pa.list_(pa.string())),
        pa.array(items.duration),
        pa.array(items.published).cast(TIMESTAMP),
    ]
    return pa.Table.from_arrays(columns, schema=ITEMS)


def _title(items: Catalogue, i: int, own: list[str]) -> str:
    if items.series[i] >= 0:
        return f"{items.series_name[items.series[i]]}, episode {items.episode[i]}: {own[0]}"
    return " ".join(list(dict.fromkeys(own))[:3]).capitalize()


def make_population(spec: SimulationSpec, rng: np.random.Generator) -> Population:
    """Draw users; the first is there from the start and no bot."""
    n = spec.users
    late = rng.random(n) < spec.newcomers
    arrives = spec.start_ms + np.where(late, rng.uniform(0, spec.days * DAY_MS, n), -1.0)
    bot = rng.random(n) < spec.bots
    late[0] = bot[0] = False
    arrives[0] = spec.start_ms - 1
    country = rng.choice(len(COUNTRIES), n, p=[0.1, 0.2, 0.2, 0.2, 0.1, 0.2])
    age = rng.choice(len(AGES), n, p=[0.1, 0.25, 0.3, 0.25, 0.1])
    by_country = rng.normal(size=(len(COUNTRIES), TOPICS)).astype(np.float32)
    by_age = rng.normal(size=(len(AGES), TOPICS)).astype(np.float32)
    return Population(
        bot=bot,
        arrives=arrives.astype(np.int64),
        activity=np.exp(rng.normal(0, 0.7, n)) * np.where(bot, 3.0, 1.0),
        country=country,
        age=age,
        device=rng.choice(len(DEVICES), n, p=[0.5, 0.1, 0.25, 0.15]),
        known=rng.random((n, 2)) < 0.9,
        mean=(by_country[country] + by_age[age]) / np.float32(np.sqrt(2)),
    )


def user_table(people: Population) -> pa.Table:
    """Users as published: schema USERS; what is not on record is absent."""
    rows: list[list[tuple[str, Any]]] = [
        [("country", COUNTRIES[country])] * bool(on_record[0])
        + [("age", AGES[age])] * bool(on_record[1])
        for country, age, on_record in zip(people.country, people.age, people.known, strict=True)
    ]
    attributes = pa.array(rows, USERS.field("attributes").type)
    return pa.Table.from_arrays([user_ids(len(rows)), attributes], schema=USERS)
