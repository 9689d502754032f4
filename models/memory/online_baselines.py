"""The simple online baselines that a model has to beat, tuned as they go.

Popularity is an exponentially decayed count, at every half-life of a grid.
Transitions score an item by (T + m·p) / (R + m): T of the R next items after
the user's last one were this item, p is its share of decayed popularity.
Both know what the model knows: counts as of the batch before, the whole
catalogue, the user's own items left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.config import ModelConfig
from models.memory.decayed_counts import DecayedCounts
from models.memory.pair_counts import PairCounts
from models.ranking_metrics import ndcg, recall
from models.row_arrays import Column, RowArrays

__all__ = ["Arms", "Baselines", "Excluded"]

Ints = NDArray[np.integer]
Floats = NDArray[np.float64]
_CELLS = 200_000  # comparisons held at once: what they need stays in the processor's cache


@dataclass(frozen=True)
class Excluded:
    """Distinct (row, item) pairs that are left out; the row's own item never is."""

    row: Ints  # [m], ascending
    item: Ints  # [m]

    def of(self, first: int, last: int) -> "Excluded":
        """The pairs of rows first … last - 1, rows counted from `first`."""
        start, stop = np.searchsorted(self.row, [first, last])
        return Excluded(self.row[start:stop] - first, self.item[start:stop])


@dataclass(frozen=True)
class Arms:
    """Items above and beside the true one, for each row and arm."""

    greater: Ints  # [rows, arms]
    ties: Ints  # [rows, arms]

    def of(self, arms: Sequence[int]) -> "Arms":
        """Some of the arms, in this order."""
        return Arms(self.greater[:, arms], self.ties[:, arms])

    def sums(self) -> Floats:
        """Recall@20 and NDCG@20, summed over the rows: `[2, arms]`."""
        found = [measure(self.greater, self.ties, 20) for measure in (recall, ndcg)]
        return np.stack(found).sum(axis=1)


