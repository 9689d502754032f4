"""Sessions: what people are shown, take up, and do about it.

Everything is an array over sessions; the only loops are over the steps of a
session. A step is one of the `CAUSES`; what it yields is rows of columns,
time in milliseconds of event time:

    user, item, type, time, dwell (−1: unknown), value (NaN: none), session,
    device, cause, position (−1: none), affinity
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.schema import EVENT_TYPES, MAX_DWELL_MS
from pipelines.simulate.spec import SimulationSpec
from pipelines.simulate.world.available_items import AvailableItems
from pipelines.simulate.world.entities import HOUR_MS, TOPICS, Catalogue, Population
from pipelines.simulate.world.people_state import PeopleMemory
from pipelines.simulate.world.taste import Tastes
from pipelines.simulate.world.words import STYLES

__all__ = ["CAUSES", "Behaviour", "Columns", "Sessions", "concat", "position_weights", "take"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Columns = dict[str, NDArray[Any]]
"""Columns of one length, by name."""

CAUSES = ("sought", "feed", "series", "routine", "accident", "bot")
"""Why an item was taken up; the last two are noise."""

SOUGHT, FEED, SERIES, ROUTINE, ACCIDENT, BOT = range(len(CAUSES))
CODE = {name: code for code, name in enumerate(EVENT_TYPES)}
_STYLES = len(STYLES)
_MAX_STEPS = 25
_BOT_STEPS = 20
_SAME_DEVICE = 0.75


def concat(parts: list[Columns]) -> Columns:
    """Rows of all parts, in their order."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def take(columns: Columns, rows: NDArray[Any]) -> Columns:
    """Rows by index or mask."""
    return {name: values[rows] for name, values in columns.items()}


def position_weights(slate: int, bias: float) -> Floats:
    """`[slate]`, sum 1: how likely each position is the one that is looked at.

    The examination curve of the position-based model.

    >>> position_weights(2, 1.0).round(3).tolist()
    [0.667, 0.333]
    """
    weights = (1.0 + np.arange(slate)) ** -bias
    return weights / weights.sum()


def _sigmoid(x: Floats) -> Floats:
    return 1 / (1 + np.exp(-x))


@dataclass
class Sessions:
    """Sessions that run side by side, `[n]`, of distinct users."""

    number: Ints
    user: Ints
    now: Ints  # each session's clock, ms
    device: Ints
    steps: Ints
    bot: NDArray[np.bool_]
    logits: NDArray[np.float32]  # [n, TOPICS]: taste as of the start, without context
    chances: Floats  # [n, TOPICS]: P(topic), sum 1
    cum: Floats  # [n, TOPICS]: their running sum


