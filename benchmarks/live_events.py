"""Made-up events for the benchmarks of the live path."""

import random
import time
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

KINDS = ("impression", "view", "click", "like", "purchase")
Event = dict[str, Any]


def settled(rate: float, dice: random.Random) -> Iterator[tuple[int, Event]]:
    """(Offset in ms, event without its time), for ever: 20,000 users and 2,000 items."""

    def often(n: int) -> int:
        return min(dice.randrange(n), dice.randrange(n))

    return _events(rate, dice, lambda _: (often(20_000), often(2_000)))


def passing(rate: float, dice: random.Random) -> Iterator[tuple[int, Event]]:
    """The same, but nobody stays: a user has some 20 events, an item some 100, then never again."""

    def near(n: int, events: int) -> int:
        return (n + dice.randrange(200 * events)) // events

    return _events(rate, dice, lambda n: (near(n, 20), near(n, 100)))


def _events(
    rate: float, dice: random.Random, pair: Callable[[int], tuple[int, int]]
) -> Iterator[tuple[int, Event]]:
    """`pair`: number of an event → numbers of its user and its item."""
    for number in count():
        user, item = pair(number)
        yield (
            int(number * 1_000 / rate),
            {
                "event_id": f"e{number}",
                "user_id": f"u{user}",
                "item_id": f"i{item}",
                "event_type": dice.choice(KINDS),
            },
        )


def timed(made: Iterator[tuple[int, Event]], count: int, span_s: float) -> list[Event]:
    """So many events that end a minute ago, out of order by at most 4 s of event time."""
    begin = int((time.time() - span_s - 60) * 1_000)
    dice = random.Random(7)
    return [
        {**event, "event_time": begin + offset - dice.randrange(4_000)}
        for offset, event in islice(made, count)
    ]