class Baselines(RowArrays):
    """Counts behind the baselines and how each arm of the grid has done so far.

    Args:
        config: the grids and the limit.
        size: item rows at first.
    """

    # recall@20 and NDCG@20, summed over rows
    totals = Column(np.float64, 2, "arms", by_row=False)

    def __init__(self, config: ModelConfig, size: int) -> None:
        self.half_lives_h = (*config.baseline_half_lives_h, np.inf)
        self.smoothing = config.baseline_smoothing
        self.counts = DecayedCounts(self.half_lives_h, size)
        self.transitions = PairCounts(config.transitions_limit)
        arms = len(self.half_lives_h) * (1 + len(self.smoothing))
        super().__init__(size, parts={"": self.counts}, arms=arms)

    def reset(self, rows: Ints) -> None:
        """Forget item rows that were recycled."""
        super().reset(rows)
        self.transitions.drop(rows, left=True, right=True)

    def update(self, items: Ints, last: Ints, times: Ints, weight: float = 1.0) -> None:
        """Count a micro-batch's wanted rows.

        Args:
            items: `[n]` item rows.
            last: `[n]` the user's item before; 0 where there was none.
            times: `[n]` epoch ms.
            weight: what a row counts.
        """
        self.counts.add(items, np.full(len(items), weight), times)
        known = (last > 0) & (items > 0)
        if known.any():
            weights = np.full(int(known.sum()), weight)
            self.transitions.add(last[known], items[known], weights, int(times.max()))

    def ranks(
        self,
        now_ms: int,
        known: NDArray[np.bool_],
        true: Ints,
        last: Ints,
        excluded: Excluded,
        arms: Sequence[int] | None = None,
    ) -> Arms:
        """Where the arms put the true items; popularity arms first, then (half-life, m).

        Args:
            now_ms: time to decay to.
            known: `[items]` candidates.
            true: `[n]` their own items, all known.
            last: `[n]` the users' items before; 0 where there was none.
            excluded: what is left out of each row; all known.
            arms: those that are asked for, in this order; all of them by default.
        """
        share = np.ascontiguousarray(self.counts.at(now_ms, slice(len(known))).T)
        share /= np.maximum(share[:, known].sum(axis=1, keepdims=True), 1e-300)
        # The weight of a transition in each arm; none in the first, popularity alone.
        inverse = np.concatenate([[0.0], 1.0 / np.asarray(self.smoothing)])
        width = len(self.half_lives_h)
        some = [(share, inverse)]
        if arms is not None:
            some = [(share[[arm % width]], inverse[[arm // width]]) for arm in arms]
        parts = [self._in_chunks(*grid, known, true, last, excluded) for grid in some]
        return Arms(
            np.concatenate([part.greater for part in parts], axis=1),
            np.concatenate([part.ties for part in parts], axis=1),
        )

    def _in_chunks(
        self,
        share: Floats,
        inverse: Floats,
        known: NDArray[np.bool_],
        true: Ints,
        last: Ints,
        excluded: Excluded,
    ) -> Arms:
        ordered = np.sort(share[:, known], axis=1)
        most = int(np.bincount(excluded.row, minlength=1).max(initial=1))
        size = max(1, _CELLS // max(1, most * len(share) * len(inverse)))
        parts = []
        for i in range(0, max(len(true), 1), size):
            own, before = true[i : i + size], last[i : i + size]
            moved = self._transitions_from(before, known)
            mine = _TrueScores(share, inverse, own, moved.of(np.arange(len(own)), own))
            parts.append(_ranks(mine, ordered, moved, excluded.of(i, i + size)))
        return Arms(
            np.concatenate([part.greater for part in parts]),
            np.concatenate([part.ties for part in parts]),
        )

    def _transitions_from(self, last: Ints, known: NDArray[np.bool_]) -> "_Transitions":
        """Transitions out of each row's last item, to candidates."""
        row, item, weight = self.transitions.of_each(last)
        kept = known[item]
        return _Transitions(row[kept], item[kept], weight[kept])

    def count(self, arms: Arms) -> None:
        """Add how all arms did on some rows to the totals."""
        self.totals += arms.sums()

    def leading(self) -> dict[str, int]:
        """The arm of each kind with the highest NDCG@20 so far."""
        width = len(self.half_lives_h)
        return {
            "popularity": int(self.totals[1, :width].argmax()),
            "transitions": width + int(self.totals[1, width:].argmax()),
        }

    def figures(self, leading: dict[str, int], ranks: Arms, missed: int) -> dict[str, Any]:
        """JSON-able figures of the arms that lead.

        Args:
            leading: kind → arm.
            ranks: of these arms on the rows with a known item, in the same order.
            missed: predicted rows whose item was unknown.
        """
        rows = max(len(ranks.greater) + missed, 1)
        sums = ranks.sums() / rows
        return {
            name: {
                "recall@20": float(sums[0, place]),
                "ndcg@20": float(sums[1, place]),
                **self.arm(arm),
            }
            for place, (name, arm) in enumerate(leading.items())
        }

    def arm(self, index: int) -> dict[str, float | None]:
        """Half-life (hours; None for no decay) and m of an arm."""
        width = len(self.half_lives_h)
        half_life = self.half_lives_h[index % width]
        out: dict[str, float | None] = {
            "half_life_h": None if np.isinf(half_life) else float(half_life)
        }
        if index >= width:
            out["m"] = float(self.smoothing[index // width - 1])
        return out

    def best_half_life(self) -> int:
        """Column of the popularity arm that leads so far."""
        return self.leading()["popularity"]


class _Transitions:
    """Transitions out of each row's last item, looked up by (row, item)."""

    def __init__(self, row: Ints, item: NDArray[np.integer], weight: Floats) -> None:
        keys = (row << 32) | item.astype(np.int64)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self.row, self.item, self.weight = row[order], item[order], weight[order]

    def of(self, row: Ints, item: NDArray[np.integer]) -> Floats:
        if not len(self._keys):
            return np.zeros(len(row))
        keys = (row.astype(np.int64) << 32) | item.astype(np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self.weight[at], 0.0)


class _TrueScores:
    """Scores of the rows' true items by every arm, and what beats them.

    Args:
        share: `[half-lives, items]` shares of decayed popularity.
        inverse: `[1 + m]` weight of a transition in each arm; 0 first.
        true: `[n]` the true items.
        bonus: `[n]` their transitions.
    """

    def __init__(self, share: Floats, inverse: Floats, true: Ints, bonus: Floats) -> None:
        self._share, self._inverse, self._plain = share, inverse, bonus == 0
        self.score = share[:, None, true] + inverse[:, None] * bonus  # [half-lives, 1 + m, n]

    def beaten_by(self, row: Ints, item: Ints, bonus: Floats) -> tuple[Ints, Ints]:
        """How many of the pairs (row, item) are above and beside the row's own, each as `score`.

        Where neither has a transition, all m agree: they are compared once.
        """
        alike = self._plain[row] & (bonus == 0)
        above, beside = (np.zeros(self.score.shape, np.int64) for _ in range(2))
        rows = len(self._plain)
        for some, inverse in ((alike, self._inverse[:1]), (~alike, self._inverse)):
            of, at = row[some], item[some]
            score = self._share[:, None, at] + inverse[:, None] * bonus[some]
            own = self.score[:, : len(inverse), of]
            above += _per_row(score > own, of, rows)
            beside += _per_row(score == own, of, rows)
        return above, beside


def _ranks(own: _TrueScores, ordered: Floats, moved: _Transitions, excluded: Excluded) -> Arms:
    greater, ties = _among_all(ordered, own.score)
    for row, item, more, sign in (
        (moved.row, moved.item, np.zeros(len(moved.row)), -1),
        (moved.row, moved.item, moved.weight, 1),
        (excluded.row, excluded.item, moved.of(excluded.row, excluded.item), -1),
    ):
        above, beside = own.beaten_by(row, item, more)
        greater += sign * above
        ties += sign * beside
    ties = np.maximum(ties - 1, 0)  # the true item is beside itself
    return Arms(_arms_last(greater), _arms_last(ties))


def _among_all(ordered: Floats, own: Floats) -> tuple[Ints, Ints]:
    """Of all candidates: those above `own` and those level with it, `[half-lives, 1 + m, n]`."""
    greater, ties = np.empty(own.shape, np.int64), np.empty(own.shape, np.int64)
    for row, values in enumerate(ordered):
        above = np.searchsorted(values, own[row], side="right")
        greater[row] = len(values) - above
        ties[row] = above - np.searchsorted(values, own[row], side="left")
    return greater, ties


def _per_row(hits: NDArray[np.bool_], row: Ints, rows: int) -> Ints:
    """Sums of `hits` `[…, m]` over each row, `[…, rows]`; `row` `[m]` ascends."""
    shape: tuple[int, ...] = (*hits.shape[:-1], len(row) + 1)
    sums: NDArray[np.int32] = np.zeros(shape, np.int32)
    np.cumsum(hits, axis=-1, out=sums[..., 1:])
    ends = np.searchsorted(row, np.arange(rows + 1))
    return np.diff(sums[..., ends], axis=-1).astype(np.int64)


def _arms_last(values: Ints) -> Ints:
    """`[half-lives, 1 + m, n]` → `[n, arms]`, popularity first, then m by m."""
    half_lives, arms, n = values.shape
    return np.ascontiguousarray(values.transpose(2, 1, 0)).reshape(n, half_lives * arms)