class Behaviour:
    """How users behave in this world; remembers what they did."""

    def __init__(
        self,
        spec: SimulationSpec,
        items: Catalogue,
        people: Population,
        tastes: Tastes,
        rule: Ints,
        rng: np.random.Generator,
    ) -> None:
        """Nobody has been here yet; `rule` is `memory.routine_rule`'s."""
        self._spec, self._items, self._people, self._tastes = spec, items, people, tastes
        self._rule, self._rng = rule, rng
        self._memory = PeopleMemory(spec.users, items)
        self._free_at = np.zeros(spec.users, dtype=np.int64)
        self._crowd = np.cumsum(people.activity) / people.activity.sum()
        self._look = np.cumsum(position_weights(spec.slate, spec.position_bias))
        self._sessions = 0

    def open(self, n: int, start: int, end: int, shelf: AvailableItems, fashion: Any) -> Sessions:
        """At most `n` new sessions between two times, of users who are free then."""
        rng, spec = self._rng, self._spec
        drawn = np.searchsorted(self._crowd, rng.random(n), side="right")
        user = np.unique(np.minimum(drawn, spec.users - 1))
        now = rng.integers(start, end, len(user))
        here = (self._people.arrives[user] <= now) & (self._free_at[user] <= now)
        user, now = user[here], now[here]
        bot = self._people.bot[user]
        other = rng.integers(0, 4, len(user))
        device = np.where(rng.random(len(user)) < _SAME_DEVICE, self._people.device[user], other)
        logits = self._tastes.at(user, now)
        moment = self._tastes.context(device, now // (6 * HOUR_MS) % 4)
        odds = np.where(shelf.open, logits + moment + fashion, -np.inf).astype(np.float64)
        odds = np.exp(odds - odds.max(axis=1, keepdims=True))
        chances = odds / odds.sum(axis=1, keepdims=True)
        steps = np.minimum(rng.geometric(1 / spec.steps, len(user)), _MAX_STEPS)
        number = self._sessions + np.arange(len(user))
        self._sessions += len(user)
        return Sessions(
            number=number,
            user=user,
            now=now,
            device=device,
            steps=np.where(bot, _BOT_STEPS, steps),
            bot=bot,
            logits=logits,
            chances=chances,
            cum=np.cumsum(chances, axis=1),
        )

    def run(self, sessions: Sessions, shelf: AvailableItems) -> list[Columns]:
        """Live all sessions to their ends; their events in no particular order."""
        rows: list[Columns] = []
        for step in range(int(sessions.steps.max(initial=0))):
            active = np.flatnonzero(sessions.steps > step)
            rows += self._step(sessions, active, shelf)
        self._free_at[sessions.user] = sessions.now + 60_000
        return rows

    def _step(self, s: Sessions, active: Ints, shelf: AvailableItems) -> list[Columns]:
        """One step of each active session: choose, consume, react."""
        cause, item = self._choose(s, active, shelf)
        rows: list[Columns] = []
        position = np.full(len(active), -1, dtype=np.int64)
        looking = np.isin(cause, (FEED, ACCIDENT))
        if looking.any():
            shown, seen, where = self._feed(s, active[looking], cause[looking], shelf)
            rows.append(shown)
            item[looking], position[looking] = seen, where
        taken = item >= 0
        if taken.any():
            at = active[taken]
            rows += self._consume(s, at, item[taken], cause[taken], position[taken])
        s.now[active[~taken]] += 2_000
        return rows

    def _choose(self, s: Sessions, active: Ints, shelf: AvailableItems) -> tuple[Ints, Ints]:
        """Cause and item (−1: to be seen in a slate) of each active session's step."""
        spec, rng, user = self._spec, self._rng, s.user[active]
        chance = rng.random((4, len(active)))
        waiting = self._memory.waiting(user, shelf.out, rng)
        before, last = self._memory.last_two[user].T
        routine = self._rule[before, last]
        known = (before >= 0) & shelf.open.reshape(-1, _STYLES)[routine].any(axis=1)
        cause = np.where(chance[3] < spec.feed, FEED, SOUGHT)
        cause = np.where(known & (chance[2] < spec.follow_routine), ROUTINE, cause)
        cause = np.where((waiting >= 0) & (chance[1] < spec.follow_series), SERIES, cause)
        cause = np.where(chance[0] < spec.accidents, ACCIDENT, cause)
        cause = np.where(s.bot[active], BOT, cause)
        item = np.full(len(active), -1, dtype=np.int64)
        item[cause == SERIES] = waiting[cause == SERIES]
        item[cause == BOT] = rng.integers(0, shelf.out, int((cause == BOT).sum()))
        free = np.flatnonzero(np.isin(cause, (SOUGHT, ROUTINE)))
        item[free] = self._sought(s, active[free], routine[free], cause[free] == ROUTINE, shelf)
        return cause, item

    def _sought(
        self, s: Sessions, at: Ints, category: Ints, bound: NDArray[np.bool_], shelf: AvailableItems
    ) -> Ints:
        """An item by taste, of the given category where `bound`; not one they just had."""
        chances = s.chances[at]
        inside = np.arange(TOPICS) // _STYLES == category[:, None]
        kept = np.where(bound[:, None], chances * inside, chances)
        # A category that taste all but rules out still has its routine.
        kept = np.where(kept.sum(axis=1, keepdims=True) > 1e-12, kept, inside * shelf.open)
        cum = np.cumsum(kept, axis=1)
        item = self._draw(cum, shelf)
        for _ in range(5):
            again = self._memory.had(s.user[at], item)
            item[again] = self._draw(cum[again], shelf)
        return item

    def _draw(self, cum: Floats, shelf: AvailableItems) -> Ints:
        """One item a row, from running sums of topic chances `[n, TOPICS]`."""
        u = self._rng.random((2, len(cum)))
        topic = (cum <= (u[0] * cum[:, -1])[:, None]).sum(axis=1)
        return shelf.draw(np.minimum(topic, TOPICS - 1), u[1])

    def _feed(
        self, s: Sessions, at: Ints, cause: Ints, shelf: AvailableItems
    ) -> tuple[Columns, Ints, Ints]:
        """Show slates; the item taken from each (−1: none) and its position.

        Half of a slate suits the user, half is what everybody takes; the order
        is random, so only `position_weights` favours a position.
        """
        n, m, rng = len(at), self._spec.slate, self._rng
        suited = np.stack([self._draw(s.cum[at], shelf) for _ in range((m + 1) // 2)], axis=1)
        slate = np.concatenate([suited, shelf.draw_popular(rng.random((n, m // 2)))], axis=1)
        slate = np.take_along_axis(slate, rng.random((n, m)).argsort(axis=1), axis=1)
        first = np.tril(slate[:, :, None] == slate[:, None, :], k=-1).any(axis=2)
        present = ~first & ~self._memory.had(s.user[at], slate)
        where = np.minimum(np.searchsorted(self._look, rng.random(n), side="right"), m - 1)
        item = slate[np.arange(n), where]
        pulls = rng.random(n) < _sigmoid(0.2 + self._affinity(s, at, item))
        taken = present[np.arange(n), where] & (pulls | (cause == ACCIDENT))
        row, place = np.nonzero(present)
        shown = self._rows(
            s,
            at[row],
            slate[row, place],
            "impression",
            s.now[at[row]] + 40 * place,
            cause=cause[row],
            position=place,
        )
        s.now[at] += 1_000 + rng.integers(0, 5_000, n)
        return shown, np.where(taken, item, -1), np.where(taken, where, -1)

    def _affinity(self, s: Sessions, at: Ints, item: Ints) -> Floats:
        """How much more than average the user likes the item: log-odds in [−3, 3]."""
        topic, second, share = (
            self._items.topic[item],
            self._items.second[item],
            self._items.share[item],
        )
        chance = share * s.chances[at, topic] + (1 - share) * s.chances[at, second]
        return np.clip(np.log(np.maximum(TOPICS * chance, 1e-9)), -3.0, 3.0)

    def _consume(
        self, s: Sessions, at: Ints, item: Ints, cause: Ints, position: Ints
    ) -> list[Columns]:
        """Take items up: dwell, reactions, what it leaves in memory."""
        rng, n = self._rng, len(at)
        affinity = self._affinity(s, at, item)
        part = _sigmoid(0.2 + 0.8 * affinity + rng.normal(0, 0.8, n))
        dwell = np.maximum(self._items.duration[item] * part, 500)
        dwell = np.where(cause == ACCIDENT, rng.uniform(200, 1_500, n), dwell)
        dwell = np.where(cause == BOT, rng.uniform(100, 600, n), dwell).astype(np.int64)
        wait = np.where(cause == BOT, 200, rng.integers(500, 6_000, n))
        start = s.now[at] + wait
        known = rng.random(n) < self._spec.dwell_known
        told = np.where(known, np.minimum(dwell, MAX_DWELL_MS), -1)
        picked = position >= 0
        noise = cause >= ACCIDENT
        common = {"cause": cause, "position": position, "affinity": affinity}
        rows = [
            self._rows(
                s,
                at,
                item,
                np.where(picked, CODE["click"], CODE["view"]),
                start,
                dwell=told,
                cause=cause,
                position=position,
                affinity=affinity,
            )
        ]
        willing = ~noise
        rows += self._react(
            s,
            at[willing],
            item[willing],
            start[willing],
            dwell[willing],
            {name: values[willing] for name, values in common.items()},
        )
        liked = willing & (part > 0.25)
        self._memory.take(s.user[at], item, liked=liked)
        s.now[at] = start + dwell + 500 + rng.integers(0, 4_000, n)
        return rows

    def _react(
        self, s: Sessions, at: Ints, item: Ints, start: Ints, dwell: Ints, common: Columns
    ) -> list[Columns]:
        """Likes, dislikes, shares, ratings, and the way from cart to purchase."""
        rng, n, affinity = self._rng, len(at), common["affinity"]
        u = rng.random((6, n))
        # Soon: nearly all of what an item calls forth falls into one window of a minute.
        during = start + np.minimum(dwell * 0.5, rng.uniform(300, 5_000, n)).astype(np.int64)
        stars = np.round(2 * np.clip(3.2 + 0.7 * affinity + rng.normal(0, 0.6, n), 0.5, 5)) / 2
        price = self._items.price[item]
        cart = (price > 0) & (u[4] < 0.3 * _sigmoid(affinity))
        in_cart = during + 300
        paid = in_cart + (6_000 * np.exp(rng.normal(0, 1.0, n))).astype(np.int64)
        happened = [
            ("like", u[0] < 0.2 * _sigmoid(1.5 * affinity - 1), during, None),
            ("dislike", u[1] < 0.15 * _sigmoid(-1.5 * affinity - 1), during + 1, None),
            ("share", u[2] < 0.05 * _sigmoid(affinity - 1), during + 2, None),
            ("rating", u[3] < 0.06, during + 100, stars),
            ("cart", cart, in_cart, None),
            ("purchase", cart & (u[5] < 0.5), paid, price),
        ]
        return [
            self._rows(
                s,
                at[did],
                item[did],
                name,
                time[did],
                value=None if value is None else value[did],
                cause=common["cause"][did],
                position=common["position"][did],
                affinity=affinity[did],
            )
            for name, did, time, value in happened
            if did.any()
        ]

    def _rows(
        self,
        s: Sessions,
        at: Ints,
        item: Ints,
        kind: "str | Ints",
        time: Ints,
        *,
        cause: Ints,
        position: Ints,
        dwell: Ints | None = None,
        value: Floats | None = None,
        affinity: Floats | None = None,
    ) -> Columns:
        n = len(at)
        types = np.full(n, CODE[kind]) if isinstance(kind, str) else kind
        return {
            "user": s.user[at],
            "item": item,
            "type": types.astype(np.int8),
            "time": time,
            "dwell": np.full(n, -1, dtype=np.int64) if dwell is None else dwell,
            "value": np.full(n, np.nan) if value is None else value,
            "session": s.number[at],
            "device": s.device[at].astype(np.int8),
            "cause": cause.astype(np.int8),
            "position": position.astype(np.int8),
            "affinity": (self._affinity(s, at, item) if affinity is None else affinity).astype(
                np.float32
            ),
        }
