"""A small runner for stateful DoFns: does exactly what Beam promises.

Timers fire in order once the watermark is there, and hold what follows until they have.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Cell:
    """State of one key: a bag of bytes, a note, and timers by tag."""

    values: list[bytes] = field(default_factory=list)
    note: bytes | None = None
    timers: dict[str, int] = field(default_factory=dict)

    def read(self) -> list[bytes]:
        return list(reversed(self.values))  # a bag has no order

    def add(self, value: bytes) -> None:
        self.values.append(value)

    def clear(self) -> None:
        self.values.clear()

    def set(self, timestamp: Any, dynamic_timer_tag: str) -> None:
        self.timers[dynamic_timer_tag] = timestamp.micros // 1_000


class Note:
    def __init__(self, cell: Cell) -> None:
        self.cell = cell

    def read(self) -> bytes | None:
        return self.cell.note

    def write(self, value: bytes) -> None:
        self.cell.note = value


class Stage:
    """Runs a stateful DoFn: elements, then the timers that a watermark makes due."""

    def __init__(self, do_fn: Any) -> None:
        self.do_fn = do_fn
        self.cells: dict[int, Cell] = defaultdict(Cell)

    def take(self, element: tuple[int, Any]) -> None:
        cell = self.cells[element[0]]
        list(self.do_fn.process(element, cell, Note(cell), cell) or ())

    def advance(self, watermark_ms: int) -> list[Any]:
        out = []
        while True:
            due = [
                (when, tag, key)
                for key, cell in self.cells.items()
                for tag, when in cell.timers.items()
                if when <= watermark_ms
            ]
            if not due:
                return out
            _, tag, key = min(due)
            cell = self.cells[key]
            del cell.timers[tag]
            out += list(self.do_fn.fire(key, tag, cell, Note(cell)))


def advance(stages: list[Stage], watermark_ms: int) -> None:
    """Fire what is due in a chain of stages, each feeding the next, tick by tick.

    A timer that waits in an earlier stage holds the watermark of the later ones.
    """
    while True:
        ticks = [
            when
            for stage in stages
            for cell in stage.cells.values()
            for when in cell.timers.values()
        ]
        due = [when for when in ticks if when <= watermark_ms]
        if not due:
            return
        upto = min(due)
        for stage, following in zip(stages, [*stages[1:], None], strict=True):
            for element in stage.advance(upto):
                if following is not None:
                    following.take(element)
