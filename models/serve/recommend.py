"""Ask a store what to recommend to a user, and what it knows that they did.

Answers are values that JSON can carry (`Answer.to_json`). Needs numpy and pyarrow, no
TensorFlow.

Retrieval is exact: the inner product of the user's vector with every item's.
The best `CANDIDATES` are then ranked by

    value = ln softmax(u · v) + ln(1 + .5·click + like + 4·purchase + .5·ln(1 + dwell s))

how likely the user takes the item up, times how much that is worth: the
confidence that a feature row with the expected feedback would have.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.errors import RequestError
from models.network.numpy_heads import score_heads
from models.schema import HEADS
from models.serve.served_version import GroupPopularity, Served, UserPast
from models.store.store import Store

__all__ = ["CANDIDATES", "Answer", "Recommendation", "history", "recommend"]

CANDIDATES = 200
"""Items that retrieval hands to the heads (five times k, where that is more)."""

MAX_K = 1_000
_PRIOR = 50.0  # decayed events by which a group's popularity is drawn to everybody's
_RECENT = 10  # past items among which the nearest one to a recommendation is looked for

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Recommendation:
    """One item and why it stands where it does."""

    rank: int
    item_id: str
    title: str | None
    score: float  # model: inner product; popularity: share of recent feedback
    value: float | None  # what it was ranked by (see the module); None for popularity
    heads: dict[str, float] | None  # of click, like, purchase, dwell (s), rating: the trained
    seen: bool
    because: str | None  # the id of the recent item nearest to it
    because_title: str | None = None


@dataclass(frozen=True)
class Answer:
    """Recommendations for one user, and where they come from."""

    user_id: str
    source: Literal["model", "popularity"]
    why: str  # one line for people
    version: int
    newest_event_time: datetime  # newest event that the version has learned from
    user_event_time: datetime | None  # newest event of this user that it knows
    segments: tuple[str, ...]  # groups whose popularity was used, such as user:country=de
    items: tuple[Recommendation, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; times as RFC 3339."""
        fields = asdict(self)
        for name in ("newest_event_time", "user_event_time"):
            fields[name] = fields[name].isoformat() if fields[name] else None
        return {**fields, "segments": list(self.segments), "items": list(fields["items"])}


def recommend(
    store: Path | Store | Served,
    user: str,
    k: int = 10,
    *,
    include_seen: bool = False,
    attributes: Mapping[str, str] | None = None,
    context: Mapping[str, str] | None = None,
    platform: str | None = None,
) -> Answer:
    """The best k items for a user, by the served version.

    Args:
        store: a store's folder, or `Served.load`ed once for many questions.
        user: their id; a stranger is answered from recent popularity.
        k: how many, 1 to 1,000; fewer come back when there are no more.
        include_seen: also what the user interacted with.
        attributes: of a stranger; what the store's catalogue says otherwise.
        context: of the moment, for a stranger, such as {"device": "phone"}.
        platform: likewise.

    Raises:
        StoreError: no store, or nothing served yet.
        RequestError: k or the user's id is out of range.
    """
    if not 1 <= k <= MAX_K:
        raise RequestError(f"-k {k} is out of range: ask for 1 to {MAX_K} items")
    if not user:
        raise RequestError("--user is empty: give a user's id")
    served = store if isinstance(store, Served) else Served.load(store)
    past, vector = served.past(user), served.vector(user)
    segments: tuple[str, ...] = ()
    if vector is not None:
        found = _by_model(served, past, vector, k, include_seen)
    else:
        keys = _keys(attributes or served.catalogue.attributes(user), context, platform)
        found, segments = _by_popularity(served, past, keys, k, include_seen)
    return Answer(
        user_id=user,
        source="popularity" if vector is None else "model",
        why=_why(served, known=vector is not None, segments=segments, short=k - len(found)),
        version=served.version,
        newest_event_time=served.manifest.newest_event_time,
        user_event_time=max(past.recent_times, default=None),
        segments=segments,
        items=_titled(served, found),
    )


def _by_model(
    served: Served, past: UserPast, vector: Floats, k: int, include_seen: bool
) -> list[Recommendation]:
    """Retrieve by inner product, rank by expected worth."""
    seen = np.isin(served.rows, past.seen)
    allowed = np.flatnonzero(served.out & (include_seen | ~seen))
    scores = served.vectors[allowed] @ vector
    wanted = min(max(CANDIDATES, 5 * k), len(allowed))
    top = np.argsort(-scores, kind="stable")[:wanted]
    chosen, logits = allowed[top], np.asarray(scores[top], np.float64)
    rows = served.rows[chosen]
    heads = score_heads(
        served.heads,
        np.broadcast_to(vector, (len(chosen), len(vector))),
        served.vectors[chosen],
        np.broadcast_to(past.stats, (len(chosen), len(past.stats))),
        served.item_stats(rows),
    )
    trained = np.array(served.meta["examples"]) > 0
    heads = np.where(trained, heads, 0.0)  # a head that never saw an example says nothing
    value = _log_softmax(logits) + np.log(worth(heads))
    near = _nearest(served, past, chosen)
    return [
        Recommendation(
            rank=rank,
            item_id=served.ids[int(chosen[i])].as_py(),
            title=None,
            score=round(float(logits[i]), 6),
            value=round(float(value[i]), 6),
            heads={
                name: round(float(x), 6)
                for name, x, known in zip(HEADS, heads[i], trained, strict=True)
                if known
            },
            seen=bool(seen[chosen[i]]),
            because=near[i],
        )
        for rank, i in enumerate(np.argsort(-value, kind="stable")[:k], start=1)
    ]


