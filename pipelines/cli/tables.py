"""Answers as tables for a terminal, made with rich.

Each `*_table` gives something that rich prints; each `show_*` gives its text,
as wide as the terminal is.
"""

import io
import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.serve.recommend import Answer, Recommendation

__all__ = [
    "answer_table",
    "history_table",
    "show_answer",
    "show_versions",
    "text_of",
    "versions_table",
]

_ARMS = {"model": "model", "popularity": "popul.", "transitions": "trans."}
_MEASURES = {"recall@20": "recall\n@20", "ndcg@20": "NDCG\n@20"}
_HEADS = {"click": "click", "like": "like", "purchase": "buy", "dwell": "dwell s"}
_LEGEND = (
    "* is served. Predicted before training on the rows, by the model, by decayed popularity "
    "(popul.) and by last-item transitions (trans.); both baselines tuned as they go."
)


def text_of(content: RenderableType, width: int | None = None) -> str:
    """What rich would print, without colours; `width` in columns, None: the terminal's."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(content)
    return console.file.getvalue()  # type: ignore[attr-defined]


def answer_table(answer: Answer, *, explain: bool = False) -> RenderableType:
    """Recommendations, the source below; with `explain` a line of reasons under each.

    `worth`: the share of the user's attention that an item is expected to get, times
    what feedback on it is expected to be worth (`models.serve.recommend`).
    """
    table = Table(title=f"for {answer.user_id}", title_justify="left", box=None, pad_edge=False)
    table.add_column("#", justify="right")
    table.add_column("item", no_wrap=True)
    table.add_column("title" if any(item.title for item in answer.items) else "", ratio=3)
    table.add_column("worth" if answer.source == "model" else "share", justify="right")
    modelled = answer.source == "model" and not explain
    if modelled:
        table.add_column("near your", ratio=2, no_wrap=True)
    for item in answer.items:
        title = Text(item.title or "")
        if explain:
            title.append(("\n" if item.title else "") + _reasons(item), style="dim")
        worth = item.score if item.value is None else math.exp(item.value)
        near = [Text(item.because_title or item.because or "")] if modelled else []
        table.add_row(Text(str(item.rank)), Text(item.item_id), title, Text(f"{worth:.3f}"), *near)
    return Group(table, Text(answer.why, style="dim"))


def _reasons(item: Recommendation) -> str:
    """What the heads expect of an item and what it is near to, in a line."""
    found = [
        f"{label} {item.heads[name]:.2f}" if name != "dwell" else f"{item.heads[name]:.0f} s dwell"
        for name, label in _HEADS.items()
        if item.heads and name in item.heads
    ]
    near = item.because_title or item.because
    return " · ".join(found + ([f"near your {near}"] if near else [])) or "recently popular"


def history_table(user: str, rows: Sequence[dict[str, Any]]) -> RenderableType:
    """What a user did lately (`models.serve.recommend.history`)."""
    table = Table(title=f"{user} lately", title_justify="left", box=None, pad_edge=False)
    for name in ("when (UTC)", "what", "item"):
        table.add_column(name, no_wrap=True)
    table.add_column("title", ratio=1)
    for row in rows:
        when = f"{row['time']:%m-%d %H:%M}"
        table.add_row(*map(Text, (when, row["type"], row["item_id"], row["title"] or "")))
    return table


def versions_table(rows: Sequence[dict[str, Any]]) -> RenderableType:
    """One line a version (`models.serve.versions`); * marks the served one."""
    if not rows:
        return Text("no versions yet")
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in ("version", "rows"):
        table.add_column(name, justify="right")
    table.add_column("newest event (UTC)", no_wrap=True)
    live = any((row["fresh_s"] or _DAY_S) < _DAY_S for row in rows)
    if live:  # of a log from last year it says nothing
        table.add_column("visible\nafter", justify="right", no_wrap=True)
    for measure in _MEASURES.values():
        for arm in _ARMS.values():
            table.add_column(f"{measure}\n{arm}", justify="right")
    for row in rows:
        mark = "*" if row["current"] else " " if row["served"] else "!"
        newest = row["newest_event_time"][:16].replace("T", " ")
        figures = [_figure(row[measure].get(arm)) for measure in _MEASURES for arm in _ARMS]
        fresh = [_span(row["fresh_s"])] if live else []
        cells = (f"{row['version']}{mark}", str(row["rows"]), newest, *fresh, *figures)
        table.add_row(*map(Text, cells))
    retrained = [
        Text(
            f"version {row['version']} was trained anew from the whole log and replaced "
            f"version {row['retrain_of']}"
        )
        for row in rows
        if row.get("retrain_of") is not None
    ]
    refused = [
        Text(f"! version {row['version']} is not served: {'; '.join(row['reasons'])}")
        for row in rows
        if not row["served"]
    ]
    return Group(table, *retrained, *refused, Text(_LEGEND, style="dim"))


_DAY_S = 86_400.0
_SPANS = ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h"), (math.inf, 86_400, "d"))


def _span(seconds: float | None) -> str:
    """How long, in the unit that suits it.

    >>> _span(1.96), _span(600), _span(8 * 86_400), _span(None)
    ('2.0 s', '10 min', '8 d', '–')
    """
    if seconds is None:
        return "–"
    size, unit = next((size, unit) for end, size, unit in _SPANS if seconds < end)
    return f"{seconds / size:.{1 if unit == 's' else 0}f} {unit}"


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def show_answer(answer: Answer, *, explain: bool = False) -> str:
    """`answer_table` as text."""
    return text_of(answer_table(answer, explain=explain))


def show_versions(rows: Sequence[dict[str, Any]]) -> str:
    """`versions_table` as text."""
    return text_of(versions_table(rows))
