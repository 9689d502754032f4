"""An evaluation as tables for a terminal, made with rich."""

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pipelines.cli.tables import text_of

__all__ = ["evaluation_tables", "show_evaluation"]

_HEAD_FIGURES = {
    "auc": "AUC",
    "accuracy": "accuracy",
    "logloss": "logloss",
    "calibration_error": "calibr.",
    "rmse": "RMSE",
    "mae": "MAE",
    "rank_correlation": "rank corr.",
}
_NOTE = "± is a standard error, [ ] the middle 95 % of a bootstrap over blocks of time. Baselines: "
_REPLAYED = (
    "the best of their grid, in hindsight; in blocks of time, what led in the blocks before."
)
_RECORDED = "what led of their grid until then."


def show_evaluation(told: Mapping[str, Any]) -> str:
    """What `models.evaluation` reports, as text."""
    return text_of(evaluation_tables(told))


def evaluation_tables(told: Mapping[str, Any]) -> RenderableType:
    """All tables that the report has something for; each fits into 80 columns."""
    parts: list[RenderableType] = [Text(_headline(told["what"])), *_rankings(told), _against(told)]
    parts += [_slices(told)] if told.get("slices") else []
    parts += [_blocks(told)] if told["blocks"] else []
    parts += [_lists(told)] if told.get("lists") else []
    parts += [_head(name, told) for name in _heads(told)]
    parts += [_by_slice(told)] if told.get("heads", {}).get("live") else []
    note = _NOTE + (_REPLAYED if "baselines" in told else _RECORDED)
    return Group(*(piece for part in parts for piece in (part, Text(""))), Text(note, style="dim"))


def _headline(what: Mapping[str, Any]) -> str:
    line = (
        f"{what['store']}: micro-batches {what['first_judged']} to {what['last_judged']}, "
        f"{what['questions']} predicted rows, events up to {what['judged_until'][:16]}"
    )
    left = what.get("left_out") or what.get("refused") or 0
    return line + (f"; {left} refused by the gate" if left else "")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    return table


def _models(told: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {**told["ranking"], **told.get("baselines", {})}


def _rankings(told: Mapping[str, Any]) -> list[Table]:
    """A line a model: figures of rows, then those of requests."""
    models, figures = _models(told), list(told["ranking"]["live"])
    tables = []
    for title, part in (("of each row", figures[:3]), ("of a user's rows", figures[3:])):
        if not part:
            continue
        table = _table(title, *part, "arm")
        for name, model in models.items():
            arm = _arm(model.get(part[-1]) or {})
            table.add_row(name, *(_mean(model.get(figure)) for figure in part), arm)
        tables.append(table)
    return tables


def _against(told: Mapping[str, Any]) -> Table:
    others = told["against"]
    figures = list(next(iter(others.values()), {}))[:3]
    table = _table("live over the others", *figures)
    for name, other in others.items():
        ratios = [other.get(figure, {}).get("ratio") for figure in figures]
        table.add_row(name, *(_bounded(ratio, 3) for ratio in ratios))
    return table


def _slices(told: Mapping[str, Any]) -> Table:
    """Recall by slice; the rest is in the JSON."""
    names = list(_models(told))
    figure = next(iter(told["ranking"]["live"]))
    table = _table(f"{figure} by slice", "rows", *names)
    for slice_name, found in told["slices"].items():
        cells = [_number((found[figure].get(name) or {}).get("value")) for name in names]
        table.add_row(slice_name.replace("_", " "), str(found["questions"]), *cells)
    return table


def _blocks(told: Mapping[str, Any]) -> Table:
    blocks = told["blocks"]
    names = list(next((b[f] for b in blocks for f in b if f != "questions"), {}))
    table = _table("by block of time, the whole log", "rows", *names)
    for number, block in enumerate(blocks, 1):
        for figure in (name for name in block if name != "questions"):
            cells = [_mean(block[figure].get(name)) for name in names]
            table.add_row(f"{number}, {figure}", str(block["questions"]), *cells)
    return table


def _lists(told: Mapping[str, Any]) -> Table:
    """A line a model."""
    figures = list(dict.fromkeys(f for found in told["lists"].values() for f in found))
    size = next(iter(figures), "").partition("@")[2]
    table = _table(f"lists of {size}", *(figure.partition("@")[0] for figure in figures))
    for name, found in told["lists"].items():
        table.add_row(name, *(_counted(found.get(figure)) for figure in figures))
    return table


def _counted(found: Any) -> str:
    return str(found) if isinstance(found, int) else _mean(found, digits=3)


def _heads(told: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(h for found in told.get("heads", {}).values() for h in found))


def _head(name: str, told: Mapping[str, Any]) -> Table:
    """A line a model, the first one's interval below it, then the running means."""
    models = {who: found[name] for who, found in told["heads"].items() if name in found}
    first = next(iter(models.values()))
    table = _table(
        f"head {name}, {first['rows']} rows", *(_HEAD_FIGURES[f] for f in first["model"])
    )
    for place, (who, found) in enumerate(models.items()):
        table.add_row(who, *(_number(found["model"][f]["value"]) for f in first["model"]))
        if not place:
            table.add_row("  95 %", *(_bounds(found["model"][f]) for f in first["model"]))
    for who, simple in first["baselines"].items():
        table.add_row(who, *(_number(simple.get(f)) for f in first["model"]))
    return table


def _by_slice(told: Mapping[str, Any]) -> Table:
    """The live model's heads by slice: of each the figure that says most; rest in the JSON."""
    heads = {name: found for name, found in told["heads"]["live"].items() if found.get("slices")}
    main = {name: "auc" if "auc" in found["model"] else "rmse" for name, found in heads.items()}
    table = _table("live's heads by slice", *(f"{n} {_HEAD_FIGURES[main[n]]}" for n in heads))
    for slice_name in dict.fromkeys(s for found in heads.values() for s in found["slices"]):
        cells = [
            _number(found["slices"].get(slice_name, {}).get(main[name], {}).get("value"))
            for name, found in heads.items()
        ]
        table.add_row(slice_name.replace("_", " "), *cells)
    return table


def _bounds(found: Mapping[str, Any]) -> str:
    if _missing(found.get("low")):
        return ""
    # Without the zero before the point: five pairs of them fit into 80 columns.
    return "–".join(f"{found[end]:.3f}".removeprefix("0") for end in ("low", "high"))


def _mean(found: Mapping[str, Any] | None, digits: int = 4) -> str:
    if not found or found.get("value") is None:
        return "–"
    se = found.get("se")
    told = f"{found['value']:.{digits}f}"
    return told + (f" ± {se:.{digits}f}" if se is not None else "")


def _bounded(found: Mapping[str, Any] | None, digits: int) -> str:
    if not found or _missing(found.get("value")):
        return "–"
    text = f"{found['value']:.{digits}f}"
    if _missing(found.get("low")):
        return text
    return f"{text} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def _number(value: float | None) -> str:
    return "–" if _missing(value) else f"{value:.4f}"


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _arm(found: Mapping[str, Any]) -> str:
    if "half_life_h" not in found:
        return ""
    half_life = found["half_life_h"]
    text = "no decay" if half_life is None else f"{half_life:g} h"
    return text + (f", m {found['m']:g}" if "m" in found else "")