def worth(heads: Floats) -> NDArray[np.float64]:
    """Expected confidence of a feature row with this feedback, `[n]`, at least 1.

    Args:
        heads: `[n, 5]`, as `score_heads` returns them.

    >>> worth(np.array([[1, 0, 0, 0, 0], [0, 1, 1, 0, 0]])).tolist()
    [1.5, 6.0]
    """
    click, like, purchase, dwell_s = np.asarray(heads, np.float64).T[:4]
    return 1 + 0.5 * click + like + 4 * purchase + 0.5 * np.log1p(np.maximum(dwell_s, 0))


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the candidates; empty for none."""
    if not len(scores):
        return scores
    shifted = scores - scores.max()
    return shifted - np.log(np.exp(shifted).sum())


def _nearest(served: Served, past: UserPast, chosen: Rows) -> list[str | None]:
    """Of the user's recent items the one whose own part of the vector is nearest, by cosine."""
    wanted = [
        r for r, t in zip(past.recent_items, past.recent_types, strict=True) if t != "dislike"
    ]
    recent = np.flatnonzero(np.isin(served.rows, [r for r in wanted[-_RECENT:] if r >= 0]))
    if not len(recent):
        return [None] * len(chosen)
    own = served.vectors[:, : served.meta["dim"]]
    unit = own / np.maximum(np.linalg.norm(own, axis=1, keepdims=True), 1e-9)
    closeness = unit[chosen] @ unit[recent].T
    closeness[chosen[:, None] == recent[None, :]] = -np.inf
    best = closeness.argmax(axis=1)
    ids = served.ids.take(recent).to_pylist()
    return [
        ids[b] if np.isfinite(c[b]) and c[b] > 0 else None
        for b, c in zip(best, closeness, strict=True)
    ]


def _keys(
    attributes: Mapping[str, str], context: Mapping[str, str] | None, platform: str | None
) -> dict[str, str]:
    """Keys of ``popularity.parquet`` for what is known → how to say them."""
    keys = {f"user:{name}={value}": f"{name}={value}" for name, value in attributes.items()}
    keys |= {
        f"context:{name}={value}": f"{name}={value}" for name, value in (context or {}).items()
    }
    return keys | ({f"platform:{platform}": f"platform={platform}"} if platform else {})


def _by_popularity(
    served: Served, past: UserPast, keys: Mapping[str, str], k: int, include_seen: bool
) -> tuple[list[Recommendation], tuple[str, ...]]:
    """Recent popularity in the groups that are known, drawn to everybody's.

    A group's share of an item is (count + 50 · share of all) / (weight + 50);
    several groups are averaged.
    """
    counts = np.asarray(served.items["popularity"], np.float64)
    share = counts / max(counts.sum(), 1e-300)
    groups = served.popular(keys)
    if groups:
        share = np.mean([_drawn(group, share) for group in groups], axis=0)
    rank = np.full(len(share), -1.0)
    with_vector = served.rows >= 0
    rank[served.rows[with_vector & served.out]] = share[served.rows[with_vector & served.out]]
    seen = np.isin(np.arange(len(share)), past.seen)
    rank[seen & (not include_seen)] = -1.0
    order = np.argsort(-rank, kind="stable")[:k]
    ids = served.items["item_id"]
    found = [
        Recommendation(
            rank=place,
            item_id=ids[int(i)].as_py(),
            title=None,
            score=round(float(share[i]), 9),
            value=None,
            heads=None,
            seen=bool(seen[i]),
            because=None,
        )
        for place, i in enumerate((i for i in order if rank[i] >= 0), start=1)
    ]
    return found, tuple(group.key for group in groups)


def _drawn(group: GroupPopularity, share: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.zeros(len(share))
    counts[group.rows] = group.scores
    return (counts + _PRIOR * share) / (group.weight + _PRIOR)


def _why(served: Served, *, known: bool, segments: tuple[str, ...], short: int) -> str:
    newest = f"{served.manifest.newest_event_time:%Y-%m-%d %H:%M:%S} UTC"
    version = f"version {served.version} (events up to {newest})"
    if known:
        line = f"retrieved by vectors and ranked by the heads of {version}"
    else:
        among = " and ".join(segment.partition(":")[2] for segment in segments)
        line = f"{version} does not know this user: recent popularity"
        line += f" among {among}" if among else ""
    return line + (f"; {short} fewer than asked for: there are no more" if short > 0 else "")


def _titled(served: Served, found: list[Recommendation]) -> tuple[Recommendation, ...]:
    near = [item.because or "" for item in found]
    titles = served.catalogue.titles([item.item_id for item in found] + near)
    return tuple(
        replace(item, title=title, because_title=near_title)
        for item, title, near_title in zip(
            found, titles[: len(found)], titles[len(found) :], strict=True
        )
    )


def history(served: Served, user: str, n: int = 10) -> list[dict[str, Any]]:
    """What the version knows the user did last, newest first.

    Returns:
        {"time", "type", "item_id", "title"} each; items forgotten since are left out.
    """
    past = served.past(user)
    ids = served.items["item_id"]
    rows = [
        {"time": time, "type": kind, "item_id": ids[int(row)].as_py()}
        for row, kind, time in zip(
            past.recent_items, past.recent_types, past.recent_times, strict=True
        )
        if row >= 0
    ][::-1][:n]
    titles = served.catalogue.titles([row["item_id"] for row in rows])
    return [{**row, "title": title} for row, title in zip(rows, titles, strict=True)]
