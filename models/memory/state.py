"""All that a trainer remembers outside TensorFlow: ids, counts, histories."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.config import ModelConfig
from models.memory.decayed_counts import ItemStream, RunningStats, grown
from models.memory.id_map import IdMap
from models.memory.item_contents import Contents
from models.memory.online_baselines import Baselines
from models.memory.pair_counts import PairCounts
from models.memory.seen_items import SeenSets
from models.memory.stale_counts import Fading
from models.memory.top_counts import HotRows
from models.memory.transitions import Predecessors
from models.rows import LENGTHS
from models.schema import BINARY_HEADS, DWELL, HEADS

__all__ = ["Profiles", "State"]

_FEW = 3.0  # events
_NEVER = np.iinfo(np.int64).min
KEY_HALF_LIFE_H = 24.0
"""Hours in which the popularity behind an attribute or context value halves."""


class Profiles:
    """What was last known of each user, by row: enough to compute a vector anew.

    Args:
        config: lengths.
        size: rows at first.
    """

    def __init__(self, config: ModelConfig, size: int) -> None:
        self.past = np.zeros((size, config.history), np.int32)  # item rows, newest last
        self.types = np.zeros((size, config.history), np.int8)  # event type + 1
        self.times = np.full((size, config.history), _NEVER, np.int64)
        self.attributes = np.zeros((size, config.attributes), np.int32)
        self.context = np.zeros((size, config.contexts), np.int32)
        self.last_event = np.full(size, _NEVER, np.int64)

    _FILL = (
        ("past", 0),
        ("types", 0),
        ("times", _NEVER),
        ("attributes", 0),
        ("context", 0),
        ("last_event", _NEVER),
    )

    def grow(self, size: int) -> None:
        """Make room for rows below `size`."""
        for name, fill in self._FILL:
            setattr(self, name, grown(getattr(self, name), size, fill))

    def reset(self, rows: NDArray[np.integer]) -> None:
        """Forget rows that were recycled."""
        for name, fill in self._FILL:
            getattr(self, name)[rows] = fill

    def drop_items(self, rows: NDArray[np.integer]) -> None:
        """Past items that were recycled become unknown ones."""
        gone = np.zeros(max(int(rows.max(initial=0)), int(self.past.max(initial=0))) + 1, bool)
        gone[rows] = True
        for first in range(0, len(self.past), 65_536):
            part = self.past[first : first + 65_536]
            part[gone[part]] = 0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of it, by name."""
        return {name: getattr(self, name) for name, _ in self._FILL}

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Put back what `arrays` gave."""
        for name, _ in self._FILL:
            setattr(self, name, arrays[name])


class State:
    """Id maps and everything that is kept per row, growing together.

    Args:
        config: limits.
        text_width: of the fixed vectors of items' texts; 0 for none.
    """

    def __init__(self, config: ModelConfig, text_width: int = 0) -> None:
        self._config = config
        self.user_ids = IdMap(limit=config.user_limit)
        self.item_ids = IdMap(limit=config.item_limit)
        users, items = self.user_ids.capacity, self.item_ids.capacity
        self.stream = ItemStream(config.half_lives_h, items)
        self.item_stats = RunningStats(BINARY_HEADS, len(HEADS) - BINARY_HEADS, items)
        self.user_stats = RunningStats(BINARY_HEADS, len(HEADS) - BINARY_HEADS, users)
        self.length_stats = RunningStats(BINARY_HEADS, len(HEADS) - BINARY_HEADS, LENGTHS)
        self.profiles = Profiles(config, users)
        self.seen = SeenSets(config.seen_per_user)
        self.baselines = Baselines(config, items)
        self.key_ids = IdMap(limit=config.key_limit)
        self.key_counts = PairCounts(config.key_pairs_limit, KEY_HALF_LIFE_H)
        self.known = np.zeros(items, bool)  # set by `know` alone
        self._known_rows = np.zeros(1_024, np.int32)  # the same as rows, ascending, then room
        self._known_count = 0
        self._follow()
        self.words = np.zeros((items, config.content_columns), np.int32)
        self.texts = np.zeros((items, text_width), np.float32)  # computed once an item
        self.likeness = np.zeros((items, config.likeness), np.float32)  # by words, fixed
        self.before = Predecessors(config.transitions, items)
        self.lengths = np.zeros(items, np.int8)  # half octave of the duration; 0: unknown
        self.published_at = np.full(items, _NEVER, np.int64)  # when a delta last held it
        self.vectors = np.zeros((items, config.dim), np.float32)  # v, as last computed
        self.fresh: list[int] = []  # item rows whose v was never computed; empty between steps
        self.appeared: list[int] = []  # rows that a catalogue made known; empty between steps
        self.turn = 0  # item row from which stale v are computed anew
        self.now = _NEVER  # newest event time seen
        self.window = _NEVER  # end of the newest window seen
        self.published_until: int | None = None  # catalogue items up to here have appeared
        self.catalogues = (0, 0)  # digests of the items and users tables that were read last
        self.retold = False  # all is described anew: the next delta holds all; False between steps
        self.skipped = 0  # steps skipped since the beginning

    def _follow(self) -> None:
        """What follows from the stream's counts and is not kept in a checkpoint."""
        config = self._config
        column = config.half_lives_h.index(config.hot_half_life_h)
        hot = int(config.negatives * config.hot_share)
        self.hot = HotRows(self.stream.counts, column, hot)
        self.fading = Fading(config.half_lives_h)

    def contents(self) -> Contents:
        """What is known of past items, by item row; nothing where histories are read by id alone.

        Without their durations, which say little of what comes next: leaving them out brought
        1.4 % of NDCG@20 on kuairand_likes.
        """
        if self._config.history_content:
            words, texts = self.words[:, 1:], self.texts
        else:
            words = self.words[:, :0]
            texts = np.broadcast_to(np.float32(0.0), self.texts.shape)
        sightings = self._config.item_sightings
        return Contents(words, texts, self.likeness, self.before, self.item_ids.count, sightings)

    def item_head_stats(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Running statistics `[n, 2·heads]` of item rows that the heads read.

        An item's dwell is drawn to what is usual for its length, the others to the overall mean.
        """
        prior = np.tile(self.item_stats.mean(), (len(rows), 1))
        prior[:, DWELL] = self.length_stats.shrunk(self.lengths[rows])[:, DWELL]
        return self.item_stats.stats(rows, prior)

    def fixed(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """T of item rows, `[n, fixed]`: what they are like by words, what came before them."""
        alike = self.likeness[rows] * self._freshness(rows)
        return np.concatenate([alike, self.before.of(rows)], axis=1)

    def _freshness(self, rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """By what the likeness of item rows counts, `[n, 1]`: more for those of few events.

        1 + `likeness_fresh`, which halves its share at `_FEW` events: a vector that is
        learned takes over as there is something to learn from.
        """
        seen = self.stream.seen(rows)[:, None]
        return (1.0 + self._config.likeness_fresh / (1.0 + seen / _FEW)).astype(np.float32)

    def known_rows(self) -> NDArray[np.int32]:
        """Rows of known items, ascending, `[n]` int32; valid until the next is known."""
        return self._known_rows[: self._known_count]

    def know(self, rows: NDArray[np.integer]) -> None:
        """Item rows that are candidates from now on: new ids cost little, recycled rows a copy."""
        fresh = np.unique(rows[~self.known[rows]]).astype(np.int32)
        self.known[fresh] = True
        held, count = self.known_rows(), self._known_count + len(fresh)
        if count > len(self._known_rows):
            self._known_rows = grown(self._known_rows, 2 * count)
        if len(held) and len(fresh) and fresh[0] < held[-1]:
            at = np.searchsorted(held, fresh)
            self._known_rows[:count] = np.insert(held, at, fresh)
        else:
            self._known_rows[len(held) : count] = fresh
        self._known_count = count

    def _forget(self, rows: NDArray[np.integer]) -> None:
        """Item rows that are no candidates any more."""
        self.known[rows] = False
        left = np.flatnonzero(self.known).astype(np.int32)
        self._known_rows[: len(left)], self._known_count = left, len(left)

    def grow(self) -> None:
        """Give every array the rows that the id maps have."""
        users, items = self.user_ids.capacity, self.item_ids.capacity
        if users > len(self.profiles.past):
            self.user_stats.grow(users)
            self.profiles.grow(users)
        if items > len(self.known):
            self.stream.grow(items)
            self.item_stats.grow(items)
            self.baselines.grow(items)
            self.known = grown(self.known, items)
            self.words = grown(self.words, items)
            self.texts = grown(self.texts, items)
            self.likeness = grown(self.likeness, items)
            self.before.grow(items)
            self.lengths = grown(self.lengths, items)
            self.published_at = grown(self.published_at, items, _NEVER)
            self.vectors = grown(self.vectors, items)

    def reset(self, users: NDArray[np.integer], items: NDArray[np.integer]) -> None:
        """Forget rows that were recycled, everywhere."""
        if len(users) or len(items):
            self.seen.drop(users=users, items=items)
        if len(users):
            self.user_stats.reset(users)
            self.profiles.reset(users)
        if len(items):
            self.stream.reset(items)
            self.item_stats.reset(items)
            self.baselines.reset(items)
            self.profiles.drop_items(items)
            self.key_counts.drop(items, left=False, right=True)
            self._forget(items)
            self.hot.drop(items)
            self.words[items] = 0
            self.texts[items] = 0.0
            self.likeness[items] = 0.0
            self.before.reset(items)
            self.lengths[items] = 0
            self.vectors[items] = 0.0
            self.published_at[items] = _NEVER

    # Checkpoints ----------------------------------------------------------

    def _arrays(self) -> dict[str, NDArray[Any]]:
        until = _NEVER if self.published_until is None else self.published_until
        named = {
            "known": self.known,
            "words": self.words,
            "texts": self.texts,
            "likeness": self.likeness,
            "lengths": self.lengths,
            "published_at": self.published_at,
            "vectors": self.vectors,
            "scalars": np.array(
                [self.now, self.skipped, self.turn, until, *self.catalogues, self.window],
                np.int64,
            ),
            "stream/sums": self.stream.counts.sums,
            "stream/landmarks": self.stream.counts.landmarks,
            "stream/dislikes": self.stream.dislikes,
            "stream/first": self.stream.first,
            "stream/last": self.stream.last,
            "baselines/sums": self.baselines.counts.sums,
            "baselines/landmarks": self.baselines.counts.landmarks,
            "baselines/totals": self.baselines.totals,
        }
        for side, stats in self._stats():
            for name in ("sums", "n", "total"):
                named[f"stats/{side}/{name}"] = getattr(stats, name)
        for prefix, part in (
            ("seen", self.seen.arrays()),
            ("transitions", self.baselines.transitions.arrays()),
            ("keys", self.key_counts.arrays()),
            ("profiles", self.profiles.arrays()),
            ("before", self.before.arrays()),
        ):
            named.update({f"{prefix}/{name}": value for name, value in part.items()})
        return named

    def _stats(self) -> list[tuple[str, RunningStats]]:
        names = ("users", "items", "lengths")
        return list(zip(names, (self.user_stats, self.item_stats, self.length_stats), strict=True))

    def save(self, folder: Path) -> None:
        """Write ids and arrays into `folder`."""
        for name in ("user_ids", "item_ids", "key_ids"):
            pq.write_table(getattr(self, name).to_table(), folder / f"{name}.parquet")
        np.savez(folder / "state.npz", allow_pickle=False, **self._arrays())

    def restore(self, folder: Path) -> None:
        """Read what `save` wrote."""
        limits = {"user_ids": self._config.user_limit, "item_ids": self._config.item_limit}
        for name in ("user_ids", "item_ids", "key_ids"):
            table = pq.read_table(folder / f"{name}.parquet")
            limit = limits.get(name, self._config.key_limit)
            setattr(self, name, IdMap.from_table(table, limit=limit))
        with np.load(folder / "state.npz", allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        self._load(arrays)

    def _load(self, arrays: dict[str, NDArray[Any]]) -> None:
        def part(prefix: str) -> dict[str, NDArray[Any]]:
            start = f"{prefix}/"
            return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}

        self.known, self.words = arrays["known"], arrays["words"]
        self.texts, self.likeness = arrays["texts"], arrays["likeness"]
        self.lengths = arrays["lengths"]
        self.published_at = arrays["published_at"]
        self.vectors = arrays["vectors"]
        scalars = [int(value) for value in arrays["scalars"]]
        self.now, self.skipped, self.turn, until = scalars[:4]
        self.catalogues, self.window = (scalars[4], scalars[5]), scalars[6]
        self.published_until = None if until == _NEVER else until
        stream = part("stream")
        self.stream.counts.sums, self.stream.counts.landmarks = stream["sums"], stream["landmarks"]
        self.stream.dislikes = stream["dislikes"]
        self.stream.first, self.stream.last = stream["first"], stream["last"]
        base = part("baselines")
        self.baselines.counts.sums, self.baselines.totals = base["sums"], base["totals"]
        self.baselines.counts.landmarks = base["landmarks"]
        for side, stats in self._stats():
            for name, value in part(f"stats/{side}").items():
                setattr(stats, name, value)
        self.seen = SeenSets.from_arrays(part("seen"), self._config.seen_per_user)
        self.baselines.transitions.load(part("transitions"))
        self.key_counts.load(part("keys"))
        self.profiles.load(part("profiles"))
        self.before.load(part("before"))
        self._known_rows = np.flatnonzero(self.known).astype(np.int32)
        self._known_count = len(self._known_rows)
        rows = self._known_rows
        self._follow()
        self.fading.note(self._known_rows, self.stream.last[rows], self.published_at[rows])
